"""Several controllers on one etcd: the leader programs the switch, and what becomes of it when it goes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from netctl.client import Client, ClientError, Refused
from tests.kit import etcd
from tests.kit.controller import Controller
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.loop import asking
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private
from topology.etcd import Etcd, parse_url
from topology.store import StoreUnavailable

WEB = {"tier": "web"}
VIP = "100.1.1.1"
TAKE_OVER = 5.0  # s, as promised


class Pair:
    """Two controllers, one of which leads; and a lab that asks the one or the other."""

    def __init__(self, lab: Lab, controllers: list[Controller], members: list[etcd.Member]) -> None:
        self.lab = lab
        self.controllers = controllers
        self.members = members

    def leader(self) -> Controller | None:
        """As etcd says."""
        connection = Etcd(parse_url(etcd.url(self.members)))
        try:
            found, _ = connection.get("/netctl/leader")
        except StoreUnavailable:
            found = None
        finally:
            connection.close()
        url = json.loads(found)["url"] if found else ""
        return next((c for c in self.controllers if c.url == url), None)

    def roles(self) -> dict[str, str]:
        """What the switch takes its controllers for."""
        columns = ("--format=json", "--columns=target,role")
        text = self.lab.instance.vsctl(*columns, "find", "controller", "is_connected=true")
        return {target: role for target, role in json.loads(text)["data"] if isinstance(role, str)}

    def youngest_flow(self) -> float:
        """How long ago (s) the latest flow was written."""
        dump = self.lab.instance.ofctl("dump-flows", self.lab.bridge)
        return min(float(age) for age in re.findall(r"duration=([0-9.]+)s", dump))

    def programs(self, ctl: Controller) -> bool:
        """Whether this one leads, and has the switch as the model wants it."""
        with contextlib.suppress(ClientError):
            return self.leader() is ctl and bool(ctl.switch(self.lab.dpid).get("settled"))
        return False

    def wait_for_roles(self) -> Controller:
        """Wait until the leader is the master, and the others that run are slaves; the leader."""
        found: list[Controller] = []

        def settled() -> bool:
            leader = self.leader()
            if leader is None or not leader.running:
                return False
            found[:] = [leader]
            wanted = {c.target: "master" if c is leader else "slave" for c in self.controllers if c.running}
            return self.roles() == wanted

        wait_for(settled, f"the roles: {self.roles()}")
        return found[0]

    def settled(self) -> tuple[Controller, dict[str, Any]]:
        """The leader, when its switch carries out the model, and the switch's document.

        Until its lease ends, etcd names a leader that was started again, and the switch shows its old role.
        """
        found: list[Controller] = []

        def settled() -> bool:
            found[:] = [self.wait_for_roles()]
            return self.programs(found[0])

        wait_for(settled, "the leader to have programmed the switch")
        return found[0], found[0].switch(self.lab.dpid)

    def other(self, leader: Controller) -> Controller:
        """Who does not lead."""
        return next(c for c in self.controllers if c is not leader)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[etcd.Member]]:
    with etcd.cluster(tmp_path_factory.mktemp("etcd"), 3) as made:
        yield made


@pytest.fixture(scope="module")
def built(
    instance: Private, members: list[etcd.Member], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A service with two providers and a client; two controllers."""
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(instance.bridge("ld"))
        controllers = []
        for name in "ab":
            made = Controller(
                tmp_path_factory.mktemp(name), instance.controller_host, "--store", etcd.url(members)
            )
            stack.callback(made.close)
            made.start()
            controllers.append(made)
        instance.flush_conntrack()
        lab = Lab(instance, bridge, controllers[0], stack)
        pair = Pair(lab, controllers, members)
        instance.vsctl("set-controller", bridge, *(c.target for c in controllers))
        uuids = instance.vsctl("get", "bridge", bridge, "controller").strip("[]").split(", ")
        for uuid in uuids:
            instance.vsctl("set", "controller", uuid, "max_backoff=1000")
        pair.settled()
        lab.network("srv", "100.1.1.0/24")
        lab.network("web", "10.1.1.0/24", "10.1.1.254")
        lab.network("cli", "20.1.1.0/24", "20.1.1.254")
        for name in ("w1", "w2"):
            lab.host(name, "web", f"10.1.1.{name[1]}", WEB, serve=["tcp:80", "udp:53"])
        lab.host("c1", "cli", "20.1.1.1")
        assert lab.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"]) == VIP
        yield pair


@pytest.fixture
def pair(built: Pair) -> Pair:
    """The same, both running and one leading, whatever the last test has done."""
    for member in built.members:
        if member._process is None:
            member.start()
    for member in built.members:
        wait_for(member.healthy, "etcd")
    for ctl in built.controllers:
        if not ctl.running:
            ctl.start()
    built.settled()
    return built


