"""Requests whose head or chunks lie about where they end, and clients that never pause: nobody else waits for them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fuzz.command import resident
from tests.unit.manager_process import Manager, ports, running

NETWORK = b"POST /api/v1/networks/default:x/ HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = NETWORK + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 20.0  # s for an answer: only a controller that hangs takes longer


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Manager, int]]:
    """A controller, and the port of its REST API."""
    options, _, port = ports()
    store = tmp_path_factory.mktemp("framing") / "netctl.db"
    with running(*options, "--store", str(store)) as made:
        made.wait_for("running ")
        yield made, port


def talk(port: int, *parts: bytes) -> bytes:
    """All that the server says to these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        with contextlib.suppress(OSError):  # it may close before it has read all
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                said += part
    return said


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (CHUNKED, b"-1\r\n"),  # a size that is never reached
        (CHUNKED, b"+0_1\r\nx\r\n"),
        (CHUNKED, b"1" * 4096),  # a line without an end
        (CHUNKED, b"1;" + b"x" * 4096),
        (CHUNKED + b"0\r\n", b"Name: value\r\n"),  # trailers without an end
        (CHUNKED + b"0\r\n", b"n" * 4096),
        (CHUNKED + b"5\r\nabcde", b"z" * 4096),  # a chunk that is longer than it says
        (CHUNKED, b"ffffffffffffffff1\r\n"),
        (CHUNKED.replace(b"/api", b"/no"), b"-1\r\n"),  # of a body that nobody reads
    ],
    ids=["negative", "signs", "size", "extension", "trailers", "one trailer", "longer", "digits", "unread"],
)
def test_chunks_without_an_end(manager: tuple[Manager, int], head: bytes, piece: bytes) -> None:
    """One such client would hold everybody up for as long as it sends, or take gigabytes of the controller's memory."""
    process, port = manager
    before, sent = resident(process._process.pid), 0
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(head)
        block = piece * (65536 // len(piece))
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                connection.sendall(block)
                sent += len(block)
    assert sent < 16_000_000, "the connection is ended once its chunks make no sense"
    assert resident(process._process.pid) - before < 30_000_000


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"Content-Length: 5\r\nContent-Length: 0\r\n", b"Content-Length is given 2 times"),
        (b"Content-Length: +5\r\n", b"Content-Length '+5': must be a number of bytes"),
        (b"Content-Length: 1_0\r\n", b"Content-Length '1_0': must be a number of bytes"),
        (b"Content-Length: 5\x1d\r\n", b"Content-Length '5\\x1d': must be a number of bytes"),
        (b"Content-Length: 5\x85\r\n", b"Content-Length '5\\x85': must be a number of bytes"),
        (b"Transfer-Encoding: chunked\x0b\r\n", b"Transfer-Encoding 'chunked\\x0b': must be chunked, or left out"),
        (b"Content-Length: -1\r\n", b"Content-Length '-1': must be a number of bytes"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", b"must be a number of bytes"),
        (b"Content-Length:\r\n", b"Content-Length '': must be a number of bytes"),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"are not allowed together"),
        (b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding 'gzip, chunked': must be chunked, or left out"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding is given 2 times"),
        (b"X: " + b"y" * 9000 + b"\r\n", b"a header has less than 8192 bytes"),
        (b"".join(b"X%d: %s\r\n" % (n, b"y" * 8000) for n in range(9)), b"all of them have at most 65536"),
        (b"".join(b"X%d: y\r\n" % n for n in range(200)), b"Too many headers"),
    ],
)
def test_heads_that_do_not_say_where_they_end(manager: tuple[Manager, int], lines: bytes, why: bytes) -> None:
    """What follows would be taken for a request of its own, or the client gets an answer without a reason."""
    said = talk(manager[1], NETWORK + lines + b"\r\n", GET)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split()[1][:1] == b"4"
    assert why in body and body.count(b"\n") == 1 and body.endswith(b"\n"), body
    assert said.count(b"HTTP/1.1 ") == 1, "and the connection ends"


