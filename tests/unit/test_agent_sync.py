"""What the agent tells the controller, and what it does while there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from netctl.agent import sync as module
from netctl.agent.errors import Refusal
from netctl.agent.state import Address, LocalEndpoint, LocalNetwork, State
from netctl.agent.sync import Synchroniser
from netctl.client import NoConnection, Refused
from tests.unit.agent_kit import URL, FakeController, wait_for

NETWORK = "1" * 64


class World:
    """A host, its synchroniser and its controller."""

    def __init__(self, controller: FakeController) -> None:
        self.controller = controller
        self.state = State("host")
        subnet = IPv4Network("10.1.1.0/24")
        self.state.set_network(LocalNetwork(NETWORK, "net", "default", "net", subnet, None))
        self.state.update(listed=True)
        self.sync = Synchroniser(URL, self.state, lambda: {"hostName": "host", "switch": "1"})

    def add(self, name: str, address: IPv4Address) -> Future[None]:
        endpoint_id = name * 64
        self.state.put_endpoint(LocalEndpoint(endpoint_id, NETWORK, address, "02:42:0a:01:01:01"))
        return self.sync.endpoint(endpoint_id)

    def drop(self, name: str) -> Future[None]:
        self.state.drop_endpoint(name * 64)
        return self.sync.endpoint(name * 64)

    def grant(self, address: str = "") -> IPv4Address:
        granted = self.sync.grant("default", "net", IPv4Address(address) if address else None, 4)
        assert isinstance(granted, IPv4Address)
        return granted

    def release(self, address: Address) -> None:
        self.sync.release("default", "net", address)

    def settle(self) -> None:
        """Until all that was asked for so far is done."""
        self.sync._submit(lambda client: None).result(10)

    def go(self, away: bool) -> None:
        """The controller goes, or comes back, and the host has noticed."""
        syncs = self.controller.syncs
        self.controller.away = away
        if away:
            wait_for(lambda: not self.sync.registered.is_set(), "the loss to be noticed")
        else:
            wait_for(lambda: self.controller.syncs > syncs, "all to be told")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    monkeypatch.setattr(module, "HEARTBEAT_AWAY", 0.05)
    monkeypatch.setattr(module, "GRANT_TIMEOUT", 0.4)
    monkeypatch.setattr(module, "GRANT_RETRY", 0.05)
    made = World(FakeController(monkeypatch))
    made.sync.start()
    wait_for(lambda: made.controller.syncs, "the first synchronisation")
    yield made
    made.sync.stop(5)


def test_from_an_address_to_an_endpoint_and_back(world: World) -> None:
    """Else addresses leak, or are free while a container has them."""
    address = world.grant()
    assert world.state.leases() == {f"default:net:{address}"}
    world.add("e", address).result(10)
    assert world.state.leases() == set()
    assert set(world.controller.endpoints) == {"e" * 64}
    world.drop("e").result(10)
    world.release(address)
    world.settle()
    assert not world.controller.endpoints
    assert "release_lease" not in world.controller.calls  # the endpoint held it, not a lease


def test_an_address_that_no_endpoint_was_made_of(world: World) -> None:
    """Else each start that fails early costs an address."""
    world.release(world.grant("10.1.1.9"))
    world.settle()
    assert not world.controller.leases


def test_refusals_are_the_controllers_words(world: World) -> None:
    """Else a user reads `internal error` where the controller said what is wrong."""
    world.add("e", world.grant("10.1.1.9")).result(10)
    with pytest.raises(Refusal, match=r"10\.1\.1\.9 is taken: it is eee"):
        world.grant("10.1.1.9")
    with pytest.raises(Refused, match="is taken"):
        world.add("f", IPv4Address("10.1.1.9")).result(10)


def test_a_lease_survives_a_synchronisation(world: World) -> None:
    """Else an address is freed between Docker's asking for it and its making the endpoint."""
    address = world.grant()
    syncs = world.controller.syncs
    world.sync.resync()
    wait_for(lambda: world.controller.syncs > syncs, "the synchronisation")
    assert set(world.controller.leases) == {f"default:net:{address}"}


