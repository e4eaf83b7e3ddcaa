"""``netctl endpoint``, or ``ep``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import click

from netctl.commands.base import (
    Listing,
    Target,
    flag,
    list_flags,
    name_argument,
    noun,
    number_flag,
    of_tenant,
    pass_target,
    tenant_flag,
)
from netctl.documents import EndpointDoc
from netctl.output import say, say_json, without_empty

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


def _labels(_ctx: click.Context, _param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--label takes KEY=VALUE, not {pair!r}")
        if labels.setdefault(key, value) != value:
            raise click.UsageError(f"--label {key} is given twice: {labels[key]!r} and {value!r}")
    return labels


@endpoint.command()
@name_argument("Endpoint ID", "ID")
@tenant_flag
@flag("--network", "-s", metavar="NETWORK", text="Network that it is in.", absent="required")
@flag("--ip", metavar="A.B.C.D", text="Its address.", absent="default: the lowest free one")
@flag("--ipv6", metavar="ADDRESS", text="Its IPv6 address.", absent="default: the lowest free one, if any")
@flag(
    "--mac", "-m", metavar="MAC", text="Its MAC address, aa:bb:cc:dd:ee:ff.", absent="default: a made-up one"
)
@flag("--switch", "-w", metavar="DPID", text="Its switch: datapath id, hexadecimal.", absent="required")
@flag("--port-name", "-p", metavar="PORT", text="Its port of the switch, by name.", absent="required")
@flag(
    "--label",
    "-l",
    metavar="KEY=VALUE",
    text="Label, for the selectors of services; repeat for more.",
    absent="default: none",
    multiple=True,
    callback=_labels,
)
@number_flag(
    "--weight",
    metavar="N",
    text="Its share of a service's new connections beside others', 1 to 100.",
    absent="default: the label netctl.weight, or 1",
)
@pass_target
def create(
    target: Target,
    *,
    name: str,
    tenant: str,
    network: str,
    ip: str,
    ipv6: str,
    mac: str,
    switch: str,
    port_name: str,
    label: dict[str, str],
    weight: int | None,
) -> None:
    """Register a bare host: one on a switch port, without Docker. Containers register by themselves."""
    doc: EndpointDoc = {
        "endpointID": name,
        "tenantName": tenant,
        "networkName": network,
        "ipAddress": [address for address in (ip, ipv6) if address],
        "macAddress": mac,
        "switch": switch,
        "portName": port_name,
    }
    doc = cast(EndpointDoc, without_empty(doc))
    if label:
        doc["labels"] = label  # a label's value may be empty
    if weight is not None:
        doc["weight"] = weight
    with target.connect() as client:
        client.put_endpoint(doc)
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
