"""What one switch has counted: the connections of a service and of each of its providers, the forged packets of a port.

Read when somebody asks, never polled. A connection given to a provider is a packet through a bucket, or a flow, that
commits its translation to that provider; later packets take another way. A switch counts a group's buckets anew when
the group changes, so that what they had counted is kept here (`Kept`) for as long as the switch is connected.
The switch itself counts up to half a second late. A client that uses a UDP port again while conntrack remembers it goes
on with the connection that it had.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ryu_apps.diff import Changes
from ryu_apps.openflow import codec
from ryu_apps.openflow.codec import COOKIE_MAGIC, EncodedGroup
from ryu_apps.openflow.messages import FlowStat, GroupStat
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import FAMILIES, each
from ryu_apps.pipeline.features import balance, select
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import PROTOCOLS
from ryu_apps.pipeline.values import Ct, FieldError, Flow, Match, match, terms
from topology.model import Service, ServicePort
from topology.providers import providers, shown
from topology.snapshot import Model

TIMEOUT = 30.0  # s for an answer; a switch that takes longer is as good as gone
KIND_MASK = 0xFFFF << 48
FORGED = (Priority.REFUSE, Priority.REFUSE_FIRST)
TO_A_VIP = {(FlowKind.BALANCE, Table.SERVICE), (FlowKind.OUTSIDE, Table.ARRIVE)}  # flows that see all packets to one
TENANT_HEADER = bytes.fromhex("00010004")  # reg0, as Open vSwitch writes it
IN_PORT_HEADER = bytes.fromhex("80000004")  # in_port stands first in a match

Buckets = dict[int, Counter[bytes]]
"""Number of a service's port → actions of a bucket → connections."""


class Session(Protocol):
    """What of a session is needed here."""

    def read_flows(self, timeout: float, match: Match = (), cookie: int = 0, mask: int = 0) -> list[FlowStat]:
        """The flows that match what ``match`` does or part of it, and whose cookie agrees under ``mask``."""

    def read_groups(self, timeout: float, numbers: Iterable[int]) -> list[GroupStat]:
        """What these groups have counted."""


@dataclass(slots=True)
class PortCount:
    """New connections to one port of a service. ``providers``: by the id of the endpoint that they are shown by."""

    connections: int = 0
    providers: Counter[str] = field(default_factory=Counter)

    @property
    def other(self) -> int:
        """Of providers that have left, or that the switch had not yet counted when its providers changed."""
        return self.connections - self.providers.total()

    def add(self, more: PortCount) -> None:
        """What another switch has counted."""
        self.connections += more.connections
        self.providers += more.providers


@dataclass(slots=True)
class ServiceCount:
    """``packets``: to the VIP. ``refused``: of them, those for no port of it, or while no provider serves."""

    packets: int = 0
    refused: int = 0
    ports: dict[ServicePort, PortCount] = field(default_factory=dict)

    def add(self, more: ServiceCount) -> None:
        """What another switch has counted."""
        self.packets += more.packets
        self.refused += more.refused
        for port, count in more.ports.items():
            self.ports.setdefault(port, PortCount()).add(count)

    def document(self) -> dict[str, Any]:
        """For REST."""
        return {
            "packets": self.packets,
            "refused": self.refused,
            "providers": dict(sum((count.providers for count in self.ports.values()), Counter[str]())),
            "ports": [
                {
                    "port": str(port),
                    "connections": count.connections,
                    "providers": dict(count.providers),
                    "other": count.other,
                }
                for port, count in self.ports.items()
            ],
        }


@dataclass(frozen=True, slots=True)
class Raw:
    """What a switch says: packets by the flow's cookie, and what buckets have taken."""

    flows: Mapping[int, int]
    buckets: Buckets


