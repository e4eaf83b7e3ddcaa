"""A store's file that is not what it was: damaged, deleted in use, of an earlier version, in two hands."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netctl.cli import main
from netctl.client import Client, Refused
from tests.unit.manager_process import ROOT, ports, running
from tests.unit.modelkit import SRV, WEB, Clock, Door, contents
from topology.model import Change, Tenant
from topology.sqlite_schema import VERSION
from topology.sqlite_store import SqliteStore
from topology.store import StoreUnavailable, StoreUnusable

RED, BLUE = Tenant("red", 1), Tenant("blue", 2)
SCHEMA_1 = Path(__file__).parents[1] / "data" / "store-schema-1.sql"


def of_schema_1(path: Path, *more: str) -> Path:
    """A file as netctl 0.1.0 left it, with some statements after that."""
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(SCHEMA_1.read_text(encoding="utf-8"))
    for statement in more:
        db.execute(statement)
    db.close()
    return path


def pragma(path: Path, name: str) -> object:
    db = sqlite3.connect(path)
    try:
        return db.execute(f"PRAGMA {name}").fetchone()[0]
    finally:
        db.close()


# migrations


def everything(path: Path) -> object:
    """All that the tables hold."""
    db = sqlite3.connect(path)
    try:
        return {t: db.execute(f"SELECT * FROM {t}").fetchall() for t in ("state", "objects", "meta", "log")}
    finally:
        db.close()


def test_a_store_of_schema_1(tmp_path: Path) -> None:
    """After an upgrade, networks, containers, numbers and the log that agents resume from would be gone."""
    path = of_schema_1(tmp_path / "netctl.db")
    before = everything(path)
    door = Door(SqliteStore(path), Clock())
    assert door.model.revision == 21, "nothing is written that the program would not write anyway"
    assert {o.kind for o in door.model.objects()} == {"tenant", "network", "service", "endpoint", "host", "lease"}
    assert door.model.services["default:app"].published and door.model.hosts["h1"].draining
    assert len(door.store.changes_since(0) or []) == 21
    door.store.close()
    assert everything(path) == before
    assert pragma(path, "user_version") == VERSION == 2
    assert pragma(path, "quick_check") == "ok"
    again = Door(SqliteStore(path))
    assert contents(again.model) == contents(door.model)
    assert again.commands.put_tenant("green").number == 3, "blue's number is not used again"


def test_a_new_store_has_what_a_migrated_one_has(tmp_path: Path) -> None:
    """A step that forgets a constraint would show years later."""
    SqliteStore(of_schema_1(tmp_path / "old.db")).close()
    SqliteStore(tmp_path / "new.db").close()
    found = []
    for name in ("old.db", "new.db"):
        db = sqlite3.connect(tmp_path / name)
        rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        found.append([(table, " ".join(sql.replace('"', "").split())) for table, sql in rows])
        db.close()
    assert found[0] == found[1]


def test_a_migration_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """An upgrade that fails half way would leave a file that neither version reads."""
    path = of_schema_1(tmp_path / "netctl.db", "INSERT INTO objects VALUES ('tenant', 'x', x'00ff')")
    before = everything(path)
    with pytest.raises(StoreUnusable, match=r"can't be used: cannot store BLOB value in TEXT column objects\.data; "):
        SqliteStore(path)
    assert everything(path) == before and pragma(path, "user_version") == 1


def test_an_export_leaves_an_earlier_store_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under a controller that runs, of the earlier version, its tables would be changed."""
    path = of_schema_1(tmp_path / "netctl.db")
    before = path.read_bytes()
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    assert main(["store", "export", "--store", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and len(out.splitlines()) == 17
    held.execute("ROLLBACK")
    held.close()
    assert path.read_bytes() == before


# damage


def _cut(path: Path) -> None:
    os.truncate(path, 4096)


def _scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xa5" * 8192
    path.write_bytes(data)


def _sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        db = sqlite3.connect(path)
        db.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return change


DAMAGES = {
    "cut off": (_cut, "can't be used: database disk image is malformed|is damaged"),
    "scribbled over": (_scribble, "can't be used: database disk image is malformed|is damaged"),
    "header only": (lambda path: os.truncate(path, 100), "can't be used: |is damaged: "),
    "no table": (_sql("DROP TABLE log"), "is damaged: table log is missing"),
    "no revision": (_sql("DELETE FROM state"), "is damaged: its revision is missing or no number"),
    "no such schema": (_sql("PRAGMA user_version = 0"), "is damaged: it says that it has schema 0, "),
    "an index": (
        _sql("UPDATE sqlite_master SET rootpage = 999 WHERE name = 'objects'"),
        "can't be used: malformed database schema|is damaged: ",
    ),
    "no JSON": (_sql("UPDATE objects SET data = 'x' WHERE key = 'default'"), "tenant default can't be read"),
    "no object": (_sql("UPDATE objects SET data = '[]' WHERE key = 'default'"), "tenant default can't be read: it"),
    "deep": (_sql(f"UPDATE objects SET data = '{'[' * 99999}' WHERE key = 'default'"), "tenant default can't be read"),
    "a type": (
        _sql("""UPDATE objects SET data = replace(data, '"number":1,', '"number":"1",') WHERE key = 'default:srv'"""),
        "network default:srv can't be read: number: '1' is not a number",
    ),
    "a kind": (_sql("UPDATE objects SET kind = 'god' WHERE key = 'default'"), "god default can't be read: 'god' is"),
    "a key": (_sql("UPDATE objects SET key = 'x' WHERE key = 't1'"), "tenant x can't be read: it is t1"),
    "a twin": (
        _sql("""INSERT INTO objects VALUES ('tenant', 'twin', '{"name":"twin","number":1}')"""),
        "both have tenant number 1",
    ),
    "an orphan": (_sql("DELETE FROM objects WHERE key = 'default:srv'"), "needs network default:srv, which"),
    "a meta value": (_sql("REPLACE INTO meta VALUES ('pool.host', '{')"), "meta value pool.host can't be read: "),
    "a meta type": (_sql("""REPLACE INTO meta VALUES ('pool.vlan', '"x"')"""), "meta value pool.vlan can't be"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """The controller would run on half a model, or die with a traceback, at the start or days later."""
    damage, line = DAMAGES[name]
    path = tmp_path / "netctl.db"
    door = Door(SqliteStore(path))
    door.commands.put_network(SRV)
    door.commands.put_network(WEB)
    door.commands.grant("default", "srv", None, "h")
    for number in range(300):
        door.commands.put_tenant(f"t{number}")
    door.store.close()
    damage(path)
    with pytest.raises(StoreUnusable, match=line) as caught:
        Door(SqliteStore(path))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """The controller would hang at its start, or fill a device."""
    path = tmp_path / "netctl.db"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(StoreUnusable, match=r"can't be opened: (it is not a file|Is a directory)"):
        SqliteStore("/dev/null" if kind == "device" else path)


# deleted under us


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").rename(path)


def _delete_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def _move_away(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("harm", [_delete, _replace, _delete_log, _move_away])
def test_a_file_that_goes_while_it_is_in_use(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Changes would be confirmed for days, and all be gone after a restart."""
    path = tmp_path / "state" / "netctl.db"
    store = SqliteStore(path)
    store.commit(0, [Change(None, RED)], {})
    harm(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="was deleted or replaced while in use: no change is stored until"):
            store.commit(1, [Change(None, BLUE)], {})
    assert store.load() == (1, [RED], {}), "and what is known can be read"
    store.close()


def test_a_file_that_comes_back(tmp_path: Path) -> None:
    """Who has moved it by mistake would have to restart the controller."""
    path = tmp_path / "netctl.db"
    store = SqliteStore(path)
    store.commit(0, [Change(None, RED)], {})
    path.rename(tmp_path / "moved")
    with pytest.raises(StoreUnavailable):
        store.commit(1, [Change(None, BLUE)], {})
    (tmp_path / "moved").rename(path)
    assert store.commit(1, [Change(None, BLUE)], {}) == 2
    store.close()


# two controllers


@pytest.mark.parametrize("by", ["its name", "a link", "another name"])
def test_two_on_one_file(tmp_path: Path, by: str) -> None:
    """Two controllers would undo each other's changes, and both program the switches."""
    path = tmp_path / "netctl.db"
    other = path if by == "its name" else tmp_path / "other.db"
    one = SqliteStore(path)
    if by == "a link":
        other.symlink_to(path)
    elif by == "another name":
        os.link(path, other)
    with pytest.raises(StoreUnusable, match=r"is in use by another controller .*: an SQLite file is for one; several"):
        SqliteStore(other)
    assert one.commit(0, [Change(None, RED)], {}) == 1
    SqliteStore(path, reading=True).close()
    one.close()
    SqliteStore(other).close()


HOLD = """
import sys, time
from topology.sqlite_store import SqliteStore
store = SqliteStore(sys.argv[1])
print("mine", flush=True)
time.sleep(600)
"""


def test_the_file_of_a_killed_controller_is_free(tmp_path: Path) -> None:
    """No controller would start again after a crash."""
    path = tmp_path / "netctl.db"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "mine\n"
        with pytest.raises(StoreUnusable):
            SqliteStore(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait(20)
        SqliteStore(path).close()
    finally:
        holder.kill()
        holder.wait(20)
        assert holder.stdout is not None
        holder.stdout.close()


def test_controllers_and_commands_on_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The administrator would read a traceback, or nothing, where two controllers run by mistake."""
    place = tmp_path / "netctl.db"
    options, _, rest = ports()
    with running(*options, "--store", str(place)) as first:
        first.wait_for("running ")
        others, _, _ = ports()
        with running(*others, "--log-level=error", "--store", str(place)) as second:
            assert second.ended() == 1
        assert second.lines == [
            f"ryu-manager: store {place} is in use by another controller (or netctl store import): "
            "an SQLite file is for one; several share an etcd"
        ]
        assert main(["store", "export", "--store", str(place)]) == 0, "reading does no harm"
        capsys.readouterr()
        with Client(f"http://127.0.0.1:{rest}") as client:
            client.put_tenant("red")
            modes = {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()}
            assert set(modes) >= {"netctl.db", "netctl.db-wal", "netctl.db-shm"}
            assert set(modes.values()) == {"0o600"}, modes
            place.unlink()
            first.wait_for("was deleted or replaced while in use: no change is stored until")
            with pytest.raises(Refused, match="was deleted or replaced") as caught:
                client.put_tenant("blue")
            assert caught.value.status == 503
            assert [t["tenantName"] for t in client.tenants()] == ["default", "red"]
        first.signal(signal.SIGTERM)
        assert first.ended() == 0
    assert "Traceback" not in "\n".join(first.lines)


# modes


def test_what_earlier_versions_left_is_closed_to_others(tmp_path: Path) -> None:
    """After an upgrade, other users of the machine would still read the model out of the log of a killed controller."""
    path = of_schema_1(tmp_path / "netctl.db")
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).touch()
        path.with_name(path.name + suffix).chmod(0o644)
    store = SqliteStore(path)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
    store.close()
