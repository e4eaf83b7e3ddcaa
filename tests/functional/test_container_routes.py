"""Rules and routes in a container's namespace, on the real kernel."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import cast

import pytest

from netctl.agent import carrier
from netctl.agent.docker_api import Docker, DockerRefused, Inside, gateways_of
from netctl.agent.nsroutes import opened
from netctl.agent.state import Container, LocalEndpoint, LocalNetwork, State, Way
from netctl.agent.wayback import Attachment, Net, Wish, wanted
from netctl.agent.ways import Ways
from tests.kit.ovs import PREFIX, run

MAC = "02:42:0a:01:01:01"
ENDPOINT, OTHER = "e" * 64, "f" * 64
FRONT = LocalNetwork("1" * 64, "front", "default", "front", IPv4Network("10.1.1.0/24"), IPv4Address("10.1.1.254"))
ATTACHMENT = Attachment(ENDPOINT, "default", "front", 1, MAC, (ip_address("10.1.1.1"),), {4: ip_address("10.1.1.254")})
NETS = [Net(n, f"default:{n}", "default", ip_network(f"10.{n}.0.0/24")) for n in range(2, 202)]


class Box:
    """A namespace with an interface as Docker would put it there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"/run/netns/{name}"
        self.host_ends: list[str] = []

    def ip(self, *words: str) -> str:
        return run("ip", "-n", self.name, *words)

    def plug(self, host_end: str, name: str, mac: str, address: str) -> None:
        run("ip", "link", "add", host_end, "type", "veth", "peer", "name", name, "netns", self.name, "address", mac)
        self.host_ends.append(host_end)
        run("ip", "link", "set", host_end, "up")
        self.ip("address", "add", address, "dev", name)
        self.ip("link", "set", name, "up")

    def ours(self) -> list[str]:
        """Rules and routes of ours."""
        rules = [line for line in self.ip("rule").splitlines() if "proto" in line]
        return [*rules, *self.ip("route", "show", "table", "all", "proto", "78").splitlines()]


@pytest.fixture
def box() -> Iterator[Box]:
    """The namespace."""
    made = Box(f"{PREFIX}{os.getpid()}r")
    run("ip", "netns", "add", made.name)
    try:
        made.plug(f"nv{ENDPOINT[:12]}", "eth0", MAC, "10.1.1.1/24")
        made.ip("route", "add", "default", "via", "10.1.1.254")
        yield made
    finally:
        for host_end in made.host_ends:  # with the namespace alone they would go some time later
            run("ip", "link", "delete", host_end, check=False)
        run("ip", "netns", "delete", made.name)


class AskedDocker:
    """Docker, as far as it is asked here."""

    def __init__(self, path: str) -> None:
        self.found: Inside | None = Inside(path, os.getpid(), {})
        self.asked = 0

    def inside(self, container_id: str) -> Inside:
        self.asked += 1
        if self.found is None:
            raise DockerRefused("No such container", 404)
        return self.found


def a_host(box: Box) -> tuple[State, Ways, AskedDocker, list[str]]:
    """An agent's state with one container in the box, and what its controller is told of."""
    state, told = State("host"), cast(list[str], [])
    state.set_network(FRONT)
    state.put_endpoint(LocalEndpoint(ENDPOINT, FRONT.id, IPv4Address("10.1.1.1"), MAC, "c1"))
    state.set_container(Container("c1", state="running"))
    docker = AskedDocker(box.path)
    return state, Ways(state, cast(Docker, docker), told.append, lambda: None), docker, told


def test_what_is_written_is_read_back(box: Box) -> None:
    """Else each look writes all of it again, and open connections may lose their route for a moment."""
    box.plug("nvother", "eth1", "02:42:ac:12:00:02", "172.18.0.2/16")
    others = {ip_address("172.18.0.2"): ip_address("172.18.0.1")}
    with opened(box.path) as namespace:
        facts = namespace.read()
        wish = wanted(facts, [ATTACHMENT], others, NETS)
        assert len(wish.routes) > 10
        namespace.carry_out(facts, wish)
        after = namespace.read()
        assert (after.routes, after.rules) == (wish.routes, wish.rules)
        assert wanted(after, [ATTACHMENT], others, NETS) == wish
        namespace.carry_out(after, Wish(frozenset(), frozenset()))
    assert box.ours() == []


