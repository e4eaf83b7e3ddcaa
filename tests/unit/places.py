"""Places for stores, of each kind: what the tests of all stores are run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from topology.store import Store


class Place:
    """A place that several may open; what was opened is closed at the end."""

    def __init__(self, make: Callable[..., Store], **reading: Any) -> None:
        """``reading``: options for one that is only read, beside another."""
        self._make, self._reading = make, reading
        self._opened: list[Store] = []

    def open(self, **options: Any) -> Store:
        """The store that is there."""
        store = self._make(**options)
        self._opened.append(store)
        return store

    def read(self) -> Store:
        """The same, to read it while another has it."""
        return self.open(**self._reading)

    def close(self) -> None:
        """Close all that was opened."""
        for store in self._opened:
            store.close()
