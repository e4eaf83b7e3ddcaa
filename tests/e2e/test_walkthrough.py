"""The walk-through with containers, and the death of each part while a client goes on asking."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from tests.e2e.machine import PREFIX, Machine, run, wait_for
from tests.e2e.node import Node
from tests.kit.hosts import Namespace
from tests.kit.loop import Loop, asking

VIP = "100.1.1.1"
LABELS = ("--label=tier=web", "--label=release=stable", "--label=environment=prod")
SELECTORS = ("--selector=tier=web", "--selector=release=stable", "--selector=environment=prod")
PROVIDERS = ("p1", "p2", "p3", "p4")


class Inside(Namespace):
    """A container's network namespace, under a name of ours while the block lasts."""

    def __init__(self, host: Node, container: str, address: str) -> None:
        super().__init__(container, f"{PREFIX}{os.getpid()}-{container}", address)
        self._pid = host.docker("inspect", container, "--format", "{{.State.Pid}}")

    def __enter__(self) -> Inside:
        run("ip", "netns", "attach", self.netns, self._pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_serving()
        run("ip", "netns", "delete", self.netns)


def create_service(host: Machine, *more: str) -> None:
    """As in the walk-through, with ``more`` options."""
    options = ("--network", "srv-net", "--tenant", "default", *SELECTORS, "--port", "8080:80:TCP", *more)
    said = host.netctl("service", "create", "app-svc", *options)
    assert said == "Creating ServiceLB default:app-svc"


def providers(host: Node) -> str:
    """The column of `netctl service ls`: healthy/all."""
    return host.netctl("service", "ls").splitlines()[-1].split()[5]


@pytest.fixture
def nets(host: Node) -> Node:
    """The three networks."""
    host.netctl("net", "create", "srv-net", "-s", "100.1.1.0/24")
    host.netctl("net", "create", "web-net", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    host.netctl("net", "create", "cli-net", "-s", "20.1.1.0/24", "-g", "20.1.1.254")
    return host


@pytest.fixture
def four(nets: Node) -> Iterator[Node]:
    """The service over four providers that answer with their names."""
    create_service(nets)
    inside = []
    try:
        for name in PROVIDERS:
            made = Inside(nets, name, nets.container(name, "web-net", *LABELS, f"--label=version={name}"))
            inside.append(made.__enter__())
            made.serve("tcp:80")
        wait_for(lambda: providers(nets) == "4/4", "four providers")
        yield nets
    finally:
        for made in inside:
            made.__exit__()
        nets.netctl("service", "rm", "app-svc", check=False)


@pytest.fixture
def client(four: Node) -> Iterator[Inside]:
    """A container of the client network."""
    with Inside(four, "client", four.container("client", "cli-net")) as made:
        yield made


def test_connections_spread_over_all_providers(four: Node, client: Inside) -> None:
    """Else the walk-through does not work: the VIP is closed, or a provider gets nothing."""
    found = client.who("tcp", VIP, 8080, times=40)
    assert set(found) == set(PROVIDERS)
    assert four.pings("client", VIP)
    assert four.pings("client", "20.1.1.254")


def test_providers_leave_and_join(four: Node, client: Inside) -> None:
    """Else connections go to containers that are no more, or a new one never gets any."""
    four.docker("rm", "-f", "p1", "p2")
    assert set(client.who("tcp", VIP, 8080, times=20)) == {"p3", "p4"}
    wait_for(lambda: providers(four) == "2/2", "two providers")
    address = four.container("p5", "web-net", *LABELS)
    with Inside(four, "p5", address) as fifth:
        fifth.serve("tcp:80")
        wait_for(lambda: providers(four) == "3/3", "three providers")
        assert set(client.who("tcp", VIP, 8080, times=40)) == {"p3", "p4", "p5"}


def test_containers_first_then_the_service(nets: Node) -> None:
    """Else containers older than a service never provide for it."""
    address = nets.container("old", "web-net", *LABELS)
    nets.container("other", "web-net", *LABELS[:2])
    with Inside(nets, "old", address) as old, Inside(nets, "other", "") as other:
        old.serve("tcp:80")
        wait_for(lambda: nets.endpoints()["old"].get("labels"), "its labels")
        create_service(nets)
        try:
            assert providers(nets) == "1/1"
            assert other.ask("tcp", VIP, 8080).startswith("old ")
        finally:
            nets.netctl("service", "rm", "app-svc")


def test_a_paused_provider_gets_no_connections(four: Node, client: Inside) -> None:
    """Else every fourth connection hangs while a container is paused."""
    four.docker("pause", "p1")
    wait_for(lambda: providers(four) == "3/4", "p1 to be out")
    assert "p1" not in client.who("tcp", VIP, 8080, times=20)
    four.docker("unpause", "p1")
    wait_for(lambda: providers(four) == "4/4", "p1 to be in")


def mods(host: Node) -> tuple[int, int]:
    """How many flow and group mods the controller has sent since it started."""
    (switch,) = json.loads(host.rest("/api/v1/switches/"))
    return switch["flowMods"], switch["groupMods"]


def connected(host: Node) -> bool:
    """Whether controller and switch are in touch, and have nothing left to do."""
    found = json.loads(host.rest("/api/v1/switches/", check=False) or "[]")
    return bool(found) and found[0]["settled"]


def goes_on(loop: Loop) -> None:
    """Not one question was left without an answer."""
    loop.wait_for_more()
    assert not loop.failures


def test_controller_killed(four: Node, client: Inside) -> None:
    """Else a controller's death or return is felt by traffic, or it rewrites what is right already."""
    with asking(client, "tcp", VIP, 8080) as loop:
        loop.wait_for_more()
        four.kill("controller")
        loop.wait_for_more(20)
        four.start_controller()
        wait_for(lambda: connected(four), "the switch to connect")
        goes_on(loop)
    assert mods(four) == (0, 0)


def test_agent_killed(four: Node, client: Inside) -> None:
    """Else an agent's death or return is felt by traffic."""
    with asking(client, "tcp", VIP, 8080) as loop:
        loop.wait_for_more()
        four.kill("agent")
        loop.wait_for_more(20)
        four.start_agent()
        goes_on(loop)
    assert providers(four) == "4/4"


def test_docker_killed(four: Node, client: Inside) -> None:
    """Else a death of Docker's daemon (with live restore) is felt by traffic, or providers are lost at its return."""
    with asking(client, "tcp", VIP, 8080) as loop:
        loop.wait_for_more()
        four.kill("dockerd")
        loop.wait_for_more(20)
        four.start_docker()
        wait_for(lambda: four.endpoints().get("p1", {}).get("state") == "running", "p1 to be running", 60)
        goes_on(loop)
    assert providers(four) == "4/4"


def test_switch_killed(four: Node, client: Inside) -> None:
    """Else services stay away after a death of the switch: it comes back empty and must be filled at once."""
    with asking(client, "tcp", VIP, 8080, patience=0.5) as loop:
        loop.wait_for_more()
        four.kill("ovs-vswitchd")
        four.start_vswitchd()
        back = time.monotonic()
        loop.wait_for_more(20)
        first = next(at for at, _ in loop.answers if at > back)
        failed = [at for at, _ in loop.failures if at > first]
    assert first - back < 3
    assert not failed
    assert set(client.who("tcp", VIP, 8080, times=40)) == set(PROVIDERS)
