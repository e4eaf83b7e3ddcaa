"""The documents of what is: objects of the model with links, counts and states beside what was asked for.

Fields, names and what is left out are those of Contiv: a field that is empty or zero is not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ryu_apps.liveness import Life
from ryu_apps.pipeline.explain import name as shown_name
from topology.contract import Document, document_of, filled, shown
from topology.documents import NetworkDoc, ServiceDoc, TenantDoc
from topology.errors import BadRequest
from topology.model import Endpoint, Host, Network, Service, Tenant
from topology.options import label_troubles
from topology.providers import healthy, providers
from topology.reports import HostDoc
from topology.snapshot import Model
from topology.validate import show

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


# requests


def take_path(document: Document, fields: tuple[str, ...], key: str) -> Document:
    """The document with the parts of its path's key; where it has those fields, or ``key``, they must say the same."""
    parts = tuple(key.split(":", 2)) if len(fields) > 1 else (key,)  # a third one may be an IPv6 address
    if len(parts) != len(fields) or not all(parts):
        form = ":".join(fields)
        raise BadRequest(f"key {key}: must be {form}")
    for name, part in zip(("key", *fields), (key, *parts), strict=True):
        given = document.get(name, part)
        if given not in (part, ""):
            raise BadRequest(f"{name}: {_plain(given)} in the body, but {part} in the path")
    return document | dict(zip(fields, parts, strict=True))


def _plain(value: Any) -> str:
    return show(value) if isinstance(value, str) else shown(value)


# objects to documents


def link(kind: str, key: str) -> Document:
    """Contiv's reference to another object."""
    return {"type": kind, "key": key}


def tenant_document(tenant: Tenant, model: Model | None = None) -> Document:
    """A tenant; with the model, also links to what it has."""
    sets: Document = {}
    if model is not None:
        networks = model.networks_of(tenant.name)
        services = model.services_of_tenant(tenant.name)
        sets = {
            "Networks": {n.key: link("network", n.key) for n in networks},
            "Servicelbs": {s.key: link("serviceLB", s.key) for s in services},
        }
    return document_of(TenantDoc, tenant) | filled({"link-sets": filled(sets)})


def network_document(network: Network, model: Model | None = None) -> Document:
    """A network as it was asked for; with the model, also links to its services."""
    services = [] if model is None else model.services_of(network.key)
    sets = filled({"Servicelbs": {s.key: link("serviceLB", s.key) for s in services}})
    links = {"Tenant": link("tenant", network.tenant)}
    return document_of(NetworkDoc, network) | filled({"link-sets": sets, "links": links})


def service_document(service: Service) -> Document:
    """A service as it was asked for, with links."""
    links = {"Network": link("network", service.network_key), "Tenant": link("tenant", service.tenant)}
    return document_of(ServiceDoc, service) | {"links": links}


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
    return document_of(ServiceDoc, service) | service_vips(service) | published


def service_vips(service: Service) -> Document:
    """The VIPs of a service: its second one is IPv6."""
    return dict(zip(("serviceVip", "serviceVip6"), map(str, service.vips), strict=False))


def host_document(host: Host, state: HostState | None = None) -> Document:
    """A host; with its state, also how its agent is doing."""
    document = document_of(HostDoc, host)
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
