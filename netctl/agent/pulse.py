"""Which threads of the agent hang: each says when it will be heard of again at the latest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LIMIT = 120.0  # s that one round of a thread may take: with thousands of ports and a slow switch it takes long


class Pulse:
    """The promises of all threads. For any thread; a promise is that of the thread that makes it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def within(self, seconds: float = LIMIT) -> None:
        """This thread is at work, and calls again, or rests, within so many seconds."""
        with self._lock:
            self._until[threading.current_thread().name] = self._clock() + seconds

    def rest(self) -> None:
        """This thread waits for something to happen: no promise."""
        with self._lock:
            self._until.pop(threading.current_thread().name, None)

    def late(self) -> list[str]:
        """The threads that have not kept their promises."""
        now = self._clock()
        with self._lock:
            return sorted(name for name, until in self._until.items() if until < now)
