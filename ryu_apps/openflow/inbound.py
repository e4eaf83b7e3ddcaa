"""What a switch may say, out of its bytes: `Framer` cuts a connection's bytes into messages, `parse` reads one.

A switch's bytes are outside input. Each length is checked before it is used, all of a message is looked at once, and
what is wrong raises BrokenMessageError: its connection ends, with one line in the log. Bounds: a message has 64 KB
(its own length field), a list in it as many entries as fit, each at least as long as its fixed part.

Messages carry the names that the library gives to their parts, as far as we use them. No sockets and no framework here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from ryu_apps.openflow import messages
from ryu_apps.openflow.codec import VERSION
from ryu_apps.openflow.messages import (
    BUNDLE_CONTROL,
    OFPMP_DESC,
    OFPMP_FLOW,
    OFPMP_GROUP,
    OFPMP_GROUP_DESC,
    OFPMP_METER_CONFIG,
    OFPMP_PORT_DESC,
    OFPMPF_REPLY_MORE,
    OFPT_BARRIER_REPLY,
    OFPT_ERROR,
    OFPT_EXPERIMENTER,
    OFPT_MULTIPART_REPLY,
    ONF,
)
from ryu_apps.pipeline.fields import FIELDS

OFPT_HELLO, OFPT_ECHO_REQUEST, OFPT_ECHO_REPLY, OFPT_FEATURES_REPLY, OFPT_GET_CONFIG_REPLY = 0, 2, 3, 6, 8
OFPT_PACKET_IN, OFPT_FLOW_REMOVED, OFPT_PORT_STATUS = 10, 11, 12
OFPT_QUEUE_GET_CONFIG_REPLY, OFPT_ROLE_REPLY, OFPT_GET_ASYNC_REPLY = 23, 25, 27

OFPPR_ADD, OFPPR_DELETE, OFPPR_MODIFY = 0, 1, 2
_EXPERIMENTER_ERROR = 0xFFFF
_LAST_MULTIPART, _EXPERIMENTER_MULTIPART = 13, 0xFFFF
_OXM_MATCH = 1
_VERSION_BITMAP = 1

HEADER = Struct("!BBHI")
_ELEMENT = Struct("!HH")
_FEATURES = Struct("!QIBB2xII")
_PACKET_IN = Struct("!IHBBQ")
_PORT = Struct("!I4x6s2x16sII24x")
_MULTIPART = Struct("!HH4x")
_DESCRIPTION = Struct("!256s256s256s32s256s")

_BUNDLE = ONF.to_bytes(4, "big") + BUNDLE_CONTROL.to_bytes(4, "big")
_IN_PORT = "in_port"
_NAMES = {(f.oxm_class, f.number): f for f in FIELDS.values()}


class BrokenMessageError(ValueError):
    """What a switch has sent is no message that a switch may send. ``str(error)`` is one line."""


@dataclass(slots=True)
class Message:
    """One message. ``datapath``: the connection that it came by, which the connection itself fills in."""

    msg_type: int
    xid: int
    buf: bytes
    datapath: Any = field(default=None, repr=False, kw_only=True)


@dataclass(slots=True)
class Hello(Message):
    """``versions``: those that the switch names; where it names none, all up to that of its header."""

    version: int
    versions: frozenset[int]

    def speaks(self, version: int) -> bool:
        """Whether this version may be used, when it is the highest that we offer."""
        return version in self.versions if self.versions else version <= self.version


@dataclass(slots=True)
class Echo(Message):
    """A question whether we are there, or an answer to ours."""

    data: bytes


@dataclass(slots=True)
class BundleControl(Message):
    """What became of a bundle that we have opened, closed, committed or discarded."""


@dataclass(slots=True)
class Features(Message):
    """Who the switch is."""

    datapath_id: int


@dataclass(slots=True)
class PacketIn(Message):
    """A packet that a flow sends us. ``match``: the fields that come with it, by the names of `FIELDS`."""

    cookie: int
    match: dict[str, int]
    data: bytes


@dataclass(frozen=True, slots=True)
class PortDesc:
    """One port as the switch describes it; its name may hold any characters but control characters."""

    port_no: int
    hw_addr: str
    name: str
    config: int
    state: int


@dataclass(slots=True)
class PortStatus(Message):
    """A port came, changed or went."""

    reason: int
    desc: PortDesc


@dataclass(slots=True)
class Multipart(Message):
    """One part of an answer. ``entries``: how many there are in it."""

    type: int
    flags: int
    body: bytes
    entries: int

    @property
    def more(self) -> bool:
        """Whether it is not the last part."""
        return bool(self.flags & OFPMPF_REPLY_MORE)


@dataclass(slots=True)
class Description(Multipart):
    """What the switch is."""

    sw_desc: str


@dataclass(slots=True)
class Ports(Multipart):
    """The ports of a switch, or some of them."""

    ports: list[PortDesc]


class Framer:
    """Cuts what comes in by one connection into messages. Holds one unfinished message at the most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun that is not all there."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with this, each once. Raises BrokenMessageError where one can't be."""
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        try:
            while end - at >= HEADER.size:
                _, kind, size, _ = HEADER.unpack_from(buffer, at)
                if size < HEADER.size:
                    raise BrokenMessageError(f"a message of type {kind} says that it has {size} bytes, 8 is the least")
                if kind not in _PARSERS:
                    raise BrokenMessageError(f"a message of type {kind}, which no switch sends")
                if end - at < size:
                    return
                at += size
                yield bytes(buffer[at - size : at])
        finally:
            del buffer[:at]


