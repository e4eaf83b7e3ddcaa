"""How the slots of select groups are shared out among providers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryu_apps.pipeline.features.select import MOST, SLOTS, TOLERANCE, shared_out

Groups = tuple[tuple[tuple[int, int], ...], ...]
BUCKET = 200  # bytes; more than any of ours
MESSAGE = 65536


def total_by_provider(groups: Groups) -> Counter[int]:
    out: Counter[int] = Counter()
    for group in groups:
        for position, slots in group:
            out[position] += slots
    return out


def errors(weights: tuple[int, ...]) -> list[float]:
    """How far each provider's share is off, relative to what it should be."""
    groups = shared_out(weights)
    got, total = total_by_provider(groups), sum(weights)
    return [got[i] * total / (SLOTS * len(groups) * weight) - 1 for i, weight in enumerate(weights)]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=3000).map(tuple))
def test_groups_that_a_switch_takes(weights: tuple[int, ...]) -> None:
    """A service would be refused by the switch, or some of its providers never get a connection."""
    groups = shared_out(weights)
    assert len(groups) & (len(groups) - 1) == 0 < len(groups) <= MOST
    assert set(total_by_provider(groups)) == set(range(len(weights)))
    for group in groups:
        assert len(group) * BUCKET < MESSAGE
        assert sum(slots for _, slots in group) == SLOTS
        # else the switch would take fewer slots, or more, and share them out by itself
        assert len(group) == 1 or min(slots for _, slots in group) == 1


@pytest.mark.parametrize(
    "weights",
    [(1,) * count for count in (1, 2, 3, 9, 20, 50, 127, 129, 1000, 2000)]
    + [(1, 3), (1, 2, 5), (1, 100), (9, *[1] * 99)],
    ids=lambda w: f"{len(w)} of {sum(w)}",
)
def test_each_has_its_share(weights: tuple[int, ...]) -> None:
    """The busiest of many providers would get twice what the least busy gets."""
    assert max(map(abs, errors(weights))) <= TOLERANCE


def test_what_it_costs() -> None:
    """Every small service would cost several groups, or a large one as many buckets as connections."""
    assert [len(shared_out((1,) * count)) for count in (0, 1, 10, 14)] == [0, 1, 1, 1]
    assert sum(map(len, shared_out((1,) * 2000))) < 2500


@pytest.mark.parametrize("weights", [(1, 100), (1, 1, 100), (1, 30, 100, 100)])
def test_no_group_depends_on_one_provider(weights: tuple[int, ...]) -> None:
    """Connections would wait for the controller when the port of a heavy provider goes down."""
    assert all(len({position for position, _ in group}) > 1 for group in shared_out(weights))
