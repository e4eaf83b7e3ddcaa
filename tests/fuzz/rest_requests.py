"""Requests to the REST API that are nearly right: made of its own routes and documents, and byte by byte."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_origin, is_typeddict
from urllib.parse import quote

from tests.fuzz import mutate
from topology.contract import declared
from topology.documents import NetworkDoc, ServiceDoc, TenantDoc
from topology.reports import (
    AppliedDoc,
    EndpointDoc,
    HostDoc,
    HostEndpointsDoc,
    LeaseRequestDoc,
    SubnetRequestDoc,
)

Route = tuple[str, tuple[str, ...]]
"""A path, with ``{key}`` in it, and its methods."""

ROOT = "/api/v1"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X" * 300, "G\xcbT")
TENANTS = ("default", "fuzz", "fuzz2", "none")
NAMES = ("f0", "f1", "f2", "f3", "f-4", "none")
LEASED = ("10.250.0.30", "fd00:250::30", "10.250.0.1")
ENDS = (*["/"] * 40, *[""] * 20, "//", "/x")
HOSTS = ("fuzz-h1", "fuzz-h2")
ENDPOINTS = ("fuzz-e1", "fuzz-e2", "ab" * 32)
NETWORK = {
    "tenantName": "fuzz", "networkName": "f0", "subnet": "10.250.0.0/24", "gateway": "10.250.0.254",
    "encap": "vxlan",
    "ipv6Subnet": "fd00:250::/64", "ipv6Gateway": "fd00:250::fe", "nat": False, "natHost": False, "internal": False,
    "dockerIPAM": False, "nwType": "data", "pktTag": 0, "cfgdTag": "", "links": {"Tenant": {"type": "t",
    "key": "k"}},
}  # fmt: skip
SERVICE = {
    "tenantName": "fuzz", "serviceName": "f0", "networkName": "f0", "ipAddress": "10.250.0.9", "ipv6Address": "",
    "selectors": ["app=fuzz", "v=1"], "ports": ["80:8080:TCP", "53:53:UDP"], "publish": ["18080:80"],
    "drainTimeout": 5,
    "sessionAffinity": 600, "affinityMode": "idle", "healthCheck": {"protocol": "http", "path": "/", "interval": 5,
    "timeout": 2, "rise": 2, "fall": 3},
}  # fmt: skip
ENDPOINT = {
    "endpointID": "fuzz-e1", "tenantName": "fuzz", "networkName": "f0", "ipAddress": ["10.250.0.20",
    "fd00:250::20"],
    "macAddress": "02:42:0a:fa:00:14", "homingHost": "fuzz-h1", "switch": "f1", "portName": "p1",
    "health": "healthy",
    "labels": {"app": "fuzz", "v": "1", "netctl.weight": "3"}, "containerID": "ab" * 32, "containerName": "c1",
    "state": "running", "origin": "rest", "weight": 2, "noWayBack": "", "primary": True,
}  # fmt: skip
HOST = {
    "hostName": "fuzz-h1", "switch": "f1", "tunnelAddress": "192.0.2.77", "version": "0.1.0", "mtu": 1450,
    "datapathType": "netdev",
}  # fmt: skip
LEASE = {"tenantName": "fuzz", "networkName": "f0", "ipAddress": "10.250.0.30", "family": 4, "hostName": "fuzz-h1"}
RIGHT: dict[str, dict[str, Any]] = {
    "tenants": {"tenantName": "fuzz", "defaultNetwork": ""},
    "networks": NETWORK,
    "serviceLBs": SERVICE,
    "endpoints": ENDPOINT,
    "checks": {"fuzz:f0": True, "fuzz:f1": False},
    "hosts": HOST,
    "host's endpoints": {"endpoints": [ENDPOINT, {**ENDPOINT, "endpointID": "fuzz-e2"}],
    "keepLeases": ["fuzz:f0:10.250.0.30"]},
    "applied": {"revision": 3, "errors": {"fuzz:f0": "does not work"}},
    "leases": LEASE,
    "subnets": {"tenantName": "fuzz"},
}  # fmt: skip
DOCUMENTS: dict[str, Any] = {
    "tenants": TenantDoc, "networks": NetworkDoc, "serviceLBs": ServiceDoc, "hosts": HostDoc, "endpoints": EndpointDoc,
    "applied": AppliedDoc, "leases": LeaseRequestDoc, "subnets": SubnetRequestDoc, "host's endpoints": HostEndpointsDoc,
}  # fmt: skip
HEADERS = (
    ("Host", ("localhost", "localhost", "evil.example", "127.0.0.1:9999", "[::1]:1", "a b", "", "x" * 300,
    "[::1", "localhost\x0b")),
    ("Origin", ("http://localhost", "https://evil.example", "null", "http://[", "://",
    "http://localhost:99999999")),
    ("Sec-Fetch-Site", ("same-origin", "cross-site", "none", "")),
    ("Content-Type", ("application/json", "text/plain", "multipart/form-data; boundary=x", "", ";;;",
    "=?utf-8?q?x?=", "\xff")),
    ("Content-Length", ("0", "1", "-1", "99999999", "1e3", "0x10", "9" * 400, "5, 5")),
    ("Transfer-Encoding", ("chunked", "gzip", "identity", "chunked, chunked", "\x0bchunked")),
    ("Expect", ("100-continue", "100-Continue", "200-ok")),
    ("Connection", ("close", "keep-alive", "Upgrade", "")),
    ("Upgrade", ("websocket", "h2c")),
    ("Content-Encoding", ("gzip",)),
    ("Accept-Encoding", ("gzip, br",)),
    ("X-Netctl-Forwarded", ("1",)),
    ("X-Forwarded-For", ("127.0.0.1",)),
    ("Cookie", ("a=" + "b" * 4000,)),
    ("Range", ("bytes=0-1,3-", "bytes=" + "0-," * 900)),
    ("If-None-Match", ("*", '"x"')),
    ("If-Modified-Since", ("yesterday",)),
    ("Authorization", ("Basic \xff\xfe", "Bearer " + "x" * 3000)),
)  # fmt: skip
_GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PUT = b"PUT /api/v1/tenants/fuzz/ HTTP/1.1\r\nHost: localhost\r\n"
RAW = (
    _GET, _GET * 30, b"GET /version\r\n", b"GET /version HTTP/1.0\r\n\r\n", b"GET  /version  HTTP/1.1\r\n\r\n",
    b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
    b"GET /version HTTP/9.9\r\n\r\n", b"GET /version HTTP/1\xb2.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
    b"GET http://evil.example/version HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET * HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"GET //api//v1/../../info HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%2e%2e/%00%ff%0d%0aX: y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /version?" + b"a=b&" * 1900 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /version HTTP/1.1\r\n" + b"X: y\r\n" * 150 + b"\r\n",
    b"GET /version HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
    b"GET /version HTTP/1.1\r\nHost : localhost\r\n\r\n", b"GET /version HTTP/1.1\r\n: x\r\nNo colon\r\n\r\n",
    b"GET /version HTTP/1.1\nHost: localhost\n\n",
    _PUT + b"Content-Length: 2\r\n\r\n{}", _PUT + b"Content-Length: 20\r\n\r\n{}",
    _PUT + b"Content-Length: 0\r\n\r\n{}" + _GET,
    _PUT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    _PUT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    _PUT + b"Content-Length: 999999999999\r\n\r\n{}", _PUT + b"Content-Length: -2\r\n\r\n{}",
    _PUT + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    _PUT + b"Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n",
    _PUT + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}",
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + _GET,
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nTrailer: x\r\n\r\n",
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" * 3,
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"-1\r\n" * 20_000,
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000,
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000,
    _PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 20_000 + b"0\r\n\r\n",
    _PUT + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{",
    _GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello") + _GET, _GET.replace(b"\r\n\r\n",
    b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    _GET.replace(b"GET", b"HEAD") + _GET, _GET.replace(b"GET /version", b"DELETE /api/v1/tenants/none/") + _GET,
)  # fmt: skip
"""Requests byte by byte; those that write make or remove a tenant of this fuzzer's."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str  # with its query
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def stream(self) -> bool:
        """Whether the answer may have no end."""
        return "/changes" in self.path

    @property
    def raw(self) -> bytes:
        """Its bytes."""
        headers = dict(self.headers)
        headers.setdefault("Host", "localhost")
        if self.body:
            headers.setdefault("Content-Length", str(len(self.body)))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + self.body


