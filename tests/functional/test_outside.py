"""Beyond the switch: the host reaches its containers, they reach the world where they may, services are published."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from ryu_apps.openflow import codec
from ryu_apps.pipeline.tables import FlowKind, Table
from tests.kit import frames, hostside
from tests.kit.hosts import IP_RECVERR, Namespace, ask_again
from tests.kit.hostside import FAR_IP, FAR_MTU, SERVE, Place
from tests.kit.ovs import run, wait_for
from tests.kit.private_ovs import Private
from tests.kit.wide import of_family

HOST, HOST6 = "169.254.0.1", "100::1:0:1"  # the host, as its containers see it
FAR = "192.0.2.9"  # nobody
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # Linux


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For tests that leave it as it is."""
    with hostside.place(tmp_path_factory.mktemp("outside"), instance) as made:
        yield made


@pytest.mark.parametrize("name", ["w1", "x1"])
def test_a_network_with_nat_reaches_the_world(place: Place, name: str) -> None:
    """A container could install no package and ask no name server."""
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
    before = refused(place)
    for kind in ("tcp", "udp"):
        assert not place.hosts["s1"].reaches(kind, place.out.ip, 7)
        assert not place.hosts["s1"].reaches(kind, place.side.ip, 7)
        assert not place.hosts["s1"].reaches(kind, HOST, 7)
    assert not place.hosts["s1"].pings(place.out.ip)
    assert not place.hosts["s1"].pings(HOST)
    wait_for(lambda: refused(place) >= before + 8, "the refusals to be counted")


def refused(place: Place) -> int:
    """Packets that wanted out and may not."""
    flows = [f for f in place.lab.flows() if f.table in (Table.LEAVE, Table.DEPART)]
    return sum(f.packets for f in flows if codec.kind_of(f.cookie) == FlowKind.CLOSED)


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("w1", "30.1.1.1"), ("s1", "30.1.1.1"), ("host", "30.1.1.1"),  # into a network without a gateway
        ("s1", FAR), ("s1", HOST), ("s1", "192.168.77.1"),  # out of one without nat
        ("w1", "2001:db8::1"), ("s1", "2001:db8::1"),
        ("w1", "169.254.169.254"), ("s1", "169.254.169.254"), ("w1", "169.254.0.2"),
    ],
)  # fmt: skip
def test_what_is_closed_says_so_at_once(place: Place, name: str, to: str) -> None:
    """Whoever asks into a closed network, or out of one, would wait for minutes, and not know why."""
    client = place.side if name == "host" else place.hosts[name]
    for kind in ("tcp", "udp"):
        wait_for(lambda k=kind: told(client, k, to), f"an answer for {kind}")  # type: ignore[misc]
    if ":" not in to and name != "host":
        enter = ("nsenter", f"--net=/run/netns/{client.netns}")
        wait_for(lambda: "Packet filtered" in run(*enter, "ping", "-c1", "-W2", to, check=False), "an answer to ping")


def test_an_internal_network_says_so_at_once(place: Place) -> None:
    """The same of a network that was made internal, gateway or not."""
    place.lab.network("inner", "50.1.1.0/24", "50.1.1.254", internal=True)
    inner = place.lab.host("i1", "inner", "50.1.1.1", serve=SERVE)
    for kind in ("tcp", "udp"):
        wait_for(lambda k=kind: told(place.hosts["w1"], k, "50.1.1.1"), f"an answer for {kind}")  # type: ignore[misc]
    assert not inner.reaches("tcp", "10.1.1.1", 80)


def test_a_provider_goes_out_from_its_service_port(place: Place) -> None:
    """A server that also calls others from its own port (a name server, say) would get no answers."""
    place.hosts["w2"].stop_serving()
    try:
        for kind, port in (("tcp", 80), ("udp", 53)):
            assert place.hosts["w2"].ask(kind, place.out.ip, 7, source_port=port).split()[1] == place.side.ip
    finally:
        place.hosts["w2"].serve(*SERVE)


