"""HTTP for our applications: requests and responses, routes by table, and the server they run on.

The only place that names webob, routes and eventlet's WSGI server. An application is made of one function
from request to response; refusals (`topology.errors`) become one line of text with their status, everything
else that it raises becomes status 500 for the client and a traceback in the log.
"""

from __future__ import annotations

import errno
import json
import logging
import resource
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from ryu_apps.connections import Connection, Room
from topology.errors import BadRequest, NetctlError, TooLarge, Unavailable

with warnings.catch_warnings():
    # eventlet announces its end of life, webob imports the standard library's cgi: known
    warnings.simplefilter("ignore")
    import eventlet  # type: ignore[import-untyped]
    import eventlet.greenio  # type: ignore[import-untyped]
    import eventlet.semaphore  # type: ignore[import-untyped]
    import eventlet.wsgi  # type: ignore[import-untyped]
    import routes  # type: ignore[import-untyped]
    import webob  # type: ignore[import-untyped]
    from eventlet.green import socket  # type: ignore[import-untyped]

__all__ = [
    "Application",
    "Handler",
    "MethodNotAllowed",
    "PathNotFound",
    "Request",
    "Response",
    "Router",
    "Server",
    "address_of",
    "application",
    "body_parts",
    "defer",
    "eventlet",
    "headers_of",
    "json_response",
    "keep",
    "new_event",
    "on_disconnect",
    "one_line",
    "query",
    "read_body",
    "serve",
    "socket",
    "stream_response",
    "text_response",
    "webob",
]

log = logging.getLogger(__name__)

MAX_BODY = 1 << 20
BODY_PART = 1 << 16  # bytes read at once
MAX_CONNECTIONS = 1000
MAX_HELD = 128 << 20  # bytes of bodies and answers that all clients together leave with us
IDLE_TIMEOUT = 30.0  # s a connection may be silent: between requests and inside one
HEAD_TIMEOUT = 10.0  # s from a request's first byte until its head must be there as a whole
BODY_TIMEOUT = 30.0  # s until a request's body must be there as a whole
SEND_TIMEOUT = 20.0  # s until an answer, or a chunk of one, must be taken as a whole, and
SEND_RATE = 256 << 10  # bytes a second: more for a large one
DISCARD_TIMEOUT = 5.0  # s, and
MAX_DISCARDED = 4 << 20  # bytes of a body that nobody reads, before the connection is ended instead
BUFFER = 128 << 10  # bytes that the kernel keeps for a connection, each way
UNACKNOWLEDGED_TIMEOUT = 10_000  # ms until a client that acknowledges nothing is given up
LOG_PERIOD = 60.0  # s between two lines that say the same
CONNECTION = "netctl.connection"  # in the environment of a request: the `Connection` that it came by

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
Handler = Callable[..., Any]

Request = Any  # webob.Request, which has no types
Response = Any  # webob.Response

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class MethodNotAllowed(NetctlError):
    """The path exists, but not for this method."""

    status = 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not possible here, only {self.allowed}")


class PathNotFound(NetctlError):
    """No such path."""

    status = 404


class Router:
    """Paths to handlers, by method. A path is found with and without a trailing slash."""

    def __init__(self, table: Mapping[str, Mapping[str, Handler]]) -> None:
        self._mapper = routes.Mapper(explicit=True)
        self._table = table
        for path in table:
            self._mapper.connect(None, path, path=path)

    def find(self, request: Request) -> tuple[Handler, dict[str, str]]:
        """The handler of a request and the values in its path; else 404 or 405."""
        try:
            path = str(request.path_info)
        except UnicodeDecodeError:
            raise PathNotFound("no such path: it is not UTF-8") from None
        match = self._mapper.match(path[:-1] if path.endswith("/") and path != "/" else path)
        if match is None:
            raise PathNotFound(f"no such path: {one_line(path)}")
        methods = self._table[match.pop("path")]
        # an answer to HEAD is that to GET without its body, which the server leaves out
        method = "GET" if request.method == "HEAD" else request.method
        if method not in methods:
            raise MethodNotAllowed(one_line(request.method), methods)
        return methods[method], match


