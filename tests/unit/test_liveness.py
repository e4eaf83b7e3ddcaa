"""Who is believed dead. If these fail, connections go to hosts that are gone, or a whole cluster is taken for dead."""

from __future__ import annotations

import pytest

from ryu_apps.liveness import PERIOD, SILENCE, STALL, Liveness, Verdicts
from tests.kit.docs import host_doc
from tests.unit.modelkit import Door

SWITCHES = {"h1": 1, "h2": 2, "h3": 3}


class Watch:
    """Three hosts and a clock; ``alive`` beat every 3 s, and the switches of ``connected`` are there."""

    def __init__(self) -> None:
        self.now = 500.0
        self.alive = set(SWITCHES)
        self.connected = set(SWITCHES.values())
        self.silent: set[int] = set()  # of those, switches that do not answer
        self.told: list[frozenset[str]] = []
        door = Door()
        for name, switch in SWITCHES.items():
            door.commands.put_host(host_doc(name, switch))
        self.commands = door.commands
        self.model = door.model
        self.start()

    def start(self) -> None:
        """The controller starts."""
        self.empty: set[int] = set()  # switches that are to be filled
        self.leads = True
        self.live = Liveness(
            self.model,
            lambda: self.connected,
            lambda: self.now,
            lambda dpid: dpid not in self.empty,
            lambda: self.leads,
        )
        self.verdicts = Verdicts(self.commands, self.live, lambda: self.leads)
        self.live.subscribe(self.told.append)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for step in range(round(seconds / PERIOD)):
            self.now += PERIOD
            for host in self.alive if step % 6 == 0 else ():
                self.live.beat(host)
            for dpid in self.connected - self.silent:
                self.live.heard(dpid)
            self.live.step()
            self.verdicts.step()

    def off(self, host: str) -> None:
        """Switch a host off."""
        self.alive.discard(host)
        self.connected.discard(SWITCHES[host])

    def on(self, host: str) -> None:
        """And on."""
        self.alive.add(host)
        self.connected.add(SWITCHES[host])


@pytest.fixture
def watch() -> Watch:
    """All are up."""
    watch = Watch()
    watch.run(20)
    assert not watch.told
    return watch


def test_a_host_that_is_switched_off_is_dead_within_ten_seconds(watch: Watch) -> None:
    """Else connections go on to be sent to providers that are gone. When it is back, so are they."""
    watch.off("h2")
    watch.run(SILENCE - 2 * PERIOD)
    assert not watch.live.dead
    watch.run(2.0)
    assert watch.live.dead == {"h2"}
    watch.on("h2")
    watch.empty = {2}
    watch.run(10)
    assert watch.live.dead == {"h2"}, "its switch came back empty"
    watch.empty = set()
    watch.run(PERIOD)
    assert watch.live.dead == frozenset()
    assert watch.told == [{"h2"}, frozenset()]


def test_a_connection_that_hangs_is_no_life(watch: Watch) -> None:
    """Else a host that lost its power, of which no connection was ended, counts as there for minutes."""
    watch.alive.discard("h2")
    watch.silent.add(2)
    watch.run(SILENCE + 1)
    assert watch.live.dead == {"h2"}


@pytest.mark.parametrize("part", ["agent", "switch"])
def test_a_host_of_which_a_part_lives_is_not_dead(watch: Watch, part: str) -> None:
    """Else the restart of an agent, or of a switch that goes on forwarding, takes its providers away."""
    if part == "agent":
        watch.connected.discard(2)
    else:
        watch.alive.discard("h2")
    watch.run(60)
    assert not watch.told
    life = watch.live.life(watch.model.hosts["h2"])
    assert (life.down, life.switch) == (False, part == "switch")


def test_nobody_is_dead_just_after_the_start() -> None:
    """Else a restart of the controller empties every service, until all hosts have been heard of."""
    watch = Watch()
    watch.off("h1")
    watch.off("h2")
    watch.off("h3")
    watch.run(8)
    watch.on("h1")  # the first that comes
    watch.run(SILENCE - PERIOD)
    assert not watch.told
    watch.on("h3")
    watch.run(2.0)
    assert watch.live.dead == {"h2"}, "it has not come"


def test_who_leads_next_begins_with_what_was_judged(watch: Watch) -> None:
    """Else a failover or restart sends connections to a dead host again, and rewrites every service twice."""
    watch.off("h2")
    watch.run(10)
    assert {h.name for h in watch.model.hosts.values() if h.dead} == {"h2"}
    watch.commands.put_host(host_doc("h2", 2, "192.0.2.2"))  # by somebody else; not from there
    watch.told.clear()
    watch.start()
    assert watch.live.dead == {"h2"}
    watch.run(60)
    assert not watch.told
    watch.on("h2")
    watch.run(2)
    assert watch.told == [frozenset()]
    assert not any(h.dead for h in watch.model.hosts.values())


def test_who_does_not_lead_judges_nobody(watch: Watch) -> None:
    """Else a follower, which hears only a part, takes a host that joins later for dead, and says so when it leads."""
    watch.leads = False
    watch.commands.put_host(host_doc("h4", 4))
    watch.off("h1")
    watch.run(60)
    assert not watch.told
    watch.leads = True
    watch.live.begin()
    watch.run(SILENCE - PERIOD)
    assert watch.told == [frozenset()], "it begins, and waits"
    watch.run(2)
    assert watch.live.dead == {"h1", "h4"}


def test_a_controller_that_is_cut_off_believes_nobody_dead(watch: Watch) -> None:
    """Else the end of the controller's own outage empties every service."""
    watch.off("h1")
    watch.run(10)
    assert watch.live.dead == {"h1"}
    watch.off("h2")
    watch.off("h3")
    watch.run(60)
    assert watch.live.dead == {"h1"}, "who was dead before stays so"
    assert watch.live.down(watch.model.hosts["h2"]), "shown to the user all the same"
    watch.on("h3")
    watch.run(SILENCE - PERIOD)
    assert watch.live.dead == {"h1"}
    watch.run(1.0)
    assert watch.live.dead == {"h1", "h2"}


def test_a_controller_that_stood_still_believes_nobody_dead(watch: Watch) -> None:
    """Else a controller that was busy for some seconds takes the heartbeats that it has not read yet for missing."""
    watch.off("h1")
    watch.run(10)
    watch.connected.clear()  # they connect anew, later
    watch.now += max(STALL, SILENCE) + 1
    watch.live.step()
    assert watch.live.dead == {"h1"}
    watch.run(10)
    assert watch.live.dead == {"h1"}


def test_a_host_that_is_removed_is_forgotten(watch: Watch) -> None:
    """Else one that is registered again under its name begins as dead."""
    watch.off("h1")
    watch.run(10)
    watch.commands.delete_host("h1")
    watch.live.forget("h1")
    watch.run(PERIOD)
    assert watch.live.dead == frozenset()
    watch.commands.put_host(host_doc("h1", 1))
    watch.live.beat("h1")
    watch.run(PERIOD)
    assert not watch.live.down(watch.model.hosts["h1"])
