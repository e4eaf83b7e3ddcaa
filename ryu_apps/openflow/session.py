"""One connected switch: read back what is in it, and change it, by one thread of control.

Called from one greenthread only (`send_plain` apart, which any may call). The answers come in through
`on_event` from the application's event loop, which must be another greenthread than the caller, or both would
wait for ever::

    @set_ev_cls(session.EVENTS, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def switch_answered(self, ev):
        self.sessions[datapath_of(ev)].on_event(ev)

A change goes as a bundle: open, one ADD for each message, close; the answer to the close says that the
switch has seen all of them. Only if it complained of none is the bundle committed, else discarded: Open
vSwitch would commit what is left of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

from ryu_apps.framework import DEAD_DISPATCHER, hub, ofp_event
from ryu_apps.openflow import listener, messages
from ryu_apps.openflow.codec import (
    COOKIE_MAGIC,
    COOKIE_MASK,
    OFPT_FLOW_MOD,
    OFPT_GROUP_MOD,
    OFPT_METER_MOD,
    EncodedGroup,
    meter_content,
    with_xid,
)
from ryu_apps.openflow.complaints import COMPLAINTS
from ryu_apps.openflow.describe import PortDescription
from ryu_apps.openflow.failures import Disconnected, NoAnswer, PartlyDone, Refused, error_text
from ryu_apps.openflow.inbound import Multipart
from ryu_apps.openflow.messages import (
    OFPMP_FLOW,
    OFPMP_GROUP,
    OFPMP_GROUP_DESC,
    OFPMP_METER_CONFIG,
    FlowStat,
    GroupStat,
    Tuple5,
)
from ryu_apps.pipeline.values import ANY, Match

T = TypeVar("T")
BUNDLE_LIMIT = 50_000
"""Messages in one bundle; more go as several, each atomic."""

DUMP_LIMIT, ENTRY_LIMIT = 96 << 20, 500_000
"""Bytes and entries of one answer, in as many parts as it takes. 10,000 services are 154,000 flows, of 23 MB."""
ALL_DUMPS = 512 << 20
"""Bytes of all unfinished answers together: beyond it, the switch with the largest one is disconnected."""
PART_SIZE = 64  # bytes that a part takes beside its body
IS_SLAVE = "OFPBRC_IS_SLAVE"
_JOINED = 50  # messages in one write to the socket
_MAX_XID = 0xFFFFFFFF
_ONE_BY_ONE = 256  # groups to ask about; more are read all together
_MODIFY = b"\x00\x01"  # the command of a meter mod

EVENTS = [
    ofp_event.EventOFPErrorMsg,
    ofp_event.EventONFBundleCtrlMsg,
    ofp_event.EventOFPBarrierReply,
    ofp_event.EventOFPFlowStatsReply,
    ofp_event.EventOFPGroupStatsReply,
    ofp_event.EventOFPGroupDescStatsReply,
    ofp_event.EventOFPMeterConfigStatsReply,
    ofp_event.EventOFPStateChange,
]
"""The events that an application forwards to `Session.on_event`."""


def datapath_of(ev: Any) -> Any:
    """The framework's datapath that an event of `EVENTS` is about."""
    return ev.msg.datapath if hasattr(ev, "msg") else ev.datapath


class Mod(NamedTuple):
    """A message without transaction id, and on whose behalf it is sent."""

    owner: Hashable
    message: bytes


Errors = tuple[tuple[Any, str], ...]
"""Owners whose mods the switch refused, each with the error's type and code by name; none: all was done."""


@dataclass(slots=True)
class _Exchange:
    """What we wait for: answers and errors, by the transaction ids of what we have sent."""

    first: int  # ids first..last belong to it
    last: int
    awaited: int  # the id whose (last) answer ends the wait
    bodies: list[bytes] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    size: int = 0  # bytes of the bodies, about
    entries: int = 0
    answered: bool = False
    part: int | None = None  # the type of multipart that is asked for