def test_the_host_itself_with_nat_host(place: Place) -> None:
    """A container that is to use a server on its host (a resolver, say) could not."""
    o1 = place.hosts["o1"]
    for address in (HOST, place.side.ip):
        assert o1.ask("tcp", address, 7).startswith("host 251.0.0.")
        assert o1.pings(address)
    assert o1.ask("udp", HOST, 7).startswith("host 251.0.0.")
    assert o1.ask("tcp", place.out.ip, 7).split()[:2] == ["out", place.side.ip]
    assert o1.ask("tcp", place.side.ip, 80).split()[0] in {"w1", "w2", "s1"}, "published"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", ["w1", "s1"])
def test_the_host_reaches_containers(place: Place, name: str, version: int) -> None:
    """Nobody could log in to a container, or try its port, from the host it runs on."""
    to = place.hosts[name].address(version)
    for kind, port in (("tcp", 22), ("tcp", 80), ("udp", 99), ("udp", 53)):
        assert place.side.ask(kind, to, port).split()[:2] == [name, {4: HOST, 6: HOST6}[version]]
    assert place.side.pings(to)
    assert place.side.pings(to, "-s", "3000"), "in fragments"
    for port in (99, 53):
        with place.side.connect("udp", to, port) as large:
            for size in (4000, 5, 4000, 20000):
                assert ask_again(large, size).split()[0] == name
        with place.side.connect("udp", to, port) as small:
            for size in (5, 4000):
                assert ask_again(small, size).split()[0] == name
    with pytest.raises(ConnectionRefusedError):
        place.side.ask("tcp", to, 4)
    with pytest.raises(ConnectionRefusedError):
        place.side.ask("udp", to, 4)


@pytest.mark.parametrize("version", [4, 6])
def test_the_host_reaches_vips_and_gateways(place: Place, version: int) -> None:
    """A service would be open to containers alone."""
    vip = of_family(version, place.vip)
    assert set(place.side.who("tcp", vip, 8080, 30)) == {"w1", "w2", "s1"}
    assert set(place.side.who("udp", vip, 53, 30)) == {"w1", "w2", "s1"}
    for _ in range(10):
        with place.side.connect("udp", vip, 53) as large:
            assert len({ask_again(large, size).split()[0] for size in (5, 4000, 5, 4000)}) == 1
    for address in (place.vip, "10.1.1.254", "20.1.1.254"):
        assert place.side.pings(of_family(version, address))


def test_no_way_out_by_ipv6(place: Place) -> None:
    """What a network's owner has shut for IPv4 would be open for IPv6."""
    for name in ("w1", "s1", "x1"):
        for to in (HOST6, "2001:db8::9", "fd00:192:0:2::1"):
            # by the gateway, and not refused by the host
            wait_for(lambda n=name, t=to: told(place.hosts[n], "tcp", t), f"an answer for {to}")  # type: ignore[misc]


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
    place.out.ip_command(f"route replace default via {place.side.ip}")
    for address in ("10.1.1.1", "20.1.1.1", "100.1.1.1", "249.0.0.1", "250.0.0.1"):
        for kind, port in (("tcp", 22), ("tcp", 80), ("tcp", 8080), ("udp", 99), ("udp", 53)):
            assert not place.out.reaches(kind, address, port, timeout=0.1)


