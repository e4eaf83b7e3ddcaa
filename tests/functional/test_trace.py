"""What a trace says of a connection is what becomes of it on Open vSwitch."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from netctl.cli import main
from netctl.client import Refused
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.wide import of_family, wide
from topology.answers import TraceDoc

WEB = {"tier": "web"}
VIP, STICKY = "100.1.1.1", "100.1.1.2"


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Two providers, a client, and services with and without affinity."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    assert bare.service("app", "srv", ["8080:80:TCP", "5353:53:UDP"], ["tier=web"]) == VIP
    assert bare.service("stick", "srv", ["8080:80:TCP"], ["tier=web"], options={"sessionAffinity": 60}) == STICKY
    made = {f"w{n}": bare.host(f"w{n}", "web", f"10.1.1.{n}", WEB, serve=["tcp:80", "udp:53"]) for n in (1, 2)}
    return made | {"c1": bare.host("c1", "cli", "20.1.1.1")}


def trace(lab: Lab, sender: str, to: str, port: int = 0, proto: str = "") -> TraceDoc:
    query = {"from": sender, "to": to, "port": str(port) if port else "", "proto": proto}
    return lab.rest.trace({name: value for name, value in query.items() if value})


def receivers(found: TraceDoc) -> set[str]:
    return {end["endpointID"] for end in found["ends"] if end["verdict"] == "delivered"}


@pytest.mark.parametrize(("proto", "port"), [("tcp", 8080), ("udp", 5353)])
def test_to_a_service(bare: Lab, hosts: Mapping[str, Host], version: int, proto: str, port: int) -> None:
    """A trace would name other providers than those that answer."""
    vip = of_family(version, VIP)
    found = trace(bare, "c1", vip, port, proto)
    assert found["verdict"] == "delivered"
    assert receivers(found) == set(hosts["c1"].who(proto, vip, port, 30))


def test_refusals_and_drops(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """A trace would call reachable what is not, or the other way round."""
    client = hosts["c1"]
    assert trace(bare, "c1", VIP, 9999)["verdict"] == "refused"
    with pytest.raises(ConnectionRefusedError):
        client.ask("tcp", VIP, 9999)
    assert trace(bare, "c1", "10.1.1.77", 80)["verdict"] == "asked", "its gateway looks for it"
    assert not client.reaches("tcp", "10.1.1.77", 80)
    assert trace(bare, "c1", VIP)["verdict"] == "answered"
    assert client.pings(VIP)
    assert receivers(trace(bare, "c1", "10.1.1.1", 80)) == {"w1"}
    assert client.who("tcp", "10.1.1.1", 80) == ["w1"]
    assert trace(bare, "c1", wide(VIP), 9999)["verdict"] == "refused"
    assert trace(bare, "c1", wide("10.1.1.77"), 80)["verdict"] == "dropped"
    assert trace(bare, "c1", wide(VIP))["verdict"] == "answered"
    assert receivers(trace(bare, "c1", wide("10.1.1.1"), 80)) == {"w1"}


def test_a_client_that_is_remembered(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """Why a client always meets one provider could be found out only by reading the switch's flows."""
    assert receivers(trace(bare, "c1", STICKY, 8080)) == {"w1", "w2"}
    (name,) = hosts["c1"].who("tcp", STICKY, 8080)
    (other,) = set(hosts["c1"].who("tcp", wide(STICKY), 8080, 3))
    wait_for(lambda: receivers(trace(bare, "c1", wide(STICKY), 8080)) == {other}, "IPv6 to be remembered too")
    wait_for(lambda: receivers(trace(bare, "c1", STICKY, 8080)) == {name}, "the client to be remembered")
    steps = {step["table"]: step["text"] for step in trace(bare, "c1", STICKY, 8080)["steps"]}
    assert steps["sticky"] == f"20.1.1.1 went to {name} last"


def test_a_provider_without_a_link(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """A provider that the switch itself passes over would still be named."""
    port = hosts["w2"].port_name
    bare.instance.ip("link", "set", port, "down")
    try:
        wait_for(lambda: receivers(trace(bare, "c1", VIP, 8080)) == {"w1"}, "the trace to pass over w2")
        (text,) = [s["text"] for s in trace(bare, "c1", VIP, 8080)["steps"] if s["table"] == "balance"]
        assert text.endswith("the one provider: w1 10.1.1.1 (weight 1, 100 %); not w2 (its port is down)")
    finally:
        bare.instance.ip("link", "set", port, "up")
    wait_for(lambda: receivers(trace(bare, "c1", VIP, 8080)) == {"w1", "w2"}, "the trace to name w2 again")


def test_the_command(bare: Lab, hosts: Mapping[str, Host], capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody would have all of this at hand."""
    assert main(["--netmaster", bare.controller.url, "trace", "--from", "c1", "--to", f"{VIP}:8080"]) == 0
    head, _, *steps, _, first, second, _, outcome = capsys.readouterr().out.splitlines()
    assert head == f"TCP from c1 (20.1.1.1, network default:cli) to {VIP}:8080, at switch {bare.dpid}"
    assert [line.split()[0] for line in steps] == [
        "neighbour", "classify", "guard", "service", "balance", "route", "reply", "deliver",
    ]  # fmt: skip
    unknown = "unknown: it is not on a host with an agent, so its routes are not known"
    assert (first, second) == (f"reply from w1: {unknown}", f"reply from w2: {unknown}")
    assert outcome.startswith("delivered to one of 2: w1 10.1.1.1:80 at port ")
    assert main(["--netmaster", bare.controller.url, "trace", "--from", "nobody", "--to", VIP]) == 3
    assert capsys.readouterr().err.startswith("from nobody: no container or endpoint of this name or id")
    with pytest.raises(Refused, match="must be an IPv4 or IPv6 address"):
        trace(bare, "c1", "app", 80)
