"""The HTTP server: eventlet's WSGI server, with a limit for everything that a client may do or leave undone.

Nothing that it waits for has no end: the head of a request, its body, an answer that is to be taken. How many clients
and bytes there may be is kept in `ryu_apps.connections`.
"""

from __future__ import annotations

import errno
import logging
import resource
import struct
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from ryu_apps import incoming
from ryu_apps.connections import Connection, Room
from topology import heads

with warnings.catch_warnings():
    # eventlet announces its end of life: known
    warnings.simplefilter("ignore")
    import eventlet  # type: ignore[import-untyped]
    import eventlet.greenio  # type: ignore[import-untyped]
    import eventlet.wsgi  # type: ignore[import-untyped]
    from eventlet.green import socket  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1000
MAX_HELD = 64 << 20  # bytes of bodies and answers that all clients together leave with us
IDLE_TIMEOUT = 30.0  # s a connection may be silent: between requests and inside one
HEAD_TIMEOUT = 10.0  # s from a request's first byte until its head must be there as a whole
SEND_TIMEOUT = 20.0  # s until an answer, or a chunk of one, must be taken as a whole, and
SEND_RATE = 256 << 10  # bytes a second: more for a large one
MAX_PART = 16 << 10  # bytes read at once of what nobody wants
BUFFER = 128 << 10  # bytes that the kernel keeps for a connection, each way
UNACKNOWLEDGED_TIMEOUT = 10_000  # ms until a client that acknowledges nothing is given up
LOG_PERIOD = 60.0  # s between two lines that say the same
CONNECTION = "netctl.connection"  # in the environment of a request: the `Connection` that it came by

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def _drop(connection: Connection, held: int) -> None:
    """Its thread ends by that. What its client has not taken is forgotten, by the kernel as well."""
    if held:
        connection[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventlet.greenio.shutdown_safe(connection[1])
    if connection.thread is not eventlet.getcurrent():
        connection.thread.kill()  # now: those that are ready have their turn before those that the shutdown wakes


def _take_the_rest(connection: Any) -> None:
    """What is left unread would reset the connection, and its client would not see the last answer."""
    with suppress(OSError):  # BlockingIOError: there is no more at the moment
        for _ in range(2 * BUFFER // MAX_PART):
            if not connection.fd.recv(MAX_PART):
                break


class _Out:
    """Where a connection's answers go: each in bounded time, however slowly its client takes it."""

    closed = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self._parts.extend(parts)

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        size = sum(map(len, parts))
        if not size:
            return
        if size <= BUFFER:
            parts = [b"".join(parts)]  # else it would be kept twice
        try:
            with self._connection.waiting(size), eventlet.Timeout(SEND_TIMEOUT + size / SEND_RATE, TimeoutError()):
                for part in parts:
                    # a view: what is left of the bytes would be copied after each piece that the kernel takes
                    self._connection[1].sendall(memoryview(part))
        except TimeoutError:
            _drop(self._connection, size)
            raise

    def close(self) -> None:
        self.closed = True


class _Protocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    _head: Any = None
    wfile: Any
    rfile: Any

    def setup(self) -> None:
        super().setup()
        self.wfile.close()
        self.wfile = _Out(self.conn_state)

    def _read_request_line(self) -> Any:
        self.rfile.peek(1)  # the first byte may take its time; the rest of the head has a limit from then on
        self._head = eventlet.Timeout(HEAD_TIMEOUT, TimeoutError())
        line = super()._read_request_line()
        if len(line) >= self.server.url_length_limit:
            self.send_error(414, f"a request line has less than {self.server.url_length_limit} bytes")
            return b""
        if wrong := heads.wrong_line(line) if line.strip() else None:
            self.send_error(400, wrong)
            return b""
        return line

    def parse_request(self) -> bool:
        """Whether the head makes sense; if not, its sender has been answered."""
        lines = self.rfile = heads.Lines(self.rfile)
        try:
            if not super().parse_request():
                return False
        except (eventlet.wsgi.HeaderLineTooLong, eventlet.wsgi.HeadersTooLarge):
            most, total = eventlet.wsgi.MAX_HEADER_LINE, eventlet.wsgi.MAX_TOTAL_HEADER_SIZE
            self.send_error(431, f"a header has less than {most} bytes, and all of them have at most {total}")
            return False
        if line := heads.wrong(self.headers, lines.broken):
            self.send_error(400, line)
            return False
        return True

    def get_environ(self) -> dict[str, Any]:
        self._head.cancel()
        self.conn_state.begin()
        environ: dict[str, Any] = super().get_environ()
        environ[CONNECTION] = self.conn_state
        environ["eventlet.input"].__class__ = incoming.Input
        return environ

    def handle_one_request(self) -> None:
        eventlet.sleep(0)  # a client that sends one request after the other would leave nobody else a turn
        try:
            super().handle_one_request()
        finally:
            if self._head is not None:
                self._head.cancel()
            self.wfile.flush()
            self.environ = None  # it leads back here, and would keep all until the next garbage collection
            self.conn_state.finish()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """To a request that is none: one line, and nothing in the log."""
        line = " ".join((message or "bad request").split())[:200].encode() + b"\n"
        self.close_connection = True
        head = f"HTTP/1.1 {int(code)} Refused\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
        self.wfile.write(f"{head}Content-Length: {len(line)}\r\n\r\n".encode() + line)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.rfile.close()  # stays open, and with it the socket, where the last flush fails


class Server:
    """A WSGI server on one listening socket. Every connection has its own greenthread."""

    def __init__(self, app: Application, host: str, port: int) -> None:
        self._listener = _listen(host, port)
        self.host, self.port = self._listener.getsockname()[:2]
        self._app = app
        self._server = eventlet.wsgi.Server(
            self._listener,
            (self.host, self.port),
            self._admit,
            protocol=_Protocol,
            log=eventlet.wsgi.LoggerNull(),  # its lines are about what clients do wrong, and hold what they sent
            log_output=False,
            debug=False,
            keepalive=IDLE_TIMEOUT,
            socket_timeout=IDLE_TIMEOUT,
        )
        # the other half of the descriptors is for switches, the store and what we ask of others
        most = min(MAX_CONNECTIONS, max(10, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._room = Room(most, MAX_HELD, _drop)
        self._pool = eventlet.GreenPool(most)
        self._stopped = False
        self._told = -LOG_PERIOD
        self._over = eventlet.Event()
        self._acceptor = eventlet.spawn(self._accept)

    def wait(self) -> None:
        """Returns after `stop`; raises what ended the server otherwise: then the process must end."""
        self._over.wait()

    def stop(self) -> None:
        """Closes the socket and every connection, also those in the middle of an answer."""
        if self._stopped:
            return
        self._stopped = True
        self._acceptor.kill()
        self._listener.close()
        for thread in list(self._pool.coroutines_running):
            thread.kill()
        self._pool.waitall()
        if not self._over.ready():
            self._over.send()

    def _accept(self) -> None:
        try:
            while True:
                try:
                    connection, address = self._listener.accept()
                except OSError as error:
                    if error.errno == errno.ECONNABORTED:
                        continue
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    self._out_of_resources(error)
                    continue
                if self._pool.free() <= 0:
                    self._room.make()
                connection.settimeout(IDLE_TIMEOUT)
                self._pool.spawn(self._serve, connection, address)
        except Exception as error:
            log.exception("the HTTP server on %s:%s ended", self.host, self.port)
            self._over.send(exc=error)

    def _out_of_resources(self, error: OSError) -> None:
        if time.monotonic() >= self._told + LOG_PERIOD:
            self._told = time.monotonic()
            log.error("no new connection can be accepted: %s", error.strerror)
        eventlet.sleep(0.01 if self._room.make() else 0.5)

    def _serve(self, socket: Any, address: Any) -> None:
        connection = Connection(self._room, address, socket, eventlet.wsgi.STATE_IDLE)
        connection.thread = eventlet.getcurrent()
        self._room.enter(connection)
        try:
            self._server.process_request(connection)
        except eventlet.greenlet.GreenletExit:  # where it went to make room, its traceback would keep what it held
            log.debug("connection of %s: ended", address)
        except OSError as error:
            log.debug("connection of %s: %s", address, error)
        except Exception:  # one broken connection must not end the others
            log.exception("unexpected error in the connection of %s", address)
        finally:
            self._room.leave(connection)
            connection.thread = None
            _take_the_rest(socket)
            eventlet.greenio.shutdown_safe(socket)
            socket.close()

    def _admit(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if self._room.admitted(environ[CONNECTION]):
            return self._app(environ, start_response)
        start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"too many requests are being answered: try again later\n"]


def serve(app: Application, host: str, port: int) -> Server:
    """Serves ``app`` from now on, in greenthreads. OSError: the port is taken, or the host not ours."""
    return Server(app, host, port)


def address_of(host: str) -> str:
    """The address that a server of that host listens on."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return host  # and `serve` will say so
    return str(found[0][4][0])


def _listen(host: str, port: int) -> Any:
    # not eventlet.listen: it shares the port with whoever listens there already
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # inherited by the accepted connections: a client that vanished without a word is found out
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_TIMEOUT)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            listener.setsockopt(socket.SOL_SOCKET, buffer, BUFFER)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
