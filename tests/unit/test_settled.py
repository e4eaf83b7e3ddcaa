"""`settled` is never said of a change that a switch has not carried out yet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from ryu_apps.fabric import Fabric
from ryu_apps.framework import hub
from ryu_apps.openflow.session import Session
from ryu_apps.switches import Switches
from ryu_apps.view import SwitchesView
from tests.kit.docs import host_doc, replace
from tests.kit.fakesession import FakeSession
from tests.unit.modelkit import APP, WEB1, Door, furnished
from topology.model import Commit
from topology.observed import Port
from topology.paths import End, link

DPID = 1
DEADLINE = 10.0


@dataclass
class Place:
    """A write door with one switch connected to it."""

    door: Door
    switches: Switches
    session: FakeSession

    def said(self) -> bool:
        """What REST says of the switch."""
        return bool(SwitchesView(self.door.model, self.switches).switches()[0]["settled"])

    def groups_wanted(self) -> set[int]:
        """The groups of all service ports that the model has."""
        return {port.number << 8 for s in self.door.model.services.values() for port in s.ports}


@pytest.fixture
def place() -> Iterator[Place]:
    """A switch with one provider, settled."""
    door = furnished()
    door.commands.put_host(host_doc("h", DPID))
    door.commands.put_endpoint(replace(WEB1, host="h", port_name="p1"))
    switches, session = Switches(door.model), FakeSession()
    # what REST shows of a switch, beside what a reconciler uses of a session
    vars(session).update(flow_mods=0, group_mods=0, connected=True)
    door.commands.subscribe(switches.committed)
    made = Place(door, switches, session)
    port = Port("p1", 1, "02:00:00:00:00:99", up=True)
    reconciler = switches.connect(cast(Session, cast(Any, session)), DPID, [port])
    thread = hub.spawn(reconciler.run)
    wait_for(made.said)
    yield made
    reconciler.close()
    thread.wait()


def wait_for(condition: Any) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        hub.sleep(0.002)


def test_a_commit_made_while_another_is_told(place: Place) -> None:
    """Whoever gets a 200 would send to a service that the switch does not have yet."""
    said: list[tuple[bool, bool, bool]] = []

    def writes_and_lets_others_run(commit: Commit) -> None:
        if len(said):
            return
        place.door.commands.put_service(replace(APP, name="second"))
        revision = place.door.model.revision
        assert revision == commit.revision + 1
        for _ in range(20):  # the switch's thread has its turn, and carries out what it was told of
            hub.sleep(0)
        has_it = place.groups_wanted() <= set(place.session.groups)
        said.append((has_it, place.said(), place.switches.reconcilers[DPID].settled_revision >= revision))

    place.door.commands.subscribe(writes_and_lets_others_run)
    place.door.commands.put_service(replace(APP, name="first"))

    assert said == [(False, False, False)]
    assert place.switches.settle(place.door.model.revision)
    assert place.groups_wanted() <= set(place.session.groups)
    assert place.said()


def test_paths_that_are_about_to_change(place: Place) -> None:
    """A test, or a user, that waits for the switches would look at the flows of the old paths."""
    observed = place.switches.observed
    fabric = Fabric(place.door.model, observed, place.switches.reconcilers, place.switches.progress)
    fabric.become([link(End(DPID, 1), End(2, 1))])
    assert not place.said()

    thread = hub.spawn(fabric.run)
    wait_for(place.said)
    assert observed.paths.peers
    hub.kill(thread)


def test_a_host_that_moves(place: Place) -> None:
    """Nobody sends to it until all switches know: what is said meanwhile is not the end of it."""
    observed = place.switches.observed
    fabric = Fabric(place.door.model, observed, place.switches.reconcilers, place.switches.progress)
    place.switches.on_move = fabric.moved
    put = place.door.commands.put_endpoint
    put(replace(WEB1, id="m1", labels={}, switch=DPID, port_name="p1"))
    put(replace(WEB1, id="m1", labels={}, switch=2, port_name="p1"))
    reconciler = place.switches.reconcilers[DPID]
    wait_for(lambda: reconciler.carried_out == reconciler.marks)
    assert observed.moving
    assert not place.said()

    thread = hub.spawn(fabric.run)
    wait_for(place.said)
    assert not observed.moving
    hub.kill(thread)
