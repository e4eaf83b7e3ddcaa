"""The pipeline, declared once: tables, registers, priorities, kinds of flows. Flows are checked against it.

    classify ─► guard ─┬─ ARP, ND ─► neighbour ─► advertise (ND)
                       └─ IP ──► service ─► (conntrack) balance ─► route ─► reply ─► (conntrack) restore ─► deliver
                                     └──────────── not for a service ─┘        └──── not a reply ────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from ryu_apps.pipeline.family import FAMILIES
from ryu_apps.pipeline.values import Action, Flow, Learn, LearnLoad, LearnMatch, Meter, SetField
from topology import reach, validate


class Table(IntEnum):
    """Table numbers."""

    CLASSIFY = 0
    GUARD = 1
    NEIGHBOUR = 2
    ADVERTISE = 3
    ARRIVE = 4
    SERVICE = 5
    HAIRPIN = 6
    BALANCE = 7
    STICKY = 8
    PICK = 9
    KEEP = 10
    ROUTE = 11
    REPLY = 12
    MEND = 13
    RESTORE = 14
    LEAVE = 15
    DEPART = 16
    DELIVER = 17
    FORGOTTEN = 18
    UNFIT = 19
    TELL = 20


def table_name(number: int) -> str:
    """As users write it."""
    return Table(number).name.lower()


# Registers, 32 bits each; they live as long as the packet, also through conntrack.
TENANT = "reg0"  # number of the tenant = its conntrack zone (16 bits)
NETWORK = "reg1"  # number of the network that the packet came from (24 bits), or one of those of the host
PORT = "reg2"  # OpenFlow port that it leaves by
VIP = "reg3"  # address of the VIP, while something else stands in its place
PROVIDER = "reg4"  # number of the provider that was chosen, where its address is still to be found
CLIENT_PORT = "reg5"  # the client's port, while it is hidden from a group
TOLD = "reg6"  # 1: the controller has been told of the packet, or conntrack of what a provider begins
ZERO = "reg7"  # never set
REASON = "reg8"  # why the controller is told of the packet: a `FlowKind`


class Priority(IntEnum):
    """Priorities within a table; higher wins. To those of a service `scopes` adds the rank of a flow among its like."""

    MISS = 0  # exactly one flow a table
    LAST = 9  # what has no better explanation
    FALLBACK = 10  # what is unknown, where the unknown is asked about
    NOWHERE = 49  # counted drops of what goes nowhere, from whichever network
    REFUSE = 50  # counted drops of what a more exact flow did not admit
    TELL = 51  # the same, but the sender is told
    FRAGMENT = 98  # to a provider in fragments: below what is to a VIP
    OWN_FRAGMENT = 99  # from a provider, or the host
    NORMAL = 100
    SPECIFIC = 101  # of what NORMAL means, a part that is known by more
    MORE_SPECIFIC = 102
    REFUSE_FIRST = 150  # counted drops of what NORMAL would admit
    LESS_EXACT = 199
    EXACT = 200  # exceptions to NORMAL
    MORE_EXACT = 201  # exceptions to EXACT
    MOST_EXACT = 202
    UNFIT = 300  # before all that says who may send


class FlowKind(IntEnum):
    """What a flow is for: bits 48..55 of a cookie."""

    MISSES = 0
    ACCESS = 1
    NEIGHBOUR = 2
    ECHO = 3
    BALANCE = 4
    TRANSLATE = 5
    ROUTE = 6
    FLOOD = 7
    LEARN = 8
    REFUSE = 9
    EXPIRE = 10
    AFFINITY = 11
    HAIRPIN = 12
    OUTSIDE = 13
    TRANSIT = 14
    LINKS = 15
    INGRESS = 16
    SEEK = 17
    FORGOTTEN = 18
    LIMIT = 19
    UNREACHABLE = 20
    CLOSED = 21
    DISCOVERY = 22
    ERRORS = 23
    FRAGMENTS = 24
    UNFIT = 25


ROUTER_MAC = int(validate.ROUTER_MAC.replace(":", ""), 16)  # every gateway and VIP answers ARP with it
HOST_MAC = int(reach.HOST_MAC.replace(":", ""), 16)  # the host's, at the bridge's own port
HOST_NETWORK = 1 << 24  # in `NETWORK`: it came from the host; above every network's number
OUTSIDE_NETWORK = HOST_NETWORK | 1  # it came from outside, to a published port of the host
INGRESS_BIT = 0x8000  # in the low 16 bits of an ingress MAC, and in ct_mark; below it a host's number
NOTED = 1 << 16  # in ct_mark: a connection that is noted as it is. The packet of one that is refused has no mark
INGRESS_MAC = int(reach.INGRESS_MAC.replace(":", ""), 16)
INGRESS_MACS = (INGRESS_MAC, 0xFFFFFFFF0000 | INGRESS_BIT)  # of all hosts
HAIRPIN_ZONES = reach.SECOND_ZONES
MULTICAST = (0x010000000000, 0x010000000000)  # the group bit: broadcast and multicast
PACKET_IN_METER = 1
PACKET_IN_RATE = 200  # packets a second that a switch may send to the controller to be learned from
EXPIRE_METER = 2  # of its own: a flood of packets at their last hop must not keep hosts from being learned
ANSWER_RATE = 100  # packets a second that a switch may send to the controller to be answered
LINK_METER = 3  # of what comes in by links that are known: one frame a second for each
LINK_RATE = 1000  # frames a second that a switch may hear from its neighbours
SEEK_METER = 4  # of its own: who sends to nobody must not keep hosts from being learned, or VIPs from refusing
SEEK_RATE = 200  # packets a second of all tenants that a switch may send to the controller for want of their receiver
UNKNOWN_METER, UNKNOWN_RATE = 7, 100  # packets a second whose sender is unknown, and so their tenant
FORGOTTEN_RATE = 100  # packets a second of a tenant's forgotten connections
REFUSALS_METER, RESETS_METER = 5, 6  # of all tenants together: the first for VIPs and addresses that nobody has
REFUSALS_RATE, RESETS_RATE = 300, 200  # packets a second: one tenant can't use up either
# With a tenant's number: meters of its own, as its flood must not keep other tenants from being answered; two, as after
# a restart of the switch many providers may speak at once
REFUSE_METERS, FORGOTTEN_METERS = 1 << 15, 1 << 16
TENANT_NUMBER = REFUSE_METERS - 1  # in the id of such a meter
METERS = (
    Meter(PACKET_IN_METER, PACKET_IN_RATE, PACKET_IN_RATE),
    Meter(EXPIRE_METER, ANSWER_RATE, ANSWER_RATE),
    Meter(LINK_METER, LINK_RATE, LINK_RATE),
    Meter(SEEK_METER, SEEK_RATE, SEEK_RATE),
    Meter(REFUSALS_METER, REFUSALS_RATE, REFUSALS_RATE),
    Meter(RESETS_METER, RESETS_RATE, RESETS_RATE),
    Meter(UNKNOWN_METER, UNKNOWN_RATE, UNKNOWN_RATE),
)


def tenant_meters(number: int) -> tuple[Meter, ...]:
    """The meters of a tenant."""
    return (
        Meter(REFUSE_METERS | number, ANSWER_RATE, ANSWER_RATE),
        Meter(FORGOTTEN_METERS | number, FORGOTTEN_RATE, FORGOTTEN_RATE),
    )


GROUP_CHUNK_BITS = 8  # group id = stored number << 8 | part
GROUP_V6 = 1 << 31  # in the ids of IPv6's groups
GROUP_WAY = 1 << 30  # in the ids of the groups that lead to another switch; no service port has a number that high
GROUP_INSIDE = 1 << 29  # in the ids of the groups for clients in the VIP's own network, where they have others
WAY_BITS = 30  # of that switch's datapath id
GROUP_FLOOD = GROUP_V6 | GROUP_WAY  # in the ids of the groups that broadcast: both, then a network's number and a part
FLOOD_BITS = 6  # of the part


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a table is for, what its flows may match and set, and where a miss goes (None: dropped, counted)."""

    job: str
    matches: frozenset[str]
    sets: frozenset[str] = frozenset()
    miss: Table | None = None


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