def parse(raw: bytes) -> Message:
    """Read one message, of exactly the length that it says. Raises BrokenMessageError."""
    if len(raw) < HEADER.size:
        raise BrokenMessageError(f"a message of {len(raw)} bytes, 8 is the least")
    version, kind, size, xid = HEADER.unpack_from(raw)
    if size != len(raw):
        raise BrokenMessageError(f"a message of type {kind} says that it has {size} bytes, and has {len(raw)}")
    if version != VERSION and kind not in _ANY_VERSION:
        raise BrokenMessageError(f"a message of type {kind} in OpenFlow version {version}, not {VERSION} as agreed on")
    read = _PARSERS.get(kind)
    if read is None:
        raise BrokenMessageError(f"a message of type {kind}, which no switch sends")
    return read(kind, xid, raw)


def _least(what: str, raw: bytes, size: int) -> None:
    if len(raw) < size:
        raise BrokenMessageError(f"{what} of {len(raw)} bytes, {size} is the least")


def _exactly(what: str, raw: bytes, size: int) -> None:
    if len(raw) != size:
        raise BrokenMessageError(f"{what} of {len(raw)} bytes, has to have {size}")


def _hello(kind: int, xid: int, raw: bytes) -> Hello:
    versions: set[int] = set()
    at, end = HEADER.size, len(raw)
    while at < end:
        _least("the rest of a hello", raw[at:], _ELEMENT.size)
        element, size = _ELEMENT.unpack_from(raw, at)
        if size < _ELEMENT.size or size > end - at:
            raise BrokenMessageError(f"an element of a hello says that it has {size} bytes, {end - at} are there")
        if element == _VERSION_BITMAP:
            # versions 0 to 31; none beyond them exists
            bits = int.from_bytes(raw[at + 4 : at + 8], "big") if size >= 8 else 0
            versions.update(number for number in range(32) if bits >> number & 1)
        at += size + -size % 8
    return Hello(kind, xid, raw, raw[0], frozenset(versions))


def _error(kind: int, xid: int, raw: bytes) -> Message:
    _least("an error", raw, 12)
    if int.from_bytes(raw[8:10], "big") == _EXPERIMENTER_ERROR:
        _least("an experimenter's error", raw, 16)
    return Message(kind, xid, raw)


def _echo(kind: int, xid: int, raw: bytes) -> Echo:
    return Echo(kind, xid, raw, raw[HEADER.size :])


def _experimenter(kind: int, xid: int, raw: bytes) -> Message:
    _least("an experimenter's message", raw, 16)
    if raw[8:16] == _BUNDLE:
        _least("a bundle's reply", raw, 24)
        return BundleControl(kind, xid, raw)
    return Message(kind, xid, raw)


def _features(kind: int, xid: int, raw: bytes) -> Features:
    _exactly("a description of features", raw, HEADER.size + _FEATURES.size)
    dpid = _FEATURES.unpack_from(raw, HEADER.size)[0]
    if not dpid:
        raise BrokenMessageError("a datapath id of 0, which is nobody's")
    return Features(kind, xid, raw, dpid)


def _packet_in(kind: int, xid: int, raw: bytes) -> PacketIn:
    at = HEADER.size + _PACKET_IN.size
    _least("a packet-in", raw, at + 8 + 2)
    cookie = _PACKET_IN.unpack_from(raw, HEADER.size)[4]
    match, size = _match(raw, at)
    if _IN_PORT not in match:
        raise BrokenMessageError("a packet-in without in_port")
    at += size
    _least("a packet-in", raw, at + 2)
    return PacketIn(kind, xid, raw, cookie, match, raw[at + 2 :])


