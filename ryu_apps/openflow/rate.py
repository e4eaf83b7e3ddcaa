"""How often something may happen: a bucket of tokens that fills up again."""

from __future__ import annotations


class Bucket:
    """Holds up to ``most`` tokens, and gets ``per_second`` anew. ``now`` is in seconds, of a clock that nobody sets."""

    def __init__(self, most: float, per_second: float, now: float) -> None:
        self._most = most
        self._per_second = per_second
        self._left = most
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
