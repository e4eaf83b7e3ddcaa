"""What a change costs does not depend on how many services there are.

Counted in lines of Python that are run, from the command to the switch: time would say more of the machine. What goes
through a set or a dictionary runs no line; but it hashes what it goes through, and hashing is a line here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import pytest

from ryu_apps.drain import Drains
from ryu_apps.openflow.session import Session
from ryu_apps.pipeline.context import Translation
from ryu_apps.pipeline.dependents import DEPENDENTS
from ryu_apps.reconciler import Reconciler
from tests.kit.controller import ROOT
from tests.kit.docs import endpoint_doc, host_doc, network_doc, service_doc
from tests.kit.fakesession import FakeSession
from topology.commands import Commands
from topology.documents import ServiceDoc
from topology.observed import Observed, Port
from topology.reach import TUNNEL_PORT
from topology.reports import EndpointDoc
from topology.snapshot import Model
from topology.sqlite_store import SqliteStore

OURS = (*(str(ROOT / package) for package in ("ryu_apps", "topology")), __file__)
DPID = 7
FEW, MANY = 20, 320
PROVIDERS = 4  # of tier 0: of the service that changes; those of all others are one of another tier


def service(number: int, tier: int, target: int = 80) -> ServiceDoc:
    """A service over a tier."""
    vip = f"100.0.{number >> 8}.{number & 255}"
    ports = [f"8080:{target}:TCP", "53:53:UDP"]
    return service_doc("default", f"s{number}", "srv", vip, [f"tier={tier}"], ports, ip_address6=f"fd00::{number:x}")


def endpoint(number: int, tier: int, **more: Any) -> EndpointDoc:
    """A container here."""
    where = {"switch": DPID, "port_name": f"p{number}", "labels": {"tier": str(tier)}}
    return endpoint_doc(f"w{number}", "default", "web", [f"10.1.0.{number}", f"fd01::{number:x}"], **where | more)


class Lines:
    """Counts those of our own code from `start` on until `stop`: others' may be of what is just being tidied up."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: FrameType, event: str, _what: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        self.count += event == "line"
        return self._trace

    def start(self) -> None:
        sys.settrace(self._trace)

    @staticmethod
    def stop() -> None:
        sys.settrace(None)


def cost(services: int, *changes: Callable[[Commands], object]) -> int:
    """The lines that the last of the changes takes, in a model of so many services whose switch is filled."""
    model = Model()
    store = SqliteStore(":memory:")
    commands = Commands(model, store, lambda: 1000.0)
    commands.put_network(network_doc("default", "srv", "100.0.0.0/16", subnet6="fd00::/64"))
    commands.put_network(
        network_doc("default", "web", "10.1.0.0/16", "10.1.255.254", subnet6="fd01::/64", gateway6="fd01::ff")
    )
    for number in range(1, PROVIDERS + 2):
        commands.put_endpoint(endpoint(number, tier=0 if number <= PROVIDERS else 1))
    for number in range(1, services + 1):
        commands.put_service(service(number, tier=0 if number == 1 else 1))
    for change in changes[:-1]:
        change(commands)

    observed, session, lines = Observed(), FakeSession(), Lines()
    names = [*(f"p{number}" for number in range(1, PROVIDERS + 3)), TUNNEL_PORT]
    switch = observed.connect(DPID, [Port(name, n, "02:00:00:00:00:99", up=True) for n, name in enumerate(names, 1)])
    reconciler = Reconciler(cast(Session, session), switch, model, lambda: 1000.0, observed=observed)
    commands.subscribe(lambda commit: reconciler.mark(DEPENDENTS.of_changes(model, commit.changes), commit.revision))
    commands.subscribe(Drains(commands, lambda: 1000.0, lambda: 1000.0).committed)

    def begin() -> None:
        lines.start()
        changes[-1](commands)

    def end() -> None:
        lines.stop()
        reconciler.close()

    # in the thread that writes to the switch: the first once it is filled, the second once it has been given the change
    reconciler.ask(begin)
    reconciler.ask(end)
    try:
        reconciler.run()
    finally:
        lines.stop()
        store.close()
    assert reconciler.settled_revision == model.revision
    assert len(session.bundles) > 1, "the change is one of the switch"
    return lines.count


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([lambda c: c.put_service(service(1, 0, target=81))], id="another port of a service"),
        pytest.param([lambda c: c.put_service(service(1, 2))], id="other providers of a service"),
        pytest.param([lambda c: c.put_service(service(1000, 0))], id="a service comes"),
        pytest.param([lambda c: c.delete_service("default:s1")], id="a service goes"),
        pytest.param([lambda c: c.put_endpoint(endpoint(PROVIDERS + 2, 0))], id="a container starts"),
        pytest.param([lambda c: c.put_endpoint(endpoint(1, 0, health="unhealthy"))], id="a container fails"),
        pytest.param([lambda c: c.put_endpoint(endpoint(1, 0, state="draining"))], id="a container drains"),
        pytest.param([lambda c: c.delete_endpoint("w1")], id="a container goes"),
        pytest.param([lambda c: c.put_endpoint(endpoint(1, 0, no_way_back="no rule"))], id="a way back is lost"),
        pytest.param(
            [
                lambda c: c.put_endpoint(endpoint(1, 0, container_id="c")),
                lambda c: c.put_endpoint(endpoint(PROVIDERS + 2, 0, container_id="c", primary=True)),
            ],
            id="a container is connected to another network",
        ),
        pytest.param(
            [
                lambda c: c.put_host(host_doc("h", DPID, "192.0.2.1")),
                lambda c: c.put_host(host_doc("far", 8, "192.0.2.2")),
            ],
            id="a host comes",
        ),
    ],
)
def test_it_is_the_same_with_few_and_with_many(
    changes: list[Callable[[Commands], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails: the more services there are, the longer takes each change, until nothing is carried out in time."""

    def hashed(self: Translation) -> int:
        return tuple.__hash__(self)

    monkeypatch.setattr(Translation, "__hash__", hashed)
    cost(FEW, *changes)  # what is remembered by functions is no less for the first of the two than for the second
    few, many = (cost(services, *changes) for services in (FEW, MANY))
    assert few > 1000, "it is counted"
    assert many == few
