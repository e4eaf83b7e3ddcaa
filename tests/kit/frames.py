"""Ethernet frames, byte by byte: what no honest kernel would send."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
ROUTER = "0e:4e:43:00:00:01"
MARK = b"forged"  # what a datagram of `udp` carries
_SHORTEST = 60


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ip(text: str) -> bytes:
    return IPv4Address(text).packed


def arp_request(mac: str, sender: str, target: str, *, source: str = "", operation: int = 1) -> bytes:
    """ARP from ``mac`` and ``sender``; ``source``: another source MAC in the frame's own header."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body += _mac(mac) + _ip(sender) + bytes(6) + _ip(target)
    return (_mac(BROADCAST) + _mac(source or mac) + b"\x08\x06" + body).ljust(_SHORTEST, b"\0")


def udp(mac: str, sender: str, target: str, port: int, *, to: str = ROUTER, data: bytes = MARK) -> bytes:
    """A UDP datagram, to the router's MAC unless told."""
    payload = struct.pack("!HHHH", 1000, port, 8 + len(data), 0) + data
    return ip(mac, sender, target, 17, payload, to=to)


def ip(
    mac: str, sender: str, target: str, protocol: int, payload: bytes, *, to: str = ROUTER, fragment: int = 0
) -> bytes:
    """An IPv4 packet, likewise; ``fragment``: the header's flags and offset."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, fragment, 64, protocol, 0)
    head += _ip(sender) + _ip(target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", 0xFFFF - (total & 0xFFFF) - (total >> 16)) + head[12:]
    return (_mac(to) + _mac(mac) + b"\x08\x00" + head + payload).ljust(_SHORTEST, b"\0")
