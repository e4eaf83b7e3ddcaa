"""What to answer to a packet that can't be delivered: the refused packet's frame in, the answer's frame out.

TCP: a reset (RFC 9293, 3.10.7.1). UDP: port unreachable. SCTP: what makes its sender give up. At its last hop: time
exceeded; where the gateway finds nobody: host unreachable (RFC 792, RFC 1122 3.2.2, RFC 1812 4.3.2; for IPv6 RFC
4443). None where silence is right; BrokenPacketError for what is no IP packet in an untagged frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from ryu_apps.learning import BrokenPacketError
from ryu_apps.pipeline.family import V4, V6, Family
from ryu_apps.pipeline.fields import ETH_IP, ETH_IPV6, SCTP, TCP, UDP
from topology.model import Address
from topology.reach import PUBLISHED

_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")
_ICMP = struct.Struct("!BBHI")

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
PORT_UNREACHABLE = {4: (3, 3, 0), 6: (1, 4, 0)}  # type, code, and the four bytes after the checksum
# Linux gives an association up for these, but not for port unreachable (RFC 9260, 10.1)
NO_SUCH_PROTOCOL = {4: (3, 2, 0), 6: (4, 1, 6)}  # of IPv6: at which byte of the header it is named
TIME_EXCEEDED = {4: (11, 0, 0), 6: (3, 0, 0)}
HOST_UNREACHABLE = {4: (3, 1, 0), 6: (1, 3, 0)}
PROHIBITED = {4: (3, 13, 0), 6: (1, 1, 0)}  # administratively (RFC 1812, 5.2.7.1; RFC 4443, 3.1)
ICMP_QUERIES = frozenset({0, 8, 13, 14, 15, 16, 17, 18})  # all other types are errors
ICMPV6_INFORMATION, ICMPV6_REDIRECT = 128, 137  # types below the first are errors
_MORE_FRAGMENTS, _DONT_FRAGMENT, _OFFSET = 0x2000, 0x4000, 0x1FFF
_V6_MORE_FRAGMENTS, _V6_OFFSET = 0x0001, 0xFFF8
_V6_OPTIONS, _V6_FRAGMENT, _V6_AUTHENTICATION = frozenset({0, 43, 60}), 44, 51  # headers before the payload's own
_TTL = 64
_INTERNETWORK_CONTROL = 0xC0  # type of service of an ICMP error (RFC 1812, 4.3.2.5)
_QUOTED = 8  # bytes after the IPv4 header that an ICMP error gives back
_LEAST_MTU = 1280  # what an ICMPv6 error may fill
_LINK_SIZE = 60


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment in its frame, as far as a reset of its connection needs it."""

    eth_dst: int
    eth_src: int
    src: bytes
    dst: bytes
    src_port: int
    dst_port: int
    sequence: int
    acknowledged: int
    flags: int
    size: int  # bytes of data


@dataclass(frozen=True, slots=True)
class _Packet:
    """An IP packet in its frame. ``header``: all that stands before the payload."""

    family: Family
    eth_dst: bytes
    eth_src: bytes
    src: bytes
    dst: bytes
    protocol: int
    first: bool  # not a later fragment
    fragmented: bool  # and more of it follow
    header: bytes
    payload: bytes

    @property
    def answerable(self) -> bool:
        """Whether anybody may be told about it: sent by one host to one host, and not a later fragment."""
        return self.first and not self.eth_dst[0] & 1 and _unicast(self.src) and _unicast(self.dst)

    @property
    def quoted(self) -> bytes:
        """What of it an ICMP error gives back."""
        if self.family is V4:
            return self.header + self.payload[:_QUOTED]
        return (self.header + self.payload)[: _LEAST_MTU - _IPV6.size - _ICMP.size]

    def pseudo(self, source: bytes, protocol: int, size: int) -> bytes:
        """The header that the checksum of an answer from ``source`` is worked out with."""
        if self.family is V4:
            return source + self.src + struct.pack("!HH", protocol, size)
        return source + self.src + struct.pack("!II", size, protocol)


