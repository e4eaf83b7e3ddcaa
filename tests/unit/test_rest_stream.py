"""The change stream: what agents follow and resume, over real sockets where connections matter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ryu_apps import wsgi
from ryu_apps.rest import stream as stream_module
from ryu_apps.rest.stream import ChangeFeed, Gone
from ryu_apps.wsgi import eventlet, socket
from tests.kit.docs import endpoint_doc
from tests.unit.rest_kit import Json, Rest


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """No test of a stream may wait for ever."""
    with eventlet.Timeout(20):
        yield


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest(alive_period=0.05)
    yield rest
    rest.close()


@pytest.fixture
def server(rest: Rest) -> Iterator[wsgi.Server]:
    server = wsgi.serve(rest.api, "127.0.0.1", 0)
    yield server
    server.stop()


class Reader:
    """A client of the stream, as simple as an agent could be."""

    def __init__(self, server: wsgi.Server, query: str = "") -> None:
        self.socket = socket.create_connection((server.host, server.port))
        self.socket.sendall(f"GET /api/v1/changes/{query} HTTP/1.0\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline().strip():
            pass

    def line(self, *, alive: bool = False) -> Json:
        """The next line; those that only say alive are passed over."""
        while True:
            text = self.file.readline()
            assert text, "the stream has ended"
            document: Json = json.loads(text)
            if alive or document["kind"] != "alive":
                return document

    def until(self, kind: str) -> list[Json]:
        """Lines up to one of this kind."""
        lines = [self.line()]
        while lines[-1]["kind"] != kind:
            lines.append(self.line())
        return lines

    def close(self) -> None:
        self.file.close()
        self.socket.close()


Follow = Callable[..., Reader]


@pytest.fixture
def follow(server: wsgi.Server) -> Iterator[Follow]:
    opened = []

    def open_one(query: str = "") -> Reader:
        opened.append(Reader(server, query))
        return opened[-1]

    yield open_one
    for reader in opened:
        reader.close()


def when(condition: Callable[[], bool]) -> None:
    """Waits for something that another greenthread brings about; the deadline is the fixture's."""
    while not condition():
        eventlet.sleep(0.001)


def test_a_new_start_shows_the_hosts(rest: Rest, follow: Follow) -> None:
    """Without it, an agent knows only those hosts that registered after it."""
    rest.host()
    rest.host("h2", "b2")
    reader = follow()
    lines = [line for line in reader.until("sync") if line["kind"] == "host"]
    assert {line["key"]: line["object"]["tunnelAddress"] for line in lines} == {"h1": "192.0.2.1", "h2": "192.0.2.2"}


def test_a_new_start_shows_the_present_and_what_follows(rest: Rest, follow: Follow) -> None:
    """Without it, an agent that starts does not make the Docker networks."""
    rest.network(gateway="10.1.1.254")
    rest.service()
    reader = follow()
    revision = rest.model.revision
    tenant, network, sync = reader.until("sync")
    assert tenant == {
        "revision": revision,
        "kind": "tenant",
        "key": "default",
        "object": {"key": "default", "tenantName": "default", "number": 1},
    }
    assert network == {
        "revision": revision,
        "kind": "network",
        "key": "default:net",
        "object": {
            "key": "default:net",
            "encap": "vxlan",
            "gateway": "10.1.1.254",
            "networkName": "net",
            "nwType": "data",
            "subnet": "10.1.1.0/24",
            "tenantName": "default",
            "number": 1,
            "dockerName": "net",
        },
    }
    assert sync == {"revision": revision, "kind": "sync"}
    rest.network("lan", "10.2.0.0/24", encap="vlan")
    line = reader.line()
    assert (line["revision"], line["key"], line["object"]["encap"]) == (revision + 1, "default:lan", "vlan")
    rest.call("DELETE", "/networks/default:lan/")
    assert reader.line() == {
        "revision": revision + 2,
        "kind": "network",
        "key": "default:lan",
        "object": None,
    }


def test_every_kind_but_leases(rest: Rest, follow: Follow) -> None:
    """Without it, a follower misses what it is to act upon."""
    reader = follow()
    reader.until("sync")
    rest.call("POST", "/tenants/blue/", {})
    rest.network()
    rest.service()
    rest.endpoint("e1")
    rest.host()
    rest.call("POST", "/leases/", {"tenantName": "default", "networkName": "net", "hostName": "h1"})
    rest.call("DELETE", "/tenants/blue/")
    lines = [reader.line() for _ in range(6)]
    assert [line["kind"] for line in lines] == ["tenant", "network", "service", "endpoint", "host", "tenant"]
    assert lines[2]["object"]["serviceVip"] == "10.1.1.1"
    assert lines[3]["object"] == rest.call("GET", "/endpoints/e1/")
    assert lines[5]["object"] is None