def _some(rng: random.Random, names: Iterable[str]) -> str:
    """One of them, mostly as it is."""
    name = rng.choice((*names,))
    if rng.random() < 0.08:
        name = (
            rng.choice(mutate.TEXTS) if rng.random() < 0.5 else mutate.bent(rng, name.encode()).decode(errors="replace")
        )
    return name[:3000]


def _key(rng: random.Random, kind: str) -> str:
    if kind in ("networks", "serviceLBs"):
        return f"{_some(rng, TENANTS)}:{_some(rng, NAMES)}"
    if kind == "leases":
        return f"{_some(rng, TENANTS)}:{_some(rng, NAMES)}:{_some(rng, LEASED)}"
    known = {
        "tenants": TENANTS,
        "endpoints": ENDPOINTS,
        "hosts": HOSTS,
        "settled": ("0", "3", "1000000"),
        "switches": ("f1", "1"),
    }
    return _some(rng, known.get(kind, (*NAMES, "global")))


QUERIES = {
    "trace": {
        "from": ("fuzz-e1", "c1", "ab", "none", "/c1"), "to": ("10.250.0.9", "10.250.0.20", "fd00:250::20",
    "8.8.8.8", "10.250.0.254"),
        "proto": ("tcp", "udp", "icmp", "sctp"), "port": ("80", "53", "0", "65536", "1"), "sourcePort": ("1024",
    "", "x"),
        "source": ("10.250.0.20", "fd00:250::20", "::"),
    },
    "changes": {"since": ("0", "1", "3", "99999999", "-1"), "host": (*HOSTS, "none")},
    "networks": {"dryRun": ("1", "true", "0", "yes")},
}  # fmt: skip


