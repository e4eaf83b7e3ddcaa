"""Options of services and endpoints at the write door: values, defaults, refusals, and how long they are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.kit.docs import check_doc, endpoint_doc, replace, service_doc
from tests.unit.modelkit import APP, SRV, WEB, WEB1, Door, contents, furnished
from topology import contract, options
from topology.documents import HealthCheckDoc, ServiceDoc
from topology.errors import Invalid, NotFound
from topology.model import Check, Endpoint
from topology.reports import EndpointDoc
from topology.sqlite_store import SqliteStore
from topology.stored import from_json, to_json

CHECKED = replace(APP, check=check_doc("tcp"))
APP_KEY = "default:app"
OPTIONS = {"affinity", "affinity_mode", "drain", "check"}
STATE = {"weight", "passed", "drained", "draining_since"}


def endpoint(door: Door, key: str = "web1") -> Endpoint:
    return door.model.endpoints[key]


def checked() -> Door:
    """Service `app` with a check, and its provider `web1`, which passes it."""
    door = furnished()
    door.commands.put_service(CHECKED)
    door.commands.put_endpoint(WEB1)
    door.commands.set_passed("web1", APP_KEY, True)
    return door


# values


def asked(**more: Any) -> ServiceDoc:
    """The options of a service, checked and filled."""
    return contract.check(ServiceDoc, service_doc(**more))


def checked_as(document: HealthCheckDoc) -> Check:
    """The check that is made of a document."""
    return options.check(asked(check=document)["healthCheck"])


def test_defaults() -> None:
    """A service of Contiv's, which has none of these options, behaves as it always did, and drains."""
    service = furnished().model.services[APP_KEY]
    assert (service.affinity, service.affinity_mode, service.drain, service.check) == (0, "idle", 30, None)


@pytest.mark.parametrize(
    ("spec", "check"),
    [
        (check_doc("tcp"), Check("tcp", "", 5, 2, 2, 3)),
        (check_doc("TCP", interval=2), Check("tcp", "", 2, 1, 2, 3)),
        (check_doc("http"), Check("http", "/", 5, 2, 2, 3)),
        (check_doc("http", "/up?deep=1", 3600, 3599, 1, 100), Check("http", "/up?deep=1", 3600, 3599, 1, 100)),
    ],
)
def test_good_checks(spec: HealthCheckDoc, check: Check) -> None:
    """A check is run as it was asked for; what is left out is sensible."""
    assert checked_as(spec) == check


def weight(value: int) -> int:
    """The weight of an endpoint that asks for it."""
    return contract.check(EndpointDoc, endpoint_doc(weight=value))["weight"]


REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "negative affinity": (
        lambda: asked(affinity=-1),
        "sessionAffinity -1 is out of range: 0 to 65535 seconds",
    ),
    "affinity too long": (lambda: asked(affinity=65_536), "sessionAffinity 65536 is out of range"),
    "unknown mode": (
        lambda: asked(affinity=9, affinity_mode="sticky"), "affinityMode sticky is unknown: right is idle or absolute"
    ),
    "mode of nothing": (
        lambda: options.affinity(0, "absolute"),
        "affinityMode absolute has no effect without sessionAffinity: give its seconds, or leave both out",
    ),
    "negative drain": (lambda: asked(drain=-1), "drainTimeout -1 is out of range: 0 to 3600 seconds"),
    "endless drain": (lambda: asked(drain=3601), "drainTimeout 3601 is out of range: 0 to 3600 seconds"),
    "check of nothing": (lambda: checked_as(check_doc("")), "healthCheck protocol required: tcp or http"),
    "unknown check": (
        lambda: checked_as(check_doc("icmp")), "healthCheck protocol icmp is unknown: right is tcp or http"
    ),
    "path with tcp": (
        lambda: checked_as(check_doc("tcp", "/up")),
        "healthCheck path /up is for http only: leave it out with tcp",
    ),
    "relative path": (
        lambda: checked_as(check_doc("http", "up")),
        "healthCheck path up is invalid: it begins with / and has no spaces, such as /healthz",
    ),
    "path with a header in it": (
        lambda: checked_as(check_doc("http", "/ HTTP/1.0\r\nX: y")), "healthCheck path / HTTP/1.0\\r\\nX: y is"
    ),
    "long path": (lambda: checked_as(check_doc("http", "/" * 256)), "has 256 characters: at most 255"),
    "interval too short": (
        lambda: checked_as(check_doc("tcp", interval=1)),
        "healthCheck interval 1 is out of range: 2 to 3600 seconds",
    ),
    "interval too long": (lambda: checked_as(check_doc("tcp", interval=3601)), "interval 3601"),
    "timeout as the interval": (
        lambda: checked_as(check_doc("tcp", interval=5, timeout=5)),
        "healthCheck timeout 5 is out of range: 1 to 4 seconds, less than the interval of 5",
    ),
    "no timeout": (lambda: checked_as(check_doc("tcp", timeout=0)), "healthCheck timeout 0"),
    "no rise": (lambda: checked_as(check_doc("tcp", rise=0)), "healthCheck rise 0 is out of range: 1 to 100"),
    "slow fall": (lambda: checked_as(check_doc("tcp", fall=101)), "healthCheck fall 101 is out of range: 1 to 100"),
    "no weight": (lambda: weight(0), "weight 0 is out of range: 1 to 100"),
    "all weight": (lambda: weight(101), "weight 101 is out of range: 1 to 100"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    """An option that can't work, or has no effect, is refused in one line that says what would be right."""
    ask, words = REFUSALS[name]
    with pytest.raises(Invalid) as caught:
        ask()
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "spec",
    [
        replace(APP, affinity=-1),
        replace(APP, affinity_mode="idle"),
        replace(APP, drain=9999),
        replace(APP, check=check_doc("icmp")),
    ],
)
def test_a_refused_service_changes_nothing(spec: ServiceDoc) -> None:
    """A wrong option doesn't leave half a service."""
    door = furnished()
    before = door.state()
    for asked in (spec, replace(spec, name="new")):
        with pytest.raises(Invalid):
            door.commands.put_service(asked)
    assert door.state() == before


