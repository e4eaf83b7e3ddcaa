"""The answers to what can't be delivered, against the framework's packet library and packets worked out by hand."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ryu_apps import answers
from ryu_apps import framework as fw
from ryu_apps.learning import BrokenPacketError

CLIENT, VIP, GATEWAY = "20.1.1.1", "100.1.1.1", IPv4Address("20.1.1.254")
CLIENT_MAC, ROUTER_MAC = "02:00:00:00:00:01", "0e:4e:43:00:00:01"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
ICMP_OFFSET = 34


def frame(
    protocol: Any, data: bytes = b"", *, src: str = CLIENT, dst: str = VIP, mac: str = ROUTER_MAC, **ip: Any
) -> bytes:
    """A frame of the client's."""
    packet = fw.packet.Packet()
    packet.add_protocol(fw.ethernet.ethernet(dst=mac, src=CLIENT_MAC, ethertype=0x0800))
    number = protocol if isinstance(protocol, int) else {"tcp": 6, "udp": 17, "icmp": 1}[type(protocol).__name__]
    packet.add_protocol(fw.ipv4.ipv4(src=src, dst=dst, proto=number, **ip))
    if not isinstance(protocol, int):
        packet.add_protocol(protocol)
    if data:
        packet.add_protocol(data)
    packet.serialize()
    return bytes(packet.data)


def tcp(flags: int, data: bytes = b"", seq: int = 1000, ack: int = 0) -> bytes:
    return frame(fw.tcp.tcp(5000, 81, seq=seq, ack=ack, bits=flags), data)


def udp(data: bytes = b"", **more: Any) -> bytes:
    return frame(fw.udp.udp(5000, 81), data, **more)


def checksum(data: bytes) -> int:
    """Worked out otherwise than in what is tested: by the remainder of the whole number."""
    whole = int.from_bytes(data + bytes(len(data) % 2), "big")
    return 0xFFFF - (whole % 0xFFFF or 0xFFFF)


def read(answer: bytes | None) -> Any:
    """The library's view of an answer, which has to go back by the way that the question came."""
    assert answer is not None
    assert len(answer) >= 60
    packet = fw.packet.Packet(answer)
    ethernet, ip = packet.get_protocol(fw.ethernet.ethernet), packet.get_protocol(fw.ipv4.ipv4)
    assert (ethernet.dst, ethernet.src, ethernet.ethertype) == (CLIENT_MAC, ROUTER_MAC, 0x0800)
    assert (ip.dst, ip.ttl, ip.header_length) == (CLIENT, 64, 5)
    assert checksum(answer[14:34]) == 0
    return packet


@pytest.mark.parametrize(
    ("question", "seq", "ack", "flags"),
    [
        (tcp(SYN), 0, 1001, RST | ACK),
        (tcp(SYN, b"early data"), 0, 1011, RST | ACK),
        (tcp(FIN), 0, 1001, RST | ACK),
        (tcp(0, b"abc"), 0, 1003, RST | ACK),
        (tcp(SYN, seq=0xFFFFFFFF), 0, 0, RST | ACK),
        (tcp(ACK, ack=77), 77, 0, RST),
        (tcp(ACK | PSH, b"abc", ack=77), 77, 0, RST),
        (tcp(SYN | ACK, ack=77), 77, 0, RST),
        (tcp(FIN | ACK, ack=0xFFFFFFFF), 0xFFFFFFFF, 0, RST),
    ],
)
def test_reset(question: bytes, seq: int, ack: int, flags: int) -> None:
    """A client would not believe the reset, and wait."""
    answer = answers.refuse(question)
    packet = read(answer)
    segment = packet.get_protocol(fw.tcp.tcp)
    assert packet.get_protocol(fw.ipv4.ipv4).src == VIP
    assert (segment.src_port, segment.dst_port, segment.window_size) == (81, 5000, 0)
    assert (segment.seq, segment.ack, segment.bits) == (seq, ack, flags)
    assert answer is not None
    pseudo = IPv4Address(VIP).packed + IPv4Address(CLIENT).packed + struct.pack("!BBH", 0, 6, 20)
    assert checksum(pseudo + answer[34:54]) == 0


def test_a_reset_worked_out_by_hand() -> None:
    """As above, should the library and we be wrong in the same way."""
    question = bytes.fromhex(
        "0e4e430000010200000000010800"
        "4500002800000000400600cd1401010164010101"
        "13880051000003e8000000005002200000000000"
    )
    assert answers.refuse(question) == bytes.fromhex(
        "0200000000010e4e430000010800"
        "45000028000040004006c0cc6401010114010101"
        "0051138800000000000003e9501400001e0b0000"
    ).ljust(60, b"\0")


@pytest.mark.parametrize("size", [0, 5, 1472])
def test_port_unreachable(size: int) -> None:
    """A client would not know which of its datagrams is meant, and wait."""
    question = udp(b"x" * size)
    answer = answers.refuse(question)
    packet = read(answer)
    assert packet.get_protocol(fw.ipv4.ipv4).src == VIP
    error = packet.get_protocol(fw.icmp.icmp)
    assert (error.type, error.code) == (3, 3)
    assert answer is not None
    assert answer[ICMP_OFFSET + 8 :] == question[14:42], "the header and the first eight bytes of what it held"
    assert checksum(answer[ICMP_OFFSET:]) == 0


