"""Packets to providers that can answer, and their answers, in networks that route and in networks that do not.

    default: services 100.1.1.0/24 no gateway          blue is not here
             web 10.1.1.0/24, front 20.1.1.0/24        routed
             back 30.1.1.0/24                          no gateway
             inn 40.1.1.0/24                           internal

An endpoint is at the port of its number on host a, from 10 on on host b.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import pytest

from ryu_apps.pipeline.family import BY_VERSION, Family
from ryu_apps.pipeline.fields import ETH_IP, TCP, UDP
from ryu_apps.pipeline.tables import GROUP_INSIDE, HOST_MAC, NETWORK, PROVIDER, ROUTER_MAC, Table
from ryu_apps.pipeline.trace import Question, Trace, trace
from ryu_apps.pipeline.values import CONTROLLER, LOCAL, Ct, Group, GroupAction, Match, Nat, Resubmit
from ryu_apps.pipeline.walk import Packet
from tests.kit.several import HOSTS, TUNNEL, A, B, Journey, Several, host, joined
from tests.kit.wide import of_family, wide
from tests.kit.world import WEB, endpoint, ip, mac, network
from topology.model import Endpoint, Network, Object, Published, Service, ServicePort, Tenant
from topology.reach import TUNNEL_PORT, host_addresses


class Kind(NamedTuple):
    """What a connection is."""

    version: int
    protocol: int

    @property
    def family(self) -> Family:
        return BY_VERSION[self.version]

    @property
    def name(self) -> str:
        return {TCP: "tcp", UDP: "udp"}[self.protocol]


KINDS = [Kind(version, protocol) for version in (4, 6) for protocol in (TCP, UDP)]
PORTS = {
    A: {**{f"p{n}": n for n in range(1, 10)}, TUNNEL_PORT: TUNNEL},
    B: {**{f"p{n}": n for n in range(10, 20)}, TUNNEL_PORT: TUNNEL + 1},
}
NETWORKS = [
    network("default", "services", 1, "100.1.1.0/24", None),
    network("default", "web", 2, "10.1.1.0/24", "10.1.1.254"),
    network("default", "front", 3, "20.1.1.0/24", "20.1.1.254"),
    network("default", "back", 4, "30.1.1.0/24", None),
    replace(network("default", "inn", 5, "40.1.1.0/24", "40.1.1.254"), internal=True),
]
FIRST = {n.name: str(n.subnet).rpartition(".")[0] for n in NETWORKS}
ADDRESS = {name: f"{first}.{number}" for number, (name, first) in enumerate(FIRST.items(), 200)}
"""The VIP that a service has in each network."""


def at(name: str, net: str, number: int, container: str = "", *, provides: bool = True, **more: object) -> Endpoint:
    """An endpoint of a container."""
    where = {"host": HOSTS[A if number < 10 else B], "switch": 0}
    labels = WEB if provides else ()
    address = f"{FIRST[net]}.{number}"
    return endpoint(name, "default", net, number, address, labels=labels, container_id=container, **where | more)


def client(net: str, number: int = 1) -> Endpoint:
    """One that provides for nothing."""
    return at(f"client{number}", net, number, provides=False)


def app(net: str, **more: object) -> Service:
    """The service, with its VIP in a network."""
    ports = (ServicePort(8080, 80, "TCP", 1), ServicePort(5353, 53, "UDP", 2))
    vips = (IPv4Address(ADDRESS[net]), IPv6Address(wide(ADDRESS[net])))
    return Service("default", "app-svc", 1, net, vips, ports, WEB, **more)  # type: ignore[arg-type]


def with_ipv6(value: Network | Endpoint) -> Object:
    """As `tests.kit.world.with_ipv6`, but for all."""
    if isinstance(value, Endpoint):
        return replace(value, addresses=(*value.addresses, IPv6Address(wide(str(value.addresses[0])))))
    gateway = wide(str(value.gateway or ""))
    return replace(
        value, subnet6=IPv6Network(wide(str(value.subnet))), gateway6=IPv6Address(gateway) if gateway else None
    )


def hosts(service: Service, *endpoints: Endpoint) -> Several:
    """Both hosts."""
    everything: list[Object] = [Tenant("default", 1), host(A), host(B), service]
    return joined([*everything, *map(with_ipv6, NETWORKS), *map(with_ipv6, endpoints)], ports=PORTS)


def segment(
    kind: Kind, port: int, src: str, dst: str, ports: tuple[int, int], *, eth_dst: int = ROUTER_MAC
) -> Packet:
    """A packet of the endpoint at a port."""
    family, name = kind.family, kind.name
    own = HOST_MAC if port == LOCAL else mac(port)
    return {
        "eth_src": own, "eth_dst": eth_dst, "eth_type": family.eth_type, "ip_ttl": 64, "ip_proto": kind.protocol,
        family.src: bits(family, src), family.dst: bits(family, dst), f"{name}_src": ports[0], f"{name}_dst": ports[1],
    }  # fmt: skip


def bits(family: Family, text: str) -> int:
    return int(ip_address(text if ":" in text else of_family(family.version, text)))


def begin(of: Several, who: Endpoint | None, to: str, kind: Kind, source: int = 999) -> Journey:
    """A new connection to the VIP of the service in a network; ``who`` None: of host a itself."""
    if who is None:
        own = str(host_addresses(of.model.hosts[HOSTS[A]])[kind.version == 6])
        dpid, port = A, LOCAL
    else:
        own, port = str(who.addresses[0]), who.number
        dpid = A if port < 10 else B
    vip = ADDRESS[to]
    return of.send(dpid, port, segment(kind, port, own, vip, (source, 8080 if kind.protocol == TCP else 5353)))


def delivered(of: Several, journey: Journey) -> str:
    """Whom a packet has reached, by its port."""
    ((dpid, port),) = journey.ends
    (found,) = [e.id for e in of.model.endpoints.values() if e.port_name == f"p{port}"]
    assert dpid == (A if port < 10 else B)
    return found


def reached(of: Several, who: Endpoint | None, to: str, kind: Kind) -> set[str]:
    """Who gets the connections of many source ports."""
    return {delivered(of, begin(of, who, to, kind, 1000 + n)) for n in range(40)}


def answered(of: Several, journey: Journey, who: Endpoint, to: str, kind: Kind, *, near: bool = False) -> None:
    """The provider answers to what has reached it, by the router or to its neighbour; the client hears from the VIP."""
    ((dpid, sent),) = journey.out
    family, name, got = kind.family, kind.name, sent.packet
    answer = got | {
        "eth_src": got["eth_dst"], "eth_dst": mac(who.number) if near else ROUTER_MAC, "ip_ttl": 64,
        family.src: got[family.dst], family.dst: got[family.src],
        f"{name}_src": got[f"{name}_dst"], f"{name}_dst": got[f"{name}_src"],
    }  # fmt: skip
    inside = ("reg", "ct_", "tun", "in_port", "vlan")
    back = of.send(dpid, sent.port, {k: v for k, v in answer.items() if not k.startswith(inside)})
    assert delivered(of, back) == who.id
    heard = back.out[0][1].packet
    assert (heard[family.src], heard[f"{name}_src"]) == (
        bits(family, ADDRESS[to]), 8080 if name == "tcp" else 5353
    )  # fmt: skip


def groups(of: Several, dpid: int = A) -> dict[int, Group]:
    """Of IPv4's TCP port, by what their id has beside the port's number."""
    return {g.id - (1 << 8): g for g in of.switches[dpid].groups.values() if g.id & ~GROUP_INSIDE == 1 << 8}


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_in_two_networks(kind: Kind) -> None:
    """9 of 20 connections would be answered: the others go to the address that has no way back to their client."""
    one, two = at("one", "web", 3, "c"), at("two", "back", 4, "c")
    other, user = at("other", "web", 5, "d"), client("front")
    of = hosts(app("services"), one, two, other, user)
    assert reached(of, user, "services", kind) == {"one", "other"}
    answered(of, begin(of, user, "services", kind), user, "services", kind)
    (group,) = groups(of).values()
    shares = {port: sum(b.weight for b in group.buckets if b.watch_port == port) for port in (3, 4, 5)}
    assert shares == {3: 128, 4: 0, 5: 128}, "a container has one share"


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_clients_own_network(kind: Kind) -> None:
    """A server that answers from no address in particular answers its neighbour from the one that was not asked."""
    one, two = at("one", "web", 3, "c", primary=True), at("two", "front", 4, "c")
    of = hosts(app("services"), one, two, client("front", 1), client("web", 2))
    for user, expected in ((client("front", 1), "two"), (client("web", 2), "one"), (None, "one")):
        assert reached(of, user, "services", kind) == {expected}
    user = client("front", 1)
    answered(of, begin(of, user, "services", kind), user, "services", kind, near=True)
    ((bucket,),) = [g.buckets for g in groups(of).values()]
    assert bucket.actions[-1] == Resubmit(Table.KEEP), "one share, whatever the address"


@pytest.mark.parametrize("affinity", [0, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vip_in_a_network_without_a_gateway(kind: Kind, affinity: int) -> None:
    """A service for a network's own containers would have only those providers that are in it too, or none."""
    user, elsewhere = client("back", 1), client("front", 2)
    near, far, beside = at("near", "back", 3), at("far", "web", 11), at("beside", "web", 4)
    of = hosts(app("back", affinity=affinity), user, elsewhere, near, far, beside)
    found: dict[str, Journey] = {}
    for source in range(1000, 61000, 1000):  # with affinity, the high bits of the port choose
        journey = begin(of, user, "back", kind, source)
        found.setdefault(delivered(of, journey), journey)
        answered(of, journey, user, "back", kind, near=delivered(of, journey) == "near")
        for switch in of.switches.values():
            known = {key for key, flow in switch.flows.items() if key[0] == Table.STICKY and flow.actions}
            switch.load([f for key, f in switch.flows.items() if key not in known], switch.groups.values())
    assert set(found) == {"near", "far", "beside"}
    assert reached(of, elsewhere, "back", kind) <= {"far", "beside"}
    assert reached(of, None, "back", kind) <= {"far", "beside"}, "the host"


