"""Networks whose addresses Docker's own IPAM driver gives out: it knows nothing of the model's."""

from __future__ import annotations

import pytest

from tests.kit.docs import endpoint_doc, network_doc, replace, service_doc
from tests.unit.modelkit import Door
from topology.addresses import AddressMap
from topology.errors import Conflict

WEB = network_doc(tenant="default", name="web", subnet="172.20.0.0/16", gateway="172.20.0.1", docker_ipam=True)
SHOP = service_doc(tenant="default", name="shop", network="web", ports=["80:80:TCP"], selectors=["app=web"])


def test_automatic_addresses_keep_away_from_dockers() -> None:
    """Docker gives out the lowest free address: a VIP there makes the next container's start fail."""
    commands = Door().commands
    commands.put_network(WEB)
    first = commands.put_service(SHOP)
    second = commands.put_service(replace(SHOP, name="two"))
    by_hand = commands.put_endpoint(endpoint_doc(id="e1", tenant="default", network="web"))
    found = [str(o.vips[0]) for o in (first, second)] + [str(by_hand.addresses[0])]
    assert found == ["172.20.255.254", "172.20.255.253", "172.20.255.252"]
    commands.put_endpoint(endpoint_doc(id="c1", tenant="default", network="web", addresses=["172.20.0.2"]))


def test_within_dockers_range_and_in_ipv6() -> None:
    """The same of a network with --ip-range, and of its IPv6 addresses."""
    commands = Door().commands
    commands.put_network(
        replace(WEB, subnet="172.20.0.64-172.20.0.95/16", subnet6="fd20::/120", gateway6="fd20::1")
    )
    assert [str(vip) for vip in commands.put_service(SHOP).vips] == ["172.20.0.95", "fd20::ff"]


def test_what_was_freed_just_now_is_taken_last() -> None:
    """A client of a deleted service would meet the next one at its address."""
    commands = Door().commands
    commands.put_network(WEB)
    commands.put_service(SHOP)
    commands.delete_service("default:shop")
    assert str(commands.put_service(replace(SHOP, name="two")).vips[0]) == "172.20.255.253"


def test_a_full_network_is_refused() -> None:
    """It would end in an address twice, or in no line that says why."""
    commands = Door().commands
    commands.put_network(replace(WEB, subnet="172.20.0.0/30"))
    commands.put_service(SHOP)
    with pytest.raises(Conflict, match="address exhaustion in subnet"):
        commands.put_service(replace(SHOP, name="two"))


def test_a_network_of_an_earlier_version_learns_it() -> None:
    """After an update its VIPs would still be where Docker takes its addresses."""
    commands = Door().commands
    commands.put_network(replace(WEB, docker_ipam=False))
    assert commands.put_network(WEB).docker_ipam
    assert commands.put_network(replace(WEB, docker_ipam=False)).docker_ipam, "who does not know says nothing"


def test_the_highest_free_address() -> None:
    """The search must cross pages, and end."""
    addresses = AddressMap()
    assert addresses.highest_free(10, 5) is None
    assert addresses.highest_free(5, 10_000) == 10_000
    for marked in range(4000, 10_001):
        addresses.mark(marked)
    assert addresses.highest_free(5, 10_000) == 3999
    assert addresses.highest_free(4000, 10_000) is None
