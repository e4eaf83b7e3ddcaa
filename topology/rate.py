"""How often something may happen: a bucket of tokens that fills up again."""

from __future__ import annotations


class Bucket:
    """Holds up to ``most`` tokens, and gets ``per_second`` anew. ``now`` is in seconds, of a clock that nobody sets."""

    def __init__(self, most: float, per_second: float, now: float) -> None:
        self._most = most
        self._per_second = per_second
        self._left = most
        self._at = now

    def take(self, now: float, count: int = 1) -> bool:
        """Take so many tokens, if they are there; all that there are, where the bucket can't hold so many."""
        count = min(count, int(self._most))
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True
