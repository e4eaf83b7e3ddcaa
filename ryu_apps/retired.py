"""Groups that a service needs no more: another of its groups stands in for each, for a while.

Open vSwitch chooses a bucket in two passes: the first hashes the packet, the second asks the group. Each is cached by
itself until the datapath has been revalidated, some milliseconds after a change. A cached first pass goes straight to
its group, whatever the flows say by then: if the group were gone, the packet would be dropped. A cached second pass of
a group that is gone drops packets, and is there until nothing has used it for ten seconds: if the group came back
sooner, connections would be dropped until the second pass had been revalidated. So the group stays until none of this
is cached. Its buckets are those of a group that is wanted, so that it sends nobody to a provider that has left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace

from ryu_apps.diff import Changes, Wanted
from ryu_apps.openflow.codec import EncodedGroup
from ryu_apps.pipeline.features.select import stand_ins

# Longer than the ten seconds after which Open vSwitch forgets what nothing uses (max-idle), and looking at all of it.
KEPT_FOR = 15.0  # s


class Retired:
    """Which groups of one switch wait for their deletion."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}  # by id; the first is due first

    def concerned(self, numbers: Iterable[int]) -> set[int]:
        """Those that one of these groups, about to change, may stand in for."""
        changing = set(numbers) if self._due else set()
        return {number for number in self._due if not changing.isdisjoint(stand_ins(number))}

    def keep(
        self, found: Changes, wanted: Wanted, there: dict[int, EncodedGroup], without: frozenset[Hashable]
    ) -> Changes:
        """``found``, but for the deletions that have to wait: these groups become what stands in for them."""
        delete, modify = [], list(found.modify_groups)
        for number in found.delete_groups:
            instead = _stand_in(number, wanted, without)
            if instead is None or self._due.get(number, self._clock() + KEPT_FOR) <= self._clock():
                delete.append(number)
            elif there[number] != instead:
                modify.append(instead)
        return replace(found, modify_groups=tuple(modify), delete_groups=tuple(delete))

    def done(self, touched: Iterable[int], found: Changes, carried_out: Changes) -> None:
        """The switch has carried out what `keep` has made of ``found``, which compares the groups in ``touched``."""
        kept = set(found.delete_groups).difference(carried_out.delete_groups)
        for number in self._due.keys() & set(touched) - kept:
            del self._due[number]
        due = self._clock() + KEPT_FOR
        for number in sorted(kept):
            self._due.setdefault(number, due)

    def take(self) -> set[int]:
        """Those that have been kept long enough."""
        now = self._clock()
        return {number for number, due in self._due.items() if due <= now}

    def next_due(self) -> float | None:
        """When `take` has something to give (by the clock); None: never."""
        return next(iter(self._due.values()), None)


def _stand_in(number: int, wanted: Wanted, without: frozenset[Hashable]) -> EncodedGroup | None:
    for other in stand_ins(number):
        if (group := wanted.group(other, without)) is not None:
            return group._replace(id=number)
    return None
