"""Packets from host to host by tunnels: balanced and translated where their client is, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Translation
from ryu_apps.pipeline.dependents import DEPENDENTS, owners
from ryu_apps.pipeline.explain import why_not
from ryu_apps.pipeline.family import V4, V6
from ryu_apps.pipeline.features.scopes import scopes
from ryu_apps.pipeline.tables import ROUTER_MAC, Table
from ryu_apps.pipeline.values import CONTROLLER, SetField
from ryu_apps.pipeline.ways import VLAN_VNIS, vni
from tests.kit import packets6
from tests.kit.packets import BROADCAST, C1, O1, VIP, W1, arp, echo, ipv4, tcp, udp
from tests.kit.several import O2, PORTS_OF, TUNNEL, TUNNELS, W3, A, B, C, Journey, Several, joined, on_hosts
from tests.kit.wide import wide
from tests.kit.world import ip, mac, model_of, network
from topology.model import Change, Host, Network, Object
from topology.observed import Port, Switch
from topology.reach import TUNNEL_PORT, host_addresses

W3_6 = ip(wide("10.1.1.11"))


@pytest.fixture
def hosts() -> Several:
    return joined()


def end(journey: Journey) -> tuple[int, int, dict[str, int]]:
    """The one place where a packet has left: switch, port, what it looked like."""
    assert len(journey.out) == 1, journey.ends
    dpid, sent = journey.out[0]
    return dpid, sent.port, sent.packet


def answered(several: Several, journey: Journey, family: str = "ipv4") -> tuple[int, int, dict[str, int]]:
    """The receiver answers to what it got; what of it leaves, and where."""
    dpid, port, got = end(journey)
    name = "tcp" if "tcp_src" in got else "udp"
    answer = {
        "eth_src": mac(port), "eth_dst": ROUTER_MAC, "eth_type": got["eth_type"], "ip_proto": got["ip_proto"],
        "ip_ttl": 64, f"{family}_src": got[f"{family}_dst"], f"{family}_dst": got[f"{family}_src"],
        f"{name}_src": got[f"{name}_dst"], f"{name}_dst": got[f"{name}_src"],
    }  # fmt: skip
    return end(several.send(dpid, port, answer))


def zones(journey: Journey) -> dict[int, int]:
    """Conntrack calls by switch."""
    return {dpid: len(walk.cts) for dpid, walk in journey.walks}


def test_to_another_network_on_another_host(hosts: Several) -> None:
    """If it fails: containers reach those on their own host only."""
    journey = hosts.send(A, 1, tcp(1, C1, O2, 999, 22))
    dpid, port, packet = end(journey)
    assert (dpid, port) == (B, 13)
    assert (packet["eth_src"], packet["eth_dst"], packet["ip_ttl"]) == (ROUTER_MAC, mac(13), 63), "one hop"
    assert journey.path == [A, B]
    assert zones(journey) == {A: 0, B: 0}, "what is no service stays out of conntrack"
    _, _, back = answered(hosts, journey)
    assert (back["ipv4_src"], back["eth_dst"], back["ip_ttl"]) == (O2, mac(1), 63)


def test_within_a_network(hosts: Several) -> None:
    """If it fails: a network is one per host."""
    assert hosts.send(A, 4, arp(4, O1, O2)).ends == [(A, 4)], "answered where it is asked"
    dpid, port, packet = end(hosts.send(A, 4, tcp(4, O1, O2, 999, 22, eth_dst=mac(13))))
    assert (dpid, port, packet["ip_ttl"], packet["eth_src"]) == (B, 13, 64, mac(4))
    assert "tunnel_id" not in packet or packet["tunnel_id"] == 2


@pytest.mark.parametrize(("make", "port", "target"), [(tcp, 8080, 80), (udp, 5353, 53)])
def test_through_the_vip(hosts: Several, make: Any, port: int, target: int) -> None:
    """If it fails: a service has the providers of the client's host only, or answers come from another address."""
    name = "tcp" if make is tcp else "udp"
    met = set()
    for sport in range(1000, 1060):
        journey = hosts.send(A, 1, make(1, C1, VIP, sport, port))
        dpid, out, packet = end(journey)
        met.add((dpid, out))
        assert packet[f"{name}_dst"] == target
        assert packet["ipv4_src"] == C1, "the provider sees who its client is"
        where, at, back = answered(hosts, journey)
        assert (where, at) == (A, 1)
        assert (back["ipv4_src"], back[f"{name}_src"], back[f"{name}_dst"]) == (VIP, port, sport)
        assert hosts.send(A, 1, make(1, C1, VIP, sport, port)).ends == [(dpid, out)], "the connection stays"
    assert met == {(A, 2), (A, 3), (B, 12)}
    assert not hosts.switches[B].connections, "tracked at the client's switch alone"