def _query(rng: random.Random, kind: str) -> str:
    wanted = QUERIES.get(kind, {"x": ("y",)})
    given = [(name, _some(rng, wanted[name])) for name in wanted if rng.random() < 0.8]
    if given and rng.random() < 0.1:
        given.append(rng.choice(given))
    return "&".join(f"{name}={_quoted(rng, value)}" for name, value in given)


def _quoted(rng: random.Random, text: str) -> str:
    quoted = quote(text.encode(errors="surrogatepass"), safe=rng.choice((":", ":/", "")))
    if rng.random() < 0.05:
        quoted = quoted[: rng.randrange(len(quoted) + 1)] + rng.choice(
            ("%", "%f", "%ff", "%00", "%0a", "%2f", "%25", "?", "#", ";")
        )
    return quoted


def _of_type(rng: random.Random, kind: Any) -> Any:
    """Of the type that is declared, and hardly ever a value that makes sense."""
    if kind is str:
        return rng.choice(mutate.TEXTS)
    if kind is int:
        return rng.choice(mutate.NUMBERS)
    if kind is bool:
        return rng.random() < 0.5
    if is_typeddict(kind):
        fields = list(declared(kind).values())
        return {one.name: _of_type(rng, one.kind) for one in rng.sample(fields, rng.randrange(1, len(fields) + 1))}
    if get_origin(kind) is list:
        return [rng.choice(mutate.TEXTS) for _ in range(rng.choice((0, 1, 1, 3)))]
    if get_origin(kind) is dict:
        return {rng.choice(mutate.TEXTS): rng.choice(mutate.TEXTS) for _ in range(rng.choice((0, 1, 3)))}
    return mutate.value(rng)


