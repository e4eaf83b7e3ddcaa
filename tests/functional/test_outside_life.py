"""What lies beyond the switch follows the model, live, and outlives the processes that made it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.kit import hostside
from tests.kit.hosts import ask_again
from tests.kit.hostside import Place
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private, private
from topology.reports import EndpointDoc

PORTS = ["8080:80:TCP", "53:53:UDP"]
PUBLISH = ["80:8080:TCP", "5300:53:UDP"]


@pytest.fixture(scope="module")
def instance() -> Iterator[Private]:
    """Of its own: it is killed."""
    with private("l") as made:
        yield made


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Each test leaves it as it found it."""
    with hostside.place(tmp_path_factory.mktemp("life"), instance) as made:
        yield made


def put(place: Place, publish: list[str], name: str = "app", selectors: str = "tier=web") -> str:
    """Publish a service's ports; its VIP."""
    return place.lab.service(name, "srv", PORTS, [selectors], options={"publish": publish})


def troubles(place: Place) -> dict[str, str]:
    """What the host says is wrong."""
    return dict(place.side.document().get("errors", {}))


def test_published_ports_follow_the_service(place: Place) -> None:
    """A port would stay open after its service is gone, or need a restart to be opened."""
    put(place, ["81:8080:TCP"])
    wait_for(lambda: place.side.publishes(81) and not place.side.publishes(80), "the ports to change")
    assert place.out.reaches("tcp", place.side.ip, 81)
    with pytest.raises(ConnectionRefusedError):
        place.out.ask("tcp", place.side.ip, 80)

    place.lab.rest.delete_service("default:app")
    wait_for(lambda: not place.side.publishes(81), "the port to be closed")
    with pytest.raises(ConnectionRefusedError):
        place.out.ask("tcp", place.side.ip, 81)

    put(place, PUBLISH)
    wait_for(lambda: place.side.publishes(80) and place.side.publishes(5300), "the ports to be back")
    place.lab.settled()
    assert place.out.reaches("tcp", place.side.ip, 80)
    assert place.out.reaches("udp", place.side.ip, 5300)


def test_the_second_tenants_service(place: Place) -> None:
    """Of two tenants whose networks look alike, only one could publish."""
    place.lab.network("srv", "100.1.1.0/24", tenant="blue")
    place.lab.host("x2", "web", "10.1.1.2", {"k": "v"}, "blue", serve=["tcp:80"])
    options = {"publish": ["82:8080:TCP"]}
    place.lab.service("app", "srv", ["8080:80:TCP"], ["k=v"], tenant="blue", options=options)
    wait_for(lambda: place.side.publishes(82), "its port")
    place.lab.settled()

    assert place.out.ask("tcp", place.side.ip, 82).split()[:2] == ["x2", place.out.ip]
    assert place.out.ask("tcp", place.side.ip, 80).split()[0] != "x2"
    place.lab.rest.delete_service("blue:app")


def test_refused_at_once_while_nobody_serves(place: Place) -> None:
    """Clients of a service that is down would wait for their time-out instead of being told."""
    put(place, [*PUBLISH, "83:8080:TCP"])
    wait_for(lambda: place.side.publishes(83), "the port")
    vip = put(place, PUBLISH, selectors="tier=nobody")
    place.lab.settled()
    try:
        for namespace, address in ((place.out, place.side.ip), (place.side, "127.0.0.1")):
            for kind, port in (("tcp", 80), ("udp", 5300)):
                with pytest.raises(ConnectionRefusedError):
                    namespace.ask(kind, address, port)
        for kind, port in (("tcp", 8080), ("udp", 53)):
            with pytest.raises(ConnectionRefusedError):
                place.side.ask(kind, vip, port)
    finally:
        put(place, PUBLISH)
        place.lab.settled()


def test_a_port_that_the_host_needs_itself(place: Place) -> None:
    """A published port would cut off the host's own server (its SSH, say), and nobody would know why."""
    place.side.serve("tcp:9000")
    put(place, [*PUBLISH, "9000:8080:TCP"])
    wait_for(lambda: troubles(place), "the host to report it")

    assert "in use on this host, not taken over" in troubles(place)["publish 9000/TCP"]
    assert place.out.ask("tcp", place.side.ip, 9000).split()[0] == "host"
    assert place.out.reaches("tcp", place.side.ip, 80), "the others are published"

    place.side.stop_serving()
    place.side.serve("tcp:7", "udp:7")
    wait_for(lambda: not troubles(place), "it to be published when the port is free")
    assert place.out.ask("tcp", place.side.ip, 9000).split()[0] != "host"
    put(place, PUBLISH)


