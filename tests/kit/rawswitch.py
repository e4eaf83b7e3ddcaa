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
HELLO, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER, FEATURES_REQUEST, FEATURES_REPLY = 0, 2, 3, 4, 5, 6
PORT_STATUS, MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 12, 18, 19, 20, 21
DESC, FLOW, GROUP_DESC, METER_CONFIG, PORT_DESC = 0, 1, 7, 10, 13
MORE = 1
ADD, DELETE, MODIFY = 0, 1, 2
BUNDLE_CONTROL = 2300


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """One OpenFlow message."""
    return struct.pack("!BBHI", VERSION, kind, 8 + len(body), xid) + body


def port(number: int) -> bytes:
    """Port p<number>, which is up."""
    return struct.pack("!I4x6s2x16sIIIIIIII", number, b"\x02\0\0\0\0\1", b"p%d" % number, 0, 4, 0, 0, 0, 0, 0, 0)


def ports_reply(xid: int, numbers: Iterable[int], *, more: bool = False) -> bytes:
    """A part of a description of the ports, or the last of it."""
    head = struct.pack("!HH4x", PORT_DESC, MORE if more else 0)
    return message(MULTIPART_REPLY, xid, head + b"".join(map(port, numbers)))


def port_status(number: int, reason: int = ADD) -> bytes:
    """A port came, went or changed."""
    return message(PORT_STATUS, 0, struct.pack("!B7x", reason) + port(number))


class RawSwitch:
    """One connection to a controller."""

    def __init__(self, controller: Controller) -> None:
        self.dpid = f"{DPID:016x}"
        self.closed = False
        self.requests: list[tuple[int, int]] = []
        """What came in and is not a change: (message type, type of the multipart)."""
        self.answer_ports: Callable[[int], Iterable[bytes]] = lambda xid: [ports_reply(xid, [1])]
        """The answers to the controller's question for ports; the framework has asked before, and got one port."""
        self.bodies: dict[int, bytes] = {}
        """What it answers to other questions, by type of the multipart."""
        host = str(ip_address(controller.host))
        self._asked = 0
        self._buffer = b""
        self._socket = socket.create_connection((host, controller.ofp_port), timeout=10)
        self._socket.sendall(message(HELLO, 1))

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
                        self._socket.sendall(answer)
                return
        self.closed = True

    def _size(self) -> int:
        return int.from_bytes(self._buffer[2:4], "big")

    def _answers(self, one: bytes) -> Iterable[bytes]:
        kind, xid, body = one[1], int.from_bytes(one[4:8], "big"), one[8:]
        part = int.from_bytes(body[:2], "big") if kind == MULTIPART_REQUEST else 0
        self.requests.append((kind, part))
        if kind == ECHO_REQUEST:
            return [message(ECHO_REPLY, xid, body)]
        if kind == FEATURES_REQUEST:
            return [message(FEATURES_REPLY, xid, struct.pack("!QIBB2xII", DPID, 0, 254, 0, 0x4F, 0))]
        if kind == BARRIER_REQUEST:
            return [message(BARRIER_REPLY, xid)]
        if kind == MULTIPART_REQUEST:
            return self._multipart(part, xid)
        if kind == EXPERIMENTER and int.from_bytes(body[4:8], "big") == BUNDLE_CONTROL:
            bundle, control, flags = struct.unpack_from("!IHH", body, 8)
            return [message(EXPERIMENTER, xid, body[:8] + struct.pack("!IHH", bundle, control + 1, flags))]
        return []

    def _multipart(self, part: int, xid: int) -> Iterable[bytes]:
        if part == PORT_DESC:
            self._asked += 1
            return [ports_reply(xid, [1])] if self._asked == 1 else self.answer_ports(xid)
        body = struct.pack("!256s256s256s32s256s", b"", b"", b"3.1.0", b"", b"") if part == DESC else b""
        body = self.bodies.get(part, body)
        return [message(MULTIPART_REPLY, xid, struct.pack("!HH4x", part, 0) + body)]


@contextlib.contextmanager
def raw_switch(controller: Controller) -> Iterator[RawSwitch]:
    """A connection; ended at the end."""
    made = RawSwitch(controller)
    try:
        yield made
    finally:
        made.close()
