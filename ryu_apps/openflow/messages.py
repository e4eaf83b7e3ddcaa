"""Bundles, barriers, dumps and conntrack flushes on the wire; `struct` only.

A message whose transaction id is fixed once sent takes it as ``xid``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from ryu_apps.openflow.actions import encode_actions
from ryu_apps.openflow.codec import VERSION, EncodedGroup
from ryu_apps.openflow.oxm import encode_match
from ryu_apps.pipeline.values import ANY, Action, Match

OFPT_ERROR, OFPT_EXPERIMENTER, OFPT_PACKET_OUT = 1, 4, 13
OFPT_MULTIPART_REQUEST, OFPT_MULTIPART_REPLY = 18, 19
OFPT_BARRIER_REQUEST, OFPT_BARRIER_REPLY = 20, 21
OFPT_ROLE_REQUEST = 24
ROLE_MASTER, ROLE_SLAVE = 2, 3
OFPMP_DESC, OFPMP_FLOW, OFPMP_GROUP, OFPMP_GROUP_DESC, OFPMP_METER_CONFIG, OFPMP_PORT_DESC = 0, 1, 6, 7, 10, 13
OFPMPF_REPLY_MORE = 1

# bundle control types (ONF extension 230)
OPEN_REQUEST, OPEN_REPLY, CLOSE_REQUEST, CLOSE_REPLY = 0, 1, 2, 3
COMMIT_REQUEST, COMMIT_REPLY, DISCARD_REQUEST, DISCARD_REPLY = 4, 5, 6, 7

ONF, NICIRA = 0x4F4E4600, 0x00002320
BUNDLE_CONTROL, BUNDLE_ADD = 2300, 2301
_ATOMIC_ORDERED = 3
_NXT_CT_FLUSH_ZONE, _NXT_CT_FLUSH = 29, 32

_HEADER = Struct("!BBHI")
_EXPERIMENTER = Struct("!BBHIII")
_CONTROL = Struct("!BBHIIIIHH")
_ADD = Struct("!BBHIIII2xH")
_MULTIPART = Struct("!BBHIHH4x")
_FLOW_REQUEST = Struct("!B3xII4xQQ")
_PACKET_OUT = Struct("!BBHIIIH6x")
_ROLE = Struct("!BBHII4xQ")
_TLV = Struct("!HH")
_V4_MAPPED = 0xFFFF << 32


def bundle_control(xid: int, bundle: int, kind: int) -> bytes:
    """Open, close, commit or discard a bundle: all or nothing, in order."""
    return _CONTROL.pack(
        VERSION, OFPT_EXPERIMENTER, 24, xid, ONF, BUNDLE_CONTROL, bundle, kind, _ATOMIC_ORDERED
    )


def bundle_add(xid: int, bundle: int, message: bytes) -> bytes:
    """Put a message into a bundle. Both carry the one transaction id, as the extension demands."""
    head = _ADD.pack(
        VERSION, OFPT_EXPERIMENTER, 24 + len(message), xid, ONF, BUNDLE_ADD, bundle, _ATOMIC_ORDERED
    )
    return b"".join((head, message[:4], head[4:8], message[8:]))


def barrier(xid: int) -> bytes:
    """Answered when all that was sent before is done."""
    return _HEADER.pack(VERSION, OFPT_BARRIER_REQUEST, 8, xid)


def role_request(xid: int, role: int, generation: int) -> bytes:
    """Ask to be the master or a slave; a switch refuses a generation older than one that it knows."""
    return _ROLE.pack(VERSION, OFPT_ROLE_REQUEST, 24, xid, role, generation)


def packet_out(in_port: int, actions: Sequence[Action], data: bytes) -> bytes:
    """Send a packet through the actions, as if it had come in by the port."""
    encoded = encode_actions(actions)
    size = 24 + len(encoded) + len(data)
    head = _PACKET_OUT.pack(VERSION, OFPT_PACKET_OUT, size, 0, 0xFFFFFFFF, in_port, len(encoded))
    return head + encoded + data


def flow_stats_request(xid: int, cookie: int, cookie_mask: int, match: Match = ()) -> bytes:
    """The flows of all tables whose cookie agrees under the mask, and that match what ``match`` does or part of it."""
    body = _FLOW_REQUEST.pack(0xFF, ANY, ANY, cookie, cookie_mask) + encode_match(match)
    return _MULTIPART.pack(VERSION, OFPT_MULTIPART_REQUEST, 16 + len(body), xid, OFPMP_FLOW, 0) + body


def group_stats_request(xid: int, group_id: int) -> bytes:
    """What one group has counted; ANY: every group."""
    head = _MULTIPART.pack(VERSION, OFPT_MULTIPART_REQUEST, 24, xid, OFPMP_GROUP, 0)
    return head + group_id.to_bytes(4, "big") + bytes(4)


def multipart_request(xid: int, kind: int) -> bytes:
    """A question without a body."""
    return _MULTIPART.pack(VERSION, OFPT_MULTIPART_REQUEST, 16, xid, kind, 0)


def group_desc_request(xid: int) -> bytes:
    """All groups with their buckets."""
    return multipart_request(xid, OFPMP_GROUP_DESC)


def meter_config_request(xid: int) -> bytes:
    """All meters."""
    all_meters = ANY.to_bytes(4, "big") + bytes(4)
    return _MULTIPART.pack(VERSION, OFPT_MULTIPART_REQUEST, 24, xid, OFPMP_METER_CONFIG, 0) + all_meters


class FlowStat(NamedTuple):
    """One flow in the switch. `match` is the ofp_match as the switch writes it, without padding."""

    table: int
    priority: int
    cookie: int
    packet_count: int
    byte_count: int
    match: bytes


class GroupStat(NamedTuple):
    """What one group has counted: the packets that each bucket took, in the order of its buckets."""

    id: int
    buckets: tuple[int, ...]


_FLOW_STAT = Struct("!HBxIIHHHH4xQQQHH")
_GROUP_DESC = Struct("!HBxI")
_GROUP_STAT = Struct("!HxxI")
_BUCKET_COUNTS = Struct("!QQ")
_GROUP_STAT_SIZE = 40  # before its buckets
_BUCKET_SIZE = 16  # before its actions


class BrokenReplyError(ValueError):
    """A switch's reply whose entries do not fit into it."""

    def __init__(self, what: str, size: int, least: int, left: int) -> None:
        super().__init__(f"an entry of {what} says that it has {size} bytes, and takes {least} to {left}")


