"""A provider goes, or a service: their clients move on or are told, and nothing of them is left."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.kit.crowd import crowd
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.running import (
    OTHER_VIP,
    PORTS,
    VIP,
    becomes,
    connect,
    entries,
    goes_on,
    join,
    ports_of,
    put,
    refused,
    reset,
    silent,
    to_provider,
)  # fmt: skip
from tests.kit.wide import of_family

LAST_FLUSH = 1.5  # s after a change; then nothing of it is done any more


# The end of a provider


@pytest.fixture(params=["deleted", "stopped", "unplugged", "relabelled"])
def end(request: pytest.FixtureRequest, bare: Lab, hosts: Mapping[str, Host]) -> Iterator[Callable[[str], None]]:
    """Ends a provider; it is plugged in again afterwards."""
    ended = []

    def do(name: str) -> None:
        ended.append(name)
        match request.param:
            case "deleted":
                bare.rest.delete_endpoint(name)
            case "stopped":
                join(bare, hosts[name], state="stopped")
            case "unplugged":
                hosts[name].unplug()
                bare.settled()
            case "relabelled":
                join(bare, hosts[name], {"tier": "db"})

    yield do
    for name in ended if request.param == "unplugged" else ():
        hosts[name].plug()


def test_a_client_of_a_provider_that_goes(
    bare: Lab, client: Host, version: int, end: Callable[[str], None]
) -> None:
    """A resolver would ask a dead server until its own timeout, and a TCP client wait for a quarter of an hour."""
    vip, w1 = of_family(version, VIP), of_family(version, "10.1.1.1")
    with connect(client, "tcp", "w1", vip=vip) as tcp, connect(client, "udp", "w1", vip=vip) as udp:
        port = udp.getsockname()[1]
        assert len(to_provider(bare, w1, vip)) >= 2
        end("w1")
        wait_for(lambda: not to_provider(bare, w1, vip), "its connections to be forgotten")
        assert ask_again(udp).split() == ["w2", client.address(version), str(port)]
        reset(bare, tcp, vip)


def test_the_last_provider_goes(bare: Lab, client: Host, version: int, end: Callable[[str], None]) -> None:
    """A client would wait in silence where nobody is left to answer."""
    bare.rest.delete_endpoint("w2")
    vip = of_family(version, VIP)
    becomes(client, {"w1"}, vip)
    with connect(client, "tcp", "w1", vip=vip) as tcp, connect(client, "udp", "w1", vip=vip) as udp:
        end("w1")
        reset(bare, tcp, vip)
        wait_for(lambda: unreachable(udp), "datagrams to be refused")  # what was cached goes within milliseconds


def unreachable(udp: socket.socket) -> bool:
    """Whether a datagram on an open socket is answered with port unreachable."""
    try:
        answer = ask_again(udp)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    raise AssertionError(f"somebody answers: {answer}")


@pytest.mark.parametrize("what", ["provider", "service"])
def test_what_comes_back_at_once(bare: Lab, hosts: Mapping[str, Host], client: Host, what: str) -> None:
    """A container that restarts quickly would lose its first connections: they would be forgotten with the old."""
    if what == "provider":
        bare.rest.delete_endpoint("w1")
        join(bare, hosts["w1"])
    else:
        bare.rest.delete_service("default:app")
        put(bare, "heir")
    began = time.monotonic()
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w1") as udp:
        before = {e for e in entries(bare) if e[1].split(",")[2] in ports_of(tcp, udp)}
        assert len(before) == 2
        while time.monotonic() < began + LAST_FLUSH:
            goes_on(tcp, "w1")
            goes_on(udp, "w1")
        assert before <= entries(bare)


def test_only_its_connections_are_forgotten(bare: Lab, client: Host) -> None:
    """Each provider that goes would cost all clients of the others a connection."""
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            for kind, port in (("tcp", 8080), ("udp", 53)):
                ask_again(stack.enter_context(client.connect(kind, VIP, port)))
        ask_again(stack.enter_context(client.connect("tcp", "10.1.1.2", 80)))
        before = entries(bare)
        bare.rest.delete_endpoint("w1")
        wait_for(lambda: not to_provider(bare, "10.1.1.1"), "its connections to be forgotten")
        gone = before - entries(bare)
        assert len(gone) > 20
        assert {re.search(r"src=([\d.]+)", e[2])[1] for e in gone} == {"10.1.1.1"}  # type: ignore[index]
        assert entries(bare) <= before


def moves(udp: socket.socket, name: str) -> None:
    """The socket's next datagrams are answered by that one; any that met a cached decision is lost."""
    udp.settimeout(0.3)

    def moved() -> bool:
        try:
            return ask_again(udp).split()[0] == name
        except TimeoutError:
            return False

    wait_for(moved, f"a client to move to {name}")