def application(handle: Callable[[Request], Response]) -> Application:
    """A WSGI application of one function; the one place where errors become answers."""

    def call(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = webob.Request(environ)
        try:
            response = handle(request)
        except NetctlError as error:
            response = text_response(error.status, str(error))
            if isinstance(error, MethodNotAllowed):
                response.headers["Allow"] = error.allowed
        except Exception as error:
            log.exception("unexpected error in %s %s", request.method, environ.get("PATH_INFO", ""))
            line = f"internal error ({type(error).__name__}): see the controller's log"
            response = text_response(500, line)
        result: Iterable[bytes] = response(environ, start_response)
        return result

    return call


def one_line(text: str, limit: int = 1000) -> str:
    """Text that stays on one line and in bounds, whatever a client sent."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.splitlines()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def text_response(status: int, line: str) -> Response:
    """One line of text."""
    text = one_line(line) + "\n"
    return webob.Response(status=status, content_type="text/plain", charset="utf-8", text=text)


def json_response(document: Any) -> Response:
    """Status 200 and a JSON document."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"
    return webob.Response(status=200, content_type="application/json", charset="utf-8", text=text)


def stream_response(request: Request, chunks: Iterable[bytes]) -> Response:
    """A response whose chunks go out one by one, as they come; ``chunks.close`` is called at its end."""
    request.environ["eventlet.minimum_write_chunk_size"] = 1
    return webob.Response(status=200, content_type="application/x-ndjson", charset="utf-8", app_iter=chunks)


def headers_of(request: Request) -> list[tuple[str, str]]:
    """Names and values as the client sent them, each as often as it sent it."""
    raw = request.environ.get("headers_raw")  # the environment proper joins them, and makes up a content type
    return list(request.headers.items()) if raw is None else list(raw)


def read_body(request: Request, most: int = 0) -> bytes:
    """The whole body, up to ``most`` bytes (0: MAX_BODY), in bounded time; with a length or chunked."""
    most = most or MAX_BODY
    too_large = TooLarge(f"body: more than {most} bytes")
    length = request.environ.get("CONTENT_LENGTH") or ""
    if length.isascii() and length.isdigit() and int(length[:20]) > most:
        raise too_large
    parts: list[bytes] = []
    size = 0
    for part in body_parts(request):
        parts.append(part)
        size += len(part)
        keep(request, len(part))
        if size > most:
            raise too_large
    return b"".join(parts)


def body_parts(request: Request) -> Iterator[bytes]:
    """The body in parts, in bounded time. Who reads them sees to it that they are not too many."""
    until = time.monotonic() + BODY_TIMEOUT
    connection = request.environ.get(CONNECTION)
    while True:
        try:
            with (
                nullcontext() if connection is None else connection.waiting(),
                eventlet.Timeout(max(0.0, until - time.monotonic()), TimeoutError()),
            ):
                part = request.environ["wsgi.input"].read(BODY_PART)
        except TimeoutError:
            raise BadRequest(f"body: not complete within {BODY_TIMEOUT:g} s") from None
        except (OSError, eventlet.wsgi.ChunkReadError):
            raise BadRequest("body: broken off, or its chunks are malformed") from None
        if not part:
            return
        yield part


def keep(request: Request, size: int) -> None:
    """So many bytes of its body are kept until it is answered: there is a limit for all clients together."""
    connection = request.environ.get(CONNECTION)
    if connection is not None:
        connection.received(size)


def query(request: Request, name: str) -> str | None:
    """The one value of a query parameter, or None."""
    try:
        values = request.GET.getall(name)
    except UnicodeDecodeError:
        raise BadRequest("query: not UTF-8") from None
    if len(values) > 1:
        raise BadRequest(f"{name}: given {len(values)} times")
    return str(values[0]) if values else None


def on_disconnect(request: Request, call: Callable[[], None]) -> Callable[[], None]:
    """Calls once when a stream's client goes away. Returns what ends the watch and the connection."""
    source = request.environ.get("eventlet.input")
    if source is None:  # no connection: called in process
        return lambda: None
    connection = source.get_socket()

    def watch() -> None:
        while True:
            try:
                connection.recv(1)
            except TimeoutError:
                continue
            except OSError as error:
                log.debug("a stream's client is gone: %s", error)
            # gone; or it sends where it has nothing to say: a new request can't be told from noise here
            call()
            return

    watcher = eventlet.spawn(watch)

    def end() -> None:
        watcher.kill()
        eventlet.greenio.shutdown_safe(connection)

    return end


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
        data, self._parts = b"".join(self._parts), []
        if not data:
            return
        seconds = SEND_TIMEOUT + len(data) / SEND_RATE
        with self._connection.waiting(len(data)), eventlet.Timeout(seconds, TimeoutError()):
            # a view: what is left of the bytes would be copied after each part that the kernel takes
            self._connection[1].sendall(memoryview(data))

    def close(self) -> None:
        self.closed = True


class _Input(eventlet.wsgi.Input):  # type: ignore[misc]
    def discard(self, buffer_size: int = BODY_PART) -> None:
        """What is left of a body after its answer, if it is little and comes soon. OSError: it is not."""
        left = MAX_DISCARDED
        with eventlet.Timeout(DISCARD_TIMEOUT, TimeoutError()):
            while part := self.read(buffer_size):
                left -= len(part)
                if left < 0:
                    raise OSError("the rest of the body is too large")


class _Protocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    _head: Any = None
    wfile: Any

    def setup(self) -> None:
        super().setup()
        self.wfile.close()
        self.wfile = _Out(self.conn_state)

    def _read_request_line(self) -> Any:
        self.rfile.peek(1)  # the first byte may take its time; the rest of the head has a limit from then on
        self._head = eventlet.Timeout(HEAD_TIMEOUT, TimeoutError())
        return super()._read_request_line()

    def get_environ(self) -> dict[str, Any]:
        self._head.cancel()
        self.conn_state.begin()
        environ: dict[str, Any] = super().get_environ()
        environ[CONNECTION] = self.conn_state
        environ["eventlet.input"].__class__ = _Input
        return environ

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        finally:
            if self._head is not None:
                self._head.cancel()
            self.wfile.flush()
            self.conn_state.finish()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """To a request that is none: one line, and nothing in the log."""
        line = one_line(f"{message or 'bad request'}", 200).encode() + b"\n"
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
            log_output=False,
            debug=False,
            keepalive=IDLE_TIMEOUT,
            socket_timeout=IDLE_TIMEOUT,
        )
        # the other half of the descriptors is for switches, the store and what we ask of others
        most = max(10, min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._room = Room(most, MAX_HELD, lambda connection: eventlet.greenio.shutdown_safe(connection[1]))
        self._pool = eventlet.GreenPool(most)
        self._stopped = False
        self._told = -LOG_PERIOD
        self._over = new_event()
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
        self._room.enter(connection)
        try:
            self._server.process_request(connection)
        except OSError as error:
            log.debug("connection of %s: %s", address, error)
        except Exception:  # one broken connection must not end the others
            log.exception("unexpected error in the connection of %s", address)
        finally:
            self._room.leave(connection)
            eventlet.greenio.shutdown_safe(socket)
            socket.close()

    def _admit(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if not self._room.admitted(environ[CONNECTION]):
            return application(_busy)(environ, start_response)
        return self._app(environ, start_response)


def _busy(request: Request) -> Response:
    raise Unavailable("too many requests are being answered: try again later")


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


def new_event() -> Any:
    """An event that greenthreads wait for: ``wait(timeout)``, ``send()`` once."""
    return eventlet.Event()


def defer(call: Callable[[], None]) -> None:
    """Calls soon, in a greenthread of its own."""
    eventlet.spawn_n(call)
