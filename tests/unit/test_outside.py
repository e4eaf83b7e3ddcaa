"""What passes between a switch and its host, packet by packet, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.fields import ETH_IP, TCP
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.tables import HOST_MAC, ROUTER_MAC, FlowKind
from ryu_apps.pipeline.trace import Question, trace
from ryu_apps.pipeline.values import CONTROLLER, LOCAL, LOCAL_IN_REGISTER
from tests.kit import world
from tests.kit.fakeswitch import FakeSwitch
from topology.model import Host, Network, Object, Published, Service
from topology.snapshot import Model

HOST = Host("h1", world.DPID, number=7)
HOST_IP, WORLD_IP = "169.254.0.7", "192.0.2.9"
NAT = ("default:clients", "blue:clients", "default:web")


def outside(value: Object) -> Object:
    """Clients of both tenants, and the first one's providers, have a way out; its service is published."""
    if isinstance(value, Network) and value.key in NAT:
        return replace(value, nat=True)
    if isinstance(value, Service) and value.tenant == "default":
        return replace(value, published=(Published(80, 8080, "TCP"),))
    return value


def model(*more: Object) -> Model:
    """The world, with a host."""
    made = Model()
    made.load(1, [HOST, *map(outside, world.objects()), *more])
    return made


def switch(of: Model) -> FakeSwitch:
    """All that the model wants."""
    made, program = FakeSwitch(), world.program(of)
    made.load(program.flows, program.groups)
    return made


def tcp(source: str, to: str, ports: tuple[int, int], *, mac: int = HOST_MAC, flags: int = 2) -> Packet:
    """A segment to the router."""
    return {
        "eth_src": mac, "eth_dst": ROUTER_MAC, "eth_type": ETH_IP, "ip_proto": TCP, "ip_ttl": 64,
        "ipv4_src": world.ip(source), "ipv4_dst": world.ip(to), "tcp_src": ports[0], "tcp_dst": ports[1],
        "tcp_flags": flags,
    }  # fmt: skip


def sent(of: FakeSwitch, port: int, packet: Packet) -> list[tuple[int, str, str]]:
    """Where it left: (port, source, destination)."""
    return [
        (s.port, str(IPv4Address(s.packet["ipv4_src"])), str(IPv4Address(s.packet["ipv4_dst"])))
        for s in of.send(port, packet).sent
    ]


def test_two_that_look_alike_leave_and_are_answered() -> None:
    """Two tenants' containers of one address would get each other's answers."""
    it = switch(model())
    for port, hidden in ((1, "250.0.0.1"), (6, "250.0.0.6")):
        out = tcp("20.1.1.1", WORLD_IP, (5000, 80), mac=world.mac(port))
        assert sent(it, port, out) == [(LOCAL_IN_REGISTER, hidden, WORLD_IP)]
        assert sent(it, LOCAL, tcp(WORLD_IP, hidden, (80, 5000))) == [(port, WORLD_IP, "20.1.1.1")]
        assert sent(it, LOCAL, tcp(WORLD_IP, hidden, (80, 5001))) == [], "nobody asked for it"


def test_the_hidden_address_tells_whom_the_host_is_open_to() -> None:
    """A network that was made without natHost would have its host's ports, or one with it would not."""
    of = model()
    network = of.networks["default:clients"]
    of.load(2, [HOST, *(o for o in map(outside, world.objects()) if o != network), replace(network, nat_host=True)])
    it = switch(of)
    out = tcp("20.1.1.1", WORLD_IP, (5000, 80), mac=world.mac(1))
    assert sent(it, 1, out) == [(LOCAL_IN_REGISTER, "251.0.0.1", WORLD_IP)]
    assert sent(it, LOCAL, tcp(WORLD_IP, "251.0.0.1", (80, 5000))) == [(1, WORLD_IP, "20.1.1.1")]
    assert sent(it, LOCAL, tcp(WORLD_IP, "250.0.0.1", (80, 5000))) == [], "it has that one alone"
    other = tcp("20.1.1.1", WORLD_IP, (5000, 80), mac=world.mac(6))
    assert sent(it, 6, other) == [(LOCAL_IN_REGISTER, "250.0.0.6", WORLD_IP)]


@pytest.mark.parametrize("to", ["127.0.0.1", "169.254.0.8", "249.0.0.1", "250.0.0.2", "251.0.0.2", "224.0.0.1"])
def test_what_never_leaves(to: str) -> None:
    """A container could reach its host's loopback, or what a gone container is asked would go to the world."""
    found = sent(switch(model()), 1, tcp("20.1.1.1", to, (5000, 80), mac=world.mac(1)))
    assert found == ([(CONTROLLER, "20.1.1.1", to)] if to.startswith("169.254.") else []), "a refusal, where it can be"


