"""A published port of one host, a provider on another: packet by packet, there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Translation
from ryu_apps.pipeline.dependents import DEPENDENTS, owners
from ryu_apps.pipeline.fields import ETH_IP, TCP, TCP_ACK, UDP
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.tables import HAIRPIN_ZONES, HOST_MAC, INGRESS_BIT, INGRESS_MAC, ROUTER_MAC, FlowKind, Table
from ryu_apps.pipeline.trace import Question, trace
from ryu_apps.pipeline.values import CONTROLLER, LOCAL, LOCAL_IN_REGISTER
from tests.kit.several import HOSTS, O2, PORTS_OF, TUNNEL, W3, A, B, C, Journey, Several, joined, on_hosts
from tests.kit.world import WEB, endpoint, ip, mac, model_of
from topology.model import Change, Endpoint, Host, Object, Published, Service
from topology.reach import TUNNEL_PORT

CLIENT, OTHER = ip("203.0.113.9"), ip("203.0.113.10")
SERVICE, BLUES = ip("249.0.0.1"), ip("249.0.0.2")
PORTS = {TCP: (8080, 80), UDP: (5353, 53)}
NAMES = {TCP: "tcp", UDP: "udp"}
FAR = ("w1", "w2")  # left out, w3 on b is the one provider


def published(value: Object) -> Object:
    """Both tenants' services have ports of the hosts."""
    if not isinstance(value, Service):
        return value
    offset = 0 if value.tenant == "default" else 100
    return replace(value, published=(Published(80 + offset, 8080, "TCP"), Published(53 + offset, 5353, "UDP")))


def world(without: Iterable[str] = FAR, more: Iterable[Object] = ()) -> list[Object]:
    """The two hosts, and a third where nobody is, but clients come in by it too."""
    return [published(o) for o in on_hosts() if o.key not in without] + list(more)


def of_mac(host: int) -> int:
    """What came in by a host of that number."""
    return INGRESS_MAC + host


def packet(source: int, to: int, ports: tuple[int, int], protocol: int = TCP, **more: int) -> Packet:
    """To the router, from the host."""
    return {
        "eth_src": HOST_MAC, "eth_dst": ROUTER_MAC, "eth_type": ETH_IP, "ip_proto": protocol, "ip_ttl": 64,
        "ipv4_src": source, "ipv4_dst": to, f"{NAMES[protocol]}_src": ports[0], f"{NAMES[protocol]}_dst": ports[1],
        **more,
    }  # fmt: skip


def end(journey: Journey) -> tuple[int, int, Packet]:
    """The one place where a packet has left: switch, port, what it looked like."""
    assert len(journey.out) == 1, journey.ends
    dpid, sent = journey.out[0]
    return dpid, sent.port, sent.packet


def comes(
    of: Several, by: int, source: int = CLIENT, *, port: int = 5000, protocol: int = TCP, to: int = SERVICE
) -> tuple[int, int, Packet]:
    """A client's packet comes in by a host, whose kernel has translated it; where it ends."""
    return end(of.send(by, LOCAL, packet(source, to, (port, PORTS[protocol][0]), protocol)))


def answer(got: tuple[int, int, Packet]) -> tuple[int, int, Packet]:
    """What the receiver answers, and where."""
    dpid, port, seen = got
    name = NAMES[seen["ip_proto"]]
    ports = seen[f"{name}_dst"], seen[f"{name}_src"]
    back = packet(seen["ipv4_dst"], seen["ipv4_src"], ports, seen["ip_proto"], eth_src=mac(port))
    if seen["ip_proto"] == TCP:
        back["tcp_flags"] = 0x12
    return dpid, port, back


def answered(of: Several, got: tuple[int, int, Packet]) -> tuple[int, int, Packet]:
    """Where the receiver's answer ends."""
    return end(of.send(*answer(got)))


