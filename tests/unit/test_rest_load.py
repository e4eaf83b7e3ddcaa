"""Clients that are slow, or never read, beside the command line: a real ``ryu-manager``, real sockets."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netctl.client import Client
from tests.unit.manager_process import DEADLINE, ROOT, Manager, app_file, ports, running

SLOW = 1010
RIGHT = 60.0  # s: far more than all limits together
QUICK = """
from ryu_apps import incoming, server, wsgi

server.IDLE_TIMEOUT = server.HEAD_TIMEOUT = wsgi.BODY_TIMEOUT = 4.0
incoming.DISCARD_TIMEOUT = 2.0
"""  # limits that a test can wait for


class Crowd:
    """Many connections to one port; a byte is sent on each from time to time."""

    def __init__(self, port: int, begin: bytes, more: bytes = b"") -> None:
        self._port, self._begin, self._more = port, begin, more
        self.open: list[socket.socket] = []
        self._over = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip)

    def grow(self, count: int) -> None:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE)
            self.open.append(one)
            with contextlib.suppress(OSError):  # ended already, to make room
                one.sendall(self._begin)
        if self._more and not self._thread.is_alive():
            self._thread.start()

    def _drip(self) -> None:
        while not self._stop.wait(0.5):
            for one in list(self.open):
                with contextlib.suppress(OSError):
                    one.send(self._more)

    def ended(self) -> int:
        """How many the other side has ended; those are not looked at again."""
        over = [one for one in self.open if self._is_over(one)]
        self._over += len(over)
        for one in over:
            self.open.remove(one)
            one.close()
        return self._over

    @staticmethod
    def _is_over(one: socket.socket) -> bool:
        try:
            while one.recv(65536, socket.MSG_DONTWAIT):
                pass
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(DEADLINE)
        for one in self.open:
            one.close()


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """As many as the crowd needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowd() -> Iterator[Callable[..., Crowd]]:
    made: list[Crowd] = []

    def make(*args: object) -> Crowd:
        made.append(Crowd(*args))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[int]:
    """The REST port of a controller; it has to be the same process at the end."""
    options, _, port = ports()
    quick = app_file(tmp_path, QUICK)
    with running(*options, "--store", str(tmp_path / "netctl.db"), quick, "ryu_apps.controller") as manager:
        manager.wait_for("running ")
        yield port
        assert alive(manager)


def alive(manager: Manager) -> bool:
    return manager._process.poll() is None


def until(condition: Callable[[], bool], seconds: float = RIGHT) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def netctl(port: int, *args: str) -> subprocess.CompletedProcess[str]:
    """The command line as its user has it."""
    return subprocess.run(
        [sys.executable, "-m", "netctl.cli", "--netmaster", f"http://127.0.0.1:{port}", *args],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def serves(port: int, number: int) -> None:
    """The command line makes a network and lists it."""
    made = netctl(port, "net", "create", f"n{number}", "-s", f"10.{number}.0.0/24")
    assert made.returncode == 0, made.stderr
    listed = netctl(port, "net", "ls", "-q")
    assert (listed.returncode, f"n{number}" in listed.stdout) == (0, True), listed.stderr


def test_slow_heads_beside_an_agent_and_the_command_line(rest: int, crowd: Callable[..., Crowd]) -> None:
    """Whoever opens a thousand connections, and sends a byte of a header now and then, would lock everybody out."""
    with Client(f"http://127.0.0.1:{rest}") as agent:
        agent.put_host({"hostName": "h1", "switch": "a"})
        stream = agent.changes(host="h1")
        assert next(stream)["kind"]
        slow = crowd(rest, b"GET /api/v1/networks/ HTTP/1.1\r\nX-Slow: ", b"x")
        slow.grow(SLOW)
        serves(rest, 1)
        assert slow.ended() >= SLOW - 1000
        slow.grow(SLOW)
        serves(rest, 2)
        with Client(f"http://127.0.0.1:{rest}") as other:
            assert other.put_host({"hostName": "h1", "switch": "a"})["hostName"] == "h1"
        assert until(lambda: slow.ended() == 2 * SLOW), "each is ended, though it goes on sending"
        missing = {"default:n1", "default:n2"}
        while missing:  # the agent's stream was left alone, or this raises
            missing.discard(next(stream).get("key", ""))
        stream.close()


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b""),
        (b"POST /api/v1/networks/default:x/ HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"POST /api/v1/networks/default:x/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"POST /nowhere HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b" "),
        (b"GET /info HTTP/1.1\r\n\r\n", b"\r"),
        (b"GET /api/v1/changes/ HTTP/1.1\r\n\r\n", b""),
    ],
    ids=["silent", "body", "chunks", "unread body", "after an answer", "streams"],
)
def test_other_slow_clients(rest: int, crowd: Callable[..., Crowd], begin: bytes, more: bytes) -> None:
    """The same in other places: each of them would lock everybody out just as well."""
    slow = crowd(rest, begin, more)
    slow.grow(SLOW)
    serves(rest, 1)
    if b"changes" not in begin:
        assert until(lambda: slow.ended() == SLOW)


def test_no_descriptors_left(tmp_path: Path, crowd: Callable[..., Crowd]) -> None:
    """Clients that take all of the process's descriptors would lock everybody out, or end it."""
    options, _, port = ports()
    with running(*options, "--store", str(tmp_path / "netctl.db")) as manager:
        manager.wait_for("running ")
        serves(port, 1)
        pid = manager._process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors_of(pid) + 20, hard))
        silent = crowd(port, b"GET /info HTTP/1.1\r\n")
        silent.grow(100)
        manager.wait_for("no new connection can be accepted: Too many open files")
        serves(port, 2)
        assert silent.ended() >= 70
        assert alive(manager)
        manager.signal(signal.SIGTERM)
        assert manager.ended() == 0
    assert sum("no new connection" in line for line in manager.lines) == 1, "and the log is not filled"


def memory_of(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors_of(pid: int) -> int:
    """How many a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_answers_that_nobody_takes(tmp_path: Path, crowd: Callable[..., Crowd]) -> None:
    """A few clients that ask for much and read nothing would fill the controller's memory."""
    options, _, port = ports()
    with running(*options, "--store", str(tmp_path / "netctl.db")) as manager:
        manager.wait_for("running ")
        with Client(f"http://127.0.0.1:{port}") as client:
            client.put_network({"tenantName": "default", "networkName": "n", "subnet": "10.1.0.0/16"})
            client.put_host({"hostName": "h", "switch": "a"})
            where = {"tenantName": "default", "networkName": "n", "labels": {f"key{n}": "v" * 200 for n in range(20)}}
            endpoints = [{"endpointID": f"e{n}", "portName": f"p{n}", **where} for n in range(1000)]
            client.sync_endpoints("h", endpoints)  # type: ignore[arg-type]
            size = len(json.dumps(client.endpoints()))
            assert size > 4_000_000
            before, before_them = memory_of(manager._process.pid), descriptors_of(manager._process.pid)
            deaf = crowd(port, b"GET /api/v1/endpoints/ HTTP/1.1\r\n\r\n")
            deaf.grow(80)
            serves(port, 2)
            assert memory_of(manager._process.pid) - before < 200_000_000, "80 answers of that size are twice as much"
            assert until(lambda: descriptors_of(manager._process.pid) < before_them + 10), "each is given up"
        assert alive(manager)
