"""Controllers and etcd come and go under a cluster that works: what its users notice of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from tests.cluster.machines import Manager
from tests.cluster.stage import Stage
from tests.e2e.machine import wait_for
from tests.e2e.node import IMAGE
from tests.e2e.test_walkthrough import LABELS, VIP
from tests.kit.hosts import ask_again
from tests.kit.loop import asking

TAKE_OVER = 5.0  # s until the next one leads


def leading(stage: Stage) -> tuple[Manager, Manager]:
    """The one that leads, when all switches carry out the model, and the other."""
    wait_for(stage.all_settled, "the switches")
    leader = stage.cluster.leader()
    assert leader is not None
    return leader, next(m for m in stage.cluster.controllers if m is not leader)


def obeyed(stage: Stage, leader: Manager) -> bool:
    """Whether all switches have both, and take that one for their master."""
    wanted = {m.ip: "master" if m is leader else "slave" for m in stage.cluster.controllers}
    return all(member.roles() == wanted for member in stage.cluster.members)


def start_provider(stage: Stage, host: int, name: str) -> None:
    """One that gets connections once it serves."""
    member = stage.cluster.members[host]
    health = ("--health-cmd", "test -f /tmp/ok", "--health-interval=1s", "--health-retries=1")
    stage.start(member, name, "web-net", *LABELS, *health).serve("tcp:80")
    member.docker("exec", name, "touch", "/tmp/ok")


def new_provider(stage: Stage, host: int, name: str, providers: str = "4/4") -> None:
    """One more, which makes them so many; the clients of all hosts reach it."""
    start_provider(stage, host, name)
    wait_for(lambda: stage.providers() == providers, "the provider")
    for client in ("c1", "c2"):
        wait_for(lambda c=client: name in stage.answering(c, 10), f"{name} to answer {client}")  # type: ignore[misc]


@contextlib.contextmanager
def kept_asking(stage: Stage) -> Iterator[None]:
    """Clients of two hosts ask all the while, and all of it is answered."""
    with asking(stage.clients[0], "tcp", VIP, 8080) as one, asking(stage.clients[1], "tcp", VIP, 8080) as other:
        for loop in (one, other):
            loop.wait_for_more()
        yield
        for loop in (one, other):
            loop.wait_for_more()
    assert (one.failures, other.failures) == ([], [])


def test_any_controller_takes_everything(stage: Stage) -> None:
    """Else a user has to know which one leads."""
    leader, follower = leading(stage)
    assert obeyed(stage, leader)
    listed = {line.split()[0]: line.split()[1] for line in follower.netctl("controller", "ls").splitlines()[2:]}
    assert listed == {leader.url: "yes", follower.url: "no"}
    for manager in (follower, leader):
        assert "Creating network" in manager.netctl("net", "create", "more-net", "-s", "30.1.1.0/24")
        for member in stage.cluster.members:
            assert "more-net" in member.docker_networks(), "every host has it when the answer comes"
        assert manager.netctl("host", "ls", "-q").split() == ["h1", "h2", "h3"]
        manager.netctl("net", "rm", "more-net")


def test_a_leader_that_is_killed(stage: Stage) -> None:
    """Else services stop to change, or connections are cut, when one machine goes."""
    leader, follower = leading(stage)
    with kept_asking(stage), stage.clients[0].connect("tcp", VIP, 8080) as connection:
        provider = ask_again(connection)
        leader.kill("controller")
        died = time.monotonic()
        wait_for(lambda: stage.cluster.leader() is follower, "the other to lead", TAKE_OVER)
        print(f"the next led after {time.monotonic() - died:.2f} s")
        wait_for(stage.all_settled, "the switches")
        assert [(s["flowMods"], s["groupMods"]) for s in stage.switches()] == [(0, 0)] * 3, "nothing is rewritten"
        assert ask_again(connection) == provider
        new_provider(stage, 2, "p4")
        leader.start_controller()
        wait_for(lambda: obeyed(stage, follower), "the switches to have both again")
        assert ask_again(connection) == provider


def test_a_leader_whose_wire_is_cut(stage: Stage) -> None:
    """Else two controllers program the switches when the network is broken between them, or when it is mended."""
    leader, follower = leading(stage)
    with kept_asking(stage):
        stage.cluster.cut(leader)
        wait_for(lambda: stage.cluster.leader() is follower, "the other to lead", TAKE_OVER + 1)
        wait_for(stage.all_settled, "the switches")
        new_provider(stage, 1, "p4")
        flows = {s["dpid"]: s["flowMods"] for s in stage.switches()}
        stage.cluster.cut(leader, cut=False)
        wait_for(lambda: obeyed(stage, follower), "the switches to have both again")
        # 0: it has connected anew, and there was nothing to send
        assert all(s["flowMods"] in (flows[s["dpid"]], 0) for s in stage.switches()), "nothing is written by anybody"
        wait_for(lambda: "4/4" in leader.netctl("service", "ls"), "it to know what has happened")


def test_a_leader_that_is_frozen_past_its_lease(stage: Stage) -> None:
    """Else it puts back, when it wakes, what has been changed meanwhile."""
    leader, follower = leading(stage)
    with kept_asking(stage):
        leader.freeze("controller")
        wait_for(lambda: says_it_leads(follower), "the other to lead", TAKE_OVER)
        wait_for(lambda: settled_at(follower), "the switches")
        start_provider(stage, 0, "p4")
        wait_for(lambda: "4/4" in follower.netctl("service", "ls"), "the provider")
        before = mods(follower)
        leader.thaw("controller")
        wait_for(lambda: "we do not lead any more" in leader.log("controller"), "it to know")
        wait_for(lambda: obeyed(stage, follower), "the switches to have both again")
        assert mods(follower) == before
        assert stage.answering() == stage.answering("c2") == {"p1", "p2", "p3", "p4"}


def says_it_leads(manager: Manager) -> bool:
    """Whether this one says that it leads itself."""
    listed = json.loads(manager.rest("/api/v1/controllers/"))
    return any(doc["url"] == manager.url and doc["leads"] for doc in listed)


def settled_at(manager: Manager) -> bool:
    """Whether the switches of all three hosts carry out the model, as this one sees it."""
    found = json.loads(manager.rest("/api/v1/switches/"))
    return len(found) == 3 and all(switch["settled"] for switch in found)


def mods(manager: Manager) -> dict[str, tuple[int, int]]:
    """How much this one has written to each switch."""
    return {s["dpid"]: (s["flowMods"], s["groupMods"]) for s in json.loads(manager.rest("/api/v1/switches/"))}


def test_a_member_of_etcd_that_is_lost(stage: Stage) -> None:
    """Else the loss of one of three machines stops all changes."""
    with kept_asking(stage):
        stage.cluster.managers[0].kill("etcd")
        new_provider(stage, 1, "p4")
        stage.cluster.netctl("net", "create", "more-net", "-s", "30.1.1.0/24")
        stage.cluster.managers[0].start_etcd()
        stage.cluster.wait_for_etcd()
        stage.cluster.netctl("net", "rm", "more-net")


def test_etcd_without_a_majority(stage: Stage) -> None:
    """Else what happens on the hosts meanwhile is lost, or a start that was refused leaves something behind."""
    first, second, _ = stage.cluster.members
    with kept_asking(stage):
        for manager in stage.cluster.managers[1:]:
            manager.kill("etcd")
        refused = second.docker_error("run", "-d", "--name=late", "--net=web-net", IMAGE, "sleep", "3600")
        assert "no IPv4 address in default:web-net: the controller at http" in refused
        assert "store etcd://" in refused or "no controller leads" in refused
        second.docker("rm", "late")
        assert "app-svc" in stage.cluster.netctl("service", "ls"), "what is known is told"
        refused = stage.cluster.complaint("net", "create", "more-net", "-s", "30.1.1.0/24")
        assert refused.startswith(("store etcd://", "no controller leads")), refused
    stage.inside.pop("p1").__exit__()
    first.docker("rm", "-f", "p1")
    near = stage.clients[0]
    wait_for(lambda: near.answered_by({"p2", "p3"}, VIP, 8080, 20), "its own host's switch to pass over it")
    for manager in stage.cluster.managers[1:]:
        manager.start_etcd()
    stage.cluster.wait_for_etcd()
    wait_for(lambda: stage.providers() == "2/2", "what has happened to be told")
    with kept_asking(stage):
        assert set(stage.cluster.endpoints()) == {"p2", "p3", "c1", "c2"}
        assert "more-net" not in stage.cluster.netctl("net", "ls")
        new_provider(stage, 0, "p4", "3/3")
        wait_for(stage.all_settled, "the switches")


def test_everything_is_switched_off(stage: Stage) -> None:
    """Else a power cut of all managers at once loses the model, or costs connections between hosts."""
    with kept_asking(stage):
        for manager in stage.cluster.managers:
            for name in tuple(manager.processes):
                manager.kill(name)
        for manager in stage.cluster.managers:
            manager.start_etcd()
        stage.cluster.wait_for_etcd()
        for manager in stage.cluster.controllers:
            manager.start_controller()
        wait_for(stage.all_settled, "the switches")
    assert [(s["flowMods"], s["groupMods"]) for s in stage.switches()] == [(0, 0)] * 3
    assert stage.providers() == "3/3"
