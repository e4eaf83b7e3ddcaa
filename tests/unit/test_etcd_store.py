"""The store in etcd, where it differs: its place, its limits, and what is lost on the way."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import etcd
from tests.kit.ovs import wait_for
from topology.etcd import Etcd, NotSent, Tls, delete, parse_url, put
from topology.etcd_store import EtcdStore
from topology.model import Change, Commit, Host, Tenant
from topology.store import StaleRevision, StoreUnavailable, StoreUnusable

RED = Tenant("red", 1)
LATER = "look before you do it again"


@pytest.fixture
def store(etcd_url: str) -> Iterator[EtcdStore]:
    made = EtcdStore(etcd_url)
    yield made
    made.close()


@pytest.fixture
def member(tmp_path: Path) -> Iterator[etcd.Member]:
    """One that a test may freeze and kill."""
    with etcd.cluster(tmp_path) as members:
        yield members[0]


def hosts(number: int, count: int = 500) -> list[Change]:
    """A commit that no single transaction of etcd can hold."""
    old = [Host(f"h{n}", n, version=f"{number - 1} {'v' * 900}") for n in range(1, count + 1)]
    new = [Host(f"h{n}", n, version=f"{number} {'v' * 900}") for n in range(1, count + 1)]
    return [Change(before if number else None, after) for before, after in zip(old, new, strict=True)]


def write(url: str, *operations: dict[str, Any]) -> None:
    """Behind the store's back."""
    connection = Etcd(parse_url(url))
    connection.txn([], operations)
    connection.close()


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("etcd://", "right is etcd://HOST:PORT,HOST:PORT/PREFIX"),
        ("etcd:/x", "right is etcd://HOST:PORT,HOST:PORT/PREFIX"),
        ("etcd://h:0/x", "h:0 is not HOST:PORT"),
        ("etcd://h:70000", "h:70000 is not HOST:PORT"),
        ("etcd://a,,b/x", "an empty name is not HOST:PORT"),
        ("etcd://a/x y", "may hold letters, digits and"),
        ("etcd://a/x?y=z", "right is etcd://HOST:PORT,HOST:PORT/PREFIX"),
        ("etcd://root:secret@h/x", "a user or password in it is not supported"),
        ("etcd://127.0.0.1:1/x", r"store etcd://127\.0\.0\.1:1/x can't be reached: Connection refused"),
        ("etcd://[::1]:1,127.0.0.1:1", r"store etcd://\[::1\]:1,127\.0\.0\.1:1/netctl can't be reached: "),
        ("etcd://no.such.invalid/x", r"store etcd://no\.such\.invalid:2379/x can't be reached: \w+"),
    ],
)
def test_a_place_that_can_not_be_is_refused(url: str, line: str) -> None:
    """An administrator would have to read a traceback; or a password stands in a log."""
    with pytest.raises((StoreUnusable, StoreUnavailable), match=line) as caught:
        EtcdStore(url)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_tls_where_there_is_none(etcd_url: str) -> None:
    """What is wrong with a certificate, or its absence, would be a traceback."""
    # what etcd says to a greeting in TLS, if it comes before the end of the connection
    with pytest.raises(StoreUnavailable, match=r"can't be reached: (TLS: |the connection broke; etcds:// is for)"):
        EtcdStore(etcd_url.replace("etcd:", "etcds:"))


@pytest.mark.parametrize(
    ("tls", "line"),
    [
        (Tls(ca="/no/such"), "/no/such can't be read"),
        (Tls(cert="/dev/null"), "a certificate and its key go together"),
    ],
)
def test_files_that_are_not_there(tls: Tls, line: str) -> None:
    """A mistyped name would be a traceback, or the connection made without the certificate."""
    with pytest.raises(StoreUnusable, match=line):
        EtcdStore("etcds://127.0.0.1:1/x", tls)


