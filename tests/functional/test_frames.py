"""Frames that no honest container sends: neighbour discovery in fragments, headers that are hidden, tags of VLANs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from tests.kit import frames
from tests.kit.hosts import Host, ask_again, inside
from tests.kit.lab import Lab
from tests.kit.ovs import run, wait_for
from tests.kit.wide import wide

GATEWAY = wide("20.1.1.254")
NS, NA, RA, REDIRECT = 135, 136, 134, 137
LAST = b"at-last"
TAG, SERVICE_TAG = 0x8100, 0x88A8


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Two neighbours, and a third in another network."""
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    return {
        "c1": bare.host("c1", "cli", "20.1.1.1", serve=["udp:99"]),
        "c2": bare.host("c2", "cli", "20.1.1.2", serve=["udp:99", "tcp:99"]),
        "w1": bare.host("w1", "web", "10.1.1.1", serve=["udp:99"]),
    }


def attempts(me: Host, victim: Host) -> dict[str, list[bytes]]:
    """By what it is: frames, each of which is to be dropped."""
    mac, group, link_local = me.mac, frames.ALL_NODES, frames.link_local(me.mac)
    to_victim = (victim.ip6, victim.mac)
    router = frames.neighbour(mac, link_local, me.ip6, RA, to=group)
    padded = frames.extended(router, (frames.DESTINATION, frames.options(64)))
    asks = frames.neighbour(mac, me.ip6, victim.ip6, NS, to=frames.solicited_node(victim.ip6))
    here = frames.neighbour(mac, me.ip6, me.ip6, NA, to=group)
    gateway = frames.neighbour(mac, me.ip6, GATEWAY, NA, to=to_victim)
    shorter = frames.neighbour(mac, link_local, me.ip6, REDIRECT, to=to_victim)
    plain = frames.udp(mac, me.ip, victim.ip, 99, to=victim.mac)
    plain6 = frames.udp6(mac, me.ip6, victim.ip6, 99, to=victim.mac)
    one, two, all_of_it = ((frames.FRAGMENT, frames.fragment_header(0, n, more=n > 0)) for n in (1, 2, 0))
    nested, atomic = frames.extended(router, one, two), frames.extended(router, all_of_it)
    far_end = frames.extended(router, (frames.HOP_BY_HOP, b"\xff" + bytes(6)))
    return {
        "a router's advertisement, cut behind its head": frames.fragments(router, 16)[:1],
        "one whose head is in the second fragment": frames.fragments(padded, 56)[:1],
        "one of which the first fragment has no byte": frames.fragments(padded, 64)[:1],
        "a redirect in fragments": frames.fragments(shorter, 24)[:1],
        "an announcement of the gateway in fragments": frames.fragments(gateway, 24)[:1],
        "an own announcement in fragments (RFC 6980)": frames.fragments(here, 24)[:1],
        "an own question in fragments": frames.fragments(asks, 24)[:1],
        "a fragment in a fragment": [nested],
        "a fragment that is all of it": [atomic],
        "behind options": [padded],
        "behind a routing header": [frames.extended(router, (frames.ROUTING, bytes((2, 0, 1)) + bytes(20)))],
        "behind options that go on beyond the end": [far_end],
        "a tag": [frames.tagged(plain, (TAG, 5))],
        "a priority tag": [frames.tagged(plain, (TAG, 0xE000))],
        "a service provider's tag": [frames.tagged(plain, (SERVICE_TAG, 5))],
        "a tag in a tag": [frames.tagged(plain, (TAG, 5), (TAG, 6))],
        "a tag in a service provider's": [frames.tagged(plain, (SERVICE_TAG, 5), (TAG, 6))],
        "three tags": [frames.tagged(plain, (SERVICE_TAG, 5), (TAG, 6), (TAG, 7))],
        "a tag before IPv6": [frames.tagged(plain6, (TAG, 5))],
        "a tag before ARP": [frames.tagged(frames.arp_request(mac, me.ip, victim.ip), (TAG, 5))],
        "a tag before a router's advertisement": [frames.tagged(router, (SERVICE_TAG, 5))],
    }


KINDS = [
    "a router's advertisement, cut behind its head", "one whose head is in the second fragment",
    "one of which the first fragment has no byte", "a redirect in fragments",
    "an announcement of the gateway in fragments", "an own announcement in fragments (RFC 6980)",
    "an own question in fragments", "a fragment in a fragment", "a fragment that is all of it", "behind options",
    "behind a routing header", "behind options that go on beyond the end", "a tag", "a priority tag",
    "a service provider's tag", "a tag in a tag", "a tag in a service provider's", "three tags", "a tag before IPv6",
    "a tag before ARP", "a tag before a router's advertisement",
]  # fmt: skip


def heard(wire: socket.socket) -> list[bytes]:
    """The frames that have come in, up to the one that holds `LAST`."""
    found: list[bytes] = []
    while True:
        data, (_, _, kind, _, _) = wire.recvfrom(65535)
        if kind != socket.PACKET_OUTGOING:
            if LAST in data:
                return found
            found.append(data)


def forged(bare: Lab, host: Host) -> int:
    """What `netctl switch inspect` counts at its port."""
    return next(int(p["forged"]) for p in bare.rest.switch(bare.dpid)["ports"] if p["name"] == host.port_name)


