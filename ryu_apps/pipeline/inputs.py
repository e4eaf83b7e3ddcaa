"""What programs depend on beside their owner's own object: declared by the features, followed by `dependents`.

A dependency says which owners are to be compiled again when an input changes. Its name reads from the owner's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, NamedTuple

from ryu_apps.pipeline.context import SWITCH, Owner
from topology.model import Endpoint, Host, Network, Service
from topology.snapshot import Model


class Seen(Enum):
    """Inputs that are observed, not stored."""

    PLACE = "where an endpoint is: its switch, its port there, the link, the way to it"
    MOVING = "whether an endpoint that has moved is sent to yet"
    PORTS = "the ports of the switch itself"
    PATHS = "the switch's paths through the fabric"


Input = Seen | type[Any]
"""What changes: one of `Seen`, or a class of the model's objects."""


class Dependency(NamedTuple):
    """``owners``: those that look at what has changed, an object or None, by a model that has the change already."""

    name: str
    on: Input
    owners: Callable[[Model, Any], Iterable[Owner]]


def _owners(objects: Iterable[Network | Endpoint | Service]) -> Iterator[Owner]:
    return ((o.kind, o.key) for o in objects)


def _of_providers(services: Iterable[Service], model: Model) -> Iterator[Owner]:
    return (owner for service in services for owner in _owners(model.providers(service)))


# The switch itself looks at
EVERY_NETWORK = (Dependency("all networks, as the host has routes to them", Network, lambda m, n: [SWITCH]),)
EVERY_HOST = (Dependency("which host it is on, and all others", Host, lambda m, h: [SWITCH]),)
ITS_PORTS = (Dependency("its own ports", Seen.PORTS, lambda m, _: [SWITCH]),)
ITS_PATHS = (Dependency("its paths", Seen.PATHS, lambda m, _: [SWITCH]),)

# A network looks at
ITS_ENDPOINTS = (
    Dependency("its endpoints", Endpoint, lambda m, e: [(Network.kind, e.network_key)]),
    Dependency("where its endpoints are", Seen.PLACE, lambda m, e: [(Network.kind, e.network_key)]),
)
HOSTS_OF_NETWORKS = (
    Dependency("the switch's host, and all others", Host, lambda m, h: _owners(m.networks.values())),
)
PATHS_OF_NETWORKS = (Dependency("the switch's paths", Seen.PATHS, lambda m, _: _owners(m.networks.values())),)
PUBLISHED_IN_IT = (
    Dependency(
        "the published services that its endpoints provide for",
        Service,
        lambda m, s: [(Network.kind, e.network_key) for e in m.providers(s)] if s.published else [],
    ),
)

# An endpoint looks at
ITS_NETWORK = (Dependency("its network", Network, lambda m, n: _owners(m.endpoints_of(n.key))),)
ITS_PLACE = (
    Dependency("where it is", Seen.PLACE, lambda m, e: [(Endpoint.kind, e.key)]),
    Dependency("whether it is sent to there", Seen.MOVING, lambda m, e: [(Endpoint.kind, e.key)]),
)
ITS_SERVICES = (
    Dependency("the services that select it", Service, lambda m, s: _owners(m.providers(s))),
    Dependency(
        "which of their ports its switch can translate", Host, lambda m, h: _of_providers(m.services_with_sctp(), m)
    ),
)
PUBLISHED_BY_IT = (
    Dependency(
        "the hosts of published services that it provides for",
        Host,
        lambda m, h: _of_providers(m.published_services(), m),
    ),
)

# A service looks at
NETWORK_OF_VIP = (Dependency("the network of its VIP", Network, lambda m, n: _owners(m.services_of(n.key))),)
ITS_VIPS = (
    Dependency(
        "the address that its published ports have at a host", Host, lambda m, h: _owners(m.published_services())
    ),
)
ITS_PORTS_HERE = (
    Dependency("which of its ports the switch can translate", Host, lambda m, h: _owners(m.services_with_sctp())),
)
ITS_PROVIDERS = (
    Dependency("its providers", Endpoint, lambda m, e: _owners(m.selected_by(e))),
    Dependency("where its providers are", Seen.PLACE, lambda m, e: _owners(m.selected_by(e))),
    Dependency(
        "its providers' networks",
        Network,
        lambda m, n: (owner for e in m.endpoints_of(n.key) for owner in _owners(m.selected_by(e))),
    ),
)
