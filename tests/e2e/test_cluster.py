"""Three Docker hosts and one service over them; hosts come, go and are emptied."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e import node as kit
from tests.e2e.cluster import Cluster, Member
from tests.e2e.node import IMAGE, wait_for
from tests.e2e.test_walkthrough import LABELS, VIP, Inside, create_service
from tests.kit.hosts import ask_again
from tests.kit.loop import asking

LEAVES = 10.0  # s within which the providers of a host that is gone get no new connections
STARTS = int(os.environ.get("NETCTL_CLUSTER_STARTS", "12"))  # containers a host in the test of starts at once


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    """The cluster, for all tests here."""
    kit.sweep()
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@dataclass
class Stage:
    """The service over one provider a host, and a client on each of the first two."""

    cluster: Cluster
    inside: dict[str, Inside] = field(default_factory=dict)

    def start(self, member: Member, name: str, network: str, *options: str) -> Inside:
        """A container, with a way into it."""
        return self.enter(member, name, member.container(name, network, "--restart=always", *options))

    def enter(self, member: Member, name: str, address: str) -> Inside:
        """The way into a container."""
        self.inside[name] = Inside(member, name, address).__enter__()
        return self.inside[name]

    @property
    def clients(self) -> tuple[Inside, Inside]:
        """One on the first host, one on the second."""
        return self.inside["c1"], self.inside["c2"]

    def providers(self) -> str:
        """Healthy ones and all, as `netctl service ls` shows them."""
        return str(self.cluster.underlay.netctl("service", "ls").splitlines()[-1].split()[5])

    def answering(self, client: str = "c1", times: int = 30) -> set[str]:
        """Who answers connections to the VIP."""
        return set(self.inside[client].who("tcp", VIP, 8080, times))

    def host(self, name: str) -> dict[str, Any]:
        """What `netctl host ls` knows of a host."""
        listed: list[dict[str, Any]] = json.loads(self.cluster.underlay.netctl("host", "ls", "-j"))
        return next(doc for doc in listed if doc["hostName"] == name)

    def endpoint(self, name: str) -> dict[str, Any]:
        """A container's endpoint in the model; empty: there is none."""
        return self.cluster.underlay.endpoints().get(name, {})

    def switches(self) -> list[dict[str, Any]]:
        """The connected switches."""
        found: list[dict[str, Any]] = json.loads(self.cluster.underlay.rest("/api/v1/switches/", check=False) or "[]")
        return found

    def all_settled(self) -> bool:
        """Whether every switch is connected and carries out the model."""
        found = self.switches()
        return len(found) == len(self.cluster.members) and all(switch["settled"] for switch in found)


