"""Networks wait for the hosts: what ``net create`` promises when it returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ryu_apps.wsgi import eventlet
from tests.unit.rest_kit import Rest
from topology.documents import NetworkDoc
from topology.model import Network

SUBNET = {"subnet": "10.9.0.0/24"}
KEY = "/networks/default:new/"


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """No test of waiting may wait for ever."""
    with eventlet.Timeout(20):
        yield


@pytest.fixture
def rest() -> Iterator[Rest]:
    """Two hosts; h1 and h2 are connected."""
    rest = Rest()
    for name, switch in (("h1", "b1"), ("h2", "b2"), ("h3", "b3")):
        rest.host(name, switch)
    rest.tracker.connect("h1")
    rest.tracker.connect("h2")
    yield rest
    rest.close()


def apply(rest: Rest, host: str, errors: dict[str, str] | None = None) -> dict[str, Any]:
    """The host's agent says that it is up to date."""
    document = {"revision": rest.model.revision, "errors": errors or {}}
    answer: dict[str, Any] = rest.call("PUT", f"/hosts/{host}/applied/", document)
    return answer


def still(thread: Any) -> bool:
    """Whether a request is still waiting after everybody had a turn."""
    for _ in range(5):
        eventlet.sleep(0)
    return not thread.dead


def test_create_returns_when_every_connected_host_has_the_network(rest: Rest) -> None:
    """Without it, `docker run --net` right after `net create` fails."""
    create = rest.spawn("POST", KEY, SUBNET)
    assert still(create)
    assert rest.call("GET", KEY), "others are served meanwhile"
    apply(rest, "h1")
    assert still(create)
    assert apply(rest, "h2")["appliedRevision"] == rest.model.revision
    assert create.wait()[0] == 200