def test_an_option_left_out_is_the_default_again() -> None:
    """A service becomes exactly what is said, in its options as in its ports; nothing else of it changes."""
    door = furnished()
    plain = door.model.services[APP_KEY]
    full = replace(APP, affinity=60, affinity_mode="absolute", drain=0, check=check_doc("http", "/up"))
    service = door.commands.put_service(full)
    assert service == replace(
        plain, affinity=60, affinity_mode="absolute", drain=0, check=Check("http", "/up", 5, 2, 2, 3)
    )
    assert door.commands.put_service(APP) == plain


# weight


@pytest.mark.parametrize(
    ("label", "weight"),
    [("3", 3), ("100", 100), *((wrong, 1) for wrong in ("0", "101", "-3", "3.5", "", "x", "\u0663", "9" * 99))],
)
def test_weight_by_label(label: str, weight: int) -> None:
    """A container says its share itself; a wrong label costs it nothing but the share."""
    door = furnished()
    labels = {**WEB1['labels'], "netctl.weight": label}
    assert door.commands.put_endpoint(replace(WEB1, labels=labels)).weight == weight


def test_weight_asked_for_goes_before_the_label() -> None:
    """Who registers an endpoint by REST decides."""
    door = furnished()
    spec = replace(WEB1, labels={"netctl.weight": "3"})
    assert door.commands.put_endpoint(replace(spec, weight=7)).weight == 7
    assert door.commands.put_endpoint(spec).weight == 3
    before = door.state()
    with pytest.raises(Invalid, match="weight 0 is out of range: 1 to 100"):
        door.commands.put_endpoint(replace(spec, weight=0))
    assert door.state() == before


# who serves


@pytest.mark.parametrize(
    ("values", "serves", "alive"),
    [
        ({}, True, True),
        ({"state": "created"}, False, False),
        ({"state": "paused"}, False, True),
        ({"state": "draining"}, False, True),
        ({"state": "stopped"}, False, False),
        ({"health": "healthy"}, True, True),
        ({"health": "starting"}, False, True),
        ({"health": "unhealthy"}, False, True),
    ],
)
def test_who_serves(values: dict[str, Any], serves: bool, alive: bool) -> None:
    """New connections go to who runs and is healthy; open ones stay with who is alive."""
    door = furnished()
    one = door.commands.put_endpoint(replace(WEB1, **values))
    assert (one.serves(door.model.services[APP_KEY]), one.alive) == (serves, alive)


def test_a_check_decides_for_its_service_only() -> None:
    """One service's check doesn't take a provider from another service."""
    door = furnished()
    door.commands.put_service(replace(APP, name="other"))
    door.commands.put_service(CHECKED)
    one = door.commands.put_endpoint(WEB1)
    app, other = door.model.services[APP_KEY], door.model.services["default:other"]
    assert (one.serves(app), one.serves(other)) == (False, True)
    one = door.commands.set_passed("web1", APP_KEY, True)
    assert (one.serves(app), one.serves(other)) == (True, True)
    one = door.commands.set_passed("web1", APP_KEY, False)
    assert (one.serves(app), one.serves(other)) == (False, True)


# verdicts of checks


def test_verdicts_are_kept_and_idempotent() -> None:
    """A verdict told twice makes no revision; a provider that is registered again goes on serving."""
    door = checked()
    revision = door.model.revision
    door.commands.set_passed("web1", APP_KEY, True)
    door.commands.put_endpoint(WEB1)
    assert door.model.revision == revision
    assert door.commands.put_endpoint(replace(WEB1, state="paused")).passed == (APP_KEY,)
    assert contents(door.reopened().model) == contents(door.model)


