"""Controllers and members of etcd come and go, while changes are made through all of them: what is true at the end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from netctl.client import Client, ClientError
from tests.functional.test_leading import Pair, built, members
from tests.kit import etcd
from tests.kit.controller import Controller
from tests.kit.hosts import Host
from tests.kit.loop import asking
from tests.kit.ovs import wait_for
from topology.etcd_store import EtcdStore
from topology.model import Object
from topology.transfer import check

__all__ = ["built", "members"]

FAULTS = ["kill", "freeze", "term", "other", "member", "frozen member"]
VIP = "100.1.1.1"


def writer(pair: Pair, seed: int, ended: threading.Event, done: list[str]) -> None:
    """Services with a handful of VIPs and names, through whichever controller answers first."""
    rng = random.Random(seed)
    urls = [c.url for c in pair.controllers]
    while not ended.wait(0.02):
        rng.shuffle(urls)
        name = f"s{rng.randrange(6)}"
        with contextlib.suppress(ClientError), Client(",".join(urls), timeout=3) as client:
            if rng.random() < 0.3:
                client.delete_service(f"default:{name}")
            else:
                client.put_service(
                    {
                        "tenantName": "default", "serviceName": name, "networkName": "srv",
                        "ipAddress": f"100.1.1.{rng.randrange(10, 14)}", "selectors": ["tier=web"],
                        "ports": [f"{rng.randrange(80, 83)}:80:TCP"],
                    }
                )  # fmt: skip
            done.append(name)


def fault(pair: Pair, rng: random.Random, what: str) -> None:
    """Something goes for a few seconds, and comes back."""
    leader = pair.wait_for_roles()
    other = pair.other(leader)
    victim: Controller = other if what == "other" else leader
    member = rng.choice(pair.members)
    seconds = rng.uniform(0.5, 6)
    match what:
        case "freeze":
            os.kill(victim.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(victim.pid, signal.SIGCONT)
        case "member":
            member.kill()
            time.sleep(seconds)
            member.start()
        case "frozen member":
            member.freeze()
            time.sleep(seconds)
            member.thaw()
        case _:
            if what == "term":
                victim.stop()
            else:
                victim.kill()
            time.sleep(seconds)
            victim.start()
    for each in pair.members:
        wait_for(each.healthy, "etcd")


@pytest.fixture
def stored(members: list[etcd.Member]) -> Iterator[EtcdStore]:
    store = EtcdStore(etcd.url(members))
    yield store
    store.close()


def test_everything_goes_and_comes(built: Pair, stored: EtcdStore) -> None:
    """At some moment two would lead, or a VIP be given twice, or a switch keep what nobody wants."""
    pair = built
    rng = random.Random(int(os.environ.get("SEED", "1")))
    client = Host("c1", pair.lab.instance, pair.lab.bridge, "20.1.1.1/24", "20.1.1.254")
    ended, done = threading.Event(), list[str]()
    threads = [threading.Thread(target=writer, args=(pair, seed, ended, done)) for seed in (1, 2, 3)]
    with asking(client, "tcp", VIP, 8080) as tcp:
        for thread in threads:
            thread.start()
        try:
            for what in rng.sample(FAULTS, len(FAULTS)):
                before = len(done)
                fault(pair, rng, what)
                wait_for(lambda n=before: len(done) > n + 5, "changes to be made")  # type: ignore[misc]
        finally:
            ended.set()
            for thread in threads:
                thread.join(30)
    assert tcp.failures == []
    leader, _ = pair.settled()
    revision, objects, _ = stored.load()
    check(objects)
    assert stored.changes_since(max(0, revision - 100))
    services = _names(objects, "service")
    for ctl in pair.controllers:
        wait_for(lambda c=ctl: {s["key"] for s in c.client.services()} == services, "all to know the same")  # type: ignore[misc]
    before = pair.lab.contents()
    leader.restart()
    leader, doc = pair.settled()
    assert (doc["flowMods"], doc["groupMods"]) == (0, 0), "the switch has what the model wants"
    assert pair.lab.contents() == before
    print(f"{len(done)} changes, revision {revision}")


def _names(objects: list[Object], kind: str) -> set[str]:
    return {o.key for o in objects if o.kind == kind}
