"""What a switch says of its flows is outside input. If these fail, one switch ends the controller of all."""

from __future__ import annotations

from typing import Any

import pytest

from ryu_apps.openflow.codec import COOKIE_MAGIC
from ryu_apps.openflow.messages import FlowStat
from ryu_apps.pipeline.show import Asked
from ryu_apps.switches import Switches
from tests.kit import world
from tests.unit.test_counters import APP, session_of, switches, view_of

__all__ = ["switches"]

MOST = (1 << 64) - 1
OWNER = ("service", APP)


@pytest.mark.parametrize(
    "stranger",
    [
        FlowStat(99, 1, COOKIE_MAGIC | 5, MOST, MOST, b""),  # a table that there is not
        FlowStat(7, 1, COOKIE_MAGIC | 77 << 48 | 5, MOST, MOST, b""),  # a kind that there is not
        FlowStat(7, 1, COOKIE_MAGIC | 4 << 48 | 5, MOST, MOST, b"\xff" * 9),  # one that nobody wants
    ],
)
def test_flows_that_nobody_wants(
    switches: Switches, monkeypatch: pytest.MonkeyPatch, stranger: FlowStat
) -> None:
    """An operator who looks at a switch would end the controller."""
    session = session_of(switches)
    said = session.read_flows(1.0)
    before = view_of(switches).flows(world.DPID, Asked())
    assert before["flows"] and before["more"] == 0

    def read_flows(*_: Any, **__: Any) -> list[FlowStat]:
        return [stranger, *(stat._replace(table=200, priority=60000, match=b"\xff") for stat in said)]

    monkeypatch.setattr(session, "read_flows", read_flows)
    after = view_of(switches).flows(world.DPID, Asked())
    assert after["flows"] == before["flows"], "of its own flows, too, only the counters are the switch's word"
    assert not session.closed


def test_the_flows_of_one_owner(switches: Switches) -> None:
    """Whoever asks for a service's flows would get all."""
    found = view_of(switches).flows(world.DPID, Asked(owner=OWNER))["flows"]
    assert found and {owner for flow in found for owner in flow["owners"]} == {"service:default:app-svc"}
