"""The HTTP server itself, over real sockets on a loopback port of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ryu_apps import server as server_module
from ryu_apps import wsgi
from ryu_apps.wsgi import eventlet, socket
from topology.errors import Conflict

Connect = Callable[[], Any]


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """No test of a server may hang."""
    with eventlet.Timeout(20):
        yield


class Endless:
    """Chunks for ever; remembers that it was closed."""

    def __init__(self) -> None:
        self.closed = wsgi.new_event()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 1000
            eventlet.sleep(0)

    def close(self) -> None:
        self.closed.send()


class Waiting(Endless):
    """One chunk, then silence until the client goes."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = wsgi.new_event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"first\n"
        self.gone.wait()


class App:
    """One path for each behaviour of a handler."""

    def __init__(self) -> None:
        self.endless = Endless()
        self.waiting = Waiting()
        self.router = wsgi.Router(
            {
                "/echo": {"POST": wsgi.Route(lambda request: {"size": len(wsgi.read_body(request))}, Any)},
                "/refuse": {"GET": wsgi.Route(self.refuse, Any)},
                "/crash": {"GET": wsgi.Route(lambda request: 1 / 0, Any)},
                "/endless": {"GET": wsgi.Route(lambda request: wsgi.stream_response(request, self.endless), Any)},
                "/waiting": {"GET": wsgi.Route(self.wait, Any)},
                "/sleep": {"GET": wsgi.Route(self.sleep, Any)},
            }
        )

    def handle(self, request: Any) -> Any:
        route, values = self.router.find(request)
        answer = route.handler(request, **values)
        return wsgi.json_response(answer) if isinstance(answer, dict) else answer

    def refuse(self, request: Any) -> Any:
        raise Conflict("taken\nby somebody")

    def wait(self, request: Any) -> Any:
        wsgi.on_disconnect(request, self.waiting.gone.send)
        return wsgi.stream_response(request, self.waiting)

    def sleep(self, request: Any) -> Any:
        eventlet.sleep(0.2)
        return {"slept": True}


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App) -> Iterator[wsgi.Server]:
    server = wsgi.serve(wsgi.application(app.handle), "127.0.0.1", 0)
    yield server
    server.stop()


@pytest.fixture
def connect(server: wsgi.Server) -> Iterator[Connect]:
    """Opens client connections and closes them after the test."""
    opened = []

    def open_one() -> Any:
        client = socket.create_connection((server.host, server.port))
        opened.append(client)
        return client

    yield open_one
    for client in opened:
        client.close()


def read_answer(client: Any) -> tuple[int, bytes]:
    """Status and body of one answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        assert part, f"connection closed in the middle of {data!r}"
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(headers[b"content-length"])
    while len(body) < length:
        body += client.recv(65536)
    return int(head.split()[1]), body


def get(client: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return read_answer(client)


def test_a_taken_port_is_refused(server: wsgi.Server) -> None:
    """Without it, a second controller starts beside the first and both answer by turns."""
    with pytest.raises(OSError, match="Address already in use"):
        wsgi.serve(lambda environ, start: [], "127.0.0.1", server.port)


def test_the_port_is_free_again_after_stop(server: wsgi.Server, connect: Connect) -> None:
    """Without it, a restart of the controller fails for a minute."""
    client = connect()
    assert get(client, "/refuse")[0] == 409
    server.stop()
    server.wait()
    wsgi.serve(lambda environ, start: [], "127.0.0.1", server.port).stop()


@pytest.mark.parametrize(
    ("path", "method", "status", "line"),
    [
        ("/refuse", "GET", 409, b"taken by somebody\n"),
        ("/refuse/", "GET", 409, b"taken by somebody\n"),
        ("/refuse", "DELETE", 405, b"DELETE is not possible here, only GET\n"),
        ("/nothing", "GET", 404, b"no such path: /nothing\n"),
        ("/", "GET", 404, b"no such path: /\n"),
        ("/%ff", "GET", 404, b"no such path: it is not UTF-8\n"),
        ("/%0ax", "GET", 404, b"no such path: / x\n"),
    ],
)
def test_refusals_are_one_line(connect: Connect, path: str, method: str, status: int, line: bytes) -> None:
    """Without it, a user reads a page of HTML or a traceback instead of the reason."""
    assert get(connect(), path, method) == (status, line)


def test_an_unexpected_error_is_loud_in_the_log(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Without it, a defect is silent, or its traceback goes to whoever called."""
    client = connect()
    with caplog.at_level(logging.ERROR):
        status, body = get(client, "/crash")
    assert (status, body) == (500, b"internal error (ZeroDivisionError): see the controller's log\n")
    assert "division by zero" in caplog.text
    assert get(client, "/refuse")[0] == 409, "the connection goes on"


