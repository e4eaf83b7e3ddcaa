"""Published ports with providers on several hosts, and clients outside that come in by any of them."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit.controller import Controller
from tests.kit.hosts import Host, ask_again
from tests.kit.hostside import SERVE, HostSide, Machine, beyond, hostside
from tests.kit.nodes import MTU, Node, nodes
from tests.kit.ovs import wait_for
from topology.documents import NetworkDoc, ServiceDoc

CLIENT = "203.0.113.9"
PORTS = ["8080:80:TCP", "53:53:UDP"]
KINDS = [("tcp", 80), ("udp", 5300)]
WEB, FAR = {"tier": "web"}, {"tier": "web", "side": "b"}
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # Linux


@dataclass
class World:
    """Hosts a and b. Service app: w1 on a; w2 and, in a network with nat, n2 on b. Service far: those on b."""

    control: Controller
    nodes: dict[str, Node]
    sides: dict[str, HostSide]
    out: Machine
    far: Machine
    hosts: dict[str, Host]

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def settled(self) -> None:
        """The switches carry out the model."""
        for node in self.nodes.values():
            self.control.wait_for_switch(node.dpid)

    def at(self, host: str) -> str:
        """The host's address, as clients outside know it."""
        return self.sides[host].ip

    def flush(self) -> None:
        """No switch tracks anything any more."""
        for node in self.nodes.values():
            node.instance.flush_conntrack()


def network(world: Controller, name: str, subnet: str, tenant: str = "default", *, nat: bool = False) -> None:
    """With a gateway."""
    gateway = subnet.replace("0/24", "254")
    doc = NetworkDoc(tenantName=tenant, networkName=name, subnet=subnet, gateway=gateway, encap="vxlan", nat=nat)
    world.client.put_network(doc)


def service(control: Controller, name: str, selectors: list[str], publish: list[str], tenant: str = "default") -> None:
    """With the same ports, of its own network."""
    control.client.put_service(
        ServiceDoc(
            tenantName=tenant, serviceName=name, networkName="srv", selectors=selectors, ports=PORTS, publish=publish
        )
    )


@contextlib.contextmanager
def second_link(out: Machine, node: Node) -> Iterator[None]:
    """The client is on both hosts' networks, with one address."""
    ip = node.instance.ip
    try:
        ip("link", "add", "wan", "type", "veth", "peer", "name", "eth1", "netns", out.netns)
        for command in ("address add 198.18.1.1/24 dev wan", "link set wan up", f"route add {CLIENT} via 198.18.1.9"):
            ip(*command.split())
        out.ip_command(
            "address add 198.18.1.9/24 dev eth1", "link set eth1 up", f"address add {CLIENT}/32 dev lo",
            f"route replace 198.18.0.0/24 dev eth0 src {CLIENT}", f"route replace 198.18.1.0/24 dev eth1 src {CLIENT}",
        )  # fmt: skip
        out.ip = CLIENT
        yield
    finally:
        with contextlib.suppress(AssertionError):
            ip("link", "delete", "wan")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("ingress")
    with contextlib.ExitStack() as stack:
        control, (a, b) = stack.enter_context(nodes(directory, "a", "b"))
        out, far = stack.enter_context(beyond(a.instance, "198.18.0.1", "198.18.0.9"))
        stack.enter_context(second_link(out, b))
        a.instance.ip("route", "add", CLIENT, "via", "198.18.0.9")
        for tenant in ("default", "blue"):
            control.client.put_tenant(tenant)
            network(control, "srv", "100.1.1.0/24", tenant)
            network(control, "web", "10.1.1.0/24", tenant)
        network(control, "open", "10.2.1.0/24", nat=True)
        sides = {
            node.name: stack.enter_context(
                hostside(HostSide(node, control, directory, node.name, ip, tunnel=node.address))
            )
            for node, ip in ((a, "198.18.0.1"), (b, "198.18.1.1"))
        }
        made = {}
        for node, name, net, address, labels in (
            (a, "w1", "web", "10.1.1.1", WEB),
            (b, "w2", "web", "10.1.1.2", FAR),
            (b, "n2", "open", "10.2.1.2", FAR),
            (b, "o2", "open", "10.2.1.9", {}),
            (b, "x2", "web", "10.1.1.2", WEB),
        ):
            tenant = "blue" if name == "x2" else "default"
            gateway = address.rpartition(".")[0] + ".254"
            made[name] = node.host(
                control, name, net, f"{address}/24", gateway=gateway, labels=labels, serve=SERVE, tenant=tenant,
                homed=False,
            )  # fmt: skip
        service(control, "app", ["tier=web"], ["80:8080:TCP", "5300:53:UDP"])
        service(control, "far", ["side=b"], ["81:8080:TCP", "5301:53:UDP"])
        service(control, "app", ["tier=web"], ["82:8080:TCP", "5302:53:UDP"], "blue")
        found = World(control, {"a": a, "b": b}, sides, out, far, made)
        for side in sides.values():
            wait_for(lambda side=side: side.publishes(5302), "the ports to be published")  # type: ignore[misc]
        found.settled()
        wait_for(lambda: made["w1"].reaches("tcp", "10.2.1.9", 22), "the tunnel to be up")
        wait_for(lambda: made["o2"].reaches("tcp", "10.1.1.1", 22), "the tunnel to be up")
        for machine in (out, far):
            machine.serve("tcp:7", "udp:7")
        yield found


