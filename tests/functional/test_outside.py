"""Beyond the switch: the host reaches its containers, they reach the world where they may, and services are published."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.hosts import Host, Namespace, ask_again
from tests.kit.hostside import Beyond, HostSide, beyond, hostside
from tests.kit.lab import Lab, lab
from tests.kit.ovs import wait_for
from ryu_apps.pipeline.tables import Table
from tests.kit.private_ovs import Private

HOST = "169.254.0.1"  # the host, as its containers see it


class Place(NamedTuple):
    """A host with containers, and a machine outside."""

    lab: Lab
    side: HostSide
    out: Beyond
    hosts: dict[str, Host]


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two tenants whose networks look alike; of each, one network with nat and one without."""
    directory = tmp_path_factory.mktemp("outside")
    with lab(directory, instance, "out") as it, beyond(instance) as out, hostside(it, directory) as side:
        try:
            it.rest.put_tenant("blue")
            it.network("srv", "100.1.1.0/24")
            it.network("web", "10.1.1.0/24", "10.1.1.254", nat=True)
            it.network("shut", "20.1.1.0/24", "20.1.1.254")
            it.network("bare", "30.1.1.0/24")
            it.network("web", "10.1.1.0/24", "10.1.1.254", "blue", nat=True)
            serve = ["tcp:80", "udp:53", "tcp:22", "udp:99"]
            hosts = {
                "w1": it.host("w1", "web", "10.1.1.1", {"tier": "web"}, serve=serve),
                "w2": it.host("w2", "web", "10.1.1.2", {"tier": "web"}, serve=serve),
                "s1": it.host("s1", "shut", "20.1.1.1", {"tier": "web"}, serve=serve),
                "b1": it.host("b1", "bare", "30.1.1.1", serve=serve),
                "x1": it.host("x1", "web", "10.1.1.1", tenant="blue", serve=serve),
            }
            it.service(
                "app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"],
                options={"publish": ["80:8080:TCP", "5300:53:UDP"]},
            )  # fmt: skip
            it.settled()
            wait_for(lambda: any("--dport 5300" in rule for rule in side.rules()), "the ports to be published")
            wait_for(lambda: "20.1.1.0/24" in side.routes(), "the host's routes")
            out.serve("tcp:7", "udp:7")
            side.serve("tcp:7", "udp:7")
            yield Place(it, side, out, hosts)
        finally:
            print(side.log())
            print(side.run("iptables-save", "-c"))
            print("\n".join(str(f) for f in it.flows() if f.packets))
            print("\n".join(it.instance.conntrack()))


@pytest.mark.parametrize("name", ["w1", "x1"])
def test_a_network_with_nat_reaches_the_world(place: Place, name: str) -> None:
    """A container could install no package and ask no name server; with two tenants alike, one would take the other's."""
    for kind in ("tcp", "udp"):
        assert place.hosts[name].ask(kind, place.out.ip, 7).split()[:2] == ["out", place.side.ip]
    assert place.hosts[name].pings(place.out.ip)


def test_two_tenants_alike_at_once(place: Place) -> None:
    """The answers to one tenant's container would go to another's, of the same address and port."""
    for kind in ("tcp", "udp"):
        with (
            place.hosts["w1"].connect(kind, place.out.ip, 7, source_port=5000) as one,
            place.hosts["x1"].connect(kind, place.out.ip, 7, source_port=5000) as two,
        ):
            seen = {ask_again(connection) for connection in (one, two, one, two)}
            assert len(seen) == 2, "each keeps a port of its own of the host's"


def test_a_network_without_nat_does_not(place: Place) -> None:
    """A network that was to be shut would be open to the world."""
    before = dropped(place)
    for kind in ("tcp", "udp"):
        assert not place.hosts["s1"].reaches(kind, place.out.ip, 7)
        assert not place.hosts["s1"].reaches(kind, place.side.ip, 7)
        assert not place.hosts["s1"].reaches(kind, HOST, 7)
    assert not place.hosts["s1"].pings(place.out.ip)
    assert not place.hosts["s1"].pings(HOST)
    wait_for(lambda: dropped(place) >= before + 8, "the drops to be counted")


def dropped(place: Place) -> int:
    """Packets that wanted out and may not."""
    return sum(f.packets for f in place.lab.flows() if f.table in (Table.LEAVE, Table.DEPART) and f.actions == "drop")


