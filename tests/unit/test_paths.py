"""Paths over links: shortest, spread over equals, the same for all, and never round in a circle."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.graph import paths
from topology.paths import End, Link, Paths, common, link


def joined(*pairs: tuple[int, int]) -> list[Link]:
    """Links between switches; each has its own ports, upwards from 1."""
    ports: dict[int, int] = {}

    def port(switch: int) -> End:
        ports[switch] = ports.get(switch, 0) + 1
        return End(switch, ports[switch])

    return [link(port(a), port(b)) for a, b in pairs]


RING = joined((1, 2), (2, 3), (3, 4), (4, 1))


def walk(by: Paths, at: int, to: int) -> set[tuple[int, ...]]:
    """All the ways from one switch to another, as the switches go."""
    if at == to:
        return {(to,)}
    ports = by.hops.get(at, {}).get(to, ())
    return {(at, *rest) for port in ports for rest in walk(by, by.peers[End(at, port)].switch, to)}


def test_a_line() -> None:
    """If it fails: switches in a row do not reach each other."""
    found = paths(joined((1, 2), (2, 3)))
    assert found.hops == {1: {2: (1,), 3: (1,)}, 2: {1: (1,), 3: (2,)}, 3: {1: (1,), 2: (1,)}}
    assert found.tree == {1: {1: {2, 3}}, 2: {1: {1}, 2: {3}}, 3: {1: {1, 2}}}


def test_equal_paths_are_all_taken() -> None:
    """If it fails: half of a fabric stands idle."""
    found = paths(RING)
    assert walk(found, 1, 3) == {(1, 2, 3), (1, 4, 3)}
    assert walk(found, 1, 2) == {(1, 2)}, "no longer way than the shortest"
    twice = paths(joined((1, 2), (1, 2)))
    assert twice.hops[1] == {2: (1, 2)}
    assert twice.tree == {1: {1: {2}}, 2: {1: {1}}}, "broadcast takes one of parallel links"


def test_parts_that_are_not_joined() -> None:
    """If it fails: packets are sent to where no link leads."""
    found = paths(joined((1, 2), (3, 4)))
    assert found.hops == {1: {2: (1,)}, 2: {1: (1,)}, 3: {4: (1,)}, 4: {3: (1,)}}
    assert paths([]) == Paths()


def test_the_order_of_links_is_no_matter() -> None:
    """If it fails: a restarted controller rewrites all ways."""
    shuffled = list(RING)
    random.Random(1).shuffle(shuffled)
    assert paths(shuffled) == paths(RING)


GRAPHS = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)).filter(lambda p: p[0] != p[1]), max_size=14)


def spread(by: Paths, at: int, came_by: int = 0) -> Iterable[int]:
    """The switches that a broadcast comes to, each time that it does."""
    yield at
    for port in by.tree.get(at, {}):
        if port != came_by:
            peer = by.peers[End(at, port)]
            yield from spread(by, peer.switch, peer.port)


@given(GRAPHS)
def test_a_broadcast_comes_to_each_switch_once(pairs: list[tuple[int, int]]) -> None:
    """If it fails: a broadcast storms, or does not reach all."""
    found = paths(joined(*pairs))
    for switch in found.hops:
        reached = sorted(spread(found, switch))
        assert reached == sorted({switch, *found.hops[switch]})
        for port, beyond in found.tree[switch].items():
            peer = found.peers[End(switch, port)]
            assert beyond == frozenset(spread(found, peer.switch, peer.port))


@given(GRAPHS, GRAPHS, st.randoms(use_true_random=False))
def test_no_circle_while_switches_change_one_by_one(
    before: list[tuple[int, int]], after: list[tuple[int, int]], choose: random.Random
) -> None:
    """If it fails: while links come and go, packets run round in the fabric as fast as it can carry them."""
    old, new = paths(joined(*before)), paths(joined(*after))
    between = common(old, new)
    everything = {*old.hops, *new.hops}
    for mixed in ((old, between), (between, new)):
        at = {switch: choose.choice(mixed) for switch in everything}
        wires = {**mixed[0].peers} if mixed[0] is old else {**new.peers}
        for start, to in itertools.permutations(everything, 2):
            switch, steps = start, 0
            while switch != to:
                ports = [p for p in at[switch].hops.get(switch, {}).get(to, ()) if End(switch, p) in wires]
                if not ports:
                    break
                switch = wires[End(switch, choose.choice(ports))].switch
                steps += 1
                assert steps <= len(everything), "round in a circle"


def test_what_is_common_reaches_what_the_new_one_does() -> None:
    """If it fails: providers are out of reach for a moment whenever a path changes."""
    cut = paths(one for one in RING if one != RING[0])
    between = common(paths(RING), cut)
    assert {s: set(found) for s, found in between.hops.items()} == {s: set(found) for s, found in cut.hops.items()}
    assert between.hops[1][2] == (), "not the way that is gone, and not yet the one that is to be"
    assert between.hops[1][3] == (2,)
    assert common(cut, cut) == cut


@pytest.mark.parametrize(("k", "switches"), [(4, 20)])
def test_a_fat_tree(k: int, switches: int) -> None:
    """If it fails: of a data centre's fabric only one path is used."""
    half = k // 2
    cores = [(i, j) for i in range(half) for j in range(half)]
    pairs = []
    for pod in range(k):
        for up in range(half):
            aggregation = 100 + pod * half + up
            pairs += [(aggregation, 200 + pod * half + edge) for edge in range(half)]
            pairs += [(aggregation, 1 + n) for n, (i, _) in enumerate(cores) if i == up]
    found = paths(joined(*pairs))
    assert len(found.hops) == switches
    assert len(walk(found, 200, 200 + half)) == half * half