@pytest.mark.parametrize("host", ["a", "b"])
@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_all_providers_answer_and_see_their_client(world: World, host: str, kind: str, port: int) -> None:
    """A part of all clients would get no answer, or providers would not know who their clients are."""
    answers = [world.out.ask(kind, world.at(host), port).split() for _ in range(40)]

    assert {name for name, _, _ in answers} == {"w1", "w2", "n2"}
    assert {seen for _, seen, _ in answers} == {CLIENT}


def test_no_packet_visits_the_controller(world: World) -> None:
    """A published service would be as slow as its controller, and down while that is."""

    def asked() -> int:
        found = 0
        for node in world.nodes.values():
            lines = node.instance.ofctl("dump-flows", node.bridge).splitlines()
            found += sum(int(re.findall(r"n_packets=(\d+)", line)[0]) for line in lines if "CONTROLLER" in line)
        return found

    before, counted = asked(), delivered(world)
    for host in ("a", "b"):
        for kind, port in KINDS:
            world.out.ask(kind, world.at(host), port + 1)
    wait_for(lambda: delivered(world) > counted, "the switches to have counted")
    assert asked() == before


def delivered(world: World) -> int:
    """Packets that b has delivered: to its providers, and by the way to a."""
    node = world.nodes["b"]
    lines = node.instance.ofctl("dump-flows", node.bridge, "table=17").splitlines()
    return sum(int(found[0]) for line in lines if (found := re.findall(r"n_packets=(\d+)", line)))


def test_a_connection_goes_on(world: World) -> None:
    """A connection would open and get no further."""
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(world.out.connect(kind, world.at(host), port + 1))
            for host in ("a", "b")
            for kind, port in KINDS
        ]
        names = [ask_again(connection) for connection in opened]
        for _ in range(5):
            assert [ask_again(connection) for connection in opened] == names


@pytest.mark.parametrize("size", [MTU - 28, 4000, 20000])
def test_datagrams_larger_than_the_mtu(world: World, size: int) -> None:
    """Large questions and answers (of a name server, say) would be lost between the hosts."""
    for host in ("a", "b"):
        for _ in range(3):
            with world.out.connect("udp", world.at(host), 5301) as connection:
                # not of zeros: what is taken for a checksum in one is left alone where it is none
                for _ in range(2):
                    assert ask_again(connection, size).split()[0] in ("w2", "n2")


def test_a_large_page(world: World) -> None:
    """A page would begin and never end."""
    for _ in range(4):
        with world.out.connect("tcp", world.at("a"), 81) as connection:
            connection.sendall(b"x\n" * 5000 + b"y" * 300_000 + b"\n")
            with connection.makefile() as answers:
                assert len({next(answers) for _ in range(5001)}) == 1


def test_a_client_behind_a_small_mtu(world: World) -> None:
    """A client behind a tunnel or DSL would see the page begin and never end: its provider is not told."""
    for _ in range(4):
        with world.far.connect("tcp", world.at("a"), 81) as connection:
            connection.sendall(b"x\n" * 3000)
            with connection.makefile() as answers:
                assert len({next(answers) for _ in range(3000)}) == 1
        with world.far.connect("udp", world.at("a"), 5301) as large:
            assert ask_again(large, 4000).split()[0] in ("w2", "n2")


