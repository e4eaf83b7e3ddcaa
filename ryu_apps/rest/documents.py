"""The documents of the REST API and the model: objects to documents, checked documents to specs.

Fields, names and what is left out are those of Contiv: a field that is empty or zero is not there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ryu_apps.liveness import Life
from ryu_apps.pipeline.explain import name as shown_name
from ryu_apps.rest.schemas import HEALTH_CHECK, NETWORK, SERVICE
from topology.errors import BadRequest, Invalid
from topology.model import DEFAULT_DRAIN, Address, Check, Endpoint, Host, Network, Service, Tenant
from topology.options import label_troubles
from topology.providers import healthy, providers
from topology.snapshot import Model
from topology.specs import CheckSpec, EndpointSpec, NetworkSpec, ServiceSpec
from topology.validate import subnet_text

Document = dict[str, Any]

MOST_LINES = 5  # about labels, of one service
OPEN_VSWITCH = "Open vSwitch"
"""Under this name an agent reports that its Open vSwitch does not work."""

UNKNOWN = {"state": "unknown", "reason": "only the leading controller knows how hosts are, and none answers"}
"""How a host is, by a controller that does not lead."""


@dataclass(frozen=True, slots=True)
class HostState:
    """What is known of a host beside its object."""

    connected: bool
    life: Life
    mtu: int  # of its containers; 0: it has not said
    applied: int
    errors: Mapping[str, str]
    broken: float = 0.0  # since when its Open vSwitch is reported as broken, s since the epoch; 0: it is not


# documents to specs


def take_path(document: Document, fields: tuple[str, ...], key: str) -> tuple[str, ...]:
    """The parts of a path's key; where the document has those fields, or ``key``, they must say the same."""
    parts = tuple(key.split(":", 2)) if len(fields) > 1 else (key,)  # a third one may be an IPv6 address
    if len(parts) != len(fields) or not all(parts):
        form = ":".join(fields)
        raise BadRequest(f"key {key}: must be {form}")
    for name, part in zip(("key", *fields), (key, *parts), strict=True):
        given = document.get(name, part)
        if given not in (part, ""):
            raise BadRequest(f"{name}: {given} in the body, but {part} in the path")
    return parts


def network_spec(document: Document, key: str) -> NetworkSpec:
    """The network that a document asks for."""
    NETWORK.check(document)
    tenant, name = take_path(document, ("tenantName", "networkName"), key)
    return NetworkSpec(
        tenant=tenant,
        name=name,
        subnet=document.get("subnet", ""),
        gateway=document.get("gateway", ""),
        encap=document.get("encap", ""),
        pkt_tag=document.get("pktTag", 0),
        nw_type=document.get("nwType", ""),
        cfgd_tag=document.get("cfgdTag", ""),
        subnet6=document.get("ipv6Subnet", ""),
        gateway6=document.get("ipv6Gateway", ""),
        nat=document.get("nat", False),
        nat_host=document.get("natHost", False),
        internal=document.get("internal", False),
        docker_ipam=document.get("dockerIPAM", False),
    )


def service_spec(document: Document, key: str) -> ServiceSpec:
    """The service that a document asks for."""
    SERVICE.check(document)
    tenant, name = take_path(document, ("tenantName", "serviceName"), key)
    return ServiceSpec(
        tenant=tenant,
        name=name,
        network=document.get("networkName", ""),
        ip_address=document.get("ipAddress", ""),
        selectors=document.get("selectors", []),
        ports=document.get("ports", []),
        affinity=document.get("sessionAffinity", 0),
        affinity_mode=document.get("affinityMode", ""),
        drain=document.get("drainTimeout", DEFAULT_DRAIN),
        check=_check_spec(document["healthCheck"]) if "healthCheck" in document else None,
        ip_address6=document.get("ipv6Address", ""),
        publish=document.get("publish", []),
    )


def _check_spec(document: Document) -> CheckSpec:
    HEALTH_CHECK.check(document, "healthCheck: ")
    return CheckSpec(
        protocol=document.get("protocol", ""),
        path=document.get("path", ""),
        interval=document.get("interval"),
        timeout=document.get("timeout"),
        rise=document.get("rise"),
        fall=document.get("fall"),
    )


