"""What is said about switches: enough, and not more."""

from __future__ import annotations

import logging

import pytest

from topology import complaints
from topology.complaints import BURST, MOST, MOST_TOGETHER, REFILL, Complaints

LOG = logging.getLogger("test.complaints")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The lines."""
    caplog.set_level(logging.INFO, "test.complaints")
    return caplog


def test_a_bad_switch_does_not_fill_the_log(said: pytest.LogCaptureFixture) -> None:
    """One bad switch would hide all that is said about others, and fill the disk."""
    now = [0.0]
    about = Complaints(LOG, lambda: now[0])
    for n in range(1000):
        about.say(logging.ERROR, "peer 1", f"wrong {n}")
    assert len(said.messages) == BURST
    about.say(logging.ERROR, "peer 2", "wrong")
    assert said.messages[-1] == "peer 2: wrong", "others are spoken of"
    now[0] += REFILL
    about.say(logging.ERROR, "peer 1", "wrong again")
    assert said.messages[-1] == f"peer 1: wrong again ({1000 - BURST} lines about it were left out)"
    about.say(logging.ERROR, "peer 1", "wrong again")
    assert len(said.messages) == BURST + 2


def test_who_always_says_to_be_another(said: pytest.LogCaptureFixture) -> None:
    """A bad switch with a new name each time would do the same, and take memory for each name."""
    now = [0.0]
    about = Complaints(LOG, lambda: now[0])
    for n in range(MOST + 2000):
        about.say(logging.ERROR, f"peer {n}", "wrong")
    assert len(said.messages) == MOST_TOGETHER
    now[0] += complaints.REFILL_TOGETHER
    about.say(logging.ERROR, "peer", "wrong")
    assert f"({MOST + 2000 - MOST_TOGETHER} lines about several peers were left out)" in said.messages[-1]
    assert len(about._lines) == MOST
