"""Answers find their way back: containers in several networks, in networks without a gateway, in internal ones.

A container's endpoints are hosts of their own here, so that it is seen at which address it is reached.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping

import pytest

from tests.functional.test_isolation import listen, seen
from tests.kit import frames
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.wide import of_family

APP, DB, INN, LONE = "100.1.1.1", "30.1.1.100", "40.1.1.100", "100.1.1.2"
PORTS = ("8080:80:TCP", "53:53:UDP")
SERVE = ("tcp:80", "udp:53", "tcp:22", "udp:99")
KINDS = [("tcp", 8080), ("udp", 53)]


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Container `one` is w1 (web) and b1 (back, without a gateway), `two` is w2 (web, primary) and f2 (front)."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("front", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    bare.network("back", "30.1.1.0/24", ipv6=True)
    bare.network("inn", "40.1.1.0/24", "40.1.1.254", ipv6=True, internal=True)
    for name, network, vip in (("app", "srv", APP), ("db", "back", DB), ("own", "inn", INN)):
        bare.service(name, network, PORTS, ["tier=web"], vip=vip)
    bare.service("lone", "srv", PORTS, ["tier=lone"], vip=LONE)
    web, lone = {"tier": "web"}, {"tier": "lone"}
    made = {
        name: bare.host(name, network, address, labels, serve=SERVE, **more)
        for name, network, address, labels, more in (
            ("w1", "web", "10.1.1.1", web, {"containerID": "one"}),
            ("b1", "back", "30.1.1.1", web, {"containerID": "one"}),
            ("f2", "front", "20.1.1.2", web, {"containerID": "two"}),
            ("w2", "web", "10.1.1.2", web, {"containerID": "two", "primary": True}),
            ("x1", "back", "30.1.1.9", lone, {}),
            ("cw", "web", "10.1.1.5", {}, {}),
            ("cf", "front", "20.1.1.5", {}, {}),
            ("cb", "back", "30.1.1.5", {}, {}),
            ("ci", "inn", "40.1.1.5", {}, {}),
        )
    }
    bare.settled()
    return made


@pytest.mark.parametrize(("kind", "port"), KINDS)
@pytest.mark.parametrize(
    ("client", "vip", "names"),
    [
        # at an address that can answer, and in the client's own network where there is one
        ("cf", APP, {"w1", "f2"}),
        ("cw", APP, {"w1", "w2"}),
        ("cf", DB, {"w1", "f2"}),
        # a VIP in a network without a gateway, or in an internal one: for who is in it, wherever the providers are
        ("cb", DB, {"b1", "w2"}),
        ("ci", INN, {"w1", "w2"}),
    ],
)
def test_each_container_answers(  # noqa: PLR0917 - a table of cases
    hosts: Mapping[str, Host], version: int, client: str, vip: str, names: set[str], kind: str, port: int
) -> None:
    """Of a container in several networks, a part of the connections would be lost: 9 of 20 are answered."""
    asking, address = hosts[client], of_family(version, vip)
    answers = [asking.ask(kind, address, port).split() for _ in range(40)]
    assert {name for name, _, _ in answers} == names
    assert {seen for _, seen, _ in answers} == {asking.address(version)}, "the provider sees who its client is"
    with asking.connect(kind, address, port) as connection:
        assert len({ask_again(connection).split()[0] for _ in range(20)}) == 1, "an open one goes on"
    assert asking.pings(address)


def test_a_container_has_one_share(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """A container in two networks would get twice the connections of others, and count twice."""
    before = counted(bare)
    shares = Counter(hosts["cf"].who("tcp", APP, 8080, 300))
    assert shares.keys() == {"w1", "f2"}
    assert all(100 <= count <= 200 for count in shares.values()), shares
    # by the endpoint that the container is shown by
    wait_for(lambda: counted(bare) - before == {"w1": shares["w1"], "w2": shares["f2"]}, "the switch to have counted")
    document = next(s for s in bare.rest.services() if s["serviceName"] == "app")
    assert (document["healthyProviders"], document["numProviders"]) == (2, 2)


def counted(lab: Lab) -> Counter[str]:
    """The connections of each of the service's providers."""
    return Counter(lab.rest.inspect("serviceLBs", "default:app")["Oper"]["counters"].get("providers", {}))


