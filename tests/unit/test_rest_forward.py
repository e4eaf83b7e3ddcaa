"""REST of a controller that does not lead: it answers, or asks the one that does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from ryu_apps.liveness import Liveness
from ryu_apps.rest import Api, HostTracker, forward
from tests.kit.docs import host_doc
from tests.unit.modelkit import SRV, Door
from tests.unit.places import Place
from tests.unit.rest_kit import Json, Rest, Switches
from topology.errors import Unavailable
from topology.model import Host


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """The requests are in the answers."""


class Counting(Switches):
    """Notes which revisions were waited for."""

    def __init__(self) -> None:
        self.settled: list[int] = []

    def settle(self, revision: int) -> bool:
        self.settled.append(revision)
        return True


class Judging(Liveness):
    """Believes of the hosts what a test says."""

    def __init__(self, one: One) -> None:
        super().__init__(one.door.model)
        self._one = one

    def down(self, host: Host) -> bool:
        return host.name in self._one.down


@dataclass
class One:
    """A controller of several."""

    door: Door
    leader: list[str] = field(default_factory=list)
    """Where it believes the leader to be; empty: nowhere, "": it leads."""
    down: set[str] = field(default_factory=set)
    """The hosts that have been silent for it."""

    def __post_init__(self) -> None:
        self.switches = Counting()
        self.rest = Rest.__new__(Rest)
        self.rest.model, self.rest.commands = self.door.model, self.door.commands
        tracker = HostTracker(self.door.model, Judging(self))
        self.rest.api = Api(self.door.commands, tracker, self.switches, leader_url=self.leader_url)

    def leader_url(self) -> str:
        if not self.leader:
            raise Unavailable("nobody leads")
        return self.leader[0]


@dataclass
class Two:
    leader: One
    follower: One


@pytest.fixture
def two(shared: Place) -> Iterator[Two]:
    """Two on one store; the leader's REST is served, the follower's called."""
    leader, follower = One(Door(shared.open()), [""]), One(Door(shared.open()))

    def served(environ: dict[str, Any], start_response: Any) -> Any:
        # this server's input does not end with the body, as ours does
        size = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(size))
        return leader.rest.api(environ, start_response)

    with make_server("127.0.0.1", 0, served, handler_class=Quiet) as server:
        follower.leader = [f"http://127.0.0.1:{server.server_port}"]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Two(leader, follower)
        server.shutdown()
        thread.join(10)


def test_a_write_is_answered_when_the_leaders_switches_have_it(two: Two) -> None:
    """Who gets the answer would send packets that no switch knows of."""
    two.follower.door.commands.put_network(SRV)
    two.follower.rest.service(network="srv")
    revision = two.follower.door.model.revision
    assert two.leader.switches.settled == [revision]
    assert two.leader.door.model.revision == revision, "it has caught up before"
    assert two.follower.switches.settled == []


def test_what_only_the_leader_knows(two: Two) -> None:
    """A user would be told that there are no switches, no hosts, no counters."""
    two.leader.switches.switches = lambda: [{"dpid": "00000000000000aa", "ports": []}]  # type: ignore[method-assign]
    assert [s["dpid"] for s in two.follower.rest.call("GET", "/switches/")] == ["00000000000000aa"]
    status, line = two.follower.rest.refused("GET", "/switches/bb/")
    assert (status, line) == (404, "Switch bb not found")
    two.follower.rest.call("PUT", "/hosts/h1/", {"switch": "b1"})
    for one in (two.leader, two.follower):
        hosts: list[Json] = one.rest.call("GET", "/hosts/")
        assert hosts[0]["hostName"] == "h1"
        assert hosts[0]["lastHeartbeat"] is not None


SERVICE = "/serviceLBs/default:app/"
PARTLY = ("/serviceLBs/", SERVICE, "/inspect" + SERVICE, "/hosts/", "/hosts/h1/")


@pytest.fixture
def furnished(two: Two) -> Two:
    """A service with a provider on a host, which the leader knows to be down."""
    two.leader.door.commands.put_network(SRV)
    two.leader.door.commands.put_host(host_doc("h1", 0xB1))
    two.leader.rest.service(network=SRV['networkName'])
    two.leader.rest.endpoint("p1", networkName=SRV['networkName'], switch="", homingHost="h1", labels={"tier": "web"})
    two.leader.down = {"h1"}
    two.follower.door.commands.catch_up()
    return two


def test_a_follower_tells_what_the_leader_has_observed(furnished: Two) -> None:
    """A user who asks a follower would see the providers of a dead host as healthy, and no switches."""
    (listed,) = furnished.follower.rest.call("GET", "/serviceLBs/")
    assert (listed["numProviders"], listed["healthyProviders"]) == (1, 0)
    for path in PARTLY:
        assert furnished.follower.rest.call("GET", path) == furnished.leader.rest.call("GET", path), path
    assert furnished.follower.rest.call("GET", "/hosts/h1/")["state"] == "down"
    info = json.loads(furnished.follower.rest.raw("GET", "/info")[2])
    assert info["switches"] == 1
    written = furnished.follower.rest.service(network=SRV['networkName'])
    assert "healthyProviders" not in written, "it answers from what is stored"


@pytest.mark.parametrize("away", ["nobody", "dead", "another follower"])
def test_a_follower_that_can_not_ask_says_so(furnished: Two, away: str) -> None:
    """A user would be told that all is well, or that there is nothing, by one who has no way to know."""
    if away == "nobody":
        furnished.follower.leader.clear()
    elif away == "dead":
        furnished.follower.leader[0] = "http://127.0.0.1:1"
    else:
        furnished.leader.leader.clear()
    rest = furnished.follower.rest
    for path in PARTLY[:2]:
        found = rest.call("GET", path)
        (listed,) = found if isinstance(found, list) else [found]
        assert listed["numProviders"] == 1
        assert "healthyProviders" not in listed
    oper = rest.call("GET", "/inspect" + SERVICE)["Oper"]
    assert [p["hostState"] for p in oper["providers"]] == ["unknown"]
    assert "counters" not in oper
    host = rest.call("GET", "/hosts/h1/")
    assert host["state"] == rest.call("GET", "/hosts/")[0]["state"] == "unknown"
    assert not host.keys() & {"connected", "lastHeartbeat", "since", "appliedRevision"}
    assert "switches" not in json.loads(rest.raw("GET", "/info")[2])
    for path in ("/switches/", "/switches/aa/", "/trace/"):
        assert rest.refused("GET", path)[0] == 503, "not that there is none"


def test_a_network_is_made_where_the_hosts_are_waited_for(two: Two) -> None:
    """The answer would come before any host has the network; or the next question would not know it."""
    two.follower.rest.network("net")
    assert "default:net" in two.leader.door.model.networks
    assert "default:net" in two.follower.door.model.networks, "who has asked sees it there"
    assert two.follower.rest.refused("POST", "/networks/default:net/", {"subnet": "10.9.0.0/24"})[0] == 409


def test_a_hosts_stream_is_at_the_leader(two: Two) -> None:
    """Nobody would wait for a host whose agent asks a follower."""
    status, _, _ = two.follower.rest.raw("GET", "/api/v1/changes/?host=h1")
    assert status == 307


def test_nobody_leads(two: Two) -> None:
    """Reads would fail while a leader is elected; or a network be made that no host is waited for."""
    two.follower.leader.clear()
    assert two.follower.rest.call("GET", "/hosts/") == []
    assert two.follower.rest.call("PUT", "/tenants/blue/", {})["tenantName"] == "blue"
    for method, path in (("POST", "/networks/default:net/"), ("PUT", "/hosts/h/")):
        assert two.follower.rest.refused(method, path, {"subnet": "10.1.1.0/24"}) == (503, "nobody leads")
    assert two.follower.rest.refused("GET", "/changes/?host=h") == (503, "nobody leads")


def test_two_that_take_each_other_for_the_leader(two: Two) -> None:
    """A request would go round and round."""
    two.leader.leader[0] = "http://127.0.0.1:1"
    line = "no controller leads at the moment: try again in a few seconds"
    assert two.follower.rest.refused("GET", "/switches/") == (503, line)


def test_a_leader_that_does_not_answer(two: Two) -> None:
    """A write that is stored would count as failed; or a traceback be the answer."""
    two.follower.leader[0] = "http://127.0.0.1:1"
    assert two.follower.rest.call("PUT", "/tenants/blue/", {})["tenantName"] == "blue"
    status, line = two.follower.rest.refused("GET", "/switches/")
    assert status == 503
    assert line.startswith("the leading controller at 127.0.0.1:1 does not answer: Connection refused")


def test_an_answer_that_is_too_long(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be cut off in the middle, and be taken for nonsense."""
    monkeypatch.setattr(forward, "MAX_ANSWER", 20)
    status, line = two.follower.rest.refused("GET", "/switches/")
    assert status == 503
    assert line.startswith("the leading controller's answer has more than 20 bytes: ask it at 127.0.0.1:")


def test_more_than_a_body_is_passed_on(two: Two) -> None:
    """A host with thousands of networks could not tell a controller that does not lead what is wrong with them."""
    two.leader.rest.call("PUT", "/hosts/h", {"switch": "1"})
    two.follower.door.commands.catch_up()
    errors = {f"default:net{n}": "x" * 200 for n in range(8000)}
    body = {"revision": two.leader.door.model.revision, "errors": errors}
    assert two.follower.rest.call("PUT", "/hosts/h/applied", body)["errors"] == errors


def test_settled_is_for_revisions(two: Two) -> None:
    """What is no revision would be an internal error."""
    assert two.leader.rest.refused("GET", "/settled/x/") == (400, "revision: x is not a revision")
    answer = json.loads(two.leader.rest.raw("GET", "/api/v1/settled/1/")[2])
    assert answer == {"revision": 1, "settled": True}
    assert two.follower.rest.refused("GET", "/settled/1/")[0] == 503, "it does not know"
