"""``netctl switch``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netctl.commands.base import Listing, Target, form_flags, name_argument, noun, pass_target
from netctl.output import say_json

switch = noun("switch", "Switches: what the controller sees of them. They connect by themselves.")


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        doc.get("dpid", ""),
        "yes" if doc.get("connected") else "no",
        len(doc.get("ports", [])),
        doc.get("flows", 0),
        doc.get("groups", 0),
        len(doc.get("errors", {})),
    )


LISTING = Listing(
    order=("dpid",),
    columns=("Switch", "Connected", "Ports", "Flows", "Groups", "Errors"),
    row=_row,
)


@switch.command()
@form_flags
@pass_target
def ls(target: Target, as_json: bool, quiet: bool) -> None:
    """List switches."""
    with target.connect() as client:
        docs = client.switches()
    LISTING.show([*docs], as_json=as_json, quiet=quiet)


@switch.command()
@name_argument("Switch datapath id", "DPID")
@pass_target
def inspect(target: Target, name: str) -> None:
    """Show all about a switch, as JSON: its ports and its errors too."""
    with target.connect() as client:
        say_json({"Oper": client.switch(name)})
