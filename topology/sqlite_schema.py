"""The tables of a store in SQLite, and the steps from each earlier version of them.

A version that was released is not edited any more: a change is a new version, with a step from the one before. A step
is a few statements of SQL, so that it does the same for good, whatever becomes of the program around it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

APPLICATION_ID = 0x6E746374  # "ntct": tells our files from other programs' (PRAGMA application_id)
VERSION = 2
TABLES = frozenset({"state", "objects", "meta", "log"})

# Strict: a value of another type can't be stored, and `quick_check` finds one that is there nevertheless.
SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (1, 0);
CREATE TABLE objects (kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL,
                      PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE log (revision INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
                  before TEXT, after TEXT, PRIMARY KEY (revision, position)) STRICT, WITHOUT ROWID;
"""

# 1: netctl 0.1.0. The same tables, which took values of any type.
_FROM_1 = """
ALTER TABLE state RENAME TO state_1;
ALTER TABLE objects RENAME TO objects_1;
ALTER TABLE meta RENAME TO meta_1;
ALTER TABLE log RENAME TO log_1;
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL) STRICT;
CREATE TABLE objects (kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL,
                      PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE log (revision INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
                  before TEXT, after TEXT, PRIMARY KEY (revision, position)) STRICT, WITHOUT ROWID;
INSERT INTO state SELECT one, revision FROM state_1;
INSERT INTO objects SELECT kind, key, data FROM objects_1;
INSERT INTO meta SELECT name, value FROM meta_1;
INSERT INTO log SELECT revision, position, kind, before, after FROM log_1;
DROP TABLE state_1;
DROP TABLE objects_1;
DROP TABLE meta_1;
DROP TABLE log_1;
"""

STEPS: Mapping[int, str] = {1: _FROM_1}
"""What makes the next version of one."""


def make(db: sqlite3.Connection) -> None:
    """The tables of a new store, in the transaction that the caller has begun."""
    _execute(db, SCHEMA)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def migrate(db: sqlite3.Connection, version: int) -> None:
    """From a version to this one, in the transaction that the caller has begun: all steps or none."""
    for number in range(version, VERSION):
        _execute(db, STEPS[number])
    db.execute(f"PRAGMA user_version = {VERSION}")


def pragma(db: sqlite3.Connection, name: str) -> int:
    """A number that SQLite keeps."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _execute(db: sqlite3.Connection, statements: str) -> None:
    # not executescript(), which commits first
    for statement in statements.split(";"):
        if statement.strip():
            db.execute(statement)
