"""Docker's plugin protocol: JSON over HTTP over a Unix socket.

Whatever connects is not believed to be Docker: heads, bodies, times, connections and calls are bounded.
"""

from __future__ import annotations

import http.client
import http.server
import io
import itertools
import json
import logging
import os
import socket
import socketserver
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from netctl import reading
from netctl.agent.errors import AgentError, Malformed, Refusal, StartError
from topology import heads
from topology.complaints import Complaints
from topology.text import one_line

LOG = logging.getLogger(__name__)
COMPLAINTS = Complaints(LOG)
"""Limits the lines about each method: a caller that repeats itself must not fill the log."""

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]
CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
MAX_HEAD = 1 << 14  # bytes of a request line and its headers
MAX_BODY = 1 << 20  # bytes
MAX_CALLS = 400  # at a time; Docker starts its containers, each with a call at a time, 128 for each processor at once
MAX_CONNECTIONS = 512  # more than calls: there is always one that may be closed for another
IDLE_TIMEOUT = 300  # s that Docker may keep an unused connection open
POLL = 0.05  # s until a stop is noticed
LEFT = 1 << 17  # bytes that are read of what nobody wants
STOP_TIMEOUT = 10.0  # s for calls that have begun
REQUEST_TIME = 10.0  # s for a request to come in, from its first byte on, and for its answer to be taken
JOIN = "NetworkDriver.Join"


class Busy(Refusal):
    """There is too much to do at once."""

    status = HTTPStatus.SERVICE_UNAVAILABLE.value