def check_flow_stats(body: bytes) -> int:
    """How many flows the body of one reply to `flow_stats_request` holds. As all of these, raises BrokenReplyError."""
    count, least = 0, _FLOW_STAT.size + 4  # the shortest match has 8 bytes, 4 of them counted already
    for count, (at, size) in enumerate(_entries(body, "flow statistics", least), 1):  # noqa: B007
        match_size = int.from_bytes(body[at + 50 : at + 52], "big")
        if match_size < 4 or match_size + -match_size % 8 > size - 48:
            raise BrokenReplyError("flow statistics, its match,", match_size, 4, size - 48)
    return count


def decode_flow_stats(body: bytes) -> list[FlowStat]:
    """The flows in a body that was checked."""
    out = []
    at, end, unpack = 0, len(body), _FLOW_STAT.unpack_from
    while at < end:
        size, table, _, _, priority, _, _, _, cookie, packets, octets, _, match_size = unpack(body, at)
        out.append(FlowStat(table, priority, cookie, packets, octets, body[at + 48 : at + 48 + match_size]))
        at += size
    return out


def check_group_desc(body: bytes) -> int:
    """How many groups the body of one reply to `group_desc_request` holds; their buckets are checked as well."""
    count = 0
    for count, (at, size) in enumerate(_entries(body, "group descriptions", _GROUP_DESC.size), 1):  # noqa: B007
        for _ in _entries(body[at + _GROUP_DESC.size : at + size], "buckets", _BUCKET_SIZE):
            pass
    return count


