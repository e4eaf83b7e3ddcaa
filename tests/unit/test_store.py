"""The store on disk. If these fail, a restart forgets, or a wrong file is written over."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.unit.modelkit import Door, contents
from topology.model import Change, Commit, Endpoint, Host, Network, Service, Tenant, from_json
from topology.snapshot import Model
from topology.specs import EndpointSpec, NetworkSpec, ServiceSpec
from topology.sqlite_store import APPLICATION_ID, SCHEMA_VERSION, SqliteStore
from topology.store import StaleRevision, StoreUnavailable, StoreUnusable

RED, BLUE = Tenant("red", 1), Tenant("blue", 2)


def test_everything_comes_back(tmp_path: Path) -> None:
    """A controller that was killed knows all it knew."""
    path = tmp_path / "made" / "here" / "netctl.db"
    door = Door(SqliteStore(path))
    door.commands.put_network(NetworkSpec("default", "n", "10.1.1.10-10.1.1.20/24", "10.1.1.254", pkt_tag=9))
    door.commands.put_service(ServiceSpec("default", "s", "n", "10.1.1.11", ["a=", "b=\u00e9"], ["80:80:TCP"]))
    door.commands.put_endpoint(
        EndpointSpec("e", "default", "n", labels={"a": "", "\U0001f600": "x\n"}, switch=(1 << 64) - 1)
    )
    door.commands.put_network(
        NetworkSpec("default", "six", "10.2.1.0/24", "10.2.1.1", subnet6="FD00::/64", gateway6="FD00::1", nat=True)
    )
    door.commands.put_service(
        ServiceSpec("default", "t", "six", ports=["80:80:TCP"], ip_address6="fd00::9", publish=["80:80"])
    )
    door.commands.put_endpoint(EndpointSpec("f", "default", "six"))
    door.commands.grant("default", "six", None, "h", 6)
    door.commands.put_host("h", (1 << 64) - 1, "192.0.2.1", "0.1.0")
    door.commands.grant("default", "n", None, "h")
    door.commands.release("default", "n", door.commands.grant("default", "n", None, "h").address)
    door.store.close()
    again = Door(SqliteStore(path), door.clock)
    assert contents(again.model) == contents(door.model)
    assert again.model.revision == door.model.revision
    again.store.close()


EARLIER = {
    "network": {
        "tenant": "default", "name": "n", "number": 1, "subnet": "10.1.1.0/24", "first": "10.1.1.1",
        "last": "10.1.1.254", "gateway": None, "nw_type": "data", "encap": "vxlan", "tag": 1, "requested_tag": 0,
        "cfgd_tag": "",
    },
    "service": {
        "tenant": "default", "name": "s", "number": 1, "network": "n", "vips": ["10.1.1.1"],
        "ports": [{"port": 80, "target": 80, "protocol": "TCP", "number": 1}], "selectors": [["a", "b"]],
        "requested_vip": None, "affinity": 0, "affinity_mode": "idle", "drain": 30, "check": None,
    },
    "endpoint": {
        "id": "e", "tenant": "default", "network": "n", "number": 1, "addresses": ["10.1.1.2"],
        "mac": "02:42:0a:01:01:02", "host": "h", "switch": 0, "port_name": "p", "labels": [["a", "b"]],
        "container_id": "", "container_name": "", "health": "", "state": "running", "origin": "agent", "weight": 1,
        "passed": [], "drained": [], "draining_since": 0.0,
    },
    "host": {"name": "h", "switch": 1, "tunnel_address": "192.0.2.1", "version": "0.1.0"},
}  # fmt: skip


def test_a_store_of_an_earlier_version() -> None:
    """After an upgrade, networks, services and containers are what they were: without IPv6, without a way out."""
    objects = {kind: from_json(kind, data) for kind, data in EARLIER.items()}
    store = SqliteStore(":memory:")
    store.commit(0, [Change(None, Tenant("default", 1)), *(Change(None, o) for o in objects.values())], {})
    door = Door(store)
    network, service, endpoint, host = (objects[kind] for kind in EARLIER)
    assert isinstance(network, Network) and door.model.networks[network.key] == replace(network, vlan=1)
    assert (network.subnets, network.nat) == ((network.subnet,), False)
    assert isinstance(service, Service) and (service.published, service.requested_vip6) == ((), None)
    assert isinstance(endpoint, Endpoint) and isinstance(host, Host) and host.number == 0
    spec = ServiceSpec("default", "s", "n", "", ["a=b"], ["80:80:TCP"])
    assert door.commands.put_service(spec) == service, "a change to what it is, is none"
    assert door.commands.put_network(NetworkSpec("default", "n", "10.1.1.0/24")) == replace(network, vlan=1)
    (again,) = door.commands.sync_endpoints("h", [EndpointSpec("e", "default", "n", port_name="p", labels={"a": "b"})])
    assert again == endpoint


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """Another user of the machine doesn't read or change the model."""
    path = tmp_path / "netctl.db"
    path.touch(0o644)
    store = SqliteStore(path)
    store.commit(0, [Change(None, RED)], {})
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    store.close()