def _document(rng: random.Random, kind: str, key: str) -> Any:
    right = dict(RIGHT.get(kind, {}))
    if kind in ("networks", "serviceLBs"):
        right |= dict(
            zip(("tenantName", "networkName" if kind == "networks" else "serviceName"), key.split(":", 1), strict=False)
        )
        number = rng.randrange(4)
        right |= {"subnet": f"10.25{number}.0.0/24", "gateway": f"10.25{number}.0.254"} if kind == "networks" else {}
    elif kind in ("endpoints", "hosts", "tenants"):
        right |= {{"endpoints": "endpointID", "hosts": "hostName", "tenants": "tenantName"}[kind]: key}
    document = DOCUMENTS.get(kind)
    if document is not None and rng.random() < 0.25:
        return {**(right if rng.random() < 0.5 else {}), **_of_type(rng, document)}
    optional = [name for name in right if rng.random() < 0.3]
    return {name: value for name, value in right.items() if name not in optional} if rng.random() < 0.5 else right


def _often(routes: Iterable[Route]) -> list[Route]:
    """Those more often that read a body, or the model."""
    found = [*routes]
    often = [route for route in found if "trace" in route[0] or ("{" in route[0] and _kind(route[0]) in RIGHT)]
    return found + often * 4


def _kind(template: str) -> str:
    parts = template.split("/")
    return parts[4] if parts[3:4] == ["inspect"] else (parts[3] if len(parts) > 3 else parts[1])


def asked(rng: random.Random, routes: Sequence[Route]) -> Asked:
    """A request to one of the routes."""
    template, methods = rng.choice(routes)
    kind, last = _kind(template), template.rpartition("/")[2]
    inner = last if last in ("checks", "applied") else kind
    if template.endswith("{key}/endpoints"):
        inner = "host's endpoints"
    key = _key(rng, kind)
    path = template.replace("{key}", _quoted(rng, key)) + rng.choice(ENDS)
    if rng.random() < 0.3 or kind in ("trace", "changes"):
        path += "?" + _query(rng, kind)
    method = rng.choice(methods) if rng.random() < 0.93 else rng.choice(METHODS)
    body = b""
    if method not in ("GET", "HEAD", "DELETE") or rng.random() < 0.1:
        body = mutate.text(rng, _document(rng, inner, key))
    headers = [(name, rng.choice(values)) for name, values in HEADERS if rng.random() < 0.04]
    return Asked(method, path or "/", tuple(headers), body)


def raw(rng: random.Random, routes: Sequence[Route]) -> bytes:
    """Bytes that are nearly a request, or several."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(RAW)
    if kind == 1:
        return b"".join(asked(rng, routes).raw for _ in range(rng.choice((1, 2, 5))))
    return mutate.bent(rng, rng.choice(RAW) if kind == 2 else asked(rng, routes).raw, 1 << 20)


FURNITURE = (
    ("/tenants/fuzz/", RIGHT["tenants"]), ("/hosts/fuzz-h1/", HOST), ("/networks/fuzz:f0/", NETWORK),
    ("/serviceLBs/fuzz:f0/", {name: value for name, value in SERVICE.items() if name != "publish"}),
    ("/endpoints/fuzz-e1/", ENDPOINT),
)  # fmt: skip
"""What requests can be about."""


def _routes() -> list[Route]:
    from tests.unit.rest_kit import Rest  # it brings an event loop

    rest = Rest()
    try:
        return _often((path, tuple(methods)) for path, methods in rest.api._router._table.items())
    finally:
        rest.close()


ROUTES = _routes()
"""The API's own."""