@pytest.fixture
def client(pair: Pair) -> Host:
    return Host("c1", pair.lab.instance, pair.lab.bridge, "20.1.1.1/24", "20.1.1.254")


def test_any_controller_takes_reads_and_writes(pair: Pair, client: Host) -> None:
    """A user who asks the one that does not lead would be refused, or told that all is done when it is not."""
    leader, _ = pair.settled()
    other = pair.other(leader)
    for ask, vip in ((other, "100.1.1.7"), (leader, "100.1.1.8")):
        ask.client.put_service(
            {
                "tenantName": "default", "serviceName": "more", "networkName": "srv", "ipAddress": vip,
                "selectors": ["tier=web"], "ports": ["8080:80:TCP"],
            }
        )  # fmt: skip
        assert client.reaches("tcp", vip, 8080), "the answer says that the switch has it"
        for reader in pair.controllers:
            wait_for(lambda r=reader, v=vip: v in str(r.client.services()), "all to have it")  # type: ignore[misc]
    other.client.delete_service("default:more")
    assert not client.reaches("tcp", "100.1.1.8", 8080)
    leads = {leader.url: True, other.url: False}
    for ctl in pair.controllers:
        assert {doc["url"]: doc["leads"] for doc in ctl.client.controllers()} == leads
    assert [s["dpid"] for s in other.client.switches()] == [pair.lab.dpid]
    assert other.client.switch(pair.lab.dpid)["connected"]
    assert other.client.inspect("serviceLBs", "default:app")["Oper"]["counters"]


def test_a_network_is_waited_for_on_every_host(pair: Pair) -> None:
    """A container that starts at once on a host whose agent asks another controller would find no network."""
    leader, _ = pair.settled()
    other = pair.other(leader)
    other.client.put_host({"hostName": "h1", "switch": "b1", "tunnelAddress": "192.0.2.1"})
    ready, made = threading.Event(), list[str]()

    def agent() -> None:
        with Client(f"{other.url},{leader.url}") as stream, Client(f"{other.url},{leader.url}") as client:
            for change in stream.changes(host="h1"):
                ready.set()
                if change["kind"] == "network" and change["key"] == "default:waited":
                    time.sleep(0.3)  # as long as Docker takes
                    made.append(change["key"])
                    client.applied("h1", change["revision"])
                    if len(made) == 3:
                        return

    thread = threading.Thread(target=agent)
    thread.start()
    assert ready.wait(10)
    for number, ctl in enumerate((other, leader), 1):
        ctl.client.put_network({"tenantName": "default", "networkName": "waited", "subnet": "10.77.0.0/24"})
        assert len(made) == 2 * number - 1, "the answer comes when the host has it"
        assert [h["connected"] for h in ctl.client.hosts()] == [True]
        if number == 1:
            ctl.client.delete_network("default:waited")
    thread.join(10)
    leader.client.delete_network("default:waited")
    leader.client.drain_host("h1")  # one that is up and not drained stays
    leader.client.delete_host("h1")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_leader_that_ends_is_followed(pair: Pair, client: Host, how: signal.Signals) -> None:
    """Connections would be cut, the switch be filled anew, or nobody answer for longer than promised."""
    leader, _ = pair.settled()
    other = pair.other(leader)
    before = pair.lab.contents()
    with (
        asking(client, "tcp", VIP, 8080) as tcp,
        asking(client, "udp", VIP, 53) as udp,
        client.connect("tcp", VIP, 8080) as connection,
    ):
        provider = ask_again(connection)
        tcp.wait_for_more()
        began = time.monotonic()
        if how == signal.SIGTERM:
            leader.stop()
            assert pair.leader() is not leader, "it has resigned: the other need not wait for the end of its lease"
        else:
            leader.kill()
        wait_for(lambda: pair.programs(other), "the other to lead", TAKE_OVER)
        took = time.monotonic() - began
        doc = other.wait_for_switch(pair.lab.dpid)
        assert (doc["flowMods"], doc["groupMods"]) == (0, 0)
        tcp.wait_for_more()
        udp.wait_for_more()
        assert ask_again(connection) == provider
        leader.start()
        assert pair.settled()[0] is other
        tcp.wait_for_more()
    print(f"the next led after {took:.2f} s")
    assert (tcp.failures, udp.failures) == ([], [])
    assert pair.lab.contents() == before
    doc = other.switch(pair.lab.dpid)
    assert (doc["flowMods"], doc["groupMods"]) == (0, 0)


