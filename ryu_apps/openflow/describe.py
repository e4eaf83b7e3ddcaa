"""The ports of a switch that has just connected, out of a reply that comes in several parts.

One message holds 1,023 ports at most. Whoever acts on the first part takes the ports of the others for gone. A port
that changes before the last part is here is taken as of then: its event is held until there is something to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from ryu_apps.openflow.failures import SessionError

P = TypeVar("P")  # what a port is to whoever asks

MOST_PORTS = 1 << 16  # of a host's switch: Open vSwitch numbers its ports with 16 bits
MOST_PORTS_ALONE = 4096  # of one without a host: at each of them links and hosts are looked for
MOST_PARTS = 2048
MOST_EVENTS = 1 << 16  # of ports, between the question and the end of the answer


def too_many(most: int) -> str:
    """A switch has more ports than ``most``, which is the bound for it."""
    why = "" if most == MOST_PORTS else ", the most of a switch that no host has registered as its own"
    return f"it has more than {most} ports{why}"


class PortDescription(Generic[P]):
    """The answer to one question for the ports; replies to another question begin it anew. ``most``: ports."""

    def __init__(self, most: int = MOST_PORTS) -> None:
        self._most = most
        self.complete = False
        self.events: list[tuple[P, bool]] = []
        """What happened to ports since the question, in order: (port, whether it is gone)."""
        self._xid: int | None = None
        self._parts = 0
        self._ports: list[P] = []

    def add(self, xid: int, ports: Sequence[P], *, more: bool) -> list[P] | None:
        """Take one part; all ports once it was the last, None before. Raises SessionError where it has no end."""
        if xid != self._xid:
            self._xid, self._parts, self._ports = xid, 0, []
        self._parts += 1
        self._ports += ports
        if self._parts > MOST_PARTS:
            raise SessionError(
                f"the description of its ports has no end: {self._parts} parts, at most {MOST_PARTS} are taken"
            )
        if len(self._ports) > self._most:
            raise SessionError(too_many(self._most))
        if more:
            return None
        self.complete = True
        return self._ports

    def hold(self, port: P, *, gone: bool) -> None:
        """A port came, changed or went before all are known. Raises SessionError for too many of them."""
        if self.complete:
            return
        self.events.append((port, gone))
        if len(self.events) > MOST_EVENTS:
            raise SessionError(f"{len(self.events)} changes of ports, and no description of them yet")
