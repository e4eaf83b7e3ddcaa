"""``netctl controller``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from netctl.commands.base import Listing, Target, form_flags, noun, pass_target

controller = noun("controller", "Controllers: one of those that share a store leads, and programs the switches.")


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    return (doc.get("url", ""), "yes" if doc.get("leads") else "no")


LISTING = Listing(order=("url",), columns=("Controller", "Leads"), row=_row)


@controller.command()
@form_flags
@pass_target
def ls(target: Target, as_json: bool, quiet: bool) -> None:
    """List the controllers that run."""
    with target.connect() as client:
        docs = client.controllers()
    LISTING.show([*docs], as_json=as_json, quiet=quiet)
    if exposed := sorted(doc.get("url", "") for doc in docs if doc.get("open")):
        click.echo(f"Warning: no authentication, whoever reaches it can use it: {', '.join(exposed)}", err=True)
