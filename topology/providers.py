"""Who provides for a service, and at which address: a container is one provider, however many networks it is in.

A provider is sent new connections at an address from which its answers reach the client: in the client's own network,
which they reach without a router, or else in a network that routes. One that has no such address is not chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from topology.model import Endpoint, Network, Service
from topology.snapshot import Model


@dataclass(frozen=True, slots=True)
class Provider:
    """A container, or a bare host: all its endpoints that a service selects, oldest first."""

    endpoints: tuple[Endpoint, ...]

    @property
    def lead(self) -> Endpoint:
        """The endpoint whose id, number and name stand for the provider."""
        return self.endpoints[0]


def providers(model: Model, service: Service) -> list[Provider]:
    """The providers of a service, whatever their health; oldest first."""
    found: dict[tuple[str, str], list[Endpoint]] = {}
    for endpoint in model.providers(service):
        # without a container's id, nothing says that two endpoints belong together
        key = ("container", endpoint.container_id) if endpoint.container_id else ("endpoint", endpoint.id)
        found.setdefault(key, []).append(endpoint)
    return [Provider(tuple(endpoints)) for endpoints in found.values()]


HOST_DOWN, PORT_DOWN = "host down", "port down"


def no_way_back(network: Network, endpoint: Endpoint, version: int) -> str:
    """Why what the endpoint, which is in ``network``, answers by IPv4 or IPv6 stays in there; empty: it does not."""
    if network.internal:
        return f"network {network.name} is internal"
    if (network.gateway if version == 4 else network.gateway6) is None:
        return f"network {network.name} has no {'' if version == 4 else 'IPv6 '}gateway"
    return endpoint.no_way_back


def chosen(
    model: Model, service: Service, candidates: Iterable[Endpoint], version: int, client: str
) -> Endpoint | None:
    """Of a provider's endpoints that may get new connections, the one that those to the VIP of this IP version go to;
    None: to none. ``client``: key of the network that they come from, empty for the hosts and what is outside.
    """
    inside = client == service.network_key
    if model.networks[service.network_key].internal and not inside:
        return None  # an internal network's VIPs are for its own containers
    found = [
        endpoint
        for endpoint in candidates
        if has(endpoint, version)
        and (
            (inside and endpoint.network_key == client)
            or not no_way_back(model.networks[endpoint.network_key], endpoint, version)
        )
    ]
    # in the client's own network first: a server that answers from no address in particular answers from that one
    return min(found, key=lambda e: (e.network_key != client, not e.primary, e.number), default=None)


def has(endpoint: Endpoint, version: int) -> bool:
    """Whether the endpoint has an address of this IP version."""
    return any(address.version == version for address in endpoint.addresses)


def shown(model: Model, service: Service, provider: Provider) -> Endpoint:
    """The endpoint that a provider is shown by: where most clients reach it, or would if it served."""
    serving = [e for e in provider.endpoints if model.serves(e, service)]
    for candidates in (serving, provider.endpoints):
        found = _anywhere(model, service, candidates)
        if found is not None:
            return found
    return provider.lead


def healthy(model: Model, service: Service, provider: Provider, away: Callable[[Endpoint], str]) -> tuple[bool, str]:
    """Whether a provider gets new connections, be it from some networks only; if it serves and gets none, why.

    ``away``: why an endpoint can't be reached where it is, `HOST_DOWN` or `PORT_DOWN`; empty: it can.
    """
    candidates = [e for e in provider.endpoints if model.serves(e, service) and not away(e)]
    if _anywhere(model, service, candidates) is not None:
        return True, ""
    return False, lost(model, Provider(tuple(candidates))) if candidates else ""


def lost(model: Model, provider: Provider) -> str:
    """Why no address of a provider has a way back to other networks; empty: one has."""
    endpoints = sorted(provider.endpoints, key=lambda e: not e.primary)
    reasons = [no_way_back(model.networks[e.network_key], e, a.version) for e in endpoints for a in e.addresses]
    return next(iter(reasons), "") if all(reasons) else ""


def _anywhere(model: Model, service: Service, candidates: Iterable[Endpoint]) -> Endpoint | None:
    every = list(candidates)
    clients = ("", service.network_key)
    found = (chosen(model, service, every, vip.version, client) for client in clients for vip in service.vips)
    return next((endpoint for endpoint in found if endpoint is not None), None)