@pytest.mark.parametrize("version", [4, 6])
def test_who_is_elsewhere_is_refused_at_once(place: Place, version: int) -> None:
    """A container on Docker's own bridge would wait for minutes for a VIP that it can't reach, and not know why."""
    forwards = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}[version]
    if version == 6:
        place.side.run("ip", "address", "replace", "fd00:9::1/64", "dev", "wan", "nodad")
        place.out.ip_command("address replace fd00:9::9/64 dev eth0 nodad")
    place.out.ip_command(f"-{version} route replace default via {'fd00:9::1' if version == 6 else place.side.ip}")
    place.side.run("sysctl", "-qw", f"{forwards}=1")
    for address in (place.vip, "10.1.1.1", "20.1.1.1", "10.1.1.254"):
        with pytest.raises(ConnectionRefusedError):
            place.out.connect("tcp", of_family(version, address), 8080, timeout=2)
        with place.out.connect("udp", of_family(version, address), 53, timeout=0.2) as connection:
            wait_for(lambda c=connection: prohibited(c), f"a word about {address}")  # type: ignore[misc]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", ["w1", "s1", "host"])
def test_an_address_that_nobody_has(place: Place, name: str, version: int) -> None:
    """Whoever mistypes an address, or asks for a container that is gone, would wait for minutes."""
    client = place.side if name == "host" else place.hosts[name]
    of_another = {"w1": "20.1.1.77", "s1": "10.1.1.77", "host": "10.1.1.77"}[name]
    addresses = [of_another, "30.1.1.77"] if name != "host" and version == 4 else [of_another]
    for address in (of_family(version, a) for a in addresses):
        for kind in ("tcp", "udp"):
            wait_for(lambda k=kind, a=address: unreachable(client, k, a), f"an answer for {kind}")  # type: ignore[misc]
    there = of_family(version, of_another.replace(".77", ".1"))
    assert client.reaches("tcp", there, 80), "who is there is reached as ever"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", ["w1", "s1", "host"])
def test_a_gateways_ports_are_closed(place: Place, name: str, version: int) -> None:
    """Whoever tries a gateway's ports would wait for minutes."""
    client = place.side if name == "host" else place.hosts[name]
    for kind in ("tcp", "udp"):
        with pytest.raises(ConnectionRefusedError):
            client.ask(kind, of_family(version, "20.1.1.254"), 4)


def unreachable(client: Namespace, kind: str, address: str) -> bool:
    """Whether the gateway says at once that the host is unreachable. The switch bounds how often it does."""
    return client.error(kind, address) == errno.EHOSTUNREACH


def told(client: Namespace, kind: str, address: str) -> bool:
    """Whether the client is told at once that this is prohibited."""
    return client.error(kind, address) == (errno.EACCES if ":" in address else errno.EHOSTUNREACH)


def prohibited(connection: socket.socket) -> bool:
    """Whether a datagram is answered with "administratively prohibited". Kernels bound how often they say so."""
    try:
        connection.send(b"x")
        connection.recv(100)
    except TimeoutError:
        return False
    except OSError as error:
        assert error.errno in (errno.EHOSTUNREACH, errno.EACCES)
        return True
    raise AssertionError("somebody answered")


def test_errors_find_their_way_back(place: Place) -> None:
    """A connection to a closed port would hang instead of failing; `traceroute` would show nothing."""
    for name in ("w1", "x1"):
        with pytest.raises(ConnectionRefusedError):
            place.hosts[name].ask("udp", place.out.ip, 4)
        with pytest.raises(ConnectionRefusedError):
            place.hosts[name].ask("tcp", place.out.ip, 4)
        with place.hosts[name].open("udp") as probe:
            probe.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
            probe.connect((place.out.ip, 7))
            probe.send(b"x")
            with pytest.raises(OSError) as caught:
                probe.recv(100)
            assert caught.value.errno == errno.EHOSTUNREACH, "the host says that the time is exceeded"


def test_the_path_mtu_outward(place: Place) -> None:
    """A page over a tunnel or DSL would load for ever: large packets are lost, and nobody tells the container."""
    for name in ("w1", "x1"):
        with place.hosts[name].connect("tcp", FAR_IP, 7) as connection:
            assert ask_again(connection, 300_000).startswith("far ")
        with place.hosts[name].open("udp") as probe:
            probe.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            probe.connect((FAR_IP, 7))

            def too_large(probe: socket.socket = probe) -> bool:
                try:
                    probe.send(bytes(FAR_MTU))
                except OSError as error:
                    return error.errno == errno.EMSGSIZE
                return False

            wait_for(too_large, "the container to be told of the path's MTU")


