"""The heaps of the C library's malloc, of which glibc gives threads many: eight for each processor."""

from __future__ import annotations

import contextlib
import ctypes

MOST = 2
_M_ARENA_MAX = -8  # <malloc.h>


def share() -> None:
    """From now on threads share a few. The plugin has a thread for each connection, and a heap that is left keeps the
    memory of the largest request that was read there.
    """
    with contextlib.suppress(AttributeError):  # another C library: it has no such thing
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST)