def test_several_verdicts_are_one_transaction() -> None:
    """A provider of many services costs one write, not one each."""
    door = furnished()
    door.commands.put_endpoint(WEB1)
    for name in ("b", "a", "c"):
        door.commands.put_service(replace(CHECKED, name=name))
    revision = door.model.revision
    one = door.commands.set_checks("web1", {"default:b": True, "default:c": False, "default:a": True})
    assert one.passed == ("default:a", "default:b")
    assert door.model.revision == revision + 1
    one = door.commands.set_checks("web1", {"default:b": False, "default:c": True})
    assert one.passed == ("default:a", "default:c")


def test_verdicts_that_count_for_nothing() -> None:
    """A late verdict, about what is no more, is no error and leaves nothing behind."""
    door = checked()
    door.commands.put_service(replace(APP, name="plain"))
    door.commands.put_service(replace(CHECKED, name="elsewhere", selectors=["tier=db"]))
    before = door.state()
    late = {"default:plain": True, "default:elsewhere": True, "default:gone": True, "nonsense": True, "x": False}
    door.commands.set_checks("web1", late)
    assert door.state() == before
    with pytest.raises(NotFound, match="Endpoint none not found"):
        door.commands.set_passed("none", APP_KEY, True)
    door.commands.put_endpoint(replace(WEB1, state="stopped"))
    assert door.commands.set_passed("web1", APP_KEY, True).passed == ()


def recreate(door: Door) -> None:
    door.commands.delete_service(APP_KEY)
    door.commands.put_service(CHECKED)


def change_selectors_and_back(door: Door) -> None:
    door.commands.put_service(replace(CHECKED, selectors=["tier=db"]))
    door.commands.put_service(CHECKED)


def relabel_and_back(door: Door) -> None:
    door.commands.put_endpoint(replace(WEB1, labels={}))
    door.commands.put_endpoint(WEB1)


def stop_and_start(door: Door) -> None:
    door.commands.put_endpoint(replace(WEB1, state="stopped"))
    door.commands.put_endpoint(WEB1)


def move(door: Door) -> None:
    door.commands.put_endpoint(replace(WEB1, addresses=["10.1.1.77"]))


@pytest.mark.parametrize(
    "event", [recreate, change_selectors_and_back, relabel_and_back, stop_and_start, move]
)
def test_nothing_old_comes_back(event: Callable[[Door], None]) -> None:
    """A provider gets connections only after it has passed the check that there is now."""
    door = checked()
    event(door)
    assert endpoint(door).passed == ()
    assert not endpoint(door).serves(door.model.services[APP_KEY])


@pytest.mark.parametrize(
    "terms",
    [
        {"check": check_doc("http", "/up", interval=9), "drain": 5},
        {"check": check_doc("tcp", rise=9, fall=1)},
        {"ports": ["80:8081:TCP"]},
        {"selectors": ["tier=web"]},
        {"ip_address": "100.1.1.9"},
    ],
)
def test_a_changed_check_takes_nobody_out_at_once(terms: dict[str, Any]) -> None:
    """A check whose terms change on a running service doesn't empty the service until it has passed."""
    door = checked()
    door.commands.put_service(replace(CHECKED, **terms))
    assert endpoint(door).passed == (APP_KEY,)


def serves(door: Door, key: str = "web1") -> bool:
    """Whether it may get new connections of the service."""
    return endpoint(door, key).serves(door.model.services[APP_KEY])


def test_a_check_is_turned_on() -> None:
    """The clients of a running service would be refused until its providers have passed: for 5 s, or for ever where
    no agent looks at them.
    """
    door = furnished()
    door.commands.put_endpoint(WEB1)
    door.commands.put_service(CHECKED)
    assert serves(door)
    door.commands.put_endpoint(replace(WEB1, id="late"))
    assert not serves(door, "late"), "who joins later has to pass first"
    door.commands.set_passed("web1", APP_KEY, False)
    assert not serves(door)
    door.commands.put_service(APP)
    door.commands.put_service(CHECKED)
    assert serves(door), "it served while there was no check"
    assert serves(door, "late")
    assert contents(door.reopened().model) == contents(door.model)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"state": "paused"}, True),
        ({"state": "draining"}, True),
        ({"health": "healthy"}, True),
        ({"health": "unhealthy"}, False),
        ({"health": "starting"}, False),
        ({"state": "created"}, False),
        ({"state": "stopped"}, False),
        ({"labels": {"tier": "web"}}, False),
    ],
)
def test_who_is_in_when_a_check_is_turned_on(fields: dict[str, Any], kept: bool) -> None:
    """A provider that is only paused would have to pass anew, or one that never served be in without a check."""
    door = furnished()
    door.commands.put_endpoint(replace(WEB1, **fields))
    door.commands.put_service(replace(CHECKED, selectors=["tier=web"]))
    assert (endpoint(door).passed == (APP_KEY,)) is kept