@pytest.mark.parametrize(
    "line",
    [
        b"HEAD\xa0/version HTTP/1.1", b"GET\x0b/version HTTP/1.1", b"GET\x85/version HTTP/1.1",
        b"GET\t/version HTTP/1.1", b"GET  /version HTTP/1.1", b" GET /version HTTP/1.1", b"GET /version HTTP/1.1 ",
        b"GET /ver\x1csion HTTP/1.1", b"GET /version\x00 HTTP/1.1", b"GET /version HTTP/1.\xb2", b"GET /version",
        b"G(T /version HTTP/1.1", b"\xc7ET /version HTTP/1.1",
    ],
)  # fmt: skip
def test_a_request_line_that_is_none(manager: tuple[Manager, int], line: bytes) -> None:
    """Who stands before the controller sees another request than it: one that it has let through."""
    said = talk(manager[1], line + b"\r\nHost: localhost\r\n\r\n", GET)
    assert said.startswith(b"HTTP/1.1 400 "), said
    assert said.endswith(b"must be METHOD TARGET HTTP/1.1, with one space between\n"), "and it ends"


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length : 2", b"Content-Length\t: 2", b"Content\xa0Length: 2", b"X\x0b: 2", b"\xe4: 2", b"(x): 2",
        b"X", b": 2", b"X: y\r\n Content-Length: 2", b"X: y\r\n\tz", b"X: y\rContent-Length: 2",
    ],
)  # fmt: skip
def test_a_header_that_is_none(manager: tuple[Manager, int], line: bytes) -> None:
    """The same of a header: others would see one where the controller sees the end of the head, or the other way."""
    said = talk(manager[1], NETWORK + line + b"\r\n\r\n", GET)
    assert said.startswith(b"HTTP/1.1 400 "), said
    assert said.endswith(b"must be NAME: VALUE in one line, without a space before the colon\n"), said


def test_a_request_line_that_is_too_long(manager: tuple[Manager, int]) -> None:
    """The client would get an answer without a reason."""
    said = talk(manager[1], b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 414 ") and said.endswith(b"a request line has less than 8192 bytes\n")


@pytest.mark.parametrize(
    ("head", "piece", "ends"),
    [(b"", GET, False), (CHUNKED, b"1\r\n \r\n", True), (b"", NETWORK + b"Content-Length: 2\r\n\r\n{}", False)],
    ids=["requests", "small chunks", "small bodies"],
)
def test_a_client_that_never_pauses(manager: tuple[Manager, int], head: bytes, piece: bytes, ends: bool) -> None:
    """It would have the controller for itself: no heartbeat of an agent gets through, then the watchdog ends it."""
    _, port = manager
    block, over, taken = piece * (2_000_000 // len(piece)), threading.Event(), [0]
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as greedy:

        def send() -> None:
            with contextlib.suppress(OSError):
                greedy.sendall(head)
                while not over.is_set():
                    greedy.sendall(block)

        def receive() -> None:
            with contextlib.suppress(OSError):
                while part := greedy.recv(1 << 20):
                    taken[0] += part.count(b"HTTP/1.1 ")

        threads = [threading.Thread(target=work) for work in (send, receive)]
        for thread in threads:
            thread.start()
        try:
            until = time.monotonic() + PATIENCE
            while not ends and not taken[0]:
                assert time.monotonic() < until
                time.sleep(0.01)  # between two looks
            for _ in range(5):
                before = taken[0]
                assert b"Version" in talk(port, GET)
                assert taken[0] - before < 2000, "others have their turn between its requests"
        finally:
            over.set()
            with contextlib.suppress(OSError):
                greedy.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(PATIENCE)


def test_a_field_that_is_there_twice_among_many(manager: tuple[Manager, int]) -> None:
    """Looking for the second one would take minutes, and hold everybody up: the watchdog ends the controller."""
    names = [f"a{n}" for n in range(90_000)]
    body = json.dumps(dict.fromkeys(names, 0), separators=(",", ":")).encode()[:-1] + b',"a89999":0}'
    began = time.monotonic()
    said = talk(manager[1], NETWORK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert said.endswith(b'body: field "a89999" is there twice\n')
    assert time.monotonic() - began < 5, "it takes a moment; in quadratic time it takes minutes"


def test_nothing_of_it_is_in_the_log(manager: tuple[Manager, int]) -> None:
    """Anybody could fill the controller's log, or put lines of his own into it."""
    process, port = manager
    talk(port, b"GET /nowhere\x1b[2J HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert b"Version" in talk(port, GET)
    said = list(process._queue.queue)
    assert not [line for line in said if line and ("\x1b" in line or "chunked" in line or "Traceback" in line)]