def test_a_subnet_that_the_host_has_elsewhere(place: Place) -> None:
    """A network would take the host's own way to its office away, and perhaps its user's with it."""
    place.side.run("ip", "route", "add", "50.1.0.0/16", "via", place.out.ip)
    place.lab.network("office", "50.1.1.0/24", "50.1.1.254")
    wait_for(lambda: troubles(place), "the host to report it")

    line = "not taken over: this host has a route to 50.1.0.0/16 by wan already"
    assert troubles(place) == {"route 50.1.1.0/24": line}
    assert "50.1.1.0/24" not in place.side.routes()

    place.side.run("ip", "route", "delete", "50.1.0.0/16")
    wait_for(lambda: not troubles(place), "it to be taken when it is free")
    assert place.side.routes()["50.1.1.0/24"] == place.lab.bridge
    place.lab.rest.delete_network("default:office")
    wait_for(lambda: "50.1.1.0/24" not in place.side.routes(), "the route to go with its network")


def test_the_first_of_two_that_overlap(place: Place) -> None:
    """The host would reach another container from one moment to the next, or none."""
    place.lab.network("first", "60.1.1.0/24", "60.1.1.254")
    place.lab.network("second", "60.1.0.0/16", "60.1.0.254", "blue")
    place.lab.host("f1", "first", "60.1.1.1", serve=["tcp:22"])
    place.lab.host("g1", "second", "60.1.1.1", tenant="blue", serve=["tcp:22"])
    wait_for(lambda: "60.1.1.0/24" in place.side.routes(), "the route")
    place.lab.settled()
    assert place.side.ask("tcp", "60.1.1.1", 22).split()[0] == "f1"

    place.lab.rest.delete_endpoint("f1")
    place.lab.rest.delete_network("default:first")
    wait_for(lambda: "60.1.0.0/16" in place.side.routes(), "the other one to have the host's route")
    place.lab.settled()
    assert place.side.ask("tcp", "60.1.1.1", 22).split()[0] == "g1"


def test_who_has_the_address_next(place: Place) -> None:
    """A container with another's old address would get no answers, as long as it goes on asking from the same port."""
    old = place.lab.host("n1", "web", "10.1.1.9")
    place.lab.settled()
    with old.connect("udp", place.out.ip, 7, source_port=123) as one:
        assert ask_again(one)
    again: dict[str, Any] = next(dict(e) for e in place.lab.rest.endpoints() if e["endpointID"] == "n1")
    del again["key"]
    place.lab.rest.delete_endpoint("n1")
    place.lab.rest.put_endpoint(EndpointDoc(**again | {"endpointID": "n2"}))  # type: ignore[typeddict-item]
    place.lab.settled()

    def answered() -> bool:
        with old.connect("udp", place.out.ip, 7, source_port=123, timeout=0.2) as two:
            try:
                return bool(ask_again(two))
            except TimeoutError:
                return False

    wait_for(answered, "an answer from outside", timeout=5)
    place.lab.rest.delete_endpoint("n2")


@contextmanager
def undisturbed(place: Place) -> Iterator[None]:
    """Open connections go on: out, in, to a container."""

    def asked() -> list[str]:
        return [ask_again(connection) for connection in connections]

    with (
        place.hosts["x1"].connect("tcp", place.out.ip, 7) as one,
        place.out.connect("tcp", place.side.ip, 80) as two,
        place.side.connect("tcp", "20.1.1.1", 22) as three,
        place.side.connect("tcp", "127.0.0.1", 80) as four,
    ):
        connections = (one, two, three, four)
        before = asked()
        yield
        assert asked() == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_agent_restarts(place: Place, how: signal.Signals) -> None:
    """Every update or crash of the agent would cut off containers and published services."""
    rules, routes, flows = place.side.rules(), place.side.routes(), place.lab.contents()
    said = place.side.log().count("following")
    with undisturbed(place):
        place.side.end(how)
        assert place.out.reaches("tcp", place.side.ip, 80)
        assert place.hosts["w1"].reaches("tcp", place.out.ip, 7)
        place.side.start()
        wait_for(lambda: place.side.log().count("following") > said, "the agent to be back")
        wait_for(lambda: place.side.document()["connected"], "the agent to be connected")
        place.side.looked()
    assert (place.side.rules(), place.side.routes(), place.lab.contents()) == (rules, routes, flows)
    assert troubles(place) == {}


def test_the_controller_restarts(place: Place) -> None:
    """Every update of the controller would write flows and rules anew."""
    rules, flows, revision = place.side.rules(), place.lab.contents(), place.side.document()["appliedRevision"]
    with undisturbed(place):
        place.lab.controller.restart()
        place.lab.settled()
        wait_for(lambda: place.side.document().get("appliedRevision", 0) >= revision, "the agent to be connected")
        place.side.looked()
    assert (place.side.rules(), place.lab.contents()) == (rules, flows)


