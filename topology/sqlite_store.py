"""The store as one SQLite file: right for one controller, which holds it for as long as it lives."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from topology import sqlite_schema as schema
from topology.model import Change, Commit, Object
from topology.sqlite_file import StoreFile
from topology.store import StaleRevision, StoreUnavailable, StoreUnusable
from topology.stored import from_json, to_json

KEPT_REVISIONS = 10_000
BUSY_SECONDS = 5.0
MEMORY = ":memory:"


class SqliteStore:
    """Write-ahead log, every commit on disk before it counts. ``:memory:`` as the path: nothing is kept."""

    def __init__(
        self, path: str | os.PathLike[str], kept_revisions: int = KEPT_REVISIONS, *, reading: bool = False
    ) -> None:
        """``reading``: nothing is made, changed or held; a controller may have it meanwhile."""
        self._path = os.fspath(path)
        self._kept = kept_revisions
        kept = self._path != MEMORY and not reading
        self._file = StoreFile(self._path) if kept else None
        try:
            with self._errors():
                self._db = self._connect(reading)
            try:
                with self._errors():
                    self._open(reading)
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            if self._file is not None:
                self._file.close()
            raise

    def load(self) -> tuple[int, list[Object], dict[str, Any]]:
        """Everything: the revision, all objects, all meta values."""
        with self._transaction("BEGIN"):
            objects = []
            for kind, key, data in self._db.execute("SELECT kind, key, data FROM objects"):
                value = self._decode(kind, data, f"{kind} {key}")
                if value.key != key:
                    raise StoreUnusable(f"store {self._path}: {kind} {key} can't be read: it is {value.key}")
                objects.append(value)
            rows = self._db.execute("SELECT name, value FROM meta")
            meta = {name: self._json(value, f"meta value {name}") for name, value in rows}
            return self._revision(), objects, meta

    def commit(self, expected: int, changes: Sequence[Change], meta: Mapping[str, Any]) -> int:
        """Write all of it or nothing; returns the new revision."""
        with self._transaction("BEGIN IMMEDIATE"):
            found = self._revision()
            if found != expected:
                raise StaleRevision(
                    f"the store is at revision {found}, not {expected}: another program has written to it"
                )
            revision = expected + 1
            for position, change in enumerate(changes):
                self._write(revision, position, change)
            for name, value in meta.items():
                if value is None:
                    self._db.execute("DELETE FROM meta WHERE name = ?", (name,))
                else:
                    self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _dump(value)))
            self._db.execute("UPDATE state SET revision = ?", (revision,))
            self._db.execute("DELETE FROM log WHERE revision <= ?", (revision - self._kept,))
            self.check()  # as late as can be
            return revision

    def check(self) -> None:
        """StoreUnavailable: what is written would not be there after a restart."""
        if self._file is not None:
            self._file.check()

    def changes_since(self, revision: int) -> list[Commit] | None:
        """The commits after a revision; None: compacted, or in the future."""
        with self._transaction("BEGIN"):
            current = self._revision()
            if revision > current or revision < max(0, current - self._kept):
                return None
            commits: dict[int, list[Change]] = {number: [] for number in range(revision + 1, current + 1)}
            rows = self._db.execute(
                "SELECT revision, kind, before, after FROM log WHERE revision > ?"
                " ORDER BY revision, position",
                (revision,),
            )
            for number, kind, before, after in rows:
                name = f"revision {number}"
                if number not in commits or not (before or after):
                    raise StoreUnusable(f"store {self._path}: {name} can't be read: it is no change")
                commits[number].append(
                    Change(
                        None if before is None else self._decode(kind, before, name),
                        None if after is None else self._decode(kind, after, name),
                    )
                )
            return [Commit(number, tuple(changes)) for number, changes in commits.items()]

    def close(self) -> None:
        """Close the file; its write-ahead log is folded into it."""
        self._db.close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _connect(self, reading: bool) -> sqlite3.Connection:
        place, uri = self._path, reading and self._path != MEMORY
        if uri:
            place = f"{Path(place).absolute().as_uri()}?mode=ro"
        return sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri)

    def _open(self, reading: bool) -> None:
        application, version = (schema.pragma(self._db, name) for name in ("application_id", "user_version"))
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if application != schema.APPLICATION_ID and (application or version or tables):
            raise StoreUnusable(
                f"store {self._path} is another program's database; move it away or name another file"
            )
        if version > schema.VERSION:
            raise StoreUnusable(
                f"store {self._path} was made by a newer version: "
                f"it has schema {version}, this version knows {schema.VERSION}"
            )
        if self._file is not None:
            self._file.close_to_others()
        if tables:
            self._examine(version, tables)
        if reading:
            if not tables:
                raise StoreUnusable(f"store {self._path} can't be read: it is empty")
            if version < schema.VERSION:
                self._copy()
        else:
            self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            self._db.execute("PRAGMA synchronous = FULL")
        if not tables:
            with self._transaction("BEGIN IMMEDIATE"):
                schema.make(self._db)
        elif version < schema.VERSION:
            self._migrate(version)

    def _examine(self, version: int, tables: set[str]) -> None:
        """Whether what is there is whole, before anything of it is believed."""
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._damaged(" ".join(str(found).split()))
        if missing := schema.TABLES - tables:
            raise self._damaged(f"table {min(missing)} is missing")
        if version not in {*schema.STEPS, schema.VERSION}:
            raise self._damaged(f"it says that it has schema {version}, which there never was")
        if [type(r) for (r,) in self._db.execute("SELECT revision FROM state")] != [int]:
            raise self._damaged("its revision is missing or no number")

    def _damaged(self, why: str) -> StoreUnusable:
        return StoreUnusable(f"store {self._path} is damaged: {why}; put a copy in its place, or name another file")

    def _copy(self) -> None:
        """Go on with a copy in memory, which may be changed."""
        copy = sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False)
        self._db.backup(copy)
        self._db.close()
        self._db = copy

    def _migrate(self, version: int) -> None:
        try:
            with self._transaction("BEGIN IMMEDIATE"):
                schema.migrate(self._db, version)
        except StoreUnusable as error:
            raise StoreUnusable(f"{error}; its schema {version} can't be made schema {schema.VERSION}") from error

    def _revision(self) -> int:
        return int(self._db.execute("SELECT revision FROM state").fetchone()[0])

    def _write(self, revision: int, position: int, change: Change) -> None:
        before = None if change.before is None else _dump(to_json(change.before))
        after = None if change.after is None else _dump(to_json(change.after))
        if after is None:
            self._db.execute("DELETE FROM objects WHERE kind = ? AND key = ?", (change.kind, change.key))
        else:
            row = (change.kind, change.key, after)
            self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", row)
        entry = (revision, position, change.kind, before, after)
        self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", entry)

    def _decode(self, kind: str, data: str, name: str) -> Object:
        document = self._json(data, name)
        try:
            return from_json(kind, document)
        except ValueError as error:
            raise StoreUnusable(f"store {self._path}: {name} can't be read: {error}") from error

    def _json(self, text: str, name: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StoreUnusable(f"store {self._path}: {name} can't be read: {error}") from error

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._errors():
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"store {self._path} can't be used now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreUnusable(f"store {self._path} can't be used: {error}") from error


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