def test_through_the_vip_with_providers_elsewhere_only() -> None:
    """If it fails: a service works for clients beside its providers only."""
    far = joined([o for o in on_hosts() if o.key not in ("w1", "w2")])
    journey = far.send(A, 1, tcp(1, C1, VIP, 999, 8080))
    assert journey.ends == [(B, 12)]
    assert answered(far, journey)[2]["ipv4_src"] == VIP


def test_straight_beside_the_vip_from_one_source_port() -> None:
    """If it fails: a client that also talks to a provider's own address gets the VIP's answers, or none."""
    far = joined([o for o in on_hosts() if o.key not in ("w1", "w2")])
    vip = far.send(A, 1, tcp(1, C1, VIP, 999, 8080))
    straight = far.send(A, 1, tcp(1, C1, W3, 999, 80))
    assert straight.ends == vip.ends == [(B, 12)]
    assert end(straight)[2]["ipv4_dst"] == W3
    assert end(straight)[2]["tcp_src"] != end(vip)[2]["tcp_src"], "or the provider could not tell them apart"
    by_vip, by_itself = answered(far, vip)[2], answered(far, straight)[2]
    assert (by_vip["ipv4_src"], by_vip["tcp_src"], by_vip["tcp_dst"]) == (VIP, 8080, 999)
    assert (by_itself["ipv4_src"], by_itself["tcp_src"], by_itself["tcp_dst"]) == (W3, 80, 999)


def test_a_provider_and_its_own_vip(hosts: Several) -> None:
    """If it fails: a container that uses its own service waits in vain, when it is picked itself or when it is not."""
    met = set()
    for sport in range(1000, 1060):
        journey = hosts.send(B, 12, tcp(12, W3, VIP, sport, 8080))
        dpid, port, packet = end(journey)
        met.add((dpid, port))
        assert packet["ipv4_src"] == (VIP if (dpid, port) == (B, 12) else W3)
        _, _, back = answered(hosts, journey)
        assert (back["ipv4_src"], back["ipv4_dst"], back["tcp_dst"]) == (VIP, W3, sport)
    assert met == {(A, 2), (A, 3), (B, 12)}


@pytest.mark.parametrize("fields", [{"ip_frag": 1}, {"ip_frag": 3}])
def test_fragments_of_an_answer_are_translated_at_the_client(hosts: Several, fields: dict[str, int]) -> None:
    """If it fails: answers larger than the MTU of a provider on another host are lost."""
    journey = hosts.send(B, 12, ipv4(12, W3, C1, ip_proto=17, **fields))
    assert zones(journey) == {B: 0, A: 1}
    assert journey.ends == [(A, 1)]


@pytest.mark.parametrize("fields", [{"ip_frag": 1}, {"ip_frag": 3}])
def test_fragments_straight_to_a_provider_and_back(hosts: Several, fields: dict[str, int]) -> None:
    """If it fails: what is larger than the MTU is spoilt by a flow that sets its address, or keeps a hidden one."""
    asked = hosts.send(A, 1, ipv4(1, C1, W3, ip_proto=17, **fields))
    dpid, port, packet = end(asked)
    assert (dpid, port, packet["ipv4_dst"], zones(asked)) == (B, 12, W3, {A: 3, B: 0})
    again = hosts.send(A, 1, ipv4(1, C1, W3, ip_proto=17, **fields))
    assert (again.ends, zones(again)) == ([(B, 12)], {A: 2, B: 0})
    answer = hosts.send(B, 12, ipv4(12, W3, C1, ip_proto=17, **fields))
    dpid, port, packet = end(answer)
    assert (dpid, port, packet["ipv4_src"], zones(answer)) == (A, 1, W3, {B: 0, A: 2})
    for dpid in (A, B):
        for flow in hosts.switches[dpid].flows.values():
            sets = {a.field for a in flow.actions if isinstance(a, SetField)} & {"ipv4_src", "ipv4_dst"}
            assert not sets or not any(name == "ip_frag" and value for name, value, _ in flow.match)


@pytest.mark.parametrize("kind", [3, 11, 12])
def test_errors_of_a_provider_are_translated_at_the_client(hosts: Several, kind: int) -> None:
    """If it fails: a client does not hear that its provider's port is closed, or that its packets are too large."""
    journey = hosts.send(B, 12, echo(12, W3, C1, icmpv4_type=kind))
    assert zones(journey) == {B: 0, A: 1}
    assert journey.ends == [(A, 1)]


