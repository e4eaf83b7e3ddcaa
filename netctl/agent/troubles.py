"""What is wrong on this host, for its users to know; `netctl host inspect` shows it."""

from __future__ import annotations

import logging
import threading

LOG = logging.getLogger(__name__)


class Troubles:
    """A line each, by what it is about; each part of the agent has its own. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_part: dict[str, dict[str, str]] = {}

    def say(self, part: str, lines: dict[str, str]) -> bool:
        """All that a part of the agent finds wrong now. Returns whether that is news; it is in the log then."""
        with self._lock:
            before, self._by_part[part] = self._by_part.get(part, {}), lines
        for about, line in lines.items():
            if before.get(about) != line:
                LOG.warning("%s: %s", about, line)
        for about in before.keys() - lines.keys():
            LOG.info("%s: well again", about)
        return before != lines

    def lines(self) -> dict[str, str]:
        """All of them."""
        with self._lock:
            return {about: line for lines in self._by_part.values() for about, line in lines.items()}
