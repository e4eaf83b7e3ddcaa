"""A fabric whose controllers die: the next one finds the links anew, and changes nothing meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import etcd
from tests.kit.controller import Controller, controller
from tests.kit.hosts import Host
from tests.kit.loop import asking
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private
from tests.kit.weave import weave

RING = [("s1", "s2"), ("s2", "s3"), ("s3", "s4"), ("s4", "s1")]
VIP = "100.1.1.1"


@pytest.fixture
def pair(instance: Private, tmp_path: Path) -> Iterator[list[Controller]]:
    """Two controllers on one etcd; the first one was there first."""
    with etcd.cluster(tmp_path) as members, contextlib.ExitStack() as stack:
        made = []
        for name in "ab":
            (tmp_path / name).mkdir()
            options = (tmp_path / name, instance.controller_host, "--store", etcd.url(members))
            made.append(stack.enter_context(controller(*options)))
            wait_for(lambda: leads(made[0]), "the first one to lead")
        yield made


def leads(one: Controller) -> bool:
    """Whether it says so itself."""
    return any(doc["leads"] and doc["url"] == one.url for doc in one.client.controllers())


def test_a_leader_is_killed(instance: Private, pair: list[Controller], tmp_path: Path) -> None:
    """If it fails: with the leader, what reaches over links is cut off until the next one has found them again."""
    with weave(tmp_path, instance, ["s1", "s2", "s3", "s4"], RING, pair) as ring:
        ring.network("srv", "100.1.1.0/24")
        ring.network("web", "10.1.1.0/24", "10.1.1.254")
        ring.network("cli", "20.1.1.0/24", "20.1.1.254")
        assert ring.service("app", "srv", ["8080:80:TCP"], ["tier=web"]) == VIP
        client = ring.host("c1", "s1", "cli", "20.1.1.1")
        for number in (2, 3, 4):
            ring.host(f"w{number}", f"s{number}", "web", f"10.1.1.{number}", {"tier": "web"}, serve=["tcp:80"])
        wait_for(lambda: client.answered_by({"w2", "w3", "w4"}, VIP, 8080, 24), "all to answer")
        before = ring.contents()
        with asking(client, "tcp", VIP, 8080) as loop:
            loop.wait_for_more()
            pair[0].kill()
            ring.control = pair[1]
            wait_for(lambda: leads(pair[1]), "the other to lead", 5)
            ring.wait_for_cables(0, 1, 2, 3)
            loop.wait_for_more(20)
        assert loop.failures == []
        documents = [ring.control.switch(dpid) for dpid in ring.dpids.values()]
        assert [(d["flowMods"], d["groupMods"]) for d in documents] == [(0, 0)] * 4
        assert ring.contents() == before
        ring.cable(0, "down")
        ring.wait_for_cables(1, 2, 3)
        wait_for(lambda: client.answered_by({"w2", "w3", "w4"}, VIP, 8080, 24), "the other way round to be taken")
        newcomer: Host = ring.host("w5", "s3", "web", "10.1.1.5", {"tier": "web"}, serve=["tcp:80"])
        wait_for(lambda: newcomer.name in client.who("tcp", VIP, 8080, 12), "what is new to work as well")