def test_resume_gets_exactly_what_was_missed(rest: Rest, follow: Follow) -> None:
    """Without it, an agent that lost its connection misses networks, or makes all anew."""
    since = rest.model.revision
    rest.network()
    rest.network("two", "10.2.0.0/24")
    lines = follow(f"?since={since}").until("sync")
    assert [(line["revision"], line.get("key")) for line in lines] == [
        (since + 1, "default:net"),
        (since + 2, "default:two"),
        (since + 2, None),
    ]
    assert [line["kind"] for line in follow(f"?since={since + 2}").until("sync")] == ["sync"]


@pytest.mark.parametrize("since", ["99", "999999999999999999"])
def test_a_revision_of_the_future_is_gone(follow: Follow, since: str) -> None:
    """Without it, an agent of a controller whose database was set back waits for ever."""
    assert follow(f"?since={since}").status == 410


def test_a_revision_too_old_is_gone(rest: Rest) -> None:
    """Without it, an agent that was away for long silently misses changes."""
    feed = ChangeFeed(rest.model, lambda since: None)
    with pytest.raises(Gone, match="since 0: not known here"):
        feed.open(0)
    with pytest.raises(Gone):
        feed.open(rest.model.revision)


def test_thousands_of_revisions_can_be_resumed(rest: Rest, follow: Follow) -> None:
    """Without it, an agent that was away for an hour of churn starts afresh."""
    rest.network()
    since = rest.model.revision
    for number in range(1500):
        rest.commands.put_endpoint(
            endpoint_doc("e1", "default", "net", switch=10, port_name="p", labels={"n": str(number)})
        )
    rest.network("last", "10.2.0.0/24")
    lines = follow(f"?since={since}").until("sync")
    assert len(lines) == 1502
    assert lines[-2]["key"] == "default:last"


def test_alive_lines(rest: Rest, follow: Follow) -> None:
    """Without it, a silent connection can't be told from a dead one."""
    reader = follow()
    reader.until("sync")
    for _ in range(2):
        assert reader.line(alive=True) == {"revision": rest.model.revision, "kind": "alive"}


def test_a_transaction_cut_in_the_middle_is_sent_again_as_a_whole(rest: Rest, follow: Follow) -> None:
    """Without it, who is cut off between two lines of one revision never hears of the second."""
    rest.network()
    rest.host()
    reader = follow()
    revision = reader.until("sync")[-1]["revision"]
    specs = [endpoint_doc(name, "default", "net", host="h1", port_name=name) for name in ("e1", "e2", "e3")]
    rest.commands.sync_endpoints("h1", specs)
    lines = [reader.line() for _ in range(3)]
    assert [line["revision"] for line in lines] == [revision, revision, revision + 1]
    reader.close()
    again = follow(f"?since={lines[1]['revision']}").until("sync")[:-1]
    assert sorted(line["key"] for line in again) == ["e1", "e2", "e3"]


def test_a_network_goes_last_in_its_transaction(rest: Rest, follow: Follow) -> None:
    """Without it, an agent that looks at networks only reports a revision short, and `net rm` waits."""
    rest.network()
    rest.commands.learn("default", "net", "02:00:00:00:00:09", "10.1.1.9", 10, "p9")
    reader = follow()
    reader.until("sync")
    rest.call("DELETE", "/networks/default:net/")
    lines = [reader.line(), reader.line()]
    assert [line["kind"] for line in lines] == ["endpoint", "network"]
    assert lines[1]["revision"] == rest.model.revision


def test_changes_made_while_the_history_is_read_are_not_lost(rest: Rest) -> None:
    """Without it, with a store over a network, a change between reading and following is lost."""
    since = rest.model.revision
    rest.network()

    def slow_history(revision: int) -> Any:
        commits = rest.store.changes_since(revision)
        rest.network("meanwhile", "10.2.0.0/24")
        return commits

    feed = ChangeFeed(rest.model, slow_history)
    rest.commands.subscribe(feed.publish)
    stream = feed.open(since)
    lines = [json.loads(line) for line in next(stream).splitlines()]
    assert [line.get("key") for line in lines] == ["default:net", None, "default:meanwhile"]
    stream.close()


def test_a_stream_makes_its_host_connected(rest: Rest, follow: Follow) -> None:
    """Without it, `net create` does not know whom to wait for, or waits for the dead."""
    rest.host()
    one = follow("?host=h1")
    one.until("sync")
    assert rest.tracker.connected("h1")
    two = follow("?host=h1")
    two.until("sync")
    one.close()
    two.close()
    when(lambda: not rest.tracker.connected("h1"))


def test_create_over_a_stream(rest: Rest, follow: Follow) -> None:
    """Without it, the parts work but an agent and the API don't meet."""
    rest.host()
    reader = follow("?host=h1")
    reader.until("sync")
    create = rest.spawn("POST", "/networks/default:net/", {"subnet": "10.1.1.0/24"})
    line = reader.line()
    assert not create.dead
    rest.call("PUT", "/hosts/h1/applied/", {"revision": line["revision"]})
    assert create.wait()[0] == 200
    create = rest.spawn("POST", "/networks/default:two/", {"subnet": "10.2.0.0/24"})
    reader.line()
    reader.close()
    assert create.wait()[0] == 200, "its host went"


