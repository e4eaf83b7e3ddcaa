"""A switch in process: takes what the real one takes, refuses what it refuses, and walks packets through flows.

The same table of packets runs on this and on Open vSwitch (tests/functional/test_packets.py), so it can't drift.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ryu_apps.pipeline.family import of_packet
from ryu_apps.pipeline.fields import CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_RPL, CT_TRK, TCP
from ryu_apps.pipeline.values import (
    Bucket,
    Ct,
    Flow,
    Group,
    GroupAction,
    Learn,
    LearnLoad,
    LearnMatch,
    Match,
    Nat,
    Output,
    SetField,
)
from ryu_apps.pipeline.values import match as make_match
from ryu_apps.pipeline.walk import PORTS, FiveTuple, Flows, Packet, Sent, Walk, Walker, five_tuple, marked

__all__ = ["FakeSwitch", "RefusedError", "Sent", "Walk"]

Key = tuple[int, int, Match]


class RefusedError(Exception):
    """The real switch would have refused the bundle."""


@dataclass
class Connection:
    """One entry of conntrack: both directions as they are seen on the wire."""

    forward: FiveTuple  # as the client sends it
    reverse: FiveTuple  # as the provider answers
    answered: bool = False
    mark: int = 0


class FakeSwitch(Walker):
    """Flows, groups, conntrack. ``choose`` picks the bucket of a select group (default: by hash and weight)."""

    def __init__(self, choose: Callable[[Group, Packet], Bucket] | None = None) -> None:
        super().__init__()
        self.flows: dict[Key, Flow] = {}
        self.connections: dict[tuple[int, FiveTuple], Connection] = {}
        self._choose = choose or self._by_hash
        self.counters: dict[Key, int] = {}
        self.misfits = False  # packets of known connections are out of their windows

    def load(self, flows: Iterable[Flow], groups: Iterable[Group]) -> None:
        """Replace all: atomic, referents checked as the real one does."""
        new_groups: dict[int, Group] = {}
        for group in groups:
            if group.id in new_groups:
                raise RefusedError(f"OFPGMFC_GROUP_EXISTS {group.id}")
            for bucket in group.buckets:
                # a bucket is an action set, of which the real one carries out one output without a word
                if sum(isinstance(action, Output) for action in bucket.actions) > 1:
                    raise RefusedError(f"more than one output in a bucket of group {group.id}")
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
        self.flows, self.groups, self._found = new_flows, new_groups, Flows(new_flows.values())

    def met(self, flow: Flow) -> None:
        key = (flow.table, flow.priority, flow.match)
        self.counters[key] = self.counters.get(key, 0) + 1

    def choose(self, group: Group, packet: Packet) -> Bucket:
        return self._choose(group, packet)

    @staticmethod
    def _by_hash(group: Group, packet: Packet) -> Bucket:
        slots = [b for b in group.buckets for _ in range(max(b.weight, 1))]
        return slots[zlib.crc32(repr(five_tuple(packet)).encode()) % len(slots)]

    def learn(self, packet: Packet, learn: Learn) -> None:
        def value(src: int | str) -> int:
            return packet.get(src, 0) if isinstance(src, str) else src

        terms = {s.field: value(s.src) for s in learn.specs if isinstance(s, LearnMatch)}
        loads = tuple(SetField(s.field, value(s.src)) for s in learn.specs if isinstance(s, LearnLoad))
        flow = Flow(learn.table, learn.priority, make_match(**terms), loads)
        self.flows[(flow.table, flow.priority, flow.match)] = flow
        self._found = Flows(self.flows.values())

    # conntrack

    def conntrack(self, walk: Walk, ct: Ct) -> Packet:
        packet = dict(walk.packet)
        here = five_tuple(packet)
        found = self.connections.get((ct.zone, here))
        if found is None and ct.commit:
            found = self._commit(ct, here)
            state = CT_NEW
        elif found is None:
            tcp_answer = packet.get("ip_proto") == TCP and packet.get("tcp_flags") == 0x12
            state = CT_INV if tcp_answer else CT_NEW
        elif self.misfits:
            state = CT_INV
        elif here == found.reverse:
            found.answered = True
            state = CT_EST | CT_RPL
        else:
            state = CT_EST if found.answered or packet.get("ip_proto") == TCP else CT_NEW
        packet["ct_state"] = CT_TRK | state
        packet["ct_zone"] = ct.zone
        packet[of_packet(packet).ct_dst] = found.forward[3] if found else here[3]
        if found is not None:
            found.mark = marked(ct, walk.packet, found.mark)
        packet["ct_mark"] = found.mark if found else 0
        if ct.nat is not None and found is not None:
            _translate(packet, found, reply=here == found.reverse)
            if packet[of_packet(packet).dst] != here[3]:
                packet["ct_state"] |= CT_DNAT
        return packet

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
    names = PORTS.get(proto)
    # what is sent is the other direction's tuple, turned round
    family = of_packet(packet)
    packet[family.src], packet[family.dst] = b, a
    if names:
        packet[names[0]], packet[names[1]] = bport, aport
