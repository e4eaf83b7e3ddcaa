"""A trace follows the reply as well: whether it gets back to the client, and where it is lost."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, ip_address

import pytest

from ryu_apps.pipeline.dependents import owners
from ryu_apps.pipeline.family import BY_VERSION
from ryu_apps.pipeline.fields import ETH_IP, TCP, UDP
from ryu_apps.pipeline.journey import Journeys, Place
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.reply import Replies, Reply
from ryu_apps.pipeline.tables import ROUTER_MAC, Table
from ryu_apps.pipeline.trace import End, Question, Trace, trace
from ryu_apps.pipeline.values import terms
from ryu_apps.pipeline.walk import Walker
from tests.kit.several import HOSTS, TUNNEL, A, B, Several, joined, on_hosts
from tests.kit.wide import wide
from tests.kit.world import WEB, endpoint, ip, mac, network
from topology.model import Object, Service, ServicePort
from topology.reach import TUNNEL_PORT

PORTS = {
    A: {**{f"p{n}": n for n in (*range(1, 9), 21, 22)}, TUNNEL_PORT: TUNNEL},
    B: {**{f"p{n}": n for n in (11, 12, 13, 31, 32)}, TUNNEL_PORT: TUNNEL + 1},
}
VIP = "100.1.1.1"


def changed(*keys: str, **fields: object) -> list[Object]:
    """The two hosts with some of their objects changed."""
    return [replace(o, **fields) if o.key in keys else o for o in on_hosts(dual=True)]  # type: ignore[arg-type]


def world(everything: Collection[Object]) -> Several:
    return joined(everything, ports=PORTS)


@cache
def plain() -> Several:
    """Both hosts, nothing changed; not to be changed by a test."""
    return world(on_hosts(dual=True))


def ask(
    it: Several, sender: str, to: str, port: int = 0, protocol: int = TCP, *, down: Collection[int] = ()
) -> Trace:
    """From a container on host a."""
    who, goal = it.model.endpoints[sender], ip_address(to)
    family = BY_VERSION[goal.version]
    source = family.address(family.of(who.addresses) or 0)
    question = Question(who, source, goal, protocol if port else family.icmp, port)
    others = {dpid: Place(context) for dpid, context in it.contexts.items() if dpid != A}
    return trace(it.contexts[A], question, down, others=others)


def packet(source: str, to: str) -> Packet:
    """The first of a connection from c1, to the router."""
    return {
        "eth_src": mac(1), "eth_dst": ROUTER_MAC, "eth_type": ETH_IP, "ip_proto": TCP, "ip_ttl": 64,
        "ipv4_src": ip(source), "ipv4_dst": ip(to), "tcp_src": 5000, "tcp_dst": 22,
    }  # fmt: skip


def reply(end: End) -> Reply:
    assert end.reply is not None
    return end.reply


def only(found: Trace) -> Reply:
    (end,) = found.ends
    return reply(end)


def by_receiver(found: Trace) -> dict[str, Reply]:
    return {end.receiver.id: reply(end) for end in found.ends if end.receiver}


@pytest.mark.parametrize("to", [VIP, wide(VIP)])
@pytest.mark.parametrize(("port", "protocol"), [(8080, TCP), (5353, UDP)])
@pytest.mark.parametrize("sender", ["c1", "o1", "w1"])
def test_from_a_vip(sender: str, to: str, port: int, protocol: int) -> None:
    """If it fails: a user is told that replies get lost, or that they come from another address, where all is well."""
    found = ask(plain(), sender, to, port, protocol)
    assert found.verdict == "delivered"
    assert by_receiver(found).keys() == {"w1", "w2", "w3"}
    shown = f"[{to}]" if ":" in to else to
    for answered in by_receiver(found).values():
        assert answered.verdict == "delivered"
        assert answered.text.startswith(f"delivered to {sender} at port p")
        assert answered.text.endswith(f" on host a, from {shown}:{port}")


@pytest.mark.parametrize("receiver", ["w1", "w3", "o1", "o2", "c2"])
@pytest.mark.parametrize(("port", "protocol"), [(80, TCP), (53, UDP), (80, UDP), (22, TCP), (0, 0)])
@pytest.mark.parametrize("version", [4, 6])
def test_straight_from_a_container(receiver: str, port: int, protocol: int, version: int) -> None:
    """If it fails: what goes past a VIP, to a service port, another one or by ping, is told to be lost."""
    it = plain()
    (to,) = (str(a) for a in it.model.endpoints[receiver].addresses if a.version == version)
    found = ask(it, "c1", to, port, protocol)
    assert found.verdict == "delivered"
    assert only(found).verdict == "delivered", only(found).steps


def test_in_words() -> None:
    """If it fails: the user is not told by which way a reply comes back, and where it is translated."""
    found = by_receiver(ask(plain(), "c1", VIP, 8080))
    assert found["w1"] == Reply(
        "delivered",
        "delivered to c1 at port p1 on host a, from 100.1.1.1:8080",
        (
            ("neighbour", "next hop 10.1.1.254, the gateway of default:web, is at 0e:4e:43:00:00:01"),
            ("classify", "port p2 is w1's: tenant default, network web"),
            ("guard", "10.1.1.1 is an address of w1"),
            ("service", "20.1.1.1 is not a VIP"),
            ("route", "20.1.1.1 is c1's → port p1"),
            ("reply", "from a service port of w1: it may be a reply → conntrack zone of tenant default"),
            ("restore", "a known connection: translated back, from 100.1.1.1:8080"),
            ("deliver", "out of port p1"),
        ),
        "w1",
    )
    assert found["w3"].steps[4:7] == (
        ("route", "on host b: 20.1.1.1 is c1's → the way to host a"),
        ("classify", "from another switch: network default:clients"),
        ("route", "20.1.1.1 is c1's → port p1"),
    )


def test_a_provider_that_asks_itself() -> None:
    """If it fails: a provider's reply to itself, which goes through both zones, is told to be lost."""
    found = by_receiver(ask(plain(), "w1", VIP, 8080))
    steps = dict(found["w1"].steps)
    assert steps["hairpin"] == "a known connection of w1 to itself: translated back, to 10.1.1.1:49152"
    assert steps["restore"] == "a known connection: translated back, from 100.1.1.1:8080"