def test_without_a_controller_released_addresses_are_used_again(world: World) -> None:
    """Else a container can't be restarted while the controller is away."""
    first, second = world.grant(), world.grant()
    world.add("e", first).result(10)
    world.add("f", second).result(10)
    world.go(away=True)
    with pytest.raises(NoConnection):
        world.drop("e").result(10)
    world.release(first)
    with pytest.raises(Refusal, match=f"no address {second} in default:net: the controller at {URL}"):
        world.grant(str(second))
    assert world.grant() == first
    with pytest.raises(NoConnection):
        world.add("g", first).result(10)
    with pytest.raises(Refusal, match="this host holds none that it released"):
        world.grant()
    world.go(away=False)
    found = {doc["endpointID"][0]: doc["ipAddress"] for doc in world.controller.endpoints.values()}
    assert found == {"f": [str(second)], "g": [str(first)]}
    assert not world.state.spare
    assert not world.controller.leases


def test_an_address_that_is_given_up_while_the_controller_is_away_is_freed_later(world: World) -> None:
    """Else it is lost until the host is forgotten."""
    address = world.grant()
    world.go(away=True)
    world.release(address)
    world.settle()
    world.go(away=False)
    assert not world.controller.leases


def test_an_endpoint_with_both_addresses(world: World) -> None:
    """Else its IPv6 address is leaked, free while a container has it, or given out as an IPv4 one."""
    first, second = world.grant(), world.sync.grant("default", "net", None, 6)
    assert isinstance(second, IPv6Address)
    endpoint_id = "e" * 64
    world.state.put_endpoint(LocalEndpoint(endpoint_id, NETWORK, first, "02:42:0a:01:01:01", address6=second))
    world.sync.endpoint(endpoint_id).result(10)
    assert world.state.leases() == set()
    assert world.controller.endpoints[endpoint_id]["ipAddress"] == [str(first), str(second)]
    world.go(away=True)
    with pytest.raises(NoConnection):
        world.drop("e").result(10)
    world.release(first)
    world.release(second)
    assert world.sync.grant("default", "net", None, 6) == second
    with pytest.raises(Refusal, match="no IPv6 address in default:net: the controller"):
        world.sync.grant("default", "net", None, 6)
    assert world.grant() == first


def test_a_short_absence_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restart of the controller fails every start of that second."""
    monkeypatch.setattr(module, "GRANT_TIMEOUT", 10.0)
    world.go(away=True)
    asked = world.controller.calls.count("grant_lease")
    world.controller.away = False
    assert world.grant()
    assert world.controller.calls.count("grant_lease") == asked + 1


def test_one_endpoint_that_is_refused_does_not_hide_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Else a conflict over one address leaves a whole host unknown to the controller."""
    world.go(away=True)
    world.add("e", IPv4Address("10.1.1.1"))
    world.add("f", IPv4Address("10.1.1.2"))
    world.settle()
    world.controller.refuse = {"e" * 64: "ipAddress 10.1.1.1 is taken"}
    world.go(away=False)
    wait_for(lambda: set(world.controller.endpoints) == {"f" * 64}, "the other one to be told")
    wait_for(lambda: "refused endpoint eeeeeeeeeeee: ipAddress 10.1.1.1 is taken" in caplog.text, "the line")


