"""What a container's namespace should have, as a function of what it has and of the model."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from netctl.agent.state import Address
from netctl.agent.wayback import (
    FROM,
    MAIN,
    OUTSIDE,
    SPECIFIC,
    TABLES,
    TENANTS,
    Attachment,
    Device,
    Facts,
    Net,
    Wish,
    overlap,
    wanted,
)

NETS = [
    Net(1, "default:front", "default", ip_network("10.1.1.0/24")),
    Net(2, "default:back", "default", ip_network("10.1.2.0/24")),
    Net(3, "default:vips", "default", ip_network("10.1.9.0/24")),
    Net(3, "default:vips", "default", ip_network("fd00:9::/64")),
]
DOCKERS = {ip_address("172.18.0.2"): ip_address("172.18.0.1")}


def device(index: int, *addresses: str, kind: str = "veth") -> Device:
    six = (IPv6Interface(a) for a in addresses if ":" in a)
    four = (IPv4Interface(a) for a in addresses if ":" not in a)
    return Device(index, f"02:42:00:00:00:{index:02x}", kind, (*four, *six))


def ours(index: int, *addresses: str, gateway: str = "", tenant: str = "default", nat: bool = False) -> Attachment:
    gateways = {ip_address(g).version: ip_address(g) for g in gateway.split()}
    own = tuple(ip_address(a) for a in addresses)
    return Attachment(f"e{index}", tenant, f"n{index}", index, f"02:42:00:00:00:{index:02x}", own, gateways, nat)


def facts(*devices: Device, default: tuple[str, int] | None = None, like: Wish | None = None) -> Facts:
    defaults: dict[int, tuple[Address | None, int]] = {}
    if default is not None:
        defaults[4] = ip_address(default[0]), default[1]
    routes, rules = (like.routes, like.rules) if like else (frozenset(), frozenset())
    return Facts(devices, defaults, routes, rules)


FRONT, BACK, BRIDGE = device(1, "10.1.1.1/24"), device(2, "10.1.2.1/24"), device(3, "172.18.0.2/16")
IN_FRONT, IN_BACK = ours(1, "10.1.1.1", gateway="10.1.1.254"), ours(2, "10.1.2.1", gateway="10.1.2.254")


def listed(wish: Wish, table: int) -> list[str]:
    """Routes of one table, as text."""
    found = [r for r in wish.routes if r.table == table]
    return sorted(f"{r.subnet} {r.gateway or '-'} {r.device}" for r in found)


def test_one_network() -> None:
    """Docker's default route changes when another network is connected: open connections would break."""
    wish = wanted(facts(FRONT, default=("10.1.1.254", 1)), [IN_FRONT], {}, NETS)
    assert [(r.priority, str(r.source), r.table) for r in wish.rules] == [(FROM, "10.1.1.1", TABLES + 1)]
    assert listed(wish, TABLES + 1) == ["0.0.0.0/0 10.1.1.254 1", "10.1.1.0/24 - 1"]
    assert listed(wish, TABLES) == [], "a container in one network would pay for each network of its tenant"
    assert (wish.primary, wish.spread) == ({"e1"}, set())


def test_a_network_without_a_way_out() -> None:
    """What is bound to its address would leave by another network, and vanish."""
    closed = ours(2, "10.1.2.1")
    wish = wanted(facts(FRONT, BACK, default=("10.1.1.254", 1)), [IN_FRONT, closed], {}, NETS)
    assert listed(wish, TABLES + 2) == ["0.0.0.0/0 - 0", "10.1.2.0/24 - 2"]
    assert wish.primary == {"e1"}


