"""What this host has to check: which of its endpoints provide for which services that have an active check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netctl.agent.state import STARTED, LocalEndpoint, State
from topology.documents import ServiceDoc
from topology.model import Check as Terms

DEFAULT = Terms()

Key = tuple[str, str]
"""An endpoint's id and a service's key."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one provider. Times in seconds."""

    container_id: str
    address: str
    ports: tuple[int, ...]  # TCP; all have to pass
    protocol: str  # tcp | http
    path: str
    interval: float
    timeout: float
    rise: int
    fall: int
    paused: bool = False  # it would fail for no fault of its own: left out meanwhile

    @property
    def target(self) -> tuple[str, str]:
        """What a verdict is about: with another target, nothing is known."""
        return self.container_id, self.address


def wanted(state: State) -> dict[Key, Check]:
    """All of them, as things are now."""
    with state.changed:
        services = _by_selector(state.services)
        found: dict[Key, Check] = {}
        for endpoint in state.endpoints.values() if services else ():
            for service_key, service in _providing(state, endpoint, services):
                check = _check(state, endpoint, service)
                if check is not None:
                    found[endpoint.id, service_key] = check
        return found


_Selector = tuple[str, str]
_Index = dict[_Selector, list[tuple[str, ServiceDoc, frozenset[_Selector]]]]


def _by_selector(services: Mapping[str, ServiceDoc]) -> _Index:
    """Services by tenant and the first of their selectors: there may be very many."""
    index: _Index = {}
    for key, service in services.items():
        selectors = service.get("selectors") or []
        if selectors:
            pairs = frozenset((k, v) for k, _, v in (s.partition("=") for s in selectors))
            index.setdefault((service["tenantName"], selectors[0]), []).append((key, service, pairs))
    return index


def _providing(state: State, endpoint: LocalEndpoint, services: _Index) -> Iterator[tuple[str, ServiceDoc]]:
    network = state.networks.get(endpoint.network_id)
    container = state.containers.get(endpoint.container_id)
    if network is None or container is None or container.state not in STARTED:
        return
    labels = container.labels.items()
    for name, value in labels:
        for key, service, pairs in services.get((network.tenant, f"{name}={value}"), ()):
            if pairs <= labels:
                yield key, service


def _check(state: State, endpoint: LocalEndpoint, service: ServiceDoc) -> Check | None:
    asked = service["healthCheck"]
    ports = ((*port.split(":"), "TCP")[:3] for port in service.get("ports", ()))
    targets = sorted({int(target) for _, target, protocol in ports if protocol == "TCP"})
    return Check(
        container_id=endpoint.container_id,
        address=str(endpoint.address),
        ports=tuple(targets),
        protocol=asked.get("protocol", DEFAULT.protocol),
        path=asked.get("path", ""),
        interval=asked.get("interval", DEFAULT.interval),
        timeout=asked.get("timeout", DEFAULT.timeout),
        rise=asked.get("rise", DEFAULT.rise),
        fall=asked.get("fall", DEFAULT.fall),
        paused=state.containers[endpoint.container_id].state == "paused",
    )
