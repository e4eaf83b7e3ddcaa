"""IPv6's own between hosts: neighbour discovery ends at its host, what is for all of a network does not."""

from __future__ import annotations

import contextlib
import re

import pytest

from tests.kit import frames
from tests.kit.frames import ALL_NODES
from tests.kit.nodes import Tap
from tests.kit.ovs import run
from tests.kit.pair import FAR_VIP, World
from tests.kit.wide import wide

GATEWAY, NOBODY = wide("10.1.1.254"), wide("10.1.1.77")
RA, NS, NA, REDIRECT = 134, 135, 136, 137
ECHO_REQUEST = 128
OVERRIDE = 1 << 29  # a flag of an advertisement


def icmp_type(frame: bytes) -> int:
    """Of an ICMPv6 message; 0: it is none."""
    return frame[54] if frame[12:14] == b"\x86\xdd" and frame[20] == frames.ICMPV6 else 0


def discovery(tap: Tap) -> list[int]:
    """The types of messages of neighbour discovery that have passed, up to an echo request."""
    types = map(icmp_type, tap.until(lambda frame: icmp_type(frame) == ECHO_REQUEST))
    return [found for found in types if found in (RA, NS, NA, REDIRECT)]


def test_no_solicitation_leaves_a_host(world: World) -> None:
    """If it fails: each question for a neighbour goes to all hosts."""
    asker, other = world["w1"], world["o2"]
    run("ip", "-n", asker.netns, "-6", "neighbour", "flush", "dev", "eth0")
    with contextlib.closing(world.a.tap()) as tap:
        # whether it is free, announced, asked for, and not found; to all who may have it, and to who is known to
        with asker.open("raw") as wire:
            own, group = frames.link_local(asker.mac), frames.solicited_node
            wire.send(frames.neighbour(asker.mac, "::", asker.ip6, NS, to=group(asker.ip6)))
            wire.send(frames.neighbour(asker.mac, "::", own, NS, to=group(own)))
            for target in (asker.ip6, GATEWAY, other.ip6, frames.link_local(other.mac), NOBODY):
                wire.send(frames.neighbour(asker.mac, asker.ip6, target, NS, to=group(target)))
                wire.send(frames.neighbour(asker.mac, own, target, NS, to=(target, other.mac)))
        assert asker.pings(other.ip6)
        assert discovery(tap) == []
    known = run("ip", "-n", asker.netns, "-6", "neighbour", "show", other.ip6, "dev", "eth0")
    assert f"lladdr {other.mac}" in known


def test_nobody_speaks_for_others_on_another_host(world: World) -> None:
    """If it fails: a container takes the traffic of containers on other hosts, or is their router."""
    liar, other, group = world["w1"], world["o2"], ALL_NODES
    with contextlib.closing(world.a.tap()) as tap:
        with liar.open("raw") as wire:
            for frame in (
                frames.neighbour(liar.mac, other.ip6, other.ip6, NA, to=group),
                frames.neighbour(liar.mac, liar.ip6, GATEWAY, NA, to=(other.ip6, other.mac)),
                frames.neighbour(liar.mac, frames.link_local(liar.mac), liar.ip6, RA, to=group),
                frames.neighbour(liar.mac, frames.link_local(liar.mac), GATEWAY, REDIRECT, to=(other.ip6, other.mac)),
            ):
                wire.send(frame)
        assert liar.pings(other.ip6)
        assert discovery(tap) == []


def test_an_announcement_reaches_the_network_on_all_hosts(world: World) -> None:
    """If it fails: neighbours on other hosts do not learn of a new MAC before they ask again."""
    me = world["w1"]
    frame = frames.neighbour(me.mac, me.ip6, me.ip6, NA, flags=OVERRIDE)
    ears = {name: world[name].ears(frame) for name in ("w2", "o2", "c1", "c2")}
    with me.open("raw") as wire:
        wire.send(frame)
    assert all(ears[name](3) for name in ("w2", "o2"))
    assert not any(ears[name](0) for name in ("c1", "c2")), "of another network"


def test_multicast_goes_to_hosts_that_have_the_network(world: World) -> None:
    """If it fails: what is for all of a network ends at the host's edge, or floods hosts that have nobody of it."""
    text = b"to all of web"
    ears = {name: world[name].ears(text) for name in ("w1", "w2", "o2", "c1", "c2")}
    with world["w3"].open("raw") as wire:
        wire.send(frames.udp6(world["w3"].mac, world["w3"].ip6, ALL_NODES[0], 9, to=ALL_NODES[1], data=text))
    assert all(ears[name](3) for name in ("w1", "w2", "o2"))
    assert not any(ears[name](0) for name in ("c1", "c2")), "of another network"

    alone = world["n1"]
    with contextlib.closing(world.a.tap()) as tap:
        with alone.open("raw") as wire:  # nobody of n1's is on b
            wire.send(frames.udp6(alone.mac, alone.ip6, ALL_NODES[0], 9, to=ALL_NODES[1], data=text))
        assert alone.pings(world["o2"].ip6)
        for frame in tap.until(lambda frame: icmp_type(frame) == ECHO_REQUEST):
            assert frame[:6] != bytes.fromhex(ALL_NODES[1].replace(":", ""))


def test_link_local_addresses(world: World) -> None:
    """If it fails: what hosts of one link say to each other is lost between hosts, or is heard beyond their network."""
    one, other = world["w1"], world["o2"]
    assert one.pings(f"{frames.link_local(other.mac)}%eth0")
    assert not world["c1"].pings(f"{frames.link_local(other.mac)}%eth0")
    heard = other.ears(b"from-my-link")
    with world["c1"].open("raw") as wire:
        client = world["c1"]
        wire.send(frames.udp6(client.mac, frames.link_local(client.mac), other.ip6, 99, data=b"from-my-link"))
    assert client.reaches("udp", other.ip6, 99), "honest traffic after it"
    assert not heard(0)


@pytest.mark.parametrize("target", ["o2", "VIP"])
def test_the_way_to_another_host_is_one_hop(world: World, target: str) -> None:
    """If it fails: traceroute shows nothing of the way, or hosts that are none of its user's business."""
    client = world["c1"]
    to = wide(FAR_VIP) if target == "VIP" else world[target].ip6
    ping = ("nsenter", f"--net=/run/netns/{client.netns}", "ping", "-c", "1", "-W", "2", "-t")
    said = run(*ping, "1", world["o2"].ip6, check=False)
    assert re.search(rf"From {wide('20.1.1.254')}.*Time exceeded", said), said
    assert " 0% packet loss" in run(*ping, "2", to)
