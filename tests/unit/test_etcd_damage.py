"""What others put into our etcd prefix is outside input: refused with one line that names the key, and nothing ends."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netctl.client import Client, ClientError, Refused
from ryu_apps.follow import Follower
from tests.kit.ovs import wait_for
from tests.unit.manager_process import ports, running
from tests.unit.modelkit import Door
from topology import etcd as etcd_module
from topology.election import Election
from topology.etcd import Etcd, b64, delete, parse_url
from topology.etcd_store import EtcdStore
from topology.model import Change, Tenant
from topology.store import StoreUnavailable, StoreUnusable

RED, BLUE = Tenant("red", 1), Tenant("blue", 2)
LOG_1, LOG_2, LOG_3 = (f"log/{revision:016x}" for revision in (1, 2, 3))
DEEP = "[" * 50_000


@pytest.fixture
def store(etcd_url: str) -> Iterator[EtcdStore]:
    made = EtcdStore(etcd_url)
    yield made
    made.close()


@pytest.fixture
def raw(etcd_url: str) -> Iterator[Etcd]:
    """A connection for whoever writes behind the store's back."""
    made = Etcd(parse_url(etcd_url))
    yield made
    made.close()


def spoil(raw: Etcd, key: str, value: str | bytes | None) -> None:
    """Put something in a key of the store's; None: delete it."""
    name = f"{raw.prefix}/{key}"
    if value is None:
        raw.txn([], [delete(name)])
    else:
        raw.txn([], [{"request_put": {"key": b64(name), "value": b64(value)}}])


OBJECTS = [
    ("objects/tenant/red", "x", "tenant red can't be read: "),
    ("objects/tenant/red", b"\xff\xfe", "objects/tenant/red can't be read: it is not UTF-8"),
    ("objects/tenant/red", "[]", "tenant red can't be read: it is no object"),
    ("objects/tenant/red", '{"name":"red","number":true}', "tenant red can't be read: number: 'True' is not a number"),
    ("objects/tenant/red", '{"name":5,"number":1}', "tenant red can't be read: name: '5' is not a text"),
    ("objects/tenant/red", '{"name":"red"}', "tenant red can't be read: field number is missing"),
    ("objects/tenant/red", '{"name":"blue","number":1}', "tenant red can't be read: it is blue"),
    ("objects/tenant/red", '{"name":"red","number":' + "9" * 5000 + "}", "tenant red can't be read: "),
    ("objects/tenant/red", '{"name":"\\ud800","number":1}', "tenant red can't be read: name: "),
    ("objects/tenant/red", DEEP, "tenant red can't be read: "),
    ("objects/god/red", '{"name":"red"}', "god red can't be read: 'god' is no kind of object"),
    ("meta/a", "{", "meta/a can't be read: "),
    ("meta/a", DEEP, "meta/a can't be read: "),
    ("folded", "x", "folded can't be read: "),
    ("folded", "-1", "folded can't be read: "),
    ("folded", None, "folded can't be read: it is missing"),
    (f"{LOG_1}x", "{}", f"{LOG_1}x can't be read: "),
    (LOG_1, "x", "revision 1 can't be read: "),
    (LOG_1, "[]", "revision 1 can't be read: "),
    (LOG_1, "{}", "revision 1 can't be read: "),
    (LOG_1, DEEP, "revision 1 can't be read: "),
    (LOG_1, '{"by":"x","changes":5,"meta":{}}', "revision 1 can't be read: "),
    (LOG_1, '{"by":"x","changes":[5],"meta":{}}', "revision 1 can't be read: "),
    (LOG_1, '{"by":"x","changes":[],"meta":[]}', "revision 1 can't be read: "),
    (LOG_1, '{"by":"x","changes":[{"kind":"tenant","key":"a","before":null}],"meta":{}}', "revision 1 can't be read: "),
    (LOG_1, '{"by":"x","changes":[{"kind":5,"key":"a","before":null,"after":null}],"meta":{}}', "revision 1 can't be "),
    (LOG_1, '{"by":"x","parts":"many"}', "revision 1 can't be read: "),
    (LOG_1, '{"parts":1}', "revision 1 can't be read: "),
    (LOG_1, '{"by":7,"parts":1}', "revision 1 can't be read: "),
    (LOG_2, None, "revision 2 can't be read: it is missing"),
    ("state", "x", "its state can't be read"),
    ("state", '{"format":0,"revision":2}', "its state can't be read"),
    ("state", '{"format":1,"revision":-2}', "its state can't be read"),
    ("state", '{"format":1,"revision":"2"}', "its state can't be read"),
    ("state", DEEP, "its state can't be read"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "line"), OBJECTS)
def test_a_broken_document_is_named(
    store: EtcdStore, raw: Etcd, key: str, value: str | bytes | None, line: str
) -> None:
    """The administrator would read a traceback, and not which key to look at."""
    etcd_url = str(raw.url)
    store.commit(0, [Change(None, RED)], {"a": 1})
    store.commit(1, [Change(None, BLUE)], {})
    if not key.startswith("log/"):
        store._fold()
    spoil(raw, key, value)
    with pytest.raises(StoreUnusable) as caught:
        again = EtcdStore(etcd_url)
        try:
            again.load()
        finally:
            again.close()
    found = str(caught.value)
    assert found.startswith(f"store {etcd_url}") and line in found, found
    assert found.isprintable() and len(found) < 500


