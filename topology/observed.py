"""What the switches say of themselves and of each other: ports, links. Never stored; empty again after a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from topology.paths import End, Link, Paths, link

MISSED = 3  # frames in a row that have not come: the link is gone


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a switch. ``number`` is OpenFlow's; ``up``: neither link nor administration is down."""

    name: str
    number: int
    mac: str
    up: bool


SCTP_SINCE = (3, 3)  # Open vSwitch; what its userspace conntrack knows of SCTP's ports. A kernel's knows them anyway
SCTP_NEEDS = "Open vSwitch 3.3 or a kernel's datapath does"
KERNEL = "system"


@dataclass(slots=True)
class Switch:
    """One switch, known by its datapath id while it is connected. Its ports change by `put` and `drop` alone.

    What a port's event, or a packet, costs does not depend on how many ports it claims.
    """

    dpid: int
    ports: dict[str, Port] = field(default_factory=dict)
    version: tuple[int, ...] = ()  # of Open vSwitch; empty where it does not say
    broken_packets: int = 0  # packets to the controller that were not what their flow sends
    forged_packets: int = 0  # ARP of a sender that claims what is not its own
    ignored_hosts: Counter[str] = field(default_factory=Counter)  # ARP of too many hosts, by port
    numbers: dict[str, int] = field(init=False, repr=False, compare=False)  # OpenFlow's, by name
    _names: dict[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.numbers = {port.name: port.number for port in self.ports.values()}
        self._names = {number: name for name, number in self.numbers.items()}

    def put(self, port: Port) -> set[str]:
        """A port came or changed. A number taken over by another name: the old name is gone, and is returned."""
        before, holder = self.ports.get(port.name), self._names.get(port.number)
        moved = {holder} if holder is not None and holder != port.name else set()
        for name in moved:
            del self.ports[name], self.numbers[name]
        if before is not None and before.number != port.number:
            self._names.pop(before.number, None)
        self.ports[port.name], self.numbers[port.name] = port, port.number
        self._names[port.number] = port.name
        return moved

    def drop(self, name: str) -> Port | None:
        """A port went; None: it was not there."""
        gone = self.ports.pop(name, None)
        if gone is not None:
            del self.numbers[name]
            if self._names.get(gone.number) == name:
                del self._names[gone.number]
        return gone

    def knows_sctp(self, datapath_type: str) -> bool:
        """Whether its conntrack knows SCTP's ports. ``datapath_type`` as its host says; "" where nobody does."""
        return datapath_type == KERNEL or self.version >= SCTP_SINCE

    def port_number(self, name: str) -> int | None:
        """OpenFlow number of the port called ``name``; None while the switch does not have it."""
        return self.numbers.get(name)

    def port_name(self, number: int) -> str | None:
        """Name of port ``number``; None where there is none."""
        return self._names.get(number)

    def has_link(self, name: str) -> bool:
        """Whether the port called ``name`` is there and up."""
        port = self.ports.get(name)
        return port is not None and port.up


class Heard:
    """Which ports hear which, by the frames that are sent out of each. No clock: what counts is what was sent since."""

    def __init__(self) -> None:
        self._from: dict[End, End] = {}  # a port → the one that it hears
        self._to: dict[End, End] = {}
        self._missed: dict[End, int] = {}  # sent by a port that is heard, since it was heard last
        self.changes = 0  # counted, so that nobody looks through all links for nothing

    def sent(self, end: End) -> None:
        """One more frame out of a port; what was heard of it before, and not for `MISSED` frames, is no more."""
        if end in self._to:
            self._missed[end] += 1
            if self._missed[end] > MISSED:
                self.drop(end)

    def heard(self, sender: End, receiver: End) -> bool:
        """A frame came; whether that is news."""
        news = self._from.get(receiver) != sender or self._to.get(sender) != receiver
        if news:
            # a port has one at its other end: what it, or the sender, was joined to, it is no more
            for end in (receiver, sender):
                if any(peer not in (None, receiver, sender) for peer in (self._from.get(end), self._to.get(end))):
                    self.drop(end)
            self._from[receiver], self._to[sender] = sender, receiver
            self.changes += 1
        self._missed[sender] = 0
        return news

    def drop(self, end: End) -> None:
        """Nothing goes in or out of a port now."""
        for sender in (end, self._from.get(end)):
            if sender is not None and (receiver := self._to.pop(sender, None)) is not None:
                del self._from[receiver], self._missed[sender]
                self.changes += 1

    def joined(self, end: End) -> bool:
        """Whether there is a switch at the port's other end, heard in either direction."""
        return end in self._from or end in self._to

    def links(self) -> frozenset[Link]:
        """Heard both ways."""
        return frozenset(link(a, b) for a, b in self._to.items() if self._to.get(b) == a)

    def ends(self, switch: int) -> list[End]:
        """The ports of a switch that are joined."""
        return sorted(end for end in {*self._from, *self._to} if end.switch == switch)


class Observed:
    """The connected switches, and the paths between them. ``dead``: names of hosts that are not there now.
    ``moving``: ids of endpoints that are at another switch than before, which not all switches know yet.
    """

    def __init__(self) -> None:
        self.switches: dict[int, Switch] = {}
        self.dead: frozenset[str] = frozenset()
        self.moving: frozenset[str] = frozenset()
        self.heard = Heard()
        self.paths = Paths()
        self.rerouting = False  # the paths are not yet those of the links

    def connect(self, dpid: int, ports: Iterable[Port], version: tuple[int, ...] = ()) -> Switch:
        """A switch came (again), with these ports."""
        switch = Switch(dpid, {p.name: p for p in ports}, version)
        self.switches[dpid] = switch
        up = {p.number for p in switch.ports.values() if p.up}
        for end in self.heard.ends(dpid):
            if end.port not in up:
                self.heard.drop(end)
        return switch

    def disconnect(self, dpid: int) -> None:
        """A switch went."""
        self.switches.pop(dpid, None)

    def put_port(self, dpid: int, port: Port) -> set[str]:
        """A port came or changed; the names whose place is different now."""
        switch = self.switches[dpid]
        before = switch.ports.get(port.name)
        moved = switch.put(port)
        changed = before is None or before.number != port.number
        if changed or not port.up:
            self.heard.drop(End(dpid, port.number))
            if before is not None:
                self.heard.drop(End(dpid, before.number))
        return moved | ({port.name} if changed else set())

    def drop_port(self, dpid: int, name: str) -> set[str]:
        """A port went; the names whose place is different now."""
        gone = self.switches[dpid].drop(name)
        if gone is None:
            return set()
        self.heard.drop(End(dpid, gone.number))
        return {name}
