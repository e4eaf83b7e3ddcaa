"""A switch that is nothing but a connection: it says to a controller what a test wants it to say.

    with raw_switch(controller) as switch:
        switch.answer_ports = lambda xid: [ports_reply(xid, [1, 2], more=True), port_status(3), ports_reply(xid, [4])]
        switch.run_until(lambda: controller.switch(switch.dpid))
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from tests.kit.controller import Controller

DPID = 0x5EED
VERSION = 4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER, FEATURES_REQUEST, FEATURES_REPLY = 0, 1, 2, 3, 4, 5, 6
PACKET_IN, PORT_STATUS, MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 10, 12, 18, 19, 20, 21
DESC, FLOW, GROUP_DESC, METER_CONFIG, PORT_DESC = 0, 1, 7, 10, 13
MORE = 1
ADD, DELETE, MODIFY = 0, 1, 2
BUNDLE_CONTROL = 2300


_addresses = (f"127.0.{1 + n // 250}.{1 + n % 250}" for n in range(50_000))


def address() -> str:
    """An address of this machine that no other peer of the tests has: what is said about it is about that peer."""
    return next(_addresses)


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """One OpenFlow message."""
    return struct.pack("!BBHI", VERSION, kind, 8 + len(body), xid) + body


def port(number: int) -> bytes:
    """Port p<number>, which is up."""
    return struct.pack("!I4x6s2x16sIIIIIIII", number, b"\x02\0\0\0\0\1", b"p%d" % number, 0, 4, 0, 0, 0, 0, 0, 0)


def multipart(kind: int, body: bytes, xid: int = 0, *, more: bool = False) -> bytes:
    """A part of a multipart reply, or the last of it."""
    return message(MULTIPART_REPLY, xid, struct.pack("!HH4x", kind, MORE if more else 0) + body)


def packet_in(fields: bytes, frame: bytes, cookie: int = 0x4E << 56) -> bytes:
    """A frame that a flow with this cookie sent to the controller; ``fields``: the fields of its match."""
    match = struct.pack("!HH", 1, 4 + len(fields)) + fields
    head = struct.pack("!IHBBQ", 0xFFFFFFFF, len(frame), 1, 0, cookie)
    return message(PACKET_IN, 0, head + match + bytes(-len(match) % 8) + bytes(2) + frame)


def flow_stat() -> bytes:
    """One flow with an empty match, as a switch tells of it."""
    return struct.pack("!HBxIIHHHH4xQQQ", 56, 0, 0, 0, 1, 0, 0, 0, 0x4E << 56, 0, 0) + bytes.fromhex("0001000400000000")


def ports_reply(xid: int, numbers: Iterable[int], *, more: bool = False) -> bytes:
    """A part of a description of the ports, or the last of it."""
    return multipart(PORT_DESC, b"".join(map(port, numbers)), xid, more=more)


def port_status(number: int, reason: int = ADD) -> bytes:
    """A port came, went or changed."""
    return message(PORT_STATUS, 0, struct.pack("!B7x", reason) + port(number))


class RawSwitch:
    """One connection to a controller."""

    def __init__(self, controller: Controller, dpid: int = DPID, source: str = "127.0.0.1") -> None:
        self.dpid = f"{dpid:016x}"
        self._dpid = dpid
        self.closed = False
        self.requests: list[tuple[int, int]] = []
        """What came in and is not a change: (message type, type of the multipart)."""
        self.answer_ports: Callable[[int], Iterable[bytes]] = lambda xid: [ports_reply(xid, [1])]
        """The answers to the controller's question for ports."""
        self.bodies: dict[int, bytes] = {}
        """What it answers to other questions, by type of the multipart."""
        self.answers: dict[int, Callable[[int], Iterable[bytes]]] = {}
        """The whole answers to questions, by type of the multipart."""
        self.refuses: set[int] = set()
        """Types of messages that it answers with an error."""
        self.source = source
        host = str(ip_address(controller.host))
        self._buffer = b""
        self._socket = socket.create_connection((host, controller.ofp_port), 10, (source, 0))
        self._socket.sendall(message(HELLO, 1))

    def send(self, data: bytes) -> None:
        """Say something that nobody asked for; a connection that has ended takes nothing."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True

    @property
    def identified(self) -> bool:
        """Whether the controller has taken it for a switch: it asks for ports only then."""
        return (MULTIPART_REQUEST, PORT_DESC) in self.requests

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def run_until(self, condition: Callable[[], object], timeout: float = 20) -> None:
        """Answer the controller until the condition holds."""
        until = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < until, f"waited in vain; asked: {self.requests[-10:]}"
            self.run_once()

    def run_once(self) -> None:
        """Answer what has come in, if anything has."""
        if self.closed or not select.select([self._socket], [], [], 0.05)[0]:
            return
        with contextlib.suppress(ConnectionError):
            data = self._socket.recv(1 << 20)
            if data:
                self._buffer += data
                while len(self._buffer) >= 8 and len(self._buffer) >= (size := self._size()):
                    one, self._buffer = self._buffer[:size], self._buffer[size:]
                    for answer in self._answers(one):
                        self.send(answer)
                return
        self.closed = True

    def _size(self) -> int:
        return int.from_bytes(self._buffer[2:4], "big")

    def _answers(self, one: bytes) -> Iterable[bytes]:
        kind, xid, body = one[1], int.from_bytes(one[4:8], "big"), one[8:]
        part = int.from_bytes(body[:2], "big") if kind == MULTIPART_REQUEST else 0
        self.requests.append((kind, part))
        if kind in self.refuses:
            return [message(ERROR, xid, b"\0\1\0\1")]
        if kind == ECHO_REQUEST:
            return [message(ECHO_REPLY, xid, body)]
        if kind == FEATURES_REQUEST:
            return [message(FEATURES_REPLY, xid, struct.pack("!QIBB2xII", self._dpid, 0, 254, 0, 0x4F, 0))]
        if kind == BARRIER_REQUEST:
            return [message(BARRIER_REPLY, xid)]
        if kind == MULTIPART_REQUEST:
            return self._multipart(part, xid)
        if kind == EXPERIMENTER and int.from_bytes(body[4:8], "big") == BUNDLE_CONTROL:
            bundle, control, flags = struct.unpack_from("!IHH", body, 8)
            return [message(EXPERIMENTER, xid, body[:8] + struct.pack("!IHH", bundle, control + 1, flags))]
        return []

    def _multipart(self, part: int, xid: int) -> Iterable[bytes]:
        if part in self.answers:
            return self.answers[part](xid)
        if part == PORT_DESC:
            return self.answer_ports(xid)
        body = struct.pack("!256s256s256s32s256s", b"", b"", b"3.1.0", b"", b"") if part == DESC else b""
        body = self.bodies.get(part, body)
        return [multipart(part, body, xid)]


@contextlib.contextmanager
def raw_switch(controller: Controller, dpid: int = DPID) -> Iterator[RawSwitch]:
    """A connection from an address of its own; ended at the end."""
    made = RawSwitch(controller, dpid, address())
    try:
        yield made
    finally:
        made.close()
