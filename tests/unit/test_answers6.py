"""The answers to IPv6 packets that can't be delivered, against the framework's packet library."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ryu_apps import answers
from ryu_apps import framework as fw
from ryu_apps.learning import BrokenPacketError

CLIENT, VIP, GATEWAY = "fd00:20::1", "fd00:100::1", IPv6Address("fd00:20::ff")
CLIENT_MAC, ROUTER_MAC = "02:00:00:00:00:01", "0e:4e:43:00:00:01"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
IP, ICMP = 14, 54  # where they begin
UNREACHABLE, TIME_EXCEEDED = (1, 4), (3, 0)


def frame(protocol: int, payload: bytes, *, src: str = CLIENT, dst: str = VIP, mac: str = ROUTER_MAC) -> bytes:
    """A frame of the client's."""
    ethernet = bytes.fromhex((mac + CLIENT_MAC).replace(":", "")) + b"\x86\xdd"
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
    return ethernet + head + IPv6Address(src).packed + IPv6Address(dst).packed + payload


def tcp(flags: int, data: bytes = b"", seq: int = 1000, ack: int = 0) -> bytes:
    """A segment."""
    return struct.pack("!HHIIBBHHH", 5000, 81, seq, ack, 5 << 4, flags, 8192, 0, 0) + data


def udp(data: bytes = b"", size: int | None = None) -> bytes:
    """A datagram; ``size``: what its header says."""
    return struct.pack("!HHHH", 5000, 81, 8 + len(data) if size is None else size, 0) + data


def fragment(protocol: int, payload: bytes, offset: int = 0, *, more: bool = False) -> bytes:
    """A part of a packet."""
    return struct.pack("!BBHI", protocol, 0, offset | more, 7) + payload


def options(protocol: int, payload: bytes, size: int = 0) -> bytes:
    """Behind options of 8 bytes, or more of them."""
    return bytes((protocol, size)) + bytes(6 + 8 * size) + payload


def checksum(data: bytes) -> int:
    """Worked out otherwise than in what is tested: by the remainder of the whole number."""
    whole = int.from_bytes(data + bytes(len(data) % 2), "big")
    return 0xFFFF - (whole % 0xFFFF or 0xFFFF)


def read(answer: bytes | None, source: str) -> Any:
    """The library's view of an answer, which has to go back by the way that the question came."""
    assert answer is not None
    packet = fw.packet.Packet(answer)
    ethernet, ip = packet.get_protocol(fw.ethernet.ethernet), packet.get_protocol(fw.ipv6.ipv6)
    assert (ethernet.dst, ethernet.src, ethernet.ethertype) == (CLIENT_MAC, ROUTER_MAC, 0x86DD)
    assert (ip.src, ip.dst, ip.hop_limit) == (source, CLIENT, 64)
    size = int.from_bytes(answer[18:20], "big")
    pseudo = answer[22:54] + struct.pack("!II", size, answer[20])
    assert checksum(pseudo + answer[ICMP : ICMP + size]) == 0
    return packet


@pytest.mark.parametrize(
    ("question", "seq", "ack", "flags"),
    [
        (tcp(SYN), 0, 1001, RST | ACK),
        (tcp(SYN, b"early data"), 0, 1011, RST | ACK),
        (tcp(ACK | PSH, b"abc", ack=77), 77, 0, RST),
    ],
)
@pytest.mark.parametrize("behind", [lambda p: (6, p), lambda p: (0, options(60, options(6, p, 2)))])
def test_reset(question: bytes, seq: int, ack: int, flags: int, behind: Any) -> None:
    """A client would not believe the reset, and wait."""
    packet = read(answers.refuse(frame(*behind(question))), VIP)
    segment = packet.get_protocol(fw.tcp.tcp)
    assert (segment.src_port, segment.dst_port, segment.window_size) == (81, 5000, 0)
    assert (segment.seq, segment.ack, segment.bits) == (seq, ack, flags)


