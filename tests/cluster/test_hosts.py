"""Three Docker hosts and one service over them; hosts come, go and are emptied."""

from __future__ import annotations

import signal
import time

from tests.cluster.machines import OWN
from tests.cluster.stage import Stage
from tests.e2e.machine import wait_for
from tests.e2e.test_walkthrough import VIP, create_service
from tests.kit.hosts import Namespace, ask_again
from tests.kit.loop import asking

LEAVES = 10.0  # s within which the providers of a host that is gone get no new connections


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
    stage.cluster.netctl("service", "create", "dns", *dns)
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
    stage.cluster.netctl("service", "rm", "dns")
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


def test_a_port_that_all_hosts_publish(stage: Stage) -> None:
    """Else whoever comes from outside reaches the providers of one host only, or none of them sees who it is."""
    create_service(stage.cluster, "--publish", "8088:8080")
    outside = Namespace("outside", stage.cluster.name, OWN)
    for member in stage.cluster.members:
        wait_for(lambda m=member: outside.reaches("tcp", m.ip, 8088), f"{member.host} to publish it")  # type: ignore[misc]
        answers = [outside.ask("tcp", member.ip, 8088).split() for _ in range(40)]
        assert {name for name, _, _ in answers} == {"p1", "p2", "p3"}
        assert {seen for _, seen, _ in answers} == {OWN}
        with outside.connect("tcp", member.ip, 8088) as connection:
            connection.sendall(b"x" * 100_000 + b"\n")
            assert ask_again(connection).startswith("p"), "also more than fits one packet of the tunnel"
        itself = Namespace(member.host, member.name, member.ip)
        assert set(itself.who("tcp", "127.0.0.1", 8088, 30)) == {"p1", "p2", "p3"}, "the host itself, too"


def test_a_wire_that_is_cut(stage: Stage) -> None:
    """Else a host that nobody reaches gets connections; or its own clients, who reach it still, lose it."""
    member = stage.cluster.members[1]
    near, far = stage.clients[0], stage.clients[1]
    stage.cluster.cut(member)
    try:
        wait_for(lambda: stage.providers() == "2/3", "the provider to be out", LEAVES)
        assert stage.answering() == {"p1", "p3"}
        assert far.ask("tcp", stage.inside["p2"].ip, 80).startswith("p2 "), "what is on one host goes on"
    finally:
        stage.cluster.cut(member, cut=False)
    wait_for(lambda: stage.providers() == "3/3", "the provider to be in again")
    wait_for(stage.all_settled, "the switches")
    wait_for(lambda: near.reaches("tcp", stage.inside["p2"].ip, 80), "the host to be found again", 10)
    wait_for(lambda: "p2" in near.who("tcp", VIP, 8080, 10), "the provider to answer")
    assert stage.answering("c2") == {"p1", "p2", "p3"}


def test_controllers_that_are_away_remove_nobody(stage: Stage) -> None:
    """Else a restart of the controllers empties the services, or is felt by traffic between hosts."""
    with asking(stage.clients[0], "tcp", VIP, 8080) as loop:
        loop.wait_for_more()
        for manager in stage.cluster.controllers:
            manager.kill("controller")
        loop.wait_for_more(20)
        for manager in stage.cluster.controllers:
            manager.start_controller()
        wait_for(stage.all_settled, "the switches to connect")
        back = time.monotonic()
        wait_for(lambda: time.monotonic() > back + 7, "the time after which somebody may be dead", 10)
        loop.wait_for_more()
    assert not loop.failures
    assert stage.providers() == "3/3"
    assert [(s["flowMods"], s["groupMods"]) for s in stage.switches()] == [(0, 0)] * 3


def test_a_host_is_emptied(stage: Stage) -> None:
    """Else a host can't be taken out of service without cutting connections."""
    cluster, client = stage.cluster, stage.clients[1]
    opened = client.connect("tcp", stage.inside["p1"].ip, 80)
    through = [client.connect("tcp", VIP, 8080) for _ in range(24)]
    try:
        to_p1 = [one for one in through if ask_again(one).startswith("p1 ")]
        assert to_p1
        assert cluster.netctl("host", "drain", "h1") == "Draining host h1"
        assert stage.host("h1")["state"] == "draining"
        assert stage.providers() == "2/3"
        for name in ("c1", "c2"):
            assert stage.answering(name) == {"p2", "p3"}
        for one in (opened, *to_p1):
            assert ask_again(one).startswith("p1 "), "what is open goes on"
        stage.cluster.members[0].kill("agent", signal.SIGTERM)
        stage.cluster.members[0].start_agent()
        assert stage.answering() == {"p2", "p3"}, "also after its agent has registered it again"
        cluster.netctl("host", "undrain", "h1")
        assert stage.providers() == "3/3"
        assert stage.answering() == {"p1", "p2", "p3"}
    finally:
        for one in (opened, *through):
            one.close()