def test_two_create_it_while_the_store_is_slow(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one's answer would be an error of the server's, though both networks are one."""
    put_network = rest.commands.put_network

    def slow(spec: NetworkDoc) -> Network:
        eventlet.sleep(0)  # as where the store is etcd, and each command waits for its turn
        return put_network(spec)

    monkeypatch.setattr(rest.commands, "put_network", slow)
    creates = [rest.spawn("POST", KEY, SUBNET) for _ in range(2)]
    assert [still(create) for create in creates] == [True, True]
    apply(rest, "h1")
    apply(rest, "h2")
    assert [create.wait()[0] for create in creates] == [200, 200]


def test_create_without_hosts_returns_at_once() -> None:
    """Without it, a Mininet user waits 15 s for every network."""
    rest = Rest()
    rest.host()
    rest.network()
    rest.close()


def test_an_old_report_does_not_count(rest: Rest) -> None:
    """Without it, a report under way when the network was made lets `net create` return too early."""
    revision = rest.model.revision
    create = rest.spawn("POST", KEY, SUBNET)
    for host in ("h1", "h2"):
        rest.call("PUT", f"/hosts/{host}/applied/", {"revision": revision})
    assert still(create)
    apply(rest, "h1")
    apply(rest, "h2")
    rest.call("PUT", "/hosts/h2/applied/", {"revision": revision, "errors": {"default:new": "old"}})
    assert create.wait()[0] == 200


def test_a_host_that_fails_undoes_the_network(rest: Rest) -> None:
    """Without it, a network is left that works on some hosts only."""
    create = rest.spawn("POST", KEY, SUBNET)
    line = "Pool overlaps with other one on this address space"
    apply(rest, "h2", {"default:new": line, "default:other": "no matter"})
    assert create.wait() == (409, "text/plain", f"host h2: {line}\n")
    assert rest.refused("GET", KEY)[0] == 404
    assert rest.call("GET", "/hosts/h2/")["errors"]["default:new"] == line
    # and it can be made when the host can
    create = rest.spawn("POST", KEY, SUBNET)
    assert still(create), "the host's error was about the one before"
    apply(rest, "h1")
    apply(rest, "h2")
    assert create.wait()[0] == 200


def test_a_host_whose_docker_does_not_answer(rest: Rest) -> None:
    """Who makes a network would wait 15 s and be told that the host is slow, not what is wrong there."""
    line = "Docker does not answer at unix:///var/run/docker.sock: no answer within 3 s"
    apply(rest, "h2", {"docker": line, "route 10.2.0.0/24": "not taken over"})
    create = rest.spawn("POST", KEY, SUBNET)
    assert create.wait() == (409, "text/plain", f"host h2: {line}\n")
    assert rest.refused("GET", KEY)[0] == 404
    # known only while it is waited for: a daemon that froze a moment ago
    apply(rest, "h2")
    create = rest.spawn("POST", KEY, SUBNET)
    assert still(create)
    rest.call("PUT", "/hosts/h2/applied/", {"revision": rest.model.revision - 1, "errors": {"docker": line}})
    assert create.wait() == (409, "text/plain", f"host h2: {line}\n")


def test_a_host_that_does_not_answer_undoes_the_network(rest: Rest) -> None:
    """Without it, a hanging agent leaves networks that nobody can use."""
    slow = Rest(host_timeout=0.05)
    slow.host()
    slow.tracker.connect("h1")
    line = "host h1 did not make network default:new within 0.05 s; nothing was created"
    status, _, text = slow.raw("POST", f"/api/v1{KEY}", b'{"subnet": "10.9.0.0/24"}')
    assert (status, text) == (503, line + "\n")
    assert slow.refused("GET", KEY)[0] == 404
    slow.tracker.connect("h2")
    slow.host("h2", "b2")
    text = slow.raw("POST", f"/api/v1{KEY}", b'{"subnet": "10.9.0.0/24"}')[2]
    assert text.startswith("hosts h1, h2 did not make network default:new")
    slow.close()


def test_a_host_that_goes_is_not_waited_for(rest: Rest) -> None:
    """Without it, the crash of an agent makes `net create` fail on all others."""
    create = rest.spawn("POST", KEY, SUBNET)
    apply(rest, "h1")
    assert still(create)
    rest.tracker.disconnect("h2")
    assert create.wait()[0] == 200
    assert rest.call("GET", KEY)


def test_a_deleted_host_is_not_waited_for(rest: Rest) -> None:
    """Without it, a stream left open in the name of no host blocks every create."""
    create = rest.spawn("POST", KEY, SUBNET)
    apply(rest, "h1")
    rest.call("PUT", "/hosts/h2/drain/")
    rest.call("DELETE", "/hosts/h2/")
    assert create.wait()[0] == 200


def test_a_host_that_goes_down_is_not_waited_for(rest: Rest) -> None:
    """Without it, no network can be made while a host is switched off: its stream looks open for minutes."""
    create = rest.spawn("POST", KEY, SUBNET)
    apply(rest, "h1")
    for second in range(6):
        assert still(create) == (second < 5), second
        rest.now += 1
        rest.host("h1", "b1")
        rest.liveness.step()
    assert create.wait()[0] == 200
    assert rest.call("GET", KEY)


def test_two_creates_at_once(rest: Rest) -> None:
    """Without it, one slow create holds up the next, or takes its answer."""
    one = rest.spawn("POST", KEY, SUBNET)
    apply(rest, "h1")
    two = rest.spawn("POST", "/networks/default:two/", {"subnet": "10.10.0.0/24"})
    apply(rest, "h2", {"default:two": "no"})
    assert one.wait()[0] == 200
    assert two.wait() == (409, "text/plain", "host h2: no\n")
    assert set(rest.model.networks) == {"default:new"}


def test_the_same_create_twice_at_once(rest: Rest) -> None:
    """Without it, a user who asks again is told that all is well while the first try still can fail."""
    one = rest.spawn("POST", KEY, SUBNET)
    two = rest.spawn("PUT", KEY, SUBNET)
    assert still(two)
    apply(rest, "h1", {"default:new": "no"})
    assert one.wait() == two.wait() == (409, "text/plain", "host h1: no\n")
    assert not rest.model.networks


def test_the_same_create_again_waits_for_nobody(rest: Rest) -> None:
    """Without it, a script that runs twice hangs, as nothing is left to report for the hosts."""
    create = rest.spawn("POST", KEY, SUBNET)
    apply(rest, "h1")
    apply(rest, "h2")
    create.wait()
    assert rest.network("new", "10.9.0.0/24")


def test_what_somebody_uses_already_is_not_undone(rest: Rest) -> None:
    """Without it, undoing fails with an error about something else, or takes a service with it."""
    create = rest.spawn("POST", KEY, SUBNET)
    rest.service(network="new")
    apply(rest, "h1", {"default:new": "no"})
    status, _, line = create.wait()
    assert status == 409
    assert line.startswith("network default:new failed on a host, but can't be undone: cannot delete")
    assert "default:new" in rest.model.networks


def test_deleted_by_somebody_else_while_waiting(rest: Rest) -> None:
    """Without it, the network that somebody made in its place is undone."""
    create = rest.spawn("POST", KEY, SUBNET)
    remove = rest.spawn("DELETE", KEY)
    again = rest.spawn("POST", KEY, {"subnet": "10.9.9.0/24"})
    apply(rest, "h1", {"default:new": "no"})
    assert create.wait()[0] == 409
    assert again.wait()[0] == 409
    apply(rest, "h2")
    assert remove.wait()[0] == 200
    assert not rest.model.networks


def test_delete_waits_and_forgives(rest: Rest) -> None:
    """Without it, Docker still shows a network after `net rm`, or a broken host keeps it for ever."""
    create = rest.spawn("POST", KEY, SUBNET)
    apply(rest, "h1")
    apply(rest, "h2")
    create.wait()
    remove = rest.spawn("DELETE", KEY)
    assert still(remove)
    apply(rest, "h1", {"default:new": "has active endpoints"})
    assert remove.wait() == (200, "application/json", '"default:new"\n')
    assert rest.call("GET", "/hosts/h1/")["errors"] == {"default:new": "has active endpoints"}


def test_a_refused_create_does_not_wait(rest: Rest) -> None:
    """Without it, a typing error costs 15 s."""
    assert rest.refused("POST", KEY, {"subnet": "10.9.0.1/24"})[0] == 422
