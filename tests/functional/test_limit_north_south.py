"""A tenant at its limit of connections, on the ways between its containers, their host and the world outside.

What the limit refuses is dropped and counted, and nothing leaves untranslated. Another tenant does the same meanwhile
and loses nothing.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.kit import hostside
from tests.kit.hosts import Host, Namespace
from tests.kit.hostside import Place
from tests.kit.loop import Loop, asking
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private
from tests.kit.wide import of_family

FIRST, SECOND = 1, 0x8001  # the default tenant's zones
ENOUGH, FEW, MORE = 1000, 3, 4  # FEW connections fit where the zone is limited; MORE are tried than that
HOST, HOST6 = "169.254.0.1", "100::1:0:1"  # the host, as its containers see it
BLUE_PORT = 81  # of the host: leads to blue's service


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Tenant blue has a published service as well, and a network that the host has a route to."""
    with hostside.place(tmp_path_factory.mktemp("north"), instance) as made:
        it = made.lab
        it.network("srv", "100.2.1.0/24", tenant="blue")
        it.network("near", "50.1.1.0/24", "50.1.1.254", "blue", ipv6=True)
        made.hosts["x1"].register(it.rest, "web", {"tier": "web"}, "blue")
        made.hosts["y1"] = it.host("y1", "near", "50.1.1.1", tenant="blue", serve=["tcp:22"])
        publish = {"publish": [f"{BLUE_PORT}:8080:TCP"]}
        it.service("app", "srv", ["8080:80:TCP"], ["tier=web"], tenant="blue", vip="100.2.1.1", options=publish)
        it.settled()
        wait_for(lambda: made.side.publishes(BLUE_PORT), "the port to be published")
        for version in (4, 6):
            wait_for(lambda v=version: made.side.reaches("tcp", made.hosts["y1"].address(v), 22), "the host's routes")  # type: ignore[misc]
        yield made
        it.instance.appctl("dpctl/ct-del-limits", f"zone={FIRST},{SECOND}")


def limit(place: Place, first: int, second: int) -> None:
    """The limits of the default tenant's zones, which have no connections."""
    place.lab.instance.appctl("dpctl/ct-set-limits", f"zone={FIRST},limit={first}", f"zone={SECOND},limit={second}")
    place.lab.instance.flush_conntrack()


def refused(place: Place) -> int:
    """Packets that the limit has refused."""
    return int(place.lab.rest.switch(place.lab.dpid).get("refusedByLimit", {}).get("default", 0))


@contextlib.contextmanager
def blue_goes_on(place: Place, *asks: tuple[Namespace, str, int]) -> Iterator[None]:
    """The other tenant's clients ask all the while, by new connections; each is answered."""
    with contextlib.ExitStack() as stack:
        loops: list[Loop] = [stack.enter_context(asking(client, "tcp", to, port)) for client, to, port in asks]
        yield
        for loop in loops:
            loop.wait_for_more()
            assert not loop.failures
    assert not place.lab.rest.switch(place.lab.dpid).get("refusedByLimit", {}).get("blue", 0)


def opened(client: Namespace, kind: str, address: str, port: int) -> int:
    """How many of FEW + MORE new connections are answered; all stay open until the last was tried."""
    made = 0
    with contextlib.ExitStack() as stack:
        for _ in range(FEW + MORE):
            with contextlib.suppress(OSError):
                one = stack.enter_context(client.connect(kind, address, port, timeout=0.4))
                one.sendall(b"ask\n")
                made += bool(one.recv(65535))
    return made


class Heard:
    """The IP packets that come to a namespace's ``eth0``: their sources and destinations, in order."""

    def __init__(self, ears: socket.socket, mac: str = "") -> None:
        self._ears = ears
        self._mac = bytes.fromhex(mac.replace(":", ""))

    def ends(self) -> list[tuple[str, str]]:
        """Of all that have come since the last call, and come within 0.2 s of each other."""
        self._ears.settimeout(0.2)
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                frame, address = self._ears.recvfrom(65535)
                if address[2] == socket.PACKET_OUTGOING or not frame.startswith(self._mac):
                    continue
                if frame[12:14] == b"\x08\0":
                    found.append((socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])))
                elif frame[12:14] == b"\x86\xdd" and frame[20] != socket.IPPROTO_ICMPV6:
                    six = socket.AF_INET6
                    found.append((socket.inet_ntop(six, frame[22:38]), socket.inet_ntop(six, frame[38:54])))
        return found


@contextlib.contextmanager
def hearing(at: Namespace) -> Iterator[Heard]:
    """What comes to a namespace in the block."""
    with at.open("raw") as ears:
        yield Heard(ears, at.mac if isinstance(at, Host) else "")


@pytest.mark.parametrize("name", ["w1", "s1"], ids=["network with nat", "network without"])
@pytest.mark.parametrize(("kind", "port"), [("tcp", 22), ("udp", 99)])
def test_from_the_host_straight_to_a_container(place: Place, version: int, name: str, kind: str, port: int) -> None:
    """The host's own health checks would fail without a count that says why, or be answered from another address."""
    limit(place, ENOUGH, FEW)
    before, container = refused(place), place.hosts[name]
    own, host = container.address(version), of_family_host(version)
    blue = place.hosts["y1"].address(version)
    with hearing(container) as there, blue_goes_on(place, (place.side, blue, 22)):
        assert opened(place.side, kind, own, port) == FEW
        came = there.ends()
    assert set(came) == {(host, own)}
    wait_for(lambda: refused(place) >= before + MORE, "the refusals to be counted")
    place.lab.instance.flush_conntrack()
    assert place.side.reaches(kind, own, port, timeout=3), "with room again, it is answered"


