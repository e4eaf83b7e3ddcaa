"""Which way packets take: conntrack and the controller see what is theirs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.kit.frames import arp_request
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

VIP = "100.1.1.1"


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """A provider that serves at other ports as well, a neighbour, a client."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    assert bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"]) == VIP
    ports = ["tcp:80", "tcp:22", "udp:53", "udp:99"]
    return {
        "w1": bare.host("w1", "web", "10.1.1.1", {"tier": "web"}, serve=ports),
        "n1": bare.host("n1", "web", "10.1.1.9", serve=ports),
        "c1": bare.host("c1", "cli", "20.1.1.1", serve=ports),
    }


def test_what_is_no_service_stays_out_of_conntrack(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """All traffic would pay for services: twice the work a packet, and a table of connections that can be full."""
    bare.instance.flush_conntrack()
    client, neighbour, provider = hosts["c1"], hosts["n1"], hosts["w1"]
    for source, target, kind, port in (
        (client, provider, "tcp", 22),
        (client, provider, "udp", 99),
        (client, neighbour, "tcp", 80),
        (client, neighbour, "udp", 53),
        (neighbour, provider, "tcp", 22),
        (provider, client, "tcp", 80),
        (provider, neighbour, "udp", 53),
        (neighbour, client, "tcp", 22),
    ):
        assert source.ask(kind, target.ip, port).split()[:2] == [target.name, source.ip]
    assert client.pings(provider.ip)
    assert client.pings(neighbour.ip)
    assert client.pings(VIP)

    assert bare.instance.conntrack() == []

    with client.connect("tcp", VIP, 8080) as to_vip, client.connect("tcp", provider.ip, 80) as straight:
        ask_again(to_vip)
        ask_again(straight)
        assert len(bare.instance.conntrack()) == 2


def test_no_packet_of_a_working_connection_visits_the_controller(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """Services would be as slow as the controller, and away when it is."""
    client, neighbour, provider = hosts["c1"], hosts["n1"], hosts["w1"]
    before = bare.packet_ins()
    for kind, port in (("tcp", 8080), ("udp", 53)):
        assert set(client.who(kind, VIP, port, 10)) == {"w1"}
        assert set(neighbour.who(kind, VIP, port, 10)) == {"w1"}
    for target in (provider, neighbour):
        assert client.ask("tcp", target.ip, 22)
        assert client.pings(target.ip)
    assert neighbour.ask("tcp", provider.ip, 22)
    assert client.pings(VIP)
    assert client.pings(client.gateway)
    # the counters are a little late: so a packet that does visit it, and is counted when the others are
    with client.open("raw") as wire:
        wire.send(arp_request(client.mac, client.ip, "20.1.1.77"))
    wait_for(lambda: bare.packet_ins() > before, "the visit of a packet")

    assert bare.packet_ins() == before + 1
