"""Nobody home: who asks where nobody listens, or sends with too few hops, is told so at once."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Mapping

import pytest

from ryu_apps.pipeline.tables import ANSWER_RATE, REFUSE_METERS
from tests.kit import frames
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.wide import of_family

VIP, EMPTY_VIP = "100.1.1.1", "100.1.1.2"
TTL_EXCEEDED, UNREACHABLE = {4: (11, 0), 6: (3, 0)}, {4: (3, 3), 6: (1, 4)}
LONG = 10  # seconds; a kernel that hears nothing gives up after minutes only
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
IP_RECVERR, IP_RECVTTL, IPV6_RECVERR = 11, 12, 25  # linux/in.h, linux/in6.h
# by version: the level of a socket's options, those for a packet's hops, to be told of errors, and of a packet's hops
OPTIONS = {
    4: (socket.IPPROTO_IP, socket.IP_TTL, IP_RECVERR, IP_RECVTTL),
    6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, IPV6_RECVERR, socket.IPV6_RECVHOPLIMIT),
}


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """A provider and its neighbour, a client, and another tenant that looks the same."""
    made = {}
    for tenant, letter in (("default", "a"), ("blue", "b")):
        bare.rest.put_tenant(tenant)
        bare.network("srv", "100.1.1.0/24", tenant=tenant, ipv6=True)
        bare.network("web", "10.1.1.0/24", "10.1.1.254", tenant=tenant, ipv6=True)
        bare.network("cli", "20.1.1.0/24", "20.1.1.254", tenant=tenant, ipv6=True)
        bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"], tenant=tenant, vip=VIP)
        bare.service("empty", "srv", ["80:80:TCP", "53:53:UDP"], ["tier=none"], tenant=tenant, vip=EMPTY_VIP)
        serve = ["tcp:80", "udp:53"]
        made[f"w{letter}"] = bare.host(f"w{letter}", "web", "10.1.1.1", {"tier": "web"}, tenant, serve=serve)
        made[f"n{letter}"] = bare.host(f"n{letter}", "web", "10.1.1.9", tenant=tenant, serve=serve)
        made[f"c{letter}"] = bare.host(f"c{letter}", "cli", "20.1.1.1", tenant=tenant)
    return made


@pytest.mark.parametrize("client", ["ca", "na"])
@pytest.mark.parametrize(("vip", "port"), [(VIP, 81), (EMPTY_VIP, 80), (EMPTY_VIP, 81)])
def test_tcp_is_reset(hosts: Mapping[str, Host], version: int, client: str, vip: str, port: int) -> None:
    """A client would wait for minutes where nobody is going to answer."""
    with pytest.raises(ConnectionRefusedError):
        hosts[client].connect("tcp", of_family(version, vip), port, timeout=LONG)
    assert ask(hosts[client], "tcp", of_family(version, VIP), 8080) == "wa"


@pytest.mark.parametrize("client", ["ca", "na"])
@pytest.mark.parametrize(("vip", "port"), [(VIP, 54), (EMPTY_VIP, 53)])
@pytest.mark.parametrize("size", [0, 5, 1400, 4000])
def test_udp_is_unreachable(
    hosts: Mapping[str, Host], *, version: int, client: str, vip: str, port: int, size: int
) -> None:
    """A resolver would wait for its timeout where nobody is going to answer."""
    with hosts[client].connect("udp", of_family(version, vip), port, timeout=LONG) as asking:
        asking.send(b"x" * size)
        with pytest.raises(ConnectionRefusedError):
            asking.recv(100)
    assert ask(hosts[client], "udp", of_family(version, VIP), 53) == "wa"


@pytest.mark.parametrize("client", ["ca", "na"])
@pytest.mark.parametrize(("kind", "port", "target"), [("tcp", 8080, 80), ("udp", 53, 53)])
def test_a_provider_that_does_not_listen(
    hosts: Mapping[str, Host], *, version: int, client: str, kind: str, port: int, target: int
) -> None:
    """A client would wait where the provider itself says that nobody is there: through the VIP, or straight."""
    asker, provider = hosts[client], hosts["wa"]
    provider.stop_serving()
    try:
        for address, number in ((of_family(version, VIP), port), (provider.address(version), target)):
            with pytest.raises(ConnectionRefusedError):
                asker.ask(kind, address, number)
        if kind == "udp":  # one source port to both: what it says is for whom it concerns
            with (
                asker.connect("udp", provider.address(version), target, 6200) as straight,
                asker.connect("udp", of_family(version, VIP), port, 6200) as vip,
            ):
                for connection in (straight, vip):
                    connection.send(b"anybody there?")
                    with pytest.raises(ConnectionRefusedError):
                        connection.recv(100)
    finally:
        provider.serve("tcp:80", "udp:53")


def ask(client: Host, kind: str, vip: str, port: int) -> str:
    return client.ask(kind, vip, port).split()[0]


def segment(host: Host, sport: int, flags: int, seq: int, ack: int = 0, *, port: int = 81, data: bytes = b"") -> bytes:
    """A TCP segment to a port of the VIP, in its frame, with right checksums."""
    tcp = struct.pack("!HHIIBBHHH", sport, port, seq, ack, 0x50, flags, 8192, 0, 0) + data
    pseudo = socket.inet_aton(host.ip) + socket.inet_aton(VIP) + struct.pack("!BBH", 0, 6, len(tcp))
    total = sum(struct.unpack(f"!{(len(tcp) + 1) // 2 + 6}H", pseudo + tcp + bytes(len(tcp) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return frames.ip(host.mac, host.ip, VIP, 6, tcp[:16] + struct.pack("!H", checksum) + tcp[18:])


def replies(host: Host, *sent: bytes) -> list[bytes]:
    """What the VIP answers to these frames, and to nothing else."""
    with host.open("raw", timeout=LONG) as heard:
        for frame in sent:
            heard.send(frame)
        # the controller answers in order: so this, which has an answer for certain, is the last
        heard.send(segment(host, 4999, SYN, 999_999))
        found: list[bytes] = []
        while True:
            frame, address = heard.recvfrom(2048)
            packet = frame[14:]
            if address[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x00":
                continue
            if packet[12:16] != socket.inet_aton(VIP) and packet[9] != 1:
                continue
            if packet[9] == 6 and packet[22:24] == struct.pack("!H", 4999):
                return found
            found.append(packet[: int.from_bytes(packet[2:4], "big")])


def test_exactly_one_reset_as_the_standard_says(hosts: Mapping[str, Host]) -> None:
    """A client would ignore a reset whose numbers are wrong, or be confused by two."""
    client = hosts["ca"]
    (syn,) = replies(client, segment(client, 5000, SYN, 1000))
    assert struct.unpack("!HHIIBB", syn[20:34]) == (81, 5000, 0, 1001, 0x50, RST | ACK)
    (data,) = replies(client, segment(client, 5001, ACK | PSH, 1000, 77, data=b"hello"))
    assert struct.unpack("!HHIIBB", data[20:34]) == (81, 5001, 77, 0, 0x50, RST)


def test_no_answer_to_resets_and_to_what_makes_no_sense(hosts: Mapping[str, Host]) -> None:
    """Two hosts could answer each other's refusals for ever; strangers could have others answered."""
    client = hosts["ca"]
    error = struct.pack("!BBHI", 3, 3, 0xFCFC, 0)
    assert not replies(
        client,
        segment(client, 5002, RST, 1000),
        segment(client, 5003, RST | ACK, 1000, 5),
        segment(client, 5004, SYN | ACK, 1000, 5),  # an answer to what nobody asked
        segment(client, 5005, SYN | FIN, 1000, 5),
        frames.ip(client.mac, client.ip, VIP, 1, error),
        frames.ip(client.mac, client.ip, VIP, 47, bytes(8)),
        frames.ip(client.mac, "20.1.1.99", VIP, 17, struct.pack("!HHHH", 1, 81, 8, 0)),  # a forged sender
        frames.ip(client.mac, client.ip, VIP, 17, bytes(64), fragment=1),  # not the first one
    )