def _match(raw: bytes, start: int) -> tuple[dict[str, int], int]:
    """The fields that we know of an ofp_match, and how many bytes it takes."""
    kind, size = _ELEMENT.unpack_from(raw, start)
    padded = size + -size % 8
    if kind != _OXM_MATCH or size < _ELEMENT.size or padded > len(raw) - start:
        raise BrokenMessageError(f"a match of type {kind} says that it has {size} bytes, {len(raw) - start} are there")
    out: dict[str, int] = {}
    at, end = start + _ELEMENT.size, start + size
    while at < end:
        if end - at < 4:
            raise BrokenMessageError(f"{end - at} bytes at the end of a match are no field")
        number, length = int.from_bytes(raw[at : at + 3], "big"), raw[at + 3]
        at += 4
        if length > end - at:
            raise BrokenMessageError(f"a field of a match says that it has {length} bytes, {end - at} are there")
        oxm_class, masked = number >> 8, number & 1
        known = _NAMES.get((oxm_class, number >> 1 & 0x7F))
        if known is not None:
            if length != known.size << masked:
                raise BrokenMessageError(f"{known.name} in a match has {length} bytes, not {known.size << masked}")
            if known.name in out:
                raise BrokenMessageError(f"{known.name} stands in a match twice")
            out[known.name] = int.from_bytes(raw[at : at + known.size], "big")
        at += length
    return out, padded


def _port(raw: bytes, at: int) -> PortDesc:
    number, address, name, config, state = _PORT.unpack_from(raw, at)
    return PortDesc(number, address.hex(":"), _text(name), config, state)


def _text(raw: bytes) -> str:
    """What stands before the first zero; a control character in it would make more lines of a log of one."""
    text = raw.partition(b"\0")[0].decode("ascii", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _port_status(kind: int, xid: int, raw: bytes) -> PortStatus:
    _exactly("a port's status", raw, 16 + _PORT.size)
    reason = raw[8]
    if reason > OFPPR_MODIFY:
        raise BrokenMessageError(f"a port's status with reason {reason}, known are 0 to {OFPPR_MODIFY}")
    return PortStatus(kind, xid, raw, reason, _port(raw, 16))


def _multipart(kind: int, xid: int, raw: bytes) -> Multipart:
    start = HEADER.size + _MULTIPART.size
    _least("a multipart reply", raw, start)
    part, flags = _MULTIPART.unpack_from(raw, HEADER.size)
    if part > _LAST_MULTIPART and part != _EXPERIMENTER_MULTIPART:
        raise BrokenMessageError(f"a multipart reply of type {part}, which does not exist")
    body = raw[start:]
    if part == OFPMP_DESC:
        _exactly("the body of a switch's description", body, _DESCRIPTION.size)
        return Description(kind, xid, raw, part, flags, body, 1, _text(_DESCRIPTION.unpack(body)[2]))
    if part == OFPMP_PORT_DESC:
        if len(body) % _PORT.size:
            raise BrokenMessageError(f"ports of {len(body)} bytes, each has {_PORT.size}")
        ports = [_port(body, at) for at in range(0, len(body), _PORT.size)]
        return Ports(kind, xid, raw, part, flags, body, len(ports), ports)
    check = _ENTRIES.get(part)
    try:
        # what nobody asks for is not looked into
        return Multipart(kind, xid, raw, part, flags, body, 0 if check is None else check(body))
    except messages.BrokenReplyError as broken:
        raise BrokenMessageError(str(broken)) from None


# what a session asks for stays bytes until all of it is there: objects take several times as much memory
_ENTRIES: dict[int, Callable[[bytes], int]] = {
    OFPMP_FLOW: messages.check_flow_stats,
    OFPMP_GROUP: messages.check_group_stats,
    OFPMP_GROUP_DESC: messages.check_group_desc,
    OFPMP_METER_CONFIG: messages.check_meter_config,
}


def _fixed(what: str, size: int) -> Callable[[int, int, bytes], Message]:
    def read(kind: int, xid: int, raw: bytes) -> Message:
        _exactly(what, raw, size)
        return Message(kind, xid, raw)

    return read


def _from(what: str, size: int) -> Callable[[int, int, bytes], Message]:
    """What others may have asked the switch for: nothing of it is used."""

    def read(kind: int, xid: int, raw: bytes) -> Message:
        _least(what, raw, size)
        return Message(kind, xid, raw)

    return read


_ANY_VERSION = frozenset({OFPT_HELLO, OFPT_ERROR})  # before one is agreed on

_PARSERS: dict[int, Callable[[int, int, bytes], Message]] = {
    OFPT_HELLO: _hello,
    OFPT_ERROR: _error,
    OFPT_ECHO_REQUEST: _echo,
    OFPT_ECHO_REPLY: _echo,
    OFPT_EXPERIMENTER: _experimenter,
    OFPT_FEATURES_REPLY: _features,
    OFPT_GET_CONFIG_REPLY: _fixed("a switch's configuration", 12),
    OFPT_PACKET_IN: _packet_in,
    OFPT_FLOW_REMOVED: _from("a removed flow", 56),
    OFPT_PORT_STATUS: _port_status,
    OFPT_MULTIPART_REPLY: _multipart,
    OFPT_BARRIER_REPLY: _fixed("a barrier's reply", HEADER.size),
    OFPT_QUEUE_GET_CONFIG_REPLY: _from("a queue's configuration", 16),
    OFPT_ROLE_REPLY: _fixed("a role's reply", 24),
    OFPT_GET_ASYNC_REPLY: _fixed("an asynchronous configuration", 32),
}
