"""What IPv6 has of its own: neighbour discovery, what stays on a link, and providers that have no IPv6."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address

import pytest

from tests.kit import frames
from tests.kit.hosts import Host, inside
from tests.kit.lab import Lab
from tests.kit.ovs import run, wait_for
from tests.kit.wide import wide

VIP, OLD_VIP, MIXED_VIP = "100.1.1.1", "100.1.1.2", "100.1.1.3"
GATEWAY, VIP6 = wide("20.1.1.254"), wide(VIP)
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
NS, NA, RA, REDIRECT = 135, 136, 134, 137


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Providers with IPv6 (w1, w2) and without (o1), and clients; b1 and b2 are of a tenant that looks alike."""
    bare.rest.put_tenant("blue")
    for tenant in ("default", "blue"):
        bare.network("cli", "20.1.1.0/24", "20.1.1.254", tenant, ipv6=True)
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("old", "30.1.1.0/24", "30.1.1.254")
    bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"], vip=VIP)
    bare.service("old", "srv", ["8080:80:TCP"], ["tier=old"], vip=OLD_VIP)
    bare.service("mixed", "srv", ["8080:80:TCP"], ["mixed=yes"], vip=MIXED_VIP)
    serve = ["tcp:80", "udp:53"]
    return {
        "w1": bare.host("w1", "web", "10.1.1.1", {"tier": "web", "mixed": "yes"}, serve=serve),
        "w2": bare.host("w2", "web", "10.1.1.2", {"tier": "web"}, serve=serve),
        "o1": bare.host("o1", "old", "30.1.1.1", {"tier": "old", "mixed": "yes"}, serve=serve),
        "c1": bare.host("c1", "cli", "20.1.1.1", serve=["udp:99"]),
        "c2": bare.host("c2", "cli", "20.1.1.2", serve=["udp:99"]),
        "b1": bare.host("b1", "cli", "20.1.1.2", tenant="blue", serve=["udp:99"]),
        "b2": bare.host("b2", "cli", "20.1.1.3", tenant="blue"),
    }


@contextlib.contextmanager
def heard(*hosts: Host) -> Iterator[list[socket.socket]]:
    """The hosts' wires."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(host.open("raw", timeout=10)) for host in hosts]


def until(wire: socket.socket, last: bytes) -> list[bytes]:
    """The IPv6 frames that have come in, up to the one that holds ``last``."""
    found: list[bytes] = []
    while True:
        data, (_, _, kind, _, _) = wire.recvfrom(65535)
        if kind != socket.PACKET_OUTGOING:
            if last in data:
                return found
            if data[12:14] == b"\x86\xdd":
                found.append(data)


def say(sender: Host, receiver: Host, port: int, text: bytes) -> None:
    """An honest datagram."""
    with sender.connect("udp", receiver.ip6, port) as out:
        out.send(text)


def neighbour(host: Host, address: str) -> str:
    """What the host's kernel knows of a neighbour."""
    return run("ip", "-n", host.netns, "-6", "neigh", "show", address, "dev", "eth0")


# Neighbour discovery


def test_neighbours_are_found_without_asking_them(hosts: Mapping[str, Host]) -> None:
    """Nobody would be reached; or each search would go to all of a network."""
    client, other = hosts["c1"], hosts["c2"]
    run("ip", "-n", client.netns, "-6", "neigh", "flush", "dev", "eth0")
    with heard(other) as (wire,):
        assert client.pings(GATEWAY)
        assert client.pings(wide("10.1.1.1")), "through the gateway"
        assert client.pings(other.ip6)
        say(client, other, 99, b"at-last")
        assert not [f for f in until(wire, b"at-last") if f[54] == NS]
    assert f"lladdr {frames.ROUTER} router" in neighbour(client, GATEWAY)
    assert f"lladdr {other.mac}" in neighbour(client, other.ip6)
    assert "router" not in neighbour(client, other.ip6)


@pytest.mark.parametrize("unicast", [False, True], ids=["to its group", "to itself"])
def test_an_answer_is_as_the_standard_says(hosts: Mapping[str, Host], unicast: bool) -> None:
    """Another kernel than this one would not take it."""
    client, other = hosts["c1"], hosts["c2"]
    for target, mac, flags in (
        (GATEWAY, frames.ROUTER, ROUTER | SOLICITED | OVERRIDE),
        (other.ip6, other.mac, SOLICITED | OVERRIDE),
        (frames.link_local(other.mac), other.mac, SOLICITED | OVERRIDE),
    ):
        to = (target, mac) if unicast else frames.solicited_node(target)
        with heard(client) as (wire,):
            wire.send(frames.neighbour(client.mac, client.ip6, target, NS, to=to))
            frame = b""
            while frame[12:14] != b"\x86\xdd" or frame[54] != NA:
                frame, (_, _, kind, _, _) = wire.recvfrom(2048)
                frame = b"" if kind == socket.PACKET_OUTGOING else frame
        packet, message = frame[14:], frame[54:86]
        assert frame[:12].hex(":") == f"{client.mac}:{mac}"
        assert (packet[6], packet[7], len(frame)) == (58, 255, 86)
        assert packet[8:40] == IPv6Address(target).packed + IPv6Address(client.ip6).packed
        assert frames.checksum(packet[8:40] + struct.pack("!II", 32, 58) + message) == b"\0\0"
        assert message[4] == flags
        assert message[8:24] == IPv6Address(target).packed
        assert message[24:].hex(":") == f"02:01:{mac}"


