"""A tenant at its limit, on the other ways that conntrack translates: out by nat, to itself, from a service port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.kit import hostside
from tests.kit.hosts import Host, Namespace
from tests.kit.hostside import VIP, Place
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private

FIRST, SECOND = 1, 0x8001  # the default tenant's zones
ENOUGH, FEW = 1000, 3


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with hostside.place(tmp_path_factory.mktemp("outside"), instance) as made:
        yield made
        made.lab.instance.appctl("dpctl/ct-del-limits", f"zone={FIRST},{SECOND}")


def limit(place: Place, first: int, second: int) -> None:
    """The limits of the tenant's zones, which have no connections."""
    place.lab.instance.flush_conntrack()
    place.lab.instance.appctl("dpctl/ct-set-limits", f"zone={FIRST},limit={first}", f"zone={SECOND},limit={second}")


def refused(place: Place) -> int:
    """Packets that the limit has refused."""
    return int(place.lab.rest.switch(place.lab.dpid).get("refusedByLimit", {}).get("default", 0))


def frames_of(ears: socket.socket) -> Iterator[bytes]:
    """The IPv4 frames that have come."""
    ears.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while True:
            frame, address = ears.recvfrom(65535)
            if address[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\0":
                yield frame


def opened(client: Namespace, address: str, port: int, times: int, source_port: int = 0) -> int:
    """How many of so many connections are opened."""
    with contextlib.ExitStack() as stack:
        made = 0
        for number in range(times):
            with contextlib.suppress(OSError):
                own = source_port + number if source_port else 0
                stack.enter_context(client.connect("tcp", address, port, own, timeout=0.4))
                made += 1
        return made


def test_out_by_nat(place: Place) -> None:
    """A container's own address would be seen outside, where another tenant may have the same one."""
    limit(place, ENOUGH, FEW)
    before = refused(place)
    client = place.hosts["w1"]
    with client_ears(place.out) as ears:
        assert opened(client, place.out.ip, 7, FEW + 4) == FEW
        assert place.hosts["x1"].reaches("tcp", place.out.ip, 7, timeout=3), "the other tenant goes on"
        sources = {socket.inet_ntoa(frame[26:30]) for frame in frames_of(ears)}
    assert sources == {place.side.ip}
    wait_for(lambda: refused(place) >= before + 4, "the refusals to be counted")


def client_ears(machine: Namespace) -> socket.socket:
    return machine.open("raw")


@pytest.mark.parametrize("zones", [(ENOUGH, FEW), (FEW, ENOUGH)], ids=["second zone", "first zone"])
def test_to_itself(place: Place, zones: tuple[int, int]) -> None:
    """A provider would be asked by its own address, and the kernel log martians, or answer itself for ever."""
    limit(place, *zones)
    before = refused(place)
    for other in ("w2", "s1"):
        place.hosts[other].register(place.lab.rest, {"w2": "web", "s1": "shut"}[other], {"tier": "web"}, state="paused")
    client = place.hosts["w1"]
    try:
        place.lab.settled()
        with client_ears(client) as ears:
            assert opened(client, VIP, 8080, FEW + 4) <= FEW
            own = socket.inet_aton(client.ip)
            assert not [frame.hex() for frame in frames_of(ears) if frame[26:30] == own]
        wait_for(lambda: refused(place) >= before + 4, "the refusals to be counted")
    finally:
        for other in ("w2", "s1"):
            place.hosts[other].register(place.lab.rest, {"w2": "web", "s1": "shut"}[other], {"tier": "web"})


def test_what_a_provider_begins_from_its_service_port(place: Place) -> None:
    """Such a packet would go round in the switch for as long as it lets packets go round."""
    limit(place, FEW, ENOUGH)
    before = refused(place)
    provider, other = place.hosts["w1"], place.hosts["w2"]
    provider.stop_serving()  # its port has to be free
    try:
        with client_ears(other) as ears:
            for times in range(FEW + 3):
                with contextlib.suppress(OSError), provider.open("tcp", timeout=0.4) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind((provider.ip, 80))
                    one.connect((other.ip, 2000 + times))
            hidden = [f.hex() for f in frames_of(ears) if f[30:34] == socket.inet_aton(other.ip) and f[26] == 250]
        assert not hidden
        wait_for(lambda: refused(place) >= before + 3, "the refusals to be counted")
    finally:
        provider.serve(*hostside.SERVE)


def test_fragments_straight_to_a_provider(place: Place) -> None:
    """A part of a datagram would come from, or go to, an address that nobody has."""
    limit(place, ENOUGH, FEW)
    client, provider = place.hosts["w2"], place.hosts["s1"]
    data = b"x" * 4000 + b"\n"
    with client_ears(provider) as there, client_ears(client) as here:
        for _ in range(FEW + 4):
            with contextlib.suppress(OSError), client.connect("udp", provider.ip, 53, timeout=0.3) as one:
                one.sendall(data)
                one.recv(65535)
        for ears, host in ((there, provider), (here, client)):
            wrong = [f.hex() for f in frames_of(ears) if 250 in (f[26], f[30]) and f[:6] == mac(host)]
            assert not wrong


def mac(host: Host) -> bytes:
    return bytes.fromhex(host.mac.replace(":", ""))
