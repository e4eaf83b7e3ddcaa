"""Flows as people read them: registers, zones, ports and meters by their names. Pure.

The forms are those of ovs-ofctl(8), but `src` and `dst` are addresses of either family, registers have the names of
`tables`, and a port has that of the container that is plugged into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from ryu_apps.pipeline import tables
from ryu_apps.pipeline.context import Context, Owner
from ryu_apps.pipeline.explain import name, port_names
from ryu_apps.pipeline.family import FAMILIES, V4, V6
from ryu_apps.pipeline.fields import ETH_ARP, ETH_LLDP, ICMP, ICMPV6, SCTP, TCP, UDP
from ryu_apps.pipeline.tables import FlowKind, Table, table_name
from ryu_apps.pipeline.values import (
    CONTROLLER,
    IN_PORT,
    LOCAL,
    LOCAL_IN_REGISTER,
    Action,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    GroupAction,
    Learn,
    Move,
    Nat,
    Output,
    OutputReg,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    field_bits,
)
from topology.model import Endpoint

REGISTERS = {
    tables.TENANT: "tenant",
    tables.NETWORK: "network",
    tables.PORT: "port",
    tables.VIP: "vip",
    tables.PROVIDER: "provider",
    tables.CLIENT_PORT: "client_port",
    tables.TOLD: "told",
    tables.ZERO: "zero",
    tables.REASON: "reason",
}
SHORT = REGISTERS | {
    field: short
    for family in FAMILIES
    for field, short in ((family.src, "src"), (family.dst, "dst"), (family.ct_dst, "ct_dst"))
}
TYPES = {ETH_ARP: "arp", ETH_LLDP: "lldp", V4.eth_type: "ip", V6.eth_type: "ipv6"}
PROTOCOLS = {"ip": {ICMP: "icmp", TCP: "tcp", UDP: "udp", SCTP: "sctp"}}
PROTOCOLS["ipv6"] = {ICMPV6: "icmp6", TCP: "tcp6", UDP: "udp6", SCTP: "sctp6"}
METERS = {
    tables.PACKET_IN_METER: "learning",
    tables.EXPIRE_METER: "time exceeded",
    tables.LINK_METER: "links",
    tables.SEEK_METER: "seeking, all tenants",
    tables.REFUSALS_METER: "refusals, all tenants",
    tables.RESETS_METER: "resets, all tenants",
    tables.UNKNOWN_METER: "unknown senders",
}
CT_STATE = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")
TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
FRAGMENTS = {(0, 1): "no", (1, 3): "first", (0, 2): "not_later", (1, 1): "yes", (3, 3): "later", (2, 2): "later"}
ADDRESSES = {field: family.version for family in FAMILIES for field in (family.src, family.dst, family.ct_dst)}
ADDRESSES |= {"arp_spa": 4, "arp_tpa": 4, "nd_target": 6, "tun_ipv4_dst": 4}
MACS = ("eth_src", "eth_dst", "arp_sha", "arp_tha", "nd_sll", "nd_tll")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which flows are to be shown. None: those of all tables, of all owners."""

    table: Table | None = None
    owner: Owner | None = None