def test_losing_and_finding_the_controller_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Else the log of an hour without the controller hides what happened before."""
    caplog.set_level("INFO")
    world.go(away=True)
    for _ in range(3):
        world.sync._submit(world.sync._beat).result(10)
    world.go(away=False)
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers") == 1


def test_nothing_is_told_before_docker_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restarted agent tells of a host without containers, and all of their connections end."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.02)
    world = World(FakeController(monkeypatch))
    world.state.update(listed=False)
    world.sync.start()
    wait_for(lambda: world.controller.calls.count("put_host") > 3, "some heartbeats")
    assert world.controller.syncs == 0
    world.state.update(listed=True)
    world.sync.resync()
    wait_for(lambda: world.controller.syncs, "the synchronisation")
    world.sync.stop(5)


def test_verdicts_are_told_again_after_an_absence(world: World) -> None:
    """Else a provider that failed while the controller was away stays in its service, or one that recovered out."""
    endpoint_id = "e" * 64
    world.add("e", world.grant()).result(10)
    world.state.verdicts[endpoint_id] = {"default:app": True}
    world.sync.verdict(endpoint_id)
    wait_for(lambda: world.controller.checks == {endpoint_id: {"default:app": True}}, "the verdict")
    world.go(away=True)
    world.state.verdicts[endpoint_id] = {"default:app": False}
    world.sync.verdict(endpoint_id)
    world.settle()
    world.go(away=False)
    wait_for(lambda: world.controller.checks == {endpoint_id: {"default:app": False}}, "the latest verdict")


def test_verdicts_wait_for_everything_else(world: World) -> None:
    """Else a container's start waits for the verdicts of a thousand others."""
    address = world.grant()
    endpoint_id = "e" * 64
    world.state.verdicts[endpoint_id] = {"default:app": True}
    world.sync.verdict(endpoint_id)  # before the model has the endpoint: refused, and told with all endpoints
    world.add("e", address).result(10)
    world.sync.resync()
    wait_for(lambda: world.controller.checks == {endpoint_id: {"default:app": True}}, "the verdict")
    calls = world.controller.calls
    last = len(calls) - 1 - calls[::-1].index("set_checks")
    assert calls.index("put_endpoint") < last


def test_verdicts_of_endpoints_that_are_gone(world: World) -> None:
    """Else the agent says for ever what nobody wants to know."""
    world.sync.verdict("f" * 64)
    world.settle()
    wait_for(lambda: not world.state.untold, "it to be dropped")
    assert "set_checks" not in world.controller.calls


def test_a_controller_that_can_not_write(world: World) -> None:
    """Else a container that starts while etcd is away has no endpoint when it is back."""
    address = world.grant()
    spare = world.grant()
    world.controller.read_only = True
    with pytest.raises(NoConnection, match="can't be reached"):
        world.add("a", address).result(10)
    world.release(spare)
    world.settle()
    assert world.grant() == spare, "as without a controller"
    syncs = world.controller.syncs
    world.controller.read_only = False
    wait_for(lambda: world.controller.syncs > syncs, "all to be told")
    assert list(world.controller.endpoints) == ["a" * 64]


def test_while_one_controller_takes_over_from_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a container that starts within those seconds is refused; or a refusal names no reason."""
    monkeypatch.setattr(module, "GRANT_TIMEOUT", 5.0)
    world.controller.leaderless = True
    wait_for(lambda: world.sync._connected is False, "the heartbeat to be refused")
    later = threading.Timer(0.2, lambda: setattr(world.controller, "leaderless", False))
    later.start()
    assert world.grant()
    later.join()
    world.controller.leaderless = True
    wait_for(lambda: world.sync._connected is False, "the heartbeat to be refused")
    monkeypatch.setattr(module, "GRANT_TIMEOUT", 0.1)
    with pytest.raises(Refusal, match="can do nothing now: no controller leads at the moment"):
        world.grant()


def test_a_host_that_the_controller_refuses_starts_no_containers(world: World) -> None:
    """Else containers start on it that nobody reaches, and the reason is in a log only."""
    line = "tunnelAddress 192.0.2.1 is that of host other"
    world.controller.refuse["put_host"] = line
    wait_for(lambda: world.sync._refusal, "the refusal")
    with pytest.raises(Refusal, match=f"the controller refused host host: {line}"):
        world.grant()
    beats = world.controller.calls.count("put_host")
    del world.controller.refuse["put_host"]
    wait_for(lambda: world.controller.calls.count("put_host") > beats, "the next try")
    wait_for(lambda: world.sync._refusal is None, "the host to be accepted")
    assert world.grant()


def test_what_happened_while_the_controller_refused_the_host(world: World) -> None:
    """Else a container that went meanwhile stays a provider for ever: nobody tells of it again."""
    world.add("a", world.grant()).result(10)
    world.add("b", world.grant()).result(10)
    world.controller.refuse["put_host"] = "tunnelAddress 192.0.2.1 is that of host other"
    wait_for(lambda: world.sync._refusal, "the refusal")
    with pytest.raises(Refused, match="the controller refused host host"):
        world.drop("a").result(10)
    del world.controller.refuse["put_host"]
    wait_for(lambda: list(world.controller.endpoints) == ["b" * 64], "it to be told")
