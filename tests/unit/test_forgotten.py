"""Who is told that a connection is forgotten, and with which numbers."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryu_apps import forgotten
from ryu_apps import framework as fw
from ryu_apps.learning import BrokenPacketError
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.tables import ROUTER_MAC
from ryu_apps.pipeline.values import IN_PORT, LOCAL, LOCAL_IN_REGISTER, Output
from tests.kit.wide import wide
from tests.kit.world import DPID, PORTS, WEB, dual, endpoint, mac_text, model, model_of
from topology.model import Service, ServicePort

C1, W1, O1, VIP, SECOND_VIP = "20.1.1.1", "10.1.1.1", "10.1.1.3", "100.1.1.1", "100.1.1.2"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TENANT, CLIENT_PORT = 1, 1
ROUTER = ROUTER_MAC.to_bytes(6, "big").hex(":")
SECOND = Service(
    "default", "second", 9, "services", (IPv4Address(SECOND_VIP),),
    (ServicePort(9090, 80, "TCP", 90), ServicePort(9091, 80, "TCP", 91), ServicePort(80, 81, "TCP", 92)), WEB,
)  # fmt: skip
CONTEXT = Context(model((SECOND,)), DPID, PORTS)


def frame(flags: int, data: bytes = b"", src: str = W1, dst: str = C1, port: int = 80) -> bytes:
    """What a provider says, on its last hop to the client."""
    packet = fw.packet.Packet()
    v6 = ":" in src
    packet.add_protocol(fw.ethernet.ethernet(dst=mac_text(1), src=ROUTER, ethertype=0x86DD if v6 else 0x0800))
    packet.add_protocol(fw.ipv6.ipv6(src=src, dst=dst, nxt=6) if v6 else fw.ipv4.ipv4(src=src, dst=dst, proto=6))
    packet.add_protocol(fw.tcp.tcp(port, 5000, seq=0xFFFFFFFF, ack=77, bits=flags))
    if data:
        packet.add_protocol(data)
    packet.serialize()
    return bytes(packet.data)


def told(of: bytes, port: int = CLIENT_PORT, context: Context = CONTEXT, tenant: int = TENANT) -> list[Any]:
    """By what action; MACs, addresses, ports, numbers and flags."""
    out = []
    for actions, made in forgotten.Forgotten().heard(context, tenant, port, of):
        packet = fw.packet.Packet(made)
        ethernet, segment = packet.get_protocol(fw.ethernet.ethernet), packet.get_protocol(fw.tcp.tcp)
        ip = packet.get_protocol(fw.ipv4.ipv4) or packet.get_protocol(fw.ipv6.ipv6)
        check(made, ip_address(ip.src), ip_address(ip.dst))
        macs = (ethernet.src, ethernet.dst)
        out.append(
            (actions, macs, ip.src, ip.dst, segment.src_port, segment.dst_port, segment.seq, segment.ack, segment.bits)
        )
    return out


def check(made: bytes, src: IPv4Address | IPv6Address, dst: IPv4Address | IPv6Address) -> None:
    """Checksums, worked out otherwise: a sum with its own checksum in it is all ones."""
    at = 34 if src.version == 4 else 54
    pseudo = src.packed + dst.packed + struct.pack("!II", 20, 6) + made[at : at + 20]
    assert int.from_bytes(pseudo, "big") % 0xFFFF == 0
    if src.version == 4:
        assert int.from_bytes(made[14:34], "big") % 0xFFFF == 0


def to_client(vip: str, port: int, seq: int) -> tuple[Any, ...]:
    return ((Output(CLIENT_PORT),), (ROUTER, mac_text(1)), vip, C1, port, 5000, seq, 77, RST | ACK)


def test_each_vip_and_port_that_leads_to_the_provider() -> None:
    """A client of the second VIP, or of a second port, would go on waiting."""
    fronts = [(VIP, 8080), (SECOND_VIP, 9090), (SECOND_VIP, 9091)]
    assert told(frame(ACK | PSH, b"news")) == [to_client(*front, 0xFFFFFFFF) for front in fronts]


@pytest.mark.parametrize(
    ("of", "numbers"),
    [
        (frame(ACK), [0xFFFFFFFF, 0]),
        (frame(ACK, b"x"), [0xFFFFFFFF, 0]),
        (frame(ACK, b"xy"), [0xFFFFFFFF]),
        (frame(ACK | FIN), [0xFFFFFFFF]),
        (frame(RST), [0xFFFFFFFF]),
    ],
    ids=["probe", "probe with a byte", "data", "end", "reset"],
)
def test_the_number_that_the_client_expects(of: bytes, numbers: list[int]) -> None:
    """The client's kernel would not believe the reset: it has to have the number that is expected next."""
    found = [one[6] for one in told(of) if one[2] == VIP]
    assert found == numbers