def marks(of: Several, dpid: int) -> set[int]:
    """The hosts' numbers that a switch has noted with its connections."""
    return {c.mark & ~INGRESS_BIT for c in of.switches[dpid].connections.values()}


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_all_providers_answer_by_the_host_that_they_were_reached_by(protocol: int) -> None:
    """If it fails: an outside client gets no answer from a part of the providers."""
    of, name = joined(world(without=())), NAMES[protocol]
    met = set()
    for port in range(5000, 5060):
        dpid, out, seen = got = comes(of, A, port=port, protocol=protocol)
        met.add((dpid, out))
        assert (seen["ipv4_src"], seen[f"{name}_src"]) == (CLIENT, port), "the provider sees who its client is"
        assert (seen[f"{name}_dst"], seen["ip_ttl"]) == (PORTS[protocol][1], 63)
        where, to, back = answered(of, got)
        assert (where, to) == (A, LOCAL_IN_REGISTER)
        assert (back["ipv4_src"], back[f"{name}_src"]) == (SERVICE, PORTS[protocol][0])
        assert (back["ipv4_dst"], back[f"{name}_dst"], back["eth_dst"]) == (CLIENT, port, HOST_MAC)
        assert comes(of, A, port=port, protocol=protocol)[:2] == (dpid, out), "the connection stays"
    assert met == {(A, 2), (A, 3), (B, 12)}
    assert marks(of, B) == {A}
    assert marks(of, A) == {0}, "what is provided here is not another host's"


def test_what_is_asked_again_before_an_answer() -> None:
    """If it fails: a client whose first packets were lost is never answered."""
    of = joined(world())
    for protocol in (UDP, TCP):
        for _ in range(2):
            got = comes(of, A, protocol=protocol)
            assert got[:2] == (B, 12)
        for _ in range(2):
            assert answered(of, got)[:2] == (A, LOCAL_IN_REGISTER)


def test_one_source_port_to_all_hosts() -> None:
    """If it fails: a load balancer in front of the hosts has connections of two hosts mixed up."""
    of = joined(world())
    got = {by: comes(of, by) for by in (A, B, C)}
    assert {where[:2] for where in got.values()} == {(B, 12)}
    assert len({seen["tcp_src"] for _, _, seen in got.values()}) == 3, "or the provider could not tell them apart"
    for by in (B, A, C, A):
        where, to, back = answered(of, got[by])
        assert (where, to) == (by, LOCAL_IN_REGISTER)
        assert (back["ipv4_src"], back["tcp_src"], back["tcp_dst"]) == (SERVICE, 8080, 5000)


def test_hosts_of_one_kind() -> None:
    """If it fails: in a cluster of more than eight hosts, answers go to a host that the client has left."""
    many = [replace(o, number=9) if isinstance(o, Host) and o.name == HOSTS[C] else o for o in world()]
    of = joined(many)
    for by in (A, C, A):
        assert answered(of, comes(of, by))[:2] == (by, LOCAL_IN_REGISTER)


def test_a_client_and_a_container_straight_to_the_provider() -> None:
    """If it fails: what goes straight to a provider is taken for what came in by another host."""
    of = joined(world())
    straight = end(of.send(B, 11, packet(ip("20.1.1.2"), W3, (5000, 80), eth_src=mac(11))))
    far = end(of.send(A, 1, packet(ip("20.1.1.1"), W3, (5000, 80), eth_src=mac(1))))
    outside = comes(of, A)
    assert straight[:2] == far[:2] == outside[:2] == (B, 12)
    assert answered(of, straight)[:2] == (B, 11)
    assert answered(of, far)[:2] == (A, 1)
    assert answered(of, outside)[:2] == (A, LOCAL_IN_REGISTER)


def test_two_tenants_alike() -> None:
    """If it fails: of two tenants whose networks look alike, only one could publish."""
    ports = {**PORTS_OF, B: {**PORTS_OF[B], "p14": 14}}
    twin = endpoint("w8", "blue", "web", 14, "10.1.1.11", host=HOSTS[B], switch=0, labels=WEB)
    of = joined(world((*FAR, "w9"), [twin]), ports=ports)
    one, two = comes(of, A), comes(of, A, to=BLUES)
    assert (one[1], two[1]) == (12, 14)
    assert answered(of, two)[2]["ipv4_src"] == BLUES
    assert answered(of, one)[2]["ipv4_src"] == SERVICE