class _Incoming(io.RawIOBase):
    """What comes in on a connection: so many bytes of a request, and all of it in a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until: float | None = None  # None: no request has begun
        self._room = MAX_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._until is None:
            self._connection.settimeout(IDLE_TIMEOUT)
        else:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
        if self._room <= 0:
            raise http.client.HTTPException(f"a request's head has at most {MAX_HEAD} bytes")
        count = self._connection.recv_into(buffer)
        if self._until is None:
            self._until = time.monotonic() + REQUEST_TIME
        self._room -= count
        return count

    def body(self, size: int) -> None:
        """The head is over; so many bytes follow."""
        self._room = size + io.DEFAULT_BUFFER_SIZE

    def over(self) -> None:
        """The request is over."""
        self._until, self._room = None, MAX_HEAD


class _Request(http.server.BaseHTTPRequestHandler):
    """One connection of Docker's."""

    protocol_version = "HTTP/1.1"
    server: PluginServer
    raw_requestline: bytes

    def setup(self) -> None:
        """A new connection, which has not asked for anything yet."""
        super().setup()
        self.request_version, self.requestline = self.protocol_version, ""  # until there are any
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def finish(self) -> None:
        """The end of a connection."""
        self.server.forget(self.connection)
        super().finish()
        with suppress(OSError):  # what is left unread would reset the connection before its last answer is read
            self.connection.setblocking(False)
            for _ in range(LEFT // io.DEFAULT_BUFFER_SIZE):
                if not self.connection.recv(io.DEFAULT_BUFFER_SIZE):
                    break

    def handle_one_request(self) -> None:
        """One request, or the end of the connection."""
        try:
            super().handle_one_request()
        except http.client.HTTPException as error:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error))
        self._incoming.over()

    def parse_request(self) -> bool:
        """Whether the head makes sense; if not, its sender has been answered."""
        wrong, rfile = heads.wrong_line(self.raw_requestline), self.rfile
        lines = heads.Lines(rfile)
        try:
            self.rfile = lines  # type: ignore[assignment]  # of a head, only lines are read
            if wrong is None and not super().parse_request():
                return False
        finally:
            self.rfile = rfile
        if wrong := wrong or heads.wrong(self.headers, lines.broken):
            self.send_error(HTTPStatus.BAD_REQUEST, wrong)
            return False
        return True

    def do_POST(self) -> None:
        """A call of the plugin."""
        method = self.path.lstrip("/")
        if not self.server.busy(self.connection, True):
            self.close_connection = True
            return
        try:
            if method == JOIN:
                self.server.caller = _peer(self.connection)
            self._call(method)
        finally:
            self.server.busy(self.connection, False)

    def _call(self, method: str) -> None:
        shown = one_line(method, 80)
        try:
            content = _encoded(self.server.call(method, self._body()))
            status = HTTPStatus.OK.value
        except Refusal as error:
            COMPLAINTS.say(logging.WARNING, shown, str(error))
            content, status = _failure(str(error)), error.status
        except AgentError as error:
            COMPLAINTS.say(logging.ERROR, shown, str(error))
            content, status = _failure(str(error)), HTTPStatus.OK.value
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception as error:
            # One bad call must not end the plugin for all containers.
            LOG.critical("%s: unexpected error", shown, exc_info=True)
            line = f"internal error of netctl-agent: {type(error).__name__}: {error}"
            content, status = _failure(line), HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._answer(status, content)

    def _body(self) -> Mapping[str, Any]:
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Malformed("a request needs a Content-Length", HTTPStatus.LENGTH_REQUIRED)
        length = int(self.headers.get("Content-Length", "0"))
        if length > MAX_BODY:
            self.close_connection = True  # what follows is not read
            raise Malformed(f"a request has at most {MAX_BODY} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._incoming.body(length)
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionResetError
        if not content.strip():
            return {}  # Docker sends nothing where there is nothing to say
        try:
            body = reading.load(content)
        except ValueError as error:
            raise Malformed(f"the request is {error}") from None
        if body is None:
            return {}
        if not isinstance(body, dict):
            raise Malformed("the request is not a JSON object")
        return body

    def _answer(self, status: int, content: bytes) -> None:
        self.connection.settimeout(REQUEST_TIME)
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection or self.server.stopping:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no call at all: the library's refusals, in Docker's form."""
        self.close_connection = True
        self.request_version = self.protocol_version  # of a line that makes no sense: without it there is no head
        with suppress(OSError):
            self._answer(code, _failure(message or HTTPStatus(code).phrase))

    def address_string(self) -> str:
        """Who calls: a Unix socket has no address."""
        return "docker"

    def log_message(self, format: str, *args: object) -> None:
        """The library's line for each request is noise; refusals are logged where they arise."""


class PluginServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves the plugin's calls, a thread a connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, path: Path, calls: Mapping[str, Handler], lost: Callable[[str], None] = lambda line: None
    ) -> None:
        self._path = path
        self._lost = lost
        self._calls = calls
        self._inode: int | None = None
        # whether each is in the middle of a call; the one that has been quiet for the longest time comes first
        self._connections: dict[socket.socket, bool] = {}
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self.stopping = False
        self.caller = 0  # process id of who had a container join last: Docker's
        super().__init__(str(path), _Request)

    def server_bind(self) -> None:
        """Take the socket's place: a dead agent's is replaced, a living one's is not."""
        try:
            with _umask(0o022):
                self._path.parent.mkdir(parents=True, exist_ok=True)
            _check_folder(self._path.parent)
            _clear(self._path)
            with _umask(0o177):
                super().server_bind()
            self._inode = self._path.stat().st_ino
        except OSError as error:
            raise StartError(f"{self._path}: {error.strerror or error}") from error

    def service_actions(self) -> None:
        """Docker reaches us by the path alone: once it is somebody else's, or nobody's, we serve in vain."""
        if self._inode is None or self.stopping:
            return
        try:
            if self._path.lstat().st_ino == self._inode:
                return
            what = "is another program's by now"
        except OSError as error:
            what = f"is gone ({error.strerror})"
        self._inode = None
        self._lost(f"{self._path} {what}: Docker can't reach this agent any more, it has to start again")

    def call(self, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry a call out."""
        handler = self._calls.get(method)
        if handler is None:
            raise Malformed(f"unknown method {method[:80]}", HTTPStatus.NOT_FOUND)
        with self._changed:
            calls = sum(self._connections.values())
        if calls > MAX_CALLS:
            raise Busy(f"netctl-agent has {calls - 1} calls under way: try again in a moment")
        return handler(body)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke while it was answered is Docker's business; all else is a mistake of ours."""
        level = logging.DEBUG if isinstance(sys.exc_info()[1], OSError) else logging.CRITICAL
        LOG.log(level, "a plugin connection broke", exc_info=True)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A new connection: a thread for it, and where there are too many, another one's end."""
        with self._changed:
            quiet = [one for one, calling in self._connections.items() if not calling]
            for one in quiet[: max(0, len(self._connections) + 1 - MAX_CONNECTIONS)]:
                del self._connections[one]
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._connections[request] = False
        name = f"plugin-{next(self._numbers)}"
        threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name=name, daemon=True
        ).start()

    def start(self) -> None:
        """Serve, in a thread."""
        threading.Thread(target=self.serve_forever, args=(POLL,), name="plugin", daemon=True).start()

    def busy(self, connection: socket.socket, calling: bool) -> bool:
        """A connection is, or is not, in the middle of a call. Returns whether it is still open."""
        with self._changed:
            if self._connections.pop(connection, None) is None:
                return False
            self._connections[connection] = calling
            self._changed.notify_all()
            if self.stopping and not calling:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            return True

    def forget(self, connection: socket.socket) -> None:
        """A connection has ended."""
        with self._changed:
            self._connections.pop(connection, None)
            self._changed.notify_all()

    def stop(self) -> None:
        """Take no more calls, finish those begun, and take the socket away where it still is ours."""
        self.shutdown()
        self.server_close()
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        with self._changed:
            self.stopping = True
            for connection, calling in self._connections.items():
                if not calling:
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)  # Docker keeps them open for its next call
            if not self._changed.wait_for(lambda: not any(self._connections.values()), STOP_TIMEOUT):
                LOG.warning("stopped in the middle of a call of Docker's")


def _peer(connection: socket.socket) -> int:
    """Process id of who is at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _encoded(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode()


def _failure(line: str) -> bytes:
    """Docker reads ``Err`` of a network driver and ``Error`` of an IPAM driver."""
    line = one_line(line)
    return _encoded({"Err": line, "Error": line})


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def _check_folder(folder: Path) -> None:
    """Who may write there may put a socket of his own in ours' place."""
    found = folder.stat()
    others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0)
    if others or found.st_uid not in (0, os.geteuid()):
        raise StartError(f"{folder}: others than root may write there: chown root:root and chmod 755 it")


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} is there and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass  # somebody listens, and is busy
    raise StartError(f"{path}: another agent is serving it already")