def endpoint_spec(document: Document, key: str, *, host: str = "", origin: str = "rest") -> EndpointSpec:
    """The endpoint that a document asks for; ``host``: it comes from that host's agent."""
    take_path(document, ("endpointID",), key)
    homing = document.get("homingHost", "") or host
    if host and homing != host:
        raise BadRequest(f"homingHost: {homing} in the body, but {host} in the path")
    return EndpointSpec(
        id=key,
        tenant=document.get("tenantName", ""),
        network=document.get("networkName", ""),
        addresses=document.get("ipAddress", []),
        mac=document.get("macAddress", ""),
        host=homing,
        switch=dpid(document.get("switch", "")),
        port_name=document.get("portName", ""),
        labels=document.get("labels", {}),
        container_id=document.get("containerID", ""),
        container_name=document.get("containerName", ""),
        health=document.get("health", ""),
        state=document.get("state") or "running",
        origin=document.get("origin") or origin,
        weight=document.get("weight"),
        no_way_back=document.get("noWayBack", ""),
        primary=document.get("primary", False),
    )


def dpid(text: str) -> int:
    """A datapath id from its hexadecimal form; empty: 0."""
    if not re.fullmatch(r"[0-9a-fA-F]{0,16}", text):
        raise Invalid(f"switch {text}: must be a datapath id, up to 16 hexadecimal digits")
    return int(text or "0", 16)


# objects to documents


def filled(document: Document) -> Document:
    """The document without its fields that are empty or zero."""
    return {k: v for k, v in document.items() if v not in ("", 0, None, [], {})}


def link(kind: str, key: str) -> Document:
    """Contiv's reference to another object."""
    return {"type": kind, "key": key}


def agent_tenant_document(tenant: Tenant) -> Document:
    """A tenant as agents need it to look after its conntrack zones."""
    return tenant_document(tenant) | {"number": tenant.number}


def tenant_document(tenant: Tenant, model: Model | None = None) -> Document:
    """A tenant; with the model, also links to what it has."""
    sets: Document = {}
    if model is not None:
        networks = model.networks_of(tenant.name)
        services = model.services_of_tenant(tenant.name)
        sets = filled(
            {
                "Networks": {n.key: link("network", n.key) for n in networks},
                "Servicelbs": {s.key: link("serviceLB", s.key) for s in services},
            }
        )
    return filled({"key": tenant.key, "tenantName": tenant.name, "link-sets": sets})


def network_document(network: Network, model: Model | None = None) -> Document:
    """A network as it was asked for; with the model, also links to its services."""
    services = [] if model is None else model.services_of(network.key)
    return filled(
        {
            "key": network.key,
            "cfgdTag": network.cfgd_tag,
            "dockerIPAM": network.docker_ipam,
            "encap": network.encap,
            "gateway": _text(network.gateway),
            "ipv6Gateway": _text(network.gateway6),
            "ipv6Subnet": "" if network.subnet6 is None else str(network.subnet6),
            "internal": network.internal,
            "nat": network.nat,
            "natHost": network.nat_host,
            "networkName": network.name,
            "nwType": network.nw_type,
            "pktTag": network.requested_tag,
            "subnet": subnet_text(network),
            "tenantName": network.tenant,
            "link-sets": filled({"Servicelbs": {s.key: link("serviceLB", s.key) for s in services}}),
            "links": {"Tenant": link("tenant", network.tenant)},
        }
    )


def agent_network_document(network: Network) -> Document:
    """A network as agents need it to make the Docker network of it."""
    return network_document(network) | {"number": network.number, "dockerName": network.docker_name}


def service_document(service: Service) -> Document:
    """A service as it was asked for. Options that have their defaults are left out: Contiv has none of them."""
    document = filled(
        {
            "key": service.key,
            "ipAddress": _text(service.requested_vip),
            "ipv6Address": _text(service.requested_vip6),
            "networkName": service.network,
            "ports": [str(p) for p in service.ports],
            "publish": [str(p) for p in service.published],
            "selectors": [f"{k}={v}" for k, v in service.selectors],
            "serviceName": service.name,
            "tenantName": service.tenant,
            "sessionAffinity": service.affinity,
            "affinityMode": service.affinity_mode if service.affinity else "",
            "healthCheck": {} if service.check is None else _check_document(service.check),
            "links": {
                "Network": link("network", service.network_key),
                "Tenant": link("tenant", service.tenant),
            },
        }
    )
    # none at all is a choice as well
    return document if service.drain == DEFAULT_DRAIN else document | {"drainTimeout": service.drain}


def _check_document(check: Check) -> Document:
    return filled(
        {
            "protocol": check.protocol,
            "path": check.path,
            "interval": check.interval,
            "timeout": check.timeout,
            "rise": check.rise,
            "fall": check.fall,
        }
    )