def test_broadcast_goes_to_hosts_that_have_the_network(hosts: Several) -> None:
    """If it fails: broadcast stays on its host, or is heard where nobody is of its network, or twice."""
    journey = hosts.send(A, 2, udp(2, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST))
    assert sorted(journey.ends) == [(A, 3), (A, 4), (B, 12), (B, 13)]
    assert journey.path == [A, B], "one copy to b, none to c, none back"
    assert hosts.send(A, 7, udp(7, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST)).path == [A], "the other tenant's"


def test_nothing_goes_back_into_a_tunnel(hosts: Several) -> None:
    """If it fails: a packet for a container that has just moved goes round between hosts for ever."""
    stale = {"eth_src": ROUTER_MAC, "eth_dst": mac(2), "eth_type": 0x0800, "ipv4_src": C1, "ipv4_dst": W1}
    coming = stale | {"ip_proto": 6, "ip_ttl": 63, "tcp_src": 999, "tcp_dst": 22, "tunnel_id": 2}
    assert hosts.send(B, TUNNEL + 1, coming).ends == []
    assert hosts.send(B, TUNNEL + 1, coming | {"eth_dst": BROADCAST}).path == [B]


def test_a_tunnel_is_believed_only_what_is_known(hosts: Several) -> None:
    """If it fails: what comes from the underlay lands in any network."""
    coming = {"eth_src": mac(4), "eth_dst": mac(13), "eth_type": 0x0800, "ipv4_src": O1, "ipv4_dst": O2, "ip_ttl": 9}
    assert hosts.send(B, TUNNEL + 1, coming | {"ip_proto": 0, "tunnel_id": 2}).ends == [(B, 13)]
    assert hosts.send(B, TUNNEL + 1, coming | {"ip_proto": 0, "tunnel_id": 12}).ends == [], "another tenant's"
    assert hosts.send(B, TUNNEL + 1, coming | {"ip_proto": 0, "tunnel_id": 77}).ends == [], "nobody's"
    assert hosts.send(B, TUNNEL + 1, coming | {"ip_proto": 0}).ends == []
    asked = {**arp(4, O1, ip("10.1.1.254")), "tunnel_id": 2}
    assert hosts.send(B, TUNNEL + 1, asked).ends == [(B, 12), (B, 13)], "no ARP is answered here"


def test_answers_to_another_host() -> None:
    """If it fails: a host is answered by its own containers only: through a VIP or a published port, and straight."""
    hosts = joined(on_hosts(dual=True))
    for there, own, make in zip(host_addresses(hosts.model.hosts["a"]), (W3, W3_6), (tcp, packets6.tcp), strict=True):
        journey = hosts.send(B, 12, make(12, own, int(there), 80, 999))
        assert journey.path == [B, A]
        packet = journey.walks[1][1].path[0].packet
        assert (packet["tunnel_id"], packet["eth_dst"], packet["ip_ttl"]) == (2, ROUTER_MAC, 64)


def test_who_can_be_reached() -> None:
    """If it fails: new connections are sent to where no way leads."""

    def names(everything: list[Object], dead: frozenset[str] = frozenset(), ports: dict[str, int] | None = None) -> str:
        model = model_of(everything)
        context = Context(model, A, PORTS_OF[A] if ports is None else ports, dead=dead)
        service = model.services["default:app-svc"]
        return " ".join(c.at.id for c in scopes(context, service, V4)[0].choices)

    everything = on_hosts()
    assert names(everything) == "w1 w2 w3"
    assert names(everything, dead=frozenset("b")) == "w1 w2"
    assert names(everything, ports={n: p for n, p in PORTS_OF[A].items() if n != TUNNEL_PORT}) == "w1 w2"
    without = [replace(o, tunnel_address=None) if isinstance(o, Host) else o for o in everything]
    assert names(without) == "w1 w2"
    draining = [replace(o, draining_since=1.0) if isinstance(o, Host) and o.name == "b" else o for o in everything]
    assert names(draining) == "w1 w2"


@pytest.mark.parametrize(
    ("ports", "selected", "kept"),
    [
        (None, True, True),  # it is not connected: nobody knows
        ({"p12": True}, True, True),
        ({"p12": False}, False, True),
        ({}, False, False),
    ],
)
def test_a_port_at_another_switch(ports: dict[str, bool] | None, selected: bool, kept: bool) -> None:
    """If it fails: who has died there gets connections for ever, or a switch that restarts has them reset."""
    model = model_of(on_hosts())
    there = {} if ports is None else {B: Switch(B, {n: Port(n, 12, "", up) for n, up in ports.items()})}
    context = Context(model, A, PORTS_OF[A], switches={A: Switch(A), **there})
    service = model.services["default:app-svc"]
    assert ("w3" in {c.at.id for c in scopes(context, service, V4)[0].choices}) == selected
    program = compile_owner(context, ("service", "default:app-svc"))
    assert (W3 in {t.to for t in program.translations if isinstance(t, Translation)}) == kept
    assert why_not(context, service, model.endpoints["w3"], V4) == (
        "" if selected else "its port is down" if kept else "not plugged in"
    )


