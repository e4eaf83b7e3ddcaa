"""Docker's plugin protocol: JSON over HTTP over a Unix socket."""

from __future__ import annotations

import http.server
import json
import logging
import os
import socket
import socketserver
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from netctl.agent.errors import AgentError, Malformed, Refusal, StartError

LOG = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]
CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
MAX_BODY = 1 << 20  # bytes
IDLE_TIMEOUT = 300  # s that Docker may keep an unused connection open
POLL = 0.05  # s until a stop is noticed
STOP_TIMEOUT = 10.0  # s for calls that have begun
READ_TIMEOUT = 10  # s between two pieces of one request


class _Request(http.server.BaseHTTPRequestHandler):
    """One connection of Docker's."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT
    server: PluginServer

    def do_POST(self) -> None:
        """A call of the plugin."""
        method = self.path.lstrip("/")
        self.server.busy(self.connection, True)
        try:
            self._call(method)
        finally:
            self.server.busy(self.connection, False)

    def _call(self, method: str) -> None:
        try:
            answer = self.server.call(method, self._body())
            status = HTTPStatus.OK.value
        except Refusal as error:
            LOG.warning("%s: %s", method, error)
            answer, status = _failure(str(error)), error.status
        except AgentError as error:
            LOG.error("%s: %s", method, error)
            answer, status = _failure(str(error)), HTTPStatus.OK.value
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception as error:
            # One bad call must not end the plugin for all containers.
            LOG.critical("%s: unexpected error", method, exc_info=True)
            line = f"internal error of netctl-agent: {type(error).__name__}: {error}"
            answer, status = _failure(" ".join(line.split())), HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._answer(status, answer)

    def _body(self) -> Mapping[str, Any]:
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Malformed("a request needs a Content-Length", HTTPStatus.LENGTH_REQUIRED)
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            raise Malformed(f"Content-Length {length!r} is not a number")
        if len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
            self.close_connection = True  # what follows is not read
            raise Malformed(f"a request has at most {MAX_BODY} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.connection.settimeout(READ_TIMEOUT)
        content = self.rfile.read(int(length))
        self.connection.settimeout(IDLE_TIMEOUT)
        if len(content) < int(length):
            raise ConnectionResetError
        if not content.strip():
            return {}  # Docker sends nothing where there is nothing to say
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            raise Malformed("the request is not JSON") from None
        if body is None:
            return {}
        if not isinstance(body, dict):
            raise Malformed("the request is not a JSON object")
        return body

    def setup(self) -> None:
        """A new connection, which has not asked for anything yet."""
        super().setup()
        self.server.caller = _peer(self.connection)
        self.server.busy(self.connection, False)

    def finish(self) -> None:
        """The end of a connection."""
        self.server.forget(self.connection)
        super().finish()

    def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
        content = json.dumps(answer).encode()
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
        self._connections: dict[socket.socket, bool] = {}  # whether each is in the middle of a call
        self._changed = threading.Condition()
        self.stopping = False
        self.caller = 0  # process id of who called last: Docker's
        super().__init__(str(path), _Request)

    def server_bind(self) -> None:
        """Take the socket's place: a dead agent's is replaced, a living one's is not."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _clear(self._path)
            old = os.umask(0o177)
            try:
                super().server_bind()
            finally:
                os.umask(old)
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
        return handler(body)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke while it was answered is Docker's business."""
        LOG.debug("a plugin connection broke", exc_info=True)

    def start(self) -> None:
        """Serve, in a thread."""
        threading.Thread(target=self.serve_forever, args=(POLL,), name="plugin", daemon=True).start()

    def busy(self, connection: socket.socket, calling: bool) -> None:
        """A connection is, or is not, in the middle of a call."""
        with self._changed:
            self._connections[connection] = calling
            self._changed.notify_all()
            if self.stopping and not calling:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

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


def _failure(line: str) -> dict[str, str]:
    """Docker reads ``Err`` of a network driver and ``Error`` of an IPAM driver."""
    return {"Err": line, "Error": line}


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