@pytest.mark.parametrize("what", KINDS)
def test_dropped_and_counted(bare: Lab, hosts: Mapping[str, Host], what: str) -> None:
    """A container would be its neighbours' router, or send frames into VLANs beyond the switch, and nobody sees it."""
    me, victim, other = hosts["c1"], hosts["c2"], hosts["w1"]
    sent = attempts(me, victim)[what]
    before = forged(bare, me)
    with contextlib.ExitStack() as stack:
        near, far, wire = (stack.enter_context(host.open("raw", timeout=10)) for host in (victim, other, me))
        for frame in sent:
            wire.send(frame)
        for host in (victim, other):
            with me.connect("udp", host.ip6, 99) as honest:
                honest.send(LAST)
        for ears in (near, far):
            assert not [f for f in heard(ears) if sent[0][-24:] in f]
    wait_for(lambda: forged(bare, me) == before + len(sent), "the drop to be counted")
    assert me.reaches("udp", victim.ip6, 99), "the honest traffic of the same port goes on"


def test_a_router_is_not_believed_by_a_kernel(hosts: Mapping[str, Host]) -> None:
    """A neighbour would send all that it has by way of the container that calls itself a router."""
    me, victim = hosts["c1"], hosts["c2"]
    # a kernel that listens to routers, and has no rule of its own against fragments (RFC 6980)
    wanted = {"forwarding": "0", "accept_ra": "2", "accept_ra_defrtr": "1", "suppress_frag_ndisc": "0"}
    settings = {Path(f"/proc/sys/net/ipv6/conf/eth0/{name}"): value for name, value in wanted.items()}
    with inside(victim.netns):
        before = {file: file.read_text() for file in settings}
        for file, value in settings.items():
            file.write_text(value)
    lifetime = 1800
    router = frames.neighbour(me.mac, frames.link_local(me.mac), me.ip6, RA, to=frames.ALL_NODES, flags=lifetime)
    padded = frames.extended(router, (frames.DESTINATION, frames.options(64)))
    try:
        with me.open("raw") as wire:
            for n, cut in enumerate((8, 56, 64)):
                for frame in frames.fragments(padded, cut, number=n):
                    wire.send(frame)
            for frame in frames.fragments(router, 8, number=9):
                wire.send(frame)
        assert me.reaches("udp", victim.ip6, 99)
        assert "proto ra" not in run("ip", "-n", victim.netns, "-6", "route", "show")
    finally:
        with inside(victim.netns):
            for file, value in before.items():
                file.write_text(value)
        run("ip", "-n", victim.netns, "-6", "route", "flush", "proto", "ra")


def test_honest_fragments(hosts: Mapping[str, Host]) -> None:
    """Large datagrams would be lost."""
    me, victim, far = hosts["c1"], hosts["c2"], hosts["w1"]
    for host in (victim, far):
        assert me.pings(host.ip6, "-s", "4000")
        assert me.pings(host.ip, "-s", "4000")
        for address in (host.ip6, host.ip):
            with me.connect("udp", address, 99) as large:
                assert ask_again(large, 4000).split()[0] == host.name
    plain = frames.udp6(me.mac, me.ip6, victim.ip6, 99, to=victim.mac, data=b"in-time")
    padded = frames.extended(plain, (frames.DESTINATION, frames.options(16)))
    with victim.open("raw") as ears, me.open("raw") as wire:
        wire.send(padded)
        with me.connect("udp", victim.ip6, 99) as honest:
            honest.send(LAST)
        assert [f for f in heard(ears) if b"in-time" in f], "options before UDP are nothing bad"


@pytest.mark.parametrize("loose", [True, False])
def test_a_source_route_leads_nowhere(bare: Lab, hosts: Mapping[str, Host], loose: bool) -> None:
    """A container would have its neighbour send for it, by ways that are the neighbour's alone."""
    me, relay, target = hosts["c1"], hosts["c2"], hosts["w1"]
    through = frames.source_routed(frames.udp(me.mac, me.ip, relay.ip, 99, to=relay.mac), target.ip, loose=loose)
    assert not relayed(me, relay, target, through), "the kernel's own default"
    wanted = ("ip_forward", "conf/all/accept_source_route", "conf/eth0/accept_source_route")
    settings = [Path(f"/proc/sys/net/ipv4/{name}") for name in wanted]
    with inside(relay.netns):
        before = [file.read_text() for file in settings]
        for file in settings:
            file.write_text("1")
    try:
        counted = forged(bare, relay)
        assert not relayed(me, relay, target, through), "a neighbour that would: the sender is not itself"
        if loose:  # a strict one has to be for a neighbour of the relay's: its kernel drops this
            wait_for(lambda: forged(bare, relay) == counted + 1, "what it forwards to be counted as forged")
    finally:
        with inside(relay.netns):
            for file, value in zip(settings, before, strict=True):
                file.write_text(value)


def relayed(me: Host, relay: Host, target: Host, frame: bytes) -> bool:
    """Whether what is sent to one gets to the other."""
    with target.open("raw", timeout=10) as ears, me.open("raw") as wire:
        wire.send(frame)
        assert relay.pings(me.ip), "it has taken what came before"
        with me.connect("udp", target.ip, 99) as honest:
            honest.send(LAST)
        return any(frames.MARK in one for one in heard(ears))


def test_a_routing_header_leads_nowhere(hosts: Mapping[str, Host]) -> None:
    """The same by IPv6: type 0 (RFC 5095) to a neighbour that forwards."""
    me, relay, target = hosts["c1"], hosts["c2"], hosts["w1"]
    plain = frames.udp6(me.mac, me.ip6, relay.ip6, 99, to=relay.mac)
    route = bytes((2, 0, 1)) + bytes(4) + IPv6Address(target.ip6).packed
    setting = Path("/proc/sys/net/ipv6/conf/all/forwarding")
    with inside(relay.netns):
        setting.write_text("1")
    try:
        assert not relayed(me, relay, target, frames.extended(plain, (frames.ROUTING, route)))
    finally:
        with inside(relay.netns):
            setting.write_text("0")
