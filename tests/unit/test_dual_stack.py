"""The write door with IPv6 beside IPv4: what networks, services, endpoints, leases and hosts learned get."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

import pytest

from tests.kit.docs import endpoint_doc, network_doc, replace, service_doc
from tests.unit.modelkit import DUAL, WEB, WEB1, Door, contents, furnished
from topology.allocate import COOLING_SECONDS
from topology.documents import ServiceDoc
from topology.errors import Conflict
from topology.model import Address, Endpoint, Lease, Service
from topology.reports import EndpointDoc

SIX = "fd00:6:1::"
D1 = service_doc("default", "d1", "dual", ports=["80:80:TCP"], selectors=["a=b"])
E1 = endpoint_doc("e1", "default", "dual", host="h1")


@pytest.fixture
def door() -> Door:
    """Network `dual` has both families, with gateways .254 and ::fe; `srv` and `web` have IPv4."""
    door = furnished()
    door.commands.put_network(DUAL)
    return door


def texts(addresses: Sequence[Address]) -> list[str]:
    return [str(address) for address in addresses]


def vips(door: Door, spec: ServiceDoc) -> list[str]:
    return texts(door.commands.put_service(spec).vips)


def addresses(door: Door, *asked: str, spec: EndpointDoc = E1) -> list[str]:
    return texts(door.commands.put_endpoint(replace(spec, addresses=asked)).addresses)


def test_a_network_named_again(door: Door) -> None:
    """A script that writes the subnet in another form is not told that it changes the network."""
    again = replace(DUAL, subnet6="FD00:0006:0001:0::/64", gateway6="fd00:6:1:0::FE")
    assert door.commands.put_network(again) is door.model.networks["default:dual"]


def test_tenants_may_overlap_in_ipv6(door: Door) -> None:
    """Two tenants use the same IPv6 subnet, each for itself."""
    door.commands.put_network(replace(DUAL, tenant="blue"))
    door.commands.put_service(D1)
    assert vips(door, replace(D1, tenant="blue")) == ["10.6.1.1", f"{SIX}1"]


def test_networks_that_overlap_in_ipv6_alone_are_refused(door: Door) -> None:
    """An address of one tenant's leads to one network; which, would be a matter of luck."""
    for subnet in (f"{SIX}/64", f"{SIX}/80", f"{SIX}/48"):
        with pytest.raises(Conflict, match=f"network dual conflicts with subnet {subnet}: it has {SIX}/64"):
            door.commands.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6=subnet))
    door.commands.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6="fd00:6:2::/64"))


def test_a_service_gets_a_vip_of_each_family(door: Door) -> None:
    """IPv6 clients reach a service without anything more being asked for; never at the gateway's address."""
    assert vips(door, D1) == ["10.6.1.1", f"{SIX}1"]
    assert vips(door, replace(D1, name="d2")) == ["10.6.1.2", f"{SIX}2"]
    service = door.commands.put_service(replace(D1, name="d3", ip_address6="FD00:6:1:0::77"))
    assert texts(service.vips) == ["10.6.1.3", f"{SIX}77"]
    assert (service.requested_vip, service.requested_vip6) == (None, IPv6Address(f"{SIX}77"))


def test_vips_stay_unless_others_are_asked_for(door: Door) -> None:
    """Clients keep both addresses when a service changes, also when one of them is asked for."""
    vips(door, replace(D1, name="first"))
    assert vips(door, D1) == ["10.6.1.2", f"{SIX}2"]
    door.commands.delete_service("default:first")
    door.clock.now += COOLING_SECONDS
    assert vips(door, replace(D1, selectors=["c=d"])) == ["10.6.1.2", f"{SIX}2"]
    assert vips(door, replace(D1, ip_address="10.6.1.9")) == ["10.6.1.9", f"{SIX}2"]
    assert vips(door, replace(D1, ip_address6=f"{SIX}9")) == ["10.6.1.9", f"{SIX}9"]
    assert vips(door, D1) == ["10.6.1.9", f"{SIX}9"]
    assert door.model.services["default:d1"].requested_vip6 is None
    assert door.model.leases[f"default:dual:{SIX}2"].released is not None


