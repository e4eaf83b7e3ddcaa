"""``netctl switch``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

import click

from netctl.client import Client
from netctl.commands.base import Listing, Target, flag, form_flags, name_argument, noun, pass_target
from netctl.output import GAP, say, say_json, say_table
from topology.answers import FlowDoc

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


FLOW_COLUMNS = ("Table", "Priority", "Packets", "Match", "Actions")


@switch.command()
@click.argument("dpid", default="", metavar="[DPID]")
@flag("--table", metavar="TABLE", text="Only this table, such as service, balance or route.", absent="default: all")
@flag(
    "--owner", metavar="OWNER", absent="default: all",
    text="Only those of one owner: service:TENANT:NAME, network:TENANT:NAME, endpoint:NAME or switch.",
)  # fmt: skip
@click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON.  [default: lines]")
@pass_target
def flows(target: Target, /, *, dpid: str, table: str, owner: str, as_json: bool) -> None:
    """Show the flows of a switch with names and counters; DPID may be left out where there is one switch.

    \b
    netctl switch flows --owner service:default:web
    netctl switch flows 00000a1b2c3d4e5f --table balance

    On a terminal, lines are cut to its width; --json has all of each. Counters are up to half a second old.
    """
    with target.connect() as client:
        asked = {name: value for name, value in (("table", table), ("owner", owner)) if value}
        doc = client.flows(dpid or _only_switch(client), asked)
    if as_json:
        say_json(doc)
        return
    say_table(FLOW_COLUMNS, _fitted([_cells(flow) for flow in doc["flows"]]))
    if doc["more"]:
        say(f"and {doc['more']} more: choose some with --table or --owner")
    if doc["learned"]:
        say(f"and {doc['learned']} learned by session affinity, in table sticky")


def _only_switch(client: Client) -> str:
    found = [doc["dpid"] for doc in client.switches()]
    if len(found) != 1:
        which = f"{len(found)} switches are connected: {', '.join(found)}" if found else "no switch is connected"
        raise click.UsageError(f"DPID required: {which}")
    return found[0]


def _cells(flow: FlowDoc) -> tuple[str, str, str, str, str]:
    about_to_go = "(about to be replaced)"
    numbers = str(flow["priority"]), str(flow["packets"])
    return flow["table"], *numbers, flow["match"] or about_to_go, flow["actions"]


def _fitted(rows: list[tuple[str, str, str, str, str]]) -> list[tuple[str, ...]]:
    """Rows that fit the terminal, if there is one: the match gets half of what is left at the most."""
    if not sys.stdout.isatty():
        return [*rows]
    taken = (max(len(FLOW_COLUMNS[i]), *(len(row[i]) for row in rows), 0) for i in range(3))
    left = shutil.get_terminal_size().columns - sum(taken) - 4 * len(GAP)
    widest = max((len(row[3]) for row in rows), default=0)
    room = min(widest, max(left // 2, 20))
    return [(*row[:3], _cut(row[3], room), _cut(row[4], max(left - room, 20))) for row in rows]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
