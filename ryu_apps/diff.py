"""Wanted against actual → ordered changes. Pure.

A flow is known by its cookie, which is a hash of all of it: the same cookie is the same flow. A group is known by
its id, and is the same where its type and buckets are, byte for byte.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ryu_apps.openflow.codec import EncodedFlow, EncodedGroup

T = TypeVar("T")


class CollisionError(Exception):
    """Two different flows have one cookie, or two groups one id."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One owner's program, ready for the wire: flows by cookie, groups by id; the meters of tenants that it uses."""

    flows: Mapping[int, EncodedFlow] = field(default_factory=dict)
    groups: Mapping[int, EncodedGroup] = field(default_factory=dict)
    meters: frozenset[int] = frozenset()


@dataclass(slots=True)
class Actual:
    """What is in the switch: cookie → table, group id → content."""

    flows: dict[int, int] = field(default_factory=dict)
    groups: dict[int, EncodedGroup] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Touched:
    """The cookies and group ids that have to be compared."""

    flows: set[int] = field(default_factory=set)
    groups: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Changes:
    """What to send, in this order: groups before the flows that use them, deletions after what replaces them."""

    add_groups: tuple[EncodedGroup, ...] = ()
    modify_groups: tuple[EncodedGroup, ...] = ()
    add_flows: tuple[EncodedFlow, ...] = ()
    delete_flows: tuple[tuple[int, int], ...] = ()  # (cookie, table)
    delete_groups: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.add_groups or self.modify_groups or self.add_flows or self.delete_flows or self.delete_groups
        )


class Wanted:
    """What each owner wants on one switch. Two owners may want the same flow; it is there while one does."""

    def __init__(self) -> None:
        self._programs: dict[Hashable, Encoded] = {}
        self._flow_owners: dict[int, set[Hashable]] = {}
        self._group_owners: dict[int, set[Hashable]] = {}

    def put(self, owner: Hashable, program: Encoded) -> Touched:
        """``owner`` now wants this; the answer is what changed and has to be compared."""
        before = self._programs.get(owner, Encoded())
        gone_flows = before.flows.keys() - program.flows.keys()
        gone_groups = before.groups.keys() - program.groups.keys()
        for cookie in gone_flows:
            _disown(self._flow_owners, cookie, owner)
        for number in gone_groups:
            _disown(self._group_owners, number, owner)
        for cookie in program.flows:
            self._flow_owners.setdefault(cookie, set()).add(owner)
        for number in program.groups:
            self._group_owners.setdefault(number, set()).add(owner)
        if program.flows or program.groups:
            self._programs[owner] = program
        else:
            self._programs.pop(owner, None)
        return Touched(
            gone_flows | (program.flows.keys() - before.flows.keys()),
            gone_groups | {n for n, g in program.groups.items() if before.groups.get(n) != g},
        )

    def of_owner(self, owner: Hashable) -> Touched:
        """All that ``owner`` wants."""
        program = self._programs.get(owner, Encoded())
        return Touched(set(program.flows), set(program.groups))

    def everything(self) -> Touched:
        """All that anybody wants."""
        return Touched(set(self._flow_owners), set(self._group_owners))

    def flow(self, cookie: int, without: frozenset[Hashable] = frozenset()) -> EncodedFlow | None:
        """The flow of that cookie, unless only owners in ``without`` want it.

        Raises CollisionError where two owners want different flows of one cookie.
        """
        found = [self._programs[o].flows[cookie] for o in self._flow_owners.get(cookie, ()) if o not in without]
        return _only(found, f"cookie {cookie:#018x}")

    def group(self, number: int, without: frozenset[Hashable] = frozenset()) -> EncodedGroup | None:
        """The group of that id, likewise."""
        found = [self._programs[o].groups[number] for o in self._group_owners.get(number, ()) if o not in without]
        return _only(found, f"group {number}")

    def owners_of_flow(self, cookie: int) -> set[Hashable]:
        """Who wants it."""
        return self._flow_owners.get(cookie, set())

    def owners_of_group(self, number: int) -> set[Hashable]:
        """Who wants it."""
        return self._group_owners.get(number, set())

    @property
    def flow_count(self) -> int:
        """How many flows there should be."""
        return len(self._flow_owners)

    @property
    def group_count(self) -> int:
        """How many groups there should be."""
        return len(self._group_owners)


def _disown(owners: dict[int, set[Hashable]], what: int, owner: Hashable) -> None:
    left = owners[what]
    left.discard(owner)
    if not left:
        del owners[what]


def _only(found: list[T], what: str) -> T | None:
    if any(f != found[0] for f in found):
        raise CollisionError(f"{what} stands for different things: {found}")
    return found[0] if found else None


def diff(touched: Touched, wanted: Wanted, actual: Actual, without: frozenset[Hashable] = frozenset()) -> Changes:
    """What makes ``actual`` what is wanted, as far as ``touched`` goes; owners in ``without`` want nothing new."""
    add_groups, modify_groups, delete_groups = [], [], []
    for number in sorted(touched.groups):
        group = wanted.group(number, without)
        there = actual.groups.get(number)
        if group is not None and there is None:
            add_groups.append(group)
        elif group is not None and there != group:
            modify_groups.append(group)
        elif group is None and there is not None and not wanted.owners_of_group(number):
            delete_groups.append(number)
    add_flows, delete_flows = [], []
    for cookie in sorted(touched.flows):
        flow = wanted.flow(cookie, without)
        if flow is not None and cookie not in actual.flows:
            add_flows.append(flow)
        elif flow is None and cookie in actual.flows and not wanted.owners_of_flow(cookie):
            delete_flows.append((cookie, actual.flows[cookie]))
    # a group's parts have higher ids than its head, which refers to them
    return Changes(
        tuple(reversed(add_groups)),
        tuple(reversed(modify_groups)),
        tuple(add_flows),
        tuple(delete_flows),
        tuple(delete_groups),
    )


def everything(wanted: Wanted, actual: Actual) -> Touched:
    """For a full comparison, as after a connect."""
    all_wanted = wanted.everything()
    return Touched(all_wanted.flows | actual.flows.keys(), all_wanted.groups | actual.groups.keys())


def done(changes: Changes, actual: Actual) -> None:
    """The switch has carried out ``changes``: remember."""
    for group in (*changes.add_groups, *changes.modify_groups):
        actual.groups[group.id] = group
    for flow in changes.add_flows:
        actual.flows[flow.cookie] = flow.table
    for cookie, _ in changes.delete_flows:
        actual.flows.pop(cookie, None)
    for number in changes.delete_groups:
        actual.groups.pop(number, None)
