"""Port names come from REST and port numbers from the switch, in any order, and numbers change."""

from __future__ import annotations

import pytest

from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

WEB = {"tier": "web"}


@pytest.fixture(scope="module")
def vip(bare: Lab) -> str:
    """A service with one provider, and a client."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    bare.host("c1", "cli", "20.1.1.1")
    bare.host("w1", "web", "10.1.1.1", WEB, serve=["tcp:80"])
    return bare.service("app", "srv", ["8080:80:TCP"], ["tier=web"])


@pytest.fixture
def client(bare: Lab, vip: str) -> Host:
    return Host("c1", bare.instance, bare.bridge, "20.1.1.1/24", "20.1.1.254")


def reached(client: Host, vip: str, name: str, address: str) -> None:
    """Wait until a provider is reached, straight and as one of the service's."""
    wait_for(lambda: client.reaches("tcp", address, 80), f"{name} to be reached")
    wait_for(lambda: client.pings(address), f"{name} to answer pings")
    wait_for(lambda: name in client.who("tcp", vip, 8080, 10), f"{name} to be selected")


def test_plugged_in_after_it_is_registered(bare: Lab, client: Host, vip: str) -> None:
    """A container whose agent is faster than its switch would never be reached."""
    late = Host("w2", bare.instance, bare.bridge, "10.1.1.2/24", "10.1.1.254")
    try:
        late.start()
        late.serve("tcp:80")
        late.register(bare.rest, "web", WEB)
        assert not client.reaches("tcp", late.ip, 80)

        late.plug()

        reached(client, vip, "w2", late.ip)
        late.unplug()
        wait_for(lambda: client.answered_by({"w1"}, vip, 8080, 10), "the unplugged one to be passed over")
        wait_for(lambda: bare.settled()["errors"] == {}, "a settled switch")
    finally:
        bare.rest.delete_endpoint("w2")
        late.close()


def test_plugged_in_before_it_is_registered(bare: Lab, client: Host, vip: str) -> None:
    """A container whose switch is faster than its agent would never be reached."""
    early = bare.host("w3", "web", "10.1.1.3", serve=["tcp:80"], register=False)
    assert client.reaches("tcp", early.ip, 80), "its gateway finds it"
    assert not client.answered_by({"w3"}, vip, 8080, 1), "nobody has given it labels yet"

    early.register(bare.rest, "web", WEB)

    reached(client, vip, "w3", early.ip)
    bare.rest.delete_endpoint("w3")


def test_another_number(bare: Lab, client: Host, vip: str) -> None:
    """A port that was taken out and put in again would get another's packets, or none."""
    moving = bare.host("w4", "web", "10.1.1.4", WEB, serve=["tcp:80"])
    reached(client, vip, "w4", moving.ip)
    old = moving.number

    moving.unplug()
    assert moving.plug(number=old + 10) == old + 10

    reached(client, vip, "w4", moving.ip)
    assert not any(f.match.startswith(f"in_port={old},") for f in bare.flows())
    bare.rest.delete_endpoint("w4")


def test_a_number_that_another_had(bare: Lab, client: Host, vip: str) -> None:
    """Packets for a container that has gone would reach the one that got its port number."""
    first = bare.host("w5", "web", "10.1.1.5", WEB, serve=["tcp:80"])
    second = bare.host("w6", "web", "10.1.1.6", WEB, serve=["tcp:80"])
    reached(client, vip, "w5", first.ip)
    reached(client, vip, "w6", second.ip)
    numbers = first.number, second.number

    # in one transaction: the switch tells of both changes at once
    swap = ["--", "add-port", bare.bridge, first.port_name, "--", "set", "interface", first.port_name]
    swap += [f"ofport_request={numbers[1]}", "--", "add-port", bare.bridge, second.port_name, "--"]
    swap += ["set", "interface", second.port_name, f"ofport_request={numbers[0]}"]
    bare.instance.vsctl("del-port", first.port_name, "--", "del-port", second.port_name)
    bare.instance.vsctl(*swap[1:])

    assert (first.number, second.number) == (numbers[1], numbers[0])
    reached(client, vip, "w5", first.ip)
    reached(client, vip, "w6", second.ip)
    assert client.ask("tcp", first.ip, 80).split()[0] == "w5"
    assert client.ask("tcp", second.ip, 80).split()[0] == "w6"
