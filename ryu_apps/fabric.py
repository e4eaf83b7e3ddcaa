"""The fabric's switches go over to new paths, all of them, without a packet that goes round in a circle meanwhile.

Links come and go, the paths follow. Not all switches can change at once: first each gives up what the old paths and the
new ones do not have in common; when all have, each takes the rest of the new ones. A link that goes down is passed over
by the switch itself before anything of this happens, where there is another next hop. Likewise a host that moves: first
no switch sends to where it was, then all send to where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ryu_apps.framework import Progress, hub
from ryu_apps.pipeline.dependents import DEPENDENTS
from ryu_apps.reconciler import Reconciler
from topology.observed import Observed
from topology.paths import Link, Paths, common, grows
from topology.snapshot import Model

PATIENCE = 2.0  # seconds that all switches wait for the slowest one


class Fabric:
    """Makes the observed paths those of the observed links. `run` is for a greenthread of its own."""

    def __init__(
        self,
        model: Model,
        observed: Observed,
        reconcilers: Mapping[int, Reconciler],
        progress: Progress | None = None,
    ) -> None:
        """``progress``: of the reconcilers."""
        self._progress = progress or Progress()
        self._model = model
        self._observed = observed
        self._reconcilers = reconcilers
        self._links: Collection[Link] = ()
        self._moved: set[str] = set()
        self._wake = hub.Event()

    def become(self, links: Collection[Link]) -> None:
        """These are the links now."""
        self._links = links
        self._observed.rerouting = True  # from now on, not from when our thread has its turn
        self._wake.set()

    def run(self) -> None:
        """Until it is killed."""
        while True:
            self._wake.wait()
            self._wake.clear()
            self.settle_moves()
            self.adopt(_paths(self._links))

    def adopt(self, target: Paths) -> None:
        """Go over to these paths."""
        self._observed.rerouting = True
        if not grows(self._observed.paths, target):
            self._use(common(self._observed.paths, target))
            self.wait()
        self._use(target)
        self._observed.rerouting = False

    def moved(self, endpoints: Iterable[str]) -> None:
        """These are at another switch than before, and the observed `moving`: nobody sends there until all know."""
        self._moved.update(endpoints)
        self._wake.set()

    def settle_moves(self) -> None:
        """All switches have given up the old place: now they take the new one."""
        moved, self._moved = self._moved, set()
        if not moved:
            return
        self.wait()
        self._observed.moving -= moved
        found = self._model.endpoints
        owners = DEPENDENTS.of_moves(self._model, [found[key] for key in moved if key in found])
        for reconciler in self._reconcilers.values():
            reconciler.mark(owners)

    def wait(self) -> None:
        """Until all that are connected have carried out what they were told; one that waits itself has not begun."""
        marks = {reconciler: reconciler.marks for reconciler in self._reconcilers.values()}

        def carried_out() -> bool:
            connected = set(self._reconcilers.values())
            return all(r.carried_out >= mark or r.waits for r, mark in marks.items() if r in connected)

        self._progress.wait_for(carried_out, PATIENCE)

    def _use(self, new: Paths) -> None:
        old, self._observed.paths = self._observed.paths, new
        for dpid, reconciler in self._reconcilers.items():
            if owners := DEPENDENTS.of_paths(self._model, dpid, old, new):
                reconciler.mark(owners)


def _paths(links: Collection[Link]) -> Paths:
    if not links:
        return Paths()
    from topology.graph import paths  # it loads networkx: a fifth of a start, and only fabrics need it

    return paths(links)
