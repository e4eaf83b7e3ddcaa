"""Flows, groups and meters as OpenFlow 1.3 messages: `struct` only, for these are sent by the ten thousand.

Every message here has transaction id 0; `with_xid` puts in the real one when it is sent. Tests compare all
with the library's bytes.

A flow's cookie says whose it is and what it holds, to a controller without a memory::

    63      56 55      48 47                                   0
    +---------+----------+-------------------------------------+
    | 0x4E    | feature  | hash of table, priority, match and  |
    | "ours"  |          | instructions                        |
    +---------+----------+-------------------------------------+
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct, error
from typing import NamedTuple

from ryu_apps.openflow.actions import encode_actions, encode_instructions
from ryu_apps.openflow.oxm import encode_match
from ryu_apps.pipeline.values import ANY, Flow, Group, Meter

VERSION = 4
OFPT_FLOW_MOD, OFPT_GROUP_MOD, OFPT_METER_MOD = 14, 15, 29

COOKIE_MAGIC = 0x4E << 56
COOKIE_MASK = 0xFF << 56

# a message is at most 64 KB, and in a bundle it is wrapped in 24 bytes more
MAX_MESSAGE = 0xFFFF - 24

GROUP_TYPES = {"all": 0, "select": 1, "indirect": 2, "ff": 3}

_OFPFC_ADD, _OFPFC_DELETE = 0, 3
_OFPGC_ADD, _OFPGC_MODIFY, _OFPGC_DELETE = 0, 1, 2
_OFPMC_ADD, _OFPMC_MODIFY, _OFPMC_DELETE = 0, 1, 2
_METER_PKTPS, _METER_BURST, _METER_STATS = 2, 4, 8
_NO_BUFFER = 0xFFFFFFFF

_FLOW_MOD = Struct("!BBHIQQBBHHHIIIH2x")
_GROUP_MOD = Struct("!BBHIHBxI")
_BUCKET = Struct("!HHII4x")
_METER_MOD = Struct("!BBHIHHI")
_BAND = Struct("!HHII4x")
_KEY = Struct("!BH")
_NO_MATCH = encode_match(())


class EncodingError(ValueError):
    """A flow or group that no message can hold."""


class EncodedFlow(NamedTuple):
    """A flow ready for the wire: `body` is its match and its instructions."""

    table: int
    priority: int
    cookie: int
    body: bytes


def encode_flow(flow: Flow) -> EncodedFlow:
    """The flow on the wire, and the cookie that its content gives. Raises EncodingError."""
    what = f"a flow of table {flow.table} with {len(flow.actions)} actions"
    try:
        body = encode_match(flow.match) + encode_instructions(flow.actions, flow.goto, flow.meter)
    except (ValueError, OverflowError, error) as wrong:
        raise EncodingError(f"{what} can't be sent to a switch: {wrong}") from wrong
    _fits(what, 48 + len(body))
    digest = blake2b(_KEY.pack(flow.table, flow.priority) + body, digest_size=6).digest()
    cookie = COOKIE_MAGIC | flow.kind << 48 | int.from_bytes(digest, "big")
    return EncodedFlow(flow.table, flow.priority, cookie, body)


def cookie_of(flow: Flow) -> int:
    """The cookie of a flow."""
    return encode_flow(flow).cookie


def kind_of(cookie: int) -> int:
    """The `FlowKind` that a cookie names."""
    return cookie >> 48 & 0xFF


def flow_add(flow: EncodedFlow) -> bytes:
    """Add the flow; one of the same table, priority and match is replaced, cookie and all."""
    size = 48 + len(flow.body)
    return _FLOW_MOD.pack(
        VERSION, OFPT_FLOW_MOD, size, 0,
        flow.cookie, 0, flow.table, _OFPFC_ADD, 0, 0, flow.priority, _NO_BUFFER, ANY, ANY, 0,
    ) + flow.body  # fmt: skip


def flow_delete(cookie: int, table: int) -> bytes:
    """Delete the flows of a table that bear exactly this cookie."""
    return _FLOW_MOD.pack(
        VERSION, OFPT_FLOW_MOD, 56, 0,
        cookie, 0xFFFFFFFFFFFFFFFF, table, _OFPFC_DELETE, 0, 0, 0, _NO_BUFFER, ANY, ANY, 0,
    ) + _NO_MATCH  # fmt: skip


class EncodedGroup(NamedTuple):
    """A group ready for the wire, or as a switch describes it: equal ones are the same group."""

    id: int
    type: int
    buckets: bytes


def encode_group(group: Group) -> EncodedGroup:
    """The group on the wire. Raises EncodingError."""
    what = f"group {group.id} with {len(group.buckets)} buckets"
    try:
        buckets = encode_buckets(group)
    except (ValueError, OverflowError, error) as wrong:
        raise EncodingError(f"{what} can't be sent to a switch: {wrong}") from wrong
    _fits(what, 16 + len(buckets))
    return EncodedGroup(group.id, GROUP_TYPES[group.type], buckets)


def _fits(what: str, size: int) -> None:
    if size > MAX_MESSAGE:
        raise EncodingError(f"{what} takes {size} bytes, and a message to a switch has {MAX_MESSAGE} at most")


def encode_buckets(group: Group) -> bytes:
    """A group's buckets, byte for byte as the switch describes them afterwards."""
    out = []
    select = group.type == "select"
    for bucket in group.buckets:
        actions = encode_actions(bucket.actions)
        weight = bucket.weight if select else 0
        out.append(_BUCKET.pack(16 + len(actions), weight, bucket.watch_port, ANY))
        out.append(actions)
    return b"".join(out)