def test_the_path_mtu_of_a_published_port(place: Place) -> None:
    """A client behind a tunnel or DSL would see the page begin and never end."""
    with place.far.connect("udp", place.side.ip, 5300) as large:
        assert len(ask_all(large, 4000)) == 4000, "in fragments"
    for _ in range(6):
        with place.far.connect("tcp", place.side.ip, 80) as connection:
            connection.sendall(b"x\n" * 3000)
            with connection.makefile() as answers:
                assert len({next(answers) for _ in range(3000)}) == 1


def ask_all(connection: socket.socket, size: int) -> bytes:
    """What a datagram of that size is answered with."""
    connection.send(bytes(size))
    return connection.recv(65535)


@pytest.mark.parametrize("size", [1473, 20000])
def test_datagrams_larger_than_the_mtu(place: Place, size: int) -> None:
    """Large answers of a name server would be lost."""
    with place.hosts["w1"].connect("udp", place.out.ip, 7) as one:
        assert len(ask_all(one, size)) == size
    with place.out.connect("udp", place.side.ip, 5300) as two:
        assert len(ask_all(two, size)) == size


def test_a_forged_sender_stays_inside(place: Place) -> None:
    """A container could pretend to be the host, a service or another tenant's container."""
    w1 = place.hosts["w1"]
    before = guarded(place)
    with w1.open("raw") as raw:
        for sender in ("250.0.0.5", "249.0.0.1", HOST, "127.0.0.1", "192.0.2.77"):
            raw.send(frames.udp(w1.mac, sender, place.out.ip, 7))
    wait_for(lambda: guarded(place) == before + 5, "the forgeries to be counted")


def guarded(place: Place) -> int:
    """Packets dropped for their sender's address."""
    drops = [f for f in place.lab.flows() if f.table == Table.GUARD and f.actions == "drop"]
    return sum(f.packets for f in drops if f.match.startswith("ip,"))


@pytest.mark.parametrize(
    "target", ["127.0.0.1", "169.254.169.254", "169.254.0.2", "249.0.0.1", "250.0.0.2", "255.1.1.1"]
)
def test_what_never_leaves(place: Place, target: str) -> None:
    """A container could reach what the host keeps for itself: its loopback, its cloud's metadata."""
    w1 = place.hosts["w1"]

    def drops() -> int:
        flows = [f for f in place.lab.flows() if f.table == Table.ROUTE]
        closed = [f for f in flows if f.actions == "drop" or codec.kind_of(f.cookie) == FlowKind.CLOSED]
        return sum(f.packets for f in closed)

    before = drops()
    with w1.open("raw") as raw:
        raw.send(frames.udp(w1.mac, w1.ip, target, 7))
    wait_for(lambda: drops() == before + 1, "the drop to be counted")


def test_an_address_that_nobody_has_is_not_looked_for_outside(place: Place) -> None:
    """What is meant for a container that has just gone would be sent to whoever has its address outside."""

    def drops() -> int:
        flows = [f for f in place.lab.flows() if f.table == Table.ROUTE and f.match.endswith("nw_dst=20.1.1.0/24")]
        return sum(f.packets for f in flows)

    before = drops()
    assert not place.hosts["w1"].reaches("udp", "20.1.1.77", 7)
    wait_for(lambda: drops() == before + 1, "the drop to be counted")


def test_no_way_from_tenant_to_tenant(place: Place) -> None:
    """By way of the host, one tenant's containers would reach another's."""
    for address, kind, port in (("20.1.1.1", "tcp", 22), ("100.1.1.1", "tcp", 8080), ("20.1.1.1", "udp", 99)):
        assert not place.hosts["x1"].reaches(kind, address, port)
