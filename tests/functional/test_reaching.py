"""Services are reached: through their VIP, from anywhere in the tenant, and the providers behind them as before."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Mapping

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.wide import of_family

PROVIDERS = {"w1", "w2", "w3"}
VIP, VIP2 = "100.1.1.1", "100.1.1.2"


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Three providers, a neighbour of theirs, a client in another network; two services."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    assert bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP", "8081:81:TCP"], ["tier=web"]) == VIP
    assert bare.service("other", "srv", ["9090:80:TCP", "54:53:UDP"], ["tier=web", "v=1"]) == VIP2
    labels = {"w1": {"tier": "web", "v": "1"}, "w2": {"tier": "web", "v": "1"}, "w3": {"tier": "web"}}
    made = {
        name: bare.host(name, "web", f"10.1.1.{name[1]}", label, serve=["tcp:80", "tcp:81", "udp:53", "tcp:22"])
        for name, label in labels.items()
    }
    made["n1"] = bare.host("n1", "web", "10.1.1.9", serve=["tcp:80"])
    made["c1"] = bare.host("c1", "cli", "20.1.1.1", serve=["udp:99"])
    return made


@pytest.mark.parametrize("client", ["c1", "n1"])
@pytest.mark.parametrize(("kind", "port"), [("tcp", 8080), ("udp", 53)])
def test_all_providers_answer(hosts: Mapping[str, Host], version: int, client: str, kind: str, port: int) -> None:
    """A service would not be reached from another network or from its providers' own, or only one provider works."""
    answers = [hosts[client].ask(kind, of_family(version, VIP), port).split() for _ in range(40)]

    assert {name for name, _, _ in answers} == PROVIDERS
    assert {seen for _, seen, _ in answers} == {hosts[client].address(version)}, "the provider sees who its client is"


def test_a_vip_has_several_ports(hosts: Mapping[str, Host], version: int) -> None:
    """Only one of a service's ports would work."""
    vip = of_family(version, VIP)
    assert set(hosts["c1"].who("tcp", vip, 8081, 30)) == PROVIDERS
    assert set(hosts["c1"].who("tcp", vip, 8080, 30)) == PROVIDERS


def test_a_provider_port_behind_two_services(hosts: Mapping[str, Host], version: int) -> None:
    """Two services could not share providers: one would take the other's answers, or the wrong providers."""
    client, vip, vip2 = hosts["c1"], of_family(version, VIP), of_family(version, VIP2)
    for kind, port, port2 in (("tcp", 8080, 9090), ("udp", 53, 54)):
        # one source port to both at once: the provider sees two connections that look alike
        with (
            client.connect(kind, vip, port, source_port=5000) as one,
            client.connect(kind, vip2, port2, source_port=5000) as two,
        ):
            assert ask_again(one).split()[0] in PROVIDERS
            assert ask_again(two).split()[0] in {"w1", "w2"}
            assert ask_again(one).split()[0] in PROVIDERS
    assert set(client.who("tcp", vip2, 9090, 30)) == {"w1", "w2"}


def test_a_connection_stays_with_its_provider(hosts: Mapping[str, Host], version: int) -> None:
    """The packets of one connection would go to several providers."""
    for kind, port in (("tcp", 8080), ("udp", 53)):
        with hosts["c1"].connect(kind, of_family(version, VIP), port) as connection:
            assert len({ask_again(connection) for _ in range(20)}) == 1


def test_echo_is_answered(hosts: Mapping[str, Host], version: int) -> None:
    """Nobody could see by ``ping`` whether gateway, VIP or a host of another network is there."""
    for address in ("20.1.1.254", "10.1.1.254", VIP, VIP2, "10.1.1.1", "10.1.1.9"):
        assert hosts["c1"].pings(of_family(version, address)), address
    assert hosts["n1"].pings(of_family(version, "10.1.1.1")), "a neighbour"
    assert hosts["c1"].pings(of_family(version, "10.1.1.9"), "-s", "3000"), "in fragments"


def test_a_port_that_is_no_service(hosts: Mapping[str, Host], version: int) -> None:
    """A VIP would lead to ports that its owner did not open."""
    assert not hosts["c1"].reaches("tcp", of_family(version, VIP), 22)
    assert not hosts["c1"].reaches("udp", of_family(version, VIP), 8080)
    assert not hosts["c1"].reaches("tcp", of_family(version, "100.1.1.77"), 8080)


@pytest.mark.parametrize(("kind", "port", "target"), [("tcp", 8080, 80), ("udp", 53, 53)])
def test_straight_to_the_provider_from_the_same_port(
    hosts: Mapping[str, Host], version: int, kind: str, port: int, target: int
) -> None:
    """A client with a connection to a VIP could not reach a provider beside it: the answers look alike."""
    client, address = hosts["c1"], of_family(version, VIP)
    own = client.address(version)
    # whichever comes second may be seen at another source port, by the provider alone
    with client.connect(kind, address, port, source_port=6000) as vip:
        name = ask_again(vip).split()[0]
        assert name in PROVIDERS
        with client.connect(kind, hosts[name].address(version), target, source_port=6000) as straight:
            for _ in range(5):
                assert ask_again(straight).split()[:2] == [name, own]
                assert ask_again(vip).split()[:2] == [name, own]
    with contextlib.ExitStack() as stack:
        straights = {
            name: stack.enter_context(client.connect(kind, hosts[name].address(version), target, source_port=6001))
            for name in sorted(PROVIDERS)
        }
        vip = stack.enter_context(client.connect(kind, address, port, source_port=6001))
        for _ in range(5):
            assert ask_again(vip).split()[0] in PROVIDERS
            for name, straight in straights.items():
                assert ask_again(straight).split()[:2] == [name, own]


def test_a_source_port_is_used_again_at_once(hosts: Mapping[str, Host], version: int) -> None:
    """A client with a fixed source port would be locked out until its last connection is forgotten."""
    for _ in range(10):
        with hosts["c1"].connect("tcp", of_family(version, VIP), 8080, source_port=7000) as connection:
            assert ask_again(connection).split()[0] in PROVIDERS
            # a reset at the end: the client itself is not to wait
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("size", [1473, 3000, 20000])
def test_a_datagram_larger_than_the_mtu(hosts: Mapping[str, Host], version: int, size: int) -> None:
    """Large answers (of a name server, say) and requests would be lost."""
    client = hosts["c1"]
    with client.connect("udp", of_family(version, VIP), 53) as vip:
        # the first is small: the userspace datapath shows no rule a fragment's port, so a large one finds no service
        assert ask_again(vip).split()[0] in PROVIDERS
        assert ask_again(vip, size).split()[0] in PROVIDERS
        assert ask_again(vip, size).split()[0] in PROVIDERS
    with hosts["n1"].connect("udp", client.address(version), 99) as other:
        assert ask_again(other, size).split() == ["c1", of_family(version, "10.1.1.9"), str(other.getsockname()[1])]