def test_providers_to_zero_and_back_to_one(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """A service without providers would be silent, or not come back with them."""
    client, provider, wide = hosts["ca"], hosts["wa"], of_family(6, VIP)
    with client.connect("tcp", VIP, 8080) as before:
        assert ask_again(before).split()[0] == "wa"
        provider.register(bare.rest, "web", {"tier": "web"}, health="unhealthy")
        wait_for(lambda: refused(client, "tcp", 8080), "new connections to be refused")
        (syn,) = replies(client, segment(client, 5006, SYN, 1000, port=8080))
        assert syn[33] == RST | ACK
        assert refused(client, "udp", 53)
        assert refused(client, "tcp", 8080, wide)
        assert refused(client, "udp", 53, wide)
        assert ask(hosts["cb"], "tcp", wide, 8080) == "wb"
        # other tenants see nothing of it, nor who is connected already
        assert ask(hosts["cb"], "tcp", VIP, 8080) == ask(hosts["cb"], "udp", VIP, 53) == "wb"
        assert ask_again(before).split()[0] == "wa"
    provider.register(bare.rest, "web", {"tier": "web"})
    wait_for(lambda: client.reaches("tcp", VIP, 8080) and client.reaches("udp", VIP, 53), "the service to be back")
    assert client.who("tcp", VIP, 8080, 10) == ["wa"] * 10
    assert client.who("tcp", wide, 8080, 10) == ["wa"] * 10


def refused(client: Host, kind: str, port: int, vip: str = VIP) -> bool:
    """Whether a new connection to the VIP is refused: not answered, and not silent either."""
    try:
        client.ask(kind, vip, port)
    except ConnectionRefusedError:
        return True
    return False


def metered(lab: Lab, number: int) -> tuple[int, int]:
    """Packets that came to a meter, and those that it dropped."""
    text = lab.instance.ofctl("meter-stats", lab.bridge, f"meter={number}")
    came, _, dropped = text.partition("bands:")
    return count(came, "packet_in_count:"), count(dropped, "packet_count:")


def count(text: str, word: str) -> int:
    return int(text.partition(word)[2].split(maxsplit=1)[0])


def test_a_flood_does_not_slow_the_controller_down(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """One container that knocks at closed ports would stop all others from being served."""
    client, number = hosts["ca"], 20_000
    came, dropped = metered(bare, REFUSE_METERS | 1)
    started = time.monotonic()
    with client.open("raw") as out:
        for n in range(number):
            out.send(segment(client, 1024 + n % 60000, SYN, n))
            if n % 1000 == 0:
                bare.rest.version()  # each of these within the client's own timeout
    took = time.monotonic() - started
    new = bare.host("late", "web", "10.1.1.77", {"tier": "late"})
    try:
        assert new.pings("10.1.1.1"), "what is new is in the switch in spite of it"
        now_came, now_dropped = metered(bare, REFUSE_METERS | 1)
        passed = now_came - came - (now_dropped - dropped)
        assert now_came - came > number / 2, "the flood came as far as the meter"
        assert passed <= ANSWER_RATE * (time.monotonic() - started + 2), f"{passed} passed; the flood took {took:.1f} s"
    finally:
        bare.rest.delete_endpoint("late")
        new.close()
    wait_for(lambda: refused(client, "tcp", 81), "an answer, when the flood is over")


def hop(host: Host, target: str, port: int, ttl: int) -> tuple[str, tuple[int, int]]:
    """Who answers a probe with this TTL by an ICMP error, and by which: what traceroute asks."""
    level, hops, errors, _ = OPTIONS[6 if ":" in target else 4]
    with host.connect("udp", target, port) as probe:
        probe.setsockopt(level, hops, ttl)
        probe.setsockopt(level, errors, 1)
        probe.send(b"probe")
        waiting = select.poll()
        waiting.register(probe, 0)  # for nothing but errors
        assert waiting.poll(1000 * LONG), f"no answer to a probe of {target} with TTL {ttl}"
        _, controls, _, _ = probe.recvmsg(100, 100, socket.MSG_ERRQUEUE)
        (error,) = [data for _, kind, data in controls if kind == errors]
    # struct sock_extended_err, then the address of who tells
    who = socket.inet_ntoa(error[20:24]) if ":" not in target else socket.inet_ntop(socket.AF_INET6, error[24:40])
    return who, (error[5], error[6])


def test_traceroute_shows_the_gateway(hosts: Mapping[str, Host], version: int) -> None:
    """Nobody could see the way that packets take."""
    client, provider = hosts["ca"], hosts["wa"]
    gateways = [of_family(version, text) for text in ("20.1.1.254", "10.1.1.254")]
    vip, mine, its = of_family(version, VIP), client.address(version), provider.address(version)
    exceeded, unreachable = TTL_EXCEEDED[version], UNREACHABLE[version]
    assert hop(client, its, 33434, 1) == (gateways[0], exceeded)
    assert hop(client, its, 33434, 2) == (its, unreachable)
    assert hop(provider, mine, 33434, 1) == (gateways[1], exceeded)
    assert hop(client, vip, 53, 1) == (gateways[0], exceeded)
    assert hop(client, vip, 33434, 2) == (vip, unreachable)
    # within a network there is no hop between
    assert hop(hosts["na"], its, 33434, 1) == (its, unreachable)


@pytest.mark.parametrize(("sender", "ttl"), [("ca", 63), ("na", 64)])
def test_ttl_is_one_less_between_networks(hosts: Mapping[str, Host], version: int, sender: str, ttl: int) -> None:
    """Packets could circle for ever; or hosts of one network would find a router between them."""
    level, _, _, told = OPTIONS[version]
    with hosts["wa"].open("udp", version=version) as server, hosts[sender].open("udp", version=version) as out:
        server.bind(("", 7777))
        server.setsockopt(level, told, 1)
        out.sendto(b"hello", (hosts["wa"].address(version), 7777))
        _, ((_, _, seen),), _, address = server.recvmsg(100, 100)
    assert (address[0], int.from_bytes(seen, "little")) == (hosts[sender].address(version), ttl)


@pytest.mark.parametrize("how", ["its port is down", "it is unplugged"])
def test_the_only_provider_has_no_link(hosts: Mapping[str, Host], bare: Lab, version: int, how: str) -> None:
    """A client would wait for minutes, while `service ls` shows a healthy provider."""
    client, provider, vip = hosts["ca"], hosts["wa"], of_family(version, VIP)
    assert ask(client, "tcp", vip, 8080) == "wa"
    if how == "it is unplugged":
        provider.unplug()
    else:
        provider.instance.ip("link", "set", provider.port_name, "down")
    try:
        wait_for(lambda: healthy(bare) == 0, "the controller to notice")
        wait_for(lambda: reset(client, vip, 8080), "a reset")
    finally:
        if how == "it is unplugged":
            provider.plug()
        else:
            provider.instance.ip("link", "set", provider.port_name, "up")
    wait_for(lambda: healthy(bare) == 1, "the provider to be back")
    wait_for(lambda: not reset(client, vip, 8080), "the VIP to answer")


def healthy(lab: Lab) -> int:
    """How many providers of the service `service ls` shows as healthy."""
    return next(s["healthyProviders"] for s in lab.rest.services() if s["key"] == "default:app")


def reset(client: Host, address: str, port: int) -> bool:
    """Whether a connection is reset, and not met with silence for long."""
    try:
        client.connect("tcp", address, port, timeout=LONG).close()
    except ConnectionRefusedError:
        return True
    return False