def test_the_next_datagram_of_a_hundred_clients(bare: Lab, client: Host) -> None:
    """Of many clients of a dead provider, some would be forgotten: one flush may skip entries."""
    with contextlib.ExitStack() as stack:
        asking = [stack.enter_context(client.connect("udp", VIP, 53)) for _ in range(200)]
        of_w1 = [s for s in asking if ask_again(s).split()[0] == "w1"]
        assert len(of_w1) > 50
        bare.rest.delete_endpoint("w1")
        for one in of_w1:
            moves(one, "w2")


# The end of a service


def test_nothing_is_left_of_thousands(bare: Lab, client: Host) -> None:
    """Of a provider's many clients, those whose connections a flush has skipped would ask a dead one for ever."""
    bare.instance.flush_conntrack()
    bare.rest.delete_endpoint("w2")
    becomes(client, {"w1"})
    crowd(client, "udp", VIP, 53, range(10_000, 15_000))
    bare.rest.delete_endpoint("w1")
    wait_for(lambda: not to_provider(bare, "10.1.1.1"), "its connections to be forgotten")


def test_nothing_is_left(bare: Lab, client: Host) -> None:
    """A service that is gone would hold flows, groups, connections or its address for ever."""
    bare.rest.delete_service("default:app")
    bare.instance.flush_conntrack()
    before = bare.contents()
    put(bare, sessionAffinity=60, ports=[*PORTS, "81:81:TCP"])
    put(bare)
    wide = of_family(6, VIP)
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w2", vip=wide) as udp:
        client.ask("tcp", VIP, 8080)  # closed already
        client.ask("tcp", wide, 8080)
        client.ask("tcp", "10.1.1.1", 80)  # and one that is not through the VIP
        assert bare.contents() != before
        assert entries(bare)
        bare.rest.delete_service("default:app")
        wait_for(lambda: not entries(bare), "conntrack to be empty")
        assert bare.contents() == before
        silent(tcp, udp)
    assert not entries(bare)
    assert put(bare, "heir") == VIP, "the address can be had by another"
    becomes(client, {"w1", "w2"})


def test_created_again_under_the_same_name(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """Connections, ports and affinity of the service that was would be there in the one that is."""
    join(bare, hosts["w3"], {"tier": "new"})
    put(bare, sessionAffinity=3600)
    client.who("tcp", VIP, 8080, 5)
    with connect(client, "udp", client.who("udp", VIP, 53)[0]) as udp, client.connect("tcp", VIP, 8080) as tcp:
        assert ask_again(tcp).split()[0] != "w3"
        bare.rest.delete_service("default:app")
        put(bare, selectors=["tier=new"], ports=["8080:80:TCP", "53:53:UDP", "8181:81:TCP"])
        wait_for(lambda: not to_provider(bare, "10.1.1.1") + to_provider(bare, "10.1.1.2"), "the old to be gone")
        moves(udp, "w3")
        reset(bare, tcp)
        becomes(client, {"w3"})
        becomes(client, {"w3"}, port=8181)
    bare.rest.delete_service("default:app")
    put(bare, ports=["53:53:UDP"])
    assert refused(client, "tcp", VIP, 8080)
    assert refused(client, "tcp", VIP, 8181)
    becomes(client, {"w1", "w2"}, kind="udp", port=53)


def test_the_other_service_of_a_shared_provider(bare: Lab, client: Host) -> None:
    """Deleting a service would cut the connections of another that has the same containers."""
    put(bare, "second", vip=OTHER_VIP)
    with (
        connect(client, "tcp", "w1", vip=OTHER_VIP) as tcp,
        connect(client, "udp", "w1", vip=OTHER_VIP) as udp,
        connect(client, "tcp", "w1") as old,
        client.connect("tcp", "10.1.1.1", 80) as straight,
    ):
        goes_on(straight, "w1")
        before = entries(bare)
        bare.rest.delete_service("default:app")
        wait_for(lambda: not [e for e in entries(bare) if f"dst={VIP}," in e[1]], "the VIP's connections to go")
        assert {e[1] for e in before - entries(bare) if f"dst={VIP}," not in e[1]} == set()
        for connection in (tcp, udp, straight):
            goes_on(connection, "w1")
        silent(old)
        becomes(client, {"w1", "w2"}, vip=OTHER_VIP)
