"""What the controller says of a connection is what the switch does with it; and it says so in names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import BY_VERSION, link_local, of_packet
from ryu_apps.pipeline.fields import ETH_ARP, TCP, UDP
from ryu_apps.pipeline.tables import ROUTER_MAC
from ryu_apps.pipeline.trace import Question, Trace, trace
from ryu_apps.pipeline.values import CONTROLLER
from ryu_apps.pipeline.walk import Walker
from tests.kit import packets, packets6
from tests.kit.fakeswitch import FakeSwitch
from tests.kit.packets import Case
from tests.kit.world import DPID, PORTS, WEB, dual, endpoint, mac, model, model_of, objects, program
from topology.model import Object, Service
from topology.snapshot import Model

AT = {1: "c1", 2: "w1", 3: "w2", 4: "o1", 6: "c9", 7: "w9", 8: "x1"}
FULL = program(model_of(dual()))
CASES = packets.CASES + packets6.CASES
NEXT_HOPS = {ROUTER_MAC, mac(4)}


def plain(case: Case) -> bool:
    """A packet that an honest sender begins a connection with: what a trace is asked about."""
    packet = case.packet
    honest = packet["eth_src"] == mac(case.in_port) and packet["eth_dst"] in NEXT_HOPS and packet.get("ip_ttl") == 64
    if packet["eth_type"] == ETH_ARP or not honest or case.in_port not in AT:
        return False
    family = of_packet(packet)
    if link_local(mac(case.in_port)) == packet[family.src]:
        return False  # what stays on the link is not traced
    return packet["ip_proto"] in (TCP, UDP) or packet.get(family.icmp_type) == family.echo_request


PLAIN = [case for case in CASES if plain(case)]


def ask(
    of: Model,
    sender: str,
    to: str,
    port: int = 0,
    protocol: int = TCP,
    *,
    source: str = "",
    down: Collection[int] = (),
    last: int = 0,
) -> Trace:
    who = of.endpoints[sender]
    family = BY_VERSION[ip_address(to).version]
    address = ip_address(source) if source else family.address(family.of(who.addresses) or 0)
    question = Question(who, address, ip_address(to), protocol if port else family.icmp, port)
    return trace(Context(of, DPID, PORTS), question, down, last)


def changed(**fields: object) -> Model:
    """The world with its services changed."""
    out = Model()
    out.load(1, [replace(o, **fields) if isinstance(o, Service) else o for o in objects()])  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_walk_is_the_switchs(case: Case) -> None:
    """A trace would tell of another way than the one that packets take."""
    switch = FakeSwitch(choose=lambda group, packet: group.buckets[0])
    switch.load(FULL.flows, FULL.groups)
    real = switch.send(case.in_port, case.packet)
    walk = Walker(FULL.flows, {g.id: g for g in FULL.groups}).send(case.in_port, case.packet)
    assert [step.flow for step in walk.path] == [step.flow for step in real.path]
    assert [s.port for s in walk.sent] == [s.port for s in real.sent]
    assert [s.packet["eth_dst"] for s in walk.sent] == [s.packet["eth_dst"] for s in real.sent]


@pytest.mark.parametrize("case", PLAIN, ids=lambda c: c.name)
def test_the_outcome_is_the_switchs(case: Case) -> None:
    """What is compiled for a trace, of a few owners only, would not be what the switch has."""
    packet, of = case.packet, model_of(dual())
    family = of_packet(packet)
    names = ("tcp_dst", "udp_dst")
    port = next((packet[n] for n in names if n in packet), 0)
    to, source = (str(family.address(packet[name])) for name in (family.dst, family.src))
    found = ask(of, AT[case.in_port], to, port, packet["ip_proto"], source=source)
    receivers = {family.of(end.receiver.addresses) for end in found.ends if end.receiver}
    if case.to:
        assert receivers == set(case.to)
    elif not case.ports:
        assert found.verdict == "dropped"
        assert found.text.startswith("dropped")
    elif {*case.ports} == {CONTROLLER}:
        assert found.verdict in ("refused", "asked")
    elif case.ports == (case.in_port,):
        assert found.verdict == "answered"
    else:
        assert found.verdict == "delivered"
        assert receivers == {family.of(of.endpoints[AT[p]].addresses) for p in case.ports if p != CONTROLLER}


def test_plain_cases_are_many() -> None:
    """The test above would compare nothing."""
    assert len([case for case in PLAIN if case in packets.CASES]) > 15
    assert len([case for case in PLAIN if case in packets6.CASES]) > 12


def test_a_service_in_words() -> None:
    """The answer to "why does it go there" would be numbers."""
    sick = endpoint("w3", "default", "web", 5, "10.1.1.4", labels=WEB, health="unhealthy")
    found = ask(model((sick,)), "c1", "100.1.1.1", 8080)
    assert found.steps == (
        ("neighbour", "next hop 20.1.1.254, the gateway of default:clients, is at 0e:4e:43:00:00:01"),
        ("classify", "port p1 is c1's: tenant default, network clients"),
        ("guard", "20.1.1.1 is an address of c1"),
        ("service", "100.1.1.1 is the VIP of default:app-svc → conntrack zone of tenant default"),
        (
            "balance",
            "port 8080 TCP → one of 2 providers: w1 10.1.1.1 (weight 1, 50 %), w2 10.1.1.2 (weight 1, 50 %)"
            "; not w3 (unhealthy)",
        ),
        ("route", "if w1: 10.1.1.1 is w1's → port p2"),
        ("reply", "if w1: not from a service port of c1"),
        ("deliver", "if w1: out of port p2"),
    )
    at = "on switch 0000000000000001"
    assert found.text == f"delivered to one of 2: w1 10.1.1.1:80 at port p2 {at}, w2 10.1.1.2:80 at port p3 {at}"
    assert [(end.provider and end.provider.id, end.share) for end in found.ends] == [("w1", 0.5), ("w2", 0.5)]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (("c1", "100.1.1.1", 9999), "refused with a reset: default:app-svc has no port 9999 TCP, but port 8080 TCP, "
         "port 5353 UDP"),
        (("c1", "100.1.1.1", 9999, UDP), "refused with port unreachable: default:app-svc has no port 9999 UDP, but "
         "port 8080 TCP, port 5353 UDP"),
        (("c1", "100.1.1.1"), "answered by the switch: an echo request to the VIP of default:app-svc"),
        (("c1", "20.1.1.254"), "answered by the switch: an echo request to the gateway of default:clients"),
        (("c1", "20.1.1.254", 80), "dropped: 20.1.1.254 is the gateway of default:clients, which only answers pings"),
        (("c1", "10.1.1.77", 22), "to the controller: nobody in tenant default is known to have 10.1.1.77: its gateway "
         "asks by ARP who has it"),
        (("c1", "169.254.169.254", 80), "dropped: 169.254.169.254 is link-local: containers reach only their host "
         "there"),
        (("c1", "240.0.0.9", 22), "dropped: 240.0.0.9 is a reserved address"),
        (("x1", "8.8.8.8", 22), "dropped: network default:island has no gateway: x1 has no route to 8.8.8.8 by it"),
        (("c1", "8.8.8.8", 22), "dropped: no container or service in tenant default has 8.8.8.8"),
        (("c1", "20.1.1.77", 22), "dropped: no host in network default:clients has 20.1.1.77: c1 gets no reply to its "
         "ARP request"),
        (("c1", "30.1.1.1", 22), "refused as prohibited: 30.1.1.1 is x1's, whose network default:island has no "
         "gateway: it could not reply"),
        (("x1", "10.1.1.1", 22), "dropped: network default:island has no gateway: x1 has no route to 10.1.1.1 by it; "
         "by a network of another driver, its host refuses it"),
        (("c1", "10.1.1.1", 80), "delivered to w1 10.1.1.1:80 at port p2 on switch 0000000000000001"),
        (("w1", "10.1.1.255", 5, UDP), "delivered to ports p3, p4"),
    ],
)  # fmt: skip
def test_outcomes_in_words(question: tuple[str, str, int], text: str) -> None:
    """Whoever looks for a mistake would not be told which one it is."""
    assert ask(model(), *question).text == text


def test_a_sender_whose_link_is_down() -> None:
    """Whoever has shut an interface would be told that all is well, and look for the fault elsewhere."""
    found = ask(model(), "c1", "100.1.1.1", 8080, down=[1])
    assert found.verdict == "dropped"
    assert found.text == "dropped: the link of c1 is down (port p1): its interface is down, or it has just ended"


def test_ipv6_in_words() -> None:
    """As above, for who uses IPv6: and that it is no fault of the service where a provider has none."""
    old = endpoint("w2", "default", "web", 3, "10.1.1.2", labels=WEB)
    of = model_of([old, *(o for o in dual() if o.key != "w2")])
    found = ask(of, "c1", "fd00:100:1:1::1", 8080)
    steps = dict(found.steps)
    gateway = "next hop fd00:20:1:1::254, the gateway of default:clients, is at 0e:4e:43:00:00:01"
    assert steps["neighbour"] == gateway
    assert steps["balance"] == (
        "port 8080 TCP → the one provider: w1 fd00:10:1:1::1 (weight 1, 100 %); not w2 (has no IPv6 address)"
    )
    assert found.text == "delivered to w1 [fd00:10:1:1::1]:80 at port p2 on switch 0000000000000001"
    assert ask(of, "c1", "fd00:100:1:1::1").text == (
        "answered by the switch: an echo request to the VIP of default:app-svc"
    )
    assert ask(of, "c1", "fd00:20:1:1::77", 22).text == (
        "dropped: no host in network default:clients has fd00:20:1:1::77: "
        "c1 gets no reply to its neighbour solicitation"
    )
    assert ask(of, "w1", "ff02::1", 5, UDP).text == "delivered to ports p3, p4"
    nobody = model_of([o for o in of.objects() if o.key != "w1"])
    assert ask(nobody, "c1", "fd00:100:1:1::1", 8080).text == (
        "refused with a reset: no provider of default:app-svc serves: w2 (has no IPv6 address)"
    )


def test_a_forged_address_in_words() -> None:
    """Whoever uses an address that is not registered would not learn why nothing answers."""
    found = ask(model(), "c1", "10.1.1.3", 22, source="20.1.1.9")
    assert found.steps[-1] == ("guard", "dropped as forged: 20.1.1.9 is not an address of c1")
    assert found.text == "dropped as forged: 20.1.1.9 is not an address of c1"


def test_no_provider_serves() -> None:
    """The most frequent question of all, "why is my service not reached", would have no answer."""
    nobody = ask(model((), ("w1", "w2")), "c1", "100.1.1.1", 8080).text
    assert nobody == "refused with a reset: default:app-svc has no provider: no container's labels match its selectors"
    drained = endpoint("w1", "default", "web", 2, "10.1.1.1", labels=WEB, state="draining")
    stopped = endpoint("w2", "default", "web", 3, "10.1.1.2", labels=WEB, container_name="/web-2", state="stopped")
    away = endpoint("w3", "default", "web", 99, "10.1.1.9", labels=WEB)
    of = Model()
    of.load(1, [o for o in objects() if o.key not in ("w1", "w2")] + [drained, stopped, away])
    absent = "w1 (draining), web-2 (stopped), w3 (not plugged in)"
    assert ask(of, "c1", "100.1.1.1", 8080).text == (
        f"refused with a reset: no provider of default:app-svc serves: {absent}"
    )


def test_a_port_that_is_down() -> None:
    """A trace would send a connection where the switch sends none."""
    one = ask(model(), "c1", "100.1.1.1", 8080, down=(3,))
    assert (
        "balance",
        "port 8080 TCP → the one provider: w1 10.1.1.1 (weight 1, 100 %); not w2 (its port is down)",
    ) in (one.steps)
    none = ask(model(), "c1", "100.1.1.1", 8080, down=(2, 3))
    assert none.text == "dropped: port 8080 TCP: the port of every provider is down"
    assert ask(model(), "c1", "10.1.1.3", 22, down=(4,)).text == (
        "dropped: out of port p4, which is down or where it came from"
    )


def test_a_sender_that_is_not_plugged_in() -> None:
    """A trace from a container that just stopped would end in an internal error."""
    away = endpoint("a1", "default", "web", 99, "10.1.1.9")
    assert ask(model((away,)), "a1", "10.1.1.1", 80).text == (
        "dropped: a1 is not plugged in: the switch has no port p99"
    )


def test_affinity() -> None:
    """Why a client always meets the same provider is what its users ask first."""
    sticky = changed(affinity=60)
    steps = dict(ask(sticky, "c1", "100.1.1.1", 8080).steps)
    assert steps["balance"] == "port 8080 TCP: default:app-svc has session affinity of 60 s"
    assert steps["sticky"] == "20.1.1.1 has no provider yet"
    assert steps["pick"].startswith("port 8080 TCP → one of 2 providers: w1 ")
    assert steps["keep"] == "if w1: w1 is remembered for 20.1.1.1"
    known = ask(sticky, "c1", "100.1.1.1", 8080, last=3)
    steps = dict(known.steps)
    assert (steps["sticky"], steps["pick"]) == ("20.1.1.1 went to w2 last", "w2 still serves: 20.1.1.1 stays with it")
    assert known.text.startswith("delivered to w2 10.1.1.2:80 ")


def test_a_provider_that_picks_itself() -> None:
    """Why a provider sees the VIP as its client would stay a riddle."""
    found = ask(model(), "w1", "100.1.1.1", 8080)
    assert ("route", "if w1: w1 is its own provider: it sees the VIP 100.1.1.1 as its client") in found.steps
    assert {end.receiver and end.receiver.id for end in found.ends} == {"w1", "w2"}


def test_weights_and_many_providers() -> None:
    """The shares would be others than those of the switch, or a line as long as the list of providers."""
    crowd: list[Object] = [
        endpoint(f"m{n}", "default", "web", 100 + n, f"10.1.1.{10 + n}", labels=WEB, weight=1 + n % 3)
        for n in range(150)
    ]
    of = model(tuple(crowd))
    ports = PORTS | {f"p{100 + n}": 100 + n for n in range(150)}
    who = of.endpoints["c1"]
    question = Question(who, who.addresses[0], IPv4Address("100.1.1.1"), TCP, 8080)
    found = trace(Context(of, DPID, ports), question)
    assert len(found.ends) == 152
    assert sum(end.share for end in found.ends) == pytest.approx(1)
    shares = {end.provider.id: end.share for end in found.ends if end.provider}
    assert shares["m2"] / shares["m0"] == pytest.approx(3, rel=0.5)
    assert found.text.endswith(" and 144 more")
