"""Where a host that nobody knows may be: the edge ports of all switches without an agent, asked at so many a second.

One switch may claim thousands of ports, and each question for an unknown host goes out of all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ryu_apps.learning import unclaimed_ports
from topology.observed import Observed
from topology.paths import End
from topology.rate import Bucket
from topology.snapshot import Model

PORTS, PORTS_PER_SECOND = 200_000, 50_000  # that are asked at; a question beyond it is not sent, and asked again


class Edges:
    """Lists them, within the rate."""

    def __init__(self, model: Model, observed: Observed, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._observed = observed
        self._clock = clock
        self._rate = Bucket(PORTS, PORTS_PER_SECOND, clock())

    def all(self) -> list[End]:
        """All of them, in order; none where too many have been asked at just now."""
        alone = [s for s in self._observed.switches.values() if self._model.by_switch(s.dpid) is None]
        if not self._rate.take(self._clock(), sum(len(switch.ports) for switch in alone)):
            return []
        return sorted(end for switch in alone for end in unclaimed_ports(self._model, self._observed, switch))
