"""Places for stores, of each kind: what the tests of all stores are run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from topology.store import Store


class Place:
    """A place that several may open; what was opened is closed at the end."""

    def __init__(self, make: Callable[..., Store]) -> None:
        self._make = make
        self._opened: list[Store] = []

    def open(self, **options: Any) -> Store:
        """The store that is there."""
        store = self._make(**options)
        self._opened.append(store)
        return store

    def close(self) -> None:
        """Close all that was opened."""
        for store in self._opened:
            store.close()
