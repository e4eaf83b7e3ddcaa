"""What the limit of a tenant's connections refuses: at each place where a connection is noted, in a switch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from ryu_apps.pipeline.family import V4
from ryu_apps.pipeline.fields import ETH_IP, ETH_IPV6, TCP, UDP
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.tables import HAIRPIN_ZONES, HOST_MAC, INGRESS_MAC, ROUTER_MAC, TENANT, FlowKind
from ryu_apps.pipeline.values import LOCAL, Ct, terms
from tests.kit import packets, packets6
from tests.kit.several import TUNNEL, W3, A, B, C, Several, joined, on_hosts
from tests.kit.wide import wide
from tests.kit.world import ip, mac
from topology.model import Network, Object, Published, Service
from topology.reach import host_address6

ZONE, SECOND = 1, 1 | HAIRPIN_ZONES
CLIENT, HOST_IP = ip("203.0.113.9"), ip("169.254.0.1")
HOST_IP6 = int(host_address6(1))
C1, W1, O1, VIP = packets.C1, packets.W1, packets.O1, packets.VIP
STICKY = ip("100.1.1.2")
FRAGMENT = 1

Kind = tuple[int | None, bool, str, int, bool]


def everything() -> Iterator[Object]:
    """Two hosts; tenant default's networks have a way out, its service is published, another has affinity."""
    for value in on_hosts(dual=True):
        if isinstance(value, Network) and value.tenant == "default" and value.gateway:
            value = replace(value, nat=True)  # noqa: PLW2901 - the same, as it is here
        if isinstance(value, Service) and value.tenant == "default":
            ports = tuple(replace(port, number=port.number + 100) for port in value.ports)
            vips = tuple(vip + 1 for vip in value.vips)
            yield replace(value, name="sticky", number=9, ports=ports, vips=vips, affinity=60)
            value = replace(value, published=(Published(80, 8080, "TCP"), Published(53, 5353, "UDP")))  # noqa: PLW2901
        yield value


@dataclass(frozen=True)
class Case:
    """A packet that comes in at a switch's port, while a zone is full; what came before, while there was room."""

    name: str
    dpid: int
    port: int
    packet: Packet
    full: int
    before: tuple[tuple[int, Packet], ...] = ()


def from_host(dst: int, protocol: int = TCP, src: int = HOST_IP, **more: int) -> Packet:
    """From the host, or what it lets in."""
    six = src >> 32
    name = "tcp" if protocol == TCP else "udp"
    ends = {"ipv6_src": src, "ipv6_dst": dst} if six else {"ipv4_src": src, "ipv4_dst": dst}
    return {
        "eth_src": HOST_MAC, "eth_dst": ROUTER_MAC, "eth_type": ETH_IPV6 if six else ETH_IP, "ip_proto": protocol,
        "ip_ttl": 64, f"{name}_src": 5000, f"{name}_dst": 22, **ends, **more,
    }  # fmt: skip


def by_other_host(dst: int, protocol: int, port: int, **more: int) -> Packet:
    """From outside, in by host c: as that has sent it on."""
    name = "tcp" if protocol == TCP else "udp"
    macs = {"eth_src": INGRESS_MAC + C, "eth_dst": mac(12)}
    return from_host(dst, protocol, CLIENT, **macs, **{f"{name}_dst": port, "tunnel_id": 2}, **more)


def of_w1(sport: int, dport: int, dst: int = C1, **more: int) -> Packet:
    """Of the provider at port 2."""
    return packets.udp(2, W1, dst, sport, dport, **more)


C1_6, W1_6, VIP_6 = packets6.C1, packets6.W1, packets6.VIP
CASES = [
    Case("to a VIP", A, 1, packets.tcp(1, C1, VIP, 999, 8080), ZONE),
    Case("to a VIP, IPv6", A, 1, packets6.tcp(1, C1_6, VIP_6, 999, 8080), ZONE),
    Case("to a VIP with affinity", A, 1, packets.tcp(1, C1, STICKY, 999, 8080), ZONE),
    Case("in midstream", A, 1, packets.tcp(1, C1, VIP, 999, 8080, tcp_flags=0x10), ZONE),
    Case("a first datagram in fragments", A, 1,
         packets.udp(1, C1, VIP, 0, 0, ip_frag=FRAGMENT, ct_nw_proto=UDP, ct_tp_dst=5353), ZONE),
    Case("to a published port", A, LOCAL, from_host(ip("249.0.0.1"), TCP, CLIENT, tcp_dst=8080), ZONE),
    Case("straight to a provider", A, 1, packets.tcp(1, C1, W1, 999, 80), ZONE),
    Case("straight to a provider, IPv6", A, 1, packets6.tcp(1, C1_6, W1_6, 999, 80), ZONE),
    Case("of the host, straight to a provider", A, LOCAL, from_host(W1, tcp_dst=80), ZONE),
    Case("of the host, to a container", A, LOCAL, from_host(O1), SECOND),
    Case("of the host, to a container, UDP", A, LOCAL, from_host(O1, UDP), SECOND),
    Case("of the host, to a container, IPv6", A, LOCAL, from_host(ip(wide("10.1.1.3")), TCP, HOST_IP6), SECOND),
    Case("of the host, a fragment to a provider", A, LOCAL, from_host(W1, UDP, ip_frag=FRAGMENT), SECOND),
    Case("of the host, to a container elsewhere", A, LOCAL, from_host(W3), SECOND),
    Case("out by nat", A, 1, packets.tcp(1, C1, CLIENT, 999, 80), SECOND),
    Case("out by nat, of a provider", A, 2, packets.tcp(2, W1, CLIENT, 999, 80), SECOND),
    Case("out by nat, of a provider's service port", A, 2, packets.udp(2, W1, CLIENT, 53, 99), SECOND),
    Case("a fragment out by nat", A, 1, packets.udp(1, C1, CLIENT, 999, 80, ip_frag=FRAGMENT), SECOND),
    Case("begun from a service port", A, 2, packets.tcp(2, W1, C1, 80, 999), ZONE),
    Case("begun from a service port, IPv6", A, 2, packets6.tcp(2, W1_6, C1_6, 80, 999), ZONE),
    Case("a fragment straight to a provider", A, 1, packets.udp(1, C1, W1, 0, 0, ip_frag=FRAGMENT), SECOND),
    Case("a fragment straight to a provider, IPv6", A, 1,
         packets6.udp(1, C1_6, W1_6, 0, 0, ip_frag=FRAGMENT), ZONE),
    Case("a fragment of an answer", A, 2, of_w1(53, 999, ip_frag=FRAGMENT), SECOND,
         ((1, packets.udp(1, C1, W1, 999, 53)),)),
    Case("from outside by another host", B, TUNNEL + 1, by_other_host(W3, TCP, 80), ZONE),
    Case("a datagram from outside by another host", B, TUNNEL + 1, by_other_host(W3, UDP, 53), ZONE),
    Case("a fragment from outside by another host", B, TUNNEL + 1,
         by_other_host(W3, UDP, 0, ip_frag=FRAGMENT), SECOND),
]  # fmt: skip


