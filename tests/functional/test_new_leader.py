"""What only the leader observes, with several hosts: followers do not guess it, and the next leader begins with it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from netctl.client import Client, ClientError
from tests.kit import etcd
from tests.kit.controller import Controller
from tests.kit.nodes import Node
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import private
from topology.etcd_store import EtcdStore
from topology.model import Host

BEAT = 0.5  # s
JUDGED = 8.0  # s after which a new leader has judged every host
SERVICE = "default:app"


class Hosts:
    """Hosts that two controllers serve; ``alive`` ones send heartbeats, as their agents would."""

    def __init__(self, controllers: list[Controller], store_url: str, stack: contextlib.ExitStack) -> None:
        self.controllers = controllers
        self.store_url = store_url
        self.nodes: dict[str, Node] = {}
        self.alive: set[str] = set()
        self._stack = stack
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Hosts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)

    def _beat(self) -> None:
        with Client(",".join(c.url for c in self.controllers), timeout=3) as client:
            while not self._ended.wait(BEAT):
                for name in sorted(self.alive):
                    with contextlib.suppress(ClientError):
                        client.put_host(self._document(name))  # type: ignore[arg-type]

    def _document(self, name: str) -> dict[str, str]:
        node = self.nodes[name]
        return {"hostName": name, "switch": node.dpid, "tunnelAddress": node.address}

    @property
    def running(self) -> list[Controller]:
        """The controllers that run."""
        return [c for c in self.controllers if c.running]

    def leader(self) -> Controller:
        """Who leads, as soon as somebody does."""
        found: list[Controller] = []

        def led() -> bool:
            for asked in self.running:
                with contextlib.suppress(ClientError):
                    leads = {doc["url"] for doc in asked.client.controllers() if doc["leads"]}
                    found[:] = [c for c in self.running if c.url in leads]
            return bool(found)

        wait_for(led, "a leader")
        return found[0]

    def follower(self) -> Controller:
        """Who does not lead."""
        leader = self.leader()
        return next(c for c in self.running if c is not leader)

    def join(self, name: str, *containers: str) -> None:
        """A host comes, with these containers on it, all of them providers."""
        instance = self._stack.enter_context(private(f"n{name}"))
        number = len(self.nodes) + 1
        node = Node(name, number, instance, self._stack.enter_context(instance.bridge("br")), self._stack)
        self.nodes[name] = node
        node.add_tunnel_port()
        for ctl in self.controllers:
            if ctl.host != instance.controller_host:
                instance.ip("route", "replace", ctl.host, "via", instance.controller_host)
        leader = self.leader()
        leader.client.put_host(self._document(name))  # type: ignore[arg-type]
        self.alive.add(name)
        instance.vsctl("set-controller", node.bridge, *(c.target for c in self.controllers))
        for uuid in instance.vsctl("get", "bridge", node.bridge, "controller").strip("[]").split(", "):
            instance.vsctl("set", "controller", uuid, "max_backoff=1000")
        leader.wait_for_switch(node.dpid)
        for container in containers:
            address = f"10.1.{number}.{container[1:]}/16"
            node.host(leader, container, "web", address, gateway="10.1.255.254", labels={"tier": "web"})

    def switch_off(self, name: str) -> None:
        """Agent and switch of a host end at once."""
        self.alive.discard(name)
        with contextlib.suppress(AssertionError):
            self.nodes[name].instance.end_switch(9)

    def revive(self) -> None:
        """Every switch runs."""
        for node in self.nodes.values():
            if not node.instance.switch_pid:
                node.instance.start_switch()

    def judged_dead(self) -> set[str]:
        """The hosts that are stored as dead."""
        store = EtcdStore(self.store_url)
        try:
            return {o.name for o in store.load()[1] if isinstance(o, Host) and o.dead}
        finally:
            store.close()

    def mods(self) -> dict[str, tuple[int, int]]:
        """Flow and group mods that each switch of a living host was sent by the leader."""
        leader = self.leader()
        docs = {name: leader.switch(node.dpid) for name, node in self.nodes.items() if name in self.alive}
        return {name: (doc.get("flowMods", -1), doc.get("groupMods", -1)) for name, doc in docs.items()}


def providers(ctl: Controller) -> str:
    """As `netctl service ls` shows them: healthy/all; ? where the controller does not know."""
    (doc,) = [doc for doc in ctl.client.services() if doc["key"] == SERVICE]
    return f"{doc.get('healthyProviders', '?')}/{doc['numProviders']}"


def states(ctl: Controller) -> dict[str, str]:
    """The hosts' states."""
    return {doc["hostName"]: doc["state"] for doc in ctl.client.hosts()}


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts with a provider each; then, when both controllers run, a third joins with two."""
    with contextlib.ExitStack() as stack:
        members = stack.enter_context(etcd.cluster(tmp_path_factory.mktemp("etcd"), 1))
        address = stack.enter_context(private("nm")).controller_host
        controllers = []
        for name in "xy":
            made = Controller(tmp_path_factory.mktemp(name), address, "--store", etcd.url(members))
            stack.callback(made.close)
            controllers.append(made)
        controllers[0].start()
        made_hosts = stack.enter_context(Hosts(controllers, etcd.url(members), stack))
        rest = made_hosts.leader().client
        rest.put_network(
            {"tenantName": "default", "networkName": "web", "subnet": "10.1.0.0/16", "gateway": "10.1.255.254"}
        )
        rest.put_network({"tenantName": "default", "networkName": "srv", "subnet": "100.1.1.0/24"})
        rest.put_service(
            {
                "tenantName": "default", "serviceName": "app", "networkName": "srv", "selectors": ["tier=web"],
                "ports": ["80:80:TCP"],
            }
        )  # fmt: skip
        made_hosts.join("a", "w1")
        made_hosts.join("b", "w2")
        # the other controller has run for longer than it takes to judge a host
        controllers[1].start()
        until = time.monotonic() + JUDGED
        wait_for(lambda: time.monotonic() > until, "it to have judged")
        made_hosts.join("c", "w3", "w4")
        for ctl in controllers:
            wait_for(lambda c=ctl: providers(c) == "4/4", "all to serve")  # type: ignore[misc]
        stack.callback(made_hosts.revive)
        yield made_hosts


def hand_over(hosts: Hosts) -> None:
    """The leader is killed; another leads and has every living host's switch."""
    before = hosts.leader()
    before.kill()
    wait_for(lambda: hosts.leader() is not before, "another to lead")
    for name in hosts.alive:
        hosts.leader().wait_for_switch(hosts.nodes[name].dpid)


