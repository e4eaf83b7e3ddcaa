"""One connection of a switch: the framework's datapath object, but its bytes go in and out here.

The library's own loops trust the other end: they read for ever what never ends, wait for ever for what never comes, and
a message that makes no sense ends their thread with a traceback. Here all is bounded:

- what comes in is cut and read by `inbound`; wrong bytes end the connection (`end`), with one line in the log;
- a peer has `IDENTIFY_SECONDS` to say who it is, and `MESSAGE_SECONDS` for each message that it has begun;
- what is to go out waits in a queue of `SEND_MOST` bytes; a peer that does not read is disconnected;
- a switch that says too much is read more slowly (`MESSAGES`, `PORTS`), and its packet-ins are dropped (`PACKETS`);
- a switch that leaves echo requests unanswered is disconnected, as the options say.

An exception of ours that nobody expected stops the process, as anywhere else (`framework.fatal`).
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import socket
import ssl
import time
from collections import deque
from typing import Any

from ryu_apps import framework
from ryu_apps.framework import CONFIG_DISPATCHER, DEAD_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER, hub, ofp_event
from ryu_apps.openflow import inbound, messages
from ryu_apps.openflow.codec import VERSION
from ryu_apps.openflow.complaints import COMPLAINTS
from ryu_apps.openflow.failures import error_text
from ryu_apps.openflow.inbound import BrokenMessageError, Message
from topology.rate import Bucket

IDENTIFY_SECONDS = 10.0  # from the connection's begin to the switch's features
MESSAGE_SECONDS = 10.0  # from a message's first bytes to its last
MESSAGES, MESSAGES_PER_SECOND = 100_000, 20_000
"""That come in: a switch that has more to say is read more slowly."""
PACKETS, PACKETS_PER_SECOND = 4_400, 2_200
"""Packet-ins: all meters together let 2,100 a second pass (`pipeline/tables.py`). What is beyond is dropped."""
PORTS, PORTS_PER_SECOND = 10_000, 1_000
"""Events of ports: a switch whose ports come and go faster is read more slowly."""
SEND_SECONDS = 30.0  # for a piece of what we send to be taken
SEND_PIECE = 1 << 16
SEND_PAUSE = 4 << 20  # bytes that wait to be sent: who sends in bulk waits from here on
SEND_MOST = 16 << 20  # nobody waits for more: the switch does not read
_READ = 1 << 16
_PAUSE = 0.05  # s
_AT_ONCE = 256  # messages of one switch, then others have their turn
_FLUSH_SECONDS = 1.0  # for the line that says why we hang up

_MULTIPARTS = {
    messages.OFPMP_DESC: ofp_event.EventOFPDescStatsReply,
    messages.OFPMP_PORT_DESC: ofp_event.EventOFPPortDescStatsReply,
    messages.OFPMP_FLOW: ofp_event.EventOFPFlowStatsReply,
    messages.OFPMP_GROUP: ofp_event.EventOFPGroupStatsReply,
    messages.OFPMP_GROUP_DESC: ofp_event.EventOFPGroupDescStatsReply,
    messages.OFPMP_METER_CONFIG: ofp_event.EventOFPMeterConfigStatsReply,
}
_EVENTS = {
    messages.OFPT_ERROR: ofp_event.EventOFPErrorMsg,
    inbound.OFPT_ECHO_REPLY: ofp_event.EventOFPEchoReply,
    inbound.OFPT_PACKET_IN: ofp_event.EventOFPPacketIn,
    inbound.OFPT_PORT_STATUS: ofp_event.EventOFPPortStatus,
    messages.OFPT_BARRIER_REPLY: ofp_event.EventOFPBarrierReply,
}

_Datapath: Any = framework.load("controller.controller").Datapath


class Connection(_Datapath):  # type: ignore[misc]
    """A peer that may become a switch. ``id`` is its datapath id, None until it has told it."""

    def __init__(self, sock: Any, address: tuple[Any, ...], tls: ssl.SSLContext | None = None) -> None:
        """Raises OSError where the peer has gone already."""
        self.socket: Any = sock
        self.xid: int
        self._tls = tls
        self._ended = ""
        self._waiting: deque[bytes] = deque()
        self._queued = 0  # bytes that wait, or are being sent
        self._more = hub.Event()  # there is something to send, or nothing ever again
        self._room = hub.Event()
        self._unanswered: deque[int] = deque()
        self._pings: dict[int, Any] = {}
        self._identify: Any = None
        now = time.monotonic()
        self._messages = Bucket(MESSAGES, MESSAGES_PER_SECOND, now)
        self._packets = Bucket(PACKETS, PACKETS_PER_SECOND, now)
        self._port_events = Bucket(PORTS, PORTS_PER_SECOND, now)
        super().__init__(sock, address)
        self.socket.settimeout(None)  # deadlines are ours
        self._whom = f"OpenFlow peer {address[0]}"

    # --- the end

    @property
    def name(self) -> str:
        """The switch's, or the peer's, for the log."""
        return self._whom

    def end(self, reason: str) -> None:
        """Something is wrong with the peer: say so once, and hang up."""
        if not self._ended:
            COMPLAINTS.say(logging.ERROR, self._whom, f"{reason}; its connection is ended")
        self._hang_up(reason)

    def close(self) -> None:
        """Hang up. Any greenthread may; the events of the end come from the connection's own."""
        self._hang_up("closed")

    def _hang_up(self, reason: str) -> None:
        self._ended = self._ended or reason
        self.is_active = False
        self._more.set()
        self._room.set()
        for ping in self._pings.values():
            ping.set()
        with contextlib.suppress(OSError):
            _shut_down(self.socket)

    # --- what goes out

    def send(self, buf: bytes, close_socket: bool = False) -> bool:
        """Send in bulk: waits while too much is waiting already. False: the connection has ended."""
        while self._queued > SEND_PAUSE and not self._ended:
            self._room.clear()
            self._room.wait(1.0)
        return self.send_now(buf)

    def send_now(self, buf: bytes) -> bool:
        """Send without waiting: who serves several switches must not wait for one that does not read."""
        if self._ended:
            return False
        if self._queued + len(buf) > SEND_MOST:
            self.end(f"it does not read: {self._queued} bytes wait to be sent")
            return False
        self._waiting.append(bytes(buf))
        self._queued += len(buf)
        self._more.set()
        return True

    def _send_loop(self) -> None:
        while not self._ended:
            while not self._waiting and not self._ended:
                self._more.clear()
                self._more.wait()
            if self._ended or not self._send_one(self._waiting.popleft()):
                return

    def _send_one(self, data: bytes) -> bool:
        for at in range(0, len(data), SEND_PIECE):
            piece = data[at : at + SEND_PIECE]
            try:
                with hub.Timeout(SEND_SECONDS):
                    self.socket.sendall(piece)
            except hub.Timeout:
                self.end(f"it does not read: {self._queued} bytes wait to be sent")
                return False
            except OSError:  # it has gone; the one who reads says so
                self._hang_up("gone")
                return False
            self._queued -= len(piece)
            self._room.set()
        return True

    def _echo_request_loop(self) -> None:
        while not self._ended:
            if len(self._unanswered) > self.max_unreplied_echo_requests > 0:
                self.end(f"it has not answered {len(self._unanswered)} echo requests")
                return
            self._unanswered.append(self._ask())
            hub.sleep(self.echo_request_interval)

    def _ask(self) -> int:
        self.xid = self.xid % 0xFFFFFFFF + 1
        self.send_now(inbound.HEADER.pack(VERSION, inbound.OFPT_ECHO_REQUEST, 8, self.xid))
        return self.xid

    def answers(self, timeout: float) -> bool:
        """Whether it answers an echo request within so many seconds. Another greenthread than its own may ask."""
        if self._ended:
            return False
        xid, ping = self._ask(), hub.Event()
        self._pings[xid] = ping
        try:
            ping.wait(timeout)
            return xid not in self._pings
        finally:
            self._pings.pop(xid, None)

    # --- what comes in

    def serve(self) -> None:
        """Until it ends, in a greenthread of its own."""
        threads = []
        self._identify = hub.spawn_after(IDENTIFY_SECONDS, self._slow_to_identify)
        try:
            if self._tls is not None:
                # in two steps: so that the socket is there to be shut down while a peer takes its time
                self.socket = self._tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
                self.socket.do_handshake()
            threads += [framework.spawn(self._send_loop), framework.spawn(self._echo_request_loop)]
            self.send_now(inbound.HEADER.pack(VERSION, inbound.OFPT_HELLO, 8, 1))
            self._receive()
        except BrokenMessageError as broken:
            self.end(str(broken))
        except OSError:
            pass  # it has gone
        except Exception as exc:  # noqa: BLE001 - ours: it must stop the process
            framework.fatal(exc)
        finally:
            self._identify.cancel()
            self._hang_up("gone")
            for thread in threads:
                hub.kill(thread)
            self.set_state(DEAD_DISPATCHER)
            with contextlib.suppress(OSError):
                self.socket.close()

    def _receive(self) -> None:
        framer, count = inbound.Framer(), 0
        finish: Any = None  # the deadline of the message that has begun
        try:
            while not self._ended and (data := self.socket.recv(_READ)):
                for raw in framer.feed(data):
                    if finish is not None:
                        finish.cancel()
                        finish = None
                    message = inbound.parse(raw)
                    self._take(message)
                    count += 1
                    if not self._in_time(message, time.monotonic()):
                        hub.sleep(_PAUSE)
                    elif not count % _AT_ONCE:
                        hub.sleep(0)
                    if self._ended:
                        return
                if framer.unfinished and finish is None:
                    finish = hub.spawn_after(MESSAGE_SECONDS, self._slow_to_finish)
        finally:
            if finish is not None:
                finish.cancel()

    def _in_time(self, message: Message, now: float) -> bool:
        return self._messages.take(now) and (not isinstance(message, inbound.PortStatus) or self._port_events.take(now))

    def _slow_to_identify(self) -> None:
        self.end(f"it has not said which switch it is within {IDENTIFY_SECONDS:g} s")

    def _slow_to_finish(self) -> None:
        self.end(f"it has begun a message, and not finished it within {MESSAGE_SECONDS:g} s")

    def _take(self, message: Message) -> None:
        message.datapath = self
        if message.msg_type == inbound.OFPT_ECHO_REQUEST:
            self.send_now(message.buf[:1] + bytes((inbound.OFPT_ECHO_REPLY,)) + message.buf[2:])
            return
        if message.msg_type == inbound.OFPT_ECHO_REPLY:
            self._answered(message.xid)
        if self.state == MAIN_DISPATCHER:
            self._tell(message)
        elif message.msg_type == messages.OFPT_ERROR:
            raise BrokenMessageError(f"it refuses us: {error_text(message.buf)}")
        elif self.state == HANDSHAKE_DISPATCHER:
            self._greeted(message)
        elif isinstance(message, inbound.Features):
            self._identify.cancel()
            self.id = message.datapath_id
            self._whom = f"switch {self.id:016x} at {self.address[0]}"
            self.set_state(MAIN_DISPATCHER)
        elif message.msg_type not in _BEFORE_FEATURES:
            raise BrokenMessageError(f"a message of type {message.msg_type} before it has said which switch it is")

    def _greeted(self, message: Message) -> None:
        if not isinstance(message, inbound.Hello):
            raise BrokenMessageError(f"a message of type {message.msg_type} in place of a hello")
        if not message.speaks(VERSION):
            named = sorted(message.versions) or [message.version]
            self._refuse(f"it speaks OpenFlow's versions {named}, not {VERSION}, which is OpenFlow 1.3")
        self.set_version(VERSION)
        self.set_state(CONFIG_DISPATCHER)
        self.xid = self.xid % 0xFFFFFFFF + 1
        self.send_now(inbound.HEADER.pack(VERSION, _FEATURES_REQUEST, 8, self.xid))

    def _refuse(self, why: str) -> None:
        text = b"OpenFlow 1.3 only"
        body = bytes(4) + text  # hello failed: incompatible
        self.send_now(inbound.HEADER.pack(VERSION, messages.OFPT_ERROR, 8 + len(body), 0) + body)
        with contextlib.suppress(hub.Timeout), hub.Timeout(_FLUSH_SECONDS):
            while self._queued and not self._ended:
                self._room.clear()
                self._room.wait()
        raise BrokenMessageError(why)

    def _answered(self, xid: int) -> None:
        if (ping := self._pings.pop(xid, None)) is not None:
            ping.set()
        with contextlib.suppress(ValueError):
            self._unanswered.remove(xid)

    def _tell(self, message: Message) -> None:
        """To the applications: as an event of the library's, with a message of ours."""
        if message.msg_type in (inbound.OFPT_HELLO, inbound.OFPT_FEATURES_REPLY):
            raise BrokenMessageError(f"a message of type {message.msg_type} again")
        if isinstance(message, inbound.PacketIn) and not self._packets.take(time.monotonic()):
            text = f"sends more than {PACKETS_PER_SECOND} packets a second, whatever its meters: the others are dropped"
            COMPLAINTS.say(logging.WARNING, self._whom, text)
            return
        if isinstance(message, inbound.Multipart):
            event = _MULTIPARTS.get(message.type)
        elif isinstance(message, inbound.BundleControl):
            event = ofp_event.EventONFBundleCtrlMsg
        else:
            event = _EVENTS.get(message.msg_type)
        if event is not None and self.ofp_brick is not None:
            self.ofp_brick.send_event_to_observers(event(message), self.state)


_FEATURES_REQUEST = 5
# what a switch may say of itself between its hello and its features
_BEFORE_FEATURES = frozenset({
    inbound.OFPT_ECHO_REPLY, messages.OFPT_EXPERIMENTER, inbound.OFPT_PACKET_IN, inbound.OFPT_FLOW_REMOVED,
    inbound.OFPT_PORT_STATUS,
})  # fmt: skip


def _shut_down(sock: Any) -> None:
    """Wake whoever waits in this socket: it meets the end of the stream."""
    if isinstance(sock, ssl.SSLSocket):
        # SSLSocket.shutdown() also drops the TLS state: a greenthread that waits in it would not fail with OSError
        _socket.socket.shutdown(sock, socket.SHUT_RDWR)
    else:
        sock.shutdown(socket.SHUT_RDWR)
