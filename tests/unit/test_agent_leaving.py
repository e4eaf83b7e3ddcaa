"""A running container leaves a network: the order in which its connections end, on this machine's kernel."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from netctl.agent import leaving
from netctl.agent.leaving import Leaving
from netctl.agent.sockdiag import Sockets
from netctl.agent.state import Container, LocalEndpoint, LocalNetwork, State
from netctl.agent.sync import Synchroniser
from netctl.client import NoConnection
from tests.kit.ovs import wait_for

OWN, ADDRESS = "/proc/self/ns/net", IPv4Address("127.0.0.79")


class Sync:
    """Takes down in which state an endpoint is told, and what its client has heard by then."""

    def __init__(self, state: State, client: socket.socket, error: Exception | None = None) -> None:
        self.told: list[tuple[str, str]] = []
        self._state, self._client, self._error = state, client, error

    def endpoint(self, endpoint_id: str) -> Future[None]:
        """As the real one's."""
        document = self._state.document(endpoint_id)
        assert document is not None
        self.told.append((document["state"], heard(self._client)))
        done: Future[None] = Future()
        if self._error is None:
            done.set_result(None)
        else:
            done.set_exception(self._error)
        return done


def heard(client: socket.socket) -> str:
    """What a client that only listens has heard of its connection."""
    try:
        return "its end" if not client.recv(1) else "data"
    except BlockingIOError:
        return "nothing"
    except ConnectionResetError:
        return "a reset"


@pytest.fixture
def state() -> State:
    made = State("h1")
    made.set_network(LocalNetwork("n1", "net", "default", "net", IPv4Network("127.0.0.0/24"), None))
    made.put_endpoint(LocalEndpoint("e1", "n1", ADDRESS, "02:00:00:00:00:01", "c1"))
    made.set_container(Container("c1", "web", state="running"))
    return made


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """Of a server at the endpoint's address, which keeps the connection open."""
    with (
        socket.create_server((str(ADDRESS), 0)) as server,
        socket.create_connection(server.getsockname(), 20) as made,
        server.accept()[0],
    ):
        made.setblocking(False)
        yield made


def leave(state: State, sync: Sync, files: list[str]) -> None:
    """The endpoint leaves."""
    Leaving(state, cast(Synchroniser, sync), lambda _: files).leave("e1")


@pytest.mark.parametrize("error", [None, NoConnection("http://c", "gone")], ids=["told", "controller away"])
def test_new_connections_go_elsewhere_before_open_ones_are_reset(
    state: State, client: socket.socket, error: Exception | None
) -> None:
    """Connections that begin meanwhile would get a provider that is about to have no interface."""
    sync = Sync(state, client, error)
    leave(state, sync, ["/proc/self/ns/none", OWN])
    assert sync.told == [("draining", "nothing")]
    wait_for(lambda: heard(client) == "a reset", "the client to hear of it")
    state.set_disconnecting("e1", False)
    assert cast(Any, state.document("e1"))["state"] == "running", "Docker has put it back"


def test_a_container_that_has_ended(state: State, client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `docker stop` would take a second longer."""
    monkeypatch.setattr(Sockets, "in_use", lambda _: False)
    sync = Sync(state, client)
    leave(state, sync, [OWN])
    assert (sync.told, heard(client)) == ([], "nothing")


@pytest.mark.parametrize("runs", [True, False], ids=["disconnected", "stopped"])
def test_the_switch_forwards_the_last_packets_first(
    state: State, client: socket.socket, monkeypatch: pytest.MonkeyPatch, *, runs: bool
) -> None:
    """Docker would take the port with the resets of a provider, or the last answers of one that stops."""
    monkeypatch.setattr(Sockets, "in_use", lambda _: runs)
    left = [300, 200, 100]
    asked = []

    def unread(interface: str) -> int:
        asked.append((interface, heard(client) if runs else ""))
        return left.pop() if left else 0

    monkeypatch.setattr(leaving, "unread", unread)
    leave(state, Sync(state, client), [OWN])
    assert [interface for interface, _ in asked] == ["nve1"] * 4, "until nothing is left"
    assert not runs or "a reset" in {what for _, what in asked}, "after the resets"


def test_a_switch_that_is_stuck(state: State, client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's command would hang."""
    monkeypatch.setattr(Sockets, "in_use", lambda _: False)
    monkeypatch.setattr(leaving, "unread", lambda _: 1)
    monkeypatch.setattr(leaving, "FORWARD_TIMEOUT", 0.05)
    leave(state, Sync(state, client), [OWN])


def test_a_kernel_that_cannot_reset(
    state: State, client: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Docker's command would fail; or clients hear nothing, and nobody know why."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Sockets, "reset", refuse)
    with caplog.at_level(logging.WARNING):
        leave(state, Sync(state, client), [OWN])
    assert "endpoint e1: its connections are not reset: [Errno 95] Operation not supported" in caplog.text
