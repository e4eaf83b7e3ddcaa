"""How long a switch keeps the groups that nobody wants."""

from __future__ import annotations

from ryu_apps.retired import KEPT_FOR, Retired


def test_each_is_kept_from_its_last_use_on() -> None:
    """One that was wanted again for a moment would go too soon, under connections that still ask it."""
    now = 100.0
    retired = Retired(lambda: now)
    assert retired.next_due() is None
    retired.put([256, 512])
    now += 1
    retired.put([256, 768])
    assert retired.next_due() == 100 + KEPT_FOR
    assert retired.take() == frozenset()

    now = 100 + KEPT_FOR
    assert retired.take() == {512}
    assert retired.next_due() == 101 + KEPT_FOR
    now += 1
    assert retired.take() == {256, 768}
    assert retired.next_due() is None
