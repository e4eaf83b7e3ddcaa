"""Docker's networks and the model's: each follows the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from netctl.agent import networks as module
from netctl.agent.docker_api import Docker, network_of
from netctl.agent.memory import Memory
from netctl.agent.networks import Networks
from netctl.agent.registry import Registry, document
from netctl.agent.state import LocalEndpoint, Pending, State
from netctl.agent.sync import Synchroniser
from netctl.client import Client
from tests.unit.agent_kit import URL, FakeClient, FakeController, FakeDocker, wait_for
from topology.documents import StreamNetworkDoc


class World:
    """A host's networks, with its Docker and its controller."""

    def __init__(self, controller: FakeController, directory: Path) -> None:
        self.controller = controller
        self.docker = FakeDocker()
        self.docker.made = self.know
        self.state = State("host")
        self.state.update(listed=True, followed=True)
        sync = Synchroniser(URL, self.state, lambda: None)
        docker = cast(Docker, self.docker)
        self.registry = Registry(URL, self.state, docker, sync, Memory(directory, self.state))
        self.networks = Networks(URL, self.state, docker, sync, self.registry)
        self.registry.refused_withdrawal = self.networks.reconcile
        self.registry.start()

    def know(self, item: dict[str, Any]) -> None:
        """What CreateNetwork does."""
        network = network_of(item, "netctl")
        assert network is not None
        self.state.set_network(network)

    def names(self) -> list[str]:
        return sorted(item["Name"] for item in self.docker.items.values())

    def user_network(self, name: str, subnet: str = "10.9.0.0/24") -> str:
        """A network of a user, as far as CreateNetwork gets it."""
        item = self.docker.user_network(name, subnet)
        self.know(item)
        self.state.pending[item["Id"]] = Pending()
        return str(item["Id"])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(FakeController(monkeypatch), tmp_path)


def doc(
    name: str = "net",
    subnet: str = "10.1.1.0/24",
    gateway: str = "",
    tenant: str = "default",
    *,
    subnet6: str = "",
    gateway6: str = "",
) -> StreamNetworkDoc:
    docker_name = name if tenant == "default" else f"{name}/{tenant}"
    return {
        "ipv6Subnet": subnet6,
        "ipv6Gateway": gateway6,
        "key": f"{tenant}:{name}",
        "tenantName": tenant,
        "networkName": name,
        "subnet": subnet,
        "gateway": gateway,
        "dockerName": docker_name,
    }


def test_a_network_comes_and_goes(world: World) -> None:
    """Else `docker run --net` does not find what `netctl net create` made, or finds what was removed."""
    assert world.networks.apply("default:net", doc(gateway="10.1.1.254")) == {}
    assert world.networks.apply("blue:net", doc(tenant="blue")) == {}
    assert world.names() == ["net", "net/blue"]
    assert world.networks.apply("default:net", doc(gateway="10.1.1.254")) == {}
    assert world.networks.apply("default:net", None) == {}
    assert world.networks.apply("default:net", None) == {}
    assert world.names() == ["net/blue"]


def test_what_docker_cannot_do_is_reported(world: World) -> None:
    """Else `netctl net create` says it is done, and the host does not have the network."""
    world.docker.user_network("net", "10.1.1.0/24", driver="bridge")
    assert world.networks.apply("default:net", doc()) == {"default:net": 'Docker has another network called "net"'}
    world.docker.away = True
    assert world.networks.apply("default:two", doc("two")) == {"default:two": "Docker does not answer"}
    world.docker.away = False
    assert world.networks.reconcile() == {"default:net": 'Docker has another network called "net"'}
    assert world.names() == ["net", "two"]


def test_reconciling_makes_what_is_missing_and_removes_what_is_not_used(world: World) -> None:
    """Else changes made while the agent was away are never carried out."""
    world.networks.apply("default:old", doc("old"))
    world.networks.apply("default:changed", doc("changed", "10.2.0.0/24"))
    world.state.model = {"default:new": doc("new"), "default:changed": doc("changed", "10.3.0.0/24")}
    assert world.networks.reconcile() == {}
    assert world.names() == ["changed", "new"]
    subnets = {i["Name"]: i["IPAM"]["Config"][0]["Subnet"] for i in world.docker.items.values()}
    assert subnets["changed"] == "10.3.0.0/24"
    assert world.networks.reconcile() == {}


