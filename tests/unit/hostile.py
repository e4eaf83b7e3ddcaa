"""A server that answers whatever a test says, byte for byte, and as slowly as it says."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DRIP = 0.05  # s between two pieces of what comes drop by drop


class Hostile:
    """Its URL is ``url``; ``answer`` makes the pieces of each answer, ``seen`` are the requests' heads."""

    def __init__(self) -> None:
        self.answer: Callable[[], Iterable[bytes]] = lambda: [whole([])]
        self.seen: list[bytes] = []
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536) or b"\r\n\r\n"
            head, _, body = head.partition(b"\r\n\r\n")
            self.seen.append(head)
            size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            # closed with a part of the request unread, the kernel would reset the connection, and the answer be lost
            while size and len(body) < int(size[1]) and (more := connection.recv(65536)):
                body += more
            for piece in self.answer():
                connection.sendall(piece)
                if self._over.is_set():
                    return

    def drip(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, each a moment after the one before."""
        for piece in pieces:
            if self._over.wait(DRIP):
                return
            yield piece


def whole(document: object, status: str = "200 OK") -> bytes:
    """An answer that is all right as HTTP."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """An answer in chunks."""
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def endless(piece: bytes) -> Iterator[bytes]:
    """The same again and again."""
    return repeat(piece)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """It takes no longer than that."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds
