"""Several fake switches that are joined, as hosts are by tunnels and the switches of a fabric by links: a packet walks
from one to the next.

The world of `tests.kit.world` on two hosts, with more of the same on the second:

    host a, switch 1: as there                   host b, switch 2: port 11 c2  20.1.1.2  clients
                                                                   port 12 w3  10.1.1.11 web, tier=web
                                                                   port 13 o2  10.1.1.12 web
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from ryu_apps.pipeline.across import arrival
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.dependents import owners
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.walk import Sent, Walk
from tests.kit.fakeswitch import FakeSwitch
from tests.kit.world import PORTS, WEB, endpoint, ip, model_of, objects, with_ipv6
from topology.model import Endpoint, Host, Object
from topology.reach import TUNNEL_PORT
from topology.snapshot import Model

A, B, C = 1, 2, 3
TUNNEL = 99
TUNNELS = {A: ip("192.0.2.1"), B: ip("192.0.2.2"), C: ip("192.0.2.3")}
HOSTS = {A: "a", B: "b", C: "c"}
PORTS_OF = {
    A: {**PORTS, TUNNEL_PORT: TUNNEL},
    B: {**{f"p{n}": n for n in (11, 12, 13)}, TUNNEL_PORT: TUNNEL + 1},
    C: {TUNNEL_PORT: TUNNEL},
}
C2, W3, O2 = ip("20.1.1.2"), ip("10.1.1.11"), ip("10.1.1.12")
_LIMIT = 100  # packets that one may become


@dataclass
class Journey:
    """What became of a packet: what left for good, and where; every switch on its way with its walk there."""

    out: list[tuple[int, Sent]] = field(default_factory=list)
    walks: list[tuple[int, Walk]] = field(default_factory=list)

    @property
    def ends(self) -> list[tuple[int, int]]:
        """Switch and port of all that left."""
        return [(dpid, sent.port) for dpid, sent in self.out]

    @property
    def path(self) -> list[int]:
        """The switches that it has seen."""
        return [dpid for dpid, _ in self.walks]


class Several:
    """Switches loaded with what a model wants on them."""

    def __init__(self, model: Model, contexts: Iterable[Context]) -> None:
        self.model = model
        self.contexts: dict[int, Context] = {}
        self.switches: dict[int, FakeSwitch] = {}
        for context in contexts:
            self.load(context)

    def load(self, context: Context) -> None:
        """A switch gets what is wanted of it, and keeps its connections."""
        programs = [compile_owner(context, owner) for owner in owners(context.model)]
        self.contexts[context.dpid] = context
        switch = self.switches.setdefault(context.dpid, FakeSwitch())
        switch.load([f for p in programs for f in p.flows], [g for p in programs for g in p.groups])

    def send(self, dpid: int, in_port: int, packet: Packet) -> Journey:
        """A packet comes in from a host, and all that follows from it."""
        journey = Journey()
        coming = [(dpid, in_port, packet)]
        while coming:
            dpid, in_port, packet = coming.pop(0)
            walk = self.switches[dpid].send(in_port, packet)
            journey.walks.append((dpid, walk))
            assert len(journey.walks) < _LIMIT, f"a loop: {journey.path}"
            for sent in walk.sent:
                there = arrival(self.contexts[dpid], sent, self.contexts)
                if there is None:
                    journey.out.append((dpid, sent))
                else:
                    coming.append(there)
        return journey


def on_hosts(*, dual: bool = False) -> list[Object]:
    """The world with two hosts that have endpoints, and a third that has none."""
    everything = [*objects(), *beside()]
    if dual:
        everything = [with_ipv6(value) for value in everything]
    placed = [
        replace(value, host=HOSTS[value.switch], switch=0) if isinstance(value, Endpoint) else value
        for value in everything
    ]
    return [*placed, *(host(dpid) for dpid in HOSTS)]


def beside() -> list[Endpoint]:
    """The endpoints at the second switch."""
    return [
        endpoint("c2", "default", "clients", 11, "20.1.1.2", switch=B),
        endpoint("w3", "default", "web", 12, "10.1.1.11", switch=B, labels=WEB),
        endpoint("o2", "default", "web", 13, "10.1.1.12", switch=B),
    ]


def host(dpid: int) -> Host:
    """One of the hosts."""
    return Host(HOSTS[dpid], dpid, IPv4Address(TUNNELS[dpid]), number=dpid)


def joined(
    everything: Iterable[Object] | None = None,
    dead: frozenset[str] = frozenset(),
    ports: Mapping[int, Mapping[str, int]] = PORTS_OF,
) -> Several:
    """The hosts' switches, joined by tunnels."""
    model = model_of(on_hosts() if everything is None else everything)
    return Several(model, (Context(model, dpid, named, dead=dead) for dpid, named in ports.items()))