def test_ipv6() -> None:
    """Clients of IPv6 VIPs would wait."""
    context = Context(model_of(dual()), DPID, PORTS)
    (one,) = told(frame(ACK | PSH, b"news", wide(W1), wide(C1)), context=context)
    assert one[2:6] == (wide(VIP), wide(C1), 8080, 5000)


def test_the_host_has_not_seen_it() -> None:
    """A host, or a client beyond it, and the provider would wait: the packet may not go on to them."""
    provider = ((Output(2),), (ROUTER, mac_text(2)), C1, W1, 5000, 80, 77, 0, RST)
    found = told(frame(ACK | PSH, b"news"), port=LOCAL_IN_REGISTER)
    assert [one[0] for one in found] == [(Output(LOCAL),)] * 4 + [(Output(2),)]
    assert {one[2:5:2] for one in found[:4]} == {(VIP, 8080), (SECOND_VIP, 9090), (SECOND_VIP, 9091), (W1, 80)}
    assert found[4] == provider
    assert len(told(frame(RST), port=LOCAL_IN_REGISTER)) == 4, "it has reset its own end"


def test_a_client_that_asks_after_its_provider_has_spoken() -> None:
    """Where conntrack had moved its port, it would go on asking a provider that takes it for another."""
    heard = forgotten.Forgotten()
    asks = frame(ACK | PSH, b"and?", src=C1, dst=W1)  # from port 80 to 5000, as `frame` has it
    context = Context(model((replace(SECOND, ports=(ServicePort(9090, 5000, "TCP", 90),)),)), DPID, PORTS)
    assert list(heard.heard(context, TENANT, 0, asks)) == [], "it may well go on"
    says = forgotten.answers.segment(frame(ACK))
    heard._spoke["w1", says.dst, 5000] = None
    ((actions, made),) = heard.heard(context, TENANT, 0, asks)
    segment = fw.packet.Packet(made).get_protocol(fw.tcp.tcp)
    ip = fw.packet.Packet(made).get_protocol(fw.ipv4.ipv4)
    assert actions == (Output(IN_PORT),)
    assert (ip.src, ip.dst, segment.src_port, segment.dst_port) == (SECOND_VIP, C1, 9090, 80)
    assert (segment.seq, segment.bits) == (77, RST)


def test_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that speaks to ever more clients would fill the controller's memory."""
    monkeypatch.setattr(forgotten, "REMEMBERED", 3)
    remembers = forgotten.Forgotten()
    for number in range(6):
        assert list(remembers.heard(CONTEXT, TENANT, CLIENT_PORT, frame(ACK, dst=f"20.1.1.{number}")))
    assert [client[1][3] for client in remembers._spoke] == [3, 4, 5]


@pytest.mark.parametrize(("flags", "resets"), [(ACK, True), (SYN, False), (SYN | ACK, False)])
def test_a_provider_that_is_its_own_client(flags: int, resets: bool) -> None:
    """Its connection to itself would hang, or a new one would be reset as if it were forgotten."""
    said = list(forgotten.resets_to_itself(CONTEXT, TENANT, frame(flags, dst=VIP)))
    assert bool(said) is resets
    assert not list(forgotten.resets_to_itself(CONTEXT, TENANT, frame(ACK, src=C1, dst=VIP)))


def test_whoever_is_no_provider_there() -> None:
    """Anybody could have connections of others reset."""
    assert told(frame(ACK, b"news", src=O1)) == [], "no provider"
    assert told(frame(ACK, b"news", port=81)) != []
    assert told(frame(ACK, b"news", port=82)) == [], "no service port"
    assert told(frame(ACK, b"news", src="10.9.9.9")) == [], "nobody's"
    assert told(frame(ACK, b"news"), tenant=2)[0][2] == VIP
    assert told(frame(ACK, b"news"), tenant=3) == [], "no tenant"
    stopped = endpoint("w1", "default", "web", 2, W1, labels=(("tier", "db"),))
    assert told(frame(ACK, b"news"), context=Context(model((stopped,), ("w1",)), DPID, PORTS)) == []


@given(st.binary(max_size=80), st.integers(0, 70))
def test_nothing_from_outside_is_believed(data: bytes, cut: int) -> None:
    """A packet that is cut short, or none at all, would end the controller."""
    for broken in (data, frame(ACK, b"news")[:cut], frame(ACK)[:14] + data):
        try:
            told(broken)
        except BrokenPacketError:
            continue
