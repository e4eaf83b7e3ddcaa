"""``netctl service stats``: what the switches have counted for a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from netctl.client import key_of
from netctl.commands.base import Command, Target, name_argument, pass_target, tenant_flag
from netctl.commands.endpoint import short_id
from netctl.output import say, say_json, say_table

COLUMNS = ("Provider", "Address", "State", "Weight", "Connections", "Share")


@click.command(cls=Command)
@name_argument("Service name")
@tenant_flag
@click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON.  [default: a table]")
@pass_target
def stats(target: Target, name: str, tenant: str, as_json: bool) -> None:
    """Show how a service's connections are shared out.

    Connections are new ones, as the switches count them, up to half a second late; a switch that restarts begins
    anew. With session affinity those of clients that come back count as well, but a provider that stopped serving
    begins anew. (other): given to providers that have left, or in the half second before the providers changed; after
    a restart of the controller, all before they last changed.
    """
    key = key_of(tenant, name)
    with target.connect() as client:
        oper = client.inspect("serviceLBs", key).get("Oper", {})
    counters = oper.get("counters", {})
    providers = oper.get("providers", [])
    vips = {field: oper[field] for field in ("serviceVip", "serviceVip6") if field in oper}
    if as_json:
        say_json({"key": key, **vips, "counters": counters, "providers": providers})
        return
    known = "ports" in counters
    _say_head(key, " and ".join(vips.values()), counters)
    given: Mapping[str, int] = counters.get("providers", {})
    other = sum(port["other"] for port in counters.get("ports", []))
    total = sum(port["connections"] for port in counters.get("ports", []))
    rows = [(*_about(doc), *_numbers(given.get(doc.get("endpointID", ""), 0), total, known)) for doc in providers]
    if other:
        rows.append(("(other)", "", "", "", *_numbers(other, total, known)))
    say("")
    say_table(COLUMNS, rows)


def _say_head(key: str, vips: str, counters: Mapping[str, Any]) -> None:
    if "ports" in counters:
        refused = counters["refused"]
        say(f"{key} at {vips}: {_many(counters['packets'], 'packet')}" + (f", {refused} refused" if refused else ""))
    else:
        say(f"{key} at {vips}: nothing is counted, no switch is connected or no controller leads")
    for port in counters.get("ports", []):
        say(f"{port['port']}: {_many(port['connections'], 'connection')}")
    for dpid, line in counters.get("unread", {}).items():
        say(f"switch {dpid} is not counted here: {line}")
    for dpid, line in counters.get("errors", {}).items():
        say(f"switch {dpid} refuses the service: {line}")


def _about(doc: Mapping[str, Any]) -> tuple[object, ...]:
    name = doc.get("containerName", "").removeprefix("/") or short_id(doc.get("endpointID", ""))
    state = [doc.get("state", ""), doc.get("health", "")]
    if doc.get("check") == "failing":
        state.append("failing its check")
    addresses = ",".join(address for address in doc.get("ipAddress", []) if address)
    return name, addresses, ", ".join(s for s in state if s), doc.get("weight", 1)


def _numbers(count: int, total: int, known: bool) -> tuple[object, ...]:
    if not known:
        return "-", "-"
    return count, f"{100 * count / total:.1f} %" if total else "-"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
