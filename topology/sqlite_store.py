"""The store as one SQLite file: right for one controller."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from topology.model import Change, Commit, Object, from_json, to_json
from topology.store import StaleRevision, StoreUnavailable, StoreUnusable

APPLICATION_ID = 0x6E746374  # "ntct": tells our files from other programs' (PRAGMA application_id)
SCHEMA_VERSION = 1
KEPT_REVISIONS = 10_000
BUSY_SECONDS = 5.0

_SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
INSERT INTO state VALUES (1, 0);
CREATE TABLE objects (kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL,
                      PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE log (revision INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
                  before TEXT, after TEXT, PRIMARY KEY (revision, position)) WITHOUT ROWID;
"""


class SqliteStore:
    """Write-ahead log, every commit on disk before it counts. ``:memory:`` as the path: nothing is kept."""

    def __init__(self, path: str | os.PathLike[str], kept_revisions: int = KEPT_REVISIONS) -> None:
        self._path = os.fspath(path)
        self._kept = kept_revisions
        if self._path != ":memory:":
            self._make_file()
        with self._errors():
            self._db = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._db.close()
            raise

    def load(self) -> tuple[int, list[Object], dict[str, Any]]:
        """Everything: the revision, all objects, all meta values."""
        with self._transaction("BEGIN"):
            objects = []
            for kind, key, data in self._db.execute("SELECT kind, key, data FROM objects"):
                objects.append(self._decode(kind, data, f"{kind} {key}"))
            rows = self._db.execute("SELECT name, value FROM meta")
            meta = {name: json.loads(value) for name, value in rows}
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
            return revision

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

    def _make_file(self) -> None:
        path = Path(self._path)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            # made by us, not by SQLite, so that nobody else can read it even for a moment
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreUnusable(f"store {self._path} can't be opened: {error.strerror}") from error

    def _open(self) -> None:
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or version or tables):
            raise StoreUnusable(
                f"store {self._path} is another program's database; move it away or name another file"
            )
        if version > SCHEMA_VERSION:
            raise StoreUnusable(
                f"store {self._path} was made by a newer version: "
                f"it has schema {version}, this version knows {SCHEMA_VERSION}"
            )
        if self._path != ":memory:":
            os.chmod(self._path, 0o600)  # only now is it known to be ours
        self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        self._db.execute("PRAGMA synchronous = FULL")
        if not tables:
            with self._transaction("BEGIN IMMEDIATE"):
                for statement in _SCHEMA.split(";"):
                    if statement.strip():
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

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
        try:
            return from_json(kind, json.loads(data))
        except (ValueError, KeyError, TypeError) as error:
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
