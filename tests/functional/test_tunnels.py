"""Containers on two hosts: two Open vSwitches with a conntrack each, joined by VXLAN over an underlay of their own.

What both families have; IPv6's own is in `test_tunnels6`.
"""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.kit.frames import ROUTER, arp_request
from tests.kit.hosts import Host, ask_again
from tests.kit.nodes import MTU
from tests.kit.ovs import run, wait_for
from tests.kit.pair import FAR_VIP, SERVE, VIP, World
from tests.kit.private_ovs import Private
from tests.kit.wide import of_family
from topology.answers import TraceDoc

# sizes of the headers of a datagram, and of an echo request
HEADERS = {4: 28, 6: 48}
# linux/in.h, linux/in6.h: nothing is sent in fragments
DISCOVER = {4: (socket.IPPROTO_IP, 10, 2), 6: (socket.IPPROTO_IPV6, 23, 2)}


def test_containers_of_two_hosts_reach_each_other(world: World, version: int) -> None:
    """If it fails: a container reaches those on its own host only."""
    for source, target in (("c1", "o2"), ("o2", "c1"), ("w1", "o2"), ("o2", "w1"), ("c1", "c2"), ("n1", "o2")):
        one, other = world[source], world[target]
        assert one.pings(other.address(version)), f"{source} → {target}"
        for kind, port in (("tcp", 22), ("udp", 99)):
            assert one.ask(kind, other.address(version), port).split()[:2] == [target, one.address(version)]


@pytest.mark.parametrize(("client", "kind", "port"), [("c1", "tcp", 8080), ("c2", "tcp", 8080), ("c1", "udp", 53)])
def test_all_providers_answer(world: World, version: int, client: str, kind: str, port: int) -> None:
    """If it fails: a service has the providers of one host only."""
    asking, vip = world[client], of_family(version, VIP)
    answers = [asking.ask(kind, vip, port).split() for _ in range(40)]
    assert {name for name, _, _ in answers} == {"w1", "w2", "w3"}
    assert {seen for _, seen, _ in answers} == {asking.address(version)}, "the provider sees who its client is"
    assert asking.pings(vip)


def test_a_provider_of_another_host_and_its_own_vip(world: World, version: int) -> None:
    """If it fails: a provider that uses its own service gets no answer: from itself, or from those elsewhere."""
    asking, vip = world["w2"], of_family(version, VIP)
    for kind, port in (("tcp", 8080), ("udp", 53)):
        answers = [asking.ask(kind, vip, port).split() for _ in range(40)]
        assert {name for name, _, _ in answers} == {"w1", "w2", "w3"}
        assert {seen for name, seen, _ in answers if name == "w2"} == {vip}
        assert {seen for name, seen, _ in answers if name != "w2"} == {asking.address(version)}


def test_straight_to_a_provider_on_another_host_beside_its_vip(world: World, version: int) -> None:
    """If it fails: a client with a connection to a VIP can't reach a provider beside it: the answers look alike."""
    client = world["c1"]
    own = client.address(version)
    for kind, port, target in (("tcp", 8080, 80), ("udp", 53, 5353)):
        with client.connect(kind, of_family(version, FAR_VIP), port, source_port=6000) as vip:
            name = ask_again(vip).split()[0]
            with client.connect(kind, world[name].address(version), target, source_port=6000) as straight:
                for _ in range(5):
                    assert ask_again(straight).split()[:2] == [name, own]
                    assert ask_again(vip).split()[:2] == [name, own]


def tracked(instance: Private, version: int) -> list[str]:
    """The connections through VIPs that a host's switch knows of."""
    return [line for line in instance.conntrack() if of_family(version, VIP)[:-1] in line]


def test_a_connection_is_tracked_at_the_clients_host_alone(world: World, version: int) -> None:
    """If it fails: each connection costs twice, and what one host forgets the other still translates."""
    world.flush()
    with contextlib.ExitStack() as stack:
        for kind, port in (("tcp", 8080), ("udp", 53)):
            connection = stack.enter_context(world["c1"].connect(kind, of_family(version, FAR_VIP), port))
            for _ in range(3):
                assert ask_again(connection).split()[0] in ("w2", "w3")
        assert len(tracked(world.a.instance, version)) == 2
        assert world.b.instance.conntrack() == []


@pytest.mark.parametrize("size", [MTU, 3000, 20000])  # the first one with its headers
def test_a_datagram_larger_than_the_mtu(world: World, version: int, size: int) -> None:
    """If it fails: large answers (of a name server, say) and requests are lost between hosts."""
    size -= HEADERS[version] if size == MTU else 0
    for _ in range(3):
        with world["c1"].connect("udp", of_family(version, FAR_VIP), 53) as vip:
            assert len({ask_again(vip, size).split()[0] for _ in range(3)} & {"w2", "w3"}) == 1
    with world["c1"].connect("udp", world["o2"].address(version), 99) as straight:
        assert ask_again(straight, size).split()[0] == "o2"


