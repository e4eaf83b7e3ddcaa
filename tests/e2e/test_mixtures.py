"""Containers in several networks of any kinds: each answers where it was asked, and reaches what any one leads to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.machine import wait_for
from tests.e2e.mixture import TIMES, WORLD, Mixture, mixture, write_project
from tests.e2e.node import Node

BRIDGES = ("aaa", "zzz")  # Docker's default route is in the first network by name


@pytest.fixture
def mixed(host: Node) -> Iterator[Mixture]:
    """The networks, the service, a client."""
    with mixture(host) as made:
        yield made


def test_two_routed_networks(mixed: Mixture) -> None:
    """Else half of the connections to a container that joined a second network get no answer."""
    for name, networks, connect in (("both", ("front", "back"), ()), ("late", ("front",), ("back",))):
        mixed.provider(name, *networks, connect=connect)
        mixed.answers(mixed.client, name)
        mixed.answers_at(mixed.client, name, *mixed.addresses(name, "front", "back"))
        assert len(mixed.primary(name)) == 1
        mixed.remove(name)


def test_docker_s_bridge_as_well_on_a_provider(mixed: Mixture) -> None:
    """Else a provider that is on Docker's bridge too, for the internet, answers nobody through its VIP, or nobody who
    asks a port that Docker has published."""
    world = mixed.world()
    for bridge in BRIDGES:
        mixed.bridge(bridge)
        for late in (False, True):
            name = f"{bridge}-{late}"
            provider = mixed.provider(name, "front", *(() if late else (bridge,)), connect=(bridge,) if late else ())
            wait_for(lambda: provider.reaches("tcp", WORLD, 7), "the outside")  # noqa: B023 - at once
            mixed.answers(mixed.client, name)
            mixed.answers_at(mixed.client, name, *mixed.addresses(name, "front"))
            assert mixed.primary(name) == ["front"]
            inner = mixed.host.address(name, bridge)
            for _ in range(TIMES):
                with world.open("tcp") as asking:
                    asking.bind((WORLD, 0))
                    asking.connect((inner, 80))
                    asking.sendall(b"x\n")
                    assert asking.recv(100).split()[0] == name.encode()
            mixed.remove(name)


def test_docker_s_bridge_as_well_on_a_client(mixed: Mixture) -> None:
    """Else a container that is on Docker's bridge too reaches neither a VIP nor other networks' containers, or not
    the outside."""
    mixed.world()
    mixed.provider("p1", "back")
    clients = {}
    for bridge in BRIDGES:
        mixed.bridge(bridge)
        for late in (False, True):
            name = f"{bridge}-{late}"
            clients[name] = mixed.run(name, "front", *(() if late else (bridge,)), connect=(bridge,) if late else ())
    for client in clients.values():
        wait_for(lambda: client.reaches("tcp", WORLD, 7), "the outside")  # noqa: B023 - at once
        mixed.answers(client, "p1")
        mixed.answers_at(client, "p1", *mixed.addresses("p1", "back"))
    # what is made after they have started
    mixed.host.netctl("net", "create", "later", "-s", "10.12.1.0/24", "-g", "10.12.1.254")
    mixed.host.netctl("net", "create", "vips2", "-s", "10.12.9.0/24")
    vip = ("-s", "vips2", "-ip", "10.12.9.1")
    mixed.host.netctl("service", "create", "app2", *vip, "-l", "app=app", "-p", "80:80:TCP")
    mixed.at_the_end(mixed.host.netctl, "service", "rm", "app2")
    other = mixed.run("o1", "later")
    other.serve("tcp:80")
    for client in clients.values():
        assert client.who("tcp", other.ip, 80, TIMES) == ["o1"] * TIMES
        assert client.who("tcp", "10.12.9.1", 80, TIMES) == ["p1"] * TIMES
        assert client.reaches("tcp", WORLD, 7)
    # and a network that is gone has no route any more
    assert not any("10.12.1.0/24" in line for line in mixed.rules("mc")), "its default route is enough"
    assert all(any("10.12.1.0/24" in line for line in mixed.rules(name)) for name in clients)
    mixed.remove("o1")
    mixed.host.netctl("net", "rm", "later")
    for name in clients:
        assert not any("10.12.1.0/24" in line for line in mixed.rules(name))


def test_a_network_without_gateway_as_well(mixed: Mixture) -> None:
    """Else providers are lost that share a network without gateway with their database, or the database is."""
    provider = mixed.provider("p1", "front", "lone")
    friend = mixed.run("f1", "lone")
    mixed.answers(mixed.client, "p1")
    mixed.answers_at(mixed.client, "p1", *mixed.addresses("p1", "front"))
    mixed.answers_at(friend, "p1", *mixed.addresses("p1", "lone"))
    friend.serve("tcp:80")
    assert provider.who("tcp", friend.ip, 80, TIMES) == ["f1"] * TIMES
    assert mixed.primary("p1") == ["front"]


def test_compose_with_front_and_internal_back(mixed: Mixture) -> None:
    """The usual Compose file: else requests to its web servers get no answer, or these lose their database."""
    write_project(mixed.host, COMPOSE)
    mixed.host.compose("up", "-d")
    try:
        webs = mixed.host.composed("web").split()
        assert len(webs) == 2
        for name in webs:
            wait_for(lambda: len(mixed.running(name)) == 2, f"{name} to run")  # noqa: B023 - at once
        for _ in range(TIMES):
            assert mixed.host.docker("exec", "mc", "nc", "-w", "2", mixed.vip, "80").startswith("web")
        said = mixed.host.docker("exec", webs[0], "sh", "-c", "nc -w 2 db 5432 </dev/null")
        assert said == "db"
        inner = mixed.host.address(mixed.host.composed("db"), "my_prj_back")
        assert not mixed.client.reaches("tcp", inner, 5432)
        assert not mixed.client.pings(inner)
    finally:
        mixed.host.compose("down", "-t", "0")


COMPOSE = """
version: "2.4"
services:
  web:
    image: netctl-busybox
    command: nc -ll -p 80 -e echo web
    labels: {app: app}
    networks: [front, back]
    scale: 2
  db: {image: netctl-busybox, command: nc -ll -p 5432 -e echo db, networks: [back]}