class Kept:
    """What buckets had counted that are there no more, or were written anew."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._counts: Buckets = {}

    def read(self, session: Session, groups: Mapping[int, EncodedGroup], changes: Changes) -> Buckets:
        """What is to be kept of the groups that ``changes`` replaces or deletes."""
        living = self._model.used_numbers("port")
        numbers = [*(g.id for g in changes.modify_groups), *changes.delete_groups]
        return read_buckets(session, groups, (n for n in numbers if select.port_number(n) in living))

    def add(self, counts: Buckets) -> None:
        """They have been replaced, or deleted."""
        for number, more in counts.items():
            self._counts[number] = self._counts.get(number, Counter()) + more
        living = self._model.used_numbers("port")
        if len(self._counts) > len(living):
            self._counts = {n: c for n, c in self._counts.items() if n in living}

    def of_port(self, number: int) -> Counter[bytes]:
        """By the bucket's actions."""
        return self._counts.get(number, Counter())


def read_buckets(session: Session, groups: Mapping[int, EncodedGroup], numbers: Iterable[int]) -> Buckets:
    """What the groups of these numbers have counted; ``groups``: what is in the switch."""
    found: Buckets = {}
    for stat in session.read_groups(TIMEOUT, [n for n in numbers if n in groups]):
        counts = found.setdefault(select.port_number(stat.id), Counter())
        for actions, packets in zip(codec.bucket_actions(groups[stat.id]), stat.buckets, strict=False):
            counts[actions] += packets
    return found


class ServiceReader:
    """The counts of one service in one switch: `read` asks the switch, `count` makes sense of its answer."""

    def __init__(self, ctx: Context, service: Service) -> None:
        try:
            flows = compiler.compile_owner(ctx, (service.kind, service.key)).flows
            self._flows = [(flow, codec.cookie_of(flow)) for flow in flows]
        except (FieldError, codec.EncodingError):
            self._flows = []  # no switch has them
        zone = {TENANT: ctx.zone(service.tenant)}
        vips = list(each(service.vips))
        self._matches = [match(**zone | {"eth_type": family.eth_type, family.dst: vip}) for family, vip in vips]
        # nobody else has a published address: it needs no tenant
        published = each(ctx.vips(service)[len(vips) :])
        self._matches += [match(**{"eth_type": family.eth_type, family.dst: address}) for family, address in published]
        whose = [(e, p, shown(ctx.model, service, p).id) for p in providers(ctx.model, service) for e in p.endpoints]
        self._ids = {int(address): name for e, _, name in whose for address in e.addresses}
        # with affinity a bucket only chooses, and flows translate
        self._affinity = bool(service.affinity)
        families = [family for family, _ in vips]
        self._buckets = {
            port: {
                codec.encode_actions(actions): name
                for e, provider, name in whose
                for family in families
                if family.of(e.addresses) is not None
                for actions in (
                    balance.to_endpoint(ctx, family, e, port), balance.to_provider(family, provider.lead.number, port)
                )
            }
            for port in (() if service.affinity else ctx.ports_of(service))
        }  # fmt: skip
        self._ports = service.ports

    def read(self, session: Session, groups: Mapping[int, EncodedGroup], kept: Kept) -> Raw:
        """In the switch's own thread."""
        flows: Counter[int] = Counter()
        for wanted in self._matches:
            for stat in session.read_flows(TIMEOUT, wanted):
                flows[stat.cookie] += stat.packet_count
        ids = [number for port in self._buckets for number in _group_ids(port)]
        counts = read_buckets(session, groups, ids)
        for port in self._buckets:
            counts[port.number] = counts.get(port.number, Counter()) + kept.of_port(port.number)
        return Raw(flows, counts)

    def count(self, raw: Raw) -> ServiceCount:
        """What the answer says."""
        count = ServiceCount(ports={port: PortCount() for port in self._ports})
        by_vip: dict[tuple[ServicePort, int], PortCount] = defaultdict(PortCount)
        learned: dict[tuple[ServicePort, int], Counter[str]] = defaultdict(Counter)
        for flow, cookie in self._flows:
            self._add_flow(count, by_vip, learned, flow, raw.flows.get(cookie, 0))
        for (port, vip), part in by_vip.items():
            _count_once(part, learned[port, vip])
            count.ports[port].connections += part.connections
            count.ports[port].providers.update(part.providers)
        for port, names in self._buckets.items():
            given, of_port = raw.buckets[port.number], count.ports[port]
            for actions, packets in given.items():
                if actions in names:
                    of_port.providers[names[actions]] += packets
            # the flow goes with the last provider, a bucket's latest packets with a change: who has seen more is right
            of_port.connections = max(of_port.connections, given.total())
        return count

    def _add_flow(
        self,
        count: ServiceCount,
        by_vip: Mapping[tuple[ServicePort, int], PortCount],
        learned: Mapping[tuple[ServicePort, int], Counter[str]],
        flow: Flow,
        packets: int,
    ) -> None:
        if flow.kind == FlowKind.REFUSE:
            count.refused += packets
        elif (flow.kind, flow.table) in TO_A_VIP:
            count.packets += packets
        elif flow.table == Table.KEEP and not self._affinity:
            return  # its bucket has counted it
        elif (port := _port_of(flow, self._ports)) is not None:
            part = port, _vip_of(flow)
            if flow.table == Table.BALANCE:
                by_vip[part].connections += packets
            for action in flow.actions:
                if isinstance(action, Ct) and action.commit and action.nat:
                    provider = self._ids.get(action.nat.dst or 0)
                    if provider is not None:
                        by_vip[part].providers[provider] += packets
                        if flow.table == Table.KEEP:
                            learned[part][provider] += packets


