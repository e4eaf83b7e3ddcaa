"""Hosts that nobody registers, learned from their ARP: a real controller and Open vSwitch, frames byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit import ovs
from tests.kit.bare import BLUE_GATEWAY, DPID, GATEWAY, ROUTER, World, bare_world
from tests.kit.controller import Controller, controller
from tests.kit.station import REPLY, arp, ip, mac_of


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller(tmp_path_factory.mktemp("learning")) as running:
        yield running


@pytest.fixture
def world(control: Controller) -> Iterator[World]:
    with bare_world(control) as made:
        yield made


def test_unknown_host_is_learned_and_answered_at_once(world: World) -> None:
    """If it fails: a bare host's first packets are lost, or it stays cut off."""
    host = world.stations[0]
    host.ask("10.3.1.11", GATEWAY)
    assert host.answer(GATEWAY) == ROUTER
    found = world.learned(host, "10.3.1.11")
    assert (found["networkName"], found["switch"], found["state"]) == ("red", DPID, "running")
    # known by now: the switch answers by itself
    packets = world.control.switch(DPID)["flowMods"]
    host.ask("10.3.1.11", GATEWAY)
    assert host.answer(GATEWAY) == ROUTER
    assert world.control.switch(DPID)["flowMods"] == packets


def test_learned_hosts_reach_each_other(world: World) -> None:
    """If it fails: two bare hosts in one network do not find each other."""
    one, two = world.stations[:2]
    for host, address in ((one, "10.3.1.11"), (two, "10.3.1.12")):
        host.ask(address, GATEWAY)
        host.answer(GATEWAY)
    one.ask("10.3.1.11", "10.3.1.12")
    assert one.answer("10.3.1.12") == two.mac
    packet = ip(one.mac, two.mac, "10.3.1.11", "10.3.1.12")
    one.send(packet)
    two.until(lambda frame: frame == packet, "the other's packet")


def test_silent_host_is_looked_for_where_nobody_is_registered(world: World) -> None:
    """If it fails: a bare host that has said nothing yet can't be reached, or everybody hears who looks for it."""
    asker, other, silent, idle = world.stations[:4]
    world.register(asker, "10.3.1.1")
    world.register(other, "10.3.1.2")
    asker.ask("10.3.1.1", "10.3.1.13")
    question = arp(asker.mac, "10.3.1.1", "10.3.1.13")
    silent.until(lambda frame: frame == question, "the question")
    idle.until(lambda frame: frame == question, "the question")
    # its answer is both news of it and what the other waits for
    silent.send(arp(silent.mac, "10.3.1.13", "10.3.1.1", REPLY, asker.mac))
    assert asker.answer("10.3.1.13") == silent.mac
    world.learned(silent, "10.3.1.13")
    last = ip(asker.mac, other.mac, "10.3.1.1", "10.3.1.2")
    asker.send(last)
    assert question not in other.until(lambda frame: frame == last, "a packet after the question")


def test_learned_host_is_followed(world: World) -> None:
    """If it fails: a bare host that is plugged in elsewhere, or gets another address, is cut off."""
    before, after, other = world.stations[:3]
    before.ask("10.3.1.11", GATEWAY)
    first = world.learned(before, "10.3.1.11")
    after.mac = before.mac
    after.ask("10.3.1.11", GATEWAY)
    assert after.answer(GATEWAY) == ROUTER
    moved = world.learned(after, "10.3.1.11")
    assert moved["endpointID"] == first["endpointID"]
    world.register(other, "10.3.1.1")
    packet = ip(other.mac, after.mac, "10.3.1.1", "10.3.1.11")
    other.send(packet)
    after.until(lambda frame: frame == packet, "its traffic at the new port")

    after.ask("10.3.1.12", GATEWAY)
    world.learned(after, "10.3.1.12")
    assert not world.endpoints("10.3.1.11")
    after.ask("10.3.2.11", BLUE_GATEWAY)
    assert after.answer(BLUE_GATEWAY) == ROUTER
    assert world.learned(after, "10.3.2.11")["networkName"] == "blue"
    assert not world.endpoints("10.3.1.12")


