"""Lists that are longer than a body may be: limited by their number and by the size of each element."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryu_apps import wsgi
from ryu_apps.rest import bulk
from ryu_apps.wsgi import eventlet, webob
from tests.unit.rest_kit import Rest
from topology.errors import BadRequest, NetctlError

PATH = "/api/v1/hosts/h/endpoints"


@pytest.fixture
def rest() -> Iterator[Rest]:
    made = Rest()
    made.call("PUT", "/networks/default:web", {"subnet": "10.1.0.0/16", "gateway": "10.1.255.254"})
    made.call("PUT", "/hosts/h", {"switch": "1"})
    yield made
    made.close()


@pytest.fixture
def in_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has more than 100 bytes is long, and comes in parts of this size."""
    monkeypatch.setattr(wsgi, "MAX_BODY", 100)
    monkeypatch.setattr(wsgi, "BODY_PART", request.param)


def endpoint(number: int, **more: Any) -> dict[str, Any]:
    """What an agent says of a container that Compose has started."""
    return {
        "endpointID": f"{number:064x}",
        "tenantName": "default",
        "networkName": "web",
        "ipAddress": [f"10.1.{number // 250}.{number % 250 + 1}"],
        "portName": f"nv{number:012x}",
        "labels": {"tier": "web", "com.docker.compose.project.config_files": "/srv/" + "x" * 100},
        "containerID": f"{number:064x}",
        "containerName": f"shop-web-{number}",
        "state": "running",
        **more,
    }


def body(count: int) -> bytes:
    leases = [f"default:web:10.1.200.{n % 250}" for n in range(count)]
    return json.dumps({"endpoints": [endpoint(n) for n in range(count)], "keepLeases": leases}).encode()


@pytest.mark.parametrize("count", [3000, 10000])
def test_a_host_with_thousands_of_containers(rest: Rest, count: int) -> None:
    """Its agent could tell of none of them, and tell of each alone after every restart."""
    sent = body(count)
    assert len(sent) > wsgi.MAX_BODY
    status, _, text = rest.raw("PUT", PATH, sent)
    assert (status, text) == (200, f'{{"revision":{rest.model.revision}}}\n')
    assert len(rest.model.endpoints) == count
    assert rest.model.endpoints[f"{count - 1:064x}"].labels == tuple(sorted(endpoint(1)["labels"].items()))

    before = rest.model.revision
    assert rest.raw("PUT", PATH, sent)[0] == 200
    assert rest.model.revision == before, "the same list again changes nothing"


def test_what_is_wrong_with_thousands_of_networks(rest: Rest) -> None:
    """A host whose Docker is away could not say so, and who makes a network would wait for it in vain."""
    line = "Docker has not answered since netctl-agent was started" + "." * 100
    errors = {f"default:net{n}": line for n in range(8000)}
    sent = json.dumps({"revision": rest.model.revision, "errors": errors}).encode()
    assert len(sent) > wsgi.MAX_BODY
    assert rest.raw("PUT", "/api/v1/hosts/h/applied", sent)[0] == 200
    assert rest.call("GET", "/hosts/h")["errors"] == errors


CASES = [
    (b'{"endpoints": [%s', 400, "body: not JSON"),
    (b'{"endpoints": [%s]', 400, "body: not JSON: } is missing, there is nothing"),
    (b'{"endpoints": [%s]} x', 400, "body: not JSON: there is more after the object"),
    (b'{"endpoints": [%s], "endpoints": []}', 400, 'body: field "endpoints" is there twice'),
    (b'{"endpoints": [%s, {"endpointID": "a", "endpointID": "b"}]}', 400, 'body: field "endpointID" is there twice'),
    (b'{"endpoints": [%s, 5]}', 400, "endpoints: a list is not a list of objects"),
    (b'{"endpoints": [%s, {"colour": "red"}]}', 400, 'endpoints[1]: unknown field "colour"'),
    (b'{"endpoints": [%s, {}]}', 400, "endpoints[1]: endpointID: missing"),
    (b'{"endpoints": [%s, {"weight": NaN}]}', 400, "body: not JSON: NaN"),
    (b'{"endpoints": [%s, {"endpointID": "\\ud800"}]}', 400, "body: a \\u escape stands alone"),
    (b'{"endpoints": [%s, {"endpointID": "\xff"}]}', 400, "body: not UTF-8"),
    (b'{"endpoints": [%s, ' + b"[" * 100_000 + b"]}", 400, "body: not JSON that can be read: nested too deeply"),
    (b'{"endpoints": [%s], "keepLeases": [1]}', 400, "keepLeases[0]: 1 is not a string"),
    (b'{"endpoints": [%s], "keepLeases": "x"}', 400, 'keepLeases: "x" is not a list of strings'),
    (b'{"keepLeases": ["' + b"z" * 3000 + b'"]}', 400, "endpoints: missing, must be the list of all endpoints"),
    (b'{"endpoints": 5, "keepLeases": ["' + b"z" * 3000 + b'"]}', 400, "endpoints: 5 is not a list"),
    (b'{"endpoints": [%s], 5: 6}', 400, "body: not JSON: "),
    (b'["%s"]' + b" " * 3000, 400, "body: "),
]


