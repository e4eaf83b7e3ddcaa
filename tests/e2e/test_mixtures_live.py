"""Containers that join and leave networks while they are used, and what survives which restart."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.machine import wait_for
from tests.e2e.mixture import WORLD, Mixture, mixture
from tests.e2e.node import IMAGE, Node
from tests.kit.hosts import Namespace, ask_again


@pytest.fixture
def mixed(host: Node) -> Iterator[Mixture]:
    """The networks, the service, a client."""
    with mixture(host) as made:
        yield made


class Asking:
    """A client that keeps asking, by new connections and by one that stays open."""

    def __init__(self, client: Namespace, address: str) -> None:
        self._client = client
        self._address = address
        self._open: socket.socket = client.connect("tcp", address, 80)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answered = 0
        self.lost: list[str] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                ask_again(self._open)
                self._client.ask("tcp", self._address, 80)
                self._client.ask("udp", self._address, 53)
            except OSError as error:
                self.lost.append(f"after {self.answered}: {error}")
            else:
                self.answered += 1

    def more(self) -> None:
        """Wait for answers to what is begun from now on."""
        at = self.answered
        wait_for(lambda: self.lost or self.answered > at + 20, "answers")

    def __enter__(self) -> Asking:
        self._thread.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._open.close()


def test_networks_come_and_go_while_a_client_asks(mixed: Mixture) -> None:
    """Else `docker network connect` or `disconnect` breaks the connections that a container has, or loses new ones."""
    mixed.provider("p1", "front", datagrams="info")
    mixed.bridge("aaa")
    mixed.bridge("zzz")
    with Asking(mixed.client, mixed.vip) as four, Asking(mixed.client, mixed.vip6) as six:
        for what in ("connect", "disconnect"):
            for network in ("back", "aaa", "lone", "zzz", "closed"):
                mixed.host.docker("network", what, network, "p1")
                four.more()
                six.more()
    assert four.lost + six.lost == []
    mixed.answers(mixed.client, "p1")
    one = mixed.host.container("o1", "front")
    assert one
    assert len(mixed.rules("p1")) == len(mixed.rules("o1")), "what was for other networks is gone"


def test_an_agent_that_is_killed_and_a_controller_that_is_away(mixed: Mixture) -> None:
    """Else an update of the agent cuts containers off from some of their networks."""
    mixed.world()
    mixed.bridge("aaa")
    provider = mixed.provider("p1", "front", "back", connect=("aaa",))
    wait_for(lambda: provider.reaches("tcp", WORLD, 7), "the outside")
    mixed.answers(mixed.client, "p1")
    before, primary = mixed.rules("p1"), mixed.primary("p1")
    mixed.host.kill("agent")
    mixed.answers(mixed.client, "p1")
    mixed.host.start_agent()
    mixed.answers(mixed.client, "p1")
    assert (mixed.rules("p1"), mixed.primary("p1")) == (before, primary)
    # what changes while it is away
    mixed.host.kill("agent")
    mixed.host.docker("network", "disconnect", "aaa", "p1")
    mixed.host.kill("controller")
    mixed.host.start_agent(wait=False)
    wait_for(lambda: not any("172." in line for line in mixed.rules("p1")), "the rules of what is gone to be gone")
    assert provider.who("tcp", mixed.host.address("p1", "front"), 80) == ["p1"]
    mixed.host.start_controller()
    mixed.host.wait_for_agent()
    mixed.answers(mixed.client, "p1")
    mixed.answers_at(mixed.client, "p1", *mixed.addresses("p1", "front", "back"))


def test_docker_restarts(mixed: Mixture) -> None:
    """Else containers that live through it answer at one of their addresses alone, or not those that start after it."""
    mixed.provider("p1", "front", "back")
    before = mixed.rules("p1")
    mixed.host.kill("dockerd", signal.SIGTERM)
    mixed.answers(mixed.client, "p1")
    mixed.host.start_docker()
    wait_for(lambda: mixed.running("p1") == {"front", "back"}, "it to run")
    assert mixed.rules("p1") == before
    mixed.answers_at(mixed.client, "p1", *mixed.addresses("p1", "front", "back"))
    mixed.host.docker("network", "connect", "lone", "p1")
    friend = mixed.run("f1", "lone")
    mixed.answers_at(friend, "p1", *mixed.addresses("p1", "lone"))
    mixed.remove("p1")
    mixed.provider("p2", "front", "back")
    mixed.answers_at(mixed.client, "p2", *mixed.addresses("p2", "front", "back"))


def test_a_container_restarts(mixed: Mixture) -> None:
    """Else it answers at one address alone from then on, or loses what it asks for as its first thing."""
    mixed.bridge("aaa")
    mixed.provider("p1", "back")
    # its process asks before it does anything else
    first = f"echo x | nc -w 1 {mixed.vip} 80 >/tmp/first 2>&1; nc -ll -p 80 -e cat /tmp/first"
    mixed.host.docker("create", "--name", "c1", "--net=front", IMAGE, "sh", "-c", first)
    mixed.host.docker("network", "connect", "aaa", "c1")
    for command in ("start", "restart", "restart"):
        mixed.host.docker(command, *(("-t", "0") if command == "restart" else ()), "c1")
        address = mixed.host.address("c1", "front")
        wait_for(lambda: mixed.client.reaches("tcp", address, 80), "it to answer")  # noqa: B023 - at once
        assert mixed.rules("c1")


def test_two_tenants(mixed: Mixture) -> None:
    """Else a container in two tenants reaches one of them, or one at random where they have the same subnets."""
    mixed.host.netctl("tenant", "create", "blue")
    mixed.host.netctl("net", "create", "apart", "-t", "blue", "-s", "10.21.1.0/24", "-g", "10.21.1.254")
    mixed.host.netctl("net", "create", "far", "-t", "blue", "-s", "10.21.2.0/24", "-g", "10.21.2.254")
    both = mixed.provider("p1", "front", connect=("apart/blue",))
    friend = mixed.run("f1", "far/blue")
    friend.serve("tcp:80")
    assert both.who("tcp", friend.ip, 80) == ["f1"]
    assert friend.who("tcp", mixed.host.address("p1", "apart/blue"), 80) == ["p1"]
    mixed.answers(mixed.client, "p1")
    # a network that makes them overlap: the older one stays, and a user is told
    mixed.host.netctl("net", "create", "late", "-t", "blue", "-s", "10.11.3.0/24", "-g", "10.11.3.254")
    wait_for(lambda: "overlaps default:clients" in mixed.host.netctl("host", "inspect", mixed.host.host), "the line")
    mixed.answers(mixed.client, "p1")
    mixed.host.docker("network", "disconnect", "apart/blue", "p1")
    wait_for(lambda: "overlaps" not in mixed.host.netctl("host", "inspect", mixed.host.host), "the line to be gone")
    line = mixed.host.docker_error("network", "connect", "apart/blue", "p1")
    said = "network blue:late (10.11.3.0/24) overlaps network default:clients (10.11.3.0/24): a container can't be in"
    other = "network default:clients (10.11.3.0/24) overlaps network blue:late (10.11.3.0/24): a container can't be in"
    assert said in line or other in line
    assert mixed.running("p1") == {"front"}
    mixed.answers(mixed.client, "p1")


def test_containers_that_end_at_once(mixed: Mixture) -> None:
    """Else a container that has ended already when the agent looks is reported as an error, or ends the agent."""
    mixed.bridge("aaa")
    begun = len(mixed.host.log("agent"))
    for _ in range(5):
        mixed.host.docker("run", "--rm", "--net=front", IMAGE, "true")
        with contextlib.suppress(AssertionError):
            mixed.host.docker("create", "--name", "t1", "--net=front", IMAGE, "true")
        mixed.host.docker("network", "connect", "aaa", "t1")
        mixed.host.docker("start", "t1")
        mixed.host.docker("rm", "-f", "t1")
    said = mixed.host.log("agent")[begun:]
    assert not [line for line in said.splitlines() if " INFO " not in line], said
