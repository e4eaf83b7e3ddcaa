"""What is stored of hosts and of tags on links. If these fail, a drained host fills again, or networks get mixed up."""

from __future__ import annotations

from tests.kit.docs import host_doc, network_doc, replace
from tests.unit.modelkit import APP, WEB1, Door, furnished
from topology.allocate import LIMITS


def test_a_drained_host_stays_drained() -> None:
    """Its agent's next registration, or a restart of the controller, must not send it new connections."""
    door = furnished()
    door.commands.put_host(host_doc("h1", 1))
    endpoint = door.commands.put_endpoint(replace(WEB1, host="h1"))
    service = door.model.services[f"{APP['tenantName']}:{APP['serviceName']}"]
    assert door.model.serves(endpoint, service)
    door.commands.drain_host("h1", True)
    began = door.model.hosts["h1"].draining_since
    door.clock.now += 5
    door.commands.put_host(host_doc("h1", 1, "192.0.2.1", "2"))
    door.commands.drain_host("h1", True)
    again = door.reopened()
    for model in (door.model, again.model):
        assert (model.hosts["h1"].draining, model.hosts["h1"].draining_since) == (True, began)
        assert endpoint.alive and not model.serves(endpoint, service)
        assert model.providers(service) == [endpoint]
    door.commands.drain_host("h1", False)
    assert door.model.serves(endpoint, service)


def test_a_tunnel_address_is_one_hosts() -> None:
    """Two hosts with one would get each other's packets. One that was let go can be had by another."""
    door = furnished()
    door.commands.put_host(host_doc("h1", 1, "192.0.2.1"))
    found = door.model.by_tunnel(door.commands.put_host(host_doc("h1", 1, "192.0.2.1")).tunnel_address)  # type: ignore[arg-type]
    assert found == door.model.hosts["h1"]
    door.commands.put_host(host_doc("h1", 1, "192.0.2.2"))
    door.commands.put_host(host_doc("h2", 2, "192.0.2.1"))
    door.commands.delete_host("h1")
    door.commands.put_host(host_doc("h3", 3, "192.0.2.2"))


def test_tags_on_links_run_out_and_come_back() -> None:
    """More networks than there are tags still can be made; who has waited longest gets the first one that is free."""
    door = Door()
    door.commands._pools["vlan"].limit = 3  # as if all others were taken
    for number in range(5):
        door.commands.put_network(network_doc("default", f"n{number}", f"10.{number}.0.0/24"))

    def tags(some: Door) -> list[int]:
        return [network.vlan for network in some.model.networks.values()]

    assert tags(door) == [1, 2, 3, 0, 0]
    door.commands.delete_network("default:n1")
    assert {n.name: n.vlan for n in door.model.networks.values()} == {"n0": 1, "n2": 3, "n3": 2, "n4": 0}
    assert sorted(tags(door.reopened())) == [1, 2, 3, 4], "a start gives to those that have none"
    assert LIMITS["vlan"] == 4094
