"""Docker's listing of its networks and containers → the state.

Docker calls the plugin while it is asked for the listing: what a call has said meanwhile is newer than the listing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from netctl.agent.docker_api import network_of
from netctl.agent.state import Container, LocalEndpoint, LocalNetwork, State

YOUNG = 5.0  # s: Docker may not list an endpoint yet that we have just made
UNUSED_LEASE = 60.0  # s: an address that Docker asked for and has made no endpoint of


class Listing:
    """One listing. It begins before Docker is asked."""

    def __init__(self, state: State, driver: str) -> None:
        self._state = state
        self._driver = driver
        self._began = time.monotonic()
        self._networks: dict[str, LocalNetwork] = {}
        self.endpoints: dict[str, LocalEndpoint] = {}
        """By id."""
        state.watch_drops()

    def networks(self, inspected: Iterable[Mapping[str, Any]]) -> None:
        """Docker's inspections of our driver's networks."""
        for item in inspected:
            network = network_of(item, self._driver)
            if network is not None:
                self._networks[network.id] = network
                self.endpoints.update((e.id, e) for e in endpoints_of(item))

    def apply(self, containers: Mapping[str, Container]) -> frozenset[str]:
        """Make the state what Docker has. Returns the endpoints that are `unsure`, and that Docker lists."""
        state = self._state
        with state.changed:
            for network in self._networks.values():
                state.set_network(merged(network, state.networks.get(network.id)))
            state.leaving.clear()
            for network_id in state.networks.keys() - self._networks.keys() - state.pending.keys():
                state.drop_network(network_id)
            dropped = state.drops_watched()
            for endpoint in [e for e in state.endpoints.values() if e.id not in self.endpoints]:
                if endpoint.created <= self._began - YOUNG:  # Docker knows an endpoint only after we have made it
                    state.drop_endpoint(endpoint.id)
            state.endpoints.update((e, found) for e, found in self.endpoints.items() if e not in dropped)
            for key in [key for key, since in state.granted.items() if since < self._began - UNUSED_LEASE]:
                del state.granted[key]
            used = {e.container_id for e in state.endpoints.values()}
            state.containers = {c: found for c, found in containers.items() if c in used}
            return unsure(state) & self.endpoints.keys()


def unsure(state: State) -> frozenset[str]:
    """Endpoints that Docker may have no more: for some time none of its containers has said that they are its own."""
    now = time.monotonic()
    with state.changed:
        return frozenset(
            e.id
            for e in state.endpoints.values()
            if e.created <= now - YOUNG and (not e.container_id or e.container_id not in state.containers)
        )


def merged(network: LocalNetwork, known: LocalNetwork | None) -> LocalNetwork:
    """A network of Docker's listing, which does not always have what our IPAM driver chose."""
    if known is None:
        return network
    return replace(
        network,
        gateway=network.gateway or known.gateway,
        gateway6=network.gateway6 or known.gateway6,
        picked=network.picked or known.picked,
    )


def endpoints_of(item: Mapping[str, Any]) -> list[LocalEndpoint]:
    """The endpoints in Docker's inspection of a network; one without a container has ``ep-`` and its own id."""
    found = []
    for container_id, entry in (item.get("Containers") or {}).items():
        try:
            given = IPv4Interface(entry["IPv4Address"]).ip
            given6 = IPv6Interface(entry["IPv6Address"]).ip if entry.get("IPv6Address") else None
            mac = str(entry["MacAddress"])
            endpoint_id = str(entry["EndpointID"])
        except (KeyError, ValueError):
            continue
        owner = "" if container_id.startswith("ep-") else container_id
        found.append(LocalEndpoint(endpoint_id, str(item["Id"]), given, mac, owner, address6=given6))
    return found
