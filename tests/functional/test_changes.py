"""Services, providers and ports come and go, in any order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

WEB = {"tier": "web"}
PORTS = ["tcp:80", "udp:53"]


@pytest.fixture(scope="module")
def networks(bare: Lab) -> Lab:
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    bare.host("c1", "cli", "20.1.1.1")
    return bare


@pytest.fixture
def client(networks: Lab) -> Iterator[Host]:
    """A client; what the test makes of services and registers of endpoints is gone afterwards."""
    host = Host("c1", networks.instance, networks.bridge, "20.1.1.1/24", "20.1.1.254")
    yield host
    for service in networks.rest.services():
        networks.rest.delete_service(f"default:{service['serviceName']}")
    for endpoint in networks.rest.endpoints():
        if endpoint["endpointID"] != "c1":
            networks.rest.delete_endpoint(endpoint["endpointID"])


@pytest.fixture(scope="module")
def hosts(networks: Lab) -> Mapping[str, Host]:
    """Three hosts of the provider network, plugged in and serving, but not registered."""
    return {n: networks.host(n, "web", f"10.1.1.{n[1]}", serve=PORTS, register=False) for n in ("w1", "w2", "w3")}


def service(lab: Lab, name: str = "app") -> str:
    return lab.service(name, "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"])


def names(client: Host, vip: str) -> set[str]:
    """Who answers, over both protocols."""
    return {*client.who("tcp", vip, 8080, 20), *client.who("udp", vip, 53, 20)}


def answered_by(client: Host, vip: str, wanted: set[str]) -> None:
    """Wait until new connections go to these and no others: the switch itself may take half a second."""

    def same() -> bool:
        with contextlib.suppress(OSError):
            return names(client, vip) == wanted
        return False

    wait_for(same, f"answers from {wanted}")


def test_the_service_first(networks: Lab, client: Host, hosts: Mapping[str, Host]) -> None:
    """Containers started after their service would not be behind it."""
    vip = service(networks)
    assert not client.reaches("tcp", vip, 8080)
    assert client.pings(vip)
    for name, so_far in (("w1", {"w1"}), ("w2", {"w1", "w2"}), ("w3", {"w1", "w2", "w3"})):
        hosts[name].register(networks.rest, "web", WEB)
        answered_by(client, vip, so_far)


def test_the_providers_first(networks: Lab, client: Host, hosts: Mapping[str, Host]) -> None:
    """A service made after its containers would have none."""
    for host in hosts.values():
        host.register(networks.rest, "web", WEB)
    assert client.ask("tcp", "10.1.1.1", 80).split()[0] == "w1"

    answered_by(client, service(networks), {"w1", "w2", "w3"})


def test_providers_come_and_go_beside_open_connections(
    networks: Lab, client: Host, hosts: Mapping[str, Host]
) -> None:
    """A deployment would cut connections of providers that it does not touch, or leave a dead one in the service."""
    hosts["w1"].register(networks.rest, "web", WEB)
    vip = service(networks)
    answered_by(client, vip, {"w1"})
    with client.connect("tcp", vip, 8080) as tcp, client.connect("udp", vip, 53) as udp:

        def still_served() -> None:
            assert {ask_again(tcp).split()[0], ask_again(udp).split()[0]} == {"w1"}

        still_served()
        for name in ("w2", "w3"):
            hosts[name].register(networks.rest, "web", WEB)
            still_served()
        answered_by(client, vip, {"w1", "w2", "w3"})
        networks.rest.delete_endpoint("w2")
        still_served()
        answered_by(client, vip, {"w1", "w3"})
        hosts["w3"].register(networks.rest, "web", WEB, state="stopped")
        answered_by(client, vip, {"w1"})
        hosts["w3"].register(networks.rest, "web", WEB, health="unhealthy")
        answered_by(client, vip, {"w1"})
        assert client.ask("tcp", "10.1.1.3", 80).split()[0] == "w3", "straight to it"
        hosts["w3"].register(networks.rest, "web", WEB, health="healthy")
        answered_by(client, vip, {"w1", "w3"})
        hosts["w3"].register(networks.rest, "web", {"tier": "db"})
        answered_by(client, vip, {"w1"})
        still_served()


def test_none_left_and_one_again(networks: Lab, client: Host, hosts: Mapping[str, Host]) -> None:
    """A service would not come back when its last provider does."""
    vip = service(networks)
    for _ in range(2):
        hosts["w1"].register(networks.rest, "web", WEB)
        answered_by(client, vip, {"w1"})
        networks.rest.delete_endpoint("w1")
        wait_for(lambda: not client.reaches("tcp", vip, 8080), "nobody to answer")


def test_a_service_goes_without_a_trace(networks: Lab, client: Host, hosts: Mapping[str, Host]) -> None:
    """Deleted services would fill the switch, or one made anew inherit from them."""
    hosts["w1"].register(networks.rest, "web", WEB)
    before = networks.contents()
    vip = service(networks)
    assert networks.contents() != before
    answered_by(client, vip, {"w1"})

    networks.rest.delete_service("default:app")

    assert networks.contents() == before
    assert client.ask("tcp", "10.1.1.1", 80).split()[0] == "w1"
    answered_by(client, service(networks), {"w1"})


def test_two_services_share_a_provider_and_one_goes(networks: Lab, client: Host, hosts: Mapping[str, Host]) -> None:
    """Deleting a service would break another that has the same containers."""
    hosts["w1"].register(networks.rest, "web", WEB)
    vip, other = service(networks), service(networks, "other")
    with client.connect("tcp", other, 8080) as connection:
        assert ask_again(connection).split()[0] == "w1"
        networks.rest.delete_service("default:app")
        wait_for(lambda: not client.reaches("tcp", vip, 8080), "the VIP to be gone")
        assert ask_again(connection).split()[0] == "w1"
        answered_by(client, other, {"w1"})


def test_a_service_changes(networks: Lab, client: Host, hosts: Mapping[str, Host]) -> None:
    """New ports or selectors of a service would not take effect, or the old ones stay open."""
    hosts["w1"].register(networks.rest, "web", WEB)
    hosts["w2"].register(networks.rest, "web", {"tier": "db"})
    vip = service(networks)
    answered_by(client, vip, {"w1"})

    assert networks.service("app", "srv", ["9090:80:TCP", "53:53:UDP"], ["tier=web"]) == vip

    wait_for(lambda: client.reaches("tcp", vip, 9090) and not client.reaches("tcp", vip, 8080), "the other port")
    networks.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=db"])
    answered_by(client, vip, {"w2"})