_ADDRESSES = _of(*(name for family in FAMILIES for name in (family.src, family.dst)))
_SOURCES = _of(*(family.src for family in FAMILIES))
_IP_HEADER = _of("eth_type", "ip_proto", "ip_frag") | _ADDRESSES
_ICMP_TYPES = _of(*(family.icmp_type for family in FAMILIES))
_L4 = _of("tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst") | _ICMP_TYPES
_FIRST_TO = _of(*(family.ct_dst for family in FAMILIES))  # where a connection's first packet was sent to
_ND = _of("eth_type", "ip_proto", "icmpv6_type", "nd_target")
_ANSWER = _of("eth_dst", "eth_src")  # an answer made in the switch goes back where it came from

TABLES: dict[Table, Declaration] = {
    Table.CLASSIFY: Declaration(
        "port and MAC, or what a tunnel says → tenant and network; ARP of an unknown host → learning; links by LLDP",
        _of("in_port", "eth_src", "eth_type", "tunnel_id", "vlan_vid"),
        _of(TENANT, NETWORK),
    ),
    Table.GUARD: Declaration(
        "source address, ARP sender, what neighbour discovery says are the port's own; else dropped and counted",
        _of("in_port", "eth_src", "eth_dst", "vlan_vid", "arp_sha", "arp_spa", "nd_tll")
        | _of("ip_frag", "ip_ttl")
        | _ADDRESSES
        | _ND,
    ),
    Table.NEIGHBOUR: Declaration(
        "ARP and neighbour solicitations for gateways, VIPs and endpoints answered here",
        _of(NETWORK, "arp_op", "arp_spa", "arp_tpa") | _ND,
        _ANSWER
        | _of("arp_op", "arp_sha", "arp_tha", "arp_spa", "arp_tpa")
        | _of("icmpv6_type", "nd_reserved", "nd_options_type"),
    ),
    Table.ADVERTISE: Declaration("what was a solicitation says whose MAC it is, and goes back", _ND),
    Table.ARRIVE: Declaration(
        "from the host: where it is for → the tenant that it is for; over a link: its tag → tenant and network; from "
        "outside by another host: through conntrack, which notes by which",
        _of(TENANT, "eth_src", "vlan_vid") | _IP_HEADER | _L4,
        _of(TENANT, NETWORK) | _ADDRESSES,
    ),
    Table.SERVICE: Declaration(
        "to a VIP, or straight to a provider's service port: through conntrack; echo answered",
        _of(TENANT, NETWORK, "eth_dst", "ip_ttl") | _IP_HEADER | _L4,
        _ANSWER | _ADDRESSES | _ICMP_TYPES | _of("ip_ttl"),
        miss=Table.ROUTE,
    ),
    Table.HAIRPIN: Declaration(
        "an answer of a provider to itself, or not; a fragment for a hidden address: out of the tenant's second zone",
        _of(TENANT, "ct_state") | _IP_HEADER,
    ),
    Table.BALANCE: Declaration(
        "new connection → select group; known connection → already translated",
        _of(TENANT, NETWORK, TOLD, "ct_state", "ct_nw_proto", "ct_tp_dst", "tcp_flags") | _IP_HEADER | _L4,
        _ANSWER | _ADDRESSES | _ICMP_TYPES | _of("ip_ttl", TOLD, REASON),
        # new to conntrack, but not to a VIP: a connection without an answer yet, translated already
        miss=Table.ROUTE,
    ),
    Table.STICKY: Declaration(
        "learned: a client → the provider that it had last",
        _of(TENANT, "eth_type") | _ADDRESSES,
        _of(PROVIDER),
    ),
    Table.PICK: Declaration(
        "a client's last provider, while it serves; else → select group",
        _of(TENANT, NETWORK, PROVIDER, "ct_state") | _IP_HEADER | _L4,
        _of("tcp_src", "tcp_dst", "sctp_src", "sctp_dst"),
    ),
    Table.KEEP: Declaration(
        "the provider chosen is learned, and the connection translated to it, at its address for this client",
        _of(TENANT, NETWORK, PROVIDER, "ct_state") | _IP_HEADER | _L4,
    ),
    Table.ROUTE: Declaration(
        "destination → next MAC, TTL, port or way to another switch; broadcast and multicast → the network's",
        _of(TENANT, NETWORK, "eth_dst", "eth_type", "ct_state", "ct_mark", "ip_frag") | _ADDRESSES | _FIRST_TO,
        _ANSWER | _of(PORT, REASON, "tun_ipv4_dst", "tunnel_id", "vlan_vid"),
    ),
    Table.REPLY: Declaration(
        "from a provider's service port: through conntrack, to be translated back",
        _of(TENANT, PORT, "ct_state") | _IP_HEADER | _L4,
        miss=Table.DELIVER,
    ),
    Table.MEND: Declaration(
        "an error of a provider → from the VIP that it is about, then translated; as it is where it is about what went "
        "straight to the provider, and to the outside where another host translates",
        _of(TENANT, "ct_state", "ct_mark") | _IP_HEADER | _FIRST_TO,
        _SOURCES,
        miss=Table.RESTORE,
    ),
    Table.RESTORE: Declaration(
        "hidden source address → the provider's own; in fragments by conntrack, in the second zone; what a provider "
        "begins is noted, and what belongs to no connection goes to forgotten as well",
        _of(TENANT, PORT, TOLD, "ct_state", "tcp_flags") | _IP_HEADER,
        _SOURCES | _of(TOLD),
        miss=Table.DELIVER,
    ),
    Table.LEAVE: Declaration(
        "to the host, and no answer of a service: through conntrack where the network may, else refused",
        _of(TENANT, NETWORK, "tcp_flags") | _IP_HEADER | _L4,
        _of(REASON),
    ),
    Table.DEPART: Declaration(
        "answers to the host go on; a new connection of a network with nat gets the sender's hidden address; another's "
        "is refused",
        _of(TENANT, NETWORK, "ct_state", "tcp_flags") | _IP_HEADER | _L4,
        _of(REASON),
    ),
    Table.DELIVER: Declaration(
        "out of the port that route chose; into a network that does not route, only what is from there, the rest is "
        "refused; to the host, "
        "and came in by another one: by the way to that; nothing that the limit of connections has left untranslated",
        _of(TENANT, NETWORK, PORT, "ct_mark", "ct_state", "eth_dst", "eth_type", "ip_frag") | _SOURCES,
        _of("eth_dst", "tun_ipv4_dst", "tunnel_id", REASON),
    ),
    Table.FORGOTTEN: Declaration(
        "of a connection that conntrack does not know: to the controller, which resets whoever waits in vain",
        _of(TENANT, "eth_type", "ip_proto"),
        _of(REASON),
    ),
    Table.UNFIT: Declaration(
        "what nobody may send, whoever it is: dropped, and counted by port",
        _of("in_port", "eth_src"),
    ),
    Table.TELL: Declaration(
        "what a tenant's meter has let pass, to the controller: by a meter of all tenants together",
        _of(REASON),
    ),
}


class UndeclaredError(Exception):
    """A flow that its table's declaration does not allow: a mistake in a feature."""


def check(flow: Flow) -> None:
    """Raise UndeclaredError where ``flow`` matches or sets what its table does not declare."""
    _check(flow, Table(flow.table), (name for name, _, _ in flow.match), flow.actions)
    for action in flow.actions:
        if isinstance(action, Learn):
            matches = (s.field for s in action.specs if isinstance(s, LearnMatch))
            loads = [SetField(s.field, 0) for s in action.specs if isinstance(s, LearnLoad)]
            _check(flow, Table(action.table), matches, loads)


def _check(flow: Flow, table: Table, matches: Iterable[str], actions: Iterable[Action]) -> None:
    declared = TABLES[table]
    for name in matches:
        if name not in declared.matches:
            raise UndeclaredError(f"table {table.name} does not match {name}: {flow}")
    for action in actions:
        if isinstance(action, SetField) and action.field not in declared.sets:
            raise UndeclaredError(f"table {table.name} does not set {action.field}: {flow}")
