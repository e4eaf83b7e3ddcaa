"""Documents, by the words of the model: what a test asks the commands for."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from topology.documents import HealthCheckDoc, NetworkDoc, ServiceDoc
from topology.reports import EndpointDoc, HostDoc

_NETWORK = {
    "name": "networkName", "pkt_tag": "pktTag", "nw_type": "nwType", "cfgd_tag": "cfgdTag", "subnet6": "ipv6Subnet",
    "gateway6": "ipv6Gateway", "docker_ipam": "dockerIPAM", "nat_host": "natHost",
}  # fmt: skip
_SERVICE = {
    "name": "serviceName", "network": "networkName", "ip_address": "ipAddress", "ip_address6": "ipv6Address",
    "affinity": "sessionAffinity", "affinity_mode": "affinityMode", "drain": "drainTimeout", "check": "healthCheck",
}  # fmt: skip
_ENDPOINT = {
    "id": "endpointID", "network": "networkName", "addresses": "ipAddress", "mac": "macAddress", "host": "homingHost",
    "port_name": "portName", "container_id": "containerID", "container_name": "containerName",
    "no_way_back": "noWayBack",
}  # fmt: skip


def _document(names: dict[str, str], order: tuple[str, ...], values: tuple[Any, ...], more: dict[str, Any]) -> Any:
    given = dict(zip(order[: len(values)], values, strict=True)) | more
    found = {{"tenant": "tenantName", **names}.get(name, name): value for name, value in given.items()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items() if v is not None}


def network_doc(*values: Any, **more: Any) -> NetworkDoc:
    """A network: tenant, name, subnet, gateway, encap, pkt_tag."""
    order = ("tenant", "name", "subnet", "gateway", "encap", "pkt_tag")
    return cast(NetworkDoc, _document(_NETWORK, order, values, more))


def service_doc(*values: Any, **more: Any) -> ServiceDoc:
    """A service: tenant, name, network, ip_address, selectors, ports."""
    order = ("tenant", "name", "network", "ip_address", "selectors", "ports")
    return cast(ServiceDoc, _document(_SERVICE, order, values, more))


def check_doc(*values: Any, **more: Any) -> HealthCheckDoc:
    """A service's active check: protocol, path, interval, timeout, rise, fall."""
    order = ("protocol", "path", "interval", "timeout", "rise", "fall")
    return cast(HealthCheckDoc, _document({}, order, values, more))


def endpoint_doc(*values: Any, **more: Any) -> EndpointDoc:
    """An endpoint: id, tenant, network, addresses, mac. ``switch``: a number."""
    found = _document(_ENDPOINT, ("id", "tenant", "network", "addresses", "mac"), values, more)
    if isinstance(found.get("switch"), int):
        found["switch"] = f"{found['switch']:x}"
    return cast(EndpointDoc, found)


def host_doc(name: str, switch: int, tunnel: str = "", version: str = "", kind: str = "") -> HostDoc:
    """A host, as its agent tells of it."""
    found = {"hostName": name, "switch": f"{switch:x}", "tunnelAddress": tunnel, "version": version}
    return cast(HostDoc, {**found, "datapathType": kind})


def replace(thing: Any, **more: Any) -> Any:
    """A document, or an object of the model, with other values in these fields; a document by the same words."""
    if not isinstance(thing, dict):
        return dataclasses.replace(thing, **more)
    make = service_doc if "serviceName" in thing else endpoint_doc if "endpointID" in thing else network_doc
    return {**thing, **make(**more)}
