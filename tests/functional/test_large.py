"""What is larger than a link takes: fragments, and being told of a smaller link, through a VIP and both ways."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

import pytest

from tests.kit import frames
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import run, wait_for

VIP = "100.1.1.1"
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14  # linux/in.h


@pytest.fixture(scope="module")
def _hosts(bare: Lab) -> Mapping[str, Host]:
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    bare.service("app", "srv", ["8080:80:TCP", "53:5353:UDP"], ["tier=web"], vip=VIP)
    made = {
        name: bare.host(name, "web", f"10.1.1.{name[1]}", {"tier": "web"}, serve=["tcp:80", "udp:5353"])
        for name in ("w1", "w2")
    }
    made["c1"] = bare.host("c1", "cli", "20.1.1.1")
    return made


@pytest.fixture
def hosts(_hosts: Mapping[str, Host]) -> Mapping[str, Host]:
    """Two providers and a client, which have not learned of any smaller link."""
    for host in _hosts.values():
        run("ip", "-n", host.netns, "route", "flush", "cache")
    return _hosts


@pytest.mark.parametrize("size", [1473, 3000, 20000, 40000])
def test_the_first_datagram_is_large(hosts: Mapping[str, Host], size: int) -> None:
    """A client whose first request does not fit one packet would never be answered."""
    for _ in range(5):
        with hosts["c1"].connect("udp", VIP, 53) as asking:
            names = {ask_again(asking, size).split()[0] for _ in range(3)}
            assert len(names | {ask_again(asking).split()[0]}) == 1


def heard(raw: socket.socket, kind: int, source: str, least: int) -> bytes:
    """The next IP packet of this protocol, sender and size."""
    while True:
        frame, address = raw.recvfrom(4096)
        if address[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00" and len(frame) >= least:
            packet = frame[14:]
            if packet[9] == kind and packet[12:16] == socket.inet_aton(source):
                return packet


def too_big(packet: bytes, mtu: int) -> bytes:
    """The ICMP message of a router that can't send a packet on (RFC 792, RFC 1191)."""
    words = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + packet[:28]
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    total = (total & 0xFFFF) + (total >> 16)
    return words[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + words[4:]


def mtu_to(host: Host, target: str) -> str:
    """What the host's kernel has learned of a path."""
    return run("ip", "-n", host.netns, "route", "get", target)


def test_a_smaller_link_behind_the_provider(hosts: Mapping[str, Host]) -> None:
    """A client's large packets would vanish without a word: it does not know the provider's address."""
    client = hosts["c1"]
    with client.connect("udp", VIP, 53) as asking:
        asking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        provider = hosts[ask_again(asking).split()[0]]
        with provider.open("raw") as raw:
            asking.send(b"x" * 1000)
            packet = heard(raw, 17, client.ip, 1000)
            raw.send(frames.ip(provider.mac, provider.ip, client.ip, 1, too_big(packet, 800)))
        wait_for(lambda: "mtu 800" in mtu_to(client, VIP), "the client to learn of it")
        assert asking.getsockopt(socket.IPPROTO_IP, IP_MTU) == 800


def test_a_smaller_link_behind_the_client(hosts: Mapping[str, Host]) -> None:
    """A provider's large answers would vanish without a word."""
    client = hosts["c1"]
    with client.connect("udp", VIP, 53) as asking, client.open("raw") as raw:
        provider = hosts[ask_again(asking).split()[0]]
        asking.send(b"x" * 1000)
        packet = heard(raw, 17, VIP, 1000)
        raw.send(frames.ip(client.mac, client.ip, VIP, 1, too_big(packet, 700)))
        wait_for(lambda: "mtu 700" in mtu_to(provider, client.ip), "the provider to learn of it")


def test_the_error_is_about_the_connection_as_its_owner_knows_it(hosts: Mapping[str, Host]) -> None:
    """A kernel would not find the TCP connection that an error is about."""
    client = hosts["c1"]
    with client.connect("tcp", VIP, 8080) as asking, client.open("raw") as seen:
        provider = hosts[ask_again(asking).split()[0]]
        with provider.open("raw") as raw:
            asking.sendall(b"x" * 999 + b"\n")
            packet = heard(raw, 6, client.ip, 1000)
            raw.send(frames.ip(provider.mac, provider.ip, client.ip, 1, too_big(packet, 800)))
        error = heard(seen, 1, VIP, 0)
        quoted = error[28:]
        assert error[20:22] == b"\3\4"
        assert quoted[12:20] == socket.inet_aton(client.ip) + socket.inet_aton(VIP)
        assert struct.unpack("!HH", quoted[20:24]) == (asking.getsockname()[1], 8080)
