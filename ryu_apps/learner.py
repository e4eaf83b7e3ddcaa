"""Hosts that were seen on the wire → the model: so many a port, and those of a moment in one commit.

Anybody can put any sender into ARP. A port that claims many hosts is its own misfortune: what exceeds its limit is
counted and not stored, and what is stored costs the others one commit in a while.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from ryu_apps.framework import hub
from ryu_apps.learning import Arp, Learn
from ryu_apps.reconciler import Reconciler
from topology.errors import NetctlError
from topology.model import Endpoint
from topology.snapshot import Model
from topology.specs import Seen

LOG = logging.getLogger(__name__)

INTERVAL = 0.1  # s between two commits; the first one is made at once
AT_ONCE = 256  # hosts in one commit
MOST_WAITING = 1024  # hosts; the others' next ARP tells of them again


@dataclass(frozen=True, slots=True)
class Told:
    """A host to be learned, and the frame that told of it."""

    reconciler: Reconciler
    found: Learn
    in_port: int
    arp: Arp
    frame: bytes

    @property
    def place(self) -> tuple[int, str]:
        """The port where it is."""
        return self.reconciler.switch.dpid, self.found.port_name

    @property
    def seen(self) -> Seen:
        """As the model is told of it."""
        network, switch = self.found.network, self.reconciler.switch
        port = switch.ports.get(self.found.port_name)
        return Seen(
            network.key,
            self.arp.sender_mac,
            self.arp.sender,
            switch.dpid,
            self.found.port_name,
            "" if port is None else port.mac,
            self.found.instead_of,
        )


class Learner:
    """Takes what is told at once, and stores it. `run` is for a greenthread of its own."""

    def __init__(
        self,
        model: Model,
        store: Callable[[Sequence[Seen]], list[Endpoint | None]],
        learned: Callable[[Told, Endpoint], None],
        per_port: int,
    ) -> None:
        """``learned`` is called for each host that is stored."""
        self._model = model
        self._store = store
        self._learned = learned
        self._per_port = per_port
        self._waiting: dict[tuple[str, IPv4Address, str], Told] = {}  # by network, address and MAC
        self._wake = hub.Event()

    def note(self, told: Told) -> None:
        """A host was seen."""
        key = told.found.network.key, told.arp.sender, told.arp.sender_mac
        if key in self._waiting or len(self._waiting) >= MOST_WAITING:
            return
        if self._is_full(told):
            switch, name = told.reconciler.switch, told.found.port_name
            if name not in switch.ignored_hosts:
                LOG.warning(
                    "switch %016x: port %s: %d hosts are learned there, no more are", switch.dpid, name, self._per_port
                )
            switch.ignored_hosts[name] += 1
            return
        self._waiting[key] = told
        self._wake.set()

    def _is_full(self, told: Told) -> bool:
        there = {e.mac for e in self._model.endpoints_at(*told.place) if e.origin == "learned"}
        there |= {other.arp.sender_mac for other in self._waiting.values() if other.place == told.place}
        return told.arp.sender_mac not in there and len(there) >= self._per_port

    def run(self) -> None:
        """Until it is killed."""
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self.store_some()
                hub.sleep(INTERVAL)

    def store_some(self) -> None:
        """One commit."""
        some = dict(list(self._waiting.items())[:AT_ONCE])
        try:
            stored = self._store([told.seen for told in some.values()])
        except NetctlError as error:
            # the store can't be written, or others were faster: their next ARP tells us again
            LOG.warning("%d hosts are not learned: %s", len(some), error)
            stored = []
        for key in some:
            del self._waiting[key]
        for told, endpoint in zip(some.values(), stored, strict=False):
            if endpoint is None:
                told.reconciler.switch.forged_packets += 1
            else:
                self._learned(told, endpoint)


def ignored_lines(ignored: Counter[str], per_port: int) -> dict[str, str]:
    """What a user is told of ports that claim too many hosts."""
    return {
        f"port {name}": f"{per_port} hosts are learned there, the most (--learned-per-port): {count} packets of others"
        " were ignored"
        for name, count in ignored.items()
    }
