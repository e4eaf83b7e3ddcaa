"""What an event of Docker's says, beside a listing that is older: Docker sends the event before it changes the list."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any
from unittest.mock import Mock

import pytest

from netctl.agent.events import Follower
from netctl.agent.state import Container, LocalEndpoint, State

CONTAINER = "c" * 64
LISTED = Container(CONTAINER, "old", {"tier": "web"}, state="running", health="starting")


@pytest.fixture
def state() -> State:
    made = State("h1")
    made.put_endpoint(LocalEndpoint("e1", "n1", IPv4Address("10.1.1.1"), "02:00:00:00:00:01", CONTAINER))
    made.set_container(LISTED)
    return made


def seen(state: State, action: str, **attributes: str) -> Container:
    """The container after such an event, while Docker lists it as it was before."""
    docker = Mock()
    docker.containers.return_value = [LISTED]
    ways = Mock()
    ways.look.return_value = set()
    parts: dict[str, Any] = dict.fromkeys(("sync", "registry", "networks", "ports", "memory"), Mock())
    follower = Follower(state=state, docker=docker, ways=ways, **parts)
    follower._draining = Mock(seen=lambda container: container)
    follower._event({"Type": "container", "Action": action, "Actor": {"ID": CONTAINER, "Attributes": attributes}})
    return state.containers[CONTAINER]


@pytest.mark.parametrize(
    ("action", "field", "value"),
    [
        ("rename", "name", "new"),
        ("kill", "name", "new"),
        ("die", "state", "stopped"),
        ("pause", "state", "paused"),
        ("health_status: healthy", "health", "healthy"),
    ],
)
def test_the_event_goes_before_the_listing(state: State, action: str, field: str, value: str) -> None:
    """Else a container has its old name, state or health for good: there is no further event."""
    assert getattr(seen(state, action, name="new"), field) == value


def test_a_name_without_an_end(state: State) -> None:
    """Else the controller refuses the container, and it gets no connections."""
    assert len(seen(state, "rename", name="x" * 10_000).name) == 255
