"""HTTP for our applications: requests and responses, and routes by table.

The only place that names webob and routes; the server is `ryu_apps.server`. An application is made of one function
from request to response; refusals (`topology.errors`) become one line of text with their status, everything
else that it raises becomes status 500 for the client and a traceback in the log.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from ryu_apps.server import CONNECTION, Application, Server, StartResponse, address_of, serve
from topology.errors import BadRequest, NetctlError, NotFound, TooLarge

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
    "NDJSON",
    "Application",
    "Handler",
    "MethodNotAllowed",
    "PathNotFound",
    "Request",
    "Response",
    "Router",
    "Server",
    "address_of",
    "Route",
    "application",
    "body_parts",
    "defer",
    "eventlet",
    "found",
    "headers_of",
    "json_response",
    "keep",
    "methods",
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
BODY_TIMEOUT = 30.0  # s until a request's body must be there as a whole

NDJSON = "application/x-ndjson"

T = TypeVar("T")
Handler = Callable[..., Any]

Request = Any  # webob.Request, which has no types
Response = Any  # webob.Response


class MethodNotAllowed(NetctlError):
    """The path exists, but not for this method."""

    status = 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not possible here, only {self.allowed}")


class PathNotFound(NetctlError):
    """No such path."""

    status = 404


@dataclass(frozen=True, slots=True)
class Route:
    """What one method of a path does: its handler, the documents that it takes and gives, how it may refuse.

    ``refuses``: beside what its method and ``takes`` say by themselves (`ryu_apps.rest.openapi`). ``settles``: a write
    is answered once the switches carry it out; not one that they have no part in. ``leader``: only the leading
    controller can answer; with ``stored``, the others tell what is stored where it does not.
    """

    handler: Handler
    gives: Any  # the type of its JSON, or of each line; Never: it always refuses
    takes: Any = None
    refuses: tuple[int, ...] = ()
    query: tuple[str, ...] = ()
    content: str = "application/json"
    settles: bool = True
    leader: bool = False
    stored: bool = False


def methods(get: Route, put: Route, delete: Route) -> dict[str, Route]:
    """What the path of one object takes; Contiv's clients create by POST."""
    return {"GET": get, "POST": put, "PUT": put, "DELETE": delete}


class Router:
    """Paths to routes, by method. A path is found with and without a trailing slash."""

    def __init__(self, table: Mapping[str, Mapping[str, Route]]) -> None:
        self._mapper = routes.Mapper(explicit=True)
        self._table = table
        for path in table:
            self._mapper.connect(None, path, path=path)

    def find(self, request: Request) -> tuple[Route, dict[str, str]]:
        """The route of a request and the values in its path; else 404 or 405."""
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


def found(value: T | None, what: str) -> T:
    """The object of a path; `NotFound` where there is none."""
    if value is None:
        raise NotFound(f"{what} not found")
    return value


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
    return webob.Response(status=200, content_type=NDJSON, charset="utf-8", app_iter=chunks)


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


def new_event() -> Any:
    """An event that greenthreads wait for: ``wait(timeout)``, ``send()`` once."""
    return eventlet.Event()


def defer(call: Callable[[], None]) -> None:
    """Calls soon, in a greenthread of its own."""
    eventlet.spawn_n(call)
