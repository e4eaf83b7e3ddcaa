"""Groups that nobody wants any more: a switch keeps each a while longer.

Open vSwitch chooses a bucket in two passes: the first hashes the packet, the second asks the group. Its datapath goes on
with the first pass as it was cached until that has been revalidated, some milliseconds after a change. Were the group
gone by then, the second pass would find nothing and drop the packet. A flow of ours for each cached first pass is no
way out: the second pass goes straight to the group, whatever the flows say by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

# One look at all that is cached takes half a second as a rule; Open vSwitch caches less where it takes more than two.
KEPT_FOR = 3.0  # s


class Retired:
    """Which groups of one switch wait for their deletion."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}  # by id; the first is due first

    def put(self, numbers: Iterable[int]) -> None:
        """From now on nothing in the switch refers to these."""
        due = self._clock() + KEPT_FOR
        for number in numbers:
            self._due.pop(number, None)
            self._due[number] = due

    def take(self) -> frozenset[int]:
        """Those that have been kept long enough, and are no longer waited for; some may be wanted again."""
        now = self._clock()
        out = []
        for number, due in self._due.items():
            if due > now:
                break
            out.append(number)
        for number in out:
            del self._due[number]
        return frozenset(out)

    def next_due(self) -> float | None:
        """When `take` has something to give (by the clock); None: never."""
        return next(iter(self._due.values()), None)
