"""An OpenFlow 1.3 client for tests: says hello to a bridge's management socket and sends what the codec made."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from ryu_apps.openflow import codec, messages
from ryu_apps.pipeline.context import Program
from ryu_apps.pipeline.tables import METERS
from ryu_apps.pipeline.values import Meter

RUN_DIR = Path("/var/run/openvswitch")


class Wire:
    """One connection to a bridge."""

    def __init__(self, bridge: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(RUN_DIR / f"{bridge}.mgmt"))
        self._xid = 1
        self._socket.sendall(struct.pack("!BBHI", codec.VERSION, 0, 8, 0))
        assert self._receive()[0] == 0, "the switch says hello first"

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            assert more, "the switch closed the connection"
            data += more
        return data

    def _receive(self) -> tuple[int, int, bytes]:
        head = self._exactly(8)
        _, kind, size, xid = struct.unpack("!BBHI", head)
        return kind, xid, self._exactly(size - 8)

    def send(self, wire: Sequence[bytes]) -> list[bytes]:
        """Send, wait for a barrier; the errors that came back."""
        self._xid += 1
        self._socket.sendall(b"".join(wire) + messages.barrier(self._xid))
        errors: list[bytes] = []
        while True:
            kind, xid, body = self._receive()
            if kind == messages.OFPT_BARRIER_REPLY and xid == self._xid:
                return errors
            if kind == messages.OFPT_ERROR:
                errors.append(body)

    def load(self, program: Program) -> None:
        """Put a program into the (empty) bridge."""
        known = {meter.id for meter in METERS}
        tenants = sorted({flow.meter for flow in program.flows} - known - {0})
        wire = [codec.meter_add(meter) for meter in (*METERS, *(Meter(number, 100, 100) for number in tenants))]
        wire += [codec.group_add(codec.encode_group(g)) for g in program.groups]
        wire += [codec.flow_add(codec.encode_flow(f)) for f in program.flows]
        errors = self.send(wire)
        assert not errors, f"the switch refuses: {errors}"