def test_another_host_gets_the_address(world: World) -> None:
    """If it fails: a host with a new network card, or the heir of an unplugged one's address, is cut off for ever."""
    port, other = world.stations[:2]
    port.ask("10.3.1.11", GATEWAY)
    world.learned(port, "10.3.1.11")
    other.ask("10.3.1.11", GATEWAY)
    ovs.wait_for(lambda: world.count("forgedPackets") == 1, "the claim to be refused")
    world.learned(port, "10.3.1.11")

    port.mac = mac_of(99)
    port.ask("10.3.1.11", GATEWAY)
    assert port.answer(GATEWAY) == ROUTER
    world.learned(port, "10.3.1.11")

    ovs.run("ip", "link", "set", port.port, "down")
    ovs.wait_for(
        lambda: not next(p["up"] for p in world.control.switch(DPID)["ports"] if p["name"] == port.port),
        "the port to be down",
    )
    other.ask("10.3.1.11", GATEWAY)
    assert other.answer(GATEWAY) == ROUTER
    world.learned(other, "10.3.1.11")


def test_registered_host_takes_over(world: World) -> None:
    """If it fails: an address that a bare host used once can't be given to anybody by its owner."""
    squatter, owner, asker = world.stations[:3]
    squatter.ask("10.3.1.21", GATEWAY)
    squatter.answer(GATEWAY)
    world.learned(squatter, "10.3.1.21")
    endpoint_id = world.register(owner, "10.3.1.21")
    assert [e["endpointID"] for e in world.endpoints("10.3.1.21")] == [endpoint_id]
    world.register(asker, "10.3.1.1")
    asker.ask("10.3.1.1", "10.3.1.21")
    assert asker.answer("10.3.1.21") == owner.mac
    # its ARP from elsewhere is a forgery now: counted, believed by nobody
    forged = world.count("forgedPackets")
    squatter.ask("10.3.1.21", GATEWAY)
    ovs.wait_for(lambda: world.count("forgedPackets") == forged + 1, "the forgery to be counted")
    assert [e["endpointID"] for e in world.endpoints("10.3.1.21")] == [endpoint_id]


def test_nobody_is_learned_by_a_mac_of_another(world: World) -> None:
    """If it fails: a bare host takes all traffic of its network to the gateway, or keeps the controller busy."""
    thief, owner, host = world.stations[:3]
    world.register(owner, "10.3.1.1")
    for mac in (owner.mac, ROUTER):
        thief.send(arp(mac, "10.3.1.31", GATEWAY))
    ovs.wait_for(lambda: world.count("forgedPackets") == 2, "the forgeries to be counted")
    host.ask("10.3.1.11", GATEWAY)
    assert host.answer(GATEWAY) == ROUTER
    assert not world.endpoints("10.3.1.31")
    assert world.count("forgedPackets") == 2, "refused once, it comes again and again"


def test_learned_host_is_registered(world: World) -> None:
    """If it fails: a host that was on the wire before it was registered is known twice, or cut off."""
    host = world.stations[0]
    host.ask("10.3.1.11", GATEWAY)
    world.learned(host, "10.3.1.11")
    world.register(host, "10.3.2.11", network="blue")
    assert not world.endpoints("10.3.1.11")
    host.ask("10.3.2.11", BLUE_GATEWAY)
    assert host.answer(BLUE_GATEWAY) == ROUTER


def test_broken_packets_are_counted_and_dropped(world: World) -> None:
    """If it fails: one broken ARP packet stops the controller, or leaves no trace."""
    host, healthy = world.stations[:2]
    good = arp(host.mac, "10.3.1.11", GATEWAY)
    head, body = good[:14], good[14:]
    broken = [
        head + body[:10],  # short
        head,
        head + body[:4] + b"\x08\x04" + body[6:],  # wrong length of a MAC
        head + body[:4] + b"\x06\x10" + body[6:],  # wrong length of an address
        head + b"\0\6" + body[2:],  # not Ethernet
        head + body[:2] + b"\x86\xdd" + body[4:],  # not IPv4
        head + body[:8] + mac_of(77) + body[14:],  # another sender than the frame's
        good[:12] + b"\x81\0\0\7" + good[12:],  # tagged
        head[:6] + b"\3" + head[7:] + body[:8] + b"\3" + body[9:],  # a group as the sender
    ]
    before, process = world.count("brokenPackets"), world.control.pid
    for frame in broken:
        host.send(frame)
    ovs.wait_for(lambda: world.count("brokenPackets") == before + len(broken), "the broken packets to be counted")
    assert not world.endpoints("10.3.1.11")
    healthy.ask("10.3.1.12", GATEWAY)
    assert healthy.answer(GATEWAY) == ROUTER
    assert world.control.pid == process
    assert "Traceback" not in world.control.log()