@pytest.mark.parametrize(("client", "vip"), [("cb", DB), ("cf", APP), ("ci", INN)])
@pytest.mark.parametrize("size", [1473, 20000])
def test_large_datagrams(hosts: Mapping[str, Host], version: int, client: str, vip: str, size: int) -> None:
    """Small answers would come and large ones not, or a client that begins with a large one gets none."""
    for sizes in ((5, size, 5, size), (size, 5, size)):
        for _ in range(5):
            with hosts[client].connect("udp", of_family(version, vip), 53) as asking:
                assert len({ask_again(asking, s).split()[0] for s in sizes}) == 1


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_a_closed_port_is_said(hosts: Mapping[str, Host], version: int, kind: str, port: int) -> None:
    """A client in a network without a gateway would wait where it would be told at once."""
    for name in ("b1", "w2"):
        hosts[name].stop_serving()
    try:
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                hosts["cb"].ask(kind, of_family(version, DB), port)
    finally:
        for name in ("b1", "w2"):
            hosts[name].serve(*SERVE)


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_the_only_provider_has_no_way_back(
    bare: Lab, hosts: Mapping[str, Host], version: int, kind: str, port: int
) -> None:
    """Clients would wait in vain instead of being refused, and nobody would be told why."""
    vip, client = of_family(version, LONE), hosts["cf"]
    with pytest.raises(ConnectionRefusedError):
        client.ask(kind, vip, port)
    document = next(s for s in bare.rest.services() if s["serviceName"] == "lone")
    assert (document["healthyProviders"], document["noWayBack"]) == (0, ["network back has no gateway"])
    try:
        # what the switch has cached it does for some milliseconds longer
        for reason, said in (("", "cw"), ("its rules can't be set", "refused"), ("", "cw")):
            hosts["cw"].register(bare.rest, "web", {"tier": "lone"}, noWayBack=reason)
            wait_for(lambda wanted=said: answer(client, kind, vip, port) == wanted, said)  # type: ignore[misc]
    finally:
        hosts["cw"].register(bare.rest, "web")


def answer(client: Host, kind: str, address: str, port: int) -> str:
    """Who answers a new connection, if anybody."""
    try:
        return client.ask(kind, address, port).split()[0]
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        assert kind == "udp"  # its entry was flushed while the reply was on its way
        return ""


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_the_vip_of_an_internal_network_from_outside(
    hosts: Mapping[str, Host], version: int, kind: str, port: int
) -> None:
    """What is to be closed would be open, or its clients wait where they would be told at once."""
    vip = of_family(version, INN)
    with pytest.raises(ConnectionRefusedError):
        hosts["cf"].ask(kind, vip, port)
    assert not hosts["cf"].pings(vip)


