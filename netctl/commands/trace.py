"""``netctl trace``: why a connection goes where it goes."""

from __future__ import annotations

import re

import click

from netctl.commands.base import Command, Target, flag, number_flag, pass_target
from netctl.output import say, say_json

# what has two colons is an IPv6 address; one with a port stands in brackets (RFC 3986)
GOAL = re.compile(
    r"(?P<ping>[^:/\[\]]*:[^:/\[\]]*:[^/\[\]]*)"
    r"|(\[(?P<six>[^/\[\]]+)\]|(?P<four>[^:/\[\]]+))(:(?P<port>\d+)(/(?P<proto>tcp|udp))?)?",
    re.IGNORECASE,
)


@click.command(cls=Command)
@flag("--from", "-f", "sender", metavar="ENDPOINT", text="Endpoint or container; a part will do.", absent="required")
@flag("--to", "goal", metavar="ADDRESS[:PORT[/tcp|udp]]", text="Where to; without a port: ping.", absent="required")
@number_flag("--source-port", metavar="PORT", text="Its port at the client.", absent="default: any")
@flag("--source", metavar="ADDRESS", text="Source address, to try a forged one.", absent="default: the endpoint's own")
@click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON.  [default: lines]")
@pass_target
def trace(
    target: Target, /, *, sender: str, goal: str, source_port: int | None, source: str, as_json: bool
) -> None:
    """Show why a new connection goes where it goes: table by table, in names, and where it ends.

    \b
    netctl trace --from web-1 --to 100.1.1.1:8080
    netctl trace --from web-1 --to 100.1.1.1:53/udp --source-port 4000
    netctl trace --from web-1 --to [fd00:1::5]:8080
    netctl trace --from web-1 --to 10.1.1.254

    It says what the controller wants of the switch; no packet is sent. Connections that are open already stay
    where they are.
    """
    for name, value in (("--from", sender), ("--to", goal)):
        if not value:
            raise click.UsageError(f"{name} required")
    found = GOAL.fullmatch(goal)
    if found is None:
        raise click.UsageError(f"--to takes ADDRESS[:PORT[/tcp|udp]], not {goal!r}")
    query = {
        "from": sender,
        "to": found["ping"] or found["six"] or found["four"],
        "port": found["port"],
        "proto": found["proto"],
        "source": source,
        "sourcePort": None if source_port is None else str(source_port),
    }
    with target.connect() as client:
        doc = client.trace({name: value for name, value in query.items() if value})
    if as_json:
        say_json(doc)
        return
    way = "ping" if doc["proto"] == "icmp" else doc["proto"].upper()
    to = f"[{doc['to']}]" if ":" in doc["to"] and doc["port"] else doc["to"]
    to += f":{doc['port']}" if doc["port"] else ""
    say(f"{way} from {doc['from']} ({doc['source']}, network {doc['tenantName']}:{doc['networkName']}) to {to},"
        f" at switch {doc['switch']}")  # fmt: skip
    say("")
    width = max((len(step["table"]) for step in doc["steps"]), default=0)
    for step in doc["steps"]:
        say(f"{step['table'].ljust(width)}  {step['text']}")
    if doc["steps"]:
        say("")
    say(doc["outcome"])
    for note in doc["notes"]:
        say(f"note: {note}")