# draining


def test_draining() -> None:
    """The drain time runs from the first word of the stop, across restarts of agent and controller."""
    door = furnished()
    door.commands.put_endpoint(WEB1)
    assert endpoint(door).draining_since == 0
    draining = replace(WEB1, state="draining")
    began = door.clock.now
    assert door.commands.put_endpoint(draining).draining_since == began
    door.clock.now += 10
    assert door.commands.put_endpoint(replace(draining, labels={**WEB1['labels'], "n": "1"})).draining_since == began
    assert endpoint(door.reopened()).draining_since == began
    assert door.commands.drained("web1", APP_KEY).drained == (APP_KEY,)
    revision = door.model.revision
    door.commands.drained("web1", APP_KEY)
    assert door.model.revision == revision
    one = door.commands.put_endpoint(WEB1)
    assert (one.draining_since, one.drained) == (0, ())


def test_a_drain_time_that_ends_for_nobody() -> None:
    """A timer that fires late is no error and marks nobody."""
    door = furnished()
    door.commands.put_endpoint(WEB1)
    assert door.commands.drained("web1", APP_KEY).drained == ()
    door.commands.put_endpoint(replace(WEB1, state="draining"))
    assert door.commands.drained("web1", "default:gone").drained == ()
    with pytest.raises(NotFound, match="Endpoint none not found"):
        door.commands.drained("none", APP_KEY)


def test_a_service_made_anew_drains_anew() -> None:
    """A service deleted and created again has no providers that it has let go of already."""
    door = furnished()
    door.commands.put_endpoint(replace(WEB1, state="draining"))
    door.commands.drained("web1", APP_KEY)
    door.commands.put_service(replace(APP, ports=["81:81:TCP"]))
    assert endpoint(door).drained == (APP_KEY,), "its other parts may change"
    door.commands.delete_service(APP_KEY)
    assert endpoint(door).drained == ()


# the store


def test_everything_is_stored(tmp_path: Path) -> None:
    """A controller that was killed knows every option, verdict and drain time."""
    path = tmp_path / "netctl.db"
    door = Door(SqliteStore(path))
    door.commands.put_network(SRV)
    door.commands.put_network(WEB)
    door.commands.put_service(replace(CHECKED, affinity=9, affinity_mode="absolute", drain=0))
    door.commands.put_endpoint(replace(WEB1, weight=5))
    door.commands.set_passed("web1", APP_KEY, True)
    door.commands.put_endpoint(replace(WEB1, weight=5, state="draining"))
    door.commands.drained("web1", APP_KEY)
    door.store.close()
    again = Door(SqliteStore(path), door.clock)
    assert contents(again.model) == contents(door.model)
    one = endpoint(again)
    assert (one.weight, one.passed, one.drained, one.draining_since) == (5, (APP_KEY,), (APP_KEY,), door.clock.now)
    again.store.close()


def test_objects_of_an_earlier_version_load() -> None:
    """An upgrade keeps the services and endpoints that there are, with the options' defaults."""
    door = checked()
    for value, added in ((door.model.services[APP_KEY], OPTIONS), (endpoint(door), STATE)):
        stored = to_json(value)
        assert added <= stored.keys()
        assert from_json(value.kind, stored) == value
        old = from_json(value.kind, {k: v for k, v in stored.items() if k not in added})
        defaults: dict[str, Any] = {f.name: f.default for f in fields(value) if f.name in added}
        assert to_json(old) == stored | {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}


def test_a_host_that_moves_keeps_its_weight() -> None:
    """A bare host that is plugged in elsewhere keeps its share."""
    door = furnished()
    mac, address = "02:00:00:00:00:09", "10.1.1.9"
    seen = door.commands.learn("default", "web", mac, address, 7, "p1")
    assert seen is not None
    spec = endpoint_doc(seen.id, "default", "web", switch=7, port_name="p1", weight=4, origin="learned")
    door.commands.put_endpoint(spec)
    moved = door.commands.learn("default", "web", mac, address, 8, "p2")
    assert moved is not None
    assert (moved.switch, moved.weight) == (8, 4)


def test_a_check_without_a_port_to_try() -> None:
    """Else the check of a service of UDP ports alone never passes: it has no provider for ever."""
    door = furnished()
    with pytest.raises(Invalid, match="healthCheck needs a TCP port to try: none of the ports is TCP"):
        door.commands.put_service(replace(CHECKED, ports=["53:53:UDP"]))
    door.commands.put_service(replace(CHECKED, ports=["53:53:UDP", "80:80:TCP"]))
