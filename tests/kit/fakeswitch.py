"""A switch in process: takes what the real one takes, refuses what it refuses, and walks packets through flows.

The same table of packets runs on this and on Open vSwitch (tests/functional/test_packets.py), so it can't drift.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from ryu_apps.pipeline.conntrack import Connection, Conntrack
from ryu_apps.pipeline.fields import CT_INV
from ryu_apps.pipeline.packet import FiveTuple, Packet, five_tuple
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
    Output,
    SetField,
)
from ryu_apps.pipeline.values import match as make_match
from ryu_apps.pipeline.walk import Flows, Sent, Walk, Walker

__all__ = ["FakeSwitch", "RefusedError", "Sent", "Walk"]

Key = tuple[int, int, Match]


class RefusedError(Exception):
    """The real switch would have refused the bundle."""


class _Checked(Conntrack):
    """Refuses what would end Open vSwitch. ``misfits``: packets of known connections are out of their windows.
    ``full``: the zones at their limits.
    """

    misfits = False
    full: frozenset[int] = frozenset()

    def track(self, packet: Packet, ct: Ct) -> Packet:
        # as the real one, which does not say so: the packet goes on as a new one, as it was
        return super().track(packet, replace(ct, commit=False) if ct.zone in self.full else ct)

    def state(self, found: Connection | None, packet: Packet) -> int:
        return CT_INV if found is not None and self.misfits else super().state(found, packet)

    def commit(self, ct: Ct, here: FiveTuple) -> Connection:
        connection = super().commit(ct, here)
        _, to, to_port, seen, _ = connection.reverse
        if ct.nat is not None and (seen, to, to_port) == (here[1], *here[3:]):
            raise RefusedError("a translation that changes nothing: Open vSwitch before 3.3 aborts on it")
        return connection


class FakeSwitch(Walker):
    """Flows, groups, conntrack. ``choose`` picks the bucket of a select group (default: by hash and weight)."""

    def __init__(self, choose: Callable[[Group, Packet], Bucket] | None = None) -> None:
        super().__init__()
        self.flows: dict[Key, Flow] = {}
        self.tracked: _Checked = _Checked()
        self._choose = choose or self._by_hash
        self.counters: dict[Key, int] = {}

    @property
    def connections(self) -> dict[tuple[int, FiveTuple], Connection]:
        """By zone and by either direction's packets."""
        return self.tracked.connections

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

    def table(self, walk: Walk, table: int) -> None:
        rivals = self._found.rivals(table, walk.packet)
        if len({(flow.actions, flow.goto) for flow in rivals}) > 1:
            raise RefusedError(f"a packet matches several flows of one priority: {rivals}")
        super().table(walk, table)

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