def test_tls_both_ways(tmp_path: Path) -> None:
    """Who reads the network between controllers and etcd would read the model; or anybody write to it."""
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    names = ("-keyout", key, "-out", cert, "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    options = ("--cert-file", cert, "--key-file", key, "--trusted-ca-file", cert, "--client-cert-auth")
    member = etcd.Member(tmp_path, "tls", *options)
    member.cluster = f"tls={member.peer}"
    member.start()
    url = f"etcds://127.0.0.1:{member.port}/x"

    def answers() -> bool:
        try:
            EtcdStore(url, Tls(cert, cert, key)).close()
        except StoreUnavailable:
            return False
        return True

    try:
        wait_for(answers, "etcd to answer")
        store = EtcdStore(url, Tls(cert, cert, key))
        assert store.commit(0, [Change(None, RED)], {}) == 1
        assert next(store.watch(1.0)) == 0
        store.close()
        for tls in (Tls(), Tls(ca=cert)):  # it is not known to the system; we are not known to it
            with pytest.raises(StoreUnavailable, match="can't be reached: TLS: "):
                EtcdStore(url, tls)
    finally:
        member.close()


def test_another_programs_keys_are_left_alone(etcd_url: str) -> None:
    """A wrong prefix would mix our keys with somebody else's."""
    prefix = parse_url(etcd_url).prefix
    write(etcd_url, put(f"{prefix}/precious", "x"))
    with pytest.raises(StoreUnusable, match="holds another program's keys"):
        EtcdStore(etcd_url)
    write(etcd_url, delete(f"{prefix}/precious"), put(f"{prefix}/state", "x"))
    with pytest.raises(StoreUnusable, match="is another program's: its state can't be read"):
        EtcdStore(etcd_url)


def test_a_newer_versions_store_is_refused(store: EtcdStore, etcd_url: str) -> None:
    """A controller that was not upgraded would damage what the others write."""
    write(etcd_url, put(f"{parse_url(etcd_url).prefix}/state", '{"format":2,"revision":0}'))
    line = "was made by a newer version: it has format 2, this version knows 1"
    with pytest.raises(StoreUnusable, match=line):
        EtcdStore(etcd_url)
    with pytest.raises(StoreUnusable, match=line):
        store.commit(0, [Change(None, RED)], {})


def test_a_store_that_was_deleted_says_so(store: EtcdStore, etcd_url: str) -> None:
    """A controller would start a new store in the middle of its life, and forget all."""
    prefix = parse_url(etcd_url).prefix
    write(etcd_url, delete(f"{prefix}/", f"{prefix}0"))
    with pytest.raises(StoreUnusable, match="is gone: somebody has deleted it"):
        store.commit(0, [Change(None, RED)], {})
    with pytest.raises(StoreUnusable, match="is gone"):
        store.changes_since(0)


def test_what_is_damaged_is_named(store: EtcdStore, etcd_url: str) -> None:
    """Who repairs a damaged store is told where."""
    prefix = parse_url(etcd_url).prefix
    store.commit(0, hosts(0), {})
    write(etcd_url, put(f"{prefix}/objects/tenant/red", '{"name": "red", "colour": 1}'))
    with pytest.raises(StoreUnusable, match="tenant red can't be read"):
        store.load()
    write(etcd_url, delete(f"{prefix}/part/", f"{prefix}/part0"))
    with pytest.raises(StoreUnusable, match=r"revision 1 can't be read: 0 of \d parts are there"):
        store.load()


def test_an_answer_that_was_lost(store: EtcdStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change would be refused and made all the same, or made twice."""
    txn, lost = Etcd.txn, [1]

    def loses(self: Etcd, *args: Any) -> Any:
        answer = txn(self, *args)
        if lost:
            lost.pop()
            raise StoreUnavailable("the answer was lost")
        return answer

    monkeypatch.setattr(Etcd, "txn", loses)
    assert store.commit(0, [Change(None, RED)], {"a": 1}) == 1
    assert store.load() == (1, [RED], {"a": 1})
    assert store.changes_since(0) == [Commit(1, (Change(None, RED),))]
    lost.append(1)
    with pytest.raises(StaleRevision):
        store.commit(0, [], {})


@pytest.mark.parametrize("died_after", range(9))
def test_a_writer_that_dies_on_the_way(
    store: EtcdStore, etcd_url: str, monkeypatch: pytest.MonkeyPatch, died_after: int
) -> None:
    """A commit of 500 objects would be there by half; or folding would spoil what was there."""
    monkeypatch.setattr("topology.etcd_store.FOLD_EVERY", 1)
    store.commit(0, hosts(0), {"a": 0})
    txn, left = Etcd.txn, [None] * died_after

    def dies(self: Etcd, *args: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return txn(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Etcd, "txn", dies)
        store.commit(1, hosts(1), {"a": 1})
    reader = EtcdStore(etcd_url)
    revision, objects, meta = reader.load()
    assert revision in (1, 2)
    assert (revision == 2) == (died_after > 5), "five parts, then the commit"
    assert {o for o in objects if isinstance(o, Host)} == {c.after for c in hosts(revision - 1)}
    assert meta == {"a": revision - 1}
    reader.commit(revision, [Change(None, RED)], {})
    assert RED in store.load()[1]
    assert len(store.load()[1]) == 501
    reader.close()


def test_two_that_fold_at_once(store: EtcdStore, etcd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was frozen while it folded would write old values over new ones when it wakes."""
    other = EtcdStore(etcd_url)
    replace: Callable[..., Any] = EtcdStore._replace
    monkeypatch.setattr("topology.etcd_store.FOLD_EVERY", 1)

    def freezes(self: EtcdStore, *args: Any) -> Any:
        if self is store and revision[0] == 1:
            for number in range(1, 4):
                revision[0] = other.commit(number, hosts(number), {"a": number})
        return replace(self, *args)

    revision = [1]
    with monkeypatch.context() as patch:
        patch.setattr(EtcdStore, "_replace", freezes)
        store.commit(0, hosts(0), {"a": 0})
    assert revision == [4]
    found = EtcdStore(etcd_url)
    assert {c.after for c in hosts(3)} == set(found.load()[1])
    assert found.load()[2] == {"a": 3}
    found.close()
    other.close()


def test_a_reader_and_compaction(store: EtcdStore, etcd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller would not start while somebody compacts etcd."""
    store.commit(0, hosts(0), {})
    pages, times = Etcd.pages, [1, 1]

    def compacted_meanwhile(self: Etcd, start: str, end: str, revision: int, limit: int) -> Any:
        if times:
            times.pop()
            write(etcd_url, put("/elsewhere", "x"))
            self.post("/kv/compaction", {"revision": self.get("x")[1]})
        return pages(self, start, end, revision, limit)

    monkeypatch.setattr(Etcd, "pages", compacted_meanwhile)
    assert len(store.load()[1]) == 500
    times.append(1)
    assert store.changes_since(0) is None, "what must be read anew"


def test_a_frozen_etcd(member: etcd.Member) -> None:
    """While etcd hangs, commands are refused in one line, the first with a warning; afterwards all goes on."""
    store = EtcdStore(etcd.url([member]))
    store.commit(0, [Change(None, RED)], {})
    member.freeze()
    with pytest.raises(StoreUnavailable, match=LATER):
        store.commit(1, [Change(RED, None)], {})
    with pytest.raises(StoreUnavailable, match="can't be reached: it does not answer in time") as caught:
        store.commit(1, [Change(None, Tenant("blue", 2))], {})
    assert LATER not in str(caught.value)
    member.thaw()
    blue = Tenant("blue", 2)
    try:
        assert store.commit(1, [Change(None, blue)], {}) == 2
        assert set(store.load()[1]) == {RED, blue}, "the one in doubt came too late: the revision is taken"
    except StaleRevision:
        assert store.load() == (2, [], {}), "the one in doubt came through; the one refused for good did not"
    store.close()


def test_etcd_killed_again_and_again_under_commits(member: etcd.Member) -> None:
    """A crash of etcd would leave half a commit, or take back one that was confirmed."""
    store = EtcdStore(etcd.url([member]))
    store.commit(0, hosts(0), {"a": 0})
    confirmed, ended = [1], threading.Event()

    def commits() -> None:
        while not ended.is_set():
            try:
                revision = store.load()[0]
                confirmed.append(store.commit(revision, hosts(revision), {"a": revision}))
            except StoreUnavailable:
                ended.wait(0.05)

    writer = threading.Thread(target=commits)
    writer.start()
    try:
        for _ in range(4):
            goal = confirmed[-1] + 2
            wait_for(lambda goal=goal: confirmed[-1] >= goal, "more commits")  # type: ignore[misc]
            member.kill()
            member.start()
            wait_for(member.healthy, "etcd to be back")
    finally:
        ended.set()
        writer.join(20)
    reader = EtcdStore(etcd.url([member]))
    revision, objects, meta = reader.load()
    assert revision >= confirmed[-1]
    assert (set(objects), meta) == ({c.after for c in hosts(revision - 1)}, {"a": revision - 1})
    assert len(confirmed) == len(set(confirmed))
    reader.close()
    store.close()


def test_members_lost_and_back(tmp_path: Path) -> None:
    """The loss of one member of three would stop the writes, or that of two lose something."""
    with etcd.cluster(tmp_path, 3) as members:
        store = EtcdStore(etcd.url(members))
        store.commit(0, [Change(None, RED)], {})
        members[0].kill()
        assert _patiently(lambda: store.commit(1, [], {"a": 1})) == 2
        members[1].kill()
        with pytest.raises(StoreUnavailable):
            store.commit(2, [], {"a": 2})
        with pytest.raises(StoreUnavailable, match="can't be reached") as refused:
            store.commit(2, [], {"a": 3})
        assert LATER not in str(refused.value)
        assert not isinstance(refused.value, NotSent)
        for member in members[:2]:
            member.start()
        for member in members:
            wait_for(member.healthy, f"{member.name} to be healthy")
        revision, objects, meta = store.load()
        assert objects == [RED]
        assert (revision, meta["a"]) in ((2, 1), (3, 2)), "what was refused for good was not done"
        assert store.commit(revision, [], {"a": 4}) == revision + 1
        store.close()


def test_a_member_that_hangs(tmp_path: Path) -> None:
    """Writes would wait for it; or one that it carries out when it wakes be made twice."""
    with etcd.cluster(tmp_path, 3) as members:
        store = EtcdStore(etcd.url(members))
        store.commit(0, [Change(None, RED)], {})
        members[0].freeze()  # it is the one that we ask first
        revision = _patiently(lambda: store.commit(1, [], {"a": 1}))
        began = time.monotonic()
        for number in range(2, 5):
            revision = store.commit(revision, [], {"a": number})
        assert time.monotonic() - began < 1, "the others are asked from then on"
        members[0].thaw()
        wait_for(members[0].healthy, "it to be healthy")
        assert store.load() == (5, [RED], {"a": 4})
        commits = store.changes_since(0)
        assert commits is not None
        assert len(commits) == 5
        store.close()


def _patiently(commit: Callable[[], int]) -> int:
    """While the others elect, a write may be refused: it is not in doubt then, or has come through."""
    for _ in range(10):
        try:
            return commit()
        except StoreUnavailable:
            continue
        except StaleRevision:
            return 2
    raise AssertionError("the two left do not take writes")


def test_a_watch_tells_of_each_commit(store: EtcdStore, etcd_url: str) -> None:
    """A follower would be behind until it looks by itself."""
    writer = EtcdStore(etcd_url)
    watch = store.watch(5.0)
    assert next(watch) == 0
    writer.commit(0, [Change(None, RED)], {})
    assert next(watch) == 1
    watch.close()  # type: ignore[attr-defined]
    assert list(store.watch(0.1)) == [0], "silence ends it"
    writer.close()
