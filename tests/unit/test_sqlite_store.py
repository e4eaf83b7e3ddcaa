"""The store as a file. If these fail, a wrong file is written over, or its owner isn't told what is wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from topology.model import Change, Tenant
from topology.sqlite_schema import APPLICATION_ID
from topology.sqlite_schema import VERSION as SCHEMA_VERSION
from topology.sqlite_store import SqliteStore
from topology.store import StoreUnavailable, StoreUnusable

RED = Tenant("red", 1)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """Another user of the machine doesn't read or change the model."""
    path = tmp_path / "netctl.db"
    path.touch(0o644)
    store = SqliteStore(path)
    store.commit(0, [Change(None, RED)], {})
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    store.close()


def _database(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    """A wrong path in the configuration doesn't spoil somebody else's data, nor its mode."""
    path = tmp_path / "other.db"
    _database(path, "CREATE TABLE precious (x)")
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="is another program's database"):
        SqliteStore(path)
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and long enough to be no database header\n" * 20)
    with pytest.raises(StoreUnusable, match="file is not a database"):
        SqliteStore(text)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_newer_versions_file_is_refused(tmp_path: Path) -> None:
    """Going back to an older version doesn't damage the model."""
    path = tmp_path / "netctl.db"
    _database(
        path,
        "CREATE TABLE x (x)",
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"PRAGMA user_version = {SCHEMA_VERSION + 1}",
    )
    with pytest.raises(StoreUnusable, match=r"made by a newer version: it has schema 3") as caught:
        SqliteStore(path)
    assert str(caught.value).isprintable()


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A wrong directory is one clear line, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable, match=r"store .*/file/netctl\.db can't be opened: "):
        SqliteStore(tmp_path / "file" / "netctl.db")
    with pytest.raises(StoreUnusable, match="can't be opened: Is a directory"):
        SqliteStore(tmp_path)


def test_a_damaged_object_is_named(tmp_path: Path) -> None:
    """Who repairs a damaged file is told where."""
    path = tmp_path / "netctl.db"
    store = SqliteStore(path)
    store.commit(0, [Change(None, RED)], {})
    store.close()
    _database(path, """UPDATE objects SET data = '{"name": "red", "colour": 1}'""")
    store = SqliteStore(path)
    with pytest.raises(StoreUnusable, match="tenant red can't be read"):
        store.load()
    store.close()


def test_a_locked_store_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the file, commands are refused in one line, and work again after."""
    monkeypatch.setattr("topology.sqlite_store.BUSY_SECONDS", 0.0)
    path = tmp_path / "netctl.db"
    store = SqliteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="can't be used now: database is locked"):
        store.commit(0, [Change(None, RED)], {})
    other.execute("ROLLBACK")
    other.close()
    assert store.commit(0, [Change(None, RED)], {}) == 1
    store.close()