@contextmanager
def docker_like(place: Place) -> Iterator[None]:
    """What a Docker daemon does to the kernel's rules when it starts."""
    place.side.run("iptables", "-P", "FORWARD", "DROP")
    place.side.run("iptables", "-N", "DOCKER-USER")
    place.side.run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")
    place.side.run("iptables", "-I", "FORWARD", "-j", "DOCKER-USER")
    try:
        yield
    finally:
        for command in ("-P FORWARD ACCEPT", "-D FORWARD -j DOCKER-USER", "-F DOCKER-USER", "-X DOCKER-USER"):
            place.side.run("iptables", *command.split())


def test_docker_restarts(place: Place) -> None:
    """Docker's own rules would shut netctl's containers off until somebody restarts the agent."""
    with docker_like(place), undisturbed(place):
        assert place.out.reaches("tcp", place.side.ip, 80)
        assert place.hosts["w1"].reaches("tcp", place.out.ip, 7)
        place.side.looked()
        first = next(rule for rule in place.side.rules() if rule.startswith("-A FORWARD"))
        assert first == "-A FORWARD -j NETCTL-FORWARD", "what may not pass is decided before others let it pass"


def test_somebody_flushes_the_rules(place: Place) -> None:
    """A firewall's reload would close what netctl had opened, and open what it had closed, for good."""
    before = place.side.rules()
    for table in ("filter", "nat"):
        place.side.run("iptables", "-t", table, "-F")
    wait_for(lambda: place.side.rules() == before, "the rules to be back")


@pytest.mark.parametrize("how", [signal.SIGABRT, signal.SIGKILL])
def test_the_switch_dies(place: Place, how: signal.Signals) -> None:
    """After a crash of Open vSwitch its host would be cut off from all containers."""
    old = place.lab.instance.end_switch(how)
    if how == signal.SIGKILL:
        place.lab.instance.start_switch()  # only a crash is its monitor's business
    wait_for(
        lambda: place.lab.instance.switch_pid not in {0, old} and place.lab.instance.has_bridge(place.lab.bridge),
        "the switch to be back",
    )
    wait_for(lambda: "20.1.1.0/24" in place.side.routes(), "the host's routes to be back", timeout=5)
    place.lab.settled()

    assert place.side.reaches("tcp", "20.1.1.1", 22)
    assert place.out.reaches("tcp", place.side.ip, 80)
    assert place.hosts["x1"].reaches("tcp", place.out.ip, 7)


def test_published_connections_are_counted(place: Place) -> None:
    """`netctl service stats` would show a service that the world uses as idle."""

    def connections() -> int:
        counters = place.lab.rest.inspect("serviceLBs", "default:app")["Oper"]["counters"]
        assert counters["packets"] > 0
        return sum(int(port["connections"]) for port in counters["ports"])

    before = connections()
    for _ in range(5):
        place.out.ask("tcp", place.side.ip, 80)
        place.out.ask("udp", place.side.ip, 5300)
    wait_for(lambda: connections() == before + 10, "ten connections to be counted")


def test_a_client_outside_stays_with_its_provider(place: Place) -> None:
    """Session affinity would hold for containers alone: a browser would meet another provider with each request."""
    sticky = {"sessionAffinity": 60, "publish": ["84:8080:TCP"]}
    place.lab.service("sticky", "srv", ["8080:80:TCP"], ["tier=web"], options=sticky)
    wait_for(lambda: place.side.publishes(84), "the port")
    place.lab.settled()
    first = place.out.ask("tcp", place.side.ip, 84).split()
    assert first[1] == place.out.ip

    # what is learned takes effect within half a second
    wait_for(lambda: len(set(place.out.who("tcp", place.side.ip, 84, 10))) == 1, "one provider for all")
    assert len(set(place.out.who("tcp", place.side.ip, 84, 30))) == 1
    place.lab.rest.delete_service("default:sticky")


def test_a_provider_that_dies(place: Place) -> None:
    """Clients outside whose provider has gone would be sent to it for ever."""
    spare = place.lab.host("d1", "shut", "20.1.1.9", {"tier": "dying"}, serve=["udp:53"])
    other = place.lab.host("d2", "shut", "20.1.1.8", {"tier": "dying"}, serve=["udp:53"])
    options = {"publish": ["5301:53:UDP"]}
    place.lab.service("dying", "srv", ["53:53:UDP"], ["tier=dying"], options=options)
    wait_for(lambda: place.side.publishes(5301), "the port")
    place.lab.settled()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(place.out.connect("udp", place.side.ip, 5301)) for _ in range(20)]
        assert {ask_again(connection).split()[0] for connection in connections} == {"d1", "d2"}
        place.lab.rest.delete_endpoint("d1")
        spare.stop_serving()

        def all_by_the_other() -> bool:
            for connection in connections:
                connection.settimeout(0.2)
                try:
                    if ask_again(connection).split()[0] != other.name:
                        return False
                except OSError:
                    return False
            return True

        wait_for(all_by_the_other, "the other one to have all clients", timeout=5)
    place.lab.rest.delete_service("default:dying")