@pytest.fixture(scope="module")
def loaded() -> Several:
    """The hosts' switches."""
    return joined(list(everything()))


@pytest.fixture
def of(loaded: Several) -> Several:
    """The same; they know of no connection, and none is at a limit."""
    return forget(loaded)


def forget(of: Several) -> Several:
    for switch in of.switches.values():
        switch.tracked = type(switch.tracked)()
    return of


def itself(of: Several, source: int, vip: int, packet: object) -> Case:
    """A provider's connection to its VIP for which it is chosen itself."""
    make = packet
    for sport in range(1000, 1100):
        sent = make(2, source, vip, sport, 8080)  # type: ignore[operator]
        if [s.port for s in of.switches[A].send(2, sent).sent] == [2]:
            return Case(f"to itself, {source}", A, 2, make(2, source, vip, sport, 8080), SECOND)  # type: ignore[operator]
    raise AssertionError("it is never chosen itself")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_is_refused_ends_in_the_switch(of: Several, case: Case) -> None:
    """Some packets would leave untranslated, to or from an address that nobody has; or nobody would count them."""
    ends(of, case)


@pytest.mark.parametrize(("source", "vip", "make"), [(W1, VIP, packets.tcp), (W1_6, VIP_6, packets6.tcp)])
def test_what_is_refused_to_itself(of: Several, source: int, vip: int, make: object) -> None:
    """As above, of a provider that is chosen for its own connection."""
    case = itself(of, source, vip, make)
    ends(forget(of), case)


def ends(of: Several, case: Case) -> None:
    switch = of.switches[case.dpid]
    for port, packet in case.before:
        assert switch.send(port, packet).sent
    switch.tracked.full = frozenset({case.full})
    walk = switch.send(case.port, case.packet)
    assert any(ct.commit and ct.zone == case.full for ct in walk.cts), "the zone is asked"
    assert not [sent for sent in walk.sent if sent.port != packets.CONTROLLER]
    dropped = [step.flow for step in walk.path if step.flow.kind == FlowKind.LIMIT]
    assert len(dropped) == 1, [step.flow for step in walk.path]
    assert terms(dropped[0].match)[TENANT] == ZONE, "it is counted for the tenant"


def test_each_place_where_a_connection_is_noted_is_among_these(of: Several) -> None:
    """A new feature could note connections, and let what is refused leave as it is: it needs a case here."""
    met = set()
    cases = [*CASES, itself(of, W1, VIP, packets.tcp), itself(of, W1_6, VIP_6, packets6.tcp)]
    for case in cases:
        forget(of)
        for port, packet in (*case.before, (case.port, case.packet)):
            met |= {kind(ct) for ct in of.switches[case.dpid].send(port, packet).cts if ct.commit}
    wanted = set()
    for switch in of.switches.values():
        actions = [flow.actions for flow in switch.flows.values()]
        actions += [bucket.actions for group in switch.groups.values() for bucket in group.buckets]
        for action in (a for some in actions for a in some):
            if isinstance(action, Ct) and action.commit and action.zone in (ZONE, SECOND):
                wanted.add(kind(action))
    assert len(wanted) >= 10
    assert met == wanted


def kind(ct: Ct) -> Kind:
    """Where it leads, by which zone, what it translates, and whether it marks."""
    nat = ct.nat
    what = "" if nat is None else "source" if nat.src is not None else "destination"
    return ct.table, ct.zone == SECOND, what, V4.version if nat is None else nat.version, bool(ct.exec)


def test_with_room_all_of_them_go_on(of: Several) -> None:
    """What is dropped at the limit would be dropped without one."""
    for case in CASES:
        switch = forget(of).switches[case.dpid]
        for port, packet in (*case.before, (case.port, case.packet)):
            walk = switch.send(port, packet)
        assert [s for s in walk.sent if s.port != packets.CONTROLLER], case.name
        assert FlowKind.LIMIT not in {step.flow.kind for step in walk.path}, case.name