def test_a_client_that_goes_leaves_nothing_behind(
    rest: Rest, follow: Follow, server: wsgi.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, each reconnect of an agent costs the controller memory for good."""
    readers = [follow() for _ in range(10)]
    for reader in readers:
        reader.until("sync")
    assert len(rest.api._feed._streams) == 10
    for reader in readers:
        reader.close()
    when(lambda: not rest.api._feed._streams and not server._pool.running())


def test_a_slow_reader_is_dropped(rest: Rest, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, one stuck agent fills the controller's memory."""
    monkeypatch.setattr(stream_module, "QUEUE_LIMIT", 100)
    rest.network()
    rest.host()
    reader = follow("?host=h1")
    reader.until("sync")
    others = follow()
    others.until("sync")
    number = 0
    while rest.tracker.connected("h1"):
        rest.commands.put_endpoint(
            endpoint_doc("e1", "default", "net", switch=10, port_name="p", labels={"n": f"{number:0250d}"})
        )
        number += 1
        assert others.line()["kind"] == "endpoint", "who reads goes on"
    seen = [json.loads(line) for line in reader.file if line.endswith(b"\n")]
    assert 0 < len(seen) < number
    assert not reader.file.readline()


def test_a_commit_larger_than_the_limit(rest: Rest, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """All agents would have to come again, and count as gone, each time a large host tells of its containers."""
    monkeypatch.setattr(stream_module, "QUEUE_LIMIT", 100)
    rest.network()
    rest.host()
    reader = follow("?host=h1")
    reader.until("sync")
    specs = [endpoint_doc(f"e{n}", "default", "net", host="h1", port_name=f"p{n}") for n in range(150)]
    rest.commands.sync_endpoints("h1", specs)
    assert [reader.line()["key"] for _ in range(150)] == [f"e{n}" for n in range(150)]
    assert rest.tracker.connected("h1")


def test_server_stop_ends_streams(rest: Rest, follow: Follow, server: wsgi.Server) -> None:
    """Without it, the controller does not stop while an agent follows."""
    readers = [follow(), follow("?host=h1")]
    for reader in readers:
        reader.until("sync")
    rest.api.close()
    server.stop()
    for reader in readers:
        while text := reader.file.readline():
            assert json.loads(text)["kind"] == "alive"
    assert not rest.api._feed._streams
    assert not rest.tracker.connected("h1")


def test_a_stream_after_the_end_is_empty(rest: Rest) -> None:
    """Without it, an agent that reconnects during the stop holds it up."""
    rest.api.close()
    assert list(rest.api._feed.open(None)) == []


def test_head_is_refused(rest: Rest) -> None:
    """Without it, a curious `curl -I` hangs."""
    assert rest.raw("HEAD", "/api/v1/changes/")[0] == 400


def test_streams_of_one_host(rest: Rest, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a host whose agent dies again and again, or who says it is that host, takes all the room."""
    rest.host()
    readers = [follow("?host=h1") for _ in range(stream_module.OF_A_HOST + 2)]
    for reader in readers[:2]:
        while reader.file.readline():
            pass  # to its end
    for reader in readers[2:]:
        reader.until("sync")
    assert len(rest.api._feed._streams) == stream_module.OF_A_HOST
    assert rest.tracker.connected("h1")


def test_streams_of_others(rest: Rest, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, whoever opens streams takes the room that the hosts' agents need."""
    monkeypatch.setattr(stream_module, "OF_OTHERS", 3)
    rest.host()
    others = [follow("?host=ghost"), follow(), follow()]
    assert [follow().status, follow("?host=spook").status] == [503, 503]
    assert follow("?host=h1").until("sync"), "a host has room"
    others[0].close()
    when(lambda: len(rest.api._feed._streams) == 3)
    assert follow().until("sync")


def test_a_reader_that_is_many_bytes_behind(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, few but long lines fill the controller's memory."""
    monkeypatch.setattr(stream_module, "QUEUE_BYTES", 1000)
    rest.network()
    stream = rest.api._feed.open(None)
    for number in range(10):
        rest.endpoint("e1", labels={"n": f"{number:0250d}"})
    assert stream.ended and not rest.api._feed._streams


def test_what_many_are_sent_is_kept_once(rest: Rest) -> None:
    """Without it, a thousand agents that come back at once each cost the memory of the whole model."""
    rest.network()
    since = rest.model.revision
    rest.endpoint("e1")
    for one, other in ((None, None), (since, since)):
        first, second = rest.api._feed.open(one), rest.api._feed.open(other)
        assert first._opening[0] is second._opening[0]
    rest.endpoint("e2")
    assert json.loads(rest.api._feed.open(None)._opening[-1])["revision"] == rest.model.revision
