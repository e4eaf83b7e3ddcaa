"""What is said about switches, by level and at most so often: a bad one must not fill the log.

Each switch (or peer that has not said who it is) may be spoken of `BURST` times, and then once in `REFILL` seconds. How
many lines were left out stands in the next one. Only the latest `MOST` switches are remembered.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ryu_apps.openflow.rate import Bucket

BURST = 10
REFILL = 30.0  # s
MOST = 4096
MOST_TOGETHER, REFILL_TOGETHER = 500, 0.5  # the same for all of them together: who always says to be another


@dataclass(slots=True)
class _Lines:
    """Lines that may be said, and how many were not."""

    bucket: Bucket
    dropped: int = 0


class Complaints:
    """Says lines about switches to a logger."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lines: OrderedDict[str, _Lines] = OrderedDict()
        self._together = _Lines(Bucket(MOST_TOGETHER, 1 / REFILL_TOGETHER, clock()))

    def say(self, level: int, whom: str, text: str) -> None:
        """One line about ``whom``, unless there were too many lately."""
        now = self._clock()
        lines = self._lines.get(whom)
        if lines is None:
            lines = self._lines[whom] = _Lines(Bucket(BURST, 1 / REFILL, now))
        self._lines.move_to_end(whom)
        if len(self._lines) > MOST:
            self._lines.popitem(last=False)
        if not lines.bucket.take(now):
            lines.dropped += 1
        elif not self._together.bucket.take(now):
            self._together.dropped += 1
        else:
            self._log.log(level, "%s: %s%s", whom, text, self._left_out(lines))

    def _left_out(self, lines: _Lines) -> str:
        out = f" ({lines.dropped} lines about it were left out)" if lines.dropped else ""
        if self._together.dropped:
            out += f" ({self._together.dropped} lines about several switches were left out)"
        lines.dropped = self._together.dropped = 0
        return out


COMPLAINTS = Complaints(logging.getLogger("ryu_apps.openflow"))
"""The one of this process."""
