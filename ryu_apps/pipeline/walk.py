"""Walks packets through compiled flows as a switch does, table by table, with the connections that they leave. Pure.

Tests' fake switch is the same, and chooses and learns as well; it is compared with Open vSwitch packet by packet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ryu_apps.pipeline.conntrack import Conntrack
from ryu_apps.pipeline.fields import TCP_SYN, VLAN_PRESENT
from ryu_apps.pipeline.packet import Packet, move, zero_by_default
from ryu_apps.pipeline.values import (
    ANY,
    CONTROLLER,
    IN_PORT,
    Action,
    Bucket,
    Ct,
    DecTtl,
    Flow,
    Group,
    GroupAction,
    Learn,
    Move,
    Output,
    OutputReg,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
)

VLAN = "vlan_vid"


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet that left: by which port (or CONTROLLER), and what it looked like."""

    port: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Step:
    """A flow that a packet met, and what the packet looked like then."""

    flow: Flow
    packet: Packet


@dataclass(slots=True)
class Walk:
    """One packet on its way."""

    packet: Packet
    in_port: int
    sent: list[Sent] = field(default_factory=list)
    path: list[Step] = field(default_factory=list)
    cts: list[Ct] = field(default_factory=list)


_Kind = tuple[tuple[str, int | None], ...]
"""What a flow matches, without the values."""


class Flows:
    """The flows of a switch, found by tables of what they match: as many as there are kinds of matches."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self._kinds: dict[tuple[int, int, _Kind], dict[tuple[int, ...], Flow]] = {}
        for flow in flows:
            kind = tuple((name, mask) for name, _, mask in flow.match)
            values = tuple(value for _, value, _ in flow.match)
            self._kinds.setdefault((flow.table, -flow.priority, kind), {}).setdefault(values, flow)
        self._ordered: dict[int, list[tuple[int, _Kind, dict[tuple[int, ...], Flow]]]] = {}
        for (table, before, kind), found in sorted(self._kinds.items(), key=lambda item: item[0][:2]):
            self._ordered.setdefault(table, []).append((before, kind, found))

    def find(self, table: int, packet: Packet) -> Flow | None:
        """The flow of a table that the packet meets."""
        return next((flow for _, flow in self._matching(table, packet)), None)

    def rivals(self, table: int, packet: Packet) -> list[Flow]:
        """All flows of the highest priority that the packet matches. OpenFlow does not say which of several applies."""
        found = list(self._matching(table, packet))
        return [flow for before, flow in found if before == found[0][0]]

    def _matching(self, table: int, packet: Packet) -> Iterator[tuple[int, Flow]]:
        for before, kind, flows in self._ordered.get(table, ()):
            values = _values(kind, packet)
            if values is not None and (flow := flows.get(values)) is not None:
                yield before, flow


def _values(kind: _Kind, packet: Packet) -> tuple[int, ...] | None:
    out = []
    for name, mask in kind:
        have = packet.get(name)
        if have is None:
            if not zero_by_default(name):
                return None
            have = TCP_SYN if name == "tcp_flags" else 0  # a segment whose flags are not told begins a connection
        out.append(have if mask is None else have & mask)
    return tuple(out)


class Walker:
    """Flows and groups to walk through. ``down``: ports that are down. ``tracked``: its connections."""

    def __init__(
        self, flows: Iterable[Flow] = (), groups: Mapping[int, Group] | None = None, down: Collection[int] = ()
    ) -> None:
        self.groups: dict[int, Group] = dict(groups or {})
        self.down: set[int] = set(down)
        self.tracked = Conntrack()
        self._found = Flows(flows)

    def send(self, in_port: int, packet: Packet) -> Walk:
        """A packet comes in by a port; what left, and the way through the tables."""
        walk = Walk(dict(packet, in_port=in_port), in_port)
        self.table(walk, 0)
        return walk

    # what a subclass may know better

    def choose(self, group: Group, packet: Packet) -> Bucket:
        """The bucket of a select group; all that it has are live."""
        return group.buckets[0]

    def learn(self, packet: Packet, learn: Learn) -> None:
        """A flow is to be learned: not here."""

    def met(self, flow: Flow) -> None:
        """A packet met a flow."""

    # the tables

    def table(self, walk: Walk, table: int) -> None:
        """Look up, and carry out what is found."""
        flow = self._found.find(table, walk.packet)
        if flow is None:
            return
        self.met(flow)
        walk.path.append(Step(flow, dict(walk.packet)))
        if self._act(walk, flow.actions) and flow.goto is not None:
            self.table(walk, flow.goto)

    def _act(self, walk: Walk, actions: Iterable[Action]) -> bool:
        """Carry out; False where the packet ended (its TTL)."""
        for action in actions:
            match action:
                case Output(port=port):
                    self._output(walk, port)
                case OutputReg(reg=reg):
                    self._output(walk, walk.packet.get(reg, 0))
                case SetField(field=name, value=value):
                    walk.packet[name] = value
                case Move():
                    move(walk.packet, action)
                case DecTtl():
                    if walk.packet.get("ip_ttl", 64) <= 1:
                        return False
                    walk.packet["ip_ttl"] = walk.packet.get("ip_ttl", 64) - 1
                case GroupAction(group_id=number):
                    self._group(walk, self.groups[number])
                case Ct():
                    walk.cts.append(action)
                    packet = self.tracked.track(walk.packet, action)
                    if action.table is not None:
                        self.table(Walk(packet, walk.in_port, walk.sent, walk.path, walk.cts), action.table)
                case Resubmit(table=table):
                    self.table(walk, table)
                case Learn():
                    self.learn(walk.packet, action)
                case PushVlan():
                    walk.packet[VLAN] = VLAN_PRESENT
                case PopVlan():
                    walk.packet.pop(VLAN, None)
                case _:
                    raise NotImplementedError(action)
        return True

    def _output(self, walk: Walk, port: int) -> None:
        if port == IN_PORT:
            walk.sent.append(Sent(walk.in_port, dict(walk.packet)))
        elif port == CONTROLLER or (port and port != walk.packet["in_port"] and port not in self.down):
            walk.sent.append(Sent(port, dict(walk.packet)))

    def live(self, group: Group) -> tuple[Bucket, ...]:
        """The buckets whose port is not down."""
        return tuple(b for b in group.buckets if b.watch_port == ANY or b.watch_port not in self.down)

    def _group(self, walk: Walk, group: Group) -> None:
        saved = dict(walk.packet)
        if group.type == "all":
            for bucket in group.buckets:
                self._act(walk, bucket.actions)
                walk.packet = dict(saved)
            return
        live = self.live(group)
        if live:
            self._act(walk, self.choose(Group(group.id, group.type, live), walk.packet).actions)
            walk.packet = saved