def test_the_hosts_own_connections_are_its_own() -> None:
    """If it fails: `curl localhost` on a host meets the providers of this host only, or is noted needlessly."""
    of = joined(world())
    own = of.model.hosts["a"].address
    assert own is not None
    got = comes(of, A, int(own))
    assert got[:2] == (B, 12)
    assert got[2]["eth_src"] == ROUTER_MAC
    assert not of.switches[B].connections
    where, to, back = answered(of, got)
    assert (where, to, back["ipv4_src"]) == (A, LOCAL_IN_REGISTER, SERVICE)


def test_who_was_not_asked_does_not_leave() -> None:
    """If it fails: containers of a network that is shut speak to the world, by another host."""
    of = joined(world())
    comes(of, A)
    for source, to, port in ((W3, OTHER, 80), (W3, CLIENT, 22), (O2, CLIENT, 80)):
        asked = packet(source, to, (port, 5000), eth_src=mac(12 if source == W3 else 13))
        at = 12 if source == W3 else 13
        assert {sent.port for _, sent in of.send(B, at, asked).out} <= {CONTROLLER}
        midstream = asked | {"tcp_flags": TCP_ACK}
        assert {sent.port for _, sent in of.send(B, at, midstream).out} <= {CONTROLLER}, "of no connection"


@pytest.mark.parametrize("fragment", [1, 3])
def test_a_first_datagram_in_fragments(fragment: int) -> None:
    """If it fails: the answer to a large first datagram is lost, or spoilt."""
    of = joined(world())
    coming = {
        "eth_src": of_mac(A), "eth_dst": mac(12), "eth_type": ETH_IP, "ip_proto": UDP, "ip_ttl": 63, "tunnel_id": 2,
        "ipv4_src": CLIENT, "ipv4_dst": W3, "ip_frag": fragment,
    }  # fmt: skip
    assert end(of.send(B, TUNNEL + 1, coming))[2].items() >= {"ipv4_dst": W3, "ipv4_src": CLIENT}.items()
    assert marks(of, B) == {A}
    back = packet(W3, CLIENT, (0, 0), UDP, eth_src=mac(12), ip_frag=fragment)
    journey = of.send(B, 12, {k: v for k, v in back.items() if not k.startswith("udp")})
    assert journey.path == [B, A]
    assert journey.walks[1][1].path[0].packet["ipv4_src"] == W3


def test_errors_go_on() -> None:
    """If it fails: a provider is not told that its answers are too large for its client."""
    of = joined(world())
    coming = {
        "eth_src": of_mac(A), "eth_dst": mac(12), "eth_type": ETH_IP, "ip_proto": 1, "ip_ttl": 63, "tunnel_id": 2,
        "ipv4_src": CLIENT, "ipv4_dst": W3, "icmpv4_type": 3, "icmpv4_code": 4,
    }  # fmt: skip
    journey = of.send(B, TUNNEL + 1, coming)
    assert journey.ends == [(B, 12)]
    assert journey.walks[0][1].cts == [], "it is about what the other host's conntrack knows"


def test_a_provider_that_has_no_gateway() -> None:
    """If it fails: it is sent connections that it can't answer, and their clients wait in vain."""
    more = [endpoint("x2", "default", "island", 14, "30.1.1.2", host=HOSTS[B], switch=0, labels=WEB)]
    of = joined(world((*FAR, "w3"), more), ports={**PORTS_OF, B: {**PORTS_OF[B], "p14": 14}})
    for by in (A, B):
        assert of.send(by, LOCAL, packet(CLIENT, SERVICE, (5000, 8080))).ends == [(by, CONTROLLER)], "refused at once"


def test_by_a_host_that_is_gone() -> None:
    """If it fails: the provider's own host answers to a client that it knows nothing of."""
    of = joined(world())
    got = comes(of, A)
    rest = model_of([o for o in world() if not (isinstance(o, Host) and o.name == HOSTS[A])])
    of.load(replace(of.contexts[B], model=rest))
    assert of.send(*answer(got)).ends == []


