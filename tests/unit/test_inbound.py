"""The parser of what a switch says: right messages are read as they are meant, all others refused in one line."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryu_apps import framework
from ryu_apps.openflow import inbound
from ryu_apps.openflow.inbound import BrokenMessageError, Framer, parse
from tests.fuzz import openflow as fuzz
from tests.kit.rawswitch import flow_stat, message, multipart, packet_in, port, port_status

SEVERAL = [fuzz.VALID[name] for name in ("echo request", "packet-in", "port status", "barrier", "ports", "hello")]


@pytest.mark.parametrize("name", fuzz.VALID)
def test_what_a_switch_says_is_read(name: str) -> None:
    """A switch that does nothing wrong would be disconnected."""
    raw = fuzz.VALID[name]
    found = parse(raw)
    assert (found.msg_type, found.xid, found.buf) == (raw[1], int.from_bytes(raw[4:8], "big"), raw)


@pytest.mark.parametrize("name", fuzz.VALID)
def test_what_is_cut_short_is_refused(name: str) -> None:
    """Half a message would be taken for a whole one, or end the controller."""
    raw = fuzz.VALID[name]
    whole = {len(fuzz.VALID[n]) for n in fuzz.VALID}
    for size in {*range(min(len(raw), 200)), len(raw) - 1}:
        with pytest.raises(BrokenMessageError):
            parse(raw[:size])
        # and where its length says so: then only what a shorter list is may pass
        if size >= 8 and size not in whole:
            fuzz.read(fuzz._sized(raw[:size]))


def test_a_packet_in() -> None:
    """Packets would be taken for others' ports, or nothing would be learned and answered."""
    found = parse(packet_in(fuzz.REGISTERS + fuzz.IN_PORT + fuzz.MASKED + fuzz.UNKNOWN, b"frame", 0x4E01 << 48))
    assert isinstance(found, inbound.PacketIn)
    assert found.match == {"reg0": 7, "reg1": 9, "in_port": 1, "ct_state": 1}
    assert (found.cookie, found.data) == (0x4E01 << 48, b"frame")


def test_the_library_reads_the_same() -> None:
    """What we read would not be what is meant."""
    parser, protocol = framework.parser, framework.load("ofproto.ofproto_protocol").ProtocolDesc(4)
    raw = packet_in(fuzz.REGISTERS + fuzz.IN_PORT, bytes(60), 5)
    theirs = parser.OFPPacketIn.parser(protocol, 4, 10, len(raw), 0, raw)
    ours = parse(raw)
    assert isinstance(ours, inbound.PacketIn)
    assert (dict(theirs.match.items()), theirs.cookie, bytes(theirs.data)) == (ours.match, ours.cookie, ours.data)
    raw = port_status(7, 2)
    theirs, status = parser.OFPPortStatus.parser(protocol, 4, 12, len(raw), 0, raw), parse(raw)
    assert isinstance(status, inbound.PortStatus)
    assert (theirs.reason, theirs.desc.port_no, theirs.desc.hw_addr) == (
        status.reason, status.desc.port_no, status.desc.hw_addr
    )  # fmt: skip
    assert (theirs.desc.name.decode(), theirs.desc.config, theirs.desc.state) == (
        status.desc.name, status.desc.config, status.desc.state
    )  # fmt: skip


def test_names_stay_in_their_line() -> None:
    """A switch could write lines into the log that look like ours, or commands to the terminal that shows it."""
    evil = port(1)[:16] + b"p\n2026 ERROR\x1b[2".ljust(16, b"\0") + port(1)[32:]
    found = parse(multipart(13, evil))
    assert isinstance(found, inbound.Ports)
    assert found.ports[0].name.isprintable()
    assert found.ports[0].name.startswith("p\N{REPLACEMENT CHARACTER}2026")
    described = parse(multipart(0, struct.pack("!256s256s256s32s256s", b"", b"", b"3.\n1", b"", b"")))
    assert isinstance(described, inbound.Description)
    assert described.sw_desc.isprintable()


@pytest.mark.parametrize(
    ("raw", "speaks"),
    [
        (message(0, 1), True),
        (b"\6" + message(0, 1)[1:], True),
        (b"\1" + message(0, 1)[1:], False),
        (message(0, 1, bytes.fromhex("0001 0008 00000010")), True),
        (b"\6" + message(0, 1, bytes.fromhex("0001 0008 00000052"))[1:], True),
        (b"\6" + message(0, 1, bytes.fromhex("0001 0008 00000062"))[1:], False),
        (message(0, 1, bytes.fromhex("0001 0004")), True),
        (message(0, 1, bytes.fromhex("0009 0006 0000")), True),
    ],
)
def test_the_versions_of_a_hello(raw: bytes, speaks: bool) -> None:
    """A switch that speaks our version would be sent away, or one that does not would be asked in it."""
    found = parse(raw)
    assert isinstance(found, inbound.Hello)
    assert found.speaks(4) is speaks


@pytest.mark.parametrize(
    "raw",
    [
        *fuzz.NAMED[:1], *fuzz.NAMED[1:2], *fuzz.NAMED[3:5], *fuzz.NAMED[7:11],
        message(0, 1, bytes(2)),
        message(0, 1, bytes.fromhex("00010009") + bytes(4)),
        message(6, 1, bytes(24)),
        multipart(7, bytes.fromhex("0010 01 00 00000100 0009 0001 00000000")),
        multipart(1, flow_stat()[:48] + bytes.fromhex("0001000300000000")),
        multipart(99, b""),
        b"", bytes(7), message(30, 1), message(5, 1),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_a_line(raw: bytes) -> None:
    """The controller would end, or be busy for ever."""
    with pytest.raises(BrokenMessageError, match=r"^[^\n]+$"):
        parse(raw)


@given(st.lists(st.sampled_from(SEVERAL)), st.lists(st.integers(1, 200), min_size=1))
def test_messages_in_any_pieces(sent: list[bytes], sizes: list[int]) -> None:
    """A message that comes in several packets, or several in one, would be lost or taken for another."""
    stream, framer, found, at, turn = b"".join(sent), Framer(), list[bytes](), 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += framer.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == sent
    assert not framer.unfinished
    found += framer.feed(stream[:3])
    assert framer.unfinished is bool(stream)


@pytest.mark.parametrize("head", [struct.pack("!BBHI", 4, 2, 7, 0), bytes(8), struct.pack("!BBHI", 4, 99, 65535, 0)])
def test_a_message_that_can_not_be_is_refused_at_its_head(head: bytes) -> None:
    """64 KB would be waited for, of what is wrong from its first bytes on; or nothing would ever move on."""
    framer = Framer()
    with pytest.raises(BrokenMessageError):
        list(framer.feed(SEVERAL[0] + head))


@given(st.data())
def test_nearly_right_messages(data: st.DataObject) -> None:
    """The controller would end with the first switch that says one of them."""
    fuzz.read(fuzz.mutated(random.Random(data.draw(st.integers(0, 1 << 64)))))


@given(st.binary(max_size=300), st.sampled_from(range(32)))
def test_anything_at_all(body: bytes, kind: int) -> None:
    """The same, for what is not like a message at all."""
    fuzz.read(message(kind, 1, body))


def test_many_nearly_right_messages() -> None:
    """The same, 20,000 of them; ``python -m tests.fuzz.openflow`` tries a million, with a limit on its memory."""
    became = fuzz.run(20_000, seed=74)
    assert became["refused"] > 5000
    assert len(became) > 10, "most kinds get through"
