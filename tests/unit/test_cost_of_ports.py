"""What one port's event costs does not depend on how many ports the switch claims, links it has, and hosts are learned.

Counted in lines of Python that are run, as in `test_cost_of_change`.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from ryu_apps import learning
from ryu_apps.learner import MOST_WAITING, Learner, Told
from ryu_apps.links import Links, frame
from ryu_apps.openflow.session import Session
from ryu_apps.reconciler import Reconciler
from ryu_apps.switches import Switches
from tests.kit.docs import endpoint_doc, network_doc
from tests.kit.fakesession import FakeSession
from tests.unit.modelkit import Door
from tests.unit.test_cost_of_change import Lines
from topology.observed import Port, Switch
from topology.paths import End

DPID = 7
FEW, MANY = 16, 2048


def port(number: int, *, up: bool = True) -> Port:
    return Port(f"p{number}", number, "02:00:00:00:00:99", up)


class World:
    """A switch without an agent: so many ports, with a host learned at each, half of them joined in pairs."""

    def __init__(self, ports: int, learned: int = FEW) -> None:
        door = self.door = Door()
        door.commands.put_network(network_doc("default", "web", "10.1.0.0/16", "10.1.255.254"))
        for number in range(1, learned + 1):
            where = {"switch": DPID, "port_name": f"p{number}", "origin": "learned"}
            addresses = [f"10.1.{number >> 8}.{number & 255}"]
            door.commands.put_endpoint(endpoint_doc(f"e{number}", "default", "web", addresses, **where))
        self.switches = Switches(door.model)
        session = cast(Session, FakeSession())
        self.reconciler: Reconciler = self.switches.connect(session, DPID, [port(n) for n in range(1, ports + 1)])
        self.links = Links(self.switches.observed, lambda dpid, message: None, lambda dpid: True, lambda links: None)
        for number in range(ports // 2 + 1, ports, 2):
            self.hear(number, number + 1)
            self.hear(number + 1, number)
        self.links.look()

    @property
    def switch(self) -> Switch:
        return self.switches.observed.switches[DPID]

    def hear(self, sender: int, receiver: int) -> None:
        """A frame of ours comes in again."""
        self.links.heard(DPID, receiver, frame(End(DPID, sender), self.links._key))

    def event(self, changed: Port, *, gone: bool = False) -> None:
        """As the controller takes it."""
        learning.replaced(self.door.model, DPID, [changed])
        self.switches.port_changed(DPID, changed, gone=gone)
        self.links.port_changed(DPID, changed, gone=gone)


EVENTS: dict[str, Callable[[World], object]] = {
    "a port goes down": lambda w: w.event(port(1, up=False)),
    "a port comes": lambda w: w.event(port(60_000)),
    "a port goes": lambda w: w.event(port(1), gone=True),
    "a port has another's number": lambda w: w.event(Port("other", 2, "", True)),
    "a link is heard again": lambda w: w.hear(FEW // 2 + 1, FEW // 2 + 2),
    "a packet comes": lambda w: w.switch.port_name(3),
    "a change is compiled": lambda w: w.reconciler.context(),
}


def cost(world: World, event: Callable[[World], object]) -> int:
    """In lines; the first time that something is done is not counted."""
    lines = Lines()
    lines.start()
    try:
        event(world)
    finally:
        lines.stop()
    return lines.count


@pytest.mark.parametrize("what", EVENTS)
def test_an_event_costs_the_same_with_few_and_many_ports(what: str) -> None:
    """One switch that claims many ports, and flaps them, would keep the controller from all others."""
    joined = what == "a link is heard again"
    few = World(FEW, learned=1)
    many = World(MANY, learned=1)
    if joined:  # the same two ports, in both
        for world in (few, many):
            world.hear(FEW // 2 + 1, FEW // 2 + 2)
            world.hear(FEW // 2 + 2, FEW // 2 + 1)
    cost(World(FEW, learned=1), EVENTS[what])
    assert cost(many, EVENTS[what]) == cost(few, EVENTS[what])


@pytest.mark.parametrize("what", ["a port goes down", "a port comes", "a port goes"])
def test_an_event_costs_the_same_with_few_and_many_hosts(what: str) -> None:
    """The same, of a switch behind whose ports many hosts are."""
    cost(World(FEW), EVENTS[what])
    assert cost(World(FEW, learned=400), EVENTS[what]) == cost(World(FEW), EVENTS[what])


def test_a_host_that_is_told_of_costs_the_same_while_few_and_many_wait() -> None:
    """A flood of forged ARP would make each packet of it cost more than the one before."""
    door = Door()
    door.commands.put_network(network_doc("default", "web", "10.1.0.0/16"))
    switch = Switch(DPID, {f"p{n}": port(n) for n in range(1, MANY + 1)})
    reconciler: Any = type("Of", (), {"switch": switch})
    learner = Learner(door.model, door.commands.learn_all, lambda told, endpoint: None, 5)
    counts = []

    def told(number: int) -> Told:
        arp = learning.Arp(
            learning.REQUEST, f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", IPv4Address("10.1.0.2") + number,
            IPv4Address("10.1.0.1"),
        )  # fmt: skip
        return Told(reconciler, learning.Learn(door.model.networks["default:web"], f"p{number}"), number, arp, b"")

    for number in range(1, MOST_WAITING + 1):
        one, lines = told(number), Lines()
        lines.start()
        learner.note(one)
        lines.stop()
        counts.append(lines.count)
    assert counts[-1] == counts[1]
