"""One try of an active check: every target port at once, without a thread of its own."""

from __future__ import annotations

import errno
import os
import re
import selectors
import socket
from collections.abc import Generator, Sequence
from http import HTTPStatus

ENOUGH = 64  # bytes of an answer: its status is in the first 13
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})(?!\d)")


class Attempt:
    """Over as soon as every port has passed, one has failed, or its time is up; ``passed`` is None until then."""

    def __init__(self, selector: selectors.BaseSelector, deadline: float) -> None:
        self.deadline = deadline
        self.passed: bool | None = None
        self.reason = ""
        self._selector = selector
        self._open: dict[socket.socket, Generator[int, None, None]] = {}

    def start(self, sockets: Sequence[socket.socket], address: str, ports: Sequence[int], request: bytes) -> None:
        """Begin, with a socket a port that is bound and doesn't block; they belong to the attempt from now on."""
        for one, port in zip(sockets, ports, strict=True):
            self._open[one] = _talk(one, (address, port), request)
        for one in sockets:
            self.go_on(one)

    def go_on(self, one: socket.socket) -> None:
        """What this socket waited for has happened."""
        talk = self._open.get(one)
        if talk is None:
            return  # another of its sockets has decided
        try:
            events = next(talk)
        except StopIteration:
            self._drop(one)
            if not self._open:
                self.end(passed=True)
        except OSError as error:
            self.end(passed=False, reason=error.strerror or str(error))
        else:
            if one in self._selector.get_map():
                self._selector.modify(one, events, self)
            else:
                self._selector.register(one, events, self)

    def end(self, *, passed: bool | None, reason: str = "") -> None:
        """Over. None: given up, it says nothing."""
        self.passed, self.reason = passed, reason
        for one in list(self._open):
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        if one in self._selector.get_map():
            self._selector.unregister(one)
        del self._open[one]
        one.close()


def request_for(protocol: str, path: str, address: str) -> bytes:
    """What is sent; nothing for a check that only connects."""
    if protocol != "http":
        return b""
    lines = (f"GET {path} HTTP/1.1", f"Host: {address}", "User-Agent: netctl", "Accept: */*", "Connection: close")
    return "\r\n".join((*lines, "", "")).encode()


def _talk(one: socket.socket, to: tuple[str, int], request: bytes) -> Generator[int, None, None]:
    """Yields what it waits for. Ends where the port is well; else OSError."""
    _check(one.connect_ex(to), to)
    yield selectors.EVENT_WRITE
    _check(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), to)
    if not request:
        return
    while request := request[one.send(request) :]:
        yield selectors.EVENT_WRITE
    answer = b""
    while len(answer) < ENOUGH:
        yield selectors.EVENT_READ
        more = one.recv(ENOUGH - len(answer))
        answer += more
        if not more:
            break
    found = _STATUS.match(answer)
    if found is None:
        raise OSError(errno.EPROTO, f"port {to[1]}: the answer is not HTTP")
    if not HTTPStatus.OK <= int(found[1]) < HTTPStatus.BAD_REQUEST:
        raise OSError(errno.EPROTO, f"port {to[1]}: HTTP status {int(found[1])}")


def _check(error: int, to: tuple[str, int]) -> None:
    if error not in (0, errno.EINPROGRESS):
        raise OSError(error, f"port {to[1]}: {os.strerror(error)}")
