"""The REST client: what it sends, and how it says that something went wrong."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest

from netctl.client import Client, Gone, NoConnection, Refused
from netctl.urls import checked_url
from tests.unit.fake_controller import FakeController
from topology.documents import NetworkDoc

NETWORK: NetworkDoc = {"tenantName": "default", "networkName": "net", "subnet": "10.1.1.0/24"}


@pytest.fixture
def fake() -> Iterator[FakeController]:
    with FakeController() as controller:
        yield controller


@pytest.fixture
def client(fake: FakeController) -> Iterator[Client]:
    with Client(fake.url, timeout=5) as client:
        yield client


def test_objects_are_made_listed_and_removed(client: Client) -> None:
    """Without this, neither the command line nor the agent can do anything."""
    client.put_tenant("blue")
    client.put_network(NETWORK)
    client.put_service(
        {"tenantName": "default", "serviceName": "s", "networkName": "net", "ports": [], "selectors": []}
    )
    client.put_endpoint({"endpointID": "e", "tenantName": "default", "networkName": "net"})
    client.put_host({"hostName": "h", "switch": "01"})
    assert [t["tenantName"] for t in client.tenants()] == ["default", "blue"]
    assert client.network("default:net")["subnet"] == "10.1.1.0/24"
    assert [n["key"] for n in client.networks()] == ["default:net"]
    assert [s["key"] for s in client.services()] == ["default:s"]
    assert client.endpoint("e")["networkName"] == "net"
    assert client.host("h")["switch"] == "01"
    assert client.inspect("networks", "default:net")["Config"]["networkName"] == "net"
    client.delete_service("default:s")
    client.delete_network("default:net")
    client.delete_endpoint("e")
    client.delete_host("h")
    client.delete_tenant("blue")
    assert not (client.services() or client.networks() or client.endpoints() or client.hosts())
    assert not client.switches()
    assert client.version()["Version"] == "9.9.9"


def test_agent_calls(fake: FakeController, client: Client) -> None:
    """Without these, a host can't say what is on it, and containers get no addresses."""
    client.put_host({"hostName": "h", "switch": "01"})
    assert client.sync_endpoints("h", [{"endpointID": "e"}], {"default:net:10.1.1.9"}) == 7
    assert fake.seen[-1][3] == {"endpoints": [{"endpointID": "e"}], "keepLeases": ["default:net:10.1.1.9"]}
    client.applied("h", 12, {"default:net": "no room"})
    assert fake.docs["hosts"]["h"]["applied"] == {"revision": 12, "errors": {"default:net": "no room"}}
    assert client.pick_subnet("default") == "10.224.0.0/24"
    lease = client.grant_lease("default", "net", "h")
    assert lease == {"ipAddress": "10.1.1.1/24", "key": "default:net:10.1.1.1"}
    client.release_lease(lease["key"])
    assert not fake.docs["leases"]
    for address, family in (("", 4), ("", 6), ("fd00::9", 6)):
        client.grant_lease("default", "net", "h", address, family)
    assert [body.get("family") for *_, body in fake.seen[-3:]] == [None, 6, None]
    client.release_lease("default:net:fd00::9")


def test_checks_of_an_endpoint(fake: FakeController, client: Client) -> None:
    """Without this, no provider of a service with an active check gets a connection."""
    client.put_endpoint({"endpointID": "e", "tenantName": "default", "networkName": "net"})
    assert client.set_checks("e", {"default:a": True, "default:b": False})["passed"] == ["default:a"]
    method, path, _, body = fake.seen[-1]
    assert (method, path) == ("PUT", "/api/v1/endpoints/e/checks/")
    assert body == {"default:a": True, "default:b": False}


def test_a_check_changes_nothing(fake: FakeController, client: Client) -> None:
    """Otherwise `docker network create` that fails half way leaves a network behind."""
    client.check_network(NETWORK)
    assert not fake.docs["networks"]
    with pytest.raises(Refused, match="Tenant red not found"):
        client.check_network({**NETWORK, "tenantName": "red"})