def decode_group_desc(body: bytes) -> list[EncodedGroup]:
    """The groups in a body that was checked."""
    out = []
    for at, size in _entries(body, "group descriptions", _GROUP_DESC.size):
        _, kind, group_id = _GROUP_DESC.unpack_from(body, at)
        out.append(EncodedGroup(group_id, kind, body[at + 8 : at + size]))
    return out


def check_group_stats(body: bytes) -> int:
    """How many groups the body of one reply to `group_stats_request` holds."""
    return sum(1 for _ in _entries(body, "group statistics", _GROUP_STAT_SIZE))


def decode_group_stats(body: bytes) -> list[GroupStat]:
    """The counts in a body that was checked."""
    out = []
    for at, size in _entries(body, "group statistics", _GROUP_STAT_SIZE):
        _, group_id = _GROUP_STAT.unpack_from(body, at)
        buckets = (size - _GROUP_STAT_SIZE) // _BUCKET_COUNTS.size
        counts = (_BUCKET_COUNTS.unpack_from(body, at + _GROUP_STAT_SIZE + 16 * n) for n in range(buckets))
        out.append(GroupStat(group_id, tuple(packets for packets, _ in counts)))
    return out


def check_meter_config(body: bytes) -> int:
    """How many meters the body of one reply to `meter_config_request` holds."""
    return sum(1 for _ in _entries(body, "meters", 8))


def decode_meter_config(body: bytes) -> list[bytes]:
    """The meters in a body that was checked, as `codec.encode_meter` writes them."""
    return [body[at + 2 : at + size] for at, size in _entries(body, "meters", 8)]


def _entries(body: bytes, what: str, least: int) -> Iterator[tuple[int, int]]:
    """Where each entry begins and how long it is; their first two bytes say so."""
    at, end = 0, len(body)
    while at < end:
        size = int.from_bytes(body[at : at + 2], "big")
        if size < least or size > end - at:
            raise BrokenReplyError(what, size, least, end - at)
        yield at, size
        at += size


class Tuple5(NamedTuple):
    """One direction of a connection, or a part of it: addresses as integers, None or 0: any."""

    src: int | None = None
    dst: int | None = None
    src_port: int = 0
    dst_port: int = 0
    version: int = 4  # of the addresses


def _tlv(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return _TLV.pack(kind, size) + value + bytes(-size % 8)


def _tuple_tlv(kind: int, part: Tuple5) -> bytes:
    nested = bytes(4)  # what is nested starts on 8 bytes
    # Open vSwitch 3.1 takes an address that is given as zero for "no address family": leave it out
    for number, address in enumerate((part.src, part.dst)):
        if address:
            nested += _tlv(number, (address if part.version == 6 else _V4_MAPPED | address).to_bytes(16, "big"))
    for number, port in ((2, part.src_port), (3, part.dst_port)):
        if port:
            nested += _tlv(number, port.to_bytes(2, "big"))
    return _tlv(kind, nested)


def _nicira(kind: int, body: bytes) -> bytes:
    return _EXPERIMENTER.pack(VERSION, OFPT_EXPERIMENTER, 16 + len(body), 0, NICIRA, kind) + body


def ct_flush_zone(zone: int) -> bytes:
    """Forget all connections of a conntrack zone (NXT_CT_FLUSH_ZONE)."""
    return _nicira(_NXT_CT_FLUSH_ZONE, bytes(6) + zone.to_bytes(2, "big"))


def ct_flush(zone: int, ip_proto: int, orig: Tuple5 | None = None, reply: Tuple5 | None = None) -> bytes:
    """Forget the connections of a zone that agree with the tuples (NXT_CT_FLUSH, Open vSwitch 3.1)."""
    body = ip_proto.to_bytes(1, "big") + bytes(7)
    if orig is not None and any(orig[:4]):
        body += _tuple_tlv(0, orig)
    if reply is not None and any(reply[:4]):
        body += _tuple_tlv(1, reply)
    return _nicira(_NXT_CT_FLUSH, body + _tlv(2, zone.to_bytes(2, "big")))
