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

BURST = 10
REFILL = 30.0  # s
MOST = 4096
MOST_TOGETHER, REFILL_TOGETHER = 500, 0.5  # the same for all of them together: who always says to be another


@dataclass(slots=True)
class _Bucket:
    """Lines that may still be said, as of then, and those that were not."""

    left: float
    at: float
    dropped: int = 0

    def take(self, now: float, most: int, refill: float) -> bool:
        self.left = min(float(most), self.left + (now - self.at) / refill)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class Complaints:
    """Says lines about switches to a logger."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._together = _Bucket(MOST_TOGETHER, clock())

    def say(self, level: int, whom: str, text: str) -> None:
        """One line about ``whom``, unless there were too many lately."""
        now = self._clock()
        bucket = self._buckets.setdefault(whom, _Bucket(BURST, now))
        self._buckets.move_to_end(whom)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        if not bucket.take(now, BURST, REFILL):
            bucket.dropped += 1
        elif not self._together.take(now, MOST_TOGETHER, REFILL_TOGETHER):
            self._together.dropped += 1
        else:
            self._log.log(level, "%s: %s%s", whom, text, self._left_out(bucket))

    def _left_out(self, bucket: _Bucket) -> str:
        out = f" ({bucket.dropped} lines about it were left out)" if bucket.dropped else ""
        if self._together.dropped:
            out += f" ({self._together.dropped} lines about several switches were left out)"
        bucket.dropped = self._together.dropped = 0
        return out


COMPLAINTS = Complaints(logging.getLogger("ryu_apps.openflow"))
"""The one of this process."""
