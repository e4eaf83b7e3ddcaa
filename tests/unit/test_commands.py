"""The write door, rule by rule: what each command makes of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.kit.docs import endpoint_doc, host_doc, network_doc, replace, service_doc
from tests.unit.modelkit import APP, SRV, WEB1, Door, furnished
from topology.commands import Commands
from topology.errors import Conflict
from topology.model import Change, Commit, Endpoint, Lease, Network, Service


def test_the_default_tenant_is_there_from_the_first_start() -> None:
    """`netctl net create` works without a tenant being made first; a restart doesn't write."""
    door = Door()
    assert door.model.tenants["default"].number == 1
    assert door.reopened().model.revision == door.model.revision == 1


def test_the_same_again_makes_no_revision() -> None:
    """A script that is run twice doesn't make every switch and agent work."""
    door = furnished()
    door.commands.put_host(host_doc("h1", 1))
    door.commands.put_endpoint(WEB1)
    revision = door.model.revision
    service = door.commands.put_service(APP)
    assert door.commands.put_service(replace(APP, ports=["80:8080:tcp"])) == service
    assert door.commands.put_network(SRV).name == "srv"
    assert door.commands.put_network(replace(SRV, pkt_tag=1, encap="vxlan", nw_type="data")).tag == 1
    door.commands.put_tenant("blue")
    door.commands.put_endpoint(WEB1)
    door.commands.put_host(host_doc("h1", 1))
    door.commands.sync_endpoints("h1", [])
    door.commands.check_network(network_doc("default", "n", "10.9.0.0/24"))
    assert door.model.revision == revision == len(door.commits) + 1


def test_tenants_may_overlap() -> None:
    """Two tenants use the same subnets and VIPs, and each gets its own numbers and tags."""
    door = furnished()
    door.commands.put_network(replace(SRV, tenant="blue"))
    service = door.commands.put_service(replace(APP, tenant="blue", ip_address="100.1.1.1"))
    assert service.vips == door.model.services["default:app"].vips
    assert [n.tag for n in door.model.networks.values()] == [1, 2, 3]


def test_tags_are_the_lowest_free_of_their_encapsulation() -> None:
    """A VLAN and a VXLAN network may have one number; a freed tag comes back."""
    door = furnished()
    put = door.commands.put_network
    assert put(network_doc("default", "v", "10.9.0.0/24", encap="vlan")).tag == 1
    assert put(network_doc("default", "x", "10.9.1.0/24", pkt_tag=20_000)).tag == 20_000
    door.commands.delete_network("default:web")
    assert put(network_doc("default", "y", "10.9.2.0/24")).tag == 2


def test_ports_that_stay_keep_their_numbers() -> None:
    """Open connections survive adding a port: the group of a port that stays is the same group."""
    door = furnished()
    before = door.model.services["default:app"]
    after = door.commands.put_service(replace(APP, ports=["443:8443:TCP", "80:8080:TCP", "80:8080:UDP"]))
    assert after.number == before.number
    assert after.ports[1] == before.ports[0]
    assert len({p.number for p in after.ports}) == 3
    door.commands.put_service(replace(APP, ports=["81:8080:TCP"]))
    again = door.commands.put_service(APP)
    assert again.ports[0].number > max(p.number for p in after.ports)


def test_a_vip_stays_unless_another_is_asked_for() -> None:
    """Clients keep their address when selectors or ports change."""
    door = furnished()
    door.commands.put_service(service_doc("default", "first", "srv"))
    door.commands.put_service(replace(APP, ip_address="100.1.1.77"))
    assert door.commands.put_service(replace(APP, selectors=["a=b"])).vips == (IPv4Address("100.1.1.77"),)
    moved = door.commands.put_service(replace(APP, network="web"))
    assert moved.vips == (IPv4Address("10.1.1.1"),)
    assert door.model.holder("default:srv", IPv4Address("100.1.1.77")) is None
    assert door.model.leases["default:srv:100.1.1.77"].released == door.clock.now