class Shown:
    """Writes the flows of one switch, with the names that ``ctx`` knows."""

    def __init__(self, ctx: Context) -> None:
        self._model = ctx.model
        self._ports = port_names(ctx)
        for number, port in self._ports.items():
            for endpoint in ctx.model.endpoints_plugged(ctx.dpid, port)[:1]:
                self._ports[number] = name(endpoint)
        self._values: dict[str, Callable[[int], str]] = {
            tables.TENANT: self._tenant,
            tables.NETWORK: self._network,
            tables.PORT: self._port,
            tables.PROVIDER: self._provider,
            tables.REASON: lambda number: FlowKind(number).name.lower(),
            "in_port": self._port,
        }

    def match(self, flow: Flow) -> str:
        """What its packets have in common, a term a word; ``any``: nothing."""
        types = ""
        registers: list[str] = []
        words: list[str] = []
        for field, value, mask in flow.match:
            if field == "eth_type":
                types = TYPES.get(value, f"eth_type={value:#06x}")
            elif field == "ip_proto":
                types = PROTOCOLS.get(types, {}).get(value, f"{types} ip_proto={value}")
            else:
                into = registers if field in REGISTERS else words
                into.append(f"{SHORT.get(field, field)}={self._value(field, value, mask)}")
        return " ".join([*([types] if types else []), *registers, *words]) or "any"

    def actions(self, flow: Flow) -> str:
        """What becomes of them, in order; ``drop``: nothing."""
        words = [self._action(action) for action in flow.actions]
        if flow.meter:
            words.insert(0, f"meter ({self._meter(flow.meter)})")
        if flow.goto is not None:
            words.append(f"goto {table_name(flow.goto)}")
        return ", ".join(words) or "drop"

    def _action(self, action: Action) -> str:
        match action:
            case Output():
                return f"output {self._port(action.port)}"
            case OutputReg():
                return f"output the port in {REGISTERS.get(action.reg, action.reg)}"
            case GroupAction():
                return f"group {action.group_id}"
            case SetField():
                return f"set {SHORT.get(action.field, action.field)}={self._value(action.field, action.value, None)}"
            case Move():
                low = "" if action.bits is None else f" ({action.bits} bits)"
                return f"copy {SHORT.get(action.src, action.src)} to {SHORT.get(action.dst, action.dst)}{low}"
            case DecTtl():
                return "decrement TTL"
            case PushVlan():
                return "push VLAN tag"
            case PopVlan():
                return "pop VLAN tag"
            case Resubmit():
                return f"resubmit to {table_name(action.table)}"
            case Ct():
                return self._ct(action)
            case CtClear():
                return "ct_clear"
            case Learn():
                return f"learn in {table_name(action.table)}"

    def _ct(self, action: Ct) -> str:
        words = [f"zone={self._zone(action.zone)}"]
        words += ["commit"] if action.commit else []
        words += [_nat(action.nat)] if action.nat is not None else []
        words += [self._action(inner) for inner in action.exec]
        onward = "" if action.table is None else f" to {table_name(action.table)}"
        return f"ct({', '.join(words)}){onward}"

    def _value(self, field: str, value: int, mask: int | None) -> str:
        if field == "ct_state":
            return _bits(CT_STATE, value, mask)
        if field == "tcp_flags":
            return _bits(TCP_FLAGS, value, mask)
        if field == "ip_frag" and mask is not None:
            return FRAGMENTS.get((value, mask), f"{value:#x}/{mask:#x}")
        if field in MACS:
            return _mac(value, mask)
        if field in ADDRESSES:
            return _address(ADDRESSES[field], value, mask)
        if mask is not None:
            return f"{value:#x}/{mask:#x}"
        return self._values.get(field, str)(value)

    def _port(self, number: int) -> str:
        if number == CONTROLLER:
            return "controller"
        if number == IN_PORT:
            return "in_port"
        return "host" if number in (LOCAL, LOCAL_IN_REGISTER) else self._ports.get(number, str(number))

    def _meter(self, number: int) -> str:
        kinds = {tables.REFUSE_METERS: "refusals", tables.FORGOTTEN_METERS: "resets"}
        tenant, kind = number & tables.TENANT_NUMBER, number & ~tables.TENANT_NUMBER
        return METERS.get(number) or f"{kinds.get(kind, kind)} of {self._tenant(tenant)}"

    def _tenant(self, number: int) -> str:
        found = self._model.by_number("tenant", number)
        return str(number) if found is None else found.key

    def _zone(self, zone: int) -> str:
        second = "/second" if zone & tables.HAIRPIN_ZONES else ""
        return self._tenant(zone & ~tables.HAIRPIN_ZONES) + second

    def _network(self, number: int) -> str:
        if number in (tables.HOST_NETWORK, tables.OUTSIDE_NETWORK):
            return "host" if number == tables.HOST_NETWORK else "outside"
        found = self._model.by_number("network", number)
        return str(number) if found is None else found.key.partition(":")[2]

    def _provider(self, number: int) -> str:
        found = self._model.by_number("endpoint", number)
        return name(found) if isinstance(found, Endpoint) else str(number)


def _nat(nat: Nat) -> str:
    if nat.src is None and nat.dst is None:
        return "nat"
    side, address = ("src", nat.src) if nat.src is not None else ("dst", nat.dst)
    shown = _address(nat.version, address or 0, None)
    if nat.port is not None:
        shown = f"{shown}:{nat.port}" if nat.version == 4 else f"[{shown}]:{nat.port}"
    return f"nat {side}={shown}"


def _bits(names: tuple[str, ...], value: int, mask: int | None) -> str:
    """As ovs-ofctl writes flags: +set-clear."""
    known = mask if mask is not None else (1 << len(names)) - 1
    words = [("+" if value >> bit & 1 else "-") + word for bit, word in enumerate(names) if known >> bit & 1]
    return "".join(sorted(words, key=lambda word: word[0] == "-"))


def _mac(value: int, mask: int | None) -> str:
    if mask is None and value == tables.ROUTER_MAC:
        return "router"
    if (value, mask) == tables.MULTICAST:
        return "multicast"
    shown = value.to_bytes(6, "big").hex(":")
    return shown if mask is None else f"{shown}/{mask.to_bytes(6, 'big').hex(':')}"


def _address(version: int, value: int, mask: int | None) -> str:
    size = field_bits("ipv4_src" if version == 4 else "ipv6_src")
    shown = str(ip_address(value.to_bytes(size // 8, "big")))
    if mask is None:
        return shown
    prefix = mask.bit_count()
    if mask == (1 << size) - (1 << size - prefix):
        return f"{shown}/{prefix}"
    return f"{shown}/{ip_address(mask.to_bytes(size // 8, 'big'))}"