def test_providers_that_ask_each_other(world: World, version: int) -> None:
    """If it fails: large answers are lost where client and provider both serve: which is which, ports don't say."""
    for client, provider in (("w1", "w2"), ("w2", "w1"), ("w2", "w3")):
        with world[client].connect("udp", world[provider].address(version), 5353) as straight:
            for size in (5, 4000, 5, 4000):
                assert ask_again(straight, size).split()[0] == provider
    for client in ("w1", "w2"):
        for _ in range(10):
            with world[client].connect("udp", of_family(version, VIP), 53) as vip:
                assert len({ask_again(vip, size).split()[0] for size in (5, 4000, 5, 4000)}) == 1


def test_full_segments_pass(world: World, version: int) -> None:
    """If it fails: a connection opens, and hangs with its first full segment."""
    for address, port in ((of_family(version, FAR_VIP), 8080), (world["o2"].address(version), 22)):
        with world["c1"].connect("tcp", address, port) as connection:
            assert ask_again(connection, 40000).split()[0] in ("w2", "w3", "o2")


def test_what_does_not_fit_the_tunnel_is_told(world: World, version: int) -> None:
    """If it fails: path MTU discovery finds nothing out, and large packets are lost."""
    fits = MTU - HEADERS[version]
    for asking in (world["c1"], world.host):
        assert asking.pings(world["o2"].address(version), "-M", "do", "-s", str(fits))
        assert not asking.pings(world["o2"].address(version), "-M", "do", "-s", str(fits + 1))
        with asking.connect("udp", world["o2"].address(version), 99) as sender:
            sender.setsockopt(*DISCOVER[version])
            with pytest.raises(OSError, match="Message too long"):
                sender.send(b"x" * (fits + 1))


def test_a_closed_port_is_said(world: World, version: int) -> None:
    """If it fails: the client of a provider on another host waits where it would be told at once."""
    world["w2"].stop_serving()
    world["w3"].stop_serving()
    try:
        for kind, port, target in (("tcp", 8080, 80), ("udp", 53, 5353)):
            with pytest.raises(ConnectionRefusedError):
                world["c1"].ask(kind, of_family(version, FAR_VIP), port)
            with pytest.raises(ConnectionRefusedError):
                world["c1"].ask(kind, world["w2"].address(version), target)
    finally:
        world["w2"].serve(*SERVE)
        world["w3"].serve(*SERVE)


def shout(host: Host, text: bytes) -> None:
    """To all of the host's network."""
    with host.open("udp") as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(text, (f"{host.ip.rpartition('.')[0]}.255", 7))


def test_no_arp_leaves_a_host(world: World) -> None:
    """If it fails: each question for a neighbour goes to all hosts."""
    asker, other = world["w1"], world["o2"]
    run("ip", "-n", asker.netns, "neighbour", "flush", "dev", "eth0")
    with contextlib.closing(world.a.tap()) as tap:
        # announced, asked for, and not found
        with asker.open("raw") as wire:
            for target in (asker.ip, "10.1.1.254", "10.1.1.2", "10.1.1.77"):
                wire.send(arp_request(asker.mac, asker.ip, target))
        assert asker.pings(other.ip)
        for frame in tap.until(lambda frame: frame[12:14] == b"\x08\x00"):
            assert frame[12:14] != b"\x08\x06"


def test_broadcast_goes_to_hosts_that_have_the_network(world: World) -> None:
    """If it fails: a network's broadcast ends at the host's edge, or floods hosts that have nobody of it."""
    text = b"to all of web"
    ears = {n: world[n].ears(text) for n in ("w1", "w2", "o2", "c1", "c2")}
    shout(world["w3"], text)
    assert all(ears[n](3) for n in ("w1", "w2", "o2"))
    assert not any(ears[n](0) for n in ("c1", "c2")), "of another network"

    with contextlib.closing(world.a.tap()) as tap:
        shout(world["n1"], b"nobody of n1's is on b")
        assert world["n1"].pings(world["o2"].ip)
        own = bytes.fromhex(world["o2"].mac.replace(":", ""))
        for frame in tap.until(lambda frame: frame[:6] == own and frame[12:14] == b"\x08\x00"):
            assert frame[:6] != b"\xff" * 6


def test_what_is_for_another_host_itself_goes_there(world: World, version: int) -> None:
    """If it fails: a host is answered by the providers that it has itself; what those of other hosts say is lost."""
    address = world.host.address(version)
    with contextlib.closing(world.a.tap()) as tap:
        with world["w2"].open("udp", source_port=5300, version=version) as sender:
            sender.sendto(b"an answer", (address, 999))
        frame = tap.until(lambda frame: b"an answer" in frame)[-1]
    assert frame[:6] == bytes.fromhex(ROUTER.replace(":", "")), "as w2 has sent it: to the router, which a is as well"
    assert frame[22 if version == 4 else 21] == 64


def test_a_host_uses_services_of_others(world: World, version: int) -> None:
    """If it fails: what runs on a host itself reaches its own containers only."""
    for kind, port, straight in (("tcp", 8080, 22), ("udp", 53, 99)):
        vip = of_family(version, FAR_VIP)
        answers = [world.host.ask(kind, vip, port).split() for _ in range(20)]
        assert {name for name, _, _ in answers} == {"w2", "w3"}
        assert {seen for _, seen, _ in answers} == {world.host.address(version)}
        for name in ("w1", "o2"):
            assert world.host.ask(kind, world[name].address(version), straight).split()[0] == name


