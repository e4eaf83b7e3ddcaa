"""Multipart replies stay bytes: the library is slow by the thousand, and trusts a switch's lengths.

It builds an object for each flow, match field and action of a dump (45 ms a thousand flows), and an entry of length 0
keeps it busy for ever. Its table of parsers gets one of ours for multipart replies, which keeps the bodies of those
that a `Session` asks for as bytes in ``msg.body``, and hands on those of a switch that connects: what it is, and its
ports, both of fixed length. Nobody asks for others: they are dropped. Ryu 4.34 and os-ken 4 have the same table.
"""

from __future__ import annotations

from typing import Any

from ryu_apps import framework
from ryu_apps.openflow.messages import (
    OFPMP_DESC,
    OFPMP_FLOW,
    OFPMP_GROUP,
    OFPMP_GROUP_DESC,
    OFPMP_METER_CONFIG,
    OFPMP_PORT_DESC,
    OFPMPF_REPLY_MORE,
    OFPT_MULTIPART_REPLY,
)

_parser = framework.parser
_CLASSES = {
    OFPMP_FLOW: _parser.OFPFlowStatsReply,
    OFPMP_GROUP: _parser.OFPGroupStatsReply,
    OFPMP_GROUP_DESC: _parser.OFPGroupDescStatsReply,
    OFPMP_METER_CONFIG: _parser.OFPMeterConfigStatsReply,
}
_LIBRARYS = (OFPMP_DESC, OFPMP_PORT_DESC)
_library_parser = _parser.OFPMultipartReply.parser


def _parse(  # noqa: PLR0917 - the library's way to call it
    datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: Any
) -> Any:
    kind = int.from_bytes(buf[8:10], "big")
    if kind in _LIBRARYS:
        return _library_parser(datapath, version, msg_type, msg_len, xid, buf)
    cls = _CLASSES.get(kind)
    if cls is None:
        return None
    message = cls(datapath)
    message.set_headers(version, msg_type, msg_len, xid)
    message.type = kind
    message.flags = int.from_bytes(buf[10:12], "big")
    message.body = bytes(buf[16:msg_len])
    return message


def more_follows(message: Any) -> bool:
    """Whether this reply is not the last of its request."""
    return bool(message.flags & OFPMPF_REPLY_MORE)


_parser._MSG_PARSERS[OFPT_MULTIPART_REPLY] = _parse
