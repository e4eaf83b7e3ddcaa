"""Hosts that say nothing by themselves, on a switch without an agent: the gateway asks for them, as a router does."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from tests.kit import frames, ovs
from tests.kit.bare import BLUE_GATEWAY, DPID, GATEWAY, ROUTER, World, bare_world
from tests.kit.controller import Controller, controller
from tests.kit.station import REPLY, Station, arp, mac_of

RED_1, BLUE_9 = "10.3.1.1", "10.3.2.9"
VIP = "100.3.1.1"
HOST_UNREACHABLE = b"\x03\x01"


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller(tmp_path_factory.mktemp("silent")) as running:
        yield running


@pytest.fixture
def world(control: Controller) -> Iterator[World]:
    with bare_world(control) as made:
        yield made


def datagram(sender: Station, source: str, target: str, data: bytes = b"first") -> bytes:
    """To the gateway's MAC."""
    return frames.udp(sender.mac.hex(":"), source, target, 4000, data=data)


def question(gateway: str, target: str) -> bytes:
    """What a gateway asks."""
    return arp(ROUTER, gateway, target)


def asked(host: Station, gateway: str, target: str, timeout: float = 5) -> list[bytes]:
    """Wait for the gateway's question; all that came up to it."""
    return host.until(lambda frame: frame[:42] == question(gateway, target), f"the question for {target}", timeout)


def carries(data: bytes, to: Station, target: str) -> Callable[[bytes], bool]:
    """Whether a frame is the datagram, routed to the host."""

    def wanted(frame: bytes) -> bool:
        address = frame[30:34] == IPv4Address(target).packed
        return frame[:6] == to.mac and frame[6:12] == ROUTER and address and data in frame

    return wanted


def test_a_packet_to_a_silent_host_is_delivered(world: World) -> None:
    """If it fails: a host that never says anything by itself can't be reached from another network."""
    sender, registered, silent = world.stations[:3]
    world.register(sender, RED_1)
    world.register(registered, "10.3.2.1", "blue")
    for data in (b"first", b"second"):
        sender.send(datagram(sender, RED_1, BLUE_9, data))
    asked(silent, BLUE_GATEWAY, BLUE_9)
    silent.send(arp(silent.mac, BLUE_9, BLUE_GATEWAY, REPLY, ROUTER))
    # nothing is sent again: what had come meanwhile was kept
    silent.until(carries(b"first", silent, BLUE_9), "the first packet")
    silent.until(carries(b"second", silent, BLUE_9), "the second packet")
    assert world.learned(silent, BLUE_9)["networkName"] == "blue"
    # where somebody is registered nobody unknown is looked for
    last = datagram(sender, RED_1, "10.3.2.1", b"last")
    sender.send(last)
    heard = registered.until(lambda frame: b"last" in frame, "a packet after the question")
    assert not [frame for frame in heard if frame[:42] == question(BLUE_GATEWAY, BLUE_9)]


def test_nobody_home_is_said(world: World) -> None:
    """If it fails: a packet to an address that nobody has vanishes in silence, or is asked for without end."""
    sender, listener = world.stations[:2]
    world.register(sender, RED_1)
    for _ in range(20):  # one question a second, whatever comes
        sender.send(datagram(sender, RED_1, BLUE_9))

    def unreachable(frame: bytes) -> bool:
        from_gateway = frame[26:30] == IPv4Address(GATEWAY).packed
        return from_gateway and frame[23:24] == b"\1" and frame[34:36] == HOST_UNREACHABLE

    (*_, answer) = sender.until(unreachable, "host unreachable from its gateway", 8)
    assert answer[:6] == sender.mac
    assert IPv4Address(BLUE_9).packed in answer[42:]
    sender.send(datagram(sender, RED_1, "10.3.2.77"))
    heard = asked(listener, BLUE_GATEWAY, "10.3.2.77")
    assert len([f for f in heard if f[:42] == question(BLUE_GATEWAY, BLUE_9)]) == 3


def test_what_is_nobodys_is_not_asked_for(world: World) -> None:
    """If it fails: a scan of the internet, or of what is taken, becomes a flood to all bare hosts."""
    sender, owner, listener = world.stations[:3]
    world.control.client.put_network(
        {"tenantName": "default", "networkName": "island", "subnet": "10.3.3.0/24", "gateway": ""}
    )
    world.register(sender, RED_1)
    world.register(owner, "10.3.2.1", "blue")
    nobodys = ("8.8.8.8", "10.3.3.9", BLUE_GATEWAY, "10.3.2.0", "10.3.2.255", "10.3.2.1")
    for target in nobodys:
        sender.send(datagram(sender, RED_1, target))
    sender.send(datagram(sender, RED_1, BLUE_9))
    heard = asked(listener, BLUE_GATEWAY, BLUE_9)  # last, and perhaps for whom an earlier test has left unfound
    asked_for = {f[38:42] for f in heard if f[12:14] == b"\x08\x06"}
    assert not asked_for & {IPv4Address(target).packed for target in nobodys}
    world.control.client.delete_network("default:island")


