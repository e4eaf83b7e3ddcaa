"""``netctl endpoint``, or ``ep``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
from netctl.commands.fields import asked, document_flags
from netctl.output import say, say_json
from topology.reports import EndpointDoc

SHORT_ID = 12
DOCKER_ID = re.compile(r"[0-9a-f]{64}")

endpoint = noun("endpoint", "Endpoints: attachments of containers and bare hosts to networks.")


def short_id(identifier: str) -> str:
    """Docker's ids as Docker shows them. An id that a user chose stays whole."""
    return identifier[:SHORT_ID] if DOCKER_ID.fullmatch(identifier) else identifier


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        short_id(doc.get("endpointID", "")),
        doc.get("tenantName", ""),
        doc.get("networkName", ""),
        ",".join(doc.get("ipAddress", [])),
        doc.get("macAddress", ""),
        doc.get("homingHost", "") or doc.get("switch", ""),
        doc.get("containerName", "").removeprefix("/") or short_id(doc.get("containerID", "")),
        doc.get("state", ""),
        doc.get("health", ""),
    )


LISTING = Listing(
    order=("tenantName", "networkName", "endpointID"),
    columns=("Endpoint", "Tenant", "Network", "Address", "MAC", "Host", "Container", "State", "Health"),
    row=_row,
)


@endpoint.command()
@name_argument("Endpoint ID", "ID")
@tenant_flag
@document_flags(EndpointDoc)
@flag("--ip", metavar="A.B.C.D", text="Its address.", absent="default: the lowest free one")
@flag("--ipv6", metavar="ADDRESS", text="Its IPv6 address.", absent="default: the lowest free one, if any")
@pass_target
def create(target: Target, /, *, name: str, tenant: str, ip: str, ipv6: str, **given: Any) -> None:
    """Register a bare host: one on a switch port, without Docker. Containers register by themselves."""
    wish = asked(EndpointDoc, given, tenantName=tenant, endpointID=name)
    if addresses := [address for address in (ip, ipv6) if address]:
        wish["ipAddress"] = addresses
    with target.connect() as client:
        client.put_endpoint(wish)
    say(f"Creating endpoint {name}")


@endpoint.command()
@list_flags
@pass_target
def ls(target: Target, tenant: str, every: bool, as_json: bool, quiet: bool) -> None:
    """List endpoints."""
    with target.connect() as client:
        docs = of_tenant(client, client.endpoints(), tenant, every)
    LISTING.show(docs, as_json=as_json, quiet=quiet)


@endpoint.command()
@name_argument("Endpoint ID", "ID")
@pass_target
def inspect(target: Target, name: str) -> None:
    """Show all about an endpoint, as JSON.

    ID: part of an endpoint id, of a container id or of a container's name.
    """
    with target.connect() as client:
        say_json(client.inspect("endpoints", name.removeprefix("/")))


@endpoint.command()
@name_argument("Endpoint ID", "ID")
@pass_target
def rm(target: Target, name: str) -> None:
    """Remove the endpoint of a bare host, by its whole ID."""
    with target.connect() as client:
        client.delete_endpoint(name)
    say(f"Deleting endpoint {name}")
