"""``netctl network``, or ``net``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from netctl.client import Client, ClientError, key_of
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
from topology.documents import NetworkDoc

network = noun("network", "Networks: subnets that containers and services are put in.")


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    fields = ("subnet", "gateway", "ipv6Subnet", "ipv6Gateway", "cfgdTag")
    names = (doc.get(f, "") for f in ("tenantName", "networkName", "nwType", "encap"))
    nat = ("host" if doc.get("natHost") else "yes") if doc.get("nat") else ""
    truths = (nat, "yes" if doc.get("internal") else "")
    return (*names, doc.get("pktTag", 0), *(doc.get(f, "") for f in fields), *truths)


LISTING = Listing(
    order=("tenantName", "networkName"),
    columns=(
        "Tenant",
        "Network",
        "Nw Type",
        "Encap type",
        "Packet tag",
        "Subnet",
        "Gateway",
        "IPv6Subnet",
        "IPv6Gateway",
        "Cfgd Tag",
        "NAT",
        "Internal",
    ),
    row=_row,
)


def _look_for_hosts(client: Client) -> None:
    with suppress(ClientError):  # the network is there all the same
        if not any(host.get("connected") for host in client.hosts()):
            click.echo("No Docker host is connected: no container can join before one is (netctl host ls)", err=True)


@network.command()
@name_argument("Network name")
@tenant_flag
@document_flags(NetworkDoc)
@pass_target
def create(target: Target, /, *, name: str, tenant: str, **given: Any) -> None:
    """Create a network. When this returns, "docker run --net=NAME" works on every connected host.

    A network can't be changed afterwards. For a tenant other than "default", it is --net=NAME/TENANT.
    """
    wish = asked(NetworkDoc, given, tenantName=tenant, networkName=name)
    if "subnet" not in wish:
        raise click.UsageError("Network subnet required: --subnet A.B.C.D/LEN")
    with target.connect() as client:
        client.put_network(wish)
        say(f"Creating network {key_of(tenant, name)}")
        _look_for_hosts(client)


@network.command()
@list_flags
@pass_target
def ls(target: Target, tenant: str, every: bool, as_json: bool, quiet: bool) -> None:
    """List networks."""
    with target.connect() as client:
        docs = of_tenant(client, client.networks(), tenant, every)
    LISTING.show(docs, as_json=as_json, quiet=quiet)


@network.command()
@name_argument("Network name")
@tenant_flag
@pass_target
def inspect(target: Target, name: str, tenant: str) -> None:
    """Show all about a network, as JSON: its addresses and endpoints too."""
    with target.connect() as client:
        say_json(client.inspect("networks", key_of(tenant, name)))


@network.command()
@name_argument("Network name")
@tenant_flag
@pass_target
def rm(target: Target, name: str, tenant: str) -> None:
    """Remove a network that no endpoint and no service uses."""
    with target.connect() as client:
        client.delete_network(key_of(tenant, name))
    say(f"Deleting network {key_of(tenant, name)}")