@pytest.mark.parametrize(
    "question",
    [
        tcp(SYN, b"data"),
        udp(b"data"),
        frame(47, b"tunnelled"),
        frame(fw.icmp.icmp(8, 0, data=fw.icmp.echo(data=b"ping"))),
    ],
)
def test_time_exceeded(question: bytes) -> None:
    """Traceroute would show stars instead of the gateway."""
    answer = answers.expire(question, GATEWAY)
    packet = read(answer)
    assert packet.get_protocol(fw.ipv4.ipv4).src == str(GATEWAY)
    error = packet.get_protocol(fw.icmp.icmp)
    assert (error.type, error.code) == (11, 0)
    assert answer is not None
    assert answer[ICMP_OFFSET + 8 : ICMP_OFFSET + 36] == question[14:42]
    assert checksum(answer[ICMP_OFFSET : ICMP_OFFSET + 36]) == 0


def test_options_are_quoted_too() -> None:
    """The eight bytes that name the ports would not be among what is quoted."""
    question = udp(b"12345678", option=bytes(8), header_length=7)
    answer = answers.expire(question, GATEWAY)
    assert answer is not None
    assert answer[ICMP_OFFSET + 8 :] == question[14 : 14 + 28 + 8]
    assert checksum(answer[ICMP_OFFSET:]) == 0


SILENT = [
    frame(47, b"tunnelled", offset=1),
    udp(b"x" * 64, offset=8),
    udp(src="0.0.0.0"),
    udp(src="127.0.0.1"),
    udp(src="224.0.0.1"),
    udp(src="255.255.255.255"),
    udp(dst="255.255.255.255"),
    udp(dst="224.0.0.251"),
    udp(mac="ff:ff:ff:ff:ff:ff"),
    frame(fw.icmp.icmp(3, 3, data=fw.icmp.dest_unreach(data=b"quoted"))),
    frame(fw.icmp.icmp(11, 0, data=fw.icmp.TimeExceeded(data=b"quoted"))),
]


@pytest.mark.parametrize("question", SILENT)
def test_silence(question: bytes) -> None:
    """Errors about errors, or about what all have heard, would multiply without end."""
    assert answers.refuse(question) is None
    assert answers.expire(question, GATEWAY) is None


@pytest.mark.parametrize("question", [tcp(RST), tcp(RST | ACK), frame(47, b"tunnelled"), frame(1, b"\x08\0\0\0")])
def test_no_refusal(question: bytes) -> None:
    """Two hosts could reset each other's resets for ever."""
    assert answers.refuse(question) is None


GOOD = udp(b"data")
BROKEN = {
    "empty": b"",
    "an Ethernet header alone": GOOD[:14],
    "short of an IP header": GOOD[:33],
    "ARP": GOOD[:12] + b"\x08\x06" + GOOD[14:],
    "tagged": GOOD[:12] + b"\x81\0\0\7" + GOOD[12:],
    "IPv6": GOOD[:14] + b"\x65" + GOOD[15:],
    "a header of 16 bytes": GOOD[:14] + b"\x44" + GOOD[15:],
    "a header longer than the packet": GOOD[:14] + b"\x4f" + GOOD[15:],
    "longer than the frame": GOOD[:16] + b"\xff\xff" + GOOD[18:],
    "a wrong checksum": GOOD[:24] + bytes([GOOD[24] ^ 1]) + GOOD[25:],
    "half a UDP header": frame(17, b"1234"),
    "a UDP length of nothing": GOOD[:38] + b"\0\7" + GOOD[40:],
    "a UDP length beyond the packet": GOOD[:38] + b"\xff\xff" + GOOD[40:],
    "half a TCP header": frame(6, b"x" * 19),
    "a TCP header of 16 bytes": frame(6, b"x" * 12 + b"\x40" + b"x" * 7),
    "a TCP header beyond the packet": frame(6, b"x" * 12 + b"\xf0" + b"x" * 7),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    """What is no packet would be answered, or stop the controller."""
    with pytest.raises(BrokenPacketError):
        answers.refuse(BROKEN[name])


def test_icmp_without_a_type() -> None:
    """As above, for what only time exceeded looks at."""
    with pytest.raises(BrokenPacketError):
        answers.expire(frame(1), GATEWAY)


@given(st.binary(max_size=100), st.integers(0, 100))
@example(b"", 0)
def test_garbage(garbage: bytes, keep: int) -> None:
    """One packet made up by a container would stop the controller."""
    for question in (garbage, tcp(SYN)[:keep] + garbage, _sealed(tcp(SYN)[:keep] + garbage)):
        for answer in (answers.refuse, lambda q: answers.expire(q, GATEWAY)):
            with contextlib.suppress(BrokenPacketError):
                assert answer(question) is None or len(answer(question) or b"") >= 60


def _sealed(packet: bytes) -> bytes:
    """With a right checksum of the IP header, so that what is inside is looked at."""
    if len(packet) < 34:
        return packet
    end = 14 + 4 * (packet[14] & 0xF)
    whole = packet[:24] + b"\0\0" + packet[26:]
    return whole[:24] + checksum(whole[14:end]).to_bytes(2, "big") + whole[26:]
