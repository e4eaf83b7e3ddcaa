"""The connected switches: each with its ports and the reconciler that writes to it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from ryu_apps.flush import Entries
from ryu_apps.framework import Progress
from ryu_apps.missed import LOOK_BACK, missed
from ryu_apps.openflow.complaints import COMPLAINTS
from ryu_apps.openflow.failures import Disconnected
from ryu_apps.openflow.session import Session
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.dependents import DEPENDENTS
from ryu_apps.reconciler import Reconciler
from topology.model import Change, Commit, Endpoint
from topology.observed import Observed, Port
from topology.snapshot import Model
from topology.store import StoreUnavailable

LOG = logging.getLogger(__name__)

SETTLE_TIMEOUT = 3.0  # seconds that an answer waits for the switches; they go on after it
# seconds that a switch is left as it is while links that it has used are being found again: after the controller's
# start until all others may have connected (Open vSwitch tries every 8 s at the least), later as long as frames take
START_PATIENCE, PATIENCE = 10.0, 1.0
DOUBLE_SHOWN = 60.0  # seconds that a switch is spoken of after it was refused; it tries again every 8 s at the least


class Switches:
    """Turns what changes (commits, ports) into dirty owners of the switches that it concerns."""

    def __init__(
        self, model: Model, changes_since: Callable[[int], list[Commit] | None] = lambda _: None
    ) -> None:
        """``changes_since``: the commits after a revision; None: they are not known any more."""
        self.observed = Observed()
        self.progress = Progress()
        """Of all reconcilers."""
        self.reconcilers: dict[int, Reconciler] = {}
        self.generation = 0
        """That of us as the leader of several controllers; 0: there are no others."""
        self.learned_per_port = 0
        """How many hosts may be learned at a port."""
        self.awaited: set[int] = set()
        """Switches that are about to be ours: as good as connected, but not settled."""
        self._model = model
        self._changes_since = changes_since
        self._began_with = model.revision
        self._carried_out: dict[int, int] = {}  # datapath id → the last revision that it had when it disconnected
        self._started = time.monotonic()
        self._doubles: dict[int, tuple[float, str]] = {}  # datapath id → when another with it came last, from where
        self.on_move: Callable[[set[str]], None] = self._moved

    def lead(self, generation: int) -> None:
        """We are the leader of several controllers from now on: what is there has to be found anew."""
        self.generation = generation
        self._began_with = self._model.revision
        self._carried_out.clear()
        self._started = time.monotonic()

    @property
    def early(self) -> bool:
        """Whether switches that are there may not have connected yet since we began."""
        return time.monotonic() < self._started + START_PATIENCE

    def connect(
        self, session: Session, dpid: int, ports: Iterable[Port], version: tuple[int, ...] = ()
    ) -> Reconciler:
        """A switch is there with its ports; run what this returns in a thread of its own."""
        if (old := self.reconcilers.get(dpid)) is not None:
            old.close()
        self._has_come(dpid)
        before = self._unlinked(dpid)
        switch = self.observed.connect(dpid, ports, version)
        self._mark_elsewhere(dpid, [*before, *self._unlinked(dpid)])
        patient_until = max(self._started + START_PATIENCE, time.monotonic() + PATIENCE)
        reconciler = Reconciler(
            session,
            switch,
            self._model,
            time.monotonic,
            generation=self.generation,
            observed=self.observed,
            patient_until=patient_until,
            awaited=self.awaited,
            missed=partial(self._missed, self._carried_out.get(dpid, self._began_with)),
            progress=self.progress,
        )
        self.reconcilers[dpid] = reconciler
        return reconciler

    def _has_come(self, dpid: int) -> None:
        """A switch that was awaited is there with its ports, or has gone."""
        self.awaited.discard(dpid)
        for reconciler in self.reconcilers.values() if not self.awaited else ():
            reconciler.mark(())
        self.progress.made()

    def _missed(self, carried_out: int, seen: Context) -> Iterable[Entries]:
        """The connections that ended since a switch carried out that revision."""
        try:
            commits = self._changes_since(max(0, carried_out - LOOK_BACK)) or self._changes_since(carried_out) or ()
        except StoreUnavailable as error:
            LOG.warning("switch %016x: connections that ended while it was away are not flushed: %s", seen.dpid, error)
            commits = ()
        return missed(self._model, commits, seen)

    def refuse_double(self, dpid: int, address: str) -> None:
        """Another switch with the datapath id of a connected one is not let in; said once in a while, and in REST."""
        now = time.monotonic()
        self._doubles = {d: found for d, found in self._doubles.items() if now - found[0] <= DOUBLE_SHOWN}
        if dpid not in self._doubles:
            text = f"a second switch, at {address}, has the same datapath id: it is not let in"
            COMPLAINTS.say(logging.ERROR, f"switch {dpid:016x}", text)
        self._doubles[dpid] = (now, address)

    def double(self, dpid: int) -> str:
        """The address of another switch with the datapath id of a connected one, which was refused lately; "": none."""
        at, address = self._doubles.get(dpid, (0.0, ""))
        return address if time.monotonic() - at <= DOUBLE_SHOWN else ""

    def settled(self, reconciler: Reconciler) -> bool:
        """Whether a switch carries out the model, and all that is observed."""
        seen = self.observed
        carried_out = reconciler.carried_out >= reconciler.marks and not seen.rerouting and not seen.moving
        return carried_out and reconciler.settled_revision >= self._model.revision

    def disconnect(self, dpid: int, session: Session) -> None:
        """That connection of the switch ended; a newer one of the same switch goes on."""
        self._has_come(dpid)
        reconciler = self.reconcilers.get(dpid)
        if reconciler is not None and reconciler.session is session:
            reconciler.close()
            del self.reconcilers[dpid]
            if reconciler.settled_revision >= 0:
                self._carried_out[dpid] = reconciler.settled_revision
            self.progress.made()  # nobody waits for it
            before = self._unlinked(dpid)
            self.observed.disconnect(dpid)
            self._mark_elsewhere(dpid, before)

    def committed(self, commit: Commit) -> None:
        """The model changed."""
        moved = {change.key for change in commit.changes if _moves(change)}
        if moved:
            self.observed.moving |= moved
            self.on_move(moved)
        owners = DEPENDENTS.of_changes(self._model, commit.changes)
        for reconciler in self.reconcilers.values():
            reconciler.mark(owners, commit.revision)

    def port_changed(self, dpid: int, port: Port, *, gone: bool) -> None:
        """A port of a connected switch came, changed or went."""
        if dpid not in self.reconcilers:
            return
        seen = self.observed
        was_up = seen.switches[dpid].has_link(port.name)
        names = seen.drop_port(dpid, port.name) if gone else seen.put_port(dpid, port)
        owners = DEPENDENTS.of_ports(self._model, names)
        if was_up != seen.switches[dpid].has_link(port.name):
            names = names | {port.name}
        plugged = [e for name in sorted(names) for e in self._model.endpoints_plugged(dpid, name)]
        self.reconcilers[dpid].mark(owners | DEPENDENTS.of_places(self._model, plugged))
        self._mark_elsewhere(dpid, plugged)

    def _unlinked(self, dpid: int) -> list[Endpoint]:
        """The endpoints of a switch that is connected, and has no port of them, or one that is down."""
        switch = self.observed.switches.get(dpid)
        return [] if switch is None else [e for e in self._model.endpoints_on(dpid) if not switch.has_link(e.port_name)]

    def _mark_elsewhere(self, dpid: int, endpoints: Iterable[Endpoint]) -> None:
        """The other switches look at whether these are plugged in and up at their own."""
        owners = DEPENDENTS.of_places(self._model, endpoints)
        for other, reconciler in self.reconcilers.items() if owners else ():
            if other != dpid:
                reconciler.mark(owners)

    def _moved(self, endpoints: set[str]) -> None:
        """Where nobody sees to it that all switches know: as if they did."""
        self.observed.moving -= endpoints

    def send(self, dpid: int, message: bytes) -> None:
        """At once, if the switch is connected; `Reconciler.send_after` is for what follows from the model."""
        reconciler = self.reconcilers.get(dpid)
        if reconciler is not None:
            with contextlib.suppress(Disconnected):
                reconciler.session.send_plain(message)

    def set_dead(self, hosts: frozenset[str]) -> None:
        """These hosts are not there now, and no others: nobody is sent to their providers."""
        changed = hosts ^ self.observed.dead
        self.observed.dead = hosts
        endpoints = (e for host in changed for e in self._model.endpoints_of_host(host))
        owners = DEPENDENTS.of_places(self._model, endpoints)
        for reconciler in self.reconcilers.values() if owners else ():
            reconciler.mark(owners)

    def settle(self, revision: int) -> bool:
        """Wait until every connected switch carries out the model as of ``revision``; at most SETTLE_TIMEOUT."""

        def settled() -> bool:
            return not self.awaited and all(r.settled_revision >= revision for r in self.reconcilers.values())

        if self.progress.wait_for(settled, SETTLE_TIMEOUT):
            return True
        LOG.warning("revision %d is stored, but not yet in every switch", revision)
        return False

def _moves(change: Change) -> bool:
    """Whether an endpoint without an agent is at another switch than before."""
    before, after = change.before, change.after
    if not isinstance(before, Endpoint) or not isinstance(after, Endpoint):
        return False
    return bool(before.switch and after.switch) and before.switch != after.switch