def test_refusal_has_status_and_line(client: Client) -> None:
    """Otherwise the user learns that it failed but not why."""
    with pytest.raises(Refused, match=r"^Network default:none not found$") as caught:
        client.delete_network("default:none")
    assert caught.value.status == 404


@pytest.mark.parametrize("key", ["default:a/b", "default:ü?x=1#y", "default:50%", "default:a b"])
def test_keys_are_quoted(fake: FakeController, client: Client, key: str) -> None:
    """Otherwise a strange name reaches another object than the one named."""
    fake.docs["networks"][key] = {"key": key}
    assert client.network(key) == {"key": key}


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_would_be_another_path(fake: FakeController, client: Client, name: str) -> None:
    """Otherwise `netctl tenant rm ..` deletes at another path."""
    with pytest.raises(Refused, match="can't be a name"):
        client.delete_tenant(name)
    assert not fake.seen


def test_connection_is_reused(fake: FakeController, client: Client) -> None:
    """Otherwise a busy agent runs out of ports."""
    for _ in range(5):
        client.networks()
    assert len(fake.connections) == 1


def test_proxies_of_the_environment_are_ignored(
    fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise netctl fails on every machine that reaches the Internet through a proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    with Client(fake.url) as client:
        assert client.networks() == []


def test_nobody_listens() -> None:
    """Otherwise the user reads a library's chain of class names."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(NoConnection) as caught:
        client.networks()
    assert str(caught.value) == f"no connection to http://127.0.0.1:{port}: Connection refused"


def test_silent_controller(fake: FakeController) -> None:
    """Otherwise netctl and the agent hang for ever on a controller that hangs."""
    fake.delay.set()
    with Client(fake.url, timeout=0.05) as client, pytest.raises(NoConnection, match="no answer in time"):
        client.networks()


@pytest.mark.parametrize("raw", [b"<html>hello</html>", b"\xff\xfe", b""])
def test_something_else_answers(fake: FakeController, client: Client, raw: bytes) -> None:
    """Otherwise a wrong URL ends in a traceback."""
    fake.raw = raw
    with pytest.raises(Refused, match="is not netctl's controller"):
        client.networks()
    with pytest.raises(Refused, match="is not netctl's controller"):
        client.version()


def test_a_list_that_is_none(fake: FakeController, client: Client) -> None:
    """Otherwise a wrong URL ends in a traceback."""
    fake.raw = b"{}"
    with pytest.raises(Refused, match="a list, not an object"):
        client.networks()


@pytest.mark.parametrize("url", ["http://c:9999", "https://c", "http://[::1]:9999/", "http://c/below/"])
def test_urls(url: str) -> None:
    """Otherwise a controller behind a path or on IPv6 can't be used."""
    assert checked_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["", "c:9999", "ftp://c", "http://", "http://c:port", "http://c:0", "http://c/?q"]
)
def test_urls_that_are_none(url: str) -> None:
    """Otherwise a slip in NETMASTER gives an error far from its cause."""
    with pytest.raises(ValueError, match="is not a controller's URL"):
        Client(url)


def network(name: str) -> dict[str, Any]:
    """What the change stream says of a network."""
    return {
        "tenantName": "default", "networkName": name, "subnet": "10.1.1.0/24", "number": 1, "dockerName": name,
    }  # fmt: skip


def test_stream_from_the_start(fake: FakeController, client: Client) -> None:
    """Otherwise hosts don't learn of the networks they have to make."""
    fake.change("network", "default:a", network("a"))
    stream = client.changes(host="h")
    first, sync = next(stream), next(stream)
    assert (first["kind"], first["key"], first["object"]) == ("network", "default:a", fake.log[0]["object"])
    assert (sync["kind"], sync["revision"]) == ("sync", 1)
    assert fake.seen[0][1] == "/api/v1/changes/?host=h"
    fake.change("network", "default:a", None)
    change = next(line for line in stream if line["kind"] != "alive")
    assert (change["revision"], change["object"]) == (2, None)
    stream.close()


