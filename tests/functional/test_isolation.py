"""Tenants are apart, and nobody sends as somebody else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

import pytest

from ryu_apps.pipeline.tables import Table
from tests.kit import frames
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.wide import of_family

VIP, CLIENT, WEB, ELSEWHERE = "100.1.1.1", "20.1.1.1", "10.1.1.1", "10.1.1.50"
LLDP = b"\x88\xcc"


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Two tenants that look alike: d… of the default one, b… of blue. `bonly` has an address that only blue has."""
    bare.rest.put_tenant("blue")
    made: dict[str, Host] = {}
    for tenant in ("default", "blue"):
        bare.network("srv", "100.1.1.0/24", tenant=tenant, ipv6=True)
        bare.network("web", "10.1.1.0/24", "10.1.1.254", tenant, ipv6=True)
        bare.network("cli", "20.1.1.0/24", "20.1.1.254", tenant, ipv6=True)
        assert bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"], tenant=tenant) == VIP
        a = tenant[0]
        made[f"{a}web"] = bare.host(f"{a}web", "web", WEB, {"tier": "web"}, tenant, serve=["tcp:80", "udp:53"])
        made[f"{a}cli"] = bare.host(f"{a}cli", "cli", CLIENT, {}, tenant, serve=["udp:99"])
    made["bonly"] = bare.host("bonly", "web", ELSEWHERE, {}, "blue", serve=["tcp:80"])
    made["dcli2"] = bare.host("dcli2", "cli", "20.1.1.2", serve=["udp:99"])
    return made


@pytest.mark.parametrize(("kind", "port", "target"), [("tcp", 8080, 80), ("udp", 53, 53)])
def test_each_tenant_reaches_its_own(
    hosts: Mapping[str, Host], version: int, kind: str, port: int, target: int
) -> None:
    """A tenant's connections would end at another's container."""
    vip = of_family(version, VIP)
    with contextlib.ExitStack() as stack:
        # same addresses, same ports, at the same time
        open_ = [
            (tenant, stack.enter_context(hosts[f"{tenant}cli"].connect(kind, address, number, source_port=5000)))
            for tenant in ("d", "b")
            for address, number in ((vip, port), (of_family(version, WEB), target))
        ]
        for _ in range(5):
            for tenant, connection in open_:
                assert ask_again(connection).split()[:2] == [f"{tenant}web", of_family(version, CLIENT)]
    for tenant in ("d", "b"):
        assert set(hosts[f"{tenant}cli"].who(kind, vip, port, 10)) == {f"{tenant}web"}


def test_what_only_another_tenant_has_is_not_there(hosts: Mapping[str, Host]) -> None:
    """A tenant would reach another's containers."""
    assert hosts["bcli"].ask("tcp", ELSEWHERE, 80).split()[0] == "bonly"
    assert not hosts["dcli"].reaches("tcp", ELSEWHERE, 80)
    assert not hosts["dcli"].reaches("tcp", "10.1.1.51", 80)


def listen(stack: contextlib.ExitStack, *hosts: Host) -> list[socket.socket]:
    """The hosts' wires, from now on."""
    return [stack.enter_context(host.open("raw", timeout=10)) for host in hosts]


def seen(wire: socket.socket, last: bytes) -> list[bytes]:
    """The frames that have come in, up to the one that holds ``last``; not the controller's own, in search of links."""
    found: list[bytes] = []
    while True:
        data, (_, _, kind, _, _) = wire.recvfrom(65535)
        if kind != socket.PACKET_OUTGOING and data[12:14] != LLDP:
            if last in data:
                return found
            found.append(data)


def test_broadcast_stays_in_its_network(hosts: Mapping[str, Host]) -> None:
    """Broadcast would be seen by other tenants and networks, or not by its own."""
    sender = hosts["dcli"]
    with contextlib.ExitStack() as stack:
        own, *others = listen(stack, hosts["dcli2"], hosts["dweb"], hosts["bcli"], hosts["bweb"])
        wire = stack.enter_context(sender.open("raw"))
        wire.send(frames.udp(sender.mac, sender.ip, "20.1.1.255", 9, to=frames.BROADCAST, data=b"to-all"))
        assert seen(own, b"to-all") == []
        # the others hear of what is meant for them, sent later
        for host, source in (("dweb", "dcli"), ("bcli", "bweb"), ("bweb", "bcli")):
            stack.enter_context(hosts[source].connect("udp", hosts[host].ip, 99)).send(b"to-you")
        for other in others:
            assert not any(b"to-all" in frame for frame in seen(other, b"to-you"))


FORGED = {
    "address": (Table.GUARD, "ip"),
    "neighbour's address": (Table.GUARD, "ip"),
    "MAC": (Table.CLASSIFY, ""),
    "neighbour's MAC and address": (Table.CLASSIFY, ""),
    "ARP sender address": (Table.GUARD, "arp"),
    "ARP answer for the gateway": (Table.GUARD, "arp"),
    "ARP sender MAC": (Table.GUARD, "arp"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_dropped_and_counted(bare: Lab, hosts: Mapping[str, Host], what: str) -> None:
    """A container could take its neighbour's traffic, or send in its name, and nobody would see that it tries."""
    me, victim, target = hosts["dcli"], hosts["dcli2"], hosts["dweb"]
    frame = {
        "address": frames.udp(me.mac, "20.1.1.99", target.ip, 99),
        "neighbour's address": frames.udp(me.mac, victim.ip, target.ip, 99),
        "MAC": frames.udp("02:00:00:00:00:99", me.ip, target.ip, 99),
        "neighbour's MAC and address": frames.udp(victim.mac, victim.ip, target.ip, 99),
        "ARP sender address": frames.arp_request(me.mac, victim.ip, "20.1.1.254"),
        "ARP answer for the gateway": frames.arp_request(me.mac, "20.1.1.254", victim.ip, operation=2),
        "ARP sender MAC": frames.arp_request(victim.mac, me.ip, "20.1.1.254", source=me.mac),
    }[what]
    table, kind = FORGED[what]

    def dropped() -> int:
        prefix = f"{kind},in_port={me.number}" if kind else f"in_port={me.number}"
        found = [f for f in bare.flows(f"table={table:d}") if f.actions == "drop" and f.match.startswith(prefix)]
        assert len(found) == 1, found
        return found[0].packets

    before, visits = dropped(), bare.packet_ins()
    with contextlib.ExitStack() as stack:
        wires = listen(stack, target, victim)
        with me.open("raw") as wire:
            for _ in range(3):
                wire.send(frame)
        for host in (target, victim):
            stack.enter_context(me.connect("udp", host.ip, 99)).send(b"honest")
        for wire in wires:
            assert not any(frames.MARK in f or f[12:14] == b"\x08\x06" for f in seen(wire, b"honest"))
    wait_for(lambda: dropped() == before + 3, "the drops to be counted")
    assert bare.packet_ins() == visits
    assert me.reaches("tcp", VIP, 8080), "the honest traffic of the same port goes on"
