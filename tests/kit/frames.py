"""Ethernet frames, byte by byte: what no honest kernel would send."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from ryu_apps.pipeline.fields import UDP

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


def marked(frame: bytes) -> bool:
    """Whether it is such a datagram, and not an error that quotes one."""
    protocol = frame[23] if frame[12:14] == b"\x08\x00" else frame[20]
    return protocol == UDP and MARK in frame


def ip(
    mac: str, sender: str, target: str, protocol: int, payload: bytes, *, to: str = ROUTER, fragment: int = 0
) -> bytes:
    """An IPv4 packet, likewise; ``fragment``: the header's flags and offset."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, fragment, 64, protocol, 0)
    head += _ip(sender) + _ip(target)
    head = head[:10] + checksum(head) + head[12:]
    return (_mac(to) + _mac(mac) + b"\x08\x00" + head + payload).ljust(_SHORTEST, b"\0")


def syn(mac: str, sender: str, target: str, source_port: int, port: int) -> bytes:
    """The first segment of a TCP connection, with right checksums."""
    tcp = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 0x50, 0x02, 8192, 0, 0)
    sum_ = checksum(_ip(sender) + _ip(target) + struct.pack("!HH", 6, len(tcp)) + tcp)
    return ip(mac, sender, target, 6, tcp[:16] + sum_ + tcp[18:])


ICMPV6 = 58
ALL_NODES = ("ff02::1", "33:33:00:00:00:01")  # the group, and its MAC


def ipv6(
    mac: str, sender: str, target: str, protocol: int, payload: bytes, *, to: str = ROUTER, hops: int = 64
) -> bytes:
    """An IPv6 packet, to the router's MAC unless told; the checksum of ICMPv6 is filled in."""
    addresses = IPv6Address(sender).packed + IPv6Address(target).packed
    if protocol == ICMPV6:
        pseudo = addresses + struct.pack("!II", len(payload), ICMPV6)
        payload = payload[:2] + checksum(pseudo + payload[:2] + b"\0\0" + payload[4:]) + payload[4:]
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + addresses
    return (_mac(to) + _mac(mac) + b"\x86\xdd" + head + payload).ljust(_SHORTEST, b"\0")


def udp6(mac: str, sender: str, target: str, port: int, *, to: str = ROUTER, data: bytes = MARK) -> bytes:
    """A UDP datagram, to the router's MAC unless told."""
    payload = struct.pack("!HHHH", 1000, port, 8 + len(data), 0) + data
    pseudo = IPv6Address(sender).packed + IPv6Address(target).packed + struct.pack("!II", len(payload), 17)
    return ipv6(mac, sender, target, 17, payload[:6] + checksum(pseudo + payload) + payload[8:], to=to)


def neighbour(mac: str, sender: str, target: str, kind: int, *, option: str = "", to: tuple[str, str] = ALL_NODES,
              flags: int = 0) -> bytes:  # fmt: skip
    """A message of neighbour discovery; ``option``: the MAC in it, else the sender's; none from nobody (``::``).

    135 asks for the target, 136 announces it, 137 redirects to it, 134 is a router's advertisement.
    """
    of_source = kind in (134, 135)
    body = struct.pack("!BBHI", kind, 0, 0, flags)
    body += bytes(8) if kind == 134 else IPv6Address(target).packed
    body += IPv6Address(target).packed if kind == 137 else b""
    if sender != "::":
        body += bytes((1 if of_source else 2, 1)) + _mac(option or mac)
    return ipv6(mac, sender, to[0], ICMPV6, body, to=to[1], hops=255)


def solicited_node(target: str) -> tuple[str, str]:
    """The group of those who may have an address, and its MAC."""
    low = IPv6Address(target).packed[-3:]
    return str(IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + low)), "33:33:ff:" + low.hex(":")


def link_local(mac: str) -> str:
    """The address that a host has on its link by its MAC."""
    octets = _mac(mac)
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + bytes((octets[0] ^ 2,)) + octets[1:3] + b"\xff\xfe" + octets[3:]))


def checksum(data: bytes) -> bytes:
    """The Internet checksum over data that have none yet."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


# What may stand between an IPv6 header and its payload (RFC 8200)

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


def extended(frame: bytes, *headers: tuple[int, bytes]) -> bytes:
    """An IPv6 frame of this module's with extension headers: each its number, and what follows its first byte."""
    body, following = frame[54:], frame[20]
    for number, rest in reversed(headers):
        body, following = bytes((following,)) + rest + body, number
    return frame[:18] + struct.pack("!HB", len(body), following) + frame[21:54] + body


def options(octets: int = 8) -> bytes:
    """A destination (or hop-by-hop) options header of that length, of padding."""
    return bytes((octets // 8 - 1, 1, octets - 4)) + bytes(octets - 4)


def fragment_header(offset: int, number: int, *, more: bool) -> bytes:
    """Of a fragment that begins at that byte."""
    return b"\0" + struct.pack("!HI", offset | more, number)


def fragments(frame: bytes, *at: int, number: int = 77) -> list[bytes]:
    """An IPv6 frame cut at these bytes of what follows its header."""
    body, first = frame[54:], frame[20]
    ends = (*at, len(body))
    out = []
    for begin, end in zip((0, *at), ends, strict=True):
        header = bytes((first,)) + fragment_header(begin, number, more=end < len(body))
        part = header + body[begin:end]
        out.append(frame[:18] + struct.pack("!HB", len(part), FRAGMENT) + frame[21:54] + part)
    return out


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """A frame with VLAN tags, the outer one first: each its type (0x8100, 0x88a8) and number."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


def source_routed(frame: bytes, *hops: str, loose: bool = True) -> bytes:
    """An IPv4 frame of this module's that is to go on to these addresses (RFC 791)."""
    route = bytes((131 if loose else 137, 3 + 4 * len(hops), 4)) + b"".join(map(_ip, hops)) + b"\0"
    head, length = frame[14:34], struct.unpack("!H", frame[16:18])[0]
    head = bytes((0x40 | (20 + len(route)) // 4,)) + head[1:2] + struct.pack("!H", length + len(route)) + head[4:10]
    head += b"\0\0" + frame[26:34] + route
    head = head[:10] + checksum(head) + head[12:]
    return frame[:14] + head + frame[34 : 14 + length]