@pytest.mark.parametrize("gateway6", ["", "fd01::fe"])
def test_a_network_with_ipv6(world: World, gateway6: str) -> None:
    """Else its containers have no IPv6, or lose it at the agent's restart."""
    world.state.model = {"default:net": doc(subnet6="fd01::/64", gateway6=gateway6)}
    assert world.networks.reconcile() == {}
    (made,) = world.docker.items.values()
    assert made["EnableIPv6"]
    assert made["IPAM"]["Config"][1].get("Gateway", "") == gateway6
    known = world.state.networks[made["Id"]]
    world.state.set_network(replace(known, gateway6=None))  # as Docker lists one that our IPAM driver chose
    assert world.networks.reconcile() == {}
    assert world.state.networks == {known.id: known}
    world.state.model = {"default:net": doc(subnet6="fd02::/64", gateway6=gateway6.replace("fd01", "fd02"))}
    assert world.networks.reconcile() == {}
    (made,) = world.docker.items.values()
    assert made["IPAM"]["Config"][1]["Subnet"] == "fd02::/64"
    world.state.model = {"default:net": doc()}
    assert world.networks.reconcile() == {}
    (made,) = world.docker.items.values()
    assert not made.get("EnableIPv6")
    assert len(made["IPAM"]["Config"]) == 1


def test_an_internal_network(world: World) -> None:
    """Else Docker gives containers of a closed network a way out, or one that a user made is open in the switch."""
    world.networks.apply("default:net", {**doc(), "internal": True})
    (made,) = world.docker.items.values()
    assert made["Internal"] is True
    assert document(world.state.networks[made["Id"]])["internal"] is True
    assert world.networks.reconcile() == {}
    assert [item["Id"] for item in world.docker.items.values()] == [made["Id"]], "it was right already"


def test_an_internal_network_of_an_earlier_version(world: World) -> None:
    """Without it, an upgrade opens a network that Docker's user has closed, or takes it away."""
    item = world.docker.user_network("mine", "10.9.0.0/24")
    item["Internal"] = True
    world.know(item)
    world.state.model = {"default:mine": doc(subnet="10.9.0.0/24", gateway="10.9.0.1", name="mine")}
    assert world.networks.reconcile() == {}
    wait_for(lambda: world.controller.networks.get("default:mine", {}).get("internal") is True, "the report")
    assert [found["Id"] for found in world.docker.items.values()] == [item["Id"]]