def test_a_provider_goes_out_from_its_service_port(place: Place) -> None:
    """A server that also calls others from its own port (a name server, say) would get no answers."""
    place.hosts["w2"].stop_serving()
    try:
        for kind, port in (("tcp", 80), ("udp", 53)):
            assert place.hosts["w2"].ask(kind, place.out.ip, 7, source_port=port).split()[1] == place.side.ip
    finally:
        place.hosts["w2"].serve("tcp:80", "udp:53", "tcp:22", "udp:99")


def test_the_host_itself_by_all_its_addresses(place: Place) -> None:
    """A container with a way out could reach everybody but its own host."""
    for name in ("w1", "x1"):
        for kind in ("tcp", "udp"):
            assert place.hosts[name].ask(kind, HOST, 7).startswith("host 250.0.0.")
        assert place.hosts[name].ask("tcp", place.side.ip, 7).startswith("host 250.0.0.")
        assert place.hosts[name].pings(HOST)
        assert place.hosts[name].pings(place.side.ip)


@pytest.mark.parametrize("name", ["w1", "s1"])
def test_the_host_reaches_containers(place: Place, name: str) -> None:
    """Nobody could log in to a container, or try its port, from the host it runs on."""
    to = place.hosts[name]
    for kind, port in (("tcp", 22), ("tcp", 80), ("udp", 99), ("udp", 53)):
        assert place.side.ask(kind, to.ip, port).split()[:2] == [name, HOST]
    assert place.side.pings(to.ip)
    assert place.side.pings(to.ip, "-s", "3000"), "in fragments"
    with place.side.connect("udp", to.ip, 99) as large:
        assert ask_again(large, 4000).split()[0] == name
    with pytest.raises(ConnectionRefusedError):
        place.side.ask("tcp", to.ip, 4)
    with pytest.raises(ConnectionRefusedError):
        place.side.ask("udp", to.ip, 4)


def test_the_host_reaches_vips_and_gateways(place: Place) -> None:
    """A service would be open to containers alone."""
    assert set(place.side.who("tcp", "100.1.1.1", 8080, 30)) == {"w1", "w2", "s1"}
    assert set(place.side.who("udp", "100.1.1.1", 53, 30)) == {"w1", "w2", "s1"}
    for address in ("100.1.1.1", "10.1.1.254", "20.1.1.254"):
        assert place.side.pings(address)


def test_a_network_without_a_gateway(place: Place) -> None:
    """A container that was to speak with its neighbours alone would be open to its host, or could reach it."""
    assert not place.side.reaches("udp", "30.1.1.1", 99)
    assert not place.side.pings("30.1.1.1")


@pytest.mark.parametrize(("kind", "port"), [("tcp", 80), ("udp", 5300)])
def test_a_published_port(place: Place, kind: str, port: int) -> None:
    """A service would not be open to the world; or its providers would not know who their clients are."""
    answers = [place.out.ask(kind, place.side.ip, port).split() for _ in range(40)]

    assert {name for name, _, _ in answers} == {"w1", "w2", "s1"}
    assert {seen for _, seen, _ in answers} == {place.out.ip}


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", HOST])
def test_a_published_port_on_the_host_itself(place: Place, address: str) -> None:
    """`curl localhost` would say that the service is down."""
    for kind, port in (("tcp", 80), ("udp", 5300)):
        assert {place.side.ask(kind, address, port).split()[1] for _ in range(10)} == {HOST}


def test_a_published_port_from_containers(place: Place) -> None:
    """A container with a way out would reach the host's services, but not those that it publishes."""
    for name in ("w1", "x1"):
        answers = [place.hosts[name].ask("tcp", place.side.ip, 80).split() for _ in range(20)]
        assert {seen for _, seen, _ in answers} == {HOST}
        assert {who for who, _, _ in answers} == {"w1", "w2", "s1"}
    for address in (place.side.ip, HOST):
        assert not place.hosts["s1"].reaches("tcp", address, 80), "another tenant's services would be open to all"


def test_nothing_else_is_open_from_outside(place: Place) -> None:
    """Every container would be open to whoever is on the host's network."""
    place.out.route("default", place.side.ip)
    for address in ("10.1.1.1", "20.1.1.1", "100.1.1.1", "249.0.0.1", "250.0.0.1"):
        for kind, port in (("tcp", 22), ("tcp", 80), ("tcp", 8080), ("udp", 99), ("udp", 53)):
            assert not place.out.reaches(kind, address, port, timeout=0.1)
