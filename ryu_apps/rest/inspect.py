"""``inspect``: what was asked for (Config) beside what is (Oper), in Contiv's fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from ryu_apps.pipeline.explain import SHORT_ID, name
from ryu_apps.rest.documents import network_document, service_document, service_vips, tenant_document
from topology.contract import Document, filled
from topology.errors import Conflict, NotFound
from topology.indexes import ENDPOINTS_OF_TENANT
from topology.model import Endpoint, Network, Service, Tenant
from topology.options import label_troubles
from topology.providers import HOST_DOWN, PORT_DOWN, Provider, lost, providers, shown
from topology.snapshot import Model

MAX_CANDIDATES = 5
SHORTEST_ID = 4  # characters of an id that are not taken for a name that is not there
NO_VLAN = "no 802.1Q tag is free: it does not reach over links between switches; delete a network to free one"

Span = tuple[int, int]
"""First and last address."""

# by IP version: how many are allocated, which, and which are not
ADDRESS_FIELDS = {
    4: ("allocatedAddressesCount", "allocatedIPAddresses", "availableIPAddresses"),
    6: ("allocatedIPv6AddressesCount", "allocatedIPv6Addresses", "availableIPv6Addresses"),
}


def inspect_tenant(tenant: Tenant, model: Model) -> Document:
    """A tenant and how much it has."""
    networks = model.networks_of(tenant.name)
    services = model.services_of_tenant(tenant.name)
    oper = {
        "totalEndpoints": model.count(ENDPOINTS_OF_TENANT, tenant.name),
        "totalNetworks": len(networks),
        "totalServicelbs": len(services),
    }
    return {"Config": tenant_document(tenant, model), "Oper": filled(oper)}


def inspect_network(network: Network, model: Model) -> Document:
    """A network, its addresses and its endpoints."""
    endpoints = model.endpoints_of(network.key)
    oper: Document = {}
    for subnet, gateway in zip(network.subnets, (network.gateway, network.gateway6), strict=False):
        held = [int(a) for a in model.held(network.key) if a.version == subnet.version]
        own = 0 if gateway is None else 1  # the gateway's: not counted, as in Contiv, but not available
        allocated = _ranges([(a, a) for a in held])
        available = _ranges(_gaps(*network.handed_out(subnet.version), held))
        oper |= dict(zip(ADDRESS_FIELDS[subnet.version], (len(held) - own, allocated, available), strict=True))
    oper |= {
        "endpoints": [endpoint_oper(e, model) for e in endpoints],
        "externalPktTag": network.tag,
        "networkTag": f"{network.name}.{network.tenant}",
        "numEndpoints": len(endpoints),
        "pktTag": network.tag,
        "linkTag": network.vlan,
        "status": "" if network.vlan else NO_VLAN,
    }
    return {"Config": network_document(network, model), "Oper": filled(oper)}


def inspect_service(service: Service, model: Model, away: Callable[[Endpoint], str] | None) -> Document:
    """A service, its VIPs and its providers. ``away``: as `healthy` takes it; None: that is not known here."""
    found = providers(model, service)
    oper = {
        "numProviders": len(found),
        "providers": [_provider_oper(p, service, model, away) for p in found],
        "published": [str(p) for p in service.published],
        "publishedAddress": str(service.published_address) if service.published else "",
        **service_vips(service),
    }
    return {"Config": service_document(service), "Oper": filled(oper)}


def _provider_oper(
    provider: Provider, service: Service, model: Model, away: Callable[[Endpoint], str] | None
) -> Document:
    """A provider at the address where it is reached, and which others it has."""
    endpoint = shown(model, service, provider)
    document = endpoint_oper(endpoint, model) | {"serviceName": service.name, "weight": endpoint.weight}
    document.pop("noWayBack", None)  # of this address alone: another may have one
    if service.check is not None:
        document["check"] = "passing" if service.key in endpoint.passed else "failing"
    host = model.hosts.get(endpoint.host)
    where = "" if away is None else away(endpoint)
    if where == PORT_DOWN:
        document["portState"] = "down"
    if where == HOST_DOWN:
        document["hostState"] = "down"
    elif host is not None and (host.draining or away is None):
        document["hostState"] = "draining" if host.draining else "unknown"
    others = [_address_oper(e, model) for e in provider.endpoints if e.id != endpoint.id]
    return document | filled({"noWayBack": lost(model, provider), "otherAddresses": others})


def _address_oper(endpoint: Endpoint, model: Model) -> Document:
    return {
        key: value
        for key, value in endpoint_oper(endpoint, model).items()
        if key in {"endpointID", "network", "ipAddress", "noWayBack"}
    }


def inspect_endpoint(part: str, model: Model) -> Document:
    """The one endpoint whose id, container id or container name has this part."""
    return {"Oper": endpoint_oper(find_endpoint(part, model), model)}


def find_endpoint(part: str, model: Model) -> Endpoint:
    """By its id, container id or container name, or by the beginning of one."""
    return the_one(part, find_endpoints(part, model))


def find_endpoints(part: str, model: Model) -> list[Endpoint]:
    """All that the part may mean: whole names and ids go first, then beginnings of names, then those of ids."""
    bare = part.removeprefix("/")
    endpoints = model.endpoints.values()
    return (
        [e for e in endpoints if bare in (e.id, e.container_id, _bare(e.container_name))]
        or [e for e in endpoints if _bare(e.container_name).startswith(bare)]
        or [
            e
            for e in endpoints
            if len(bare) >= SHORTEST_ID and (e.id.startswith(bare) or e.container_id.startswith(bare))
        ]
    )


def the_one(part: str, found: list[Endpoint]) -> Endpoint:
    """The endpoint that was found; refused where there is none, or more than one."""
    if not found:
        raise NotFound(f"endpoint {part} not found")
    if len(found) > 1:
        names = sorted(f"{name(e)} ({e.id[:SHORT_ID]}, network {e.network_key})" for e in found)
        more = "" if len(names) <= MAX_CANDIDATES else f" and {len(names) - MAX_CANDIDATES} more"
        raise Conflict(f"endpoint {part} is ambiguous: {', '.join(names[:MAX_CANDIDATES])}{more}")
    return found[0]


def endpoint_oper(endpoint: Endpoint, model: Model) -> Document:
    """An endpoint in Contiv's fields and forms."""
    host = model.hosts.get(endpoint.host)
    tunnel = None if host is None else host.tunnel_address
    bare = _bare(endpoint.container_name)
    return filled(
        {
            "containerID": endpoint.container_id,
            "containerName": f"/{bare}" if bare else "",
            "endpointID": endpoint.id,
            "homingHost": endpoint.host,
            "intfName": endpoint.port_name,
            "ipAddress": _both(endpoint),
            "labels": _labels(endpoint),
            "macAddress": endpoint.mac,
            "network": f"{endpoint.network}.{endpoint.tenant}",
            "serviceName": ",".join(s.name for s in model.selected_by(endpoint)),
            "vtepIP": "" if tunnel is None else str(tunnel),
            "state": endpoint.state,
            "health": endpoint.health,
            "weight": endpoint.weight if endpoint.weight != 1 else 0,
            "labelErrors": label_troubles(endpoint.labels),
            "passed": list(endpoint.passed),
            "noWayBack": lost(model, Provider((endpoint,))),
        }
    )


def _both(endpoint: Endpoint) -> list[str]:
    """Contiv's form: IPv4, IPv6, and empty text for the family that it has not."""
    families = ([str(a) for a in endpoint.addresses if a.version == version] for version in (4, 6))
    return [text for family in families for text in family or [""]]


def _bare(container_name: str) -> str:
    return container_name.removeprefix("/")


def _labels(endpoint: Endpoint) -> str:
    # a string, as Go prints a map: Contiv's client decodes nothing else
    return "map[" + " ".join(f"{k}:{v}" for k, v in endpoint.labels) + "]" if endpoint.labels else ""


def _gaps(first: int, last: int, held: Iterable[int]) -> list[Span]:
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
    return ", ".join("-".join(str(ip_address(a)) for a in dict.fromkeys(span)) for span in joined)