def watch(hosts: Hosts, serving: str) -> None:
    """No switch is sent anything by the new leader, and nobody is taken for dead, until all have been judged."""
    until = time.monotonic() + JUDGED
    while time.monotonic() < until:
        assert hosts.mods() == dict.fromkeys(hosts.alive, (0, 0))
        assert providers(hosts.leader()) == serving
        time.sleep(0.2)  # between two looks


def test_a_failover_sends_nothing(hosts: Hosts) -> None:
    """Else a new leader takes a host that joined after its own start for dead, and rewrites every service."""
    hand_over(hosts)
    watch(hosts, "4/4")


def test_a_host_that_is_dead(hosts: Hosts) -> None:
    """Else a follower shows its providers as healthy, and a new leader sends connections to them."""
    hosts.switch_off("b")
    leader, follower = hosts.leader(), hosts.follower()
    wait_for(lambda: providers(leader) == "3/4", "the leader to know")
    wait_for(lambda: hosts.judged_dead() == {"b"}, "it to be judged")
    for node in (hosts.nodes[name] for name in hosts.alive):
        leader.wait_for_switch(node.dpid)
    assert providers(follower) == "3/4"
    assert states(follower) == states(leader) == {"a": "up", "b": "down", "c": "up"}
    hand_over(hosts)
    watch(hosts, "3/4")
    hosts.revive()
    hosts.alive.add("b")
    wait_for(lambda: providers(hosts.leader()) == "4/4", "it to be back")


def test_a_container_that_has_lost_its_port(hosts: Hosts) -> None:
    """Else a new leader sends connections to it until its host's switch has told of its ports."""
    node = hosts.nodes["c"]
    (port,) = [p["name"] for p in hosts.leader().switch(node.dpid)["ports"] if p["name"] == _port_of(hosts, "w4")]
    before = hosts.mods()["a"]
    node.instance.vsctl("del-port", port)
    wait_for(lambda: hosts.mods()["a"] > before, "the other hosts to pass over it")
    wait_for(lambda: providers(hosts.leader()) == "3/4", "the leader to show it")
    for name in hosts.alive:
        hosts.leader().wait_for_switch(hosts.nodes[name].dpid)
    hand_over(hosts)
    wait_for(lambda: providers(hosts.leader()) == "3/4", "the new leader to hear of its port")
    watch(hosts, "3/4")


def _port_of(hosts: Hosts, container: str) -> str:
    return next(e["portName"] for e in hosts.leader().client.endpoints() if e["endpointID"] == container)
