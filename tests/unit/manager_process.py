"""A real ``ryu-manager`` process with an application out of a file, and its output line by line."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 20.0
ROOT = Path(__file__).parents[2]

APP = """
from ryu_apps import framework
from ryu_apps.framework import DEAD_DISPATCHER, MAIN_DISPATCHER, ofp_event, set_ev_cls


class Told(framework.App):
    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def changed(self, ev):
        print("state", ev.state, flush=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Manager:
    """A running process. Its standard error, then output, are read as they come."""

    def __init__(self, *args: str) -> None:
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ryu_apps.manager", *args],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, text: str) -> str:
        """The next line that holds ``text``."""
        until = time.monotonic() + DEADLINE
        while True:
            line = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            assert line is not None, f"ended without {text!r}: {self.lines}"
            self.lines.append(line)
            if text in line:
                return line

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        """Its exit status, when it has ended."""
        status = self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        while (line := self._queue.get(timeout=DEADLINE)) is not None:
            self.lines.append(line)
        return status

    def close(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running(*args: str) -> Iterator[Manager]:
    """A manager that is killed at the end, whatever happens."""
    manager = Manager(*args)
    try:
        yield manager
    finally:
        manager.close()


def ports() -> tuple[list[str], int, int]:
    """Options for ports that are free, and those of OpenFlow and REST."""
    ofp, rest = free_port(), free_port()
    return ["--ofp-tcp-listen-port", str(ofp), "--rest-port", str(rest)], ofp, rest


def app_file(directory: Path, text: str = APP) -> str:
    """A file with an application."""
    path = directory / "told.py"
    path.write_text(text)
    return str(path)


def connect(port: int) -> socket.socket:
    """A switch of few words: it greets, has datapath id 7 and no ports."""
    switch = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    try:
        _greet(switch)
    except BaseException:
        switch.close()
        raise
    return switch


def _greet(switch: socket.socket) -> None:
    switch.sendall(bytes.fromhex("0400000800000001"))
    _expect(switch, 0)
    xid = _expect(switch, 5)
    features = bytes.fromhex("0000000000000007 00000000 fe000000 00000000 00000000")
    switch.sendall(bytes.fromhex("04060020") + xid + features)
    xid = _expect(switch, 18)
    switch.sendall(bytes.fromhex("04130010") + xid + bytes.fromhex("000d000000000000"))


def _expect(switch: socket.socket, kind: int) -> bytes:
    """The transaction id of the next message of that type."""
    while True:
        header = _exactly(switch, 8)
        _exactly(switch, int.from_bytes(header[2:4], "big") - 8)
        if header[1] == kind:
            return header[4:8]


def _exactly(switch: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = switch.recv(size - len(data))
        assert part, "the controller has closed the connection"
        data += part
    return data
