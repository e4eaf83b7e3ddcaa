"""``netctl service``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from netctl.client import key_of
from netctl.commands.base import (
    Listing,
    Target,
    list_flags,
    name_argument,
    noun,
    of_tenant,
    pass_target,
    tenant_flag,
)
from netctl.commands.fields import asked, document_flags
from netctl.output import say, say_json
from topology.documents import ServiceDoc

service = noun(
    "service",
    "Services: an address and ports, in front of the containers whose labels match.",
    counters="stats",
)


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        doc.get("serviceName", ""),
        doc.get("tenantName", ""),
        doc.get("networkName", ""),
        ",".join(doc[field] for field in ("serviceVip", "serviceVip6") if doc.get(field)),
        ",".join(doc.get("ports", [])),
        _providers(doc),
        f"[{' '.join(doc.get('selectors', []))}]",
        ",".join(doc.get("publish", [])),
    )


def _providers(doc: Mapping[str, Any]) -> str:
    counted = f"{doc.get('healthyProviders', '?')}/{doc.get('numProviders', 0)}"
    reasons = doc.get("noWayBack", [])
    counted += f", no way back: {', '.join(reasons)}" if reasons else ""
    return ", ".join([counted, *doc.get("labelErrors", [])])


LISTING = Listing(
    order=("tenantName", "serviceName"),
    columns=("ServiceName", "Tenant", "Network", "VIP", "Ports", "Providers", "Selectors", "Published"),
    row=_row,
)


@service.command()
@name_argument("Service name")
@tenant_flag
@document_flags(ServiceDoc)
@pass_target
def create(target: Target, /, *, name: str, tenant: str, **given: Any) -> None:
    """Create a service, or change one: it becomes exactly what the flags say.

    \b
    netctl service create web --network services --port 80:8080:TCP \\
        --selector tier=web --selector release=stable
    """
    wish = asked(ServiceDoc, given, tenantName=tenant, serviceName=name)
    if (check := wish.get("healthCheck")) and "protocol" not in check:
        raise click.UsageError(f"--check-{next(iter(check))} needs --check tcp or --check http")
    with target.connect() as client:
        client.put_service(wish)
    say(f"Creating ServiceLB {key_of(tenant, name)}")


@service.command()
@list_flags
@pass_target
def ls(target: Target, tenant: str, every: bool, as_json: bool, quiet: bool) -> None:
    """List services; Providers: healthy/all."""
    with target.connect() as client:
        docs = of_tenant(client, client.services(), tenant, every)
    LISTING.show(docs, as_json=as_json, quiet=quiet)


@service.command()
@name_argument("Service name")
@tenant_flag
@pass_target
def inspect(target: Target, name: str, tenant: str) -> None:
    """Show all about a service, as JSON: its address and providers too."""
    with target.connect() as client:
        say_json(client.inspect("serviceLBs", key_of(tenant, name)))


@service.command()
@name_argument("Service name")
@tenant_flag
@pass_target
def rm(target: Target, name: str, tenant: str) -> None:
    """Remove a service."""
    with target.connect() as client:
        client.delete_service(key_of(tenant, name))
    say(f"Deleting ServiceLB {key_of(tenant, name)}")
