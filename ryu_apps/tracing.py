"""A trace, as the switch stands: the walk through what is compiled, and what only the switch knows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from ryu_apps.openflow.actions import LEARNED_MAGIC
from ryu_apps.openflow.codec import COOKIE_MASK
from ryu_apps.pipeline import trace as way
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import PROTOCOLS, holders, name
from ryu_apps.pipeline.features.affinity import NUMBER_BITS
from ryu_apps.pipeline.journey import Place
from ryu_apps.pipeline.reply import Steps
from ryu_apps.pipeline.trace import End, Question
from ryu_apps.reconciler import Reconciler
from topology.model import Service

ANSWER_TIMEOUT = 30.0  # s; a switch that takes longer is as good as gone
READ_TIMEOUT = 3.0  # s that the question waits for it


def trace(reconciler: Reconciler, question: Question, others: Iterable[Reconciler] = ()) -> dict[str, Any]:
    """The document of the way that a connection takes from its switch on, by the ``others``."""
    began = time.monotonic()
    notes = []
    last = 0
    context = reconciler.context()
    if _remembers(context, question):
        read = partial(_last_provider, reconciler, question)
        asked = reconciler.ask(read)
        answer = asked.wait(READ_TIMEOUT - (time.monotonic() - began))
        if answer is None:
            notes.append(f"whom the switch remembers for {question.source} is not known: {asked.failure}")
        last = answer or 0
    if reconciler.settled_revision < reconciler.model.revision:
        notes.append("the switch does not have all of this yet")
    for owner in sorted(way.on_the_way(context, question) & reconciler.refused.keys()):
        notes.append(f"the switch refuses {' '.join(owner).strip()}: {reconciler.refused[owner].line}")
    if note := _published(context, question):
        notes.append(note)
    places = {r.switch.dpid: Place(r.context(), _down(r)) for r in others}
    found = way.trace(context, question, _down(reconciler), last, places)
    sender = question.sender
    return {
        "from": name(sender),
        "endpointID": sender.id,
        "tenantName": sender.tenant,
        "networkName": sender.network,
        "source": str(question.source),
        "sourcePort": question.source_port,
        "to": str(question.to),
        "proto": PROTOCOLS[question.protocol].lower(),
        "port": question.port,
        "switch": f"{context.dpid:016x}",
        "steps": _steps(found.steps),
        "verdict": found.verdict,
        "outcome": found.text,
        "ends": [_end(end) for end in found.ends],
        "notes": notes,
    }


def _published(context: Context, question: Question) -> str:
    """Where a connection goes on that is for a port which all hosts publish; empty: for none."""
    service = context.model.published(question.port, PROTOCOLS[question.protocol])
    if service is None or holders(context, question.sender.tenant, question.to):
        return ""
    which = (p for p in service.published if (p.port, p.protocol) == (question.port, PROTOCOLS[question.protocol]))
    target = next((p.target for p in which), question.port)
    return (
        f"every host publishes port {question.port} {PROTOCOLS[question.protocol]} for service {service.key}: if "
        f"{question.to} is a host's address, its kernel leads on to {service.vips[0]}:{target}; trace that to see where"
    )


def _down(reconciler: Reconciler) -> set[int]:
    return {port.number for port in reconciler.switch.ports.values() if not port.up}


def _end(end: End) -> dict[str, Any]:
    out: dict[str, Any] = {"verdict": end.verdict, "text": end.text, "share": round(end.share, 4)}
    if end.receiver is not None:
        out["endpointID"] = end.receiver.id
    if end.provider is not None:
        out["provider"] = end.provider.id
    if end.reply is not None:
        reply = end.reply
        out["reply"] = {"verdict": reply.verdict, "text": reply.text, "steps": _steps(reply.steps)}
        if reply.sender:
            out["reply"]["from"] = reply.sender
    return out


def _steps(steps: Steps) -> list[dict[str, str]]:
    return [{"table": table, "text": text} for table, text in steps]


def _remembers(context: Context, question: Question) -> bool:
    found = holders(context, question.sender.tenant, question.to)
    return any(isinstance(holder, Service) and holder.affinity for holder in found)


def _last_provider(reconciler: Reconciler, question: Question) -> int:
    learned = way.remembered(reconciler.context(), question)
    flows = reconciler.session.read_flows(ANSWER_TIMEOUT, learned, LEARNED_MAGIC, COOKIE_MASK)
    return flows[0].cookie & ((1 << NUMBER_BITS) - 1) if flows else 0
