"""A controller on a store that others write to as well: it follows, and survives that the store is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryu_apps import follow
from ryu_apps.follow import Follower
from tests.kit import etcd
from tests.unit.modelkit import SRV, WEB, Door
from topology.etcd_store import EtcdStore


@pytest.fixture
def member(tmp_path: Path) -> Iterator[etcd.Member]:
    with etcd.cluster(tmp_path) as members:
        yield members[0]


def test_what_others_write_comes_in(etcd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of another controller would see the world as it was when that one started."""
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 0.2)
    writer, store = EtcdStore(etcd_url), EtcdStore(etcd_url)
    other, door = Door(writer), Door(store)
    watch, left = store.watch, [SRV, WEB]

    def writes(silence: float) -> Iterator[int]:
        for revision in watch(silence):
            yield revision
            if left:  # while we watch
                other.commands.put_network(left.pop())

    monkeypatch.setattr(store, "watch", writes)
    other.commands.put_tenant("before")
    Follower(door.commands, store).step()
    assert {"before"} <= set(door.model.tenants)
    assert set(door.model.networks) == {"default:srv", "default:web"}
    assert [c.revision for c in door.commits] == [2, 3, 4]
    writer.close()
    store.close()


def test_a_watch_that_says_nothing(etcd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller whose connection hangs would be behind for ever."""
    writer, store = EtcdStore(etcd_url), EtcdStore(etcd_url)
    other, door = Door(writer), Door(store)
    monkeypatch.setattr(store, "watch", lambda silence: iter(()))
    other.commands.put_tenant("late")
    Follower(door.commands, store).step()
    assert "late" in door.model.tenants
    writer.close()
    store.close()


def test_a_store_that_is_away(
    member: etcd.Member, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The controller would end, or its log be full of one line, when etcd is away."""
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 0.1)
    store = EtcdStore(etcd.url([member]))
    door = Door(store)
    door.commands.put_network(SRV)
    follower = Follower(door.commands, store)
    member.kill()
    with caplog.at_level(logging.INFO, "ryu_apps.follow"):
        for _ in range(3):
            follower.step()
        assert len(caplog.messages) == 1
        assert caplog.messages[0].endswith("; what is known is told, changes are refused")
        assert "default:srv" in door.model.networks
        member.start()
        while not member.healthy():
            pass
        follower.step()
        follower.step()
    assert caplog.messages[1:] == ["the store answers again, at revision 2"]
    store.close()
