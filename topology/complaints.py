"""Log lines about peers, limited in rate: a bad peer must not fill the log.

Each peer gets `BURST` lines, then one every `REFILL` seconds, which says how many were left out. Only the latest `MOST`
peers are remembered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from topology.rate import Bucket

BURST = 10
REFILL = 30.0  # s
MOST = 4096
MOST_TOGETHER, REFILL_TOGETHER = 500, 0.5  # the same for all peers together: one peer may use many names


@dataclass(slots=True)
class _Lines:
    """Lines that may be said, and how many were not."""

    bucket: Bucket
    dropped: int = 0


class Complaints:
    """Writes lines about peers to a logger."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: OrderedDict[str, _Lines] = OrderedDict()
        self._together = _Lines(Bucket(MOST_TOGETHER, 1 / REFILL_TOGETHER, clock()))

    def say(self, level: int, whom: str, text: str) -> None:
        """One line about ``whom``, unless there were too many lately. From any thread."""
        with self._lock:
            left_out = self._take(whom)
        if left_out is not None:
            self._log.log(level, "%s: %s%s", whom, text, left_out)

    def _take(self, whom: str) -> str | None:
        """What to add to a line; None: no line now."""
        now = self._clock()
        lines = self._lines.get(whom)
        if lines is None:
            lines = self._lines[whom] = _Lines(Bucket(BURST, 1 / REFILL, now))
        self._lines.move_to_end(whom)
        if len(self._lines) > MOST:
            self._lines.popitem(last=False)
        if not lines.bucket.take(now):
            lines.dropped += 1
            return None
        if not self._together.bucket.take(now):
            self._together.dropped += 1
            return None
        return self._left_out(lines)

    def _left_out(self, lines: _Lines) -> str:
        out = f" ({lines.dropped} lines about it were left out)" if lines.dropped else ""
        if self._together.dropped:
            out += f" ({self._together.dropped} lines about several peers were left out)"
        lines.dropped = self._together.dropped = 0
        return out
