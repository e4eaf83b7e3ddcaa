"""``netctl service``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netctl.client import key_of
from netctl.commands.base import (
    Listing,
    Target,
    flag,
    list_flags,
    name_argument,
    noun,
    of_tenant,
    pass_target,
    tenant_flag,
)
from netctl.documents import ServiceDoc
from netctl.output import say, say_json

service = noun("service", "Services: an address and ports, in front of the containers whose labels match.")


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        doc.get("serviceName", ""),
        doc.get("tenantName", ""),
        doc.get("networkName", ""),
        doc.get("serviceVip", ""),
        ",".join(doc.get("ports", [])),
        f"{doc.get('healthyProviders', 0)}/{doc.get('numProviders', 0)}",
        f"[{' '.join(doc.get('selectors', []))}]",
    )


LISTING = Listing(
    order=("tenantName", "serviceName"),
    columns=("ServiceName", "Tenant", "Network", "VIP", "Ports", "Providers", "Selectors"),
    row=_row,
)


@service.command()
@name_argument("Service name")
@tenant_flag
@flag("--network", "-s", metavar="NETWORK", text="Network to take its address from.", absent="required")
@flag(
    "--selector",
    "-l",
    metavar="KEY=VALUE",
    text="Label that containers must have to be its providers; repeat for more.",
    absent="required",
    multiple=True,
)
@flag(
    "--port",
    "-p",
    metavar="SERVICE:PROVIDER:PROTO",
    text="Its port, its providers' port, TCP or UDP: 80:8080:TCP; repeat for more.",
    absent="required",
    multiple=True,
)
@flag(
    "--preferred-ip",
    "-ip",
    metavar="A.B.C.D",
    text="Its address (VIP).",
    absent="default: the lowest free one",
)
@pass_target
def create(
    target: Target,
    *,
    name: str,
    tenant: str,
    network: str,
    selector: tuple[str, ...],
    port: tuple[str, ...],
    preferred_ip: str,
) -> None:
    """Create a service, or change one: it becomes exactly what the flags say.

    \b
    netctl service create web --network services --port 80:8080:TCP \\
        --selector tier=web --selector release=stable
    """
    doc: ServiceDoc = {
        "tenantName": tenant,
        "serviceName": name,
        "networkName": network,
        "selectors": list(selector),
        "ports": list(port),
    }
    if preferred_ip:
        doc["ipAddress"] = preferred_ip
    with target.connect() as client:
        client.put_service(doc)
    say(f"Creating ServiceLB {key_of(tenant, name)}")


@service.command()
@list_flags
@pass_target
def ls(target: Target, tenant: str, every: bool, as_json: bool, quiet: bool) -> None:
    """List services; Providers: healthy/all."""
    with target.connect() as client:
        docs = client.services()
    LISTING.show(of_tenant([*docs], tenant, every), as_json=as_json, quiet=quiet)


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