def _count_once(count: PortCount, learned: Counter[str]) -> None:
    """Session affinity: what comes before the switch knows what it has learned is counted at the flow that learns, and
    often once more at the flow for those who are known already, as the switch counts by what it would do now.
    """
    for provider, packets in learned.most_common():
        twice = min(packets, max(0, -count.other))
        count.providers[provider] -= twice


def _group_ids(port: ServicePort) -> Iterator[int]:
    for family in FAMILIES:
        for inside in (False, True):
            first = select.group_id(family, port, inside=inside)
            yield from range(first, first + (1 << GROUP_CHUNK_BITS))


def _vip_of(flow: Flow) -> int:
    wanted = terms(flow.match)
    return next((wanted[family.dst] for family in FAMILIES if family.dst in wanted), 0)


def _port_of(flow: Flow, ports: Iterable[ServicePort]) -> ServicePort | None:
    wanted = terms(flow.match)
    number = wanted.get("tcp_dst", wanted.get("udp_dst", wanted.get("sctp_dst", wanted.get("ct_tp_dst"))))
    protocol = wanted.get("ip_proto")
    return next((p for p in ports if (PROTOCOLS[p.protocol][0], p.port) == (protocol, number)), None)


def read_refused(session: Session) -> Counter[int]:
    """Packets of connections that the limit of a tenant has refused: by the tenant's number."""
    limit = COOKIE_MAGIC | FlowKind.LIMIT << 48
    found: Counter[int] = Counter()
    for stat in session.read_flows(TIMEOUT, cookie=limit, mask=KIND_MASK):
        if stat.packet_count:
            found[_tenant_of(stat.match)] += stat.packet_count
    return found


def _tenant_of(match: bytes) -> int:
    """The tenant's number in an ofp_match: its type and length, then fields, each with its own length."""
    at, end = 4, int.from_bytes(match[2:4], "big")
    while at + 4 <= end:
        size = match[at + 3]
        if match[at : at + 4] == TENANT_HEADER:
            return int.from_bytes(match[at + 4 : at + 8], "big")
        at += 4 + size
    return 0


def read_forged(session: Session) -> Counter[int]:
    """Packets dropped at each port because their sender is not who it says: by OpenFlow port."""
    found: Counter[int] = Counter()
    for kind in (FlowKind.ACCESS, FlowKind.DISCOVERY, FlowKind.UNFIT):
        for stat in session.read_flows(TIMEOUT, cookie=COOKIE_MAGIC | kind << 48, mask=KIND_MASK):
            # an ofp_match: its type and length, then the fields
            if stat.priority in FORGED and stat.match[4:8] == IN_PORT_HEADER:
                found[int.from_bytes(stat.match[8:12], "big")] += stat.packet_count
    return found