@pytest.mark.parametrize("to", ["10.1.1.99", "30.1.1.99", "20.1.1.254"])
def test_what_nobody_has_is_answered_and_goes_nowhere(to: str) -> None:
    """What a gone container is asked would go to the world, or its client wait for minutes."""
    packet = tcp("20.1.1.1", to, (5000, 80), mac=world.mac(1))
    assert sent(switch(model()), 1, packet) == [(CONTROLLER, "20.1.1.1", to)]


def test_what_a_host_begins_is_answered_and_nothing_else() -> None:
    """Containers without a way out could reach their host, or the host's connections would get no answers."""
    it = switch(model())
    answer = tcp("10.1.1.1", HOST_IP, (22, 40000), mac=world.mac(7))
    refused = [(CONTROLLER, "10.1.1.1", HOST_IP)]
    assert sent(it, 7, answer) == refused, "blue's web has no nat, nor the host's route"
    assert sent(it, LOCAL, tcp(HOST_IP, "10.1.1.3", (40000, 22))) == [(4, HOST_IP, "10.1.1.3")]
    answer = tcp("10.1.1.3", HOST_IP, (22, 40000), mac=world.mac(4))
    assert sent(it, 4, answer) == [(LOCAL_IN_REGISTER, "10.1.1.3", HOST_IP)]
    begun = tcp("10.1.1.3", HOST_IP, (5000, 22), mac=world.mac(4))
    assert sent(it, 4, begun) == [(LOCAL_IN_REGISTER, "250.0.0.4", HOST_IP)], "it has nat"


def test_only_the_host_itself_reaches_containers() -> None:
    """What the host forwards for others would come in by the way that is the host's own."""
    it = switch(model())
    assert sent(it, LOCAL, tcp(WORLD_IP, "10.1.1.3", (40000, 22))) == []
    assert sent(it, LOCAL, tcp(HOST_IP, "30.1.1.1", (40000, 22))) == [(CONTROLLER, HOST_IP, "30.1.1.1")]
    assert sent(it, LOCAL, tcp(HOST_IP, "10.1.1.3", (40000, 22), mac=world.mac(4))) == [], "another MAC"


def test_a_published_address() -> None:
    """A client outside would not reach a service, or be told of another's."""
    it = switch(model())
    ((port, source, to),) = sent(it, LOCAL, tcp(WORLD_IP, "249.0.0.1", (40000, 8080)))
    assert (port, source) in {(2, WORLD_IP), (3, WORLD_IP)}
    back = tcp(to, WORLD_IP, (80, 40000), mac=world.mac(port), flags=0x12)
    assert sent(it, port, back) == [(LOCAL_IN_REGISTER, "249.0.0.1", WORLD_IP)]
    assert sent(it, LOCAL, tcp(WORLD_IP, "249.0.0.2", (40000, 8080))) == [], "blue's is not published"


@pytest.mark.parametrize("host", [None, replace(HOST, switch=9), replace(HOST, number=0)])
def test_no_host_no_way(host: Host | None) -> None:
    """Switches without an agent, as in Mininet, would send packets out of a port that nobody set up."""
    made = Model()
    made.load(1, [*([host] if host else []), *map(outside, world.objects())])
    found = [f for f in world.program(made).flows if f.kind == FlowKind.OUTSIDE]
    assert found == []


@pytest.mark.parametrize(
    ("sender", "to", "text"),
    [
        ("c1", WORLD_IP, "delivered to the host, which sends it on to 192.0.2.9"),
        (
            "c1", HOST_IP,
            "delivered to the host, which refuses it unless the port is published: "
            "network default:clients has no natHost",
        ),
        ("c1", "10.1.1.99", "refused with host unreachable: no container or service in tenant default has 10.1.1.99"),
        (
            "c1",
            "20.1.1.254",
            "refused with a reset: 20.1.1.254 is the gateway of default:clients, which only answers pings",
        ),
        ("c1", "127.0.0.1", "dropped: no container or service in tenant default has 127.0.0.1"),
        ("w1", WORLD_IP, "delivered to the host, which sends it on to 192.0.2.9"),
        ("w9", WORLD_IP, "refused as prohibited: network blue:web has no nat: only replies to the host may leave it"),
        ("w9", HOST_IP, "refused as prohibited: network blue:web has no nat: only replies to the host may leave it"),
    ],
)
def test_a_trace_says_so(sender: str, to: str, text: str) -> None:
    """`netctl trace` would not say why a container does not reach the world."""
    of = model()
    endpoint = of.endpoints[sender]
    ask = Question(endpoint, endpoint.addresses[0], IPv4Address(to), TCP, 80)

    found = trace(Context(of, world.DPID, world.PORTS), ask)

    assert found.text == text, found.steps
    assert all("as its flow says" not in words for _, words in found.steps)