def test_a_service_that_moves(door: Door) -> None:
    """A service has an IPv6 VIP where its network has IPv6, and no other network's."""
    vips(door, D1)
    assert vips(door, replace(D1, network="web")) == ["10.1.1.1"]
    assert door.model.holder("default:dual", IPv6Address(f"{SIX}1")) is None
    assert vips(door, D1) == ["10.6.1.2", f"{SIX}2"], "the old ones still rest"
    door.commands.put_network(network_doc("default", "other", "10.7.1.0/24", subnet6="fd00:7:1::/64"))
    assert vips(door, replace(D1, network="other")) == ["10.7.1.1", "fd00:7:1::1"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ([], ["10.6.1.1", f"{SIX}1"]),
        (["10.6.1.7"], ["10.6.1.7", f"{SIX}1"]),
        (["FD00:6:1::7"], ["10.6.1.1", f"{SIX}7"]),
        ([f"{SIX}7", "10.6.1.7"], ["10.6.1.7", f"{SIX}7"]),
        ([f"{SIX}8", "10.6.1.8", f"{SIX}7", "10.6.1.7"], ["10.6.1.8", "10.6.1.7", f"{SIX}8", f"{SIX}7"]),
    ],
)
def test_an_endpoint_gets_an_address_of_each_family(door: Door, asked: list[str], given: list[str]) -> None:
    """A container in a network with IPv6 has IPv6; IPv4 comes first, whatever was asked for first."""
    endpoint = door.commands.put_endpoint(replace(E1, addresses=asked))
    assert texts(endpoint.addresses) == given
    assert endpoint.mac == f"02:42:0a:06:01:{endpoint.addresses[0].packed[-1]:02x}"
    assert all(door.model.holder("default:dual", a) == endpoint for a in endpoint.addresses)


def test_an_endpoint_keeps_what_is_not_asked_for(door: Door) -> None:
    """Whoever names one address of a container doesn't change the other."""
    assert addresses(door, "10.6.1.5", f"{SIX}5") == ["10.6.1.5", f"{SIX}5"]
    assert addresses(door) == ["10.6.1.5", f"{SIX}5"]
    assert addresses(door, "10.6.1.6") == ["10.6.1.6", f"{SIX}5"]
    assert addresses(door, f"{SIX}6") == ["10.6.1.6", f"{SIX}6"]
    revision = door.model.revision
    assert addresses(door, f"{SIX}6") == ["10.6.1.6", f"{SIX}6"]
    assert door.model.revision == revision
    assert addresses(door, spec=replace(E1, network="web")) == ["10.1.1.1"]
    assert addresses(door) == ["10.6.1.1", f"{SIX}1"]


def test_leases_of_both_families(door: Door) -> None:
    """The two addresses that Docker was given are the container's; both grants are used up."""
    grant = door.commands.grant
    four, six = grant("default", "dual", None, "h1"), grant("default", "dual", "", "h1", 6)
    assert texts((four.address, six.address)) == ["10.6.1.1", f"{SIX}1"]
    assert six.key == f"default:dual:{SIX}1"
    assert grant("default", "dual", "FD00:6:1::1", "h1") == six, "asked again: the first answer was lost"
    assert grant("default", "dual", f"{SIX}1", "h1", 6) == six
    assert texts(lease.address for lease in door.model.leases_of("default:dual")) == ["10.6.1.1", f"{SIX}1"]
    assert addresses(door, str(six.address), str(four.address)) == ["10.6.1.1", f"{SIX}1"]
    assert not door.model.leases
    other = grant("default", "dual", None, "h1", 6)
    assert door.commands.release("default", "dual", "FD00:6:1::2") == replace(other, host="", released=door.clock.now)


def test_addresses_of_both_families_rest(door: Door) -> None:
    """An IPv6 address that was just freed is not the next container's; after a minute it may be."""
    addresses(door)
    door.commands.delete_endpoint("e1")
    door = door.reopened()
    assert addresses(door) == ["10.6.1.2", f"{SIX}2"]
    door.clock.now += COOLING_SECONDS
    assert addresses(door, spec=replace(E1, id="e2")) == ["10.6.1.1", f"{SIX}1"]
    assert not door.model.leases


def test_a_small_subnet_is_exhausted_family_by_family() -> None:
    """The refusal names the subnet that is full; a /126 has three addresses, and the last one is one of them."""
    door = Door()
    door.commands.put_network(network_doc("default", "n", "10.1.0.0/24", subnet6="fd00::/126"))
    given = [addresses(door, spec=endpoint_doc(f"e{n}", "default", "n"))[1] for n in range(3)]
    assert given == ["fd00::1", "fd00::2", "fd00::3"]
    before = door.state()
    with pytest.raises(Conflict, match=r"^auto allocation failed - address exhaustion in subnet fd00::/126$"):
        addresses(door, spec=endpoint_doc("e3", "default", "n"))
    assert door.state() == before
    door.commands.delete_endpoint("e1")
    assert addresses(door, spec=endpoint_doc("e3", "default", "n"))[1] == "fd00::2", "nothing else is left"