@pytest.mark.parametrize("net", ["back", "inn"])
def test_what_is_closed(bare: Lab, hosts: Mapping[str, Host], net: str) -> None:
    """A network that does not route would be open to who sends to the router's MAC, or as a VIP that it asks."""
    inside, vip = {"back": (hosts["cb"], DB), "inn": (hosts["ci"], INN)}[net]
    # it has asked them, and is answered: what else they send it is not
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(inside.connect("udp", vip, 53, source_port=5000))
        ask_again(asked)
        outsiders = [hosts["cf"], hosts["cw"], hosts["w1"], hosts["w2"]]
        hearing, *others = listen(stack, inside, *outsiders)
        for outsider in outsiders:
            wire = stack.enter_context(outsider.open("raw"))
            for sender in (outsider.ip, vip, inside.ip):
                for port in (22, 99, 53):
                    wire.send(frames.udp(outsider.mac, sender, inside.ip, port))
            wire.send(frames.udp6(outsider.mac, outsider.ip6, inside.ip6, 99))
            assert not outsider.reaches("tcp", inside.ip, 22, timeout=0.2)
        wire = stack.enter_context(inside.open("raw"))
        for outsider in outsiders:
            for port in (22, 99, 53):  # one that a service uses, too
                wire.send(frames.udp(inside.mac, inside.ip, outsider.ip, port))
            wire.send(frames.udp6(inside.mac, inside.ip6, outsider.ip6, 53))
        wire.send(frames.udp(inside.mac, inside.ip, APP, 53))
        # each hears of what is meant for it, sent later
        answer = ask_again(asked).encode()
        assert not any(frames.marked(frame) for frame in seen(hearing, answer))
        for outsider, heard in zip(outsiders, others, strict=True):
            sender = hosts["cf"] if outsider is not hosts["cf"] else hosts["cw"]
            stack.enter_context(sender.connect("udp", outsider.ip, 99)).send(b"honest")
            assert not any(frames.marked(frame) for frame in seen(heard, b"honest")), outsider.name


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_a_container_that_uses_its_own_service(
    hosts: Mapping[str, Host], version: int, kind: str, port: int
) -> None:
    """Picked by itself at its other address, it would drop what comes from an address of its own."""
    for client, vip, itself, other in (("b1", DB, "b1", "w2"), ("f2", APP, "f2", "w1"), ("w2", APP, "w2", "w1")):
        answers = [hosts[client].ask(kind, of_family(version, vip), port).split() for _ in range(30)]
        assert {name for name, _, _ in answers} == {itself, other}
        assert {seen for name, seen, _ in answers if name == itself} == {of_family(version, vip)}


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_session_affinity(bare: Lab, hosts: Mapping[str, Host], version: int, kind: str, port: int) -> None:
    """A client that comes back would get another provider, or its provider's address in another network."""
    try:
        for name, network, vip in (("app", "srv", APP), ("db", "back", DB)):
            bare.service(name, network, PORTS, ["tier=web"], vip=vip, options={"sessionAffinity": 60})
        for client, vip, names in (("cf", APP, {"w1", "f2"}), ("cw", APP, {"w1", "w2"}), ("cb", DB, {"b1", "w2"})):
            address = of_family(version, vip)
            hosts[client].ask(kind, address, port)
            table = f"table=8,{'ip' if version == 4 else 'ipv6'}_src={hosts[client].address(version)}"
            wait_for(lambda what=table: bare.flows(what.replace("ip_src", "nw_src")), "it to be learned")  # type: ignore[misc]
            found = stays(hosts[client], kind, address, port)
            assert len(found) == 1 and found <= names
    finally:
        for name, network, vip in (("app", "srv", APP), ("db", "back", DB)):
            bare.service(name, network, PORTS, ["tier=web"], vip=vip)


def stays(client: Host, kind: str, address: str, port: int) -> set[str]:
    """Who answers, once the switch goes by what it has learned."""
    found: set[str] = set()

    def one() -> bool:
        found.clear()
        found.update(client.who(kind, address, port, 20))
        return len(found) == 1

    wait_for(one, "the client to stay with its provider")
    return found


def test_a_container_joins_another_network(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """`docker network connect` would cost connections, new ones or those that are open."""
    client, labels = hosts["cf"], {"tier": "joins"}
    bare.service("joins", "srv", PORTS, ["tier=joins"], vip="100.1.1.3")
    try:
        hosts["cw"].register(bare.rest, "web", labels, containerID="three")
        wait_for(lambda: answer(client, "tcp", "100.1.1.3", 8080) == "cw", "the service")
        with client.connect("tcp", "100.1.1.3", 8080) as open_:
            for primary in (False, True, False):
                # in the client's own network, and in one that does not route
                for name, network in (("f2", "front"), ("x1", "back")):
                    hosts[name].register(bare.rest, network, labels, containerID="three", primary=primary)
                    assert {client.ask("tcp", "100.1.1.3", 8080).split()[0] for _ in range(30)} <= {"cw", "f2"}
                    assert ask_again(open_).split()[0] == "cw"
            wait_for(lambda: set(client.who("tcp", "100.1.1.3", 8080, 10)) == {"f2"}, "its own network's address")
    finally:
        bare.rest.delete_service("default:joins")
        hosts["cw"].register(bare.rest, "web")
        hosts["x1"].register(bare.rest, "back", {"tier": "lone"})
        hosts["f2"].register(bare.rest, "front", {"tier": "web"}, containerID="two")
