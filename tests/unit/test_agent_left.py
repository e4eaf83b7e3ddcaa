"""A network that its user removes from Docker, and that the model keeps: for a VIP in it, or for another host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netctl.agent.memory import Memory
from netctl.agent.state import Pending, State
from tests.unit.agent_kit import FakeController, wait_for
from tests.unit.test_agent_networks import World, doc, follow

KEPT = "cannot delete mine: service shop has its VIP in it"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(FakeController(monkeypatch), tmp_path)


def removed(world: World) -> None:
    """A user has made the network ``mine`` and has removed it; the model keeps it."""
    network_id = world.user_network("mine")
    world.registry.register(network_id)
    wait_for(lambda: "default:mine" in world.controller.networks, "the registration")
    world.networks.apply("default:mine", doc("mine", "10.9.0.0/24"))
    world.controller.refuse["delete_network"] = KEPT
    world.docker.items.clear()
    world.registry.destroyed(network_id)
    wait_for(lambda: "delete_network" in world.controller.calls, "the withdrawal")


def again(world: World, subnet: str = "10.9.0.0/24") -> str:
    """The user makes it again. Returns Docker's id."""
    network_id = world.user_network("mine", subnet)
    unnamed = replace(world.state.networks[network_id], name="", network="")  # as CreateNetwork tells it
    world.state.set_network(unnamed)
    world.registry.register(network_id)
    return network_id


def test_its_name_stays_free_in_docker(world: World) -> None:
    """`docker-compose down` and `up` would fail: Compose finds another network under the name of its own."""
    removed(world)
    world.networks.reconcile()
    assert world.names() == []
    network_id = again(world)
    wait_for(lambda: network_id not in world.state.pending, "the model's network to be taken up")
    world.networks.reconcile()
    assert list(world.docker.items) == [network_id]
    assert not world.state.left


def test_one_without_a_subnet_of_its_own_comes_back_as_it_was(world: World) -> None:
    """Made again it would get another subnet, and no container in it could start as long as the VIP is in the old."""
    item = world.docker.user_network("mine", "172.20.0.0/16")
    item["IPAM"] |= {"Driver": "default"}
    item["Labels"] = {"com.docker.compose.network": "mine"}
    world.know(item)
    world.registry.register(item["Id"])
    wait_for(lambda: "default:mine" in world.controller.networks, "the registration")
    world.networks.apply("default:mine", doc("mine", "172.20.0.0/16"))
    world.controller.refuse["delete_network"] = KEPT
    world.docker.items.clear()
    world.registry.destroyed(item["Id"])
    wait_for(lambda: world.names() == ["mine"], "the network to be back")
    (back,) = world.docker.items.values()
    assert (back["Labels"], back["IPAM"]["Driver"], back["Options"]) == (item["Labels"], "default", {})


def test_made_again_in_another_form_it_is_refused(world: World) -> None:
    """Its containers would get addresses of a subnet that the switch does not have, or the network be replaced."""
    removed(world)
    world.controller.refuse["put_network"] = "Cant change network parameters after its created: subnet"
    network_id = again(world, "10.8.0.0/24")
    wait_for(lambda: world.state.pending[network_id].refusal, "the refusal")
    world.networks.reconcile()
    assert list(world.docker.items) == [network_id]
    assert world.state.pending[network_id] == Pending("Cant change network parameters after its created: subnet")


def test_removed_and_made_again_at_once(world: World) -> None:
    """The withdrawal of the old network would take the new one away."""
    network_id = world.user_network("mine")
    world.registry.register(network_id)
    wait_for(lambda: "default:mine" in world.controller.networks, "the registration")
    world.networks.apply("default:mine", doc("mine", "10.9.0.0/24"))
    world.docker.items.clear()
    world.registry.destroyed(network_id)
    made = again(world)
    wait_for(lambda: world.controller.calls.count("put_network") == 2, "the second registration")
    world.networks.apply("default:mine", None)  # the change stream tells of the withdrawal when it is over
    world.networks.apply("default:mine", doc("mine", "10.9.0.0/24"))
    assert list(world.docker.items) == [made]
    assert "default:mine" in world.controller.networks
    assert not world.state.pending


def test_several_removed_at_once(world: World) -> None:
    """`docker network prune` would bring back what nobody needs, while it brings back what a VIP needs."""
    world.state.model = {"default:a": doc("a"), "default:b": doc("b", "10.2.0.0/24")}

    def made(item: dict[str, Any]) -> None:
        world.know(item)
        world.state.model.pop("default:b", None)  # the change stream tells that it is withdrawn

    world.docker.made = made
    world.networks.reconcile()
    assert world.names() == ["a"]


def test_it_goes_when_nothing_needs_it_any_more(world: World) -> None:
    """A network that its user removed would stay in netctl for ever, and its subnet be taken."""
    removed(world)
    del world.controller.refuse["delete_network"]
    follow(
        world,
        ("network", "default:mine", doc("mine", "10.9.0.0/24")),
        ("sync", "", None),
        ("service", "default:shop", None),
    )
    wait_for(lambda: "default:mine" not in world.controller.networks, "the withdrawal")
    assert not world.state.left


def test_a_new_agent_knows_it(world: World, tmp_path: Path) -> None:
    """After a restart of the agent the name would be taken again."""
    removed(world)
    wait_for(lambda: world.controller.calls.count("delete_network"), "the withdrawal")
    memory = Memory(tmp_path, world.state)
    memory.save()
    fresh = State("host")
    Memory(tmp_path, fresh).load()
    assert fresh.left == {"default:mine"}


def test_the_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """After an update the agent would not know its networks while Docker starts its containers."""
    network = '{"id": "n1", "name": "a", "tenant": "default", "network": "a", "subnet": "10.1.0.0/24"}'
    (tmp_path / "agent-networks.json").write_text(f"[{network}]")
    state = State("host")
    Memory(tmp_path, state).load()
    assert [n.key for n in state.networks.values()] == ["default:a"]
