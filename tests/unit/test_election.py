"""Who leads, on a real etcd."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit import etcd
from tests.kit.ovs import wait_for
from topology.election import LEASE_SECONDS, Election, boot_clock
from topology.etcd import Etcd, delete, parse_url
from topology.etcd_store import EtcdStore
from topology.store import StoreUnavailable

AWAY_SECONDS = 2  # of a member: a candidate asks it in vain meanwhile, and has to ask another before its lease ends


class Candidate:
    """One that stands, by steps or in a thread; its clock may stand still."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.told: list[tuple[int, str]] = []
        self.store = EtcdStore(url)
        self.ahead = 0.0
        self.election = Election(self.store.etcd, name, f"http://{name}", self._changed, self.clock)
        self._ended = threading.Event()

    def clock(self) -> float:
        return boot_clock() + self.ahead

    def _changed(self) -> None:
        leader = self.election.leader
        self.told.append((self.election.generation, leader.name if leader else ""))

    @contextmanager
    def standing(self) -> Iterator[None]:
        """As `Election.run` does."""

        class Over(Exception):
            pass

        def sleep(seconds: float) -> None:
            if self._ended.wait(seconds):
                raise Over

        def run() -> None:
            try:
                self.election.run(sleep)
            except Over:
                return

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(10)

    def close(self) -> None:
        self.election.resign()
        self.store.close()


@pytest.fixture
def make(etcd_url: str) -> Iterator[Callable[[str], Candidate]]:
    made: list[Candidate] = []

    def candidate(name: str) -> Candidate:
        made.append(Candidate(etcd_url, name))
        return made[-1]

    yield candidate
    for one in made:
        one.close()


def test_one_leads_and_all_know_who(make: Callable[[str], Candidate]) -> None:
    """Two would write to the switches; or nobody knew whom to ask."""
    a, b = make("a"), make("b")
    for _ in range(3):
        a.election.step()
        b.election.step()
    assert a.election.generation > 1_700_000_000
    assert b.election.generation == 0
    assert a.election.leader == b.election.leader
    assert a.election.leader is not None
    assert a.election.leader.url == "http://a"
    assert (len(a.told), len(b.told)) == (1, 1), "told of changes only"


def test_who_resigns_is_followed_at_once_and_in_a_higher_generation(make: Callable[[str], Candidate]) -> None:
    """A stop would cost as long as a crash; or the switches took the old leader's writes."""
    a, b = make("a"), make("b")
    a.election.step()
    first = a.election.generation
    with b.standing():
        wait_for(lambda: b.election.leader, "b to know")
        began = time.monotonic()
        a.election.resign()
        wait_for(lambda: b.election.generation, "b to lead")
        assert time.monotonic() - began < 1
    assert b.election.generation > first
    assert a.election.generation == 0


def test_a_leader_that_says_nothing_is_followed_in_time(make: Callable[[str], Candidate]) -> None:
    """After a crash nobody would program the switches for longer than promised."""
    a, b = make("a"), make("b")
    a.election.step()
    began = time.monotonic()
    with b.standing():
        wait_for(lambda: b.election.generation, "b to lead")
        assert time.monotonic() - began < 4.5
        assert a.election.generation == 0, "and knows by itself"
        a.election.step()
        assert a.election.generation == 0
        assert a.election.leader == b.election.leader


def test_a_leader_that_has_slept_does_not_lead(make: Callable[[str], Candidate]) -> None:
    """One that was frozen would go on writing when it wakes, until it hears from etcd."""
    a = make("a")
    a.election.step()
    assert a.election.generation
    a.ahead += LEASE_SECONDS
    assert a.election.generation == 0
    a.ahead -= LEASE_SECONDS
    a.election.step()
    assert a.election.generation, "the lease holds still"


def test_a_lost_answer(make: Callable[[str], Candidate], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that leads without knowing it would keep the others from leading."""
    a, txn = make("a"), Etcd.txn

    def loses(self: Etcd, compare: Any, *args: Any) -> Any:
        answer = txn(self, compare, *args)
        if len(compare) == 2:  # the one by which it leads
            raise StoreUnavailable("the answer was lost")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Etcd, "txn", loses)
        a.election.step()
    assert a.election.generation == 0
    a.election.step()
    assert a.election.generation


def test_who_stands_is_told(make: Callable[[str], Candidate]) -> None:
    """Nobody would see that the second controller is gone, before the first one goes as well."""
    a, b = make("a"), make("b")
    for one in (a, b, a):
        one.election.step()
    assert a.election.standing == b.election.standing == ("http://a", "http://b")
    b.election.resign()
    a.election.step()
    assert a.election.standing == ("http://a",)


def test_two_at_one_url(make: Callable[[str], Candidate]) -> None:
    """Each would take the other for itself: requests end nowhere, and nobody is told why."""
    a, b = make("a"), make("a")
    for one in (a, b):
        one.election.step()
    assert not b.election.doubled, "it may have been started again"
    b.ahead += 2 * LEASE_SECONDS + 0.1
    b.election.step()
    assert (a.election.doubled, b.election.doubled) == (False, True)
    a.election.resign()
    b.election.step()
    assert (b.election.doubled, bool(b.election.generation)) == (False, True)
    assert len(b.told) == 3, "the leader, that there are two, and that it leads itself"


def test_the_key_deleted_by_hand(make: Callable[[str], Candidate], etcd_url: str) -> None:
    """Two would lead."""
    a, b = make("a"), make("b")
    a.election.step()
    url = parse_url(etcd_url)
    connection = Etcd(url)
    connection.txn([], [delete(f"{url.prefix}/leader")])
    connection.close()
    b.election.step()
    a.election.step()
    assert b.election.generation
    assert not a.election.generation


def test_members_of_etcd_come_and_go(tmp_path: Path) -> None:
    """There would be two leaders at some moment, or a generation twice, or none in the end."""
    with etcd.cluster(tmp_path, 3) as members:
        candidates = [Candidate(etcd.url(members), name) for name in "abc"]
        ended, seen, doubles = threading.Event(), set[tuple[str, int]](), list[object]()

        def look() -> None:
            while not ended.wait(0.005):
                elections = [(c.name, c.election.generation) for c in candidates]
                leading = {(name, generation) for name, generation in elections if generation}
                seen.update(leading)
                if len(leading) > 1:
                    doubles.append(leading)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            with candidates[0].standing(), candidates[1].standing(), candidates[2].standing():
                for number in (0, 1, 2):
                    wait_for(lambda: any(c.election.generation for c in candidates), "a leader")
                    member = members[number]
                    go, come = (member.freeze, member.thaw) if number == 1 else (member.kill, member.start)
                    go()
                    time.sleep(AWAY_SECONDS)
                    come()
                    wait_for(member.healthy, "it to be back")
                for member in members[:2]:
                    member.kill()
                wait_for(lambda: not any(c.election.generation for c in candidates), "no leader without a quorum")
                for member in members[:2]:
                    member.start()
                wait_for(lambda: any(c.election.generation for c in candidates), "a leader again")
        finally:
            ended.set()
            watcher.join(10)
        for candidate in candidates:
            candidate.close()
    assert not doubles
    generations = [generation for _, generation in seen]
    assert len(set(generations)) == len(generations)