@pytest.mark.parametrize(("key", "value"), [(LOG_3, "x"), (LOG_3, "{}"), ("state", "[]")])
def test_a_store_in_use_that_gets_broken(
    store: EtcdStore, raw: Etcd, caplog: pytest.LogCaptureFixture, key: str, value: str
) -> None:
    """A controller that runs would end, and not start any more: nobody would answer at all."""
    door = Door(store)
    door.commands.put_tenant("red")
    spoil(raw, "state", '{"format":1,"revision":3}')
    spoil(raw, key, value)
    follower = Follower(door.commands, store, sleep=lambda seconds: None)
    with caplog.at_level(logging.ERROR):
        follower.step()
        follower.step()
    (line,) = caplog.messages
    assert "can't be read" in line and line.endswith("; what is known is told, changes are refused")
    with pytest.raises(StoreUnusable, match="can't be read"):
        door.commands.put_tenant("blue")
    assert set(door.model.tenants) == {"default", "red"}


def test_what_is_folded_gets_broken(store: EtcdStore, raw: Etcd) -> None:
    """It is not needed before the log is folded: until then, changes are made."""
    door = Door(store)
    spoil(raw, "folded", "x")
    door.commands.put_tenant("red")
    with pytest.raises(StoreUnusable, match="folded can't be read: it is no revision"):
        store._fold()


ELECTION = [
    ("leader", "x"), ("leader", "[]"), ("leader", "{}"), ("leader", b"\xff"), ("leader", DEEP),
    ("leader", '{"name":"a","url":"http://a","generation":"x"}'), ("leader", '{"name":5,"url":5,"generation":5}'),
    ("generation", "x"), ("generation", b"\xff"), ("generation", "9" * 5000), ("controllers/\x00", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), ELECTION)
def test_a_broken_election(raw: Etcd, caplog: pytest.LogCaptureFixture, key: str, value: str | bytes) -> None:
    """Every controller would end and end again; now nobody leads until the key is gone, and the log says which."""
    spoil(raw, key, value)
    told: list[object] = []
    election = Election(raw, "me", "http://me", lambda: told.append(1))
    with caplog.at_level(logging.ERROR):
        election.step()
        election.step()
    if key.startswith("controllers"):
        assert election.generation > 0
    else:
        assert election.generation == 0 and election.leader is None
        (line,) = caplog.messages
        assert f"{raw.prefix}/{key} can't be read" in line
        raw.txn([], [delete(f"{raw.prefix}/{key}")])
        election.step()
        assert election.generation > 0
    election.resign()


@pytest.mark.parametrize(
    "answer",
    [[], {}, 5, None, {"header": 5}, {"header": {"revision": "x"}}, {"header": {"revision": 1}, "kvs": [{}]},
     {"header": {"revision": 1}, "kvs": 5}, {"header": {"revision": 1}, "kvs": [{"key": "é", "value": "é"}]},
     {"succeeded": True, "header": {"revision": 1}, "responses": 5}],
)  # fmt: skip
def test_answers_that_make_no_sense(store: EtcdStore, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """What is no etcd, or a broken proxy before one, would end the controller."""
    monkeypatch.setattr(etcd_module.etcd3gw.Etcd3Client, "post", lambda *a, **k: answer)
    for ask in (store.load, lambda: store.changes_since(0), lambda: store.commit(0, [Change(None, RED)], {})):
        with pytest.raises((StoreUnavailable, StoreUnusable)) as caught:
            ask()
        assert str(caught.value).startswith("store ") and "\n" not in str(caught.value)


def test_an_answer_without_end(store: EtcdStore, raw: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller's memory would be filled."""
    monkeypatch.setattr(etcd_module, "MAX_ANSWER", 1 << 20)
    spoil(raw, "objects/tenant/red", "x" * 1_200_000)
    with pytest.raises(StoreUnavailable, match=r"more than 1048576 bytes"):
        store.load()


def test_a_controller_beside_a_writer_of_nonsense(raw: Etcd, etcd_url: str, tmp_path: Path) -> None:
    """One wrong `etcdctl put` would end all controllers, for good."""
    options, _, rest = ports()
    with running(*options, "--store", etcd_url) as manager, Client(f"http://127.0.0.1:{rest}") as client:
        manager.wait_for("we lead")
        client.put_tenant("red")
        revision = 2
        spoil(raw, f"log/{revision + 1:016x}", '{"by":"me","changes":7}')
        spoil(raw, "state", json.dumps({"format": 1, "revision": revision + 1}))
        manager.wait_for(f"revision {revision + 1} can't be read")
        with pytest.raises(Refused, match=f"revision {revision + 1} can't be read"):
            client.put_tenant("blue")
        assert {t["tenantName"] for t in client.tenants()} == {"default", "red"}
        spoil(raw, f"log/{revision + 1:016x}", None)
        spoil(raw, "state", f'{{"format":1,"revision":{revision}}}')

        def works() -> bool:
            try:
                client.put_tenant("blue")
            except ClientError:
                return False
            return True

        wait_for(works, "it to write again once that is gone")
        manager.signal(signal.SIGTERM)
        assert manager.ended() == 0
    assert "Traceback" not in "\n".join(manager.lines)
    spoil(raw, "objects/tenant/bad", "x")
    others, _, _ = ports()
    with running(*others, "--log-level=error", "--store", etcd_url) as manager:
        assert manager.ended() == 1
    (line,) = manager.lines
    assert line.startswith(f"ryu-manager: store {etcd_url}: tenant bad can't be read: ")
