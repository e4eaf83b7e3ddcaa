"""Requests that a web page in a user's browser makes: refused, at each path, by each method, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ryu_apps import wsgi
from ryu_apps.rest import auth
from ryu_apps.wsgi import eventlet, socket
from tests.unit.rest_kit import Rest

HOST = ("Host", "127.0.0.1:9999")
LOOPBACK = auth.listener("127.0.0.1", "http://ctl-1:9999", ["Router.example", "proxy."])
OPEN = auth.listener("0.0.0.0", "http://ctl-1:9999")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:9999", "127.0.0.1:1", "[::1]", "[::1]:9999", "[0:0::1]:9999", "10.0.0.9:80",
        "localhost", "LOCALHOST:9999", "localhost.", "netmaster", "NetMaster:9999", "ctl-1", "CTL-1:80",
        "router.example:9999", "proxy", "proxy.:8080", "127.0.0.1:",
    ],
)  # fmt: skip
def test_names_of_a_loopback_listener(host: str) -> None:
    """Else the command line, an agent or a tunnel to the controller is locked out."""
    assert auth.refusal("POST", [("hOST", host)], LOOPBACK) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:9999", "localhost.evil.example", "127.0.0.1.evil.example", "", ":9999",
        "evil@127.0.0.1", "127.0.0.1@evil.example", "localhost,evil", "[::1", "::1", "[::1]evil", "[evil.example]",
        "[127.0.0.1]", "127.0.0.1:http", "127.0.0.1:9999999", "127.1", "2130706433", "0x7f.0.0.1", "localhost..",
        "a\tlocalhost", "xn--lcalhost-54a",
    ],
)  # fmt: skip
def test_other_names_of_a_loopback_listener(host: str) -> None:
    """A page whose own name is made to lead to 127.0.0.1 would be of the API's own site, and could do everything."""
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        line = auth.refusal(method, [("Host", host)], LOOPBACK)
        assert line is not None and line.startswith(f"Host {host} is not a name of this API: right is "), line
    assert auth.refusal("POST", [("Host", host)], OPEN) is None, "others may call it as they like"


def test_two_hosts() -> None:
    """One part would look at the first, another at the second."""
    for others in (["127.0.0.1", "evil"], ["evil", "127.0.0.1"], ["localhost", "localhost"]):
        line = auth.refusal("GET", [("Host", others[0]), ("X", "y"), ("host", others[1])], LOOPBACK)
        assert line == f"Host is given 2 times: {', '.join(others)}"


def test_no_host() -> None:
    """A client of HTTP/1.0 has none to send; a browser always has."""
    assert auth.refusal("POST", [], LOOPBACK) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:9999", "http://127.0.0.1:9999"),
        ("[::1]:9999", "http://[0::1]:9999"),
        ("LOCALHOST:9999", "HTTP://localhost:9999"),
        ("localhost", "http://localhost:80"),
        ("ctl-1", "https://ctl-1"),
    ],
)
def test_own_origins(host: str, origin: str) -> None:
    """A page of the API's own could not use it."""
    headers = [("Host", host), ("Origin", origin), ("Sec-Fetch-Site", "same-origin"), JSON]
    for at in (LOOPBACK, OPEN):
        assert auth.refusal("POST", headers, at) is None


JSON = ("Content-Type", "application/json")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:3000", "https://127.0.0.1:9999:1",
        "http://localhost:9999", "http://127.0.0.1:9999/", "http://127.0.0.1:9999 http://evil", "127.0.0.1:9999",
        "file://", "moz-extension://127.0.0.1:9999", "http://127.0.0.1:9999@evil", "http://evil@127.0.0.1:9999",
    ],
)  # fmt: skip
def test_foreign_origins(origin: str) -> None:
    """Any page that a user looks at would make networks."""
    for at in (LOOPBACK, OPEN):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            line = auth.refusal(method, [HOST, ("origin", origin), JSON], at)
            assert line == f"Origin {origin} is foreign: pages of other sites may not use this API"


def test_two_origins() -> None:
    """The foreign one would go unseen behind the other."""
    headers = [HOST, ("Origin", "http://127.0.0.1:9999"), ("Origin", "http://evil.example")]
    assert auth.refusal("GET", headers, LOOPBACK) is not None


def test_a_rebound_name_off_loopback() -> None:
    """There, where Host is not looked at, a page would be of the API's own site by its own name."""
    headers = [("Host", "evil.example:9999"), ("Origin", "http://evil.example:9999"), JSON]
    assert auth.refusal("POST", headers, OPEN) is not None


@pytest.mark.parametrize(
    ("site", "refused"),
    [("cross-site", True), ("Cross-Site", True), ("same-origin", False), ("same-site", False), ("none", False)],
)
def test_where_the_browser_says_the_request_comes_from(site: str, refused: bool) -> None:
    """Some requests of a foreign page carry no Origin; a user's own, typed into the browser, is no such."""
    for method in ("GET", "POST"):
        line = auth.refusal(method, [HOST, ("Sec-Fetch-Site", site), JSON], LOOPBACK)
        assert line == ("Sec-Fetch-Site cross-site: pages of other sites may not use this API" if refused else None)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain", "Text/Plain; charset=utf-8", " application/x-www-form-urlencoded ",
        "multipart/form-data;boundary=x", "text/plain;application/json", "text/plain,application/json",
    ],
)  # fmt: skip
def test_what_a_form_can_send(kind: str) -> None:
    """A page of another port of this machine would send its form as JSON; `curl -d` says it is one, and is none."""
    for of_page in (("Sec-Fetch-Site", "same-site"), ("Origin", "http://127.0.0.1:9999")):
        line = auth.refusal("POST", [HOST, of_page, ("content-type", kind)], LOOPBACK)
        assert line == f"Content-Type {kind.strip()} is one that forms send: a page has to send application/json"
    assert auth.refusal("POST", [HOST, ("Content-Type", kind)], LOOPBACK) is None
    assert auth.refusal("GET", [HOST, ("Sec-Fetch-Site", "none"), ("Content-Type", kind)], LOOPBACK) is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
        ("10.0.0.1", False), ("fd00::1", False), ("ctl-1", False), ("::ffff:127.0.0.1", True), ("", False),
    ],
)  # fmt: skip
def test_which_listeners_are_on_loopback(host: str, loopback: bool) -> None:
    """An administrator would not be warned, or Host not be looked at."""
    assert auth.listener(host).loopback == loopback
    assert auth.listener(host).open != loopback


