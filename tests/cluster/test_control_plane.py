"""Containers on three hosts, and three managers that they can all send to: nothing of the control plane is open."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pytest

from tests.cluster.machines import CLIENTS, CONTROLLERS, MANAGERS, OWN, PEERS, SUBNET
from tests.cluster.stage import Stage
from tests.e2e.machine import wait_for
from tests.e2e.test_walkthrough import VIP, Inside
from tests.kit import frames

REST, OPENFLOW, TUNNEL = 9999, 6653, 4789
RIGHTS = ("--cap-add=NET_ADMIN", "--cap-add=NET_RAW")  # all that there are in a network namespace of one's own


@pytest.fixture
def clients(stage: Stage) -> Iterator[list[Inside]]:
    """With nat, and with natHost too; on two hosts each."""
    made: list[Inside] = []
    networks = (("shut", "30.1.1", ()), ("open", "30.1.2", ("--nat-host",)))
    for n, (network, part, more) in enumerate(networks, 1):
        six = (f"-s6=fd00:30:{n}::/64", f"-g6=fd00:30:{n}::fe")
        stage.cluster.netctl("net", "create", network, "-s", f"{part}.0/24", "-g", f"{part}.254", *six, "--nat", *more)
        made += [stage.start(m, f"{network}-{m.host}", network, *RIGHTS) for m in stage.cluster.members[:2]]
    try:
        yield made
    finally:
        for client in made:
            stage.inside.pop(client.name).__exit__()
        for member in stage.cluster.members[:2]:
            for network, _, _ in networks:
                member.docker("rm", "-f", f"{network}-{member.host}")
        wait_for(lambda: not {c.name for c in made} & stage.cluster.endpoints().keys(), "their endpoints to be gone")
        for network, _, _ in networks:
            stage.cluster.netctl("net", "rm", network)


def control_plane() -> Iterator[tuple[str, int]]:
    """All that listens by TCP."""
    for number in MANAGERS:
        yield from ((f"{SUBNET}.{10 + number}", port) for port in (CLIENTS, PEERS))
    for number in CONTROLLERS:
        yield from ((f"{SUBNET}.{10 + number}", port) for port in (REST, OPENFLOW))


def test_no_manager_is_reached(stage: Stage, clients: list[Inside]) -> None:
    """From any container one DELETE removes a service; or a key of etcd's is written, and everything is gone."""
    world = stage.cluster
    assert world.get(f"http://{SUBNET}.11:{CLIENTS}/health"), "they are open to a machine of the underlay"
    for client in clients:
        for address, port in control_plane():
            with pytest.raises(ConnectionRefusedError):
                client.connect("tcp", address, port).close()
        with pytest.raises(ConnectionRefusedError):
            client.connect("tcp", f"{SUBNET}.11", 1).close()  # by the manager itself: the way out is open
        assert client.pings(OWN)
        assert set(client.who("tcp", VIP, 8080, 20)) == {"p1", "p2", "p3"}


def test_no_manager_is_reached_while_it_comes_and_goes(stage: Stage, clients: list[Inside]) -> None:
    """A controller, or a member of etcd, that starts again would be open until the agents have heard of it."""
    manager = next(c for c in stage.cluster.controllers if c is not stage.cluster.leader())
    manager.kill("controller")
    manager.kill("etcd")
    try:
        wait_for(lambda: manager.url not in stage.cluster.netctl("controller", "ls"), "the others to have noticed")
    finally:
        manager.start_missing()
    stage.cluster.wait_for_etcd()
    for client in clients:
        for port in (REST, OPENFLOW, CLIENTS, PEERS):
            with pytest.raises(ConnectionRefusedError):
                client.connect("tcp", manager.ip, port).close()


def test_nothing_is_injected_by_a_tunnel(stage: Stage, clients: list[Inside]) -> None:
    """A datagram to another host's tunnel would be a frame in any tenant's network, from whomever it says."""
    provider, far = stage.inside["p3"], stage.cluster.members[2]
    mac = stage.endpoint("p3")["macAddress"]
    heard = provider.ears(frames.MARK)
    inner = frames.udp("02:42:0a:01:01:63", "10.1.1.99", provider.ip, 53, to=mac)
    for client in clients:
        with client.open("udp") as forged:
            forged.connect((far.ip, TUNNEL))
            for tag in range(1, 9):
                with contextlib.suppress(ConnectionRefusedError):
                    forged.send(struct.pack("!II", 0x08 << 24, tag << 8) + inner)
        assert client.pings(OWN), "what it sent before has left"
    assert not heard(0.5)


def test_by_ipv6(stage: Stage, clients: list[Inside]) -> None:
    """What is closed by IPv4 would be open by IPv6."""
    for client in clients:
        for address in ("100::1:0:1", "100::1:0:2", "fe80::1%eth0", "2001:db8::1"):
            for port in (REST, OPENFLOW, CLIENTS, PEERS):
                assert not client.reaches("tcp", address, port, timeout=0.1), address
