"""What to answer to a packet that can't be delivered: the refused packet's frame in, the answer's frame out.

TCP: a reset (RFC 9293, 3.10.7.1). UDP: port unreachable. At its last hop: time exceeded (RFC 792, RFC 1122 3.2.2,
RFC 1812 4.3.2). None where silence is right; BrokenPacketError for what is no IPv4 packet in an untagged frame.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from ryu_apps.learning import BrokenPacketError
from ryu_apps.pipeline.fields import ETH_IP, ICMP, TCP, UDP

_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBHII")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")
_PSEUDO = struct.Struct("!IIBBH")
_ICMP = struct.Struct("!BBHI")

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
UNREACHABLE, PORT_UNREACHABLE, TIME_EXCEEDED = 3, 3, 11
ICMP_QUERIES = frozenset({0, 8, 13, 14, 15, 16, 17, 18})  # all other types are errors
_MORE_FRAGMENTS, _DONT_FRAGMENT, _OFFSET = 0x2000, 0x4000, 0x1FFF
_TTL = 64
_INTERNETWORK_CONTROL = 0xC0  # type of service of an ICMP error (RFC 1812, 4.3.2.5)
_QUOTED = 8  # bytes after the IP header that an ICMP error gives back
_LINK_SIZE = 60


@dataclass(frozen=True, slots=True)
class _Packet:
    """An IPv4 packet in its frame."""

    eth_dst: bytes
    eth_src: bytes
    src: int
    dst: int
    protocol: int
    first: bool  # not a later fragment
    header: bytes
    payload: bytes

    @property
    def answerable(self) -> bool:
        """Whether anybody may be told about it: sent by one host to one host, and not a later fragment."""
        return self.first and not self.eth_dst[0] & 1 and _unicast(self.src) and _unicast(self.dst)


def refuse(frame: bytes) -> bytes | None:
    """What the packet's destination answers, where nobody listens."""
    packet = _parse(frame)
    if not packet.answerable:
        return None
    if packet.protocol == TCP:
        return _reset(packet)
    if packet.protocol == UDP:
        _check_udp(packet)
        return _error(packet, packet.dst, UNREACHABLE, PORT_UNREACHABLE)
    return None


def expire(frame: bytes, gateway: IPv4Address) -> bytes | None:
    """What a gateway answers to a packet that it would have to route, but that has no hop left."""
    packet = _parse(frame)
    if not packet.answerable:
        return None
    if packet.protocol == ICMP:
        if not packet.payload:
            raise BrokenPacketError("ICMP without a type")
        if packet.payload[0] not in ICMP_QUERIES:
            return None
    return _error(packet, int(gateway), TIME_EXCEEDED, 0)


def _parse(frame: bytes) -> _Packet:
    if len(frame) < _ETHERNET.size + _IP.size:
        raise BrokenPacketError(f"{len(frame)} bytes are too few for IPv4")
    eth_dst, eth_src, kind = _ETHERNET.unpack_from(frame)
    if kind != ETH_IP:
        raise BrokenPacketError(f"Ethernet type {kind:#06x} is not IPv4's")
    first, _, total, _, fragment, _, protocol, _, src, dst = _IP.unpack_from(frame, _ETHERNET.size)
    size = 4 * (first & 0xF)
    packet = frame[_ETHERNET.size : _ETHERNET.size + total]  # what is beyond it fills the frame up
    if first >> 4 != 4 or size < _IP.size or total < size or len(packet) < total:
        raise BrokenPacketError(f"an IPv4 header of {size} bytes, a packet of {total}, {len(packet)} of them here")
    header = packet[:size]
    # the checksum of what is inside is not looked at: conntrack has done so, or nothing of it is used
    if _checksum(header):
        raise BrokenPacketError("wrong checksum of the IPv4 header")
    return _Packet(eth_dst, eth_src, src, dst, protocol, not fragment & _OFFSET, header, packet[size:])


def _check_udp(packet: _Packet) -> None:
    fragmented = int.from_bytes(packet.header[6:8], "big") & _MORE_FRAGMENTS
    if len(packet.payload) < _UDP.size:
        raise BrokenPacketError(f"{len(packet.payload)} bytes are too few for UDP")
    size = _UDP.unpack_from(packet.payload)[2]
    if size < _UDP.size or (size > len(packet.payload) and not fragmented):
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

    pseudo = _PSEUDO.pack(packet.dst, packet.src, 0, TCP, _TCP.size)
    return _frame(packet, packet.dst, TCP, answer(_checksum(pseudo + answer(0))))


def _error(packet: _Packet, source: int, kind: int, code: int) -> bytes:
    quoted = packet.header + packet.payload[:_QUOTED]
    checksum = _checksum(_ICMP.pack(kind, code, 0, 0) + quoted)
    return _frame(packet, source, ICMP, _ICMP.pack(kind, code, checksum, 0) + quoted, _INTERNETWORK_CONTROL)


def _frame(packet: _Packet, source: int, protocol: int, payload: bytes, service: int = 0) -> bytes:
    """Back to where the packet came from."""

    def header(checksum: int) -> bytes:
        size = _IP.size + len(payload)
        return _IP.pack(0x45, service, size, 0, _DONT_FRAGMENT, _TTL, protocol, checksum, source, packet.src)

    head = header(_checksum(header(0)))
    return (_ETHERNET.pack(packet.eth_src, packet.eth_dst, ETH_IP) + head + payload).ljust(_LINK_SIZE, b"\0")


def _unicast(address: int) -> bool:
    return address >> 24 not in (0, 127) and address >> 28 < 0xE


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that hold their right one."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