def flows(of: Several, dpid: int) -> list[int]:
    """The tables that have flows of the feature."""
    return sorted(f.table for f in of.switches[dpid].flows.values() if f.kind == FlowKind.INGRESS)


def test_what_costs_where_nothing_is_published() -> None:
    """If it fails: packets of containers that have nothing to do with it are slower."""
    assert flows(joined(), A) == flows(joined(), B) == [Table.ARRIVE], "which sees nothing of containers"
    assert set(flows(joined(world()), C)) == {Table.ARRIVE, Table.ROUTE}, "where no provider is"
    alone = {dpid: {n: p for n, p in ports.items() if n != TUNNEL_PORT} for dpid, ports in PORTS_OF.items()}
    assert flows(joined(world(()), ports=alone), A) == []


def wanted(everything: list[Object], dead: frozenset[str] = frozenset()) -> set[tuple[int, int]]:
    """The connections by other hosts that may be in conntrack at b: addresses and ports of the providers there."""
    program = compile_owner(joined(everything, dead).contexts[B], ("endpoint", "w3"))
    found = (t for t in program.translations if isinstance(t, Translation) and t.target)
    return {(t.to, t.target) for t in found if t.vip >> 27 == 0b11110 or t.zone > HAIRPIN_ZONES}


def changed(**fields: Any) -> list[Object]:
    """The third provider is another."""
    return [replace(o, **fields) if isinstance(o, Endpoint) and o.id == "w3" else o for o in world()]


def test_what_conntrack_is_left_with() -> None:
    """If it fails: what a client has open to a provider that is gone is remembered for ever, at the provider's host."""
    assert wanted(world()) == {(W3, 80), (W3, 53)}
    assert wanted(changed(drained=("default:app-svc",))) == set()
    assert wanted(changed(state="stopped")) == set()
    assert wanted(on_hosts()) == set()


@pytest.mark.parametrize("port", [7, 80])
@pytest.mark.parametrize("source_port", [0, 80])
def test_a_trace_says_why_a_provider_does_not_leave(port: int, source_port: int) -> None:
    """If it fails: `netctl trace` has no words for what a provider of a published service sends to the world."""
    of = joined(world())
    sender = of.model.endpoints["w3"]
    found = trace(of.contexts[B], Question(sender, sender.addresses[0], IPv4Address(CLIENT), TCP, port, source_port))
    assert found.text == "refused as prohibited: network default:web has no nat: only replies to the host may leave it"
    assert all("as its flow says" not in words for _, words in found.steps)


def other_number(value: Object) -> Object:
    return replace(value, number=7) if isinstance(value, Host) and value.name == "a" else value


def other_address(value: Object) -> Object:
    there = isinstance(value, Host) and value.name == "a"
    return replace(value, tunnel_address=IPv4Address("192.0.2.77")) if there else value  # type: ignore[type-var]


def not_published(value: Object) -> Object:
    return replace(value, published=()) if isinstance(value, Service) else value


def no_provider(value: Object) -> Object:
    return replace(value, labels=()) if isinstance(value, Endpoint) and value.id == "w3" else value


@pytest.mark.parametrize("dpid", [A, B])
@pytest.mark.parametrize("change", [other_number, other_address, not_published, no_provider])
@pytest.mark.parametrize("back", [False, True])
def test_a_change_reaches_all_that_look_at_it(dpid: int, change: Callable[[Object], Object], back: bool) -> None:
    """If it fails: published ports go on as they were before a change, until the controller restarts."""
    before = world()
    after = [change(o) for o in before]
    if back:
        before, after = after, before
    changes = [Change(old, new) for old, new in zip(before, after, strict=True) if old != new]
    old, new = (Context(model_of(objects), dpid, PORTS_OF[dpid]) for objects in (before, after))
    different = {o for o in owners(new.model) if compile_owner(old, o) != compile_owner(new, o)}
    assert different or (dpid, change) == (A, other_address), "its own address is others' to know"
    assert different <= DEPENDENTS.of_changes(new.model, changes)