def test_a_stale_writer_is_refused() -> None:
    """Two controllers on one file don't write over each other."""
    store = SqliteStore(":memory:")
    store.commit(0, [Change(None, RED)], {"a": 1})
    with pytest.raises(StaleRevision, match="the store is at revision 1, not 0"):
        store.commit(0, [Change(None, BLUE)], {"a": 2})
    assert store.load() == (1, [RED], {"a": 1})


def test_a_commit_is_whole_or_not_at_all() -> None:
    """A commit that fails half way leaves nothing behind."""
    store = SqliteStore(":memory:")
    with pytest.raises(TypeError):
        store.commit(0, [Change(None, RED)], {"a": object()})
    assert store.load() == (0, [], {})
    assert store.changes_since(0) == []


def test_meta_values_are_set_and_removed() -> None:
    """Counters survive; only what is named changes."""
    store = SqliteStore(":memory:")
    store.commit(0, [Change(None, RED)], {"a": [1, 2], "b": 1})
    store.commit(1, [Change(RED, None)], {"b": None, "c": {"d": "e"}})
    assert store.load() == (2, [], {"a": [1, 2], "c": {"d": "e"}})


def test_the_log_tells_what_changed() -> None:
    """A follower that was away catches up without reading everything."""
    store = SqliteStore(":memory:")
    host = Host("h", 1, IPv4Address("192.0.2.1"))
    first = Commit(1, (Change(None, RED), Change(None, host)))
    second = Commit(2, (Change(host, None),))
    for commit in (first, second):
        store.commit(commit.revision - 1, commit.changes, {})
    assert store.changes_since(0) == [first, second]
    assert store.changes_since(1) == [second]
    assert store.changes_since(2) == []
    assert store.changes_since(3) is None


def test_the_log_is_compacted() -> None:
    """The file doesn't grow for ever; who is too far behind is told so, never given half."""
    store = SqliteStore(":memory:", kept_revisions=3)
    for revision in range(6):
        change = Change(RED, None) if revision % 2 else Change(None, RED)
        store.commit(revision, [change], {})
    assert store.changes_since(2) is None
    commits = store.changes_since(3)
    assert commits is not None
    assert [c.revision for c in commits] == [4, 5, 6]


def test_following_the_log_gives_the_same_model() -> None:
    """A second controller that follows the log has what the first has."""
    door = Door()
    follower = Model()
    door.commands.put_network(NetworkSpec("default", "n", "10.1.1.0/24"))
    door.commands.put_service(ServiceSpec("default", "s", "n", "", ["a=b"], ["80:80:TCP"]))
    door.commands.delete_service("default:s")
    for commit in door.store.changes_since(0) or []:
        follower.apply(commit)
    assert contents(follower) == contents(door.model)


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
    with pytest.raises(StoreUnusable, match=r"made by a newer version: it has schema 2") as caught:
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