def dict_of(match: Match) -> dict[str, int]:
    return {name: value for name, value, _ in match}


@pytest.mark.parametrize("kind", KINDS)
def test_an_internal_network(kind: Kind) -> None:
    """What is to be closed would be open to other networks or to the host, or its own containers get nothing."""
    user, far, inside = client("inn", 1), at("far", "web", 11), at("inside", "inn", 4)
    others = [client("front", 2), client("back", 3)]
    of = hosts(app("inn"), user, far, inside, *others)
    assert reached(of, user, "inn", kind) == {"far", "inside"}
    answered(of, begin(of, user, "inn", kind), user, "inn", kind, near=False)
    assert begin(of, others[0], "inn", kind).ends == [(A, CONTROLLER)], "refused at once"
    assert begin(of, others[1], "inn", kind).ends == [], "it has no router"
    assert begin(of, None, "inn", kind).ends == [], "the host has no way to it"
    ping = {"eth_src": mac(2), "eth_dst": ROUTER_MAC, "eth_type": kind.family.eth_type, "ip_ttl": 64}
    family = kind.family
    ping |= {family.src: bits(family, "20.1.1.2"), family.dst: bits(family, ADDRESS["inn"]), "ip_proto": family.icmp}
    ping |= {family.icmp_type: family.echo_request, family.icmp_code: 0}
    assert of.send(A, 2, ping).ends == []
    ping |= {"eth_src": mac(1), family.src: bits(family, "40.1.1.1")}
    assert of.send(A, 1, ping).ends == [(A, 1)]