@pytest.fixture
def stage(running: Cluster, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Everything runs, and at the end nothing is left of what the test made."""
    before = request.session.testsfailed
    under = running.underlay
    for name, subnet in (("srv-net", "100.1.1.0/24"), ("web-net", "10.1.1.0/24"), ("cli-net", "20.1.1.0/24")):
        gateway = () if name == "srv-net" else ("-g", subnet.replace(".0/24", ".254"))
        under.netctl("net", "create", name, "-s", subnet, *gateway)
    create_service(under)
    made = Stage(running)
    try:
        for number, member in enumerate(running.members, 1):
            made.start(member, f"p{number}", "web-net", *LABELS).serve("tcp:80", "udp:53")
        for number, member in enumerate(running.members[:2], 1):
            made.start(member, f"c{number}", "cli-net")
        wait_for(lambda: made.providers() == "3/3", "three providers")
        wait_for(made.all_settled, "the switches")
        yield made
    finally:
        if request.session.testsfailed > before:
            for part in (under, *running.members):
                for name in ("controller",) if part is under else ("agent", "dockerd"):
                    print(part.name, part.log(name)[-6000:])
        for one in made.inside.values():
            one.__exit__()
        for member in running.members:
            containers = member.docker("ps", "-aq").split()
            if containers:
                member.docker("rm", "-f", *containers)
        for name in ("app-svc", "dns"):
            under.netctl("service", "rm", name, check=False)
        wait_for(lambda: not under.endpoints(), "every endpoint to be gone")
        for name in ("cli-net", "web-net", "srv-net"):
            under.netctl("net", "rm", name, check=False)
        for member in running.members:
            wait_for(lambda m=member: not m.ports() and not m.links(), "every port and veth to be gone")  # type: ignore[misc]
            assert not member.docker_networks()


def test_clients_and_providers_on_different_hosts(stage: Stage) -> None:
    """Else the walk-through works on one host only."""
    for client in stage.clients:
        assert stage.answering(client.name) == {"p1", "p2", "p3"}
        assert client.pings(VIP)
        for provider in ("p1", "p2", "p3"):
            there = stage.inside[provider]
            assert client.pings(there.ip)
            said = client.ask("tcp", there.ip, 80).split()
            assert said[:2] == [provider, client.ip], "straight to it, with the source address kept"
    first, second, third = (stage.inside[name] for name in ("p1", "p2", "p3"))
    assert first.pings(second.ip) and third.pings(first.ip), "neighbours of one network"
    assert set(third.who("tcp", VIP, 8080, 30)) == {"p1", "p2", "p3"}, "a provider is a client as well"


def test_the_first_packet_to_another_host(stage: Stage) -> None:
    """Else the first connection between two hosts takes a second, and a first datagram is lost."""
    first, second, third = stage.cluster.members
    first.kill("ovs-vswitchd")
    first.start_vswitchd()
    wait_for(lambda: stage.clients[0].pings(VIP), "the switch to be filled again")
    wait_for(lambda: {second.ip, third.ip} <= first.neighbours(), "the agent to have had them looked up")
    for name in ("p2", "p3"):
        assert stage.clients[0].ask("udp", stage.inside[name].ip, 53, timeout=0.9).startswith(name)


def test_large_packets_fit_into_the_tunnel(stage: Stage) -> None:
    """Else connections open and then hang, at the first full packet."""
    client, far = stage.clients[0], stage.inside["p2"]
    member = stage.cluster.members[0]
    assert "mtu 1450" in member.docker("exec", "c1", "ip", "link", "show", "eth0")
    assert stage.host("h1")["mtu"] == 1450
    assert member.vsctl("get", "interface", "br-netctl", "mtu_request") == "1450", "what the host sends itself"
    assert client.pings(far.ip, "-M", "do", "-s", str(1450 - 28))
    with client.connect("tcp", far.ip, 80) as connection:
        connection.sendall(b"x" * 200_000 + b"\n")
        assert ask_again(connection).startswith("p2 ")
    with client.connect("udp", far.ip, 53) as datagrams:
        assert ask_again(datagrams, 4000).startswith("p2 "), "in fragments"


def test_a_host_that_is_switched_off(stage: Stage) -> None:
    """Else every third connection hangs for as long as the host is away; when it is back, it gets its share again."""
    member = stage.cluster.members[2]
    client = stage.clients[0]
    dns = ("--network=srv-net", "--selector=tier=web", "--port=53:53:UDP", "--preferred-ip=100.1.1.9")
    stage.cluster.underlay.netctl("service", "create", "dns", *dns)
    datagrams = [client.connect("udp", "100.1.1.9", 53) for _ in range(12)]
    assert any(ask_again(one).startswith("p3 ") for one in datagrams)
    with asking(client, "tcp", VIP, 8080, patience=1.0) as loop:
        loop.wait_for_more()
        member.die()
        died = time.monotonic()
        wait_for(lambda: stage.providers() == "2/3", "the provider to be out", LEAVES)
        wait_for(lambda: time.monotonic() > died + LEAVES, "the time to be over", LEAVES + 5)
        loop.wait_for_more(20)
    late = [at for at, _ in loop.failures if at > died + LEAVES]
    assert not late, [at - died for at in late]
    answers = {answer.split()[0] for at, answer in loop.answers if at > died + LEAVES}
    assert answers == {"p1", "p2"}
    assert {ask_again(one).split()[0] for one in datagrams} == {"p1", "p2"}, "who was at a dead one is moved"
    for one in datagrams:
        one.close()
    stage.cluster.underlay.netctl("service", "rm", "dns")
    document = stage.host("h3")
    assert document["state"] == "down"
    assert "its switch does not answer" in document["reason"]
    before = stage.endpoint("p3")["endpointID"]
    stage.inside["p3"].__exit__()
    member.rise()
    wait_for(lambda: stage.endpoint("p3").get("endpointID", before) != before, "the container's next life")
    wait_for(lambda: stage.endpoint("p3").get("state") == "running", "the container")
    stage.enter(member, "p3", member.address("p3", "web-net")).serve("tcp:80", "udp:53")
    wait_for(lambda: stage.providers() == "3/3", "the provider to be in again")
    # it has another MAC now, as a host that was replaced
    wait_for(lambda: client.reaches("tcp", stage.inside["p3"].ip, 80), "the host to be found again", 10)
    wait_for(lambda: "p3" in stage.answering(times=10), "the provider to answer")
    assert stage.host("h3")["state"] == "up"
    assert stage.answering("c2") == {"p1", "p2", "p3"}


def test_a_wire_that_is_cut(stage: Stage) -> None:
    """Else a host that nobody reaches gets connections; or its own clients, who reach it still, lose it."""
    member = stage.cluster.members[1]
    near, far = stage.clients[0], stage.clients[1]
    stage.cluster.underlay.cut(member)
    try:
        wait_for(lambda: stage.providers() == "2/3", "the provider to be out", LEAVES)
        assert stage.answering() == {"p1", "p3"}
        assert far.ask("tcp", stage.inside["p2"].ip, 80).startswith("p2 "), "what is on one host goes on"
    finally:
        stage.cluster.underlay.cut(member, cut=False)
    wait_for(lambda: stage.providers() == "3/3", "the provider to be in again")
    wait_for(stage.all_settled, "the switches")
    wait_for(lambda: near.reaches("tcp", stage.inside["p2"].ip, 80), "the host to be found again", 10)
    wait_for(lambda: "p2" in near.who("tcp", VIP, 8080, 10), "the provider to answer")
    assert stage.answering("c2") == {"p1", "p2", "p3"}


def test_a_controller_that_is_away_removes_nobody(stage: Stage) -> None:
    """Else a restart of the controller empties the services, or is felt by traffic between hosts."""
    under = stage.cluster.underlay
    with asking(stage.clients[0], "tcp", VIP, 8080) as loop:
        loop.wait_for_more()
        under.kill("controller")
        loop.wait_for_more(20)
        under.start_controller()
        wait_for(stage.all_settled, "the switches to connect")
        back = time.monotonic()
        wait_for(lambda: time.monotonic() > back + 7, "the time after which somebody may be dead", 10)
        loop.wait_for_more()
    assert not loop.failures
    assert stage.providers() == "3/3"
    assert [(s["flowMods"], s["groupMods"]) for s in stage.switches()] == [(0, 0)] * 3


def test_a_host_is_emptied(stage: Stage) -> None:
    """Else a host can't be taken out of service without cutting connections."""
    under, client = stage.cluster.underlay, stage.clients[1]
    opened = client.connect("tcp", stage.inside["p1"].ip, 80)
    through = [client.connect("tcp", VIP, 8080) for _ in range(24)]
    try:
        to_p1 = [one for one in through if ask_again(one).startswith("p1 ")]
        assert to_p1
        assert under.netctl("host", "drain", "h1") == "Draining host h1"
        assert stage.host("h1")["state"] == "draining"
        assert stage.providers() == "2/3"
        for name in ("c1", "c2"):
            assert stage.answering(name) == {"p2", "p3"}
        for one in (opened, *to_p1):
            assert ask_again(one).startswith("p1 "), "what is open goes on"
        stage.cluster.members[0].kill("agent", signal.SIGTERM)
        stage.cluster.members[0].start_agent()
        assert stage.answering() == {"p2", "p3"}, "also after its agent has registered it again"
        under.netctl("host", "undrain", "h1")
        assert stage.providers() == "3/3"
        assert stage.answering() == {"p1", "p2", "p3"}
    finally:
        for one in (opened, *through):
            one.close()


def test_starts_and_stops_on_two_hosts_at_once(stage: Stage) -> None:
    """Else two hosts give one address to two containers, or addresses leak with every start."""
    under = stage.cluster.underlay
    failed: list[str] = []
    addresses: dict[str, list[str]] = {}

    def churn(member: Member) -> None:
        try:
            for count in range(STARTS):
                name = f"{member.host}-{count}"
                member.docker("run", "-d", "--name", name, "--net=web-net", IMAGE, "sleep", "3600")
                addresses.setdefault(member.address(name, "web-net"), []).append(name)
                if count % 2:
                    member.docker("rm", "-f", f"{member.host}-{count - 1}")
        except Exception as error:  # noqa: BLE001 - the test shows it
            failed.append(f"{member.host}: {error}")

    pair = stage.cluster.members[:2]
    began = time.monotonic()
    threads = [threading.Thread(target=churn, args=(member,)) for member in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    took = time.monotonic() - began
    assert not failed
    print(f"{2 * STARTS} containers in {took:.1f} s")
    held = [doc["ipAddress"][0] for doc in json.loads(under.rest("/api/v1/endpoints/"))]
    assert len(set(held)) == len(held)
    for names in addresses.values():
        assert len(names) == 1, f"{names} had one address within a minute"
    for member in pair:
        member.docker("rm", "-f", *(f"{member.host}-{count}" for count in range(1, STARTS, 2)))
    wait_for(lambda: len(json.loads(under.rest("/api/v1/endpoints/"))) == 5, "the endpoints to be gone")
    oper = json.loads(under.netctl("net", "inspect", "web-net"))["Oper"]
    assert oper["allocatedAddressesCount"] == 3, "one a provider"
