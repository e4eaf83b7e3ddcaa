"""A switch in process: takes what the real one takes, refuses what it refuses, and walks packets through flows.

The same table of packets runs on this and on Open vSwitch (tests/functional/test_packets.py), so it can't drift.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ryu_apps.pipeline.fields import CT_EST, CT_INV, CT_NEW, CT_RPL, CT_TRK, FIELDS, TCP, UDP
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
    LearnLoad,
    LearnMatch,
    Match,
    Move,
    Nat,
    Output,
    OutputReg,
    Resubmit,
    SetField,
    match,
)

Packet = dict[str, int]
Key = tuple[int, int, Match]
FiveTuple = tuple[int, int, int, int, int]


class RefusedError(Exception):
    """The real switch would have refused the bundle."""


@dataclass(frozen=True)
class Sent:
    """One packet that left: by which port (or CONTROLLER), and what it looked like."""

    port: int
    packet: Packet


@dataclass
class Connection:
    """One entry of conntrack: both directions as they are seen on the wire."""

    forward: FiveTuple  # as the client sends it
    reverse: FiveTuple  # as the provider answers
    answered: bool = False


@dataclass
class Walk:
    """One packet on its way."""

    packet: Packet
    in_port: int
    sent: list[Sent] = field(default_factory=list)
    path: list[Flow] = field(default_factory=list)
    cts: list[Ct] = field(default_factory=list)


class FakeSwitch:
    """Flows, groups, conntrack. ``choose`` picks the bucket of a select group (default: by hash and weight)."""

    def __init__(self, choose: Callable[[Group, Packet], Bucket] | None = None) -> None:
        self.flows: dict[Key, Flow] = {}
        self.groups: dict[int, Group] = {}
        self.down: set[int] = set()  # ports that are down
        self.connections: dict[tuple[int, FiveTuple], Connection] = {}
        self._choose = choose or self._by_hash
        self._sorted: dict[int, list[Flow]] | None = None
        self.counters: dict[Key, int] = {}

    def load(self, flows: Iterable[Flow], groups: Iterable[Group]) -> None:
        """Replace all: atomic, referents checked as the real one does."""
        new_groups: dict[int, Group] = {}
        for group in groups:
            if group.id in new_groups:
                raise RefusedError(f"OFPGMFC_GROUP_EXISTS {group.id}")
            new_groups[group.id] = group
        new_flows: dict[Key, Flow] = {}
        for flow in flows:
            key = (flow.table, flow.priority, flow.match)
            if key in new_flows and new_flows[key] != flow:
                raise RefusedError(f"two flows of one match and priority: {flow} and {new_flows[key]}")
            new_flows[key] = flow
        everything = [f.actions for f in new_flows.values()]
        everything += [b.actions for g in new_groups.values() for b in g.buckets]
        for actions in everything:
            for action in actions:
                if isinstance(action, GroupAction) and action.group_id not in new_groups:
                    raise RefusedError(f"OFPBAC_BAD_OUT_GROUP {action.group_id}")
        self.flows, self.groups, self._sorted = new_flows, new_groups, None

    def send(self, in_port: int, packet: Packet) -> Walk:
        """A packet comes in by a port; what left, and the way through the tables."""
        walk = Walk(dict(packet, in_port=in_port), in_port)
        self._table(walk, 0)
        return walk

    # the tables

    def _lookup(self, table: int, packet: Packet) -> Flow | None:
        if self._sorted is None:
            self._sorted = {}
            for flow in sorted(self.flows.values(), key=lambda f: -f.priority):
                self._sorted.setdefault(flow.table, []).append(flow)
        return next((f for f in self._sorted.get(table, ()) if _matches(f.match, packet)), None)

    def _table(self, walk: Walk, table: int) -> None:
        flow = self._lookup(table, walk.packet)
        if flow is None:
            return
        key = (flow.table, flow.priority, flow.match)
        self.counters[key] = self.counters.get(key, 0) + 1
        walk.path.append(flow)
        if self._act(walk, flow.actions) and flow.goto is not None:
            self._table(walk, flow.goto)

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
                case Move(src=src, dst=dst):
                    walk.packet[dst] = walk.packet.get(src, 0) if _zero_by_default(src) else walk.packet[src]
                case DecTtl():
                    if walk.packet.get("ip_ttl", 64) <= 1:
                        return False
                    walk.packet["ip_ttl"] = walk.packet.get("ip_ttl", 64) - 1
                case GroupAction(group_id=number):
                    self._group(walk, self.groups[number])
                case Ct():
                    self._conntrack(walk, action)
                case Resubmit(table=table):
                    self._table(walk, table)
                case Learn():
                    self._learn(walk.packet, action)
                case _:
                    raise NotImplementedError(action)
        return True

    def _output(self, walk: Walk, port: int) -> None:
        if port == IN_PORT:
            walk.sent.append(Sent(walk.in_port, dict(walk.packet)))
        elif port == CONTROLLER or (port and port != walk.packet["in_port"] and port not in self.down):
            walk.sent.append(Sent(port, dict(walk.packet)))

    def _group(self, walk: Walk, group: Group) -> None:
        saved = dict(walk.packet)
        if group.type == "all":
            for bucket in group.buckets:
                self._act(walk, bucket.actions)
                walk.packet = dict(saved)
            return
        live = [b for b in group.buckets if b.watch_port == ANY or b.watch_port not in self.down]
        if live:
            self._act(walk, self._choose(Group(group.id, group.type, tuple(live)), walk.packet).actions)
            walk.packet = saved

    @staticmethod
    def _by_hash(group: Group, packet: Packet) -> Bucket:
        slots = [b for b in group.buckets for _ in range(max(b.weight, 1))]
        return slots[zlib.crc32(repr(_tuple(packet)).encode()) % len(slots)]

    def _learn(self, packet: Packet, learn: Learn) -> None:
        def value(src: int | str) -> int:
            return packet.get(src, 0) if isinstance(src, str) else src

        terms = {s.field: value(s.src) for s in learn.specs if isinstance(s, LearnMatch)}
        loads = tuple(SetField(s.field, value(s.src)) for s in learn.specs if isinstance(s, LearnLoad))
        flow = Flow(learn.table, learn.priority, match(**terms), loads)
        self.flows[(flow.table, flow.priority, flow.match)] = flow
        self._sorted = None

    # conntrack

    def _conntrack(self, walk: Walk, ct: Ct) -> None:
        walk.cts.append(ct)
        packet = dict(walk.packet)
        here = _tuple(packet)
        found = self.connections.get((ct.zone, here))
        if found is None and ct.commit:
            found = self._commit(ct, here)
            state = CT_NEW
        elif found is None:
            tcp_answer = packet.get("ip_proto") == TCP and packet.get("tcp_flags") == 0x12
            state = CT_INV if tcp_answer else CT_NEW
        elif here == found.reverse:
            found.answered = True
            state = CT_EST | CT_RPL
        else:
            state = CT_EST if found.answered or packet.get("ip_proto") == TCP else CT_NEW
        packet["ct_state"] = CT_TRK | state
        packet["ct_zone"] = ct.zone
        packet["ct_nw_dst"] = found.forward[3] if found else here[3]
        if ct.nat is not None and found is not None:
            _translate(packet, found, reply=here == found.reverse)
        if ct.table is not None:
            onward = Walk(packet, walk.in_port, walk.sent, walk.path, walk.cts)
            self._table(onward, ct.table)

    def _commit(self, ct: Ct, here: FiveTuple) -> Connection:
        proto, src, sport, dst, dport = here
        nat = ct.nat or Nat()
        to, to_port, seen = nat.dst or dst, nat.port or dport, nat.src or src
        if (to, to_port, seen) == (dst, dport, src) and ct.nat is not None:
            raise RefusedError("a translation that changes nothing: Open vSwitch before 3.3 aborts on it")
        # the answers of two connections may not look alike: move the source port
        while (ct.zone, (proto, to, to_port, seen, sport)) in self.connections:
            sport = 1024 + (sport + 1) % 60000
        connection = Connection(here, (proto, to, to_port, seen, sport))
        self.connections[(ct.zone, here)] = connection
        self.connections[(ct.zone, connection.reverse)] = connection
        return connection


def _translate(packet: Packet, connection: Connection, *, reply: bool) -> None:
    proto, a, aport, b, bport = connection.forward if reply else connection.reverse
    names = {TCP: ("tcp_src", "tcp_dst"), UDP: ("udp_src", "udp_dst")}.get(proto)
    # what is sent is the other direction's tuple, turned round
    packet["ipv4_src"], packet["ipv4_dst"] = b, a
    if names:
        packet[names[0]], packet[names[1]] = bport, aport


def _tuple(packet: Packet) -> FiveTuple:
    proto = packet.get("ip_proto", 0)
    names = {TCP: ("tcp_src", "tcp_dst"), UDP: ("udp_src", "udp_dst")}.get(proto, ("", ""))
    return (
        proto,
        packet.get("ipv4_src", 0),
        packet.get(names[0], 0),
        packet.get("ipv4_dst", 0),
        packet.get(names[1], 0),
    )


def _matches(match: Match, packet: Packet) -> bool:
    for name, value, mask in match:
        if name not in packet and not _zero_by_default(name):
            return False
        have: Any = packet.get(name, 0)
        if (have & mask if mask is not None else have) != value:
            return False
    return True


def _zero_by_default(name: str) -> bool:
    # registers and conntrack fields are there, and zero, from the start
    return FIELDS[name].oxm_class == 1