def test_connections_of_a_dead_host_are_not_kept() -> None:
    """If it fails: the client of a provider on a host that is gone talks to it for ever."""
    for dead, kept in ((frozenset[str](), True), (frozenset("b"), False)):
        program = compile_owner(joined(dead=dead).contexts[A], ("service", "default:app-svc"))
        assert (W3 in {t.to for t in program.translations if isinstance(t, Translation)}) == kept


def test_nobody_home_is_said_by_the_clients_switch() -> None:
    """If it fails: a client of a service whose last provider's host is gone waits in vain."""
    far = joined([o for o in on_hosts() if o.key not in ("w1", "w2")], dead=frozenset("b"))
    assert far.send(A, 1, tcp(1, C1, VIP, 999, 8080)).ends == [(A, CONTROLLER)]


def test_a_network_of_each_encap_has_a_vni_of_its_own() -> None:
    """If it fails: two networks are one between hosts."""
    web = network("default", "web", 2, "10.1.1.0/24", None)
    tagged = replace(web, name="v", encap="vlan", tag=web.tag)
    assert vni(web) == web.tag
    assert vni(tagged) == VLAN_VNIS + web.tag
    assert vni(replace(tagged, tag=4094)) < 1 << 24
    model = [replace(o, encap="vlan") if isinstance(o, Network) else o for o in on_hosts()]
    assert joined(model).send(A, 1, tcp(1, C1, O2, 999, 22)).ends == [(B, 13)]


def test_ipv6_takes_the_same_way() -> None:
    """If it fails: IPv6 ends at its host."""
    both = joined(on_hosts(dual=True))
    c1, c2, o2 = (ip(wide(text)) for text in ("20.1.1.1", "20.1.1.2", "10.1.1.12"))
    journey = both.send(A, 1, packets6.tcp(1, c1, o2, 999, 22))
    dpid, port, packet = end(journey)
    assert (dpid, port, packet["eth_dst"], packet["ip_ttl"]) == (B, 13, mac(13), 63)
    assert both.send(A, 1, packets6.solicitation(1, c1, c2)).ends == [(A, 1)], "answered where it is asked"
    nodes = packets6.udp(2, packets6.own(2), packets6.ALL_NODES, 5, 5, eth_dst=packets6.ALL_NODES_MAC)
    assert sorted(both.send(A, 2, nodes).ends) == [(A, 3), (A, 4), (B, 12), (B, 13)]
    met = set()
    for sport in range(1000, 1060):
        journey = both.send(A, 1, packets6.tcp(1, c1, packets6.VIP, sport, 8080))
        met.add(end(journey)[:2])
        _, _, back = answered(both, journey, "ipv6")
        assert (back["ipv6_src"], back["tcp_src"], back["tcp_dst"]) == (packets6.VIP, 8080, sport)
    assert met == {(A, 2), (A, 3), (B, 12)}
    errors = both.send(B, 12, packets6.icmp(12, W3_6, c1, V6.errors[1]))
    assert zones(errors) == {B: 0, A: 1}


def test_a_change_of_a_host_reaches_all_that_look_at_it() -> None:
    """If it fails: after a host's tunnel address changed, its containers are cut off until the controller restarts."""
    before = on_hosts()
    after = [
        replace(o, tunnel_address=o.tunnel_address + 100)  # type: ignore[operator]
        if isinstance(o, Host) and o.name == "b"
        else o
        for o in before
    ]
    changes = [Change(old, new) for old, new in zip(before, after, strict=True) if old != new]
    old, new = (Context(model_of(objects), A, PORTS_OF[A]) for objects in (before, after))
    different = {o for o in owners(new.model) if compile_owner(old, o) != compile_owner(new, o)}
    assert different
    assert different <= DEPENDENTS.of_changes(new.model, changes)
    tunnels = {
        a.value
        for o in owners(new.model)
        for f in compile_owner(new, o).flows
        if f.table == Table.ROUTE
        for a in f.actions
        if isinstance(a, SetField) and a.field == "tun_ipv4_dst"
    }
    assert tunnels == {TUNNELS[B] + 100, TUNNELS[C]}
