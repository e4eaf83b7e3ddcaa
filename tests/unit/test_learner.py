"""Hosts that are learned: few a port, and many in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from ryu_apps import learner
from ryu_apps.learner import Learner, Told, ignored_lines
from ryu_apps.learning import REQUEST, Arp, Learn
from tests.kit.docs import network_doc
from tests.unit.modelkit import Door
from topology.errors import Unavailable
from topology.model import Endpoint
from topology.observed import Port, Switch
from topology.seen import Seen

PER_PORT = 5


class World:
    """A learner on a model with one network."""

    def __init__(self) -> None:
        self.door = Door()
        self.door.commands.put_network(network_doc("default", "web", "10.1.0.0/16"))
        self.switch = Switch(7, {name: Port(name, n, "02:00:00:00:99:0" + name[1], True) for n, name in
                                 enumerate(("p1", "p2"), 1)})  # fmt: skip
        self.learned: list[Endpoint] = []
        self.commits = 0
        self.away = False
        self.learner = Learner(
            self.door.model, self.store, lambda told, endpoint: self.learned.append(endpoint), PER_PORT
        )

    def store(self, seen: Sequence[Seen]) -> list[Endpoint | None]:
        self.commits += 1
        if self.away:
            raise Unavailable("gone")
        return self.door.commands.learn_all(seen)

    def hear(self, number: int, port: str = "p1", mac: int | None = None) -> None:
        network = self.door.model.networks["default:web"]
        reconciler: Any = SimpleNamespace(switch=self.switch)
        own = f"02:00:00:00:{(mac or number) >> 8:02x}:{(mac or number) & 255:02x}"
        address = IPv4Address("10.1.0.0") + number
        arp = Arp(REQUEST, own, address, IPv4Address("10.1.0.1"))
        self.learner.note(Told(reconciler, Learn(network, port), 1, arp, b""))


def test_many_in_one_commit() -> None:
    """Each host of a fabric that starts would be a commit, and each commit a change of all switches."""
    world = World()
    before = world.door.model.revision
    for number in range(2, 2 + PER_PORT):
        world.hear(number, "p1")
        world.hear(number + 100, "p2")
        world.hear(number, "p1")  # it asks again meanwhile
    world.learner.store_some()
    assert (world.commits, len(world.learned)) == (1, 2 * PER_PORT)
    assert world.door.model.revision == before + 1
    assert {(e.switch, e.port_name) for e in world.learned} == {(7, "p1"), (7, "p2")}


def test_no_more_than_so_many_a_port() -> None:
    """One port could fill the store, and none of the others' hosts be found."""
    world = World()
    for number in range(2, 500):
        world.hear(number)
    world.learner.store_some()
    assert len(world.learned) == PER_PORT
    for number in range(500, 600):
        world.hear(number)
    world.learner.store_some()
    assert len(world.learned) == PER_PORT
    assert world.switch.ignored_hosts["p1"] == 498 - PER_PORT + 100
    (line,) = ignored_lines(world.switch.ignored_hosts, PER_PORT).values()
    assert line == "5 hosts are learned there, the most (--learned-per-port): 593 packets of others were ignored"
    world.hear(601, "p2")
    world.hear(602, "p1", mac=2)  # one that is known, by another address
    world.learner.store_some()
    assert len(world.door.model.endpoints) == PER_PORT + 1


def test_a_store_that_is_away() -> None:
    """The thread would end, and nobody be learned until the next start."""
    world = World()
    world.away = True
    world.hear(2)
    world.learner.store_some()
    world.away = False
    world.hear(2)
    world.learner.store_some()
    assert [e.addresses for e in world.learned] == [(IPv4Address("10.1.0.2"),)]


def test_what_can_not_be_is_counted() -> None:
    """One claim that can't be would keep all others of its moment from being stored."""
    world = World()
    world.hear(2)
    world.hear(3, mac=0x0102)
    world.hear(4, "p2", mac=0x0102)  # the same MAC, at once, at another port
    world.learner.store_some()
    assert len(world.learned) >= 2


def test_no_more_than_so_many_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One switch could claim as many ports as it likes, and fill the store by them."""
    monkeypatch.setattr(learner, "PER_SWITCH", 7)
    world = World()
    for number in range(2, 2 + PER_PORT):
        world.hear(number, "p1")
    world.learner.store_some()
    for number in range(102, 102 + PER_PORT):
        world.hear(number, "p2")
    world.learner.store_some()
    assert len(world.learned) == 7
    assert ignored_lines(world.switch.ignored_hosts, PER_PORT) == {
        "learned hosts": "7 are learned at its ports, the most: 3 packets of others were ignored"
    }
    world.hear(2, "p1")  # one that is known
    world.learner.store_some()
    assert world.switch.ignored_hosts == {"": 3}
