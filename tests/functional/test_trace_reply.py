"""What a trace says of a reply is what becomes of it: packets there and back on two hosts with an Open vSwitch each."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.hosts import Host
from tests.kit.ovs import run
from tests.kit.pair import SERVE, VIP, World
from tests.kit.wide import of_family, wide
from topology.answers import EndDoc, TraceDoc
from topology.documents import NetworkDoc, ServiceDoc

SERVICE, STRAIGHT = {"tcp": 8080, "udp": 53}, {"tcp": 22, "udp": 99}


def trace(world: World, sender: str, to: str, kind: str = "", port: int = 0) -> TraceDoc:
    query = {"from": sender, "to": to, "proto": kind, "port": str(port) if port else ""}
    return world.control.client.trace({name: value for name, value in query.items() if value})


def replies(found: TraceDoc) -> dict[str, str]:
    """The verdict of each receiver's reply."""
    return {end["endpointID"]: end["reply"]["verdict"] for end in found["ends"]}


def only(found: TraceDoc) -> EndDoc:
    (end,) = found["ends"]
    return end


@pytest.mark.parametrize("sender", ["c1", "c2", "n1", "w1", "w2"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_through_a_vip(world: World, version: int, sender: str, kind: str) -> None:
    """If it fails: replies of a VIP that arrive are said to be lost: on one host, by tunnel, to a provider itself."""
    vip, port = of_family(version, VIP), SERVICE[kind]
    told = replies(trace(world, sender, vip, kind, port))
    assert told == dict.fromkeys(("w1", "w2", "w3"), "delivered")
    assert {world[sender].ask(kind, vip, port).split()[0] for _ in range(40)} == told.keys()


@pytest.mark.parametrize(("sender", "to"), [("c1", "w1"), ("c1", "o2"), ("c1", "c2"), ("w1", "o2"), ("c2", "w1")])
def test_straight_to_a_container(world: World, version: int, sender: str, to: str) -> None:
    """If it fails: so is what goes past the VIP: to a service port, to any other, by ping."""
    address = world[to].address(version)
    for kind in ("tcp", "udp"):
        for port in (STRAIGHT[kind], {"tcp": 80, "udp": 5353}[kind]):
            assert replies(trace(world, sender, address, kind, port)) == {to: "delivered"}
            assert world[sender].ask(kind, address, port).split()[0] == to
    assert replies(trace(world, sender, address)) == {to: "delivered"}
    assert world[sender].pings(address)


@contextlib.contextmanager
def registered(world: World, name: str, network: str, **fields: Any) -> Iterator[Host]:
    """A container on b is registered with these fields as well, as its agent would."""
    host = world[name]
    try:
        host.register(world.control.client, network, switch="", homingHost="b", **fields)
        yield host
    finally:
        host.register(world.control.client, network, switch="", homingHost="b")


def test_a_paused_container(world: World, version: int) -> None:
    """If it fails: why an open connection hangs is not said, or a ping that is answered is said to be lost."""
    client = world["c1"]
    with registered(world, "o2", "web", state="paused") as paused:
        address = paused.address(version)
        paused.signal_servers(signal.SIGSTOP)
        try:
            for kind, port in STRAIGHT.items():
                found = trace(world, "c1", address, kind, port)
                assert found["verdict"] == "lost"
                assert found["outcome"].endswith("on host b, but the reply is lost: o2 is paused")
                assert not client.reaches(kind, address, port)
            assert trace(world, "c1", address)["verdict"] == "delivered"
            assert client.pings(address)
        finally:
            paused.signal_servers(signal.SIGCONT)
    assert trace(world, "c1", address, "tcp", 22)["verdict"] == "delivered"
    assert client.reaches("tcp", address, 22, 3)


def test_a_container_that_has_no_route_back(world: World, version: int) -> None:
    """If it fails: what an agent says of a container's routes is not heard; or neighbours are said to get no reply."""
    with registered(world, "o2", "web", noWayBack="no default route") as host:
        family, gateway = ("-4", "10.1.1.254") if version == 4 else ("-6", wide("10.1.1.254"))
        run("ip", "-n", host.netns, family, "route", "delete", "default")
        try:
            address = host.address(version)
            for sender, verdict in (("c1", "lost"), ("w1", "delivered"), ("w2", "delivered")):
                for kind, port in STRAIGHT.items():
                    assert trace(world, sender, address, kind, port)["verdict"] == verdict, sender
                    assert world[sender].reaches(kind, address, port) == (verdict == "delivered"), sender
                assert trace(world, sender, address)["verdict"] == verdict
            reply = only(trace(world, "c1", address, "tcp", 22))["reply"]
            assert (reply["text"], reply["steps"], reply["from"]) == ("lost: no default route", [], "o2")
        finally:
            run("ip", "-n", host.netns, family, "route", "add", "default", "via", gateway)


def test_a_network_that_does_not_route(world: World, version: int) -> None:
    """If it fails: what reaches nobody, or is refused, is said to be delivered; or a VIP inside is said to be lost."""
    rest, network = world.control.client, f"back{version}"
    subnet, vip, front = f"10.{version}.1.0/24", f"10.{version}.1.80", f"100.1.1.{80 + version}"
    doc = NetworkDoc(tenantName="default", networkName=network, subnet=subnet, encap="vxlan")
    rest.put_network(doc | NetworkDoc(ipv6Subnet=wide(subnet)))
    for name, at, address, selectors in (("in", network, vip, ["tier=web"]), ("out", "srv", front, ["tier=back"])):
        rest.put_service(
            ServiceDoc(
                tenantName="default", serviceName=f"{name}{version}", networkName=at, ipAddress=address,
                ipv6Address=wide(address), selectors=selectors, ports=["80:80:TCP", "53:5353:UDP"],
            )
        )  # fmt: skip
    made = [
        node.host(world.control, f"{at}{version}", network, f"10.{version}.1.{number}/24", labels={"tier": "back"},
                  serve=SERVE, ipv6=True)
        for at, number, node in (("x", 1, world.a), ("y", 2, world.b))
    ]  # fmt: skip
    client, other = made
    for kind, port, straight in (("tcp", 80, 22), ("udp", 53, 99)):
        inside = of_family(version, vip)
        assert replies(trace(world, client.name, inside, kind, port)) == dict.fromkeys(("w1", "w2", "w3"), "delivered")
        assert {client.ask(kind, inside, port).split()[0] for _ in range(40)} == {"w1", "w2", "w3"}
        assert replies(trace(world, client.name, other.address(version), kind, straight)) == {other.name: "delivered"}
        assert client.reaches(kind, other.address(version), straight, 3)
        for target in made:
            assert trace(world, "c1", target.address(version), kind, straight)["verdict"] == "refused"
            assert not world["c1"].reaches(kind, target.address(version), straight)
        assert trace(world, "c1", of_family(version, front), kind, port)["verdict"] == "refused"
        with pytest.raises(ConnectionRefusedError):
            world["c1"].ask(kind, of_family(version, front), port)