def trace_of(world: World, address: str, port: int) -> TraceDoc:
    """What is said of a connection from c1."""
    return world.control.client.trace({"from": "c1", "to": address, "proto": "tcp", "port": str(port)})


def trace(world: World, to: str, version: int = 4) -> TraceDoc:
    """What is said of a connection from c1 to a host."""
    return trace_of(world, world[to].address(version), 22)


def test_a_trace_names_the_other_host(world: World, version: int) -> None:
    """If it fails: a trace ends at the host's edge."""
    found = trace(world, "o2", version)
    assert found["verdict"] == "delivered"
    assert found["outcome"].endswith("on host b")


def test_a_restarted_controller_changes_nothing(world: World) -> None:
    """If it fails: each restart of the controller rewrites the ways between hosts."""
    world.control.restart()
    for node in (world.a, world.b):
        node.register(world.control)
        document = world.control.wait_for_switch(node.dpid)
        assert (document["flowMods"], document["groupMods"]) == (0, 0)


def test_a_provider_that_is_unplugged_on_another_host(world: World) -> None:
    """If it fails: while a host's agent is away, what dies there keeps its share of all other hosts' connections."""
    client, gone = world["c1"], world["w2"]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(client.connect("tcp", FAR_VIP, 8080)) for _ in range(12)]
        stays = next(one for one in opened if ask_again(one).startswith("w3 "))
        datagrams = [stack.enter_context(client.connect("udp", FAR_VIP, 53)) for _ in range(12)]
        assert any(ask_again(one).startswith("w2 ") for one in datagrams)
        gone.unplug()
        wait_for(lambda: client.answered_by({"w3"}, FAR_VIP, 8080, 20), "it to be passed over")
        assert {ask_again(one).split()[0] for one in datagrams} == {"w3"}, "who was at it is moved"
        step = next(one for one in trace_of(world, FAR_VIP, 8080)["steps"] if one["table"] == "balance")
        assert step["text"].endswith("w3 10.1.1.3 (weight 1, 100 %); not w2 (not plugged in)")
        gone.plug()
        wait_for(lambda: client.answered_by({"w2", "w3"}, FAR_VIP, 8080, 20), "it to be back")
        run("ip", "-n", gone.netns, "link", "set", "eth0", "down")
        wait_for(lambda: client.answered_by({"w3"}, FAR_VIP, 8080, 20), "one that is down to be passed over")
        run("ip", "-n", gone.netns, "link", "set", "eth0", "up")
        run("ip", "-n", gone.netns, "route", "replace", "default", "via", "10.1.1.254")
        wait_for(lambda: client.answered_by({"w2", "w3"}, FAR_VIP, 8080, 20), "it to be back")
        assert ask_again(stays).startswith("w3 "), "what goes elsewhere goes on"


def test_a_switch_that_restarts_under_open_connections_of_another_host(world: World) -> None:
    """If it fails: an upgrade of one host's Open vSwitch resets what other hosts' clients have open there."""
    client = world["c1"]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(client.connect("tcp", FAR_VIP, 8080)) for _ in range(6)]
        before = [ask_again(one).split()[0] for one in opened]
        world.b.restart_switch()
        world.control.wait_for_switch(world.b.dpid)
        wait_for(lambda: client.answered_by({"w2", "w3"}, FAR_VIP, 8080, 20), "its providers to answer")
        assert [ask_again(one).split()[0] for one in opened] == before


def test_a_tunnel_port_that_comes_again(world: World) -> None:
    """If it fails: a host whose tunnel port was made anew has no way to the others until the controller restarts."""
    world.a.instance.vsctl("del-port", world.a.bridge, "netctl-vxlan")
    wait_for(lambda: world["c1"].answered_by({"w1"}, VIP, 8080, 10), "what can't be reached to be passed over")
    assert "no way to host b" in trace(world, "o2")["outcome"]
    world.a.add_tunnel_port()
    wait_for(lambda: world["c1"].reaches("tcp", world["o2"].ip, 22), "the way to be there again")
    wait_for(lambda: world["c1"].answered_by({"w1", "w2", "w3"}, VIP, 8080, 20), "all providers to be there")


def test_a_host_that_is_gone_gets_no_connections(world: World) -> None:
    """If it fails: a part of all connections goes to a host that is down, until somebody removes it."""
    far = world.b
    far.instance.vsctl("set-controller", far.bridge, "tcp:127.0.0.1:1")  # never there; and nobody says that b lives
    wait_for(lambda: world["c1"].answered_by({"w1"}, VIP, 8080, 10), "its providers to be passed over", 10)
    with pytest.raises(ConnectionRefusedError):
        world["c1"].ask("tcp", FAR_VIP, 8080)
    assert world["c1"].reaches("tcp", world["o2"].ip, 22), "all else goes on"
    far.connect(world.control)
    wait_for(lambda: world["c1"].answered_by({"w1", "w2", "w3"}, VIP, 8080, 20), "its providers to be back", 10)
