"""A running service is changed: each change takes effect at once, and what it does not concern goes on."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

WEB = {"tier": "web"}
PORTS = ["8080:80:TCP", "53:53:UDP"]
VIP, OTHER_VIP, SECOND_VIP = "100.1.1.1", "100.1.1.77", "100.2.2.1"
LAST_FLUSH = 1.5  # s after a change; then nothing of it is done any more
_ENTRY = re.compile(r"(\w+),orig=\((.*?)\),reply=\((.*?)\),zone=(\d+)")


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Three that may be providers, and a client; networks for VIPs."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("srv2", "100.2.2.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    serve = ["tcp:80", "tcp:81", "udp:53"]
    made = {n: bare.host(n, "web", f"10.1.1.{n[1]}", serve=serve, register=False) for n in ("w1", "w2", "w3")}
    return made | {"c1": bare.host("c1", "cli", "20.1.1.1")}


@pytest.fixture
def client(bare: Lab, hosts: Mapping[str, Host]) -> Iterator[Host]:
    """The client; service "app" over w1 and w2 runs. Services and providers are gone afterwards."""
    for name in ("w1", "w2"):
        join(bare, hosts[name])
    put(bare)
    yield hosts["c1"]
    for service in bare.rest.services():
        bare.rest.delete_service(f"default:{service['serviceName']}")
    for endpoint in bare.rest.endpoints():
        if endpoint["endpointID"] != "c1":
            bare.rest.delete_endpoint(endpoint["endpointID"])
    bare.instance.flush_conntrack()


def put(lab: Lab, name: str = "app", *, vip: str = VIP, network: str = "srv", **change: Any) -> str:
    """Make the service, or change it to be this."""
    ports, selectors = change.pop("ports", PORTS), change.pop("selectors", ["tier=web"])
    return lab.service(name, network, ports, selectors, vip=vip, options=change)


def join(lab: Lab, host: Host, labels: Mapping[str, str] = WEB, **more: Any) -> None:
    """Register a host of the provider network, or change what is registered of it."""
    host.register(lab.rest, "web", labels, **more)


def connect(client: Host, kind: str, name: str, port: int = 0, vip: str = VIP) -> socket.socket:
    """A connection through the VIP that this provider has got."""
    for _ in range(100):
        made = client.connect(kind, vip, port or {"tcp": 8080, "udp": 53}[kind])
        if ask_again(made).split()[0] == name:
            return made
        made.close()
    raise AssertionError(f"no connection of a hundred went to {name}")


def entries(lab: Lab) -> set[tuple[str, ...]]:
    """What conntrack tracks, without states and times: protocol, both directions, zone."""
    found = [_ENTRY.search(line) for line in lab.instance.conntrack()]
    assert all(found), "a line of another form"
    return {f.groups() for f in found if f}


def refused(client: Host, kind: str, vip: str, port: int) -> bool:
    """Whether a new connection is refused, at once."""
    try:
        client.ask(kind, vip, port, timeout=2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def goes_on(connection: socket.socket, name: str) -> None:
    """The connection is with the same provider as before."""
    for _ in range(3):
        assert ask_again(connection).split()[0] == name


def becomes(client: Host, names: set[str], vip: str = VIP, kind: str = "tcp", port: int = 8080) -> None:
    """New connections go to these providers: at once, or when cached decisions are gone (half a second)."""

    def same() -> bool:
        with contextlib.suppress(OSError):
            return set(client.who(kind, vip, port, 20)) == names
        return False

    wait_for(same, f"{names} to answer", 3)


# What does not concern a connection

Change = Callable[[Lab, Mapping[str, Host], Host], None]


def other_leaves_and_joins(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    lab.rest.delete_endpoint("w2")
    becomes(client, {"w1"})
    join(lab, hosts["w2"])
    join(lab, hosts["w3"])
    becomes(client, {"w1", "w2", "w3"})


def other_is_unplugged(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    hosts["w2"].unplug()
    becomes(client, {"w1"})
    hosts["w2"].plug()
    becomes(client, {"w1", "w2"})


def a_port_comes_and_goes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    put(lab, ports=[*PORTS, "9090:81:TCP"])
    becomes(client, {"w1", "w2"}, port=9090)
    put(lab)
    assert refused(client, "tcp", VIP, 9090)


def the_weight_changes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    join(lab, hosts["w1"], weight=20)
    join(lab, hosts["w2"], weight=7)
    becomes(client, {"w1", "w2"})


def affinity_comes_and_goes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    put(lab, sessionAffinity=600)
    wait_for(lambda: len(set(client.who("tcp", VIP, 8080, 20))) == 1, "affinity", 3)
    put(lab)
    becomes(client, {"w1", "w2"})


def it_takes_no_new_ones(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    join(lab, hosts["w1"], health="unhealthy")
    becomes(client, {"w2"})
    join(lab, hosts["w1"], state="draining")
    becomes(client, {"w2"})
    join(lab, hosts["w1"])
    becomes(client, {"w1", "w2"})


def a_second_service_comes_and_goes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    put(lab, "second", vip=OTHER_VIP, ports=["8080:80:TCP", "81:81:TCP", "53:53:UDP"])
    becomes(client, {"w1", "w2"}, vip=OTHER_VIP)
    lab.rest.delete_service("default:second")
    assert not client.reaches("tcp", OTHER_VIP, 8080)


@pytest.mark.parametrize(
    "change",
    [
        other_leaves_and_joins, other_is_unplugged, a_port_comes_and_goes, the_weight_changes, affinity_comes_and_goes,
        it_takes_no_new_ones, a_second_service_comes_and_goes,
    ],
)  # fmt: skip
def test_open_connections_go_on(bare: Lab, hosts: Mapping[str, Host], client: Host, change: Change) -> None:
    """A deployment, or a change of an option, would cut connections that it has nothing to do with."""
    with (
        connect(client, "tcp", "w1") as tcp,
        connect(client, "udp", "w1") as udp,
        client.connect("tcp", "10.1.1.1", 80) as straight,
    ):
        for connection in (tcp, udp, straight):
            goes_on(connection, "w1")
        change(bare, hosts, client)
        for connection in (tcp, udp, straight):
            goes_on(connection, "w1")
        assert not client.reaches("tcp", VIP, 8081)


def test_straight_connections_outlive_the_service(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """To put a service before a running container, or to take it away, would cut who is connected to it already."""
    bare.rest.delete_service("default:app")
    with client.connect("tcp", "10.1.1.1", 80) as straight:
        goes_on(straight, "w1")
        put(bare)
        goes_on(straight, "w1")
        becomes(client, {"w1", "w2"})
        goes_on(straight, "w1")
        bare.rest.delete_service("default:app")
        goes_on(straight, "w1")


# What a change does


def test_another_vip(bare: Lab, client: Host) -> None:
    """A service would stay at an address that its owner has given up, or not be reached at the new one."""
    with connect(client, "tcp", "w1") as old:
        assert put(bare, vip=OTHER_VIP) == OTHER_VIP
        becomes(client, {"w1", "w2"}, vip=OTHER_VIP)
        becomes(client, {"w1", "w2"}, vip=OTHER_VIP, kind="udp", port=53)
        assert not client.reaches("tcp", VIP, 8080)
        assert not client.pings(VIP)
        assert client.pings(OTHER_VIP)
        with pytest.raises(OSError, match="timed out"):
            ask_again(old)
    assert not [e for e in entries(bare) if f"dst={VIP}," in e[1]]


def test_another_network(bare: Lab, client: Host) -> None:
    """A service could not move to another network without being deleted."""
    vip = put(bare, vip="", network="srv2")
    assert vip == SECOND_VIP
    becomes(client, {"w1", "w2"}, vip=vip)
    assert not client.reaches("tcp", VIP, 8080)
    assert put(bare) == VIP
    becomes(client, {"w1", "w2"})
    assert not client.reaches("tcp", vip, 8080)


def test_other_ports(bare: Lab, client: Host) -> None:
    """A port that is closed would stay open, also for who is connected; or one that is opened stay closed."""
    with connect(client, "tcp", "w1") as old, connect(client, "udp", "w1") as udp:
        put(bare, ports=["9090:80:TCP", "53:53:UDP"])
        assert refused(client, "tcp", VIP, 8080)
        becomes(client, {"w1", "w2"}, port=9090)
        goes_on(udp, "w1")
        reset(bare, old)


def test_another_target_port(bare: Lab, client: Host) -> None:
    """New connections would go on to the old port of the container."""
    with connect(client, "tcp", "w1") as old:
        put(bare, ports=["8080:81:TCP", "53:53:UDP"])
        becomes(client, {"w1", "w2"})

        def targets() -> set[str]:
            return {e[2].split(",")[2] for e in entries(bare) if f"dst={VIP}," in e[1] and e[0] == "tcp"}

        wait_for(lambda: targets() == {"sport=81"}, "the old to be forgotten", 3)
        reset(bare, old)


def test_other_selectors(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """A service would stay with the containers of the last version; or cut who is with one that stays."""
    join(bare, hosts["w1"], {"tier": "web", "v": "1"})
    join(bare, hosts["w3"], {"v": "1"})
    becomes(client, {"w1", "w2"})
    with connect(client, "tcp", "w1") as stays, connect(client, "tcp", "w2") as goes:
        put(bare, selectors=["v=1"])
        becomes(client, {"w1", "w3"})
        goes_on(stays, "w1")
        reset(bare, goes)


# The end of a provider


def reset(lab: Lab, connection: socket.socket) -> None:
    """It is forgotten, soon, and the next that is sent is answered by a reset."""

    def forgotten() -> bool:
        return not any(ports_of(connection) & {*e[1].split(",")} for e in entries(lab) if f"dst={VIP}," in e[1])

    wait_for(forgotten, "the connection to be forgotten", 3)
    with pytest.raises(ConnectionResetError):
        ask_again(connection)


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


def test_a_client_of_a_provider_that_goes(bare: Lab, client: Host, end: Callable[[str], None]) -> None:
    """A resolver would ask a dead server until its own timeout, and a TCP client wait for a quarter of an hour."""
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w1") as udp:
        port = udp.getsockname()[1]
        end("w1")
        wait_for(lambda: not to_provider(bare, "10.1.1.1"), "its connections to be forgotten", 3)
        assert ask_again(udp).split() == ["w2", client.ip, str(port)]
        reset(bare, tcp)


def test_the_last_provider_goes(bare: Lab, client: Host, end: Callable[[str], None]) -> None:
    """A client would wait in silence where nobody is left to answer."""
    bare.rest.delete_endpoint("w2")
    becomes(client, {"w1"})
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w1") as udp:
        end("w1")
        reset(bare, tcp)
        with pytest.raises(ConnectionRefusedError):
            ask_again(udp)


def to_provider(lab: Lab, address: str) -> list[tuple[str, ...]]:
    """The tracked connections through the VIP that this provider has."""
    return [e for e in entries(lab) if f"dst={VIP}," in e[1] and f"src={address}," in e[2]]


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


def ports_of(*connections: socket.socket) -> set[str]:
    """Their source ports, as conntrack shows them."""
    return {f"sport={connection.getsockname()[1]}" for connection in connections}


def test_only_its_connections_are_forgotten(bare: Lab, client: Host) -> None:
    """Each provider that goes would cost all clients of the others a connection."""
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            for kind, port in (("tcp", 8080), ("udp", 53)):
                ask_again(stack.enter_context(client.connect(kind, VIP, port)))
        ask_again(stack.enter_context(client.connect("tcp", "10.1.1.2", 80)))
        before = entries(bare)
        bare.rest.delete_endpoint("w1")
        wait_for(lambda: not to_provider(bare, "10.1.1.1"), "its connections to be forgotten", 3)
        gone = before - entries(bare)
        assert len(gone) > 20
        assert {re.search(r"src=([\d.]+)", e[2])[1] for e in gone} == {"10.1.1.1"}  # type: ignore[index]
        assert entries(bare) <= before


def test_the_next_datagram_of_a_hundred_clients(bare: Lab, client: Host) -> None:
    """Of many clients of a dead provider, some would be forgotten: one flush may skip entries."""
    with contextlib.ExitStack() as stack:
        asking = [stack.enter_context(client.connect("udp", VIP, 53)) for _ in range(200)]
        of_w1 = [s for s in asking if ask_again(s).split()[0] == "w1"]
        assert len(of_w1) > 50
        bare.rest.delete_endpoint("w1")
        for one in of_w1:
            one.settimeout(0.3)

            def moved(one: socket.socket = one) -> bool:
                try:
                    return ask_again(one).split()[0] == "w2"
                except TimeoutError:
                    return False

            wait_for(moved, "a client to move", 3)


# The end of a service


def test_nothing_is_left(bare: Lab, client: Host) -> None:
    """A service that is gone would hold flows, groups, connections or its address for ever."""
    bare.rest.delete_service("default:app")
    bare.instance.flush_conntrack()
    before = bare.contents()
    put(bare, sessionAffinity=60, ports=[*PORTS, "81:81:TCP"])
    put(bare)
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w2") as udp:
        client.ask("tcp", VIP, 8080)  # closed already
        client.ask("tcp", "10.1.1.1", 80)  # and one that is not through the VIP
        assert bare.contents() != before
        assert entries(bare)
        bare.rest.delete_service("default:app")
        wait_for(lambda: not entries(bare), "conntrack to be empty", 3)
        assert bare.contents() == before
        for connection in (tcp, udp):
            with pytest.raises(OSError, match="timed out"):
                ask_again(connection)
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
        wait_for(lambda: not to_provider(bare, "10.1.1.1") + to_provider(bare, "10.1.1.2"), "the old to be gone", 3)
        assert ask_again(udp).split()[0] == "w3"
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
        wait_for(lambda: not [e for e in entries(bare) if f"dst={VIP}," in e[1]], "the VIP's connections to go", 3)
        assert {e[1] for e in before - entries(bare) if f"dst={VIP}," not in e[1]} == set()
        for connection in (tcp, udp, straight):
            goes_on(connection, "w1")
        with pytest.raises(OSError, match="timed out"):
            ask_again(old)
        becomes(client, {"w1", "w2"}, vip=OTHER_VIP)
