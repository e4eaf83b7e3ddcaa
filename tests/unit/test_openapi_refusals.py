"""Every operation of the API's description is reached with a success, and with each refusal that it declares."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import schemathesis

from ryu_apps.rest.contiv import NOT_YET
from ryu_apps.wsgi import MAX_BODY
from tests.unit.rest_kit import Json, Rest
from tests.unit.test_openapi import CHECKS
from topology import commands
from topology.errors import Unavailable

LARGE = b'{"x": "' + b"x" * (MAX_BODY + 1) + b'"}'  # also where long lists are taken: no list
NETWORK = {"subnet": "10.9.0.0/24"}
SERVICE = {"networkName": "net", "selectors": ["tier=web"], "ports": ["80:8080:TCP"]}
ENDPOINT = {"tenantName": "default", "networkName": "net"}
LEASE = {"tenantName": "default", "networkName": "net", "hostName": "h1"}
HOST = {"switch": "f1", "tunnelAddress": "192.0.2.77"}


class Asked(NamedTuple):
    """A request: the key in its path, its body, its query."""

    key: str = ""
    body: Any = None
    query: Mapping[str, str | list[str]] = {}


def _trace(**more: str) -> Asked:
    return Asked(query={"from": "web-1", "to": "10.1.1.200", "port": "80", **more})


_NETWORK: dict[int, Asked] = {
    200: Asked("default:new", NETWORK),
    404: Asked("none:new", NETWORK),
    409: Asked("default:new", {"subnet": "10.1.1.0/25"}),
    422: Asked("default:new", {"subnet": "here"}),
}
_SERVICE: dict[int, Asked] = {
    200: Asked("default:new", SERVICE),
    404: Asked("default:new", {**SERVICE, "networkName": "none"}),
    409: Asked("default:new", {**SERVICE, "ipAddress": "10.1.1.254"}),
    422: Asked("default:new", {**SERVICE, "ports": ["0:80:TCP"]}),
}
_ENDPOINT: dict[int, Asked] = {
    200: Asked("new", ENDPOINT),
    404: Asked("new", {**ENDPOINT, "networkName": "none"}),
    409: Asked("new", {**ENDPOINT, "ipAddress": ["10.1.1.254"]}),
    422: Asked("new", {**ENDPOINT, "weight": 0}),
}
_HOST: dict[int, Asked] = {
    200: Asked("new", HOST),
    409: Asked("new", {**HOST, "switch": "b1"}),
    422: Asked("new", {**HOST, "switch": "x"}),
}
_TENANT: dict[int, Asked] = {200: Asked("new", {}), 409: Asked("one-too-many", {}), 422: Asked("a b", {})}
_OF_HOST: dict[int, Asked] = {200: Asked("h1"), 404: Asked("none")}
_OF_GLOBAL: dict[int, Asked] = {200: Asked("global"), 404: Asked("none")}

CASES: dict[str, dict[int, Asked]] = {
    "GET /version": {200: Asked()},
    "GET /info": {200: Asked()},
    "GET /openapi.json": {200: Asked()},
    "GET /controllers": {200: Asked()},
    "GET /settled/{key}": {200: Asked("1"), 400: Asked("x")},
    "GET /tenants": {200: Asked()},
    "GET /tenants/{key}": {200: Asked("blue"), 404: Asked("none")},
    "POST /tenants/{key}": _TENANT,
    "PUT /tenants/{key}": _TENANT,
    "DELETE /tenants/{key}": {200: Asked("blue"), 404: Asked("none"), 409: Asked("default")},
    "GET /inspect/tenants/{key}": {200: Asked("default"), 404: Asked("none")},
    "GET /networks": {200: Asked()},
    "GET /networks/{key}": {200: Asked("default:net"), 404: Asked("default:none")},
    "POST /networks/{key}": _NETWORK,
    "PUT /networks/{key}": _NETWORK,
    "DELETE /networks/{key}": {200: Asked("default:empty"), 404: Asked("default:none"), 409: Asked("default:net")},
    "GET /inspect/networks/{key}": {200: Asked("default:net"), 404: Asked("default:none")},
    "GET /serviceLBs": {200: Asked()},
    "GET /serviceLBs/{key}": {200: Asked("default:app"), 404: Asked("default:none")},
    "POST /serviceLBs/{key}": _SERVICE,
    "PUT /serviceLBs/{key}": _SERVICE,
    "DELETE /serviceLBs/{key}": {200: Asked("default:app"), 404: Asked("default:none")},
    "GET /inspect/serviceLBs/{key}": {200: Asked("default:app"), 404: Asked("default:none")},
    "GET /switches": {200: Asked()},
    "GET /switches/{key}": {200: Asked("a"), 404: Asked("b"), 422: Asked("x")},
    "GET /switches/{key}/flows": {
        200: Asked("a", query={"table": "route", "owner": "service:default:app"}),
        400: Asked("a", query={"table": ["route", "reply"]}),
        404: Asked("b"),
        409: Asked("a", query={"owner": "endpoint:web"}),
        422: Asked("a", query={"table": "none"}),
    },
    "GET /trace": {
        200: _trace(),
        400: Asked(query={"from": "web-1"}),
        404: _trace(**{"from": "none"}),
        409: _trace(**{"from": "web"}),
        422: _trace(port="0"),
    },
    "GET /hosts": {200: Asked()},
    "GET /hosts/{key}": _OF_HOST,
    "POST /hosts/{key}": _HOST,
    "PUT /hosts/{key}": _HOST,
    "DELETE /hosts/{key}": {200: Asked("h9"), 404: Asked("none"), 409: Asked("h1")},
    "PUT /hosts/{key}/drain": _OF_HOST,
    "DELETE /hosts/{key}/drain": _OF_HOST,
    "PUT /hosts/{key}/endpoints": {
        200: Asked("h1", {"endpoints": [{**ENDPOINT, "endpointID": "new"}]}),
        404: Asked("none", {"endpoints": []}),
        409: Asked("h1", {"endpoints": [{**ENDPOINT, "endpointID": "new", "ipAddress": ["10.1.1.254"]}]}),
        422: Asked("h1", {"endpoints": [{**ENDPOINT, "endpointID": "new", "weight": 0}]}),
    },
    "PUT /hosts/{key}/applied": {
        200: Asked("h1", {"revision": 1}),
        404: Asked("none", {"revision": 1}),
        422: Asked("h1", {"revision": -1}),
        503: Asked("h1", {"revision": 1000}),
    },
    "GET /endpoints": {200: Asked()},
    "GET /endpoints/{key}": {200: Asked("web-1"), 404: Asked("none")},
    "POST /endpoints/{key}": _ENDPOINT,
    "PUT /endpoints/{key}": _ENDPOINT,
    "DELETE /endpoints/{key}": {200: Asked("web-1"), 404: Asked("none")},
    "PUT /endpoints/{key}/checks": {200: Asked("web-1", {"default:app": True}), 404: Asked("none", {})},
    "GET /inspect/endpoints/{key}": {200: Asked("web-1"), 404: Asked("none"), 409: Asked("web")},
    "POST /leases": {
        200: Asked(body=LEASE),
        404: Asked(body={**LEASE, "networkName": "none"}),
        409: Asked(body={**LEASE, "ipAddress": "10.1.1.254"}),
        422: Asked(body={**LEASE, "ipAddress": "here"}),
    },
    "DELETE /leases/{key}": {
        200: Asked("default:net:10.1.1.50"),
        400: Asked("default"),
        404: Asked("default:none:10.1.1.50"),
        422: Asked("default:net:here"),
    },
    "POST /subnets": {
        200: Asked(body={}),
        404: Asked(body={"tenantName": "none"}),
        409: Asked(body={"tenantName": "full"}),
        422: Asked(body={"tenantName": "a b"}),
    },
    "GET /changes": {
        200: Asked(),
        307: Asked(query={"host": "h1"}),
        400: Asked(query={"since": "x"}),
        410: Asked(query={"since": "1000"}),
        503: Asked(query={"since": "1000"}),
    },
    "GET /globals": {200: Asked()},
    "GET /globals/{key}": _OF_GLOBAL,
    "GET /inspect/globals/{key}": _OF_GLOBAL,
}
for _name in NOT_YET:
    CASES[f"GET /{_name}"] = {200: Asked()}
    CASES[f"GET /{_name}/{{key}}"] = CASES[f"GET /inspect/{_name}/{{key}}"] = {404: Asked("none")}
for _name in ("globals", *NOT_YET):
    CASES |= {f"{method} /{_name}/{{key}}": {501: Asked("global")} for method in ("POST", "PUT", "DELETE")}

current = [Rest()]
"""The API that is asked: its last."""


def _asked(environ: Json, start_response: Callable[..., Any]) -> Iterable[bytes]:
    return current[-1].api(environ, start_response)


SCHEMA = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", _asked)


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rest]:
    """An API with one of everything."""
    found = furnished()
    current.append(found)
    yield found
    current.pop()
    found.close()


def furnished() -> Rest:
    """A network with a service, two containers, a granted address and a host that is up; and what may be deleted."""
    found = Rest()
    for tenant in ("blue", "full"):
        found.call("PUT", f"/tenants/{tenant}/", {})
    found.network("net", "10.1.1.0/24", gateway="10.1.1.254")
    found.network("empty", "10.2.0.0/24")
    found.network("all", "10.224.0.0/12", tenant="full")
    found.service("app", healthCheck={"protocol": "tcp"}, ipAddress="10.1.1.200")
    for name in ("web-1", "web-2"):
        found.endpoint(name, labels={"tier": "web"}, containerName=name, portName=name)
    found.host("h9", "b9")
    found.now += 1000
    found.host("h1", "b1")
    found.call("POST", "/leases/", {**LEASE, "ipAddress": "10.1.1.50"})
    return found


_PATHS: Json = current[0].call("GET", "/openapi.json")["paths"]
OPERATIONS = [(method.upper(), path, found) for path, of in _PATHS.items() for method, found in of.items()]
DECLARED = [
    (method, path, int(status)) for method, path, operation in OPERATIONS for status in operation["responses"]
]


def _short(method: str, path: str) -> str:
    return f"{method} {path.removeprefix('/api/v1')}"


def answer(method: str, path: str, asked: Asked, body: Any, headers: Mapping[str, str]) -> int:
    """The status of an answer that is as described."""
    case = SCHEMA[path][method].Case(
        path_parameters={"key": asked.key} if "{key}" in path else {},
        query=dict(asked.query),
        headers=dict(headers),
        **({} if body is None else {"body": body, "media_type": "application/json"}),
    )
    found = case.call()
    case.validate_response(found, checks=CHECKS)
    return int(found.status_code)


@contextmanager
def all_away(rest: Rest) -> Iterator[None]:
    """Nobody leads, and another change waits for the store."""
    holds, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with rest.commands._my_turn():
            holds.set()
            enough.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    rest.api._leader_url = _nobody
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _nobody() -> str:
    raise Unavailable("nobody leads")


@pytest.mark.parametrize(("method", "path", "status"), DECLARED)
def test_each_declared_answer_is_given(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, method: str, path: str, status: int
) -> None:
    """A program made from the description would handle what never comes, or what comes does not look as it says."""
    cases = CASES[_short(method, path)]
    usual = next(iter(cases.values()))
    asked, body, headers = cases.get(status, usual), cases.get(status, usual).body, {}
    if status == 403:
        headers = {"Origin": "https://evil.example"}
    elif status == 413:
        body = LARGE
    elif status == 400 and usual.body is not None:
        body = b"{"
    if asked.key == "one-too-many":
        rest.commands._pools["tenant"].limit = len(rest.model.tenants)
    if status == 307:
        rest.api._leader_url = lambda: "http://leader"
    if path.endswith("/changes") and status == 200:
        rest.api.close()  # the stream ends at once
    monkeypatch.setattr(commands, "TURN_SECONDS", 0.01)
    with all_away(rest) if status == 503 else nothing():
        assert answer(method, path, asked, body, headers) == status


@contextmanager
def nothing() -> Iterator[None]:
    yield


def test_all_cases_are_declared() -> None:
    """An operation could answer what its description does not say."""
    found = {(_short(method, path), status) for method, path, status in DECLARED}
    assert {(name, status) for name, cases in CASES.items() for status in cases} <= found


@pytest.mark.parametrize(
    ("method", "path"), [(m, p) for m, p, o in OPERATIONS if "503" not in o["responses"] and "200" in o["responses"]]
)
def test_what_declares_no_503_works_without_store_and_leader(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """Users could not see what is stored while no controller leads or the store is slow."""
    monkeypatch.setattr(commands, "TURN_SECONDS", 0.01)
    asked: Callable[[int], Asked] = CASES[_short(method, path)].__getitem__
    with all_away(rest):
        assert answer(method, path, asked(200), asked(200).body, {}) == 200
