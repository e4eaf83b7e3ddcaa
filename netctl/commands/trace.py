"""``netctl trace``: why a connection goes where it goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import click

from netctl.commands.base import Command, Target, flag, number_flag, pass_target
from netctl.output import say, say_json
from topology.answers import ReplyDoc, StepDoc

MOST_REPLIES = 8  # of a verdict, in lines; --json has all
# what has two colons is an IPv6 address; one with a port stands in brackets (RFC 3986)
GOAL = re.compile(
    r"(?P<ping>[^:/\[\]]*:[^:/\[\]]*:[^/\[\]]*)"
    r"|(\[(?P<six>[^/\[\]]+)\]|(?P<four>[^:/\[\]]+))(:(?P<port>\d+)(/(?P<proto>tcp|udp))?)?",
    re.IGNORECASE,
)


@click.command(cls=Command)
@flag("--from", "-f", "sender", metavar="ENDPOINT", text="Endpoint or container, or its beginning.", absent="required")
@flag("--to", "goal", metavar="ADDRESS[:PORT[/tcp|udp]]", text="Where to; without a port: ping.", absent="required")
@number_flag("--source-port", metavar="PORT", text="Its port at the client.", absent="default: any")
@flag("--source", metavar="ADDRESS", text="Source address, to try a forged one.", absent="default: the endpoint's own")
@click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON.  [default: lines]")
@pass_target
def trace(
    target: Target, /, *, sender: str, goal: str, source_port: int | None, source: str, as_json: bool
) -> None:
    """Show why a new connection goes where it goes: table by table, where it ends, and whether the reply gets back.

    \b
    netctl trace --from web-1 --to 100.1.1.1:8080
    netctl trace --from web-1 --to 100.1.1.1:53/udp --source-port 4000
    netctl trace --from web-1 --to [fd00:1::5]:8080
    netctl trace --from web-1 --to 10.1.1.254

    It says what the controller wants of the switches; no packet is sent. Connections that are open already stay
    where they are. The reply is followed where an agent knows the receiver's routes; else it is "unknown".
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
    _say_steps(doc["steps"])
    if doc["steps"]:
        say("")
    _say_replies([end["reply"] for end in doc["ends"] if "reply" in end])
    say(doc["outcome"])
    for note in doc["notes"]:
        say(f"note: {note}")


def _say_steps(steps: Sequence[StepDoc], indent: str = "") -> None:
    width = max((len(step["table"]) for step in steps), default=0)
    for step in steps:
        say(f"{indent}{step['table'].ljust(width)}  {step['text']}")


def _say_replies(replies: Sequence[ReplyDoc]) -> None:
    """A line for each, and the steps of the first of each verdict: the others' are the same but for names."""
    said: Counter[str] = Counter()
    for reply in replies:
        verdict = reply["verdict"]
        said[verdict] += 1
        if said[verdict] > MOST_REPLIES:
            continue
        sender = reply.get("from", "")
        say(f"reply from {sender}: {reply['text']}" if sender else f"reply: {reply['text']}")
        if said[verdict] == 1:
            _say_steps(reply["steps"], "  ")
    for verdict, count in said.items():
        if count > MOST_REPLIES:
            say(f"and {count - MOST_REPLIES} more replies: {verdict}")
    if replies:
        say("")