def test_the_client_is_told_what_fits_the_tunnel(world: World) -> None:
    """A client that finds out the path's MTU would not: what is too large for the tunnel is lost."""

    def fits(size: int) -> bool:
        with world.out.open("udp") as probe:
            probe.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            probe.connect((world.at("a"), 5301))
            try:
                return ask_again(probe, size).split()[0] in ("w2", "n2")
            except OSError as error:
                assert error.errno == errno.EMSGSIZE, "and not a time-out"
                return False

    assert not fits(MTU - 27)
    assert fits(MTU - 28)


def test_a_closed_port_is_said(world: World) -> None:
    """A client would wait where it would be told at once."""
    for name in ("w2", "n2"):
        world[name].stop_serving()
    try:
        for host in ("a", "b"):
            for kind, port in KINDS:
                for _ in range(2):  # of a kernel, one client gets six such errors, then one a second
                    with pytest.raises(ConnectionRefusedError):
                        world.out.ask(kind, world.at(host), port + 1)
    finally:
        for name in ("w2", "n2"):
            world[name].serve(*SERVE)


@pytest.mark.parametrize("host", ["a", "b"])
def test_on_the_hosts_themselves(world: World, host: str) -> None:
    """`curl localhost` would say that the service is down."""
    own = world.control.client.host(host)["hostAddress"]
    for kind, port in KINDS:
        answers = [world.sides[host].ask(kind, "127.0.0.1", port).split() for _ in range(30)]
        assert {name for name, _, _ in answers} == {"w1", "w2", "n2"}
        assert {seen for _, seen, _ in answers} == {own}


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_one_source_port_to_both_hosts(world: World, kind: str, port: int) -> None:
    """Behind a load balancer, whose connections to two hosts may have one port, answers would be mixed up."""
    world.flush()
    for source_port in range(7000, 7012):
        with (
            world.out.connect(kind, world.at("a"), port + 1, source_port) as one,
            world.out.connect(kind, world.at("b"), port + 1, source_port) as two,
        ):
            for _ in range(2):
                for connection in (one, two, two, one):
                    assert ask_again(connection).split()[1] == CLIENT


def test_two_tenants_alike(world: World) -> None:
    """Of two tenants whose networks look alike, the one's clients would meet the other's providers."""
    for kind, port in KINDS:
        with (
            world.out.connect(kind, world.at("a"), port + 2, 7100) as blue,
            world.out.connect(kind, world.at("a"), port + 1, 7100) as far,
        ):
            for _ in range(3):
                assert ask_again(blue).split()[:2] == ["x2", CLIENT]
                assert ask_again(far).split()[0] in ("w2", "n2")


def test_a_container_and_another_hosts_port(world: World) -> None:
    """Containers would reach what is published on their own host, and on no other."""
    world.nodes["b"].instance.ip("route", "replace", "198.18.0.1", "via", world.nodes["a"].address)
    for kind, port in KINDS:
        answers = [world["o2"].ask(kind, world.at("a"), port).split() for _ in range(20)]
        assert {name for name, _, _ in answers} == {"w1", "w2", "n2"}


def test_what_a_switch_has_forgotten(world: World) -> None:
    """A restarted switch would cut off the clients that come in by other hosts."""
    with world.out.connect("tcp", world.at("a"), 81) as one, world.out.connect("udp", world.at("a"), 5301) as two:
        names = [ask_again(connection) for connection in (one, two)]
        world.nodes["b"].instance.flush_conntrack()
        assert [ask_again(connection) for connection in (one, two)] == names


def test_who_was_not_asked_does_not_leave(world: World) -> None:
    """Containers of a network without nat would reach the world from their service ports."""
    assert not world["w2"].reaches("tcp", CLIENT, 7)
    world["w2"].stop_serving()
    try:
        for kind, port in (("tcp", 80), ("udp", 53)):
            with pytest.raises(OSError) as told:
                world["w2"].ask(kind, CLIENT, 7, source_port=port)
            assert told.value.errno == errno.EHOSTUNREACH, "it is told that this is prohibited"
    finally:
        world["w2"].serve(*SERVE)