def test_a_client_that_affinity_knows() -> None:
    """If it fails: with session affinity, nothing is said of the reply, or a wrong thing."""
    it = world(changed("default:app-svc", affinity=60))
    who = it.model.endpoints["c1"]
    question = Question(who, who.addresses[0], IPv4Address(VIP), TCP, 8080)
    others = {B: Place(it.contexts[B])}
    for last in (0, it.model.endpoints["w3"].number):
        found = trace(it.contexts[A], question, last=last, others=others)
        assert {answered.verdict for answered in by_receiver(found).values()} == {"delivered"}
    assert by_receiver(found).keys() == {"w3"}


def gateless(value: Object) -> Object:
    return replace(value, gateway=None, gateway6=None) if value.key == "default:web" else value  # type: ignore[call-arg]


def internal(value: Object) -> Object:
    return replace(value, internal=True) if value.key == "default:web" else value  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"state": "paused"}, "w1 is paused"),
        ({"state": "created"}, "w1 has not started yet"),
        ({"no_way_back": "policy rules: Operation not permitted"}, "policy rules: Operation not permitted"),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_what_the_receiver_does_not_reply_to(fields: dict[str, object], why: str, version: int) -> None:
    """If it fails: a connection that hangs is told to be delivered."""
    to = "10.1.1.1" if version == 4 else wide("10.1.1.1")
    found = ask(world(changed("w1", **fields)), "c1", to, 22)
    assert found.verdict == "lost"
    assert only(found) == Reply("lost", f"lost: {why}", sender="w1")
    shown = to if version == 4 else f"[{to}]"
    assert found.text == f"reaches w1 {shown}:22 at port p2 on host a, but the reply is lost: {why}"


def test_what_a_paused_container_still_does() -> None:
    """If it fails: a ping that is answered, as the kernel does it without the container, is told to be lost."""
    assert ask(world(changed("w1", state="paused")), "c1", "10.1.1.1").verdict == "delivered"
    assert ask(world(changed("w1", state="draining")), "c1", "10.1.1.1", 22).verdict == "delivered"