def test_a_leader_frozen_past_its_lease_writes_nothing(pair: Pair, client: Host) -> None:
    """When it wakes it would put back what the new leader has changed, or write to the store as if it led."""
    leader, _ = pair.settled()
    other = pair.other(leader)
    os.kill(leader.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: pair.leader() is other, "the other to lead", TAKE_OVER)
        # into its socket, while it sleeps: a write, which it will find when it wakes
        sleepy = Client(leader.url, timeout=0.2)
        with pytest.raises(ClientError):
            sleepy.put_service(
                {
                    "tenantName": "default", "serviceName": "late", "networkName": "srv", "ipAddress": "100.1.1.9",
                    "selectors": ["tier=web"], "ports": ["8080:80:TCP"],
                }
            )  # fmt: skip
        other.wait_for_switch(pair.lab.dpid)
        other.client.put_service(
            {
                "tenantName": "default", "serviceName": "meanwhile", "networkName": "srv", "ipAddress": "100.1.1.9",
                "selectors": ["tier=web"], "ports": ["9090:80:TCP"],
            }
        )  # fmt: skip
        assert client.reaches("tcp", "100.1.1.9", 9090)
        before = pair.lab.contents()
        doc = other.switch(pair.lab.dpid)
    finally:
        os.kill(leader.pid, signal.SIGCONT)
        woken = time.monotonic()
    assert pair.settled()[0] is other
    wait_for(lambda: "do not lead any more" in leader.log(), "it to know")
    wait_for(lambda: "meanwhile" in str(leader.client.services()), "it to have it")
    assert pair.lab.contents() == before
    assert other.switch(pair.lab.dpid)["flowMods"] == doc["flowMods"]
    assert pair.youngest_flow() > time.monotonic() - woken, "none was written since, not even as it was"
    assert client.reaches("tcp", "100.1.1.9", 9090)
    for ctl in pair.controllers:
        wait_for(lambda c=ctl: "meanwhile" in str(c.client.services()), "both to have it")  # type: ignore[misc]
        assert "late" not in str(ctl.client.services()), "one VIP is not given twice"
    other.client.delete_service("default:meanwhile")
    wait_for(lambda: "meanwhile" not in str(leader.client.services()), "both to have forgotten it")


def test_etcd_away_and_back(pair: Pair, client: Host) -> None:
    """Reads would hang or fail, a refused write be half done, or a controller end."""
    pair.settled()
    before = pair.lab.contents()
    pids = [c.pid for c in pair.controllers]
    with asking(client, "tcp", VIP, 8080) as tcp:
        for member in pair.members:
            member.kill()
        for ctl in pair.controllers:
            with pytest.raises(Refused, match=r"store etcd://.* can't be reached: ") as refused:
                ctl.client.put_tenant("red")
            assert refused.value.status == 503
            assert [s["serviceName"] for s in ctl.client.services()] == ["app"]
            assert {e["endpointID"] for e in ctl.client.endpoints()} == {"w1", "w2", "c1"}
        wait_for(lambda: "master" not in pair.roles().values(), "nobody to lead")
        tcp.wait_for_more()
        for member in pair.members:
            member.start()
        for member in pair.members:
            wait_for(member.healthy, "etcd")
        _, doc = pair.settled()
        assert (doc["flowMods"], doc["groupMods"]) == (0, 0)
        for number, ctl in enumerate(pair.controllers):
            ctl.client.put_tenant(f"back{number}")
        tcp.wait_for_more()
    assert tcp.failures == []
    for ctl in pair.controllers:
        wait_for(lambda c=ctl: "back1" in str(c.client.tenants()), "both to have it")  # type: ignore[misc]
        assert "red" not in str(ctl.client.tenants())
        ctl.client.delete_tenant(f"back{pair.controllers.index(ctl)}")
    assert [c.pid for c in pair.controllers] == pids
    assert pair.lab.contents() == before


def test_a_member_of_etcd_lost(pair: Pair, client: Host) -> None:
    """One machine's loss would stop the writes."""
    pair.members[0].kill()
    deadline = time.monotonic() + 10
    for ctl in pair.controllers:
        while True:
            try:
                ctl.client.put_tenant("red")
                break
            except ClientError:
                assert time.monotonic() < deadline
    pair.settled()
    assert client.reaches("tcp", VIP, 8080)
    pair.members[0].start()
    pair.controllers[0].client.delete_tenant("red")


def test_all_at_once(pair: Pair, client: Host) -> None:
    """After a power cut something would be lost, or the switch be filled anew."""
    before = pair.lab.contents()
    for ctl in pair.controllers:
        ctl.kill()
    for member in pair.members:
        member.kill()
    assert client.reaches("tcp", VIP, 8080)
    for member in pair.members:
        member.start()
    for member in pair.members:
        wait_for(member.healthy, "etcd")
    for ctl in pair.controllers:
        ctl.start()
    _, doc = pair.settled()
    assert (doc["flowMods"], doc["groupMods"]) == (0, 0)
    assert pair.lab.contents() == before