def test_a_users_network_with_ipv6_is_registered(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Else the model has it without its IPv6, or the user wonders where the subnet has gone."""
    item = world.docker.user_network("mine", "10.9.0.0/24")
    item["IPAM"]["Config"] += [{"Subnet": "fd09::/64", "Gateway": "fd09::1/64"}]
    for enabled, found in ((True, ("fd09::/64", "fd09::1")), (False, (None, None))):
        item["EnableIPv6"] = enabled
        world.know(item)
        world.registry.register(item["Id"])
        wait_for(lambda: "default:mine" in world.controller.networks, "the registration")
        known = world.controller.networks.pop("default:mine")
        assert (known.get("ipv6Subnet"), known.get("ipv6Gateway")) == found
        line = "network default:mine: subnet fd09::/64 is not used: Docker was not told --ipv6"
        assert (line in caplog.text) is not enabled


def test_nothing_is_removed_before_both_sides_are_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an agent that starts before its controller removes every network."""
    world.networks.apply("default:net", doc())
    world.state.model = {}
    world.state.update(followed=False)
    world.networks.reconcile()
    world.state.update(followed=True, listed=False)
    monkeypatch.setattr(module, "LISTING_TIMEOUT", 0.01)
    world.networks.reconcile()
    line = "Docker has not answered since netctl-agent was started"
    assert world.networks.apply("default:x", doc("x")) == {"default:x": line}
    assert world.names() == ["net"]


def test_docker_that_hangs_is_not_asked_for_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that follows would wait behind a daemon that is known to hang, and the user be told nothing."""
    line = "Docker does not answer at unix:///docker.sock: no answer within 3 s"
    world.state.troubles.say("docker", {"docker": line})
    world.docker.away = True
    monkeypatch.setattr(world.docker, "create_network", lambda *_: pytest.fail("Docker was asked"))
    assert world.networks.apply("default:n1", doc("n1")) == {"default:n1": "Docker does not answer"}
    monkeypatch.undo()
    world.docker.away = False  # and as soon as it answers, whatever was found before
    assert world.networks.apply("default:n1", doc("n1")) == {}
    assert world.names() == ["n1"]


def test_docker_that_was_never_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would be told that there is no answer, and not why: that nothing is installed, or permission denied."""
    monkeypatch.setattr(module, "LISTING_TIMEOUT", 0.01)
    world.state.listed = False
    world.state.model["default:n1"] = doc("n1")
    line = "Docker does not answer at unix:///docker.sock: No such file or directory"
    world.state.troubles.say("docker", {"docker": line})
    assert world.networks.apply("default:n1", doc("n1")) == {"default:n1": line}
    assert world.networks.reconcile() == {"default:n1": line}


def test_a_network_in_use_that_the_model_lost_is_put_back(world: World) -> None:
    """Else a controller with a new store cuts every running container off."""
    world.networks.apply("default:net", doc())
    (network,) = world.state.networks.values()
    world.state.put_endpoint(LocalEndpoint("e" * 64, network.id, IPv4Address("10.1.1.1"), "02:42:0a:01:01:01"))
    world.state.model = {}
    world.networks.reconcile()
    wait_for(lambda: "default:net" in world.controller.networks, "the network to be in the model again")
    assert world.names() == ["net"]


def test_a_users_network_is_registered_and_withdrawn(world: World) -> None:
    """Else networks of `docker network create` are unknown to netctl, or stay after `docker network rm`."""
    network_id = world.user_network("my_net")
    world.registry.register(network_id)
    wait_for(lambda: "default:my_net" in world.controller.networks, "the registration")
    world.networks.apply("default:my_net", doc("my_net", "10.9.0.0/24"))
    assert world.names() == ["my_net"]  # not made a second time
    assert not world.state.pending
    world.docker.items.clear()
    world.registry.destroyed(network_id)
    wait_for(lambda: not world.controller.networks, "the withdrawal")


def test_a_registration_that_is_refused(world: World) -> None:
    """Else the reason is in no place where the user looks."""
    world.controller.refuse["put_network"] = "network x conflicts with subnet 10.9.0.0/24"
    network_id = world.user_network("mine")
    world.registry.register(network_id)
    wait_for(lambda: world.state.pending[network_id].refusal, "the refusal")
    assert world.state.pending[network_id].refusal == "network x conflicts with subnet 10.9.0.0/24"


def test_a_registration_waits_for_the_controller(world: World) -> None:
    """Else a network made a second before the controller's restart is removed as unknown."""
    world.controller.away = True
    network_id = world.user_network("mine")
    world.registry.register(network_id)
    world.controller.away = False
    world.networks.reconcile()
    wait_for(lambda: "default:mine" in world.controller.networks, "the registration")
    assert world.names() == ["mine"]


def test_what_the_agent_removes_itself_is_not_withdrawn(world: World) -> None:
    """Else a network deleted and made again at once is deleted a second time."""
    world.networks.apply("default:net", doc())
    (network_id,) = world.docker.items
    world.controller.networks["default:net"] = doc()
    world.networks.apply("default:net", None)
    world.registry.destroyed(network_id)
    world.registry.register("0" * 64)
    assert "delete_network" not in world.controller.calls


def test_a_withdrawal_that_is_refused_gives_docker_the_network_back(world: World) -> None:
    """Else one host lacks a network that others use."""
    world.networks.apply("default:net", doc())
    (network_id,) = world.docker.items
    world.controller.refuse["delete_network"] = "Error: Network has active endpoints"
    world.docker.items.clear()
    world.registry.destroyed(network_id)
    wait_for(lambda: world.names() == ["net"], "the network to be back")


def test_a_network_that_docker_still_uses(world: World) -> None:
    """Else the agent forgets a network that is still there."""
    world.networks.apply("default:net", doc())
    world.docker.busy = set(world.docker.items)
    assert world.networks.apply("default:net", None) == {"default:net": "network has active endpoints"}
    assert world.state.networks_of("default:net")
    world.docker.busy = set()
    world.networks.reconcile()
    assert world.names() == []


class Lines:
    """A change stream that ends."""

    def __init__(self, *lines: tuple[str, str, Any]) -> None:
        self._lines = lines

    def changes(self, host: str) -> Iterator[dict[str, Any]]:
        for kind, key, value in self._lines:
            yield {"revision": 7, "kind": kind, "key": key, "object": value}


def follow(world: World, *lines: tuple[str, str, Any]) -> None:
    client = FakeClient(world.controller)
    for _ in world.networks._follow(cast(Client, Lines(*lines)), cast(Client, client)):
        pass


def test_what_is_told_meanwhile_does_not_promise_a_network(world: World) -> None:
    """`net create` would return before Docker has the network, and succeed where Docker then refuses it."""

    def made(item: dict[str, Any]) -> None:
        world.know(item)
        world.networks.troubles_changed()  # another part of the agent finds something wrong just now

    world.docker.made = made
    follow(world, ("network", "default:n1", doc("n1")), ("sync", "", None))
    assert [revision for revision, _ in world.controller.applied] == [0, 7]


def service(**fields: Any) -> dict[str, Any]:
    return {"tenantName": "default", "serviceName": "a", "healthCheck": {"protocol": "tcp"}, **fields}


def test_services_that_have_a_check_are_followed(world: World) -> None:
    """Else a check that is asked for is never run, or one that is gone is run for ever."""
    follow(world, ("service", "default:old", service()), ("sync", "", None))
    assert set(world.state.services) == {"default:old"}
    follow(
        world,
        ("service", "default:a", service()),
        ("sync", "", None),
        ("service", "default:b", service()),
        ("service", "default:plain", service(healthCheck={})),
    )
    assert set(world.state.services) == {"default:a", "default:b"}
    follow(world, ("service", "default:x", service()))  # cut off: no picture
    assert set(world.state.services) == {"default:a", "default:b"}
    gone = (("service", "default:a", None), ("service", "default:b", service(healthCheck={})))
    follow(world, *(("service", f"default:{n}", service()) for n in "ab"), ("sync", "", None), *gone)
    assert not world.state.services


def test_a_verdict_that_the_model_does_not_have_is_told_again(world: World) -> None:
    """Else a provider stays out of its service though it passes."""
    world.state.put_endpoint(LocalEndpoint("e1", "n", IPv4Address("10.1.1.1"), ""))
    world.state.verdicts["e1"] = {"default:a": True, "default:b": False}
    for passed, told in ((["default:a"], set()), ([], {"e1"}), (["default:a", "default:b"], {"e1"})):
        world.state.untold.clear()
        follow(world, ("endpoint", "e1", {"passed": passed}), ("endpoint", "other", {"passed": []}))
        assert world.state.untold == told


def test_the_tenants_are_known(world: World) -> None:
    """Else connections of a tenant are forgotten after Open vSwitch's own times, not after those of the options."""
    assert world.state.tenants is None, "what there is in the switch stays until they are known"
    picture = (("tenant", "default", {"number": 1}), ("tenant", "blue", {"number": 2}), ("sync", "", None))
    follow(world, *picture, ("tenant", "red", {"number": 3}), ("tenant", "blue", None))
    assert world.state.tenants == {"default": 1, "red": 3}
    follow(world, *picture, ("tenant", "wrong", {"number": 0x8000}), ("tenant", "none", {}))
    assert world.state.tenants == {"default": 1, "blue": 2}


def test_the_other_hosts_are_known(world: World) -> None:
    """Else the switch learns how to reach another host from the first packet to it, which is lost."""

    def host(address: str) -> dict[str, Any]:
        return {"tunnelAddress": address} if address else {}

    def peers() -> dict[str, str]:
        return {name: str(address) for name, address in world.state.peers.items()}

    looked: list[int] = []
    world.networks.switch_changed = lambda: looked.append(len(peers()))
    picture = (("host", "host", host("192.0.2.1")), ("host", "b", host("192.0.2.2")), ("host", "c", host("")))
    follow(world, *picture, ("sync", "", None), ("host", "c", host("192.0.2.3")))
    assert peers() == {"b": "192.0.2.2", "c": "192.0.2.3"}, "not itself"
    assert looked == [1, 2], "at once"
    follow(world, *picture, ("sync", "", None))
    assert peers() == {"b": "192.0.2.2"}, "what it missed meanwhile"
    follow(world, *picture, ("sync", "", None), ("host", "b", None))
    assert peers() == {}