def test_a_deleted_name_starts_afresh() -> None:
    """Delete and create under one name: nothing of the old one comes back."""
    door = furnished()
    old = door.commands.delete_service("default:app")
    new = door.commands.put_service(APP)
    assert new.number != old.number
    assert new.ports[0].number != old.ports[0].number
    assert new.vips != old.vips


def test_a_grant_becomes_an_endpoint() -> None:
    """The address that Docker was given is the container's; the grant is used up."""
    door = furnished()
    lease = door.commands.grant("default", "web", "", "h1")
    assert door.model.holder("default:web", lease.address) == lease
    endpoint = door.commands.put_endpoint(replace(WEB1, addresses=[str(lease.address)], host="h1"))
    assert not door.model.leases
    assert door.model.holder("default:web", lease.address) == endpoint
    assert endpoint.mac == "02:42:0a:01:01:01"
    assert door.commands.release("default", "web", lease.address) is None
    assert door.model.endpoints


def test_a_grant_asked_for_again_is_the_same() -> None:
    """An agent whose answer was lost asks again, and gets the address it asked for."""
    door = furnished()
    first = door.commands.grant("default", "web", "10.1.1.9", "h1")
    revision = door.model.revision
    assert door.commands.grant("default", "web", "10.1.1.9", "h1") is first
    assert door.model.revision == revision


def test_a_released_grant_cools() -> None:
    """A container that failed to start leaves its address to others, a minute later."""
    door = furnished()
    lease = door.commands.grant("default", "web", None, "h1")
    released = door.commands.release("default", "web", str(lease.address))
    assert released == Lease("default", "web", lease.address, released=door.clock.now)
    assert door.commands.release("default", "web", str(lease.address)) is None
    assert door.model.leases_of_host("h1") == []


def test_an_endpoint_changed_keeps_what_is_not_asked_for() -> None:
    """A health event changes health, not the address, MAC or number."""
    door = furnished()
    first = door.commands.put_endpoint(replace(WEB1, addresses=["10.1.1.7", "10.1.1.8"], mac="02-42-00-00-00-07"))
    second = door.commands.put_endpoint(replace(WEB1, health="unhealthy"))
    assert second == replace(first, health="unhealthy")
    third = door.commands.put_endpoint(replace(WEB1, addresses=["10.1.1.8"]))
    assert third == replace(first, addresses=(IPv4Address("10.1.1.8"),))
    assert door.model.leases["default:web:10.1.1.7"].released is not None


def test_an_endpoint_that_changes_network_gets_a_new_address() -> None:
    """An address of the old network would not work in the new one."""
    door = furnished()
    door.commands.put_endpoint(WEB1)
    moved = door.commands.put_endpoint(replace(WEB1, network="srv"))
    assert (str(moved.addresses[0]), moved.mac) == ("100.1.1.2", "02:42:64:01:01:02")
    assert door.model.endpoints_of("default:web") == []


def test_sync_makes_it_exactly_so() -> None:
    """After an agent was away, containers that have gone are no providers any more, and new ones are."""
    door = furnished()
    commands = door.commands
    commands.put_endpoint(replace(WEB1, id="by-hand", host="h1"))
    commands.put_endpoint(replace(WEB1, id="elsewhere", host="h2", origin="agent"))
    commands.sync_endpoints("h1", [replace(WEB1, id="a"), replace(WEB1, id="b")])
    revision = door.model.revision
    found = commands.sync_endpoints("h1", [replace(WEB1, id="c"), replace(WEB1, id="b", state="paused")])
    assert door.model.revision == revision + 1
    assert [(e.id, e.host, e.origin, e.state) for e in found] == [
        ("c", "h1", "agent", "running"),
        ("b", "h1", "agent", "paused"),
    ]
    assert set(door.model.endpoints) == {"by-hand", "elsewhere", "b", "c"}