class Session:
    """One switch connection, over the framework's datapath object."""

    def __init__(
        self,
        datapath: Any,
        on_error: Callable[[str], None] | None = None,
        allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        """``on_error`` hears of errors about messages nobody waits for; None: they are logged.

        ``allowed`` is asked before each message: once it says no, nothing is sent but `be_slave`.
        """
        self.datapath = datapath
        self._allowed = allowed
        self.version: tuple[int, ...] = ()  # of Open vSwitch; empty where it does not say
        self.described: PortDescription[Any] | None = None  # its ports; None: nobody has asked for them
        self.flow_mods = 0
        self.group_mods = 0
        self.meter_mods = 0
        self._on_error = on_error or self._log_error
        self._exchange: _Exchange | None = None
        self._wake = hub.Event()
        self._closed = False
        self._bundle = 0

    _collecting: ClassVar[dict[Session, int]] = {}
    """The sessions with an answer that is not all there, and its bytes."""

    @property
    def connected(self) -> bool:
        """Whether the switch is still there."""
        return not self._closed and bool(self.datapath.is_active)

    def close(self) -> None:
        """End the connection, if it has not ended: whoever waits for the switch raises `Disconnected`."""
        if self._closed:
            return
        self._closed = True
        self._collecting.pop(self, None)
        self.datapath.close()
        self._wake.set()

    def end(self, reason: str) -> None:
        """The same, and say why."""
        if not self._closed:
            self.datapath.end(reason)
            self.close()

    # --- what comes in

    def on_event(self, ev: Any) -> None:
        """Take an event of `EVENTS` that is about this datapath."""
        message = getattr(ev, "msg", None)
        if message is None:
            if ev.state == DEAD_DISPATCHER:
                self.close()
            return
        exchange = self._exchange
        mine = exchange is not None and exchange.first <= message.xid <= exchange.last
        if message.msg_type == messages.OFPT_ERROR:
            if exchange is None or not mine:
                self._on_error(error_text(message.buf))
                return
            exchange.errors[message.xid] = error_text(message.buf)
        elif exchange is None or not mine:
            return
        elif message.msg_type == messages.OFPT_MULTIPART_REPLY:
            if exchange.answered:
                return
            self._collect(exchange, message)
            if message.more:
                return
        if message.xid == exchange.awaited:
            exchange.answered = True
            self._collecting.pop(self, None)
            self._wake.set()

    def _collect(self, exchange: _Exchange, part: Multipart) -> None:
        """One more part of an answer."""
        if part.type != exchange.part:
            self.end(f"a multipart reply of type {part.type} where none, or another, was asked for: {exchange.part}")
            return
        exchange.bodies.append(part.body)
        exchange.size += len(part.body) + PART_SIZE
        exchange.entries += part.entries
        if exchange.size > DUMP_LIMIT or exchange.entries > ENTRY_LIMIT:
            exchange.bodies.clear()
            self.end(
                f"an answer of it has no end: {exchange.size} bytes with {exchange.entries} entries, "
                f"at most {DUMP_LIMIT} with {ENTRY_LIMIT} are taken"
            )
            return
        collecting = self._collecting
        collecting[self] = exchange.size
        if sum(collecting.values()) > ALL_DUMPS:
            largest = max(collecting, key=lambda session: collecting[session])
            largest.end(f"{len(collecting)} switches answer with more than {ALL_DUMPS} bytes, it with most of them")

    # --- several controllers

    def be_slave(self, generation: int) -> None:
        """Write no more, and hear of ports only. Waits for nothing; any greenthread may call it."""
        if not self._closed:
            self.datapath.send_now(messages.role_request(self._ids(1), messages.ROLE_SLAVE, generation))

    def be_master(self, generation: int, timeout: float) -> None:
        """Be the one controller that may write. Refused: one of a later generation is, or was."""
        exchange = self._begin(2)
        self._send(messages.role_request(exchange.first, messages.ROLE_MASTER, generation))
        self._send(messages.barrier(exchange.last))
        self._wait(exchange, time.monotonic() + timeout, "a role request")
        for text in exchange.errors.values():
            raise Refused(f"the switch does not take us as its master: {text}")

    # --- reading

    def read_back(self, timeout: float) -> tuple[list[FlowStat], list[EncodedGroup]]:
        """All flows that bear our cookies and all groups."""
        until = time.monotonic() + timeout
        flows = self.read_flows(timeout)
        groups = self._dump(OFPMP_GROUP_DESC, [messages.group_desc_request], until)
        return flows, _decoded(messages.decode_group_desc, groups)

    def read_flows(
        self, timeout: float, match: Match = (), cookie: int = COOKIE_MAGIC, mask: int = COOKIE_MASK
    ) -> list[FlowStat]:
        """The flows that match what ``match`` does or part of it, and whose cookie agrees under ``mask``."""
        until = time.monotonic() + timeout
        request = partial(messages.flow_stats_request, cookie=cookie, cookie_mask=mask, match=match)
        return _decoded(messages.decode_flow_stats, self._dump(OFPMP_FLOW, [request], until))

    def read_groups(self, timeout: float, numbers: Iterable[int]) -> list[GroupStat]:
        """What these groups have counted; one that is not there is left out."""
        wanted = set(numbers)
        if not wanted:
            return []
        asked = wanted if len(wanted) <= _ONE_BY_ONE else (ANY,)
        requests = [partial(messages.group_stats_request, group_id=number) for number in asked]
        bodies = self._dump(OFPMP_GROUP, requests, time.monotonic() + timeout)
        return [s for s in _decoded(messages.decode_group_stats, bodies) if s.id in wanted]

    def read_meters(self, timeout: float) -> list[bytes]:
        """All meters, each as `codec.encode_meter` writes it."""
        bodies = self._dump(OFPMP_METER_CONFIG, [messages.meter_config_request], time.monotonic() + timeout)
        return _decoded(messages.decode_meter_config, bodies)

    def _dump(self, part: int, requests: Sequence[Callable[[int], bytes]], until: float) -> list[bytes]:
        """Send them all; the switch answers in their order, so the last one's last answer ends it."""
        exchange = self._begin(len(requests))
        exchange.part = part
        ids = range(exchange.first, exchange.last + 1)
        self._send_all([request(xid) for request, xid in zip(requests, ids, strict=True)])
        try:
            self._wait(exchange, until, "a dump")
        finally:
            self._exchange = None  # what still comes of it is not kept
            self._collecting.pop(self, None)
        for text in exchange.errors.values():
            raise Refused(f"the switch refused a dump: {text}")
        return exchange.bodies

    # --- writing

    def apply(self, mods: Sequence[Mod], timeout: float) -> Errors:
        """Carry out flow and group mods in the order given, all or nothing.

        Raises a SessionError when it is not known what the switch has done, or is not what was wished: read
        back then. More than `BUNDLE_LIMIT` mods are several bundles; only each of them is all or nothing.
        """
        until = time.monotonic() + timeout
        for start in range(0, len(mods), BUNDLE_LIMIT):
            errors = self._bundle_up(mods[start : start + BUNDLE_LIMIT], until)
            if errors and start:
                raise PartlyDone(f"{start} of {len(mods)} mods done, then: {errors[0][1]}")
            if errors:
                return errors
        return ()

    def _bundle_up(self, mods: Sequence[Mod], until: float) -> Errors:
        self._bundle += 1
        bundle = self._bundle
        # ids in the order sent: open, the mods, close, commit or discard
        exchange = self._begin(len(mods) + 3)
        opening, closing = exchange.first, exchange.last - 1
        exchange.awaited = closing
        wire = [messages.bundle_control(opening, bundle, messages.OPEN_REQUEST)]
        wire += [
            messages.bundle_add(xid, bundle, mod.message) for xid, mod in enumerate(mods, start=opening + 1)
        ]
        wire.append(messages.bundle_control(closing, bundle, messages.CLOSE_REQUEST))
        self._send_all(wire)
        self._count(mods)
        self._wait(exchange, until, "a bundle")
        exchange.awaited, exchange.answered = exchange.last, False
        if exchange.errors:
            failed = dict(exchange.errors)
            self._send(messages.bundle_control(exchange.last, bundle, messages.DISCARD_REQUEST))
            self._wait(exchange, until, "a bundle's discard")
        else:
            self._send(messages.bundle_control(exchange.last, bundle, messages.COMMIT_REQUEST))
            self._wait(exchange, until, "a bundle's commit")
            failed = exchange.errors
        if any(IS_SLAVE in text for text in failed.values()):
            raise Refused("the switch has another master now")
        named = tuple(
            (mods[xid - opening - 1].owner, text)
            for xid, text in sorted(failed.items())
            if opening < xid < closing
        )
        if failed and not named:
            raise Refused("the switch refused a bundle: " + "; ".join(failed.values()))
        return named

    def apply_plain(self, mods: Sequence[Mod], timeout: float) -> Errors:
        """Send what no bundle may hold (meters), one by one; an error stands for its own mod only."""
        exchange = self._begin(len(mods) + 1)
        wire = [with_xid(mod.message, xid) for xid, mod in enumerate(mods, start=exchange.first)]
        wire.append(messages.barrier(exchange.awaited))
        self._send_all(wire)
        self._count(mods)
        self._wait(exchange, time.monotonic() + timeout, "a barrier")
        if exchange.awaited in exchange.errors:
            raise Refused(f"the switch refused a barrier: {exchange.errors[exchange.awaited]}")
        return tuple((mods[xid - exchange.first].owner, text) for xid, text in exchange.errors.items())

    def ensure_meters(self, messages: Iterable[bytes], timeout: float) -> set[int]:
        """See to it that the meters of these `codec.meter_add` are there; sends nothing of those that are.

        Returns the ids of all that there were.
        """
        until = time.monotonic() + timeout
        there = {meter[2:6]: meter for meter in self.read_meters(timeout)}
        mods = []
        for message in messages:
            wanted = meter_content(message)
            old = there.get(wanted[2:6])
            if old != wanted:
                mods.append(Mod(None, message if old is None else message[:8] + _MODIFY + message[10:]))
        for _, text in self.apply_plain(mods, until - time.monotonic()) if mods else ():
            raise Refused(f"the switch refused a meter: {text}")
        return {int.from_bytes(number, "big") for number in there}

    def barrier(self, timeout: float) -> None:
        """Wait until the switch has done all that it was sent."""
        self.apply_plain((), timeout)

    def send_plain(self, message: bytes) -> None:
        """Send one message (a packet-out, say) and wait for nothing, not even for a switch that does not read."""
        self._may_send()
        if not self.datapath.send_now(with_xid(message, self._ids(1))):
            raise Disconnected("the switch has disconnected")

    def ask_what_it_is(self) -> None:
        """What it is, then its ports: the answers are events. Waits for nothing."""
        for kind in (messages.OFPMP_DESC, messages.OFPMP_PORT_DESC):
            self.datapath.send_now(messages.multipart_request(self._ids(1), kind))

    def flush_ct(
        self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
    ) -> None:
        """Forget connections of a conntrack zone: all of it, or those that agree with a protocol and tuples.

        Before Open vSwitch 3.4 its userspace datapath may skip entries; further flushes find them.
        """
        if not ip_proto and not orig and not reply:
            self.send_plain(messages.ct_flush_zone(zone))
        else:
            self.send_plain(messages.ct_flush(zone, ip_proto, orig, reply))

    # --- the machinery

    def _ids(self, count: int) -> int:
        """Take ``count`` transaction ids in a row, out of the same run as the framework's own."""
        first = self.datapath.xid + 1
        if first + count > _MAX_XID:
            first = 1
        self.datapath.xid = first + count - 1
        return int(first)

    def _begin(self, count: int) -> _Exchange:
        first = self._ids(count)
        self._exchange = _Exchange(first, first + count - 1, first + count - 1)
        return self._exchange

    def _send(self, data: bytes) -> None:
        self._may_send()
        if not self.datapath.send(data):
            raise Disconnected("the switch has disconnected")

    def _may_send(self) -> None:
        if not self._allowed():
            raise Disconnected("we do not lead any more")
        if self._closed:
            raise Disconnected("the switch has disconnected")

    def _send_all(self, wire: list[bytes]) -> None:
        for at in range(0, len(wire), _JOINED):
            self._send(b"".join(wire[at : at + _JOINED]))

    def _wait(self, exchange: _Exchange, until: float, what: str) -> None:
        while not exchange.answered:
            if not self.connected:
                raise Disconnected("the switch has disconnected")
            left = until - time.monotonic()
            if left <= 0:
                raise NoAnswer(f"the switch did not answer {what} in time")
            self._wake.clear()
            # a look now and then: a connection can end before its session hears of any event
            self._wake.wait(min(left, 1.0))

    def _count(self, mods: Sequence[Mod]) -> None:
        kinds = [mod.message[1] for mod in mods]
        self.flow_mods += kinds.count(OFPT_FLOW_MOD)
        self.group_mods += kinds.count(OFPT_GROUP_MOD)
        self.meter_mods += kinds.count(OFPT_METER_MOD)

    def _log_error(self, text: str) -> None:
        COMPLAINTS.say(logging.WARNING, self.datapath.name, text)


def _decoded(decode: Callable[[bytes], list[T]], bodies: Iterable[bytes]) -> list[T]:
    return [entry for body in bodies for entry in decode(body)]


listener.install()  # its messages are what this module reads

__all__ = [
    "BUNDLE_LIMIT", "EVENTS", "Disconnected", "Errors", "Mod", "NoAnswer", "PartlyDone", "Refused", "Session",
    "datapath_of",
]  # fmt: skip
