"""Which groups a switch keeps that nobody wants, for how long, and what is in them."""

from __future__ import annotations

import pytest

from ryu_apps import diff
from ryu_apps.openflow.codec import EncodedGroup
from ryu_apps.pipeline.features.select import stand_ins
from ryu_apps.pipeline.tables import GROUP_FLOOD, GROUP_INSIDE, GROUP_V6, GROUP_WAY
from ryu_apps.retired import KEPT_FOR, Retired

NOBODY: frozenset[str] = frozenset()


class Switch:
    """What is wanted, what is there, and the time."""

    def __init__(self, *numbers: int) -> None:
        self.now = 100.0
        self.retired = Retired(lambda: self.now)
        self.wanted = diff.Wanted()
        self.actual = diff.Actual()
        self.want(*numbers)

    def want(self, *numbers: int, content: bytes = b"") -> None:
        """These groups."""
        groups = {number: EncodedGroup(number, 1, content) for number in numbers}
        self.send(self.wanted.put("service", diff.Encoded({}, groups)))

    def send(self, touched: diff.Touched) -> None:
        """As the reconciler does."""
        touched.groups.update(self.retired.concerned(touched.groups))
        found = diff.diff(touched, self.wanted, self.actual)
        changes = self.retired.keep(found, self.wanted, self.actual.groups, NOBODY)
        diff.done(changes, self.actual)
        self.retired.done(touched.groups, found, changes)

    def passes(self, seconds: float) -> None:
        """Time."""
        self.now += seconds
        self.send(diff.Touched(groups=self.retired.take()))


@pytest.mark.parametrize("kind", [0, GROUP_V6, GROUP_INSIDE, GROUP_V6 | GROUP_INSIDE])
def test_the_groups_that_connections_go_to_instead(kind: int) -> None:
    """If it fails: what stands in for a group has providers of another service, or is not found."""
    own = [kind | 0x105, kind | 0x101, kind | 0x100]
    plain = kind & ~GROUP_INSIDE
    of_all = [] if kind == plain else [plain | 0x105, plain | 0x101, plain | 0x100]
    assert list(stand_ins(own[0])) == [*own[1:], *of_all]
    assert list(stand_ins(0x100)) == []


@pytest.mark.parametrize("kind", [GROUP_WAY, GROUP_FLOOD])
def test_other_groups_have_none(kind: int) -> None:
    """If it fails: packets for one switch are sent to another."""
    assert list(stand_ins(kind | GROUP_INSIDE | 0x105)) == []


def test_each_has_its_time_from_its_last_use_on() -> None:
    """One that was wanted again for a moment would go too soon, under connections that still ask it."""
    switch = Switch(0x100, 0x101)
    switch.want(0x100)
    switch.passes(KEPT_FOR - 1)
    switch.want(0x100, 0x101)
    switch.want(0x100)
    switch.passes(KEPT_FOR - 1)
    assert 0x101 in switch.actual.groups
    switch.passes(1)
    assert switch.actual.groups.keys() == {0x100}
    assert switch.retired.next_due() is None


def test_a_change_after_it_went_does_not_prolong_its_time() -> None:
    """A service whose providers always come and go would keep its groups for ever, if not its providers."""
    switch = Switch(0x100, 0x101, 0x102, 0x103)
    switch.want(0x100)
    switch.passes(KEPT_FOR - 1)
    switch.want(0x100, content=b"others")
    assert {group.buckets for group in switch.actual.groups.values()} == {b"others"}
    assert len(switch.actual.groups) == 4
    switch.passes(1)
    assert switch.actual.groups.keys() == {0x100}


def test_a_service_without_providers_keeps_none() -> None:
    """What is gone would be asked, and what is to be refused at once would be lost."""
    switch = Switch(0x100, 0x101)
    switch.want(0x100)
    switch.want()
    assert switch.actual.groups == {}
    assert switch.retired.next_due() is None
