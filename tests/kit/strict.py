"""A switch that knows only what it is sent, and refuses what makes no sense in the order in which it comes."""

from __future__ import annotations

from collections.abc import Mapping

from ryu_apps import diff
from ryu_apps.openflow import codec
from ryu_apps.openflow.codec import EncodedFlow, EncodedGroup
from ryu_apps.pipeline.values import Flow, Group, GroupAction


class RefusedError(Exception):
    """The bundle is refused."""


class Strict:
    """Flows by what they match, groups by id. It is told the meaning of cookies and groups that may come."""

    def __init__(self, flows: Mapping[int, Flow], groups: Mapping[EncodedGroup, Group]) -> None:
        self._flows = flows
        self._groups = groups
        self.table: dict[object, int] = {}  # (table, priority, match) → cookie
        self.groups: dict[int, EncodedGroup] = {}

    @property
    def cookies(self) -> set[int]:
        """Of the flows that are there."""
        return set(self.table.values())

    def carry_out(self, changes: diff.Changes) -> None:
        """In the order of the bundle; on a refusal nothing is done."""
        before = dict(self.table), dict(self.groups)
        try:
            self._carry_out(changes)
        except RefusedError:
            self.table, self.groups = before
            raise

    def _carry_out(self, changes: diff.Changes) -> None:
        for group in changes.add_groups:
            self._expect(group.id not in self.groups, f"GROUP_EXISTS {group.id}")
            self._put_group(group)
        for group in changes.modify_groups:
            self._expect(group.id in self.groups, f"UNKNOWN_GROUP {group.id}")
            self._put_group(group)
        for flow in changes.add_flows:
            self._put_flow(flow)
        for cookie, table in changes.delete_flows:
            self.table = {k: c for k, c in self.table.items() if c != cookie or self._flows[c].table != table}
        for number in changes.delete_groups:
            self._delete_group(number)

    def _put_group(self, group: EncodedGroup) -> None:
        # Open vSwitch 3.1 would take it, and drop what the bucket gets
        for number in _used(*(b.actions for b in self._groups[group].buckets)):
            self._expect(number in self.groups, f"group {group.id} refers to {number}, which is not there")
        self.groups[group.id] = group

    def _put_flow(self, flow: EncodedFlow) -> None:
        meant = self._flows[flow.cookie]
        assert codec.encode_flow(meant) == flow
        for number in _used(meant.actions):
            self._expect(number in self.groups, f"BAD_OUT_GROUP {number}")
        self.table[meant.table, meant.priority, meant.match] = flow.cookie

    def _delete_group(self, number: int) -> None:
        self.groups.pop(number, None)
        # as the real one, which takes the flows that use it along
        self.table = {k: c for k, c in self.table.items() if number not in _used(self._flows[c].actions)}

    @staticmethod
    def _expect(holds: bool, line: str) -> None:
        if not holds:
            raise RefusedError(line)


def _used(*lists: tuple[object, ...]) -> set[int]:
    return {a.group_id for actions in lists for a in actions if isinstance(a, GroupAction)}