@pytest.mark.parametrize(("text", "status", "line"), CASES)
@pytest.mark.parametrize("in_parts", [1 << 16, 61], indirect=True)
@pytest.mark.usefixtures("in_parts")
def test_what_is_wrong_in_a_long_one(rest: Rest, text: bytes, status: int, line: str) -> None:
    """Rubbish would be stored, or crash the handler, because it is long."""
    before = rest.model.revision
    good = json.dumps(endpoint(1)).encode()
    found = rest.raw("PUT", PATH, text.replace(b"%s", good))
    assert (found[0], found[2][: len(line)]) == (status, line)
    assert found[2].count("\n") == 1
    assert rest.model.revision == before


@pytest.mark.parametrize(
    ("limit", "value", "line"),
    [
        ("MOST", 9, "endpoints: more than 9 of them"),
        ("LARGEST", 300, "endpoints[0]: more than 300 characters, or not JSON"),
        ("MOST_BYTES", 2000, "body: more than 2000 bytes"),
    ],
)
def test_more_than_the_limits(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, line: str
) -> None:
    """One client could fill the controller's memory."""
    monkeypatch.setattr(wsgi, "MAX_BODY", 100)
    monkeypatch.setattr(wsgi, "BODY_PART", 100)
    monkeypatch.setattr(bulk, limit, value)
    status, _, text = rest.raw("PUT", PATH, body(10))
    assert (status, text) == (413, line + "\n")
    assert not rest.model.endpoints


def test_too_many_in_a_short_body(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit would be another one for short ones."""
    monkeypatch.setattr(bulk, "MOST", 2)
    assert rest.raw("PUT", PATH, body(3))[::2] == (413, "endpoints: more than 2 of them\n")


def test_one_long_list_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand clients with long lists would take a thousand times the memory."""
    monkeypatch.setattr(wsgi, "MAX_BODY", 10)
    monkeypatch.setattr(wsgi, "BODY_PART", 64)
    monkeypatch.setattr(wsgi, "BODY_TIMEOUT", 5.0)
    reading: list[str] = []
    most = 0

    def noted(name: str) -> Any:
        def note(_: int, element: Any) -> Any:
            nonlocal most
            reading.append(name)
            most = max(most, len(set(reading)))
            return element

        return note

    def read(name: str) -> None:
        request = webob.Request.blank("/", method="PUT", body=json.dumps({"a": ["x" * 50] * 20}).encode())
        bulk.read_object(request, {"a": noted(name)})
        reading[:] = [n for n in reading if n != name]

    threads = [eventlet.spawn(read, name) for name in "pq"]
    for thread in threads:
        thread.wait()
    assert most == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.dictionaries(st.sampled_from(["a", "b", "c", "ä\\"]), VALUES | st.lists(VALUES, max_size=6)),
    part=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_long_ones_are_read_like_short_ones(document: Any, part: int, indent: int | None, ascii_only: bool) -> None:
    """What is sent would be read in two ways, by its length."""
    try:
        sent = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return

    def read(limit: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wsgi, "MAX_BODY", limit)
            patch.setattr(wsgi, "BODY_PART", part)
            request = webob.Request.blank("/", method="PUT", body=sent)
            try:
                return bulk.read_object(request, {"a": lambda n, e: [n, e], "b": lambda n, e: [n, e]})
            except NetctlError as error:
                assert isinstance(error, BadRequest)
                return str(error)

    assert read(0) == read(1 << 20)