@pytest.mark.parametrize("net", ["back", "inn"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_gets_in_or_out(kind: Kind, net: str) -> None:
    """A network that is closed would be open to who knows the router's MAC, or on another host."""
    shut = [at("shut", net, 3), at("away", net, 13)]
    others = [at("beside", "web", 4), at("elsewhere", "web", 14), client("front", 5)]
    of = hosts(app("services"), *shut, *others)
    family, ports = kind.family, [(5000, 22), (80, 5000), (5000, 80), (53, 5000), (5000, 53)]
    for one in shut:
        for other in others:
            for sender, receiver in ((one, other), (other, one)):
                for pair in ports:
                    dpid, own, to = A if sender.number < 10 else B, *(str(e.addresses[0]) for e in (sender, receiver))
                    packet = segment(kind, sender.number, own, to, pair)
                    told = {port for _, port in of.send(dpid, sender.number, packet).ends}
                    assert told <= {CONTROLLER}, (sender.id, receiver.id, pair)
                    # with the source that answers through a VIP have
                    packet[family.src] = bits(family, ADDRESS[net])
                    assert of.send(dpid, sender.number, packet).ends == [], (sender.id, receiver.id, pair)
        for dst in (ADDRESS["services"], "8.8.8.8" if kind.version == 4 else "2001:db8::1"):
            packet = segment(kind, one.number, str(one.addresses[0]), dst, (5000, 8080))
            assert of.send(A if one.number < 10 else B, one.number, packet).ends == [], dst
        own = str(host_addresses(of.model.hosts[HOSTS[A]])[kind.version == 6])
        for pair in ports:
            packet = segment(kind, LOCAL, own, str(one.addresses[0]), pair)
            assert {port for _, port in of.send(A, LOCAL, packet).ends} <= {CONTROLLER}, "from the host"
    # and its own containers reach each other, on both hosts
    for eth_dst in (mac(13), ROUTER_MAC):
        first, second = (str(e.addresses[0]) for e in shut)
        assert of.send(A, 3, segment(kind, 3, first, second, (5, 22), eth_dst=eth_dst)).ends == [(B, 13)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "one", [at("one", "back", 3), at("one", "inn", 3), at("one", "web", 3, no_way_back="no rule")]
)
def test_the_only_provider_has_no_way_back(kind: Kind, one: Endpoint) -> None:
    """Its clients would wait in vain instead of being refused at once."""
    user = client("front", 1)
    of = hosts(app("services", published=(Published(80, 8080, "TCP"),)), one, user)
    assert begin(of, user, "services", kind).ends == [(A, CONTROLLER)]
    assert begin(of, None, "services", kind).ends == [(A, CONTROLLER)]


@pytest.mark.parametrize("affinity", [0, 60])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("own", "other"), [("web", "front"), ("front", "web"), ("back", "web")])
def test_a_container_that_uses_its_own_service(
    kind: Kind, own: str, other: str, affinity: int
) -> None:
    """Picked by itself at its other address, it would drop what has a source of its own."""
    one, two = at("one", own, 3, "c"), at("two", other, 4, "c", primary=True)
    vip = own if own == "back" else "services"
    of = hosts(app(vip, affinity=affinity), one, two)
    for source in range(1000, 1020):
        journey = begin(of, one, vip, kind, source)
        assert delivered(of, journey) == "one"
        got, family = journey.out[0][1].packet, kind.family
        assert got[family.src] == bits(family, ADDRESS[vip]), "it sees the VIP as its client"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("affinity", [0, 60])
def test_with_session_affinity_at_each_networks_address(kind: Kind, affinity: int) -> None:
    """A client that comes back would get the address of another network."""
    one, two = at("one", "web", 3, "c", primary=True), at("two", "front", 4, "c")
    of = hosts(app("services", affinity=affinity), one, two, client("front", 1), client("web", 2))
    for _ in range(2):  # the second time it is known
        for user, expected in ((client("front", 1), "two"), (client("web", 2), "one"), (None, "one")):
            assert reached(of, user, "services", kind) == {expected}


def test_where_nobody_is_in_two_networks() -> None:
    """An upgrade would write the groups and flows of all services anew."""
    of = hosts(app("services"), at("one", "web", 3, "c"), at("two", "front", 4, "d"), client("front", 1))
    (group,) = groups(of).values()
    service = [f for f in of.switches[A].flows.values() if f.table in (Table.BALANCE, Table.PICK, Table.KEEP)]
    assert not [f for f in service if {NETWORK, PROVIDER} & dict_of(f.match).keys()]
    # as the versions before wrote them
    to_group = {
        "reg0": 1, "ct_state": 0x21, "eth_type": ETH_IP, "ip_proto": TCP, "ipv4_dst": ip(ADDRESS["services"]),
        "tcp_dst": 8080,
    }  # fmt: skip
    (flow,) = [f for f in service if f.actions == (GroupAction(1 << 8),)]
    assert (flow.priority, dict_of(flow.match)) == (100, to_group)
    to_provider = [(Ct(1, table=Table.ROUTE, commit=True, nat=Nat(dst=ip(own), port=80)),) for own in
                   ("10.1.1.3", "20.1.1.4")]  # fmt: skip
    assert [(b.weight, b.watch_port) for b in group.buckets] == [(128, 3), (127, 4), (1, 4)]
    assert [b.actions for b in group.buckets] == [*to_provider, to_provider[-1]]


def test_a_datagram_in_fragments_goes_to_one_address() -> None:
    """A large first datagram would go to the address that can't answer."""
    user, near, far = client("back", 1), at("near", "back", 3, "c"), at("far", "web", 4, "c")
    of = hosts(app("back"), user, near, far)
    for who, expected in ((user, "near"), (client("front", 2), "far")):
        model = [*of.model.objects(), *([with_ipv6(who)] if who.id not in of.model.endpoints else [])]
        again = joined(model, ports=PORTS)
        packet = segment(Kind(4, UDP), who.number, str(who.addresses[0]), ADDRESS["back"], (0, 0))
        for more in ({"ip_frag": 1, "ct_nw_proto": UDP, "ct_tp_dst": 5353}, {"ip_frag": 3}):
            assert delivered(again, again.send(A, who.number, packet | more)) == expected




@pytest.mark.parametrize(
    ("service", "one", "user", "text"),
    [
        (app("services"), at("one", "back", 3), "front", "no provider of default:app-svc serves: one (no way back: "
         "network back has no gateway)"),
        (app("services"), at("one", "inn", 3), "front", "no provider of default:app-svc serves: one (no way back: "
         "network inn is internal)"),
        (app("services"), at("one", "web", 3, no_way_back="its rules can't be set"), "front", "no provider of "
         "default:app-svc serves: one (no way back: its rules can't be set)"),
        (app("services"), at("one", "web", 3, no_way_back="no rule", state="paused"), "front", "no provider of "
         "default:app-svc serves: one (paused)"),
        (app("inn"), at("one", "web", 3), "front", "default:app-svc is not for network front: network inn is internal: "
         "its VIPs are for its own containers"),
    ],
)  # fmt: skip
def test_a_trace_says_why(service: Service, one: Endpoint, user: str, text: str) -> None:
    """Whoever looks why nothing is answered would not be told what to mend."""
    of = hosts(service, one, client(user))
    assert ask(of, client(user), service).text.endswith(text)


def test_a_trace_names_each_container_once() -> None:
    """A container would be named as absent while it is offered, or not be named at its address."""
    one, two = at("one", "web", 3, "c", primary=True), at("two", "front", 4, "c")
    gone = [at("three", "back", 5, "d"), at("four", "inn", 6, "d")]
    of = hosts(app("services"), one, two, *gone, client("front", 1), client("web", 2))
    for user, where in ((client("front", 1), "20.1.1.4"), (client("web", 2), "10.1.1.3")):
        found = ask(of, user, app("services"))
        text = "\n".join(text for _, text in found.steps)
        assert "not three (no way back: network back has no gateway)" in text
        assert f"one is in several networks: {user.addresses[0]} reaches it at {where}" in text
        assert where in found.text


def ask(of: Several, who: Endpoint, service: Service) -> Trace:
    """What a trace says of a connection to the service."""
    question = Question(of.model.endpoints[who.id], who.addresses[0], service.vips[0], TCP, 8080)
    return trace(of.contexts[A], question)