def of_family_host(version: int) -> str:
    """The host, as its containers see it."""
    return HOST if version == 4 else HOST6


def test_what_was_refused_is_not_answered_once_there_is_room(place: Place, version: int) -> None:
    """A container with nat would answer its host from an address that the host has not asked."""
    limit(place, ENOUGH, 1)
    container, before = place.hosts["w1"], refused(place)
    own = container.address(version)
    with place.side.connect("tcp", own, 22), hearing(container) as there:
        there.ends()  # the last of the handshake may come after the connection is open
        with contextlib.suppress(OSError), place.side.connect("tcp", own, 22, timeout=0.4):
            pass
        wait_for(lambda: refused(place) > before, "the refusal to be counted")
        assert not there.ends(), "the container has not heard of it, so it answers nothing"


@pytest.mark.parametrize(("kind", "port", "to"), [("tcp", 80, 80), ("udp", 53, 53)])
def test_from_the_host_to_a_service_port_of_a_container(
    place: Place, version: int, kind: str, port: int, to: int
) -> None:
    """What goes straight to a provider would reach it by its hidden address, which it does not have."""
    limit(place, FEW, ENOUGH)
    before, container = refused(place), place.hosts["w1"]
    own = container.address(version)
    with hearing(container) as there:
        assert opened(place.side, kind, own, port) == FEW
        assert set(there.ends()) == {(of_family_host(version), own)}
    wait_for(lambda: refused(place) >= before + MORE, "the refusals to be counted")


@pytest.mark.parametrize(("kind", "port"), [("tcp", 80), ("udp", 5300)])
def test_in_by_a_published_port(place: Place, kind: str, port: int) -> None:
    """Clients outside would be answered from a provider's own address, or reach it by the published one."""
    limit(place, FEW, ENOUGH)
    before, providers = refused(place), [place.hosts[name] for name in ("w1", "w2", "s1")]
    with contextlib.ExitStack() as stack:
        outside = stack.enter_context(hearing(place.out))
        there = [(host, stack.enter_context(hearing(host))) for host in providers]
        with blue_goes_on(place, (place.out, place.side.ip, BLUE_PORT), (place.hosts["x1"], place.out.ip, 7)):
            assert opened(place.out, kind, place.side.ip, port) == FEW
            for host, heard in there:
                assert {to for _, to in heard.ends()} <= {host.ip}
        assert {source for source, _ in outside.ends()} == {place.side.ip}
    wait_for(lambda: refused(place) >= before + MORE, "the refusals to be counted")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_out_by_nat(place: Place, kind: str) -> None:
    """A container's own address would be seen outside, where another tenant may have the same one."""
    limit(place, ENOUGH, FEW)
    before = refused(place)
    with hearing(place.out) as outside:
        others = (place.hosts["x1"], place.out.ip, 7), (place.out, place.side.ip, BLUE_PORT)
        with blue_goes_on(place, *others):
            assert opened(place.hosts["w1"], kind, place.out.ip, 7) == FEW
        assert {source for source, _ in outside.ends()} == {place.side.ip}
    wait_for(lambda: refused(place) >= before + MORE, "the refusals to be counted")


def test_pings_out_by_nat(place: Place) -> None:
    """What has no ports would be translated by nobody, and leave with the container's own address."""
    limit(place, ENOUGH, 1)
    with place.hosts["w2"].connect("udp", place.out.ip, 7) as one, hearing(place.out) as outside:
        one.sendall(b"ask\n")
        assert one.recv(100)
        before = refused(place)
        assert not place.hosts["w1"].pings(place.out.ip)
        assert {source for source, _ in outside.ends()} == {place.side.ip}
    wait_for(lambda: refused(place) >= before + 3, "the refusals to be counted")


def test_large_datagrams_out_by_nat(place: Place) -> None:
    """The later parts of a datagram would leave with the container's own address."""
    limit(place, ENOUGH, 1)
    before = refused(place)
    with place.hosts["w2"].connect("udp", place.out.ip, 7) as one, hearing(place.out) as outside:
        one.sendall(b"ask\n")
        assert one.recv(100)
        with place.hosts["w1"].connect("udp", place.out.ip, 7, timeout=0.4) as large:
            large.sendall(b"x" * 3999 + b"\n")
            with contextlib.suppress(TimeoutError):
                assert not large.recv(65535)
        assert {source for source, _ in outside.ends()} == {place.side.ip}
    wait_for(lambda: refused(place) > before, "the refusal to be counted")


def test_answers_of_what_was_open_before(place: Place) -> None:
    """A full zone would also cut off the connections that are in it."""
    limit(place, FEW, FEW)
    with contextlib.ExitStack() as stack:
        kept = [
            stack.enter_context(client.connect("tcp", to, port))
            for client, to, port in (
                (place.out, place.side.ip, 80),
                (place.hosts["w1"], place.out.ip, 7),
                (place.side, place.hosts["s1"].ip, 22),
            )
        ]
        for client, to, port in ((place.out, place.side.ip, 80), (place.hosts["w1"], place.out.ip, 7)):
            opened(client, "tcp", to, port)
        for one in kept:
            one.sendall(b"ask\n")
            assert one.recv(100)


def test_ipv6_has_no_way_out_at_the_limit_either(place: Place) -> None:
    """IPv6 has no nat: a full zone may not become a way to the world."""
    limit(place, FEW, FEW)
    with hearing(place.out) as outside:
        for _ in range(FEW + MORE):
            assert not place.hosts["w1"].reaches("tcp", "2001:db8::9", 7, timeout=0.2)
            assert not place.hosts["w1"].reaches("tcp", of_family(6, place.out.ip), 7, timeout=0.2)
        assert not [ends for ends in outside.ends() if ":" in ends[0]]
