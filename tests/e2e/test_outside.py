"""Real containers and the world: a way out, published ports, and Docker's own rules beside ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.machine import PREFIX, run, wait_for
from tests.e2e.node import Node
from tests.e2e.test_walkthrough import Inside
from tests.kit.hosts import Namespace

IP, OUTSIDE_IP = "192.0.2.1", "192.0.2.9"
HOST = "169.254.0.1"


class Stage:
    """A machine outside, the host itself, a provider in a network without nat, and a client in one with it."""

    def __init__(self, host: Node, out: Namespace, provider: Inside, client: Inside) -> None:
        self.host = host
        self.out = out
        self.provider = provider
        self.client = client
        self.itself = Namespace("host", host.name, IP)

    def rules(self) -> str:
        """The host's rules."""
        tables = [run(*self.host.inside("iptables-save", "-t", table)) for table in ("filter", "nat")]
        return "\n".join(line for text in tables for line in text.splitlines() if line.startswith("-A"))

    def forwards(self) -> list[str]:
        """The rules of the built-in chain."""
        return [rule for rule in self.rules().splitlines() if rule.startswith("-A FORWARD ")]

    def works(self) -> None:
        """Out, in, and from the host."""
        assert self.client.ask("tcp", OUTSIDE_IP, 7).split()[:2] == ["out", IP]
        assert self.client.pings(OUTSIDE_IP)
        assert self.out.ask("tcp", IP, 80).split()[:2] == ["p1", OUTSIDE_IP]
        assert self.itself.ask("tcp", "127.0.0.1", 80).split()[:2] == ["p1", HOST]
        assert self.itself.ask("tcp", self.provider.ip, 80).split()[:2] == ["p1", HOST]
        assert not self.provider.reaches("tcp", OUTSIDE_IP, 7)
        assert not self.provider.reaches("tcp", HOST, 9999), "the controller's REST"


@pytest.fixture
def stage(host: Node) -> Iterator[Stage]:
    """Made as a user does, on a machine that forwards nothing."""
    run(*host.inside("sysctl", "-qw", "net.ipv4.ip_forward=0"))
    host.netctl("net", "create", "srv", "-s", "100.1.1.0/24")
    host.netctl("net", "create", "web", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    host.netctl("net", "create", "out", "-s", "20.1.1.0/24", "-g", "20.1.1.254", "--nat")
    publish = ("--port=8080:80:TCP", "--publish=80:8080")
    host.netctl("service", "create", "app", "--network=srv", "--selector=tier=web", *publish)
    name = f"{PREFIX}{os.getpid()}-out"
    with contextlib.ExitStack() as held:
        held.callback(host.netctl, "service", "rm", "app")
        run("ip", "netns", "add", name)
        held.callback(run, "ip", "netns", "delete", name)
        link = f"link add wan netns {host.name} type veth peer name eth0 netns {name}"
        run("ip", *link.split())
        held.callback(run, "ip", "-n", host.name, "link", "delete", "wan")
        for there, commands in (
            (host.name, [f"address add {IP}/24 dev wan", "link set wan up"]),
            (name, ["link set lo up", f"address add {OUTSIDE_IP}/24 dev eth0", "link set eth0 up"]),
        ):
            for command in commands:
                run("ip", "-n", there, *command.split())
        out = Namespace("out", name, OUTSIDE_IP)
        held.callback(out.stop_serving)
        out.serve("tcp:7")
        provider = held.enter_context(Inside(host, "p1", host.container("p1", "web", "--label=tier=web")))
        provider.serve("tcp:80")
        client = held.enter_context(Inside(host, "c1", host.container("c1", "out")))
        made = Stage(host, out, provider, client)
        wait_for(lambda: "--dport 80 " in made.rules(), "the port to be published")
        wait_for(lambda: out.reaches("tcp", IP, 80), "the provider to be there")
        yield made


def errors(host: Node) -> dict[str, str]:
    """What the host says is wrong, but for Open vSwitch's restarts: other tests kill it."""
    found = json.loads(host.netctl("host", "inspect", "agt-host"))["Oper"].get("errors", {})
    return {str(about): str(line) for about, line in found.items() if about != "Open vSwitch restarted"}


def test_a_way_out_and_in(stage: Stage) -> None:
    """Containers could not reach the world, nor the world what is published, by the commands that a user types."""
    stage.works()
    assert (stage.host.directory / "agent" / "forwarding").exists(), "`make down` turns off what was turned on"
    doc = json.loads(stage.host.netctl("host", "inspect", "agt-host"))
    assert doc["Oper"]["hostAddress"] == HOST
    assert not errors(stage.host)


def test_the_agent_is_killed(stage: Stage) -> None:
    """An update or crash of the agent would cut containers off, or leave its rules twice."""
    before = stage.rules()
    with stage.client.connect("tcp", OUTSIDE_IP, 7) as connection:
        stage.host.kill("agent")
        stage.works()
        stage.host.start_agent()
        connection.sendall(b"x\n")
        assert connection.recv(100)
    stage.works()
    assert stage.rules() == before


def test_docker_restarts(stage: Stage) -> None:
    """Docker writes rules of its own and drops what is not of its own networks: ours would be cut off."""
    policy = stage.host.inside("iptables", "-P", "FORWARD")
    run(*policy, "DROP")  # as Docker sets it where it has turned on forwarding itself
    try:
        for _ in range(2):
            stage.host.kill("dockerd", signal.SIGTERM)
            stage.host.start_docker("--iptables=true")
            if "other" not in stage.host.docker("network", "ls"):
                stage.host.docker("network", "create", "other")
            assert "-A FORWARD -j DOCKER-USER" in stage.rules()
            stage.works()
        wait_for(lambda: stage.forwards()[0] == "-A FORWARD -j NETCTL-FORWARD", "ours to be the first")
        ours = [line for line in stage.rules().splitlines() if "NETCTL-" in line]
        assert len(ours) == len(set(ours)), "none twice"
        stage.host.container("d1", "other")
        assert not stage.host.pings("d1", stage.provider.ip), "another network's containers would be let in"
        assert not stage.host.pings("d1", stage.client.ip)
    finally:
        stage.host.docker("rm", "-f", "d1", check=False)
        stage.host.docker("network", "rm", "other", check=False)
        run(*policy, "ACCEPT")
        stage.host.kill("dockerd", signal.SIGTERM)
        stage.host.start_docker()


def test_a_port_that_is_taken(stage: Stage) -> None:
    """A user would wonder why a published port answers with something else."""
    stage.itself.serve("tcp:81")
    try:
        options = ("--network=srv", "--selector=tier=web", "--port=8080:80:TCP")
        stage.host.netctl("service", "create", "app", *options, "--publish=80:8080", "--publish=81:8080")

        wait_for(lambda: errors(stage.host), "the host to say so")
        assert errors(stage.host).keys() == {"publish 81/TCP"}
        assert "in use on this host, not taken over" in errors(stage.host)["publish 81/TCP"]
        stage.works()
        stage.host.netctl("service", "create", "app", *options, "--publish=80:8080")
        wait_for(lambda: not errors(stage.host), "it to be well again")
    finally:
        stage.itself.stop_serving()