def test_which_controllers_anybody_can_use() -> None:
    """A listing would not tell which of several controllers is open."""
    assert auth.is_open("http://192.0.2.1:9999", LOOPBACK)
    assert not auth.is_open("http://127.0.0.1:9999", LOOPBACK) and not auth.is_open("http://[::1]:1", OPEN)
    assert not auth.is_open("https://192.0.2.1", LOOPBACK), "what is before it may ask who is there"
    assert auth.is_open("https://own", auth.listener("10.0.0.1", "https://own"))


# over sockets


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest(alive_period=0.05)
    yield rest
    rest.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(rest: Rest, request: pytest.FixtureRequest) -> Iterator[wsgi.Server]:
    server = wsgi.serve(rest.api, request.param, 0)
    with eventlet.Timeout(20):
        yield server
    server.stop()


def ask(server: wsgi.Server, text: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the answer to a request of these lines; the connection is ended by the answer."""
    head = "".join(f"{line}\r\n" for line in [*text.splitlines(), "Connection: close", f"Content-Length: {len(body)}"])
    with socket.create_connection((server.host, server.port)) as client:
        client.sendall(head.encode() + b"\r\n" + body)
        data = b""
        while part := client.recv(65536):
            data += part
    answer, _, rest = data.partition(b"\r\n\r\n")
    return int(answer.split()[1]), rest


def here(server: wsgi.Server) -> str:
    """What a client that was given the address sends as Host."""
    return f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"


NET = json.dumps({"subnet": "10.1.1.0/24"}).encode()


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/v1/networks/ HTTP/1.1", "HEAD /version HTTP/1.1", "GET /info HTTP/1.1", "GET /nothing HTTP/1.1",
        "OPTIONS /api/v1/networks/default:net/ HTTP/1.1", "POST /api/v1/networks/default:net/ HTTP/1.1",
        "PUT /api/v1/networks/default:net/ HTTP/1.0", "DELETE /api/v1/tenants/default/ HTTP/1.1",
        "GET /api/v1/changes/ HTTP/1.1", "GET /api/v1/changes/?host=h1 HTTP/1.0", "BREW /api/v1/networks/ HTTP/1.1",
        "GET /api/v1/settled/1/ HTTP/1.1", "PUT /api/v1/hosts/h1/endpoints/ HTTP/1.1", "GET /%ff HTTP/1.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "header", ["Host: evil.example", "HOST: evil:9999", "Origin: http://evil.example", "sec-fetch-site: cross-site"]
)
def test_every_path_and_method(rest: Rest, server: wsgi.Server, request_line: str, header: str) -> None:
    """One path that does not ask would be enough: the change stream tells all that there is."""
    before = rest.model.revision
    lines = request_line if header.lower().startswith("host") else f"{request_line}\r\nHost: {here(server)}"
    status, body = ask(server, f"{lines}\r\n{header}", NET)
    assert status == 403
    assert body.count(b"\n") == (0 if request_line.startswith("HEAD") else 1)
    assert rest.model.revision == before and not rest.tracker.connected("h1")


@pytest.mark.parametrize(
    "headers",
    [
        "Host: {here}",  # Contiv's client: no content type
        "Host: {here}\r\nContent-Type: application/x-www-form-urlencoded\r\nUser-Agent: curl/7.88.1\r\nAccept: */*",
        "Host: localhost:{port}\r\nContent-Type: application/json",
        "Host: netmaster\r\nContent-Type: text/plain",
        "Host: {here}\r\nOrigin: http://{here}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json",
    ],
)
def test_clients_that_are_no_pages(rest: Rest, server: wsgi.Server, headers: str) -> None:
    """Contiv's client, `curl -d` and the command line would be locked out."""
    known = headers.format(here=here(server), port=server.port)
    assert ask(server, f"POST /api/v1/networks/default:net/ HTTP/1.1\r\n{known}", NET)[0] == 200
    assert "default:net" in rest.model.networks


def test_a_client_without_host(server: wsgi.Server) -> None:
    """A shell script that speaks HTTP/1.0 would be locked out."""
    assert ask(server, "GET /api/v1/networks/ HTTP/1.0") == (200, b"[]\n")


def test_several_hosts_on_the_wire(server: wsgi.Server) -> None:
    """What joins them to one would not see the second."""
    status, line = ask(server, f"GET /version HTTP/1.1\r\nHost: {here(server)}\r\nHost: evil.example")
    assert (status, line) == (403, f"Host is given 2 times: {here(server)}, evil.example\n".encode())


def test_a_header_that_only_looks_like_one(server: wsgi.Server) -> None:
    """An underscore would pass for a dash and hide the real header, or lock a client out."""
    lines = f"GET /version HTTP/1.1\r\nHost: {here(server)}\r\nSec_Fetch_Site: cross-site"
    assert ask(server, lines)[0] == 200
    assert ask(server, f"{lines}\r\nSec-Fetch-Site: cross-site")[0] == 403
