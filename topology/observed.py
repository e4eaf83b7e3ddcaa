"""What the switches say of themselves: their ports. Never stored; empty again after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


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
    """One switch, known by its datapath id while it is connected."""

    dpid: int
    ports: dict[str, Port] = field(default_factory=dict)
    version: tuple[int, ...] = ()  # of Open vSwitch; empty where it does not say
    broken_packets: int = 0  # packets to the controller that were not what their flow sends
    forged_packets: int = 0  # ARP of a sender that claims what is not its own

    def knows_sctp(self, datapath_type: str) -> bool:
        """Whether its conntrack knows SCTP's ports. ``datapath_type`` as its host says; "" where nobody does."""
        return datapath_type == KERNEL or self.version >= SCTP_SINCE

    def port_number(self, name: str) -> int | None:
        """OpenFlow number of the port called ``name``; None while the switch does not have it."""
        port = self.ports.get(name)
        return None if port is None else port.number

    def port_name(self, number: int) -> str | None:
        """Name of port ``number``; None where there is none."""
        return next((p.name for p in self.ports.values() if p.number == number), None)

    def has_link(self, name: str) -> bool:
        """Whether the port called ``name`` is there and up."""
        port = self.ports.get(name)
        return port is not None and port.up


class Observed:
    """The connected switches."""

    def __init__(self) -> None:
        self.switches: dict[int, Switch] = {}

    def connect(self, dpid: int, ports: Iterable[Port], version: tuple[int, ...] = ()) -> Switch:
        """A switch came (again), with these ports."""
        switch = Switch(dpid, {p.name: p for p in ports}, version)
        self.switches[dpid] = switch
        return switch

    def disconnect(self, dpid: int) -> None:
        """A switch went."""
        self.switches.pop(dpid, None)

    def put_port(self, dpid: int, port: Port) -> set[str]:
        """A port came or changed; the names whose place is different now."""
        ports = self.switches[dpid].ports
        before = ports.get(port.name)
        # a number taken over by another name: the old name is gone
        moved = {p.name for p in ports.values() if p.number == port.number and p.name != port.name}
        for name in moved:
            del ports[name]
        ports[port.name] = port
        changed = before is None or before.number != port.number
        return moved | ({port.name} if changed else set())

    def drop_port(self, dpid: int, name: str) -> set[str]:
        """A port went; the names whose place is different now."""
        return {name} if self.switches[dpid].ports.pop(name, None) is not None else set()
