"""What a store of the model must do: `topology.sqlite_store` for one controller, `topology.etcd_store` for several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from topology.errors import Conflict, NetctlError, Unavailable
from topology.model import Change, Commit, Object


class StaleRevision(Conflict):
    """Somebody else has written since the revision that the writer knew."""


class StoreUnusable(NetctlError):
    """What is at the store's place can't be used: another program's file, a newer version's, damaged."""


class StoreUnavailable(Unavailable):
    """The store can't be read or written at the moment: disk full, locked."""


class Store(Protocol):
    """Objects by (kind, key), a few values beside them (meta), and a log of the latest commits."""

    def load(self) -> tuple[int, list[Object], dict[str, Any]]:
        """Everything: the revision, all objects, all meta values."""

    def commit(self, expected: int, changes: Sequence[Change], meta: Mapping[str, Any]) -> int:
        """Write all of it or nothing; returns the new revision, ``expected + 1``.

        ``meta`` holds only the values to set; None removes one. Raises StaleRevision when the store's
        revision is not ``expected``.
        """

    def changes_since(self, revision: int) -> list[Commit] | None:
        """The commits after a revision, in order; None: it is too old (compacted), or lies in the future."""

    def close(self) -> None:
        """Let go of files and connections."""


class SharedStore(Store, Protocol):
    """A store that others write to as well."""

    def watch(self, silence: float) -> Iterator[int]:
        """Yields once it watches (0), then each revision as it is made; ends when nothing comes for so many seconds."""