def test_what_is_the_containers_own_is_left_alone(box: Box) -> None:
    """A container that sets rules or routes itself would lose them when the agent looks."""
    box.ip("rule", "add", "from", "10.1.1.1", "lookup", "100", "priority", "7800")
    box.ip("route", "add", "10.9.0.0/16", "dev", "eth0", "table", "100")
    box.ip("route", "add", "10.5.0.0/24", "via", "10.1.1.7")
    before = box.ip("rule"), box.ip("route", "show", "table", "100"), box.ip("route")
    with opened(box.path) as namespace:
        facts = namespace.read()
        namespace.carry_out(facts, wanted(facts, [ATTACHMENT], {}, NETS))
        namespace.carry_out(namespace.read(), Wish(frozenset(), frozenset()))
    assert (box.ip("rule"), box.ip("route", "show", "table", "100"), box.ip("route")) == before


def test_routes_that_somebody_removed_come_back(box: Box) -> None:
    """A container would stay cut off for ever after `ip rule flush`, or a network that came meanwhile."""
    state, ways, docker, _ = a_host(box)
    assert ways.look("c1") == set(), "it is not known yet where it is"
    ways.joined(ENDPOINT, box.path)
    assert ways.look("c1") == {ENDPOINT}
    assert state.ways == {ENDPOINT: Way(primary=True)}
    before = box.ours()
    assert len(before) == 3
    box.ip("rule", "del", "priority", "7800")
    assert ways.look("c1") == set()
    assert sorted(box.ours()) == sorted(before)
    assert docker.asked == 0


def test_an_interface_is_seen_as_soon_as_it_is_up(box: Box) -> None:
    """A container's process would start before its routes are there, and lose what it does first."""
    seen: list[str] = []
    found = threading.Event()

    def watch() -> None:
        for name in carrier.carriers():
            seen.append(name)
            if name == "nvlate":
                found.set()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not found.is_set():  # the first one may be before the watch has begun
        assert time.monotonic() < until, seen
        box.plug("nvlate", "eth1", "02:42:0a:01:02:01", "10.1.2.1/24")
        found.wait(0.2)
        run("ip", "link", "delete", "nvlate")
    thread.join(10)


def test_a_namespace_that_is_not_the_containers(box: Box) -> None:
    """The host, or another container, would get routes that are none of its own."""
    with pytest.raises(OSError, match="own network namespace"), opened("/proc/self/ns/net"):
        pass
    for path in ("/etc/passwd", "/nowhere", "/proc/self/ns/ipc"):
        with pytest.raises(OSError), opened(path):
            pass
    state, ways, _, _ = a_host(box)
    state.put_endpoint(LocalEndpoint(ENDPOINT, FRONT.id, IPv4Address("10.1.1.2"), MAC, "c1"))
    ways.joined(ENDPOINT, box.path)
    assert ways.look("c1") == set()
    assert box.ours() == []


def test_a_container_that_is_gone_is_no_error(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    """Each container that ends at once would be reported as a fault of this host."""
    state, ways, docker, told = a_host(box)
    ways.joined(ENDPOINT, "/run/netns/nowhere")
    for found in (None, Inside("", 0, {}), Inside("/run/netns/nowhere", 2**22 + 1, {})):
        docker.found = found
        ways.look("c1")
        ways.look_at_all()
    assert (state.ways, told, caplog.records) == ({}, [], [])
    assert docker.asked >= 3


def test_routes_that_the_kernel_refuses(box: Box) -> None:
    """A service would go on choosing an address that can't answer, and nobody could see why."""
    state, ways, _, _ = a_host(box)
    ways.joined(ENDPOINT, box.path)
    state.set_network(replace(FRONT, gateway=IPv4Address("224.0.0.1")))
    assert ways.look("c1") == {ENDPOINT}
    assert state.ways[ENDPOINT].lost.startswith("the kernel refused its routes: ")
    document = state.document(ENDPOINT)
    assert document is not None
    assert document["noWayBack"] == state.ways[ENDPOINT].lost


JUNK = (b"", b"\x00" * 7, b"\x00" * 64, b"\xff" * 64, Path("/bin/true").read_bytes()[:900])


@pytest.mark.parametrize("content", JUNK, ids=range(len(JUNK)))
def test_bytes_that_are_no_message(content: bytes) -> None:
    """A datagram that is cut short would end the agent, or keep it busy for ever."""
    assert list(carrier.names(content)) == []


def test_addresses_that_docker_tells() -> None:
    """An internal network's gateway leads nowhere; what is no address is refused with a line."""
    entry = {"IPAddress": "172.18.0.2", "Gateway": "172.18.0.1", "GlobalIPv6Address": "", "IPv6Gateway": ""}
    assert gateways_of(entry, internal=False) == {ip_address("172.18.0.2"): ip_address("172.18.0.1")}
    assert gateways_of(entry, internal=True) == {ip_address("172.18.0.2"): None}
    with pytest.raises(DockerRefused, match="IPAddress 'x': not an IPv4 address"):
        gateways_of({"IPAddress": "x"}, internal=False)
