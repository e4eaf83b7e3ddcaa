"""Docker's listing and the plugin's calls meanwhile. If these fail, a container that is gone keeps its share of a
service, or one that runs loses its port."""

from __future__ import annotations

import math
import time
from ipaddress import IPv4Address
from typing import Any

import pytest

from netctl.agent.listing import YOUNG, Listing, unsure
from netctl.agent.state import Container, LocalEndpoint, State

NETWORK, CONTAINER = "e" * 64, "c" * 64
CONTAINERS = {CONTAINER: Container(CONTAINER, "web", state="running")}


def network(*endpoints: str) -> dict[str, Any]:
    """Docker's inspection of a network with these endpoints, all of one container."""
    entries = {
        CONTAINER if not number else f"{number:064x}": {
            "Name": name,
            "EndpointID": name,
            "MacAddress": f"02:42:0a:01:01:0{number}",
            "IPv4Address": f"10.1.1.{number + 1}/24",
        }
        for number, name in enumerate(endpoints)
    }
    return {
        "Name": "net",
        "Id": NETWORK,
        "Driver": "netctl",
        "IPAM": {"Driver": "netctl", "Config": [{"Subnet": "10.1.1.0/24"}]},
        "Options": {},
        "Containers": entries,
    }


def endpoint(name: str, created: float, container: str = "") -> LocalEndpoint:
    """An endpoint as the plugin's call makes it."""
    return LocalEndpoint(name, NETWORK, IPv4Address("10.1.1.9"), "02:42:0a:01:01:09", container, created)


def listed(state: State, *endpoints: str) -> frozenset[str]:
    """A listing with these endpoints, during which nothing happens."""
    listing = Listing(state, "netctl")
    listing.networks([network(*endpoints)])
    return listing.apply(CONTAINERS)


def test_one_that_goes_while_docker_is_asked() -> None:
    """Else it is told as a provider for ever: nothing says again that it is gone."""
    state = State("h1")
    listed(state, "stays", "goes")
    listing = Listing(state, "netctl")
    listing.networks([network("stays", "goes")])
    state.drop_endpoint("goes")
    listing.apply(CONTAINERS)
    assert state.endpoints.keys() == {"stays"}
    listed(state, "stays", "goes")
    assert state.endpoints.keys() == {"stays", "goes"}, "what went before a listing is no news about it"


@pytest.mark.parametrize("created", [0.0, YOUNG + 1])
def test_one_that_docker_does_not_list(created: float) -> None:
    """Else one that Docker gave up in the middle of its start stays, or one that just starts loses its port."""
    state = State("h1")
    now = time.monotonic()
    state.put_endpoint(endpoint("old", now - YOUNG - 1))
    state.put_endpoint(endpoint("young", now + created))
    state.put_endpoint(endpoint("being made", math.inf))
    listed(state)
    assert state.endpoints.keys() == {"young", "being made"}
    state.made("being made")
    state.made("gone since")
    assert state.endpoints.keys() == {"young", "being made"}
    assert state.endpoints["being made"].created <= time.monotonic()


def test_which_may_be_left_over() -> None:
    """Else what Docker has forgotten is never looked for, or Docker is asked again and again."""
    state = State("h1")
    old = time.monotonic() - YOUNG - 1
    assert listed(state, "web") == set()
    assert unsure(state) == set()
    state.put_endpoint(endpoint("unlinked", old))
    state.put_endpoint(endpoint("young", time.monotonic()))
    state.put_endpoint(endpoint("another's", old, "d" * 64))
    assert unsure(state) == {"unlinked", "another's"}
    state.drop_container(CONTAINER)  # it was removed, and the call that removes its endpoint did not come
    assert unsure(state) == {"unlinked", "another's", "web"}
    assert listed(state, "web", "unlinked") == {"unlinked"}, "listed, and of a container that Docker does not list"
    assert state.endpoints.keys() == {"web", "unlinked", "young"}