def listed_service_document(service: Service, model: Model, away: Callable[[Endpoint], str] | None) -> Document:
    """A service with, beyond Contiv's fields, its VIPs and how many providers it has, and why some are none.

    ``away``: as `healthy` takes it; None: that is not known here, and so not how many of them are healthy.
    """
    found = providers(model, service)
    document = service_document(service) | service_vips(service) | {"numProviders": len(found)}
    wrong = [f"{shown_name(p.lead)}: {line}" for p in found for line in label_troubles(p.lead.labels)]
    more = [f"and {len(wrong) - MOST_LINES} more"] if len(wrong) > MOST_LINES else []
    document |= filled({"labelErrors": wrong[:MOST_LINES] + more})
    if away is None:
        return document
    states = [healthy(model, service, provider, away) for provider in found]
    reasons = dict.fromkeys(reason for _, reason in states if reason)
    return document | {"healthyProviders": sum(good for good, _ in states)} | filled({"noWayBack": list(reasons)})


def agent_service_document(service: Service) -> Document:
    """A service as agents need it: to try its providers, and to send it what comes to its published ports."""
    published = {"publishedAddress": str(service.published_address)} if service.published else {}
    return service_document(service) | service_vips(service) | published


def service_vips(service: Service) -> Document:
    """The VIPs of a service: its second one is IPv6."""
    return dict(zip(("serviceVip", "serviceVip6"), map(str, service.vips), strict=False))


def endpoint_document(endpoint: Endpoint) -> Document:
    """An endpoint; the same fields make one."""
    return filled(
        {
            "key": endpoint.key,
            "endpointID": endpoint.id,
            "tenantName": endpoint.tenant,
            "networkName": endpoint.network,
            "ipAddress": [str(a) for a in endpoint.addresses],
            "macAddress": endpoint.mac,
            "homingHost": endpoint.host,
            "switch": hex_dpid(endpoint.switch),
            "portName": endpoint.port_name,
            "labels": dict(endpoint.labels),
            "containerID": endpoint.container_id,
            "containerName": endpoint.container_name,
            "health": endpoint.health,
            "state": endpoint.state,
            "origin": endpoint.origin,
            "weight": weight_shown(endpoint),
            "labelErrors": label_troubles(endpoint.labels),
            "noWayBack": endpoint.no_way_back,
            "primary": endpoint.primary,
            "passed": list(endpoint.passed),
        }
    )


def weight_shown(endpoint: Endpoint) -> int:
    """The weight of an endpoint where it has one of its own; else 0, which is left out."""
    return endpoint.weight if endpoint.weight != 1 else 0


def host_document(host: Host, state: HostState | None = None) -> Document:
    """A host; with its state, also how its agent is doing."""
    document = filled(
        {
            "key": host.key,
            "hostName": host.name,
            "switch": hex_dpid(host.switch),
            "tunnelAddress": _text(host.tunnel_address),
            "version": host.version,
            "datapathType": host.datapath_type,
            "hostAddress": _text(host.address),
            "draining": host.draining,
        }
    )
    if state is None:
        return document
    document["connected"] = state.connected
    if state.life.heartbeat is not None:
        document["lastHeartbeat"] = round(max(0.0, state.life.heartbeat), 1)
    document |= {"appliedRevision": state.applied, **_condition(host, state)}
    return document | filled({"mtu": state.mtu, "errors": dict(state.errors)})


def _condition(host: Host, state: HostState) -> Document:
    """Whether a host is up, degraded (a part of it is silent or broken), down or draining, since when and why.

    What is wrong goes before draining.
    """
    life = state.life
    beat = "" if life.heartbeat is None else f"heartbeat {life.heartbeat:.0f} s ago"
    switch = "its switch answers" if life.switch else "its switch does not answer"
    since, why = time.time() - life.since, ", ".join(filter(None, (beat, switch)))
    broken = f"{OPEN_VSWITCH} {state.errors.get(OPEN_VSWITCH, '')}" if state.broken else ""
    if life.down:
        name, why = "down", f"{beat or 'no heartbeat since the controller started'}, {switch}"
    elif broken or life.degraded is not None:
        name, why = "degraded", ", ".join(filter(None, (broken, why)))
        since = min(s for s in (state.broken, life.degraded and time.time() - life.degraded) if s)
    elif host.draining:
        name, since = "draining", host.draining_since
        why = "its providers get no new connections; netctl host undrain ends that"
    else:
        name = "up"
    return {"state": name, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)), "reason": why}


def hex_dpid(value: int) -> str:
    """A datapath id as 16 hexadecimal digits; 0, which is none: empty."""
    return f"{value:016x}" if value else ""


def _text(address: Address | None) -> str:
    return "" if address is None else str(address)