def bucket_actions(group: EncodedGroup) -> list[bytes]:
    """The actions of each bucket, as `encode_actions` writes them."""
    out = []
    at = 0
    while at < len(group.buckets):
        size = int.from_bytes(group.buckets[at : at + 2], "big")
        if size < _BUCKET.size:
            break  # a switch's own words, which make no sense from here on
        out.append(group.buckets[at + _BUCKET.size : at + size])
        at += size
    return out


def _group_mod(command: int, group: EncodedGroup) -> bytes:
    size = 16 + len(group.buckets)
    head = _GROUP_MOD.pack(VERSION, OFPT_GROUP_MOD, size, 0, command, group.type, group.id)
    return head + group.buckets


def group_add(group: EncodedGroup) -> bytes:
    """Add a group that is not there yet."""
    return _group_mod(_OFPGC_ADD, group)


def group_modify(group: EncodedGroup) -> bytes:
    """Replace type and buckets of a group that is there."""
    return _group_mod(_OFPGC_MODIFY, group)


def group_delete(group_id: int) -> bytes:
    """Delete a group, and with it the flows that use it; one that is not there is no error."""
    return _group_mod(_OFPGC_DELETE, EncodedGroup(group_id, 0, b""))


def encode_meter(meter: Meter) -> bytes:
    """A meter's flags, id and band, as in a meter mod and (statistics apart) as the switch describes them."""
    flags = _METER_PKTPS | _METER_STATS | (_METER_BURST if meter.burst else 0)
    return flags.to_bytes(2, "big") + meter.id.to_bytes(4, "big") + _BAND.pack(1, 16, meter.rate, meter.burst)


def _meter_mod(command: int, meter: Meter) -> bytes:
    content = encode_meter(meter)
    flags = int.from_bytes(content[:2], "big")
    return _METER_MOD.pack(VERSION, OFPT_METER_MOD, 32, 0, command, flags, meter.id) + content[6:]


def meter_add(meter: Meter) -> bytes:
    """Add a meter that is not there yet."""
    return _meter_mod(_OFPMC_ADD, meter)


def meter_modify(meter: Meter) -> bytes:
    """Change a meter that is there."""
    return _meter_mod(_OFPMC_MODIFY, meter)


def meter_content(message: bytes) -> bytes:
    """What a meter mod wants, as `encode_meter` writes it."""
    return message[10:]


def meter_delete(meter_id: int) -> bytes:
    """Delete a meter, and with it the flows that use it."""
    return _METER_MOD.pack(VERSION, OFPT_METER_MOD, 16, 0, _OFPMC_DELETE, 0, meter_id)


def with_xid(message: bytes, xid: int) -> bytes:
    """The message under a transaction id."""
    return message[:4] + xid.to_bytes(4, "big") + message[8:]


__all__ = [
    "COOKIE_MAGIC", "COOKIE_MASK", "GROUP_TYPES", "MAX_MESSAGE", "EncodedFlow", "EncodedGroup", "EncodingError",
    "bucket_actions", "cookie_of", "encode_actions", "encode_buckets", "encode_flow", "encode_group",
    "encode_instructions", "encode_match", "encode_meter", "kind_of", "flow_add", "flow_delete", "group_add",
    "group_delete", "group_modify", "meter_add", "meter_content", "meter_delete", "meter_modify", "with_xid",
]  # fmt: skip
