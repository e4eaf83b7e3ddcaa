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
from typing import TypeVar

from ryu_apps.framework import hub
from ryu_apps.learning import Arp, Learn
from ryu_apps.reconciler import Reconciler
from topology.errors import NetctlError
from topology.model import Endpoint
from topology.seen import Seen
from topology.snapshot import Model

T = TypeVar("T")
LOG = logging.getLogger(__name__)

INTERVAL = 0.1  # s between two commits; the first one is made at once
AT_ONCE = 256  # hosts in one commit
MOST_WAITING = 1024  # hosts; the others' next ARP tells of them again
PER_SWITCH = 4096  # hosts: a switch can claim as many ports as it likes
ALL_PORTS = ""  # in the counts of what is ignored: that of the switch's own limit


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
        self._claimed: dict[tuple[int, str], Counter[str]] = {}  # of those: how often each MAC, by port
        self._waiting_at: Counter[int] = Counter()  # of those: how many, by switch
        self._wake = hub.Event()

    def note(self, told: Told) -> None:
        """A host was seen."""
        key = told.found.network.key, told.arp.sender, told.arp.sender_mac
        if key in self._waiting or len(self._waiting) >= MOST_WAITING:
            return
        full = self._full(told)
        if full is not None:
            switch = told.reconciler.switch
            if full not in switch.ignored_hosts:
                where, most = (f"port {full}", self._per_port) if full else ("all ports", PER_SWITCH)
                LOG.warning("switch %016x: %s: %d hosts are learned there, no more are", switch.dpid, where, most)
            switch.ignored_hosts[full] += 1
            return
        self._waiting[key] = told
        self._claimed.setdefault(told.place, Counter())[told.arp.sender_mac] += 1
        self._waiting_at[told.place[0]] += 1
        self._wake.set()

    def _full(self, told: Told) -> str | None:
        """What is at its limit: a port's name, or `ALL_PORTS`; None: there is room, or the host is known there."""
        there = {e.mac for e in self._model.endpoints_at(*told.place) if e.origin == "learned"}
        there |= self._claimed.get(told.place, {}).keys()
        if told.arp.sender_mac in there:
            return None
        if len(there) >= self._per_port:
            return told.found.port_name
        dpid = told.place[0]
        return ALL_PORTS if self._model.learned_on(dpid) + self._waiting_at[dpid] >= PER_SWITCH else None

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
        for key, told in some.items():
            del self._waiting[key]
            _less(self._waiting_at, told.place[0])
            _less(self._claimed[told.place], told.arp.sender_mac)
            if not self._claimed[told.place]:
                del self._claimed[told.place]
        for told, endpoint in zip(some.values(), stored, strict=False):
            if endpoint is None:
                told.reconciler.switch.forged_packets += 1
            else:
                self._learned(told, endpoint)


def _less(counts: Counter[T], what: T) -> None:
    counts[what] -= 1
    if not counts[what]:
        del counts[what]


def ignored_lines(ignored: Counter[str], per_port: int) -> dict[str, str]:
    """What a user is told of ports that claim too many hosts."""
    lines = {
        f"port {name}": f"{per_port} hosts are learned there, the most (--learned-per-port): {count} packets of others"
        " were ignored"
        for name, count in ignored.items()
        if name != ALL_PORTS
    }
    if count := ignored[ALL_PORTS]:
        text = f"{PER_SWITCH} are learned at its ports, the most: {count} packets of others were ignored"
        lines["learned hosts"] = text
    return lines
