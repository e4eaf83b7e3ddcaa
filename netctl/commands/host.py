"""``netctl host``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from netctl.commands.base import Listing, Target, form_flags, name_argument, noun, pass_target
from netctl.output import say, say_json

CONFIG = ("key", "hostName", "switch", "tunnelAddress", "version", "datapathType", "mtu", "draining")

host = noun("host", "Hosts: machines with Docker and an agent. They register by themselves.")


def _listing(endpoints: Counter[str]) -> Listing:
    def row(doc: Mapping[str, Any]) -> tuple[object, ...]:
        name = doc.get("hostName", "")
        state = [doc.get("state", "")]
        if doc.get("draining") and state != ["draining"]:
            state.append("draining")
        addresses = (doc.get(field, "") for field in ("tunnelAddress", "hostAddress"))
        return (name, doc.get("switch", ""), *addresses, ", ".join(state), doc.get("since", ""), endpoints[name])

    columns = ("Host", "Switch", "Tunnel address", "Host address", "State", "Since", "Endpoints")
    return Listing(order=("hostName",), columns=columns, row=row)


@host.command()
@form_flags
@pass_target
def ls(target: Target, as_json: bool, quiet: bool) -> None:
    """List hosts."""
    with target.connect() as client:
        docs = client.hosts()
        in_table = not (as_json or quiet)
        endpoints = (
            Counter(doc.get("homingHost", "") for doc in client.endpoints()) if in_table else Counter()
        )
    _listing(endpoints).show([*docs], as_json=as_json, quiet=quiet)


@host.command()
@name_argument("Host name")
@pass_target
def inspect(target: Target, name: str) -> None:
    """Show all about a host, as JSON."""
    with target.connect() as client:
        doc: Mapping[str, Any] = client.host(name)
    say_json(
        {
            "Config": {field: doc[field] for field in CONFIG if field in doc},
            "Oper": {field: value for field, value in doc.items() if field not in CONFIG},
        }
    )


@host.command()
@name_argument("Host name")
@pass_target
def drain(target: Target, name: str) -> None:
    """Give the providers on a host no new connections; open ones go on.

    It stays so, also over restarts, until netctl host undrain. To take a host away: drain it, remove its containers,
    end its agent, netctl host rm.
    """
    with target.connect() as client:
        client.drain_host(name)
    say(f"Draining host {name}")


@host.command()
@name_argument("Host name")
@pass_target
def undrain(target: Target, name: str) -> None:
    """Give the providers on a host new connections again."""
    with target.connect() as client:
        client.undrain_host(name)
    say(f"Undraining host {name}")


@host.command()
@name_argument("Host name")
@pass_target
def rm(target: Target, name: str) -> None:
    """Forget a host whose agent has ended, or that is drained and empty, and its endpoints."""
    with target.connect() as client:
        client.delete_host(name)
    say(f"Deleting host {name}")