@pytest.mark.parametrize("size", [0, 5, 1452])
def test_port_unreachable(size: int) -> None:
    """A client would not know which of its datagrams is meant, and wait."""
    question = frame(17, udp(b"x" * size))
    answer = answers.refuse(question)
    read(answer, VIP)
    assert answer is not None
    assert (answer[ICMP], answer[ICMP + 1]) == UNREACHABLE
    assert answer[ICMP + 8 :].startswith(question[IP : IP + 48])
    assert len(answer) - IP <= 1280, "it has to pass every link"
    assert len(answer) - IP == min(1280, 48 + len(question) - IP), "as much of it as fits"


@pytest.mark.parametrize("question", [(6, tcp(SYN)), (17, udp(b"data")), (59, b""), (58, b"\x80\0\0\0ping")])
def test_time_exceeded(question: tuple[int, bytes]) -> None:
    """Traceroute would show stars instead of the gateway."""
    answer = answers.expire(frame(*question), IPv4Address("20.1.1.254"), GATEWAY)
    read(answer, str(GATEWAY))
    assert answer is not None
    assert (answer[ICMP], answer[ICMP + 1]) == TIME_EXCEEDED


def test_a_network_without_a_gateway_of_this_family() -> None:
    """The answer would come from nobody, or stop the controller."""
    assert answers.expire(frame(6, tcp(SYN)), IPv4Address("20.1.1.254"), None) is None
    assert answers.expire(frame(6, tcp(SYN)), None, None) is None


def test_the_first_part_of_a_large_datagram() -> None:
    """Whoever asks with a large datagram would wait."""
    first = fragment(17, udp(b"x" * 1000, size=4008), more=True)
    answer = answers.refuse(frame(44, first))
    read(answer, VIP)


@pytest.mark.parametrize(
    "question",
    [
        frame(44, fragment(17, b"x" * 64, 64)),
        frame(17, udp(), src="::"),
        frame(17, udp(), src="::1"),
        frame(17, udp(), src="ff02::1"),
        frame(17, udp(), dst="ff02::1"),
        frame(17, udp(), mac="33:33:00:00:00:01"),
        frame(58, b"\1\4\0\0\0\0\0\0"),
        frame(58, b"\x89\0\0\0\0\0\0\0"),
    ],
)
def test_silence(question: bytes) -> None:
    """Errors about errors, or about what all have heard, would multiply without end."""
    assert answers.refuse(question) is None
    assert answers.expire(question, GATEWAY) is None


@pytest.mark.parametrize("question", [(6, tcp(RST)), (6, tcp(RST | ACK)), (59, b""), (58, b"\x80\0\0\0ping")])
def test_no_refusal(question: tuple[int, bytes]) -> None:
    """Two hosts could reset each other's resets for ever."""
    assert answers.refuse(frame(*question)) is None


GOOD = frame(17, udp(b"data"))
BROKEN = {
    "short of a header": GOOD[:50],
    "IPv4": GOOD[:14] + b"\x45" + GOOD[15:],
    "longer than the frame": GOOD[:18] + b"\xff\xff" + GOOD[20:],
    "half a UDP header": frame(17, b"1234"),
    "a UDP length beyond the packet": frame(17, udp(b"data", size=99)),
    "half a TCP header": frame(6, b"x" * 19),
    "half an extension header": frame(0, b"\x11\0\0\0"),
    "an extension header beyond the packet": frame(60, options(17, b"")[:1] + b"\xff" + bytes(30)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    """What is no packet would be answered, or stop the controller."""
    with pytest.raises(BrokenPacketError):
        answers.refuse(BROKEN[name])


@given(st.binary(max_size=100), st.integers(0, 100))
@example(b"", 0)
def test_garbage(garbage: bytes, keep: int) -> None:
    """One packet made up by a container would stop the controller."""
    for inside in (garbage, tcp(SYN)[:keep] + garbage):
        for protocol in (0, 6, 17, 43, 44, 51, 58, 60):
            for answer in (answers.refuse, lambda q: answers.expire(q, GATEWAY)):
                with contextlib.suppress(BrokenPacketError):
                    assert answer(frame(protocol, inside)) is None or len(answer(frame(protocol, inside)) or b"") >= 60