def test_a_connection_is_kept(connect: Connect) -> None:
    """Without it, every heartbeat of every agent opens a connection."""
    client = connect()
    for _ in range(3):
        assert get(client, "/refuse")[0] == 409


@pytest.mark.parametrize(
    ("head", "body", "status", "answer"),
    [
        ("Content-Length: 5", b"12345", 200, b'{"size":5}\n'),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b'{"size":5}\n'),
        ("Content-Length: 1048576", b"x" * 1048576, 200, b'{"size":1048576}\n'),
        ("Content-Length: 1048577", b"x" * 1048577, 413, b"body: more than 1048576 bytes\n"),
        (
            "Transfer-Encoding: chunked",
            b"100001\r\n" + b"x" * 1048577 + b"\r\n0\r\n\r\n",
            413,
            b"body: more than 1048576 bytes\n",
        ),
        ("Transfer-Encoding: chunked", b"zz\r\n", 400, b"body: broken off, or its chunks are malformed\n"),
    ],
)
def test_bodies(connect: Connect, head: str, body: bytes, status: int, answer: bytes) -> None:
    """Without it, one client fills the controller's memory, or a chunked body is lost."""
    client = connect()
    client.sendall(f"POST /echo HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
    assert read_answer(client) == (status, answer)


def test_a_body_that_never_comes_is_given_up(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a client that drips bytes keeps its place for ever."""
    monkeypatch.setattr(wsgi, "BODY_TIMEOUT", 0.05)
    client = connect()
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    assert read_answer(client) == (400, b"body: not complete within 0.05 s\n")


def test_slow_clients_do_not_block_others(connect: Connect) -> None:
    """Without it, one half-open connection stops every heartbeat."""
    for beginning in (b"", b"GET /ref", b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"):
        connect().sendall(beginning)
    waiting = [eventlet.spawn(get, connect(), "/sleep") for _ in range(5)]
    assert get(connect(), "/refuse")[0] == 409
    assert [thread.wait()[0] for thread in waiting] == [200] * 5


def test_silent_connections_make_room(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, as many silent connections as the limit lock everybody out."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 4)
    server = wsgi.serve(wsgi.application(app.handle), "127.0.0.1", 0)
    clients = [socket.create_connection((server.host, server.port)) for _ in range(12)]
    try:
        assert get(clients[-1], "/refuse")[0] == 409
    finally:
        for client in clients:
            client.close()
        server.stop()


def test_chunks_go_out_one_by_one_and_the_clients_going_is_seen(app: App, connect: Connect) -> None:
    """Without it, an agent hears of a change only when 4 KiB are full, and a dead one counts as connected."""
    client = connect()
    client.sendall(b"GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while b"first\n" not in data:
        data += client.recv(65536)
    client.close()
    app.waiting.gone.wait()
    app.waiting.closed.wait()


def test_stop_ends_answers_that_have_no_end(server: wsgi.Server, app: App, connect: Connect) -> None:
    """Without it, the controller does not stop while an agent is connected."""
    client = connect()
    client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(10)
    server.stop()
    app.endless.closed.wait()
