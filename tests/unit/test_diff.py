"""Any state to any state: what is sent ends in what is wanted, and a strict switch takes it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryu_apps import diff
from ryu_apps.openflow import codec
from ryu_apps.pipeline.values import Bucket, Flow, Group, GroupAction, Output, match
from ryu_apps.reconciler import mods
from tests.kit.strict import Strict

OWNERS = ("a", "b", "c")
HEADS = (256, 512, 768)  # group ids: a head, whose parts follow it
MATCHES = tuple(match(in_port=n) for n in range(2))


def group(number: int, variant: int, parts: int = 0) -> Group:
    """A group; a head that has parts refers to them."""
    chained = tuple(Bucket((GroupAction(number + n),), weight=1) for n in range(1, parts + 1))
    return Group(number, "select", (Bucket((Output(variant),), weight=1), *chained))


def flow(place: int, variant: int, to_group: int = 0) -> Flow:
    """A flow at one of a few places (table, priority, match)."""
    actions = (GroupAction(to_group),) if to_group else (Output(variant),)
    return Flow(3 + place % 2, 1 + place // 2 % 2, MATCHES[place // 4], actions)


FLOWS = [flow(p, v) for p in range(8) for v in range(2)] + [flow(p, 0, g) for p in range(8) for g in HEADS]
GROUPS = [group(h, v, n) for h in HEADS for v in range(2) for n in range(3)]
GROUPS += [group(h + n, v) for h in HEADS for n in (1, 2) for v in range(2)]
BY_COOKIE = {codec.cookie_of(f): f for f in FLOWS}
BY_CONTENT = {codec.encode_group(g): g for g in GROUPS}

State = Mapping[str, diff.Encoded]


@st.composite
def states(draw: st.DrawFn) -> State:
    """What each owner wants. A group, its parts and the flows that use it have one owner; places do not collide."""
    wanted: dict[str, tuple[list[Flow], list[Group]]] = {o: ([], []) for o in OWNERS}
    holders = {}
    for head in HEADS:
        if draw(st.booleans()):
            holders[head] = draw(st.sampled_from(OWNERS))
            parts = draw(st.integers(0, 2))
            wanted[holders[head]][1].append(group(head, draw(st.integers(0, 1)), parts))
            for n in range(1, parts + 1):
                wanted[holders[head]][1].append(group(head + n, draw(st.integers(0, 1))))
    for place in range(8):
        kind = draw(st.sampled_from(["none", "plain", "shared", *holders]))
        if kind in holders:
            wanted[holders[kind]][0].append(flow(place, 0, kind))
        elif kind != "none":
            what = flow(place, draw(st.integers(0, 1)))
            owner = draw(st.sampled_from(OWNERS))
            for each in OWNERS if kind == "shared" else (owner,):
                wanted[each][0].append(what)
    return {owner: encoded(*program) for owner, program in wanted.items()}


def encoded(flows: list[Flow], groups: list[Group]) -> diff.Encoded:
    return diff.Encoded(
        {codec.cookie_of(f): codec.encode_flow(f) for f in flows}, {g.id: codec.encode_group(g) for g in groups}
    )


def put(wanted: diff.Wanted, state: State) -> diff.Touched:
    """All owners of a state; what is to be compared."""
    touched = diff.Touched()
    for owner, program in state.items():
        changed = wanted.put(owner, program)
        touched.flows.update(changed.flows)
        touched.groups.update(changed.groups)
    return touched


def contents(state: State, without: frozenset[Hashable] = frozenset()) -> tuple[set[int], dict[int, object]]:
    left = [program for owner, program in state.items() if owner not in without]
    return {c for p in left for c in p.flows}, {n: g for p in left for n, g in p.groups.items()}


def same(switch: Strict, actual: diff.Actual, state: State) -> None:
    """The switch has what is wanted, and we know what it has."""
    assert (switch.cookies, switch.groups) == contents(state)
    assert (set(actual.flows), actual.groups) == contents(state)


@settings(max_examples=300, deadline=None)
@given(st.lists(states(), min_size=2, max_size=4))
def test_any_state_to_any_state(path: list[State]) -> None:
    """What is in a switch would depend on its history: a leftover flow here, a missing one there."""
    switch, actual, wanted = Strict(BY_COOKIE, BY_CONTENT), diff.Actual(), diff.Wanted()
    for state in path:
        changes = diff.diff(put(wanted, state), wanted, actual)
        switch.carry_out(changes)
        diff.done(changes, actual)
        same(switch, actual, state)
        assert (wanted.flow_count, wanted.group_count) == (len(switch.cookies), len(switch.groups))
        assert not diff.diff(diff.everything(wanted, actual), wanted, actual), "nothing is left to do"


@settings(max_examples=200, deadline=None)
@given(states(), states())
def test_a_switch_with_something_else_in_it(found: State, state: State) -> None:
    """After a restart of the controller, or of the switch, what is there would not become what should be."""
    switch, actual, before = Strict(BY_COOKIE, BY_CONTENT), diff.Actual(), diff.Wanted()
    put(before, found)
    first = diff.diff(diff.everything(before, actual), before, actual)
    switch.carry_out(first)
    # read back by a controller that knows nothing of it
    read = diff.Actual(dict(_tables(found)), dict(switch.groups))
    wanted = diff.Wanted()
    put(wanted, state)

    changes = diff.diff(diff.everything(wanted, read), wanted, read)

    switch.carry_out(changes)
    diff.done(changes, read)
    same(switch, read, state)
    both = contents(found), contents(state)
    # only the difference: what is the same is not sent
    sent = {f.cookie for f in changes.add_flows} | {c for c, _ in changes.delete_flows}
    assert sent == both[0][0] ^ both[1][0]
    groups = {g.id for g in (*changes.add_groups, *changes.modify_groups)} | set(changes.delete_groups)
    assert groups == {n for n in both[0][1] | both[1][1] if both[0][1].get(n) != both[1][1].get(n)}


def _tables(state: State) -> dict[int, int]:
    return {cookie: f.table for program in state.values() for cookie, f in program.flows.items()}


@settings(max_examples=200, deadline=None)
@given(states(), states(), st.sampled_from(OWNERS))
def test_an_owner_whose_wishes_are_refused(before: State, after: State, refused: str) -> None:
    """One service that the switch refuses would hold up all others, or never come in."""
    switch, actual, wanted = Strict(BY_COOKIE, BY_CONTENT), diff.Actual(), diff.Wanted()
    first = diff.diff(put(wanted, before), wanted, actual)
    switch.carry_out(first)
    diff.done(first, actual)
    touched = put(wanted, after)

    changes = diff.diff(touched, wanted, actual, frozenset({refused}))

    flows, groups = contents(after, frozenset({refused}))
    assert {f.cookie for f in changes.add_flows} <= flows, "nothing new of the refused one"
    assert {g.id for g in (*changes.add_groups, *changes.modify_groups)} <= set(groups)
    switch.carry_out(changes)
    diff.done(changes, actual)
    assert flows <= switch.cookies, "all of the others"
    assert groups.items() <= switch.groups.items()
    there = contents(before)
    assert after[refused].flows.keys() & there[0] <= switch.cookies, "what it has already"
    assert after[refused].groups.keys() & there[1].keys() <= switch.groups.keys()
    later = diff.diff(wanted.of_owner(refused), wanted, actual)
    switch.carry_out(later)
    diff.done(later, actual)
    same(switch, actual, after)


def test_groups_before_the_flows_that_use_them() -> None:
    """The switch would refuse a new service, and keep the flows of a deleted one."""
    state = {"a": encoded([flow(0, 0, 256)], [group(256, 0, 1), group(257, 0)])}
    wanted, actual = diff.Wanted(), diff.Actual()

    there = diff.diff(put(wanted, state), wanted, actual)
    diff.done(there, actual)
    gone = diff.diff(put(wanted, {"a": diff.Encoded()}), wanted, actual)

    assert [g.id for g in there.add_groups] == [257, 256], "a part before the head that refers to it"
    assert len(there.add_flows) == 1
    assert gone.delete_groups == (256, 257)
    assert [table for _, table in gone.delete_flows] == [3]


def test_a_flow_that_two_want_stays_while_one_does() -> None:
    """Deleting a service would take flows of another along."""
    shared = encoded([flow(0, 0)], [])
    wanted, actual = diff.Wanted(), diff.Actual()
    diff.done(diff.diff(put(wanted, {"a": shared, "b": shared}), wanted, actual), actual)

    assert not diff.diff(wanted.put("a", diff.Encoded()), wanted, actual)
    assert len(diff.diff(wanted.put("b", diff.Encoded()), wanted, actual).delete_flows) == 1


def test_a_collision_is_no_silent_loss() -> None:
    """Of two flows with one hash, one would be missing in the switch without anybody knowing."""
    one, other = codec.encode_flow(flow(0, 0)), codec.encode_flow(flow(1, 0))
    wanted = diff.Wanted()
    wanted.put("a", diff.Encoded({one.cookie: one}))
    touched = wanted.put("b", diff.Encoded({one.cookie: other._replace(cookie=one.cookie)}))
    touched.flows.add(one.cookie)

    with pytest.raises(diff.CollisionError, match="stands for different things"):
        diff.diff(touched, wanted, diff.Actual())


def test_who_is_to_blame() -> None:
    """A refusal would show at another object than the one that caused it."""
    state = {"a": encoded([flow(0, 0)], [group(256, 0)]), "b": encoded([flow(1, 0)], [])}
    wanted = diff.Wanted()
    changes = diff.diff(put(wanted, state), wanted, diff.Actual())

    assert sorted(str(mod.owner) for mod in mods(changes, wanted)) == ["a", "a", "b"]
    assert wanted.of_owner("nobody") == diff.Touched()
