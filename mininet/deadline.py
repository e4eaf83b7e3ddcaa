"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP = 0.05  # seconds between two looks


class TooLate(Exception):
    """What was waited for has not come; ``str(error)`` is one line."""


def wait_for(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Until ``condition`` holds; raises TooLate, naming ``what``, after ``timeout`` seconds."""
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            raise TooLate(f"waited {timeout:g} s for {what}")
        time.sleep(STEP)
