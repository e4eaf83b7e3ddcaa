"""Containers that were sent a signal: who is leaving, who is back."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import cast

import pytest

from netctl.agent import draining as module
from netctl.agent.docker_api import Docker, DockerRefused, signal_number
from netctl.agent.draining import Draining
from netctl.agent.state import Container, LocalEndpoint, State
from tests.unit.agent_kit import wait_for

TERM, QUIT, HUP, KILL = 15, 3, 1, 9
RUNNING = Container("c1", state="running")


class FakeDocker:
    """One container, with its stop signal and stop timeout, and what it was sent before the agent's start."""

    def __init__(self) -> None:
        self.stops = (TERM, 10)
        self.past: dict[str, tuple[float, int]] = {}

    def stopping(self, container_id: str) -> tuple[int, int]:
        if container_id != "c1":
            raise DockerRefused("no such container", 404)
        return self.stops

    def last_signals(self, seconds: float) -> dict[str, tuple[float, int]]:
        return {key: (age, number) for key, (age, number) in self.past.items() if age <= seconds}


class World:
    """A host with one container."""

    def __init__(self) -> None:
        self.docker = FakeDocker()
        self.state = State("host")
        self.state.put_endpoint(LocalEndpoint("e1", "n", IPv4Address("10.1.1.1"), "", "c1"))
        self.survivors: list[Container] = []
        self.draining = Draining(self.state, cast(Docker, self.docker), self.survivors.append)
        self.draining.start()

    def listed(self) -> str:
        """Docker lists the container as running: what it is."""
        container = self.draining.seen(RUNNING)
        self.state.set_container(container)
        return container.state


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.draining.stop()


@pytest.mark.parametrize(
    ("stops", "number", "state"),
    [
        (TERM, TERM, "draining"),
        (TERM, HUP, "running"),
        (TERM, KILL, "running"),
        (QUIT, QUIT, "draining"),
        (QUIT, TERM, "running"),
    ],
)
def test_only_the_stop_signal_counts(world: World, stops: int, number: int, state: str) -> None:
    """Else a reload takes a provider out, or an image with a stop signal of its own is not drained."""
    world.docker.stops = (stops, 10)
    world.draining.signalled("c1", number)
    assert world.listed() == state
    world.draining.ended("c1")
    assert world.listed() == "running"
    world.draining.signalled("gone", number)


def test_paused_and_dead_ones_are_what_docker_says(world: World) -> None:
    """Else a container that died while it drained counts as alive."""
    world.draining.signalled("c1", TERM)
    for state in ("paused", "stopped", "created"):
        assert world.draining.seen(Container("c1", state=state)).state == state


def test_who_survives_is_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a container that ignores `docker kill -s TERM` never gets a connection again."""
    monkeypatch.setattr(module, "SURVIVED", 0.2)
    monkeypatch.setattr(module, "STOP_MARGIN", 0.0)
    world.docker.stops = (TERM, 0)
    world.draining.signalled("c1", TERM)
    assert world.listed() == "draining"
    wait_for(lambda: world.survivors, "it to be back")
    assert world.survivors == [RUNNING]
    assert world.listed() == "running"


def test_a_long_stop_timeout_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a container that may take ten minutes to stop gets connections again after five."""
    monkeypatch.setattr(module, "SURVIVED", 0.0)
    world.docker.stops = (TERM, 600)
    world.draining.signalled("c1", TERM)
    assert world.listed() == "draining"


def test_what_was_sent_before_the_start(world: World) -> None:
    """Else a restart of the agent sends new connections to a container that is being stopped."""
    world.docker.past = {"c1": (module.SURVIVED - 10, TERM), "gone": (1, TERM)}
    world.draining.catch_up({"c1"})
    assert world.listed() == "draining"


@pytest.mark.parametrize(
    ("name", "number"),
    [("15", 15), ("TERM", 15), ("SIGQUIT", 3), ("sigwinch", 28), ("SIGRTMIN+3", 37), ("RTMAX-14", 50), ("", 15)],
)
def test_names_of_signals(name: str, number: int) -> None:
    """Else nginx (SIGQUIT), httpd (SIGWINCH) or systemd (SIGRTMIN+3) are not drained."""
    assert signal_number(name) == number