@pytest.mark.parametrize(("kind", "port", "size"), [("tcp", 81, 5), ("udp", 5301, 5), ("udp", 5301, 4000)])
def test_a_full_zone_at_the_providers_host(world: World, kind: str, port: int, size: int) -> None:
    """A provider would get packets for an address that it does not have, or answer its client by the wrong host."""
    b, few = world.nodes["b"], 3
    zones = {1: few, 0x8001: 1000} if size < MTU else {1: 1000, 0x8001: few}
    b.instance.appctl("dpctl/ct-set-limits", *(f"zone={zone},limit={most}" for zone, most in zones.items()))
    world.flush()

    def refused() -> int:
        return int(world.control.client.switch(b.dpid).get("refusedByLimit", {}).get("default", 0))

    try:
        before, made = refused(), 0
        with contextlib.ExitStack() as stack:
            hidden = [stack.enter_context(world[name].open("raw", timeout=0.2)) for name in ("w2", "n2")]
            for _ in range(few + 4):
                with contextlib.suppress(TimeoutError):
                    connection = stack.enter_context(world.out.connect(kind, world.at("a"), port, timeout=0.4))
                    made += ask_again(connection, size).split()[1] == CLIENT
            assert made == few
            assert world.out.ask("tcp", world.at("a"), 82).split()[0] == "x2", "the other tenant goes on"
            for ears in hidden:
                with contextlib.suppress(TimeoutError):
                    while frame := ears.recv(65535):
                        assert frame[12:14] != b"\x08\0" or 240 not in (frame[26], frame[30])
        wait_for(lambda: refused() >= before + 4, "the refusals to be counted")
    finally:
        b.instance.appctl("dpctl/ct-del-limits", "zone=1,32769")


def test_a_restarted_controller_changes_nothing(world: World) -> None:
    """Each restart of the controller would rewrite the ways back, and stop what is on them."""
    with world.out.connect("tcp", world.at("a"), 81) as connection:
        name = ask_again(connection)
        world.control.restart()
        for node in world.nodes.values():
            document = world.control.wait_for_switch(node.dpid)
            assert (document["flowMods"], document["groupMods"]) == (0, 0)
        assert ask_again(connection) == name


def tracked(world: World, host: str, address: str) -> list[str]:
    """What a switch knows of a provider's connections."""
    return [line for line in world.nodes[host].instance.conntrack() if f"src={address}," in line]


def test_a_provider_that_goes_is_forgotten(world: World) -> None:
    """A client that keeps its port would be sent to a provider that is gone, for as long as it asks."""
    address = world["w2"].ip
    document = next(dict(e) for e in world.control.client.endpoints() if e["endpointID"] == "w2")
    del document["key"]
    world.flush()
    with world.out.connect("udp", world.at("a"), 5301, 7200) as connection:
        wait_for(lambda: ask_again(connection).split()[0] in ("w2", "n2"), "an answer")
        for source_port in range(7201, 7220):
            world.out.ask("udp", world.at("a"), 5301, source_port)
        assert tracked(world, "a", address)
        assert tracked(world, "b", address)
        world.control.client.delete_endpoint("w2")
        try:
            wait_for(lambda: not tracked(world, "a", address), "the client's host to forget")
            wait_for(lambda: not tracked(world, "b", address), "the provider's host to forget")
            assert ask_again(connection).split()[0] == "n2"
        finally:
            world.control.client.put_endpoint(document)  # type: ignore[arg-type]
            world.settled()


def test_a_host_that_goes(world: World) -> None:
    """A part of all clients would be sent to a host that is down."""
    b = world.nodes["b"]
    world.control.client.put_host({"hostName": "b", "switch": b.dpid, "tunnelAddress": ""})
    try:
        wait_for(lambda: world.out.answered_by({"w1"}, world.at("a"), 80, 10), "its providers to be passed over")
    finally:
        world.control.client.put_host({"hostName": "b", "switch": b.dpid, "tunnelAddress": b.address})
    wait_for(lambda: world.out.answered_by({"w1", "w2", "n2"}, world.at("a"), 80, 20), "its providers to be back")