def test_the_primary_is_where_the_default_route_is_and_stays() -> None:
    """Else a UDP server answers from another address than was asked, or all its clients lose it at some change."""
    both = [IN_FRONT, IN_BACK]
    alone = wanted(facts(BACK, default=("10.1.2.254", 2)), [IN_BACK], {}, NETS)
    assert {r.priority for r in alone.rules} == {FROM}
    # Docker asks for the other to join: its interface comes later, and the default route may move at once
    joining = wanted(facts(BACK, default=("10.1.2.254", 2), like=alone), both, {}, NETS)
    assert {(r.priority, r.table) for r in joining.rules} >= {(SPECIFIC, MAIN), (OUTSIDE, TABLES + 2)}
    wish = wanted(facts(FRONT, BACK, default=("10.1.1.254", 1), like=joining), both, {}, NETS)
    assert (wish.primary, listed(wish, TABLES)) == ({"e2"}, [])
    wish = wanted(facts(FRONT, BACK, default=("10.1.2.254", 2)), both, {}, NETS)
    assert (wish.primary, listed(wish, TABLES)) == ({"e2"}, [])
    both = [IN_FRONT, replace(IN_BACK, primary=True)]
    # Docker's bridge takes the default route
    wish = wanted(facts(FRONT, BACK, BRIDGE, default=("172.18.0.1", 3), like=wish), both, DOCKERS, NETS)
    assert wish.primary == {"e2"}


def test_both_versions_have_one_primary() -> None:
    """Docker may set their default routes in different networks: an IPv6 VIP would lead to the wrong one's address."""
    one = ours(1, "10.1.1.1", "fd00:1::1", gateway="10.1.1.254 fd00:1::fe")
    two = ours(2, "10.1.2.1", "fd00:2::1", gateway="10.1.2.254 fd00:2::fe")
    devices = device(1, "10.1.1.1/24", "fd00:1::1/64"), device(2, "10.1.2.1/24", "fd00:2::1/64")
    defaults = {4: (ip_address("10.1.1.254"), 1), 6: (ip_address("fd00:2::fe"), 2)}
    wish = wanted(Facts(devices, defaults, frozenset(), frozenset()), [one, two], {}, NETS)
    assert wish.primary == {"e1"}
    detours = {(r.version, r.table) for r in wish.rules if r.priority == OUTSIDE}
    assert detours == {(4, TABLES + 1), (6, TABLES + 1)}


def test_a_bridge_of_docker_s() -> None:
    """Else the tenant is out of reach when Docker's default route is the bridge's, or the outside when it isn't."""
    tenants = ["10.1.2.0/24 10.1.1.254 1", "10.1.9.0/24 10.1.1.254 1", "169.254.0.0/20 10.1.1.254 1"]
    for default in (("172.18.0.1", 3), ("10.1.1.254", 1), None):
        wish = wanted(facts(FRONT, BRIDGE, default=default), [IN_FRONT], DOCKERS, NETS)
        assert listed(wish, TABLES) == tenants, "also before Docker moves the default route"
        assert listed(wish, TABLES + 3) == ["0.0.0.0/0 172.18.0.1 3", "172.18.0.0/16 - 3"]
        detour = {(r.priority, r.table) for r in wish.rules if r.priority != FROM}
        assert detour == ({(SPECIFIC, MAIN), (TENANTS, TABLES)} | ({(OUTSIDE, TABLES + 3)} if default else set()))
        assert wish.primary == {"e1"}


def test_a_bridge_that_docker_was_not_asked_about() -> None:
    """Just after the start of a container, which may be a client that asks at once."""
    wish = wanted(facts(FRONT, BRIDGE, default=("172.18.0.1", 3)), [IN_FRONT], {}, NETS)
    assert "10.1.9.0/24 10.1.1.254 1" in listed(wish, TABLES)
    assert not listed(wish, TABLES + 3)


def test_what_is_the_container_s_own() -> None:
    """A container that runs a VPN would lose it."""
    tunnel = device(3, "10.8.0.2/24", kind="tun")
    wish = wanted(facts(FRONT, tunnel, default=("10.8.0.1", 3)), [IN_FRONT], {}, NETS)
    assert listed(wish, TABLES) == []
    assert {r.priority for r in wish.rules} == {FROM}
    with_nat = ours(2, "10.1.2.1", gateway="10.1.2.254", nat=True)
    wish = wanted(facts(FRONT, BACK, tunnel, default=("10.8.0.1", 3)), [IN_FRONT, with_nat], {}, NETS)
    assert {r.priority for r in wish.rules} == {FROM}


