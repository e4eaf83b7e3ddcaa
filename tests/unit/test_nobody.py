"""What a gateway answers for an address that nobody has, and when it is silent."""

from __future__ import annotations

import socket
import struct

import pytest

from ryu_apps import nobody
from ryu_apps.pipeline.tables import HOST_NETWORK
from tests.kit import world
from topology.reach import TUNNEL_PORT

GATEWAY = "20.1.1.254"


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(to: str) -> bytes:
    """A SYN of c1's, sent to its gateway."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + socket.inet_aton("20.1.1.1") + socket.inet_aton(to)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return bytes(12) + b"\x08\x00" + head + struct.pack("!HHIIBBHHH", 5000, 80, 1, 0, 0x50, 2, 0, 0, 0)


def answer(to: str, port: str = "p1", *, of_host: bool = False) -> bytes | None:
    of = world.model()
    number = HOST_NETWORK if of_host else of.networks["default:clients"].number
    return nobody.answer(of, of.tenants["default"].number, number, port, frame(to))


@pytest.mark.parametrize("of_host", [False, True])
def test_host_unreachable(of_host: bool) -> None:
    """The client would wait for minutes."""
    found = answer("10.1.1.99", of_host=of_host)
    assert found is not None
    assert (found[23], found[34], found[35]) == (1, 3, 1), "ICMP: destination unreachable, host"
    assert socket.inet_ntoa(found[26:30]) == ("10.1.1.254" if of_host else GATEWAY)


def test_a_gateways_own_port() -> None:
    """A closed port would look like a lost packet."""
    found = answer(GATEWAY)
    assert found is not None
    assert (found[23], found[47] & 0x04) == (6, 4), "TCP: a reset"


@pytest.mark.parametrize(("to", "port"), [("10.1.1.1", "p1"), ("10.1.1.99", TUNNEL_PORT), ("192.0.2.1", "p1")])
def test_silence(to: str, port: str) -> None:
    """A container that is just being plugged in would be given up by its clients, or another host's be answered."""
    assert answer(to, port) is None