def test_an_address_that_only_its_own_network_gets_replies_from() -> None:
    """If it fails: neighbours, which need no route, are told that they get no reply."""
    it = world(changed("w1", no_way_back="no rules"))
    assert ask(it, "o1", "10.1.1.1", 22).verdict == "delivered"
    assert ask(it, "c1", "10.1.1.1", 22).verdict == "lost"


def test_a_client_whose_port_is_down() -> None:
    """If it fails: a connection is told to be delivered, though nothing leaves its client."""
    found = ask(plain(), "c1", "10.1.1.12", 22, down=(1,))
    assert (found.verdict, found.ends[0].reply) == ("dropped", None)


def test_a_reply_that_the_switch_takes_for_forged() -> None:
    """If it fails: the user is not told that the receiver's own switch drops what it sends."""
    it = plain()
    client, receiver = it.model.endpoints["c1"], it.model.endpoints["o2"]
    guard = (Table.GUARD, 13)  # of o2's port
    everything = it.switches[B].flows.values()
    flows = [f for f in everything if (f.table, terms(f.match).get("in_port")) != guard or not f.goto]
    places = {dpid: Place(context) for dpid, context in it.contexts.items()}
    journeys = Journeys(places, lambda ctx: owners(ctx.model), {B: Walker(flows)})
    asked = packet("20.1.1.1", "10.1.1.12")
    legs = journeys.send(A, 1, asked)
    assert Replies(journeys, client).follow(asked, receiver, legs[-1]).text == (
        "lost: no host in network default:web has 10.1.1.254: o2 gets no reply to its ARP request"
    ), "ARP is guarded as well"
    arp = [f for f in everything if f.table == Table.GUARD and "arp_spa" in terms(f.match)]
    journeys = Journeys(places, lambda ctx: owners(ctx.model), {B: Walker([*flows, *arp])})
    found = Replies(journeys, client).follow(asked, receiver, journeys.send(A, 1, asked)[-1])
    assert found.text == "lost: dropped as forged: 10.1.1.12 is not an address of o2, on host b"
    assert (found.verdict, found.steps[-1][0]) == ("lost", "guard")


@pytest.mark.parametrize(
    ("host", "verdict", "text"),
    [
        ("", "unknown", "unknown: it is not on a host with an agent, so its routes are not known"),
        ("a", "delivered", "delivered to c1 at port p1 on host a, from 10.1.1.1:22"),
    ],
)
def test_without_an_agent(host: str, verdict: str, text: str) -> None:
    """If it fails: a guess is told as a fact, of hosts whose routes nobody knows."""
    found = ask(world(changed("w1", host=host, switch=0 if host else A)), "c1", "10.1.1.1", 22)
    assert found.verdict == "delivered"
    assert (only(found).verdict, only(found).text) == (verdict, text)


def test_what_is_beyond_the_switches() -> None:
    """If it fails: what a host, the world or a switch that is away does is told as a fact."""
    it = world(changed("default:clients", nat=True))
    assert only(ask(it, "c1", "192.0.2.9", 80)).text == "unknown: it is the host's, or comes from outside"
    assert only(ask(it, "c1", "169.254.0.1", 80)).verdict == "unknown"
    assert only(ask(it, "c1", "20.1.1.255", 80, UDP)).text == "unknown: it goes to several ports"
    del it.contexts[B]
    found = ask(it, "c1", "10.1.1.12", 22)
    assert found.verdict == "sent"
    assert only(found).text == "unknown: nothing is known beyond a switch that is not connected"
    assert ask(it, "c1", VIP).ends[0].reply is None, "the switch's own answer"


def second_home(**fields: object) -> list[Object]:
    """w1's container is in one more network, with its primary address there: w1b, with these fields."""
    everything = [replace(o, container_id="c0ffee") if o.key == "w1" else o for o in on_hosts()]  # type: ignore[call-arg]
    second = network("default", "second", 40, "10.4.1.0/24", "10.4.1.254")
    values = {"host": HOSTS[A], "switch": 0, "container_id": "c0ffee", "primary": True, **fields}
    return [*everything, second, endpoint("w1b", "default", "second", 21, "10.4.1.1", **values)]


