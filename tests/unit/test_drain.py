"""When the drain time of an endpoint is over."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ryu_apps.drain import Drains
from tests.kit.docs import endpoint_doc, host_doc, replace
from tests.unit.modelkit import APP, WEB1, Clock, Door, furnished
from topology.store import StoreUnavailable

APP_KEY = "default:app"
DRAINING = replace(WEB1, state="draining")


@dataclass
class Watched:
    """A model with its deadlines, and a clock that both go by."""

    door: Door = field(default_factory=furnished)
    monotonic: Clock = field(default_factory=lambda: Clock(50.0))

    def __post_init__(self) -> None:
        self.start()
        self.door.commands.put_service(replace(APP, drain=10))
        self.door.commands.put_endpoint(WEB1)

    def start(self) -> None:
        """A controller that has just started."""
        self.drains = Drains(self.door.commands, self.monotonic, self.door.clock)
        self.door.commands.subscribe(self.drains.committed)

    def after(self, seconds: float) -> float | None:
        """Let time pass; how long there is nothing more to do."""
        self.monotonic.now += seconds
        self.door.clock.now += seconds
        return self.drains.step()

    @property
    def drained(self) -> tuple[str, ...]:
        return self.door.model.endpoints["web1"].drained


def test_the_drain_time_is_over() -> None:
    """Else connections to a provider that is being stopped last for ever, or end before their time."""
    watched = Watched()
    assert watched.after(0) is None
    watched.door.commands.put_endpoint(DRAINING)
    assert watched.after(0) == 10
    assert watched.after(9.5) == 0.5
    assert not watched.drained
    assert watched.after(0.5) is None
    assert watched.drained == (APP_KEY,)
    revision = watched.door.model.revision
    watched.door.commands.put_endpoint(replace(DRAINING, container_name="new"))
    assert watched.after(100) is None
    assert watched.door.model.revision == revision + 1


def test_no_time_at_all() -> None:
    """Else `--drain-timeout 0` is not what it says."""
    watched = Watched()
    watched.door.commands.put_service(replace(APP, drain=0))
    watched.door.commands.put_endpoint(DRAINING)
    watched.after(0)
    assert watched.drained == (APP_KEY,)


def test_a_controller_that_starts_meanwhile() -> None:
    """Else a restart of the controller starts the drain time again."""
    watched = Watched()
    watched.door.commands.put_endpoint(DRAINING)
    watched.after(7)
    watched.door = watched.door.reopened()
    watched.start()
    assert watched.after(0) == 3
    watched.after(3)
    assert watched.drained == (APP_KEY,)


def test_a_provider_that_goes_on() -> None:
    """Else it loses connections that it has every right to, or a second stop is cut short by the first."""
    watched = Watched()
    watched.door.commands.put_endpoint(DRAINING)
    watched.after(5)
    watched.door.commands.put_endpoint(WEB1)
    watched.after(2)
    watched.door.commands.put_endpoint(DRAINING)
    watched.after(4)
    assert not watched.drained
    watched.after(6)
    assert watched.drained == (APP_KEY,)
    watched.door.commands.delete_endpoint("web1")
    assert watched.after(1) is None


def test_a_service_that_changes_meanwhile() -> None:
    """Else a new drain time counts only for the next stop."""
    watched = Watched()
    watched.door.commands.put_endpoint(DRAINING)
    watched.after(5)
    watched.door.commands.put_service(replace(APP, drain=20))
    watched.after(6)
    assert not watched.drained
    watched.door.commands.put_service(replace(APP, drain=3))
    watched.after(0)
    assert watched.drained == (APP_KEY,)


def test_a_service_that_comes_or_goes_meanwhile() -> None:
    """Else a service that is created now keeps connections to who is leaving."""
    watched = Watched()
    watched.door.commands.delete_service(APP_KEY)
    watched.door.commands.put_endpoint(DRAINING)
    assert watched.after(5) is None
    watched.door.commands.put_service(replace(APP, name="other", drain=6))
    watched.after(1)
    assert watched.drained == ("default:other",)
    watched.door.commands.put_service(replace(APP, drain=60))
    assert watched.after(0) == 54
    watched.door.commands.delete_service(APP_KEY)
    watched.after(100)
    assert watched.drained == ("default:other",)


def test_the_clock_is_set_back() -> None:
    """Else a connection is kept for as long as the clock was wrong."""
    watched = Watched()
    watched.door.commands.put_endpoint(DRAINING)
    watched.door.clock.now -= 3600
    watched.start()
    assert watched.after(0) == 10


def test_many_leave_at_once() -> None:
    """Else some are forgotten when a whole host is emptied."""
    watched = Watched()
    for number in range(100):
        spec = endpoint_doc(f"e{number}", "default", "web", labels=WEB1['labels'])
        watched.door.commands.put_endpoint(spec)
        watched.door.commands.put_endpoint(replace(spec, state="draining"))
    watched.after(10)
    endpoints = watched.door.model.endpoints.values()
    assert sum(e.drained == (APP_KEY,) for e in endpoints) == 100


@dataclass
class Emptied(Watched):
    """A provider on a host that is being emptied; its service has UDP as well."""

    def __post_init__(self) -> None:
        super().__post_init__()
        commands = self.door.commands
        commands.put_host(host_doc("h1", 7))
        commands.put_service(replace(APP, drain=10, ports=["80:8080:TCP", "53:53:UDP"]))
        commands.put_endpoint(replace(WEB1, host="h1"))
        commands.drain_host("h1", True)

    @property
    def keeps(self) -> dict[str, bool]:
        """Whether it may keep what it has, by protocol."""
        model = self.door.model
        one, service = model.endpoints["web1"], model.services[APP_KEY]
        return {protocol: model.keeps(one, service, protocol) for protocol in ("TCP", "UDP")}


def test_a_host_drains() -> None:
    """UDP clients would stay on a host that is to be emptied, or be cut at once; TCP connections would be cut there."""
    watched = Emptied()
    assert watched.after(0) == 10
    assert watched.keeps == {"TCP": True, "UDP": True}
    watched.after(7)
    watched.door.commands.put_endpoint(replace(WEB1, host="h1", container_name="told again"))
    watched.door = watched.door.reopened()
    watched.start()
    assert watched.after(0) == 3
    watched.after(3)
    assert watched.drained == (APP_KEY,)
    assert watched.keeps == {"TCP": True, "UDP": False}
    watched.door.commands.put_endpoint(replace(WEB1, host="h1", container_name="once more"))
    assert watched.after(100) is None
    assert watched.drained == (APP_KEY,)


def test_a_host_that_is_taken_back() -> None:
    """Its providers would lose their UDP clients whenever they are asked, or their connections at their own stop."""
    watched = Emptied()
    watched.after(10)
    watched.door.commands.drain_host("h1", False)
    assert not watched.drained
    assert watched.keeps == {"TCP": True, "UDP": True}
    watched.door.commands.drain_host("h1", True)
    assert watched.after(0) == 10
    watched.door.commands.drain_host("h1", False)
    assert watched.after(20) is None
    assert not watched.drained


def test_a_container_that_stops_on_a_host_that_drains() -> None:
    """Its TCP connections would be cut at once, as the host's drain time is over already."""
    watched = Emptied()
    watched.after(10)
    watched.door.commands.put_endpoint(replace(DRAINING, host="h1"))
    assert watched.after(0) == 10
    assert watched.keeps == {"TCP": True, "UDP": True}
    watched.after(10)
    assert watched.keeps == {"TCP": False, "UDP": False}
    watched.door.commands.put_endpoint(replace(WEB1, host="h1"))
    watched.after(0)
    assert watched.keeps == {"TCP": True, "UDP": False}


def test_a_host_without_udp_ends_nothing() -> None:
    """A host that drains would cost a write for each provider of each service, for nothing."""
    watched = Emptied()
    watched.door.commands.put_service(replace(APP, drain=10))
    watched.door.commands.drain_host("h1", False)
    watched.after(100)
    watched.door.commands.drain_host("h1", True)
    assert watched.after(0) is None


def test_a_store_that_can_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller would end when a drain time ends while etcd is away; or the connections never."""
    watched = Watched()
    watched.door.commands.put_endpoint(DRAINING)

    def unavailable(*_: object) -> int:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(watched.door.store, "commit", unavailable)
        assert watched.after(10) == 1
        assert watched.after(1) == 1
    assert watched.after(1) is None
    assert watched.drained == (APP_KEY,)