def test_stream_resumes(fake: FakeController, client: Client) -> None:
    """Otherwise every break of a connection is a full listing."""
    for name in "abc":
        fake.change("network", f"default:{name}", network(name))
    stream = client.changes(since=1)
    assert [c["key"] for c in takewhile(lambda c: c["kind"] != "sync", stream)] == ["default:b", "default:c"]


@pytest.mark.parametrize("since", [1, 9])
def test_stream_gone(fake: FakeController, client: Client, since: int) -> None:
    """Otherwise an agent waits for changes that it will never get, and misses those it should have had."""
    fake.change("network", "default:a", network("a"))
    fake.oldest = 2
    with pytest.raises(Gone) as caught:
        next(client.changes(since=since))
    assert caught.value.status == 410


def test_stream_ends(fake: FakeController, client: Client) -> None:
    """Otherwise an agent believes itself connected while the controller is gone."""
    stream = client.changes()
    assert next(stream)["kind"] == "sync"
    fake.cut.set()
    with pytest.raises(NoConnection, match="the controller ended the change stream"):
        for _ in stream:
            pass


@pytest.mark.parametrize(
    ("silent", "reason"), [(True, "no answer in time"), (False, "Connection broken|Response ended")]
)
def test_stream_falls_silent_or_breaks(silent: bool, reason: str) -> None:
    """Otherwise an agent waits for ever on a controller whose machine has lost its power, or dies with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = json.dumps({"revision": 1, "kind": "sync"}).encode() + b"\n"
        over = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                connection.sendall(head + b"%x\r\n%s\r\n" % (len(line), line))
                if silent:
                    over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client:
            stream = client.changes(read_timeout=0.1)
            assert next(stream)["kind"] == "sync"
            with pytest.raises(NoConnection, match=reason):
                next(stream)
        over.set()
        thread.join(5)


def test_stream_that_is_none(fake: FakeController, client: Client) -> None:
    """Otherwise a wrong URL in an agent's configuration ends in a traceback."""
    fake.raw = b"[]\n"
    with pytest.raises(NoConnection, match="not a change stream"):
        next(client.changes())


def test_several_controllers(fake: FakeController) -> None:
    """Otherwise the loss of one controller stops its users and agents, though others are there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"http://127.0.0.1:{server.getsockname()[1]}"
    with Client(f"{dead}, {fake.url}/") as client:
        client.put_tenant("blue")
        assert [t["tenantName"] for t in client.tenants()] == ["default", "blue"]
        assert next(client.changes())["kind"] == "sync"
    with Client(f"{dead},{dead}") as client, pytest.raises(NoConnection, match=f"no connection to {dead}: "):
        client.tenants()
    with pytest.raises(ValueError, match="'' is not a controller's URL"):
        Client(f"{dead},")


def test_what_may_have_been_done_is_not_done_again(fake: FakeController) -> None:
    """Otherwise an address is taken twice when a controller is lost in the middle of an answer."""
    with FakeController() as slow:
        slow.delay.set()
        with Client(f"{slow.url},{fake.url}", timeout=0.2) as client:
            with pytest.raises(NoConnection, match="no answer in time"):
                client.grant_lease("default", "net", "h")
            assert not fake.seen
            assert client.grant_lease("default", "net", "h")["ipAddress"], "the next asks the one that answers"
        with Client(f"{slow.url},{fake.url}", timeout=0.2) as client:
            assert client.tenants(), "to ask twice does no harm"
        slow.cut.set()


def test_a_stream_at_another_controller(fake: FakeController) -> None:
    """Otherwise nobody waits for a host whose agent asks a controller that does not lead."""
    with FakeController() as other:
        other.redirect = fake.url
        with Client(other.url) as client:
            assert next(client.changes(host="h"))["kind"] == "sync"
        assert fake.seen[-1][1] == "/api/v1/changes/?host=h"