def test_a_host_that_is_registered_meanwhile_gets_what_was_kept(world: World) -> None:
    """If it fails: what was sent in the second before a host was registered is lost."""
    sender, late = world.stations[:2]
    world.register(sender, RED_1)
    sender.send(datagram(sender, RED_1, BLUE_9))
    asked(late, BLUE_GATEWAY, BLUE_9)
    world.register(late, BLUE_9, "blue")
    late.until(carries(b"first", late, BLUE_9), "the packet that was kept")


@pytest.mark.parametrize(("source", "asker"), [("10.3.1.9", GATEWAY), ("10.3.3.9", "0.0.0.0")])
def test_a_sender_that_never_asked_is_looked_for_at_its_port(world: World, source: str, asker: str) -> None:
    """If it fails: a host with fixed ARP entries (`mn --arp`), or with one that it still remembers, is cut off."""
    sender, other, receiver = world.stations[:3]
    world.control.client.put_network(
        {"tenantName": "default", "networkName": "island", "subnet": "10.3.3.0/24", "gateway": ""}
    )
    network = "red" if source.startswith("10.3.1.") else "island"
    to = source.rpartition(".")[0] + ".1"
    world.register(receiver, to, network)
    sender.send(frames.udp(sender.mac.hex(":"), source, to, 4000, to=receiver.mac.hex(":"), data=b"first"))
    asked(sender, asker, source)
    sender.send(arp(sender.mac, source, asker, REPLY, ROUTER))
    receiver.until(lambda frame: b"first" in frame, "its first packet")
    assert world.learned(sender, source)["networkName"] == network
    # nobody else was asked
    world.register(other, "10.3.2.1", "blue")
    receiver.send(frames.udp(receiver.mac.hex(":"), to, "10.3.2.1", 4000, data=b"last"))
    if network == "red":
        heard = other.until(lambda frame: b"last" in frame, "a packet after the question")
        assert not [frame for frame in heard if frame[38:42] == IPv4Address(source).packed]
    world.control.client.delete_endpoint(f"host-{to}")
    for endpoint in world.endpoints(source):
        world.control.client.delete_endpoint(endpoint["endpointID"])
    world.control.client.delete_network("default:island")


def test_a_client_that_was_forgotten_gets_its_answer(world: World) -> None:
    """If it fails: a client that the controller forgot while its provider worked never gets the answer."""
    client, provider = world.stations[:2]
    world.register(provider, "10.3.2.1", "blue")
    # a provider's packet to a client that nobody knows
    provider.send(datagram(provider, "10.3.2.1", "10.3.1.9", b"answer"))
    asked(client, GATEWAY, "10.3.1.9")
    client.send(arp(client.mac, "10.3.1.9", GATEWAY, REPLY, ROUTER))
    client.until(carries(b"answer", client, "10.3.1.9"), "the answer")


def test_a_scan_does_not_wear_the_controller_out(world: World) -> None:
    """If it fails: a host that sends to thousands of addresses of a network keeps the controller and others busy."""
    sender, silent = world.stations[:2]
    world.register(sender, RED_1)
    process = world.control.pid
    for number in range(2000):
        sender.send(datagram(sender, RED_1, f"10.3.2.{number % 250 + 2}"))
    ovs.wait_for(lambda: world.control.switch(DPID)["settled"], "the switch to settle")
    # afterwards the next one is found
    world.stations[2].ask("10.3.1.30", GATEWAY)
    assert world.stations[2].answer(GATEWAY) == ROUTER

    def found() -> bool:
        sender.send(datagram(sender, RED_1, BLUE_9))
        try:
            asked(silent, BLUE_GATEWAY, BLUE_9, 0.5)
        except AssertionError:
            return False
        return True

    ovs.wait_for(found, "the question for a silent host", 10)
    assert world.control.pid == process
    assert "Traceback" not in world.control.log()


def test_broken_packets_are_counted(world: World) -> None:
    """If it fails: a broken IP packet of an unknown host stops the controller."""
    host = world.stations[0]
    before = world.count("brokenPackets")
    good = datagram(host, "10.3.1.9", BLUE_9)
    # the switch itself drops what is too short; what is longer than it says is for the controller
    host.send(good[:16] + struct.pack("!H", 4000) + good[18:])
    ovs.wait_for(lambda: world.count("brokenPackets") == before + 1, "the broken packet to be counted")


def test_a_new_host_behind_a_port_of_the_same_name(world: World) -> None:
    """If it fails: who takes a fabric down and brings it up again, as Mininet does, finds no host for a minute."""
    asker, silent = world.stations[:2]
    world.register(asker, RED_1)
    silent.ask("10.3.1.9", GATEWAY)
    world.learned(silent, "10.3.1.9")
    heir = world.replace(1)
    heir.mac = mac_of(99)
    ovs.wait_for(lambda: not world.endpoints("10.3.1.9"), "the host behind the old port to be forgotten")
    asker.ask(RED_1, "10.3.1.9")
    looked_for = arp(asker.mac, RED_1, "10.3.1.9")
    heir.until(lambda frame: frame == looked_for, "the question")
    heir.send(arp(heir.mac, "10.3.1.9", RED_1, REPLY, asker.mac))
    assert asker.answer("10.3.1.9") == heir.mac
