"""The flows of one switch as people read them, with what the switch has counted. Read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from ryu_apps.openflow.actions import LEARNED_MAGIC
from ryu_apps.openflow.codec import COOKIE_MASK, cookie_of, kind_of
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Owner
from ryu_apps.pipeline.show import Asked, Shown
from ryu_apps.pipeline.tables import FlowKind, Table, table_name
from ryu_apps.pipeline.values import Flow
from ryu_apps.reconciler import Reconciler
from topology.errors import Unavailable

ANSWER_TIMEOUT = 30.0  # s; a switch that takes longer is as good as gone
READ_TIMEOUT = 5.0  # s that the question waits for it
MOST = 1000  # flows of an answer: each owner of them is compiled


def flows(reconciler: Reconciler, asked: Asked) -> dict[str, Any]:
    """The document of these flows. Raises Unavailable where the switch does not answer."""
    question = reconciler.ask(partial(_read, reconciler, asked))
    found = question.wait(READ_TIMEOUT)
    if found is None:
        raise Unavailable(f"the flows of switch {reconciler.switch.dpid:016x} are not known: {question.failure}")
    return found


def _read(reconciler: Reconciler, asked: Asked) -> dict[str, Any]:
    """Of what the switch says, only the counters are believed: all else is known by the flow's cookie."""
    wanted = reconciler.wanted
    cookies = None if asked.owner is None else wanted.of_owner(asked.owner).flows
    found = [
        (flow, stat)
        for stat in reconciler.session.read_flows(ANSWER_TIMEOUT)
        if (flow := wanted.flow(stat.cookie)) is not None
        and (asked.table is None or flow.table == asked.table)
        and (cookies is None or flow.cookie in cookies)
    ]
    found.sort(key=lambda one: (one[0].table, -one[0].priority, kind_of(one[0].cookie), one[0].body))
    shown = found[:MOST]
    context = reconciler.context()
    texts = Shown(context)
    owners_of = {flow.cookie: cast(set[Owner], wanted.owners_of_flow(flow.cookie)) for flow, _ in shown}
    known = _compiled(context, {owner for owners in owners_of.values() for owner in owners})
    learned = 0
    if asked.owner is None and asked.table in (None, Table.STICKY):
        learned = len(reconciler.session.read_flows(ANSWER_TIMEOUT, (), LEARNED_MAGIC, COOKIE_MASK))
    rows = [
        {
            "table": table_name(flow.table),
            "priority": flow.priority,
            "packets": stat.packet_count,
            "bytes": stat.byte_count,
            "kind": FlowKind(kind_of(flow.cookie)).name.lower(),
            "owners": sorted(":".join(owner).rstrip(":") for owner in owners_of[flow.cookie]),
            **_told(texts, known.get(flow.cookie)),
        }
        for flow, stat in shown
    ]
    return {"flows": rows, "more": len(found) - len(shown), "learned": learned}


def _compiled(context: Context, owners: Iterable[Owner]) -> dict[int, Flow]:
    return {cookie_of(flow): flow for owner in owners for flow in compile_owner(context, owner).flows}


def _told(texts: Shown, flow: Flow | None) -> dict[str, str]:
    """``flow`` None: the model has changed since the switch was written to."""
    if flow is None:
        return {"match": "", "actions": ""}
    return {"match": texts.match(flow), "actions": texts.actions(flow)}