def test_a_vip_has_a_neighbour_in_its_own_network(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """A service in its clients' network would not be reached from there."""
    bare.service("near", "cli", ["8080:80:TCP"], ["tier=web"], vip="20.1.1.99")
    assert hosts["c1"].ask("tcp", wide("20.1.1.99"), 8080).split()[1] == hosts["c1"].ip6
    assert f"lladdr {frames.ROUTER}" in neighbour(hosts["c1"], wide("20.1.1.99"))
    bare.rest.delete_service("default:near")


def test_nobody_says_that_ones_own_address_is_taken(hosts: Mapping[str, Host]) -> None:
    """A container would have no address, or have it later and be found by nobody until then."""
    client = hosts["c1"]
    address = ("dev", "eth0")
    with inside(client.netns), open("/proc/sys/net/ipv6/conf/eth0/accept_dad", "w") as setting:
        setting.write("1")
    run("ip", "-n", client.netns, "-6", "address", "del", f"{client.ip6}/64", *address)
    run("ip", "-n", client.netns, "-6", "address", "add", f"{client.ip6}/64", *address)

    def state() -> str:
        return run("ip", "-n", client.netns, "-6", "address", "show", "to", client.ip6, *address)

    wait_for(lambda: "tentative" not in state(), "duplicate address detection to end")
    assert client.ip6 in state()
    assert "dadfailed" not in state()
    assert client.pings(GATEWAY)


def test_ones_own_announcement_reaches_the_network(hosts: Mapping[str, Host]) -> None:
    """Neighbours would not learn of a new MAC before they ask again."""
    client, other, alike = hosts["c1"], hosts["c2"], hosts["b1"]
    frame = frames.neighbour(client.mac, client.ip6, client.ip6, NA, flags=OVERRIDE << 24)
    with heard(other, alike, client) as (near, far, wire):
        wire.send(frame)
        say(client, other, 99, b"at-last")
        assert frame in until(near, b"at-last")
        say(hosts["b2"], alike, 99, b"at-last")
        assert frame not in until(far, b"at-last")


# The guard


def forged(me: Host, victim: Host, what: str) -> bytes:
    """A frame of one who says what is not his to say."""
    mac, own, group = me.mac, me.ip6, frames.ALL_NODES
    link_local, strange = frames.link_local(mac), "02:00:00:00:00:99"
    return {
        "address": frames.udp6(mac, wide("20.1.1.99"), victim.ip6, 99, to=victim.mac),
        "neighbour's address": frames.udp6(mac, victim.ip6, wide("10.1.1.1"), 53),
        "neighbour's link-local address": frames.udp6(
            mac, frames.link_local(victim.mac), victim.ip6, 99, to=victim.mac
        ),
        "MAC": frames.udp6(strange, own, victim.ip6, 99, to=victim.mac),
        "a neighbour asks": frames.neighbour(mac, victim.ip6, GATEWAY, NS, to=frames.solicited_node(GATEWAY)),
        "is a neighbour's address free": frames.neighbour(mac, "::", victim.ip6, NS, to=frames.solicited_node(GATEWAY)),
        "a neighbour is here": frames.neighbour(mac, victim.ip6, victim.ip6, NA, to=group),
        "the gateway is here": frames.neighbour(mac, own, GATEWAY, NA, to=(victim.ip6, victim.mac)),
        "I am elsewhere": frames.neighbour(mac, own, own, NA, to=group, option=strange),
        "I am the router": frames.neighbour(mac, link_local, own, RA, to=group),
        "this way is shorter": frames.neighbour(mac, link_local, own, REDIRECT, to=(victim.ip6, victim.mac)),
    }[what]


FORGED = [
    "address", "neighbour's address", "neighbour's link-local address", "MAC", "a neighbour asks",
    "is a neighbour's address free", "a neighbour is here", "the gateway is here", "I am elsewhere", "I am the router",
    "this way is shorter",
]  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_dropped_and_counted(bare: Lab, hosts: Mapping[str, Host], what: str) -> None:
    """A container could take its neighbours' traffic, or be their router, and nobody would see that it tries."""
    me, victim, target = hosts["c1"], hosts["c2"], hosts["w1"]

    def dropped() -> int:
        return next(p["forged"] for p in bare.rest.switch(bare.dpid)["ports"] if p["name"] == me.port_name)

    before, visits = dropped(), bare.packet_ins()
    frame = forged(me, victim, what)
    with heard(victim, target, me) as (near, far, wire):
        for _ in range(3):
            wire.send(frame)
        say(me, victim, 99, b"honest")
        say(me, target, 53, b"honest")
        for one in (near, far):
            assert not [f for f in until(one, b"honest") if frame[54:] in f]
    wait_for(lambda: dropped() == before + 3, "the drops to be counted")
    assert bare.packet_ins() == visits
    assert me.reaches("tcp", VIP6, 8080), "the honest traffic of the same port goes on"


def test_an_honest_start_is_no_forgery(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """Each container that starts would look like an attack: it speaks before it has an address."""
    new = bare.host("new", "cli", "20.1.1.50")
    for setting in ("disable_ipv6=1", "accept_dad=1", "router_solicitations=3", "disable_ipv6=0"):
        name, _, value = setting.partition("=")
        with inside(new.netns), open(f"/proc/sys/net/ipv6/conf/eth0/{name}", "w") as file:
            file.write(value)
    run("ip", "-n", new.netns, "-6", "address", "add", f"{new.ip6}/64", "dev", "eth0")
    run("ip", "-n", new.netns, "-6", "route", "add", "default", "via", GATEWAY)
    wait_for(lambda: "tentative" not in run("ip", "-n", new.netns, "-6", "address"), "its addresses to be its own")
    assert new.pings(GATEWAY)
    counted = {p["name"]: p["forged"] for p in bare.rest.switch(bare.dpid)["ports"]}
    assert {name: n for name, n in counted.items() if n and name != hosts["c1"].port_name} == {}
    bare.rest.delete_endpoint("new")
    new.close()


# What stays on a link


def test_link_local_addresses(hosts: Mapping[str, Host]) -> None:
    """What hosts of one link say to each other would be lost, or be heard beyond it."""
    client, other = hosts["c1"], hosts["c2"]
    assert client.pings(f"{frames.link_local(other.mac)}%eth0")
    assert client.pings("ff02::1%eth0")
    assert not client.pings(f"{frames.link_local(hosts['w1'].mac)}%eth0")
    with heard(hosts["w1"], client) as (far, wire):
        wire.send(frames.udp6(client.mac, frames.link_local(client.mac), hosts["w1"].ip6, 53, data=b"from-my-link"))
        say(client, hosts["w1"], 53, b"honest")
        assert not [f for f in until(far, b"honest") if b"from-my-link" in f]


def test_multicast_stays_in_its_network(hosts: Mapping[str, Host]) -> None:
    """What is for all of a network would be seen by others, or not by its own."""
    client, other = hosts["c1"], hosts["c2"]
    with heard(other, hosts["w1"], hosts["b1"], client) as (own, far, alike, wire):
        wire.send(frames.udp6(client.mac, client.ip6, frames.ALL_NODES[0], 9, to=frames.ALL_NODES[1], data=b"to-all"))
        until(own, b"to-all")
        say(client, hosts["w1"], 53, b"honest")
        assert not [f for f in until(far, b"honest") if b"to-all" in f]
        say(hosts["b2"], hosts["b1"], 99, b"honest")
        assert not [f for f in until(alike, b"honest") if b"to-all" in f]


def test_tenants_are_apart(hosts: Mapping[str, Host]) -> None:
    """A tenant would reach another's containers, whose addresses are the same."""
    assert hosts["c1"].reaches("udp", hosts["c2"].ip6, 99)
    assert hosts["c1"].ask("udp", hosts["c2"].ip6, 99).split()[0] == "c2"
    assert not hosts["b1"].reaches("tcp", VIP6, 8080)
    assert not hosts["b1"].reaches("tcp", hosts["w1"].ip6, 80)


# Services


def test_providers_without_ipv6(hosts: Mapping[str, Host]) -> None:
    """A client would be sent to a provider that has no address to be sent to, or wait where nobody is."""
    client = hosts["c1"]
    assert client.who("tcp", OLD_VIP, 8080, 5) == ["o1"] * 5
    with pytest.raises(ConnectionRefusedError):
        client.ask("tcp", wide(OLD_VIP), 8080)
    assert client.pings(wide(OLD_VIP))
    assert set(client.who("tcp", MIXED_VIP, 8080, 30)) == {"w1", "o1"}
    assert set(client.who("tcp", wide(MIXED_VIP), 8080, 30)) == {"w1"}
    assert not client.reaches("tcp", wide("30.1.1.1"), 80)
