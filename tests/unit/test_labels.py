"""Containers' labels that are for netctl: a wrong one is shown where its user looks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.rest_kit import Rest
from topology.options import label_troubles

RANGE = "must be a whole number from 1 to 100"


@pytest.fixture
def rest() -> Iterator[Rest]:
    made = Rest()
    made.network()
    yield made
    made.close()


@pytest.mark.parametrize("value", ["900", "101", "0", "-1", "2.5", "", "heavy", "\u0663", "1e1", " 3"])
def test_a_weight_that_is_none(value: str) -> None:
    """A provider that was to get more connections gets as many as the others, and nobody is told why."""
    (line,) = label_troubles((("a", "b"), ("netctl.weight", value)))
    assert line.startswith("label netctl.weight=") and line.endswith(f" counts as 1: {RANGE}")


@pytest.mark.parametrize("value", ["1", "100", "007"])
def test_a_weight_that_is_right(value: str) -> None:
    """Good labels would be reported as bad."""
    assert not label_troubles((("a", "b"), ("netctl.weight", value), ("org.netctl.x", "y"), ("netctl", "z")))


def test_a_mistyped_label(rest: Rest) -> None:
    """A label with a mistake in its name has no effect, and nobody is told."""
    (line,) = label_troubles((("netctl.wieght", "3"),))
    assert line == "label netctl.wieght is unknown and has no effect: known is netctl.weight"


def test_where_it_is_shown(rest: Rest) -> None:
    """The user looks at the service, or at the container."""
    rest.service(selectors=["app=web"])
    rest.endpoint("e1", containerName="/p1", labels={"app": "web", "netctl.weight": "900"})
    rest.endpoint("e2", containerName="/p2", portName="p2", labels={"app": "web", "netctl.weight": "9"})
    line = f"label netctl.weight=900 counts as 1: {RANGE}"
    (service,) = rest.call("GET", "/serviceLBs/")
    assert service["labelErrors"] == [f"p1: {line}"]
    one, two = rest.call("GET", f"/inspect/serviceLBs/{service['key']}/")["Oper"]["providers"]
    assert (one["labelErrors"], one["weight"], "labelErrors" in two) == ([line], 1, False)
    assert rest.call("GET", "/inspect/endpoints/p1/")["Oper"]["labelErrors"] == [line]
    rest.call("PUT", f"/serviceLBs/{service['key']}/", service)
    endpoint = rest.call("GET", "/endpoints/e1/")
    assert endpoint["labelErrors"] == [line]
    rest.call("PUT", "/endpoints/e1/", endpoint)