def test_sync_releases_grants_that_nobody_waits_for() -> None:
    """Addresses granted to containers that never came up don't stay away for ever."""
    door = furnished()
    kept, used, lost = (door.commands.grant("default", "web", None, "h1") for _ in range(3))
    other = door.commands.grant("default", "web", None, "h2")
    door.commands.sync_endpoints("h1", [replace(WEB1, addresses=[str(used.address)])], {kept.key})
    leases = door.model.leases
    assert leases[kept.key] == kept
    assert leases[other.key] == other
    assert used.key not in leases
    assert leases[lost.key].released == door.clock.now


def test_sync_may_hand_addresses_round() -> None:
    """Containers recreated with each other's addresses while the agent was away don't block each other."""
    door = furnished()
    a, b = (replace(WEB1, id=i, addresses=[f"10.1.1.{n}"]) for i, n in (("a", 1), ("b", 2)))
    door.commands.sync_endpoints("h1", [a, b])
    door.commands.sync_endpoints("h1", [replace(a, addresses=b["ipAddress"]), replace(b, addresses=a["ipAddress"])])
    assert {e.id: str(e.addresses[0]) for e in door.model.endpoints.values()} == {"a": "10.1.1.2", "b": "10.1.1.1"}
    assert not door.model.leases
    door.commands.sync_endpoints("h1", [replace(a, id="c")])
    assert str(door.model.endpoints["c"].addresses[0]) == "10.1.1.1"


def test_sync_does_not_give_one_address_twice() -> None:
    """An endpoint that names no address keeps its own, though it is lifted for a new MAC meanwhile."""
    door = furnished()
    door.commands.sync_endpoints("h1", [replace(WEB1, id="b")])
    before = door.state()
    thief = replace(WEB1, id="a", addresses=["10.1.1.1"], mac="02:00:00:00:00:02")
    with pytest.raises(Conflict, match="endpoint b: ipAddress 10"):
        door.commands.sync_endpoints("h1", [thief, replace(WEB1, id="b", mac="02:00:00:00:00:01")])
    assert door.state() == before


def _learn(commands: Commands, last: int, mac: str = "02:00:00:00:00:01", port: str = "p1") -> Endpoint | None:
    return commands.learn("default", "web", mac, f"10.1.1.{last}", 7, port)


def test_learned_hosts_move() -> None:
    """A host of Mininet is known from its ARP, and stays known when it is plugged in elsewhere."""
    door = furnished()
    first = _learn(door.commands, 5)
    assert first is not None
    assert (first.id, first.origin, first.switch) == ("learned-020000000001-2", "learned", 7)
    assert _learn(door.commands, 5) == first
    revision = door.model.revision
    moved = _learn(door.commands, 6, port="p2")
    assert moved == replace(first, port_name="p2", addresses=(IPv4Address("10.1.1.6"),))
    assert door.model.revision == revision + 1


def test_what_is_learned_takes_nothing_from_anybody() -> None:
    """A forged ARP doesn't move a VIP, a gateway, a container or an address about to be one."""
    door = furnished()
    commands = door.commands
    commands.put_endpoint(replace(WEB1, addresses=["10.1.1.5"]))
    commands.grant("default", "web", "10.1.1.6", "h1")
    commands.put_service(service_doc("default", "s", "web", "10.1.1.7"))
    assert _learn(commands, 8) is not None
    before = door.state()
    for last in (5, 6, 7, 254, 255, 0):
        assert _learn(commands, last, "02:00:00:00:00:02") is None
    assert _learn(commands, 8, "02:00:00:00:00:02") is None
    assert _learn(commands, 9, "02:42:0a:01:01:05") is None, "a container's MAC"
    assert _learn(commands, 9, "ff:ff:ff:ff:ff:ff") is None
    assert commands.learn("default", "web", "02:00:00:00:00:02", "10.9.9.9", 7, "p") is None
    assert commands.learn("default", "x", "02:00:00:00:00:02", "10.1.1.9", 7, "p") is None
    assert door.state() == before