def refuse(frame: bytes) -> bytes | None:
    """What the packet's destination answers, where nobody listens."""
    packet = _parse(frame)
    if not packet.answerable:
        return None
    if packet.protocol == TCP:
        return _reset(packet)
    if packet.protocol == UDP:
        _check_udp(packet)
        return _error(packet, packet.dst, PORT_UNREACHABLE)
    if packet.protocol == SCTP:
        return _error(packet, packet.dst, NO_SUCH_PROTOCOL)
    return None


def expire(frame: bytes, *gateways: Address | None) -> bytes | None:
    """What a gateway answers to a packet that it would have to route, but that has no hop left."""
    return report(frame, TIME_EXCEEDED, *gateways)


def report(frame: bytes, error: dict[int, tuple[int, int, int]], *gateways: Address | None) -> bytes | None:
    """The error that a gateway sends for a packet that it does not route.

    ``gateways``: the addresses that it has; None where it has none of the packet's family.
    """
    packet = _parse(frame)
    source = packet.family.of(gateway for gateway in gateways if gateway is not None)
    if source is None or not packet.answerable:
        return None
    if packet.protocol == packet.family.icmp:
        if not packet.payload:
            raise BrokenPacketError("ICMP without a type")
        if _is_error(packet.family, packet.payload[0]):
            return None
    return _error(packet, source.to_bytes(packet.family.bits // 8, "big"), error)


def destination(frame: bytes) -> Address:
    """Where a packet is to go."""
    return ip_address(_parse(frame).dst)


def source(frame: bytes) -> Address:
    """Where a packet is from."""
    return ip_address(_parse(frame).src)


def readdressed(frame: bytes, eth_dst: int, eth_src: int) -> bytes:
    """A frame with these MACs."""
    return eth_dst.to_bytes(6, "big") + eth_src.to_bytes(6, "big") + frame[12:]


def is_tcp(frame: bytes) -> bool:
    """Whether a frame holds the begin of a TCP segment."""
    packet = _parse(frame)
    return packet.protocol == TCP and packet.first


def segment(frame: bytes) -> Segment:
    """What is in a frame that holds TCP."""
    packet = _parse(frame)
    if packet.protocol != TCP or not packet.first or len(packet.payload) < _TCP.size:
        raise BrokenPacketError("no TCP header where there has to be one")
    src_port, dst_port, sequence, acknowledged, offset, flags, *_ = _TCP.unpack_from(packet.payload)
    size = len(packet.payload) - 4 * (offset >> 4)
    if offset >> 4 < 5 or size < 0:
        raise BrokenPacketError(f"a TCP header of {4 * (offset >> 4)} bytes, {len(packet.payload)} of them here")
    eth_dst, eth_src = (int.from_bytes(mac, "big") for mac in (packet.eth_dst, packet.eth_src))
    return Segment(eth_dst, eth_src, packet.src, packet.dst, src_port, dst_port, sequence, acknowledged, flags, size)


def resets_to_receiver(about: Segment, source: bytes, port: int, router: int) -> Iterator[bytes]:
    """To the segment's receiver, as if from ``source`` and ``port``, with the numbers that it expects."""
    # a probe, which says that its sender is there, has the number before that
    for ahead in (0, 1) if about.size <= 1 and not about.flags & (SYN | FIN | RST) else (0,):
        numbers = (about.sequence + ahead & 0xFFFFFFFF, about.acknowledged, RST | ACK)
        yield _made((router, about.eth_dst), (source, about.dst), (port, about.dst_port), numbers)


def reset_to_sender(about: Segment, router: int, eth_dst: int) -> bytes | None:
    """To the segment's sender, from its receiver; None where it has reset the connection itself."""
    if about.flags & RST or not about.flags & ACK:
        return None
    ports = (about.dst_port, about.src_port)
    return _made((router, eth_dst), (about.dst, about.src), ports, (about.acknowledged, 0, RST))


def _made(
    macs: tuple[int, int], addresses: tuple[bytes, bytes], ports: tuple[int, int], numbers: tuple[int, int, int]
) -> bytes:
    """The frame of a segment without data; each pair: whence, whither."""
    sequence, acknowledged, flags = numbers
    (source, destination), v4 = addresses, len(addresses[0]) == 4
    size = struct.pack("!HH", TCP, _TCP.size) if v4 else struct.pack("!II", _TCP.size, TCP)

    def tcp(checksum: int) -> bytes:
        return _TCP.pack(*ports, sequence, acknowledged, 5 << 4, flags, 0, checksum, 0)

    def ip(checksum: int) -> bytes:
        if not v4:
            return _IPV6.pack(6 << 28, _TCP.size, TCP, _TTL, source, destination)
        total = _IP.size + _TCP.size
        return _IP.pack(0x45, 0, total, 0, _DONT_FRAGMENT, _TTL, TCP, checksum, source, destination)

    family = V4 if v4 else V6
    ethernet = _ETHERNET.pack(macs[1].to_bytes(6, "big"), macs[0].to_bytes(6, "big"), family.eth_type)
    payload = tcp(_checksum(source + destination + size + tcp(0)))
    return (ethernet + ip(_checksum(ip(0))) + payload).ljust(_LINK_SIZE, b"\0")


def _is_error(family: Family, kind: int) -> bool:
    if family is V4:
        return kind not in ICMP_QUERIES
    return kind < ICMPV6_INFORMATION or kind == ICMPV6_REDIRECT


def _parse(frame: bytes) -> _Packet:
    if len(frame) < _ETHERNET.size + _IP.size:
        raise BrokenPacketError(f"{len(frame)} bytes are too few for IP")
    kind = _ETHERNET.unpack_from(frame)[2]
    if kind == ETH_IP:
        return _parse_v4(frame)
    if kind == ETH_IPV6:
        return _parse_v6(frame)
    raise BrokenPacketError(f"Ethernet type {kind:#06x} is not IP's")


def _parse_v4(frame: bytes) -> _Packet:
    eth_dst, eth_src, _ = _ETHERNET.unpack_from(frame)
    first, _, total, _, fragment, _, protocol, _, src, dst = _IP.unpack_from(frame, _ETHERNET.size)
    size = 4 * (first & 0xF)
    packet = frame[_ETHERNET.size : _ETHERNET.size + total]  # what is beyond it fills the frame up
    if first >> 4 != 4 or size < _IP.size or total < size or len(packet) < total:
        raise BrokenPacketError(f"an IPv4 header of {size} bytes, a packet of {total}, {len(packet)} of them here")
    header = packet[:size]
    # the checksum of what is inside is not looked at: conntrack has done so, or nothing of it is used
    if _checksum(header):
        raise BrokenPacketError("wrong checksum of the IPv4 header")
    whole, more = not fragment & _OFFSET, bool(fragment & _MORE_FRAGMENTS)
    return _Packet(V4, eth_dst, eth_src, src, dst, protocol, whole, more, header, packet[size:])


def _parse_v6(frame: bytes) -> _Packet:
    if len(frame) < _ETHERNET.size + _IPV6.size:
        raise BrokenPacketError(f"{len(frame)} bytes are too few for IPv6")
    eth_dst, eth_src, _ = _ETHERNET.unpack_from(frame)
    first, length, protocol, _, src, dst = _IPV6.unpack_from(frame, _ETHERNET.size)
    total = _IPV6.size + length
    packet = frame[_ETHERNET.size : _ETHERNET.size + total]
    if first >> 28 != 6 or len(packet) < total:
        raise BrokenPacketError(f"version {first >> 28}, a packet of {total} bytes, {len(packet)} of them here")
    size, whole, more = _IPV6.size, True, False
    while whole and (protocol in _V6_OPTIONS or protocol in (_V6_FRAGMENT, _V6_AUTHENTICATION)):
        if total < size + 8:
            raise BrokenPacketError(f"no room for an extension header {protocol}")
        following, length = packet[size], 8 * (packet[size + 1] + 1)
        if protocol == _V6_FRAGMENT:
            fragment = int.from_bytes(packet[size + 2 : size + 4], "big")
            whole, more, length = not fragment & _V6_OFFSET, bool(fragment & _V6_MORE_FRAGMENTS), 8
        elif protocol == _V6_AUTHENTICATION:
            length = 4 * (packet[size + 1] + 2)
        protocol, size = following, size + length
        if total < size:
            raise BrokenPacketError(f"extension headers of {size} bytes in a packet of {total}")
    return _Packet(V6, eth_dst, eth_src, src, dst, protocol, whole, more, packet[:size], packet[size:])


def _check_udp(packet: _Packet) -> None:
    if len(packet.payload) < _UDP.size:
        raise BrokenPacketError(f"{len(packet.payload)} bytes are too few for UDP")
    size = _UDP.unpack_from(packet.payload)[2]
    if size < _UDP.size or (size > len(packet.payload) and not packet.fragmented):
        raise BrokenPacketError(f"a UDP datagram of {size} bytes, {len(packet.payload)} of them here")


def _reset(packet: _Packet) -> bytes | None:
    segment = packet.payload
    if len(segment) < _TCP.size:
        raise BrokenPacketError(f"{len(segment)} bytes are too few for TCP")
    src_port, dst_port, sequence, acknowledged, offset, flags, *_ = _TCP.unpack_from(segment)
    size = 4 * (offset >> 4)
    if not _TCP.size <= size <= len(segment):
        raise BrokenPacketError(f"a TCP header of {size} bytes, {len(segment)} of them here")
    if flags & RST:
        return None
    if flags & ACK:
        numbers = (acknowledged, 0, RST)
    else:
        length = len(segment) - size + bool(flags & SYN) + bool(flags & FIN)
        numbers = (0, sequence + length & 0xFFFFFFFF, RST | ACK)

    def answer(checksum: int) -> bytes:
        return _TCP.pack(dst_port, src_port, *numbers[:2], 5 << 4, numbers[2], 0, checksum, 0)

    return _frame(packet, packet.dst, TCP, answer(_checksum(packet.pseudo(packet.dst, TCP, _TCP.size) + answer(0))))


def _error(packet: _Packet, source: bytes, what: dict[int, tuple[int, int, int]]) -> bytes:
    kind, code, more = what[packet.family.version]
    message = _ICMP.pack(kind, code, 0, more) + packet.quoted
    pseudo = packet.pseudo(source, V6.icmp, len(message)) if packet.family is V6 else b""
    answer = _ICMP.pack(kind, code, _checksum(pseudo + message), more) + packet.quoted
    return _frame(packet, source, packet.family.icmp, answer, _INTERNETWORK_CONTROL)


def _frame(packet: _Packet, source: bytes, protocol: int, payload: bytes, service: int = 0) -> bytes:
    """Back to where the packet came from."""

    def header(checksum: int) -> bytes:
        size = _IP.size + len(payload)
        return _IP.pack(0x45, service, size, 0, _DONT_FRAGMENT, _TTL, protocol, checksum, source, packet.src)

    if packet.family is V4:
        head = header(_checksum(header(0)))
    else:
        head = _IPV6.pack(6 << 28 | service << 20, len(payload), protocol, _TTL, source, packet.src)
    ethernet = _ETHERNET.pack(packet.eth_src, packet.eth_dst, packet.family.eth_type)
    return (ethernet + head + payload).ljust(_LINK_SIZE, b"\0")


def _unicast(address: bytes) -> bool:
    if len(address) == 4:
        # a published address is as good as a VIP; nobody has any other of those from 240.0.0.0 on
        return address[0] not in (0, 127) and (address[0] >> 4 < 0xE or IPv4Address(address) in PUBLISHED)
    # neither unspecified, nor the loopback address, nor multicast
    return int.from_bytes(address, "big") > 1 and address[0] != 0xFF


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that hold their right one."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