def test_ten_thousand_addresses_of_a_large_subnet() -> None:
    """A /48 is not searched address by address, nor held in memory for what it could have."""
    door = Door()
    large = network_doc("default", "n", "10.0.0.0/8", "10.0.0.1", subnet6="fd00::/48", gateway6="fd00::1")
    door.commands.put_network(large)
    door.commands.sync_endpoints("h", [endpoint_doc(f"e{n}", "default", "n") for n in range(10_000)])
    assert str(max(e.addresses[1] for e in door.model.endpoints.values())) == str(ip_address((0xFD << 120) + 10_001))
    space = door.model.space("default:n")
    assert space is not None
    assert len(space._busy._pages) <= 6
    for number in range(1, 1000):  # far apart, as hosts choose them
        address = f"fd00:0:0:{number:x}::5"
        addresses(door, address, spec=endpoint_doc("far", "default", "n"))
        door.clock.now += COOLING_SECONDS
    assert len(space._busy._pages) <= 8, "pages without an address go"


def test_sync_hands_round_addresses_of_both_families(door: Door) -> None:
    """Containers recreated with each other's addresses while the agent was away don't block each other."""
    a, b = (replace(E1, id=i, addresses=[f"10.6.1.{n}", f"{SIX}{n}"]) for i, n in (("a", 1), ("b", 2)))
    door.commands.sync_endpoints("h1", [a, b])
    door.commands.sync_endpoints("h1", [replace(a, addresses=b["ipAddress"]), replace(b, addresses=a["ipAddress"])])
    found = {e.id: texts(e.addresses) for e in door.model.endpoints.values()}
    assert found == {"a": ["10.6.1.2", f"{SIX}2"], "b": ["10.6.1.1", f"{SIX}1"]}
    revision = door.model.revision
    four = [replace(s, addresses=found[s["endpointID"]][:1]) for s in (a, b)]
    door.commands.sync_endpoints("h1", four)
    assert door.model.revision == revision, "an agent that names IPv4 alone changes nothing"


def test_draining_goes_on(door: Door) -> None:
    """A container that drains keeps its IPv6 address until its connections have gone."""
    door.commands.put_service(replace(D1, selectors=["a=b"]))
    spec = replace(E1, labels={"a": "b"})
    first = door.commands.put_endpoint(spec)
    draining = door.commands.put_endpoint(replace(spec, state="draining"))
    assert draining == replace(first, state="draining", draining_since=door.clock.now)
    assert door.commands.drained("e1", "default:d1").drained == ("default:d1",)


def _learn(door: Door, address: str, mac: str = "02:00:00:00:00:01", port: str = "p1") -> Endpoint | None:
    return door.commands.learn("default", "dual", mac, address, 7, port)


def test_a_host_is_learned_in_both_families(door: Door) -> None:
    """A host of Mininet that is seen by ARP and by neighbour discovery is one endpoint."""
    first = _learn(door, f"{SIX}5")
    assert first is not None
    assert texts(first.addresses) == [f"{SIX}5"]
    both = _learn(door, "10.6.1.5")
    assert both == replace(first, addresses=(ip_address("10.6.1.5"), ip_address(f"{SIX}5")))
    revision = door.model.revision
    assert _learn(door, f"{SIX}5") == both
    assert door.model.revision == revision
    assert _learn(door, f"{SIX}6") == replace(both, addresses=(both.addresses[0], ip_address(f"{SIX}6")))
    for claimed in (f"{SIX}fe", SIX, "fe80::1", "fd00:9::1"):
        assert _learn(door, claimed, "02:00:00:00:00:02", "p2") is None
    assert _learn(door, f"{SIX}6", "02:00:00:00:00:02", "p2") is None, "another has it"
    registered = door.commands.put_endpoint(replace(E1, addresses=[f"{SIX}6"]))
    assert list(door.model.endpoints.values()) == [registered], "who is registered goes before who was seen"


def test_restart(door: Door) -> None:
    """A controller that was restarted knows all addresses of both families."""
    door.commands.put_service(replace(D1, ip_address6=f"{SIX}9", publish=["80:80"]))
    door.commands.put_endpoint(E1)
    door.commands.grant("default", "dual", None, "h1", 6)
    door.commands.delete_endpoint("e1")
    again = door.reopened()
    assert contents(again.model) == contents(door.model)
    assert again.model.held("default:dual") == door.model.held("default:dual")
    assert isinstance(again.model.holder("default:dual", IPv6Address(f"{SIX}9")), Service)
    assert isinstance(again.model.holder("default:dual", IPv6Address(f"{SIX}2")), Lease)


def test_networks_of_ipv4_stay_as_they_are() -> None:
    """Who has no IPv6 sees none."""
    door = furnished()
    assert door.commands.put_network(WEB).subnets == (door.model.networks["default:web"].subnet,)
    assert len(door.commands.put_endpoint(WEB1).addresses) == 1
    assert len(door.model.services["default:app"].vips) == 1