def test_who_is_registered_goes_before_who_was_seen() -> None:
    """A host that was pinged before it was registered can be registered."""
    door = furnished()
    _learn(door.commands, 5)
    endpoint = door.commands.put_endpoint(replace(WEB1, addresses=["10.1.1.5"], mac="02:00:00:00:00:01"))
    assert list(door.model.endpoints.values()) == [endpoint]
    assert not door.model.leases


def test_a_network_goes_with_what_was_learned_and_granted() -> None:
    """`netctl net rm` is not stopped by hosts that were only seen; nothing of the network stays."""
    door = furnished()
    _learn(door.commands, 5)
    door.commands.grant("default", "web", None, "h1")
    door.commands.delete_network("default:web")
    assert not door.model.endpoints
    assert not door.model.leases
    assert door.model.space("default:web") is None
    assert door.reopened().model.space("default:web") is None


def test_a_host_goes_with_its_containers() -> None:
    """Providers of a dead host don't stay behind a VIP for ever."""
    door = furnished()
    door.commands.put_host(host_doc("h1", 1))
    door.commands.put_endpoint(replace(WEB1, host="h1"))
    door.commands.grant("default", "web", None, "h1")
    door.commands.put_endpoint(replace(WEB1, id="other", host="h2"))
    door.commands.delete_host("h1")
    assert set(door.model.endpoints) == {"other"}
    assert door.model.leases_of_host("h1") == []
    assert door.model.by_switch(1) is None


def test_subscribers_hear_commits_in_order() -> None:
    """A subscriber that writes doesn't make another hear of the later commit first."""
    door = furnished()
    heard: list[int] = []

    def writer(commit: Commit) -> None:
        if any(c.kind == "tenant" for c in commit.changes) and "two" not in door.model.tenants:
            door.commands.put_tenant("two")

    door.commands.subscribe(writer)
    door.commands.subscribe(lambda commit: heard.append(commit.revision))
    door.commands.put_tenant("one")
    assert heard == [door.model.revision - 1, door.model.revision]


def test_a_subscribers_error_is_loud() -> None:
    """A defect in the controller ends in a restart, not in a model that the switches don't follow."""
    door = furnished()

    def broken(commit: Commit) -> None:
        raise RuntimeError("defect")

    door.commands.subscribe(broken)
    with pytest.raises(RuntimeError, match="defect"):
        door.commands.put_tenant("one")


def test_a_store_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk refuses the command; what the switches do stays what the store says."""
    door = furnished()
    spec = service_doc("default", "next", "srv", ports=["1:1:TCP"])
    expected = furnished().commands.put_service(spec)
    before = door.state()

    def full(expected: int, changes: Sequence[Change], meta: Mapping[str, Any]) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(door.store, "commit", full)
    with pytest.raises(OSError, match="disk full"):
        door.commands.put_service(spec)
    assert door.state() == before
    monkeypatch.undo()
    assert door.commands.put_service(spec) == expected, "no number or address was lost"


def test_docker_names() -> None:
    """Users type the network's name to `docker run`, another tenant's with the tenant behind."""
    door = furnished()
    network = door.commands.put_network(network_doc("blue", "web", "10.1.1.0/24"))
    assert isinstance(network, Network)
    assert network.docker_name == "web/blue"
    assert isinstance(door.model.get("service", "default:app"), Service)


def test_one_mac_at_one_port_is_one_endpoint() -> None:
    """Else the packets of two endpoints, of different tenants even, are taken for each other's."""
    door = Door()
    door.commands.put_network(network_doc("default", "one", "10.1.1.0/24"))
    door.commands.put_network(network_doc("default", "two", "10.1.2.0/24"))
    place = {"switch": 7, "port_name": "eth1", "mac": "02:00:00:00:00:01"}
    door.commands.put_endpoint(endpoint_doc("a", "default", "one", **place))
    with pytest.raises(Conflict, match=r"macAddress 02:00:00:00:00:01 is that of endpoint a.* at the same port eth1"):
        door.commands.put_endpoint(endpoint_doc("b", "default", "two", **place))
    door.commands.put_endpoint(endpoint_doc("a", "default", "two", **place))
