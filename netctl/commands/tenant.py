"""``netctl tenant``."""

from __future__ import annotations

from netctl.commands.base import Listing, Target, form_flags, name_argument, noun, pass_target
from netctl.output import say, say_json

tenant = noun("tenant", "Tenants: spaces of networks and services that don't reach each other.")

LISTING = Listing(order=("tenantName",), columns=("Name",), row=lambda doc: (doc.get("tenantName", ""),))


@tenant.command()
@name_argument("Tenant name")
@pass_target
def create(target: Target, name: str) -> None:
    """Create a tenant."""
    with target.connect() as client:
        client.put_tenant(name)
    say(f"Creating tenant: {name}")


@tenant.command()
@form_flags
@pass_target
def ls(target: Target, as_json: bool, quiet: bool) -> None:
    """List tenants."""
    with target.connect() as client:
        docs = client.tenants()
    LISTING.show([*docs], as_json=as_json, quiet=quiet)


@tenant.command()
@name_argument("Tenant name")
@pass_target
def inspect(target: Target, name: str) -> None:
    """Show all about a tenant, as JSON."""
    with target.connect() as client:
        say_json(client.inspect("tenants", name))


@tenant.command()
@name_argument("Tenant name")
@pass_target
def rm(target: Target, name: str) -> None:
    """Remove a tenant that has no networks left."""
    with target.connect() as client:
        client.delete_tenant(name)
    say(f"Deleting tenant {name}")