def test_a_udp_server_that_replies_from_another_address() -> None:
    """If it fails: a datagram's reply, which comes from an address that was not asked, is told to get back."""
    it = world(second_home())
    found = only(ask(it, "c1", "10.1.1.1", 99, UDP))
    assert found.text == (
        "unknown: it has several addresses: a UDP server that is bound to all of them replies from 10.4.1.1, "
        "not from 10.1.1.1"
    )
    assert only(ask(it, "c1", "10.1.1.1", 99)).verdict == "delivered", "TCP replies from where it was asked"
    assert only(ask(it, "o1", "10.1.1.1", 99, UDP)).verdict == "delivered", "a neighbour"
    assert only(ask(it, "c1", "10.4.1.1", 99, UDP)).verdict == "delivered", "the primary address"


@pytest.mark.parametrize(
    ("change", "why"),
    [(gateless, "has no gateway: it could not reply"), (internal, "is internal: closed to other networks")],
)
@pytest.mark.parametrize("to", ["10.1.1.1", "10.1.1.12", wide("10.1.1.12")])
def test_a_client_outside_a_network_that_does_not_route(change: Callable[[Object], Object], why: str, to: str) -> None:
    """If it fails: it is not told that nothing comes back from a network that does not route."""
    it = world([change(o) for o in on_hosts(dual=True)])
    found = ask(it, "c1", to, 22)
    assert found.verdict == "refused"
    assert found.text.startswith("refused as prohibited: ")
    assert found.text.removesuffix(", on host b").endswith(f"'s, whose network default:web {why}")
    refused = ask(it, "c1", VIP, 8080)
    assert refused.verdict == "refused"
    assert f"w1 (no way back: network web {why.partition(':')[0]})" in refused.text


@pytest.mark.parametrize("change", [gateless, internal])
@pytest.mark.parametrize("to", ["10.1.1.1", "10.1.1.12", wide("10.1.1.12")])
def test_neighbours_in_a_network_that_does_not_route(change: Callable[[Object], Object], to: str) -> None:
    """If it fails: neighbours are told that they get no reply."""
    it = world([change(o) for o in on_hosts(dual=True)])
    assert ask(it, "o1", to, 22).verdict == "delivered"
    assert only(ask(it, "o1", to, 22)).verdict == "delivered"


def test_a_vip_in_a_network_without_a_gateway() -> None:
    """If it fails: replies from outside the network, which are let in to a VIP's client, are told to be lost."""
    inside = endpoint("b1", "default", "back", 22, "10.5.1.1", host=HOSTS[A], switch=0)
    ports = (ServicePort(80, 80, "TCP", 70),)
    vip = Service("default", "k", 70, "back", (IPv4Address("10.5.1.80"),), ports, WEB)
    it = world([*on_hosts(), network("default", "back", 50, "10.5.1.0/24", None), inside, vip])
    found = ask(it, "b1", "10.5.1.80", 80)
    assert found.verdict == "delivered"
    assert {(at, answered.verdict) for at, answered in by_receiver(found).items()} == {
        ("w1", "delivered"), ("w2", "delivered"), ("w3", "delivered"),
    }  # fmt: skip
    assert by_receiver(found)["w3"].text == "delivered to b1 at port p22 on host a, from 10.5.1.80:80"


@pytest.mark.parametrize(
    ("sender", "reason", "address"),
    [
        ("c1", "", "10.4.1.1"),  # the primary one
        ("o1", "", "10.1.1.1"),  # in the client's own network
        ("c1", "no rules", "10.1.1.1"),  # the one with a way back
        ("o1", "no rules", "10.1.1.1"),
    ],
)
def test_a_provider_in_several_networks(sender: str, reason: str, address: str) -> None:
    """If it fails: the trace names another address of the provider than the one that this client reaches it at."""
    found = ask(world(second_home(labels=WEB, no_way_back=reason)), sender, VIP, 8080)
    (balance,) = (text for table, text in found.steps if table == "balance")
    assert f"one of 3 providers: w1 {address} " in balance
    assert f" {address}:80" in found.ends[0].text
    client = "20.1.1.1" if sender == "c1" else "10.1.1.3"
    if reason == "":
        assert ("keep", f"if w1: w1 is in several networks: {client} reaches it at {address}") in found.steps
    assert {(end.verdict, reply(end).verdict) for end in found.ends} == {("delivered", "delivered")}
