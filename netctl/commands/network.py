"""``netctl network``, or ``net``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import click

from netctl.client import Client, ClientError, key_of
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
from netctl.documents import NetworkDoc
from netctl.output import say, say_json, without_empty

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
@flag(
    "--subnet",
    "-s",
    metavar="A.B.C.D[-E.F.G.H]/LEN",
    text="IPv4 subnet; of a range, only its addresses are handed out.",
    absent="required",
)
@flag(
    "--gateway",
    "-g",
    metavar="A.B.C.D",
    text="Address of the way to the tenant's other networks.",
    absent="default: none",
)
@flag(
    "--subnetv6",
    "-s6",
    metavar="ADDRESS/LEN",
    text="IPv6 subnet beside the IPv4 one, /48 to /126: fd00:1::/64.",
    absent="default: none",
)
@flag("--gatewayv6", "-g6", metavar="ADDRESS", text="IPv6 address of that way: fd00:1::1.", absent="default: none")
@click.option(
    "--nat",
    is_flag=True,
    help="Let containers reach what their host reaches, by IPv4; needs --gateway.  [default: off]",
)
@click.option(
    "--nat-host",
    is_flag=True,
    help="Let them reach their host's own ports as well, but never those of netctl; needs --nat.  [default: off, "
    "published ports only]",
)
@click.option(
    "--internal",
    is_flag=True,
    help="Close it in both directions: its containers and VIPs are for this network alone.  [default: off]",
)
@flag(
    "--encap",
    "-e",
    metavar="vxlan|vlan",
    text="Encapsulation between hosts.",
    absent="default: vxlan",
    default="vxlan",
)
@click.option(
    "--pkt-tag",
    "-p",
    type=int,
    default=0,
    metavar="N",
    help="VXLAN network identifier or VLAN number.  [default: the lowest free one]",
)
@flag(
    "--nw-type",
    "-n",
    metavar="data|infra",
    text="For containers (data) or for the hosts themselves (infra).",
    absent="default: data",
    default="data",
)
@flag("--nw-tag", "-tag", metavar="TAG", text="A mark of your own.", absent="default: none")
@pass_target
def create(
    target: Target,
    *,
    name: str,
    tenant: str,
    subnet: str,
    gateway: str,
    encap: str,
    pkt_tag: int,
    nw_type: str,
    subnetv6: str,
    gatewayv6: str,
    nat: bool,
    nat_host: bool,
    internal: bool,
    nw_tag: str,
) -> None:
    """Create a network. When this returns, "docker run --net=NAME" works on every connected host.

    A network can't be changed afterwards. For a tenant other than "default", it is --net=NAME/TENANT.
    """
    if not subnet:
        raise click.UsageError("Network subnet required: --subnet A.B.C.D/LEN")
    doc: NetworkDoc = {
        "tenantName": tenant,
        "networkName": name,
        "nwType": nw_type,
        "encap": encap,
        "subnet": subnet,
        "gateway": gateway,
        "ipv6Subnet": subnetv6,
        "ipv6Gateway": gatewayv6,
        "cfgdTag": nw_tag,
    }
    if pkt_tag:
        doc["pktTag"] = pkt_tag
    if nat:
        doc["nat"] = True
    if nat_host:
        doc["natHost"] = True
    if internal:
        doc["internal"] = True
    with target.connect() as client:
        client.put_network(cast(NetworkDoc, without_empty(doc)))
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