def test_the_outside_by_a_network_with_nat() -> None:
    """Else it is lost when Docker's default route is in the other network."""
    out = ours(2, "10.1.2.1", gateway="10.1.2.254", nat=True)
    wish = wanted(facts(FRONT, BACK, default=("10.1.1.254", 1)), [IN_FRONT, out], {}, NETS)
    assert {(r.priority, r.table) for r in wish.rules} >= {(SPECIFIC, MAIN), (OUTSIDE, TABLES + 2)}
    assert wish.primary == {"e2"}, "what the container begins leaves by that one"
    wish = wanted(facts(FRONT, BACK, default=("10.1.2.254", 2)), [IN_FRONT, out], {}, NETS)
    assert {(r.priority, r.table) for r in wish.rules} >= {(SPECIFIC, MAIN), (OUTSIDE, TABLES + 2)}


def test_two_tenants() -> None:
    """Else one of them is out of reach; of networks that overlap the older one stays reachable, and a user is told."""
    blue = ours(2, "10.5.2.1", gateway="10.5.2.254", tenant="blue")
    nets = [
        *NETS,
        Net(4, "blue:n", "blue", ip_network("10.5.2.0/24")),
        Net(5, "blue:v", "blue", ip_network("10.5.9.0/24")),
        Net(6, "blue:late", "blue", ip_network("10.1.8.0/22")),
    ]
    there = facts(FRONT, device(2, "10.5.2.1/24"), default=("10.1.1.254", 1))
    wish = wanted(there, [IN_FRONT, blue], {}, nets)
    assert {"10.1.9.0/24 10.1.1.254 1", "10.5.9.0/24 10.5.2.254 2"} <= set(listed(wish, TABLES))
    assert wish.primary == {"e1", "e2"}
    assert wish.troubles == {
        "way to blue:late": "network blue:late (10.1.8.0/22) overlaps default:vips (10.1.9.0/24), which is older:"
        " containers that are in both tenants don't reach it"
    }


def test_ipv6_without_an_ipv4_gateway() -> None:
    """Docker gives no default route then: the network's containers would reach nobody by IPv6."""
    six = ours(1, "10.1.1.1", "fd00:1::1", gateway="fd00:1::fe")
    wish = wanted(facts(device(1, "10.1.1.1/24", "fd00:1::1/64")), [six], {}, NETS)
    assert {(r.version, r.table) for r in wish.rules if r.priority == OUTSIDE} == {(6, TABLES + 1)}
    assert listed(wish, TABLES + 1) == [
        "0.0.0.0/0 - 0", "10.1.1.0/24 - 1", "::/0 fd00:1::fe 1", "fd00:1::/64 - 1", "fe80::/64 - 1",
    ]  # fmt: skip
    assert wish.primary == {"e1"}


def test_the_model_is_not_known() -> None:
    """After the agent's start, with the controller away: what was there would be taken away meanwhile."""
    there = facts(FRONT, BRIDGE, default=("10.1.1.254", 1))
    before = wanted(there, [IN_FRONT], DOCKERS, NETS)
    there = facts(FRONT, BRIDGE, default=("10.1.1.254", 1), like=before)
    assert wanted(there, [IN_FRONT], DOCKERS, None) == before
    assert wanted(there, [ours(1, "10.1.1.1")], DOCKERS, None) == before, "only the model may know the gateway"


def test_routes_are_as_few_as_can_be() -> None:
    """A container's start would take the longer the more networks its tenant has."""
    nets = [Net(n, f"default:{n}", "default", ip_network(f"10.7.{n}.0/24")) for n in range(256)]
    wish = wanted(facts(FRONT, BRIDGE, default=("172.18.0.1", 3)), [IN_FRONT], DOCKERS, nets)
    assert listed(wish, TABLES) == ["10.7.0.0/16 10.1.1.254 1", "169.254.0.0/20 10.1.1.254 1"]


@pytest.mark.parametrize(
    ("subnet", "found"),
    [("10.1.2.0/24", True), ("10.0.0.0/8", True), ("10.1.2.128/25", True), ("10.1.3.0/24", False), ("fd00::/8", True)],
)
def test_overlaps(subnet: str, found: bool) -> None:
    """A container would reach one of two tenants at random."""
    blue = Net(7, "blue:x", "blue", ip_network(subnet))
    assert (overlap([*NETS, blue], {"default", "blue"}) is not None) == found
    assert overlap([*NETS, blue], {"default", "red"}) is None
    assert overlap(NETS, {"default"}) is None
