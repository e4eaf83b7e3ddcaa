"""``inspect``: what was asked for (Config) beside what is (Oper), in Contiv's fields."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from ryu_apps.rest.documents import (
    Document,
    filled,
    network_document,
    service_document,
    service_vip,
    tenant_document,
    weight_shown,
)
from topology.errors import Conflict, NotFound
from topology.model import Endpoint, Network, Service, Tenant
from topology.snapshot import Model

MAX_CANDIDATES = 5

Span = tuple[IPv4Address, IPv4Address]


def inspect_tenant(tenant: Tenant, model: Model) -> Document:
    """A tenant and how much it has."""
    networks = model.networks_of(tenant.name)
    services = model.services_of_tenant(tenant.name)
    oper = {
        "totalEndpoints": model.count("endpoint", "tenant", tenant.name),
        "totalNetworks": len(networks),
        "totalServicelbs": len(services),
    }
    return {"Config": tenant_document(tenant, model), "Oper": filled(oper)}


def inspect_network(network: Network, model: Model) -> Document:
    """A network, its addresses and its endpoints."""
    endpoints = model.endpoints_of(network.key)
    held = model.held(network.key)
    own = 0 if network.gateway is None else 1  # the gateway's: not counted, as in Contiv, but not available
    oper = {
        "allocatedAddressesCount": len(held) - own,
        "allocatedIPAddresses": _ranges([(a, a) for a in held]),
        "availableIPAddresses": _ranges(_gaps(network.first, network.last, held)),
        "endpoints": [endpoint_oper(e, model) for e in endpoints],
        "externalPktTag": network.tag,
        "networkTag": f"{network.name}.{network.tenant}",
        "numEndpoints": len(endpoints),
        "pktTag": network.tag,
    }
    return {"Config": network_document(network, model), "Oper": filled(oper)}


def inspect_service(service: Service, model: Model) -> Document:
    """A service, its VIP and its providers."""
    providers = model.providers(service)
    oper = {
        "numProviders": len(providers),
        "providers": [_provider_oper(p, service, model) for p in providers],
        "serviceVip": service_vip(service),
    }
    return {"Config": service_document(service), "Oper": filled(oper)}


def _provider_oper(provider: Endpoint, service: Service, model: Model) -> Document:
    document = endpoint_oper(provider, model) | {"serviceName": service.name, "weight": provider.weight}
    if service.check is not None:
        document["check"] = "passing" if service.key in provider.passed else "failing"
    return document


def inspect_endpoint(part: str, model: Model) -> Document:
    """The one endpoint whose id, container id or container name has this part."""
    return {"Oper": endpoint_oper(find_endpoint(part, model), model)}


def find_endpoint(part: str, model: Model) -> Endpoint:
    """By part of its id, container id or container name; a whole one goes before parts."""
    endpoints = model.endpoints.values()
    found = [e for e in endpoints if part in _names(e)] or [
        e for e in endpoints if any(part in name for name in _names(e))
    ]
    if not found:
        raise NotFound(f"endpoint {part} not found")
    if len(found) > 1:
        names = sorted(f"{e.id} ({_bare(e.container_name)})" if e.container_name else e.id for e in found)
        more = "" if len(names) <= MAX_CANDIDATES else f" and {len(names) - MAX_CANDIDATES} more"
        raise Conflict(f"endpoint {part} is ambiguous: {', '.join(names[:MAX_CANDIDATES])}{more}")
    return found[0]


def endpoint_oper(endpoint: Endpoint, model: Model) -> Document:
    """An endpoint in Contiv's fields and forms."""
    host = model.hosts.get(endpoint.host)
    tunnel = None if host is None else host.tunnel_address
    name = _bare(endpoint.container_name)
    return filled(
        {
            "containerID": endpoint.container_id,
            "containerName": f"/{name}" if name else "",
            "endpointID": endpoint.id,
            "homingHost": endpoint.host,
            "intfName": endpoint.port_name,
            "ipAddress": [str(a) for a in endpoint.addresses] + [""],  # Contiv: IPv4, IPv6
            "labels": _labels(endpoint),
            "macAddress": endpoint.mac,
            "network": f"{endpoint.network}.{endpoint.tenant}",
            "serviceName": ",".join(s.name for s in model.selected_by(endpoint)),
            "vtepIP": "" if tunnel is None else str(tunnel),
            "state": endpoint.state,
            "health": endpoint.health,
            "weight": weight_shown(endpoint),
            "passed": list(endpoint.passed),
        }
    )


def _names(endpoint: Endpoint) -> tuple[str, ...]:
    bare = _bare(endpoint.container_name)
    return (endpoint.id, endpoint.container_id, *((bare, f"/{bare}") if bare else ()))


def _bare(container_name: str) -> str:
    return container_name.removeprefix("/")


def _labels(endpoint: Endpoint) -> str:
    # a string, as Go prints a map: Contiv's client decodes nothing else
    return "map[" + " ".join(f"{k}:{v}" for k, v in endpoint.labels) + "]" if endpoint.labels else ""


def _gaps(first: IPv4Address, last: IPv4Address, held: Iterable[IPv4Address]) -> list[Span]:
    gaps: list[Span] = []
    for address in held:
        if first <= address <= last:
            if first < address:
                gaps.append((first, address - 1))
            first = address + 1
    if first <= last:
        gaps.append((first, last))
    return gaps


def _ranges(spans: Iterable[Span]) -> str:
    """Spans in order, adjacent ones joined: ``10.1.1.1-10.1.1.3, 10.1.1.9``."""
    joined: list[Span] = []
    for first, last in spans:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in joined)
