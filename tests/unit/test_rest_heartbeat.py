"""A host whose agent asks for anything lives. If these fail, a big change ends the connections of a host that is fine.

The agent has one thread for all that it tells: while one request is not answered, it sends no heartbeat.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ryu_apps.liveness import SILENCE
from tests.unit.rest_kit import Json, Rest, Switches


@pytest.fixture
def rest() -> Iterator[Rest]:
    made = Rest()
    made.host("h1")
    made.network()
    made.endpoint("e1", homingHost="h1", switch="b1")
    yield made
    made.close()


AGENTS = [
    ("PUT", "/hosts/h1/applied/", {"revision": 1}),
    ("PUT", "/hosts/h1/endpoints/", {"endpoints": []}),
    ("PUT", "/endpoints/e1/checks/", {}),
    ("POST", "/leases/", {"tenantName": "default", "networkName": "net", "hostName": "h1"}),
]


@pytest.mark.parametrize(("method", "path", "document"), AGENTS, ids=[path for _, path, _ in AGENTS])
def test_every_request_is_a_sign_of_life(rest: Rest, method: str, path: str, document: Json) -> None:
    """A host with a long list of containers would be down while it tells of them."""
    host = rest.model.hosts["h1"]
    rest.now += SILENCE - 1
    rest.call(method, path, document)
    rest.now += SILENCE - 1
    assert not rest.liveness.down(host)
    rest.now += 1
    assert rest.liveness.down(host)


def test_a_refused_heartbeat_is_one(rest: Rest) -> None:
    """Two hosts with one tunnel address: the second would be down as well as refused."""
    rest.host("h2", "b2")
    rest.now += SILENCE - 1
    rest.refused("PUT", "/hosts/h1/", {"switch": "b1", "tunnelAddress": "192.0.2.2"})
    rest.now += SILENCE - 1
    assert not rest.liveness.down(rest.model.hosts["h1"])


def test_nobody_is_remembered_who_is_no_host(rest: Rest) -> None:
    """Whoever can ask would fill the controller's memory with names."""
    rest.refused("PUT", "/hosts/nobody/applied/", {"revision": 1})
    rest.call("POST", "/leases/", {"tenantName": "default", "networkName": "net", "hostName": "nobody"})
    assert rest.liveness._beats.keys() == {"h1"}


def test_heartbeats_do_not_wait_for_the_switches(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service with thousands of providers takes a switch seconds: heartbeats behind it would come too late."""
    waited: list[int] = []
    monkeypatch.setattr(Switches, "settle", lambda _, revision: bool(waited.append(revision)) or True)
    rest.host("h1")
    rest.call("PUT", "/hosts/h1/applied/", {"revision": 1})
    assert waited == []
    rest.service()
    rest.call("PUT", "/hosts/h1/endpoints/", {"endpoints": []})
    assert len(waited) == 2, "whoever makes a service may use it once it is answered"