networks:
  front: {driver: netctl, ipam: {driver: netctl, config: [{subnet: 10.51.1.0/24}]}}
  back: {driver: netctl, internal: true, ipam: {driver: netctl, config: [{subnet: 10.51.2.0/24}]}}
"""


def test_every_kind_at_once(mixed: Mixture) -> None:
    """Else what works with each of two networks does not with all of them."""
    mixed.bridge("aaa")
    mixed.world()
    provider = mixed.provider("p1", "closed", "front", "lone", connect=("back", "aaa"))
    wait_for(lambda: provider.reaches("tcp", WORLD, 7), "the outside")
    mixed.answers(mixed.client, "p1")
    mixed.answers_at(mixed.client, "p1", *mixed.addresses("p1", "front", "back"))
    for network in ("closed", "lone"):
        friend = mixed.run(f"f-{network}", network)
        mixed.answers_at(friend, "p1", *mixed.addresses("p1", network))
        friend.serve("tcp:80")
        assert provider.who("tcp", friend.ip, 80, TIMES) == [friend.name] * TIMES
    mixed.client.serve("tcp:80")
    assert provider.who("tcp", mixed.client.ip, 80, TIMES) == ["mc"] * TIMES


def test_the_outside_by_the_network_that_has_it(mixed: Mixture) -> None:
    """Else a container loses the way out that one of its networks gives, when Docker's default is the other one."""
    mixed.world()
    mixed.host.netctl("net", "create", "zout", "-s", "10.12.1.0/24", "-g", "10.12.1.254", "--nat", "--nat-host")
    provider = mixed.provider("p1", "front", "zout")
    assert provider.reaches("tcp", WORLD, 7)
    mixed.answers(mixed.client, "p1")
    mixed.answers_at(mixed.client, "p1", *mixed.addresses("p1", "front", "zout"))
    mixed.host.docker("network", "disconnect", "zout", "p1")
    wait_for(lambda: mixed.primary("p1") == ["front"], "the other to be left")
    assert not provider.reaches("tcp", WORLD, 7)
    mixed.answers(mixed.client, "p1")
