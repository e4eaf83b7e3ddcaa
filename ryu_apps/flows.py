"""The flows of one switch as people read them, with what the switch has counted. Read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, cast

from ryu_apps.openflow.actions import LEARNED_MAGIC
from ryu_apps.openflow.codec import COOKIE_MASK, cookie_of, kind_of
from ryu_apps.openflow.messages import FlowStat
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Owner
from ryu_apps.pipeline.show import Asked, Shown, table_name
from ryu_apps.pipeline.tables import FlowKind, Table
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
    owners_of = cast(Callable[[int], set[Owner]], reconciler.wanted.owners_of_flow)
    cookies = None if asked.owner is None else reconciler.wanted.of_owner(asked.owner).flows
    stats = [
        stat
        for stat in reconciler.session.read_flows(ANSWER_TIMEOUT)
        if (asked.table is None or stat.table == asked.table) and (cookies is None or stat.cookie in cookies)
    ]
    stats.sort(key=lambda stat: (stat.table, -stat.priority, kind_of(stat.cookie), stat.match))
    shown = stats[:MOST]
    context = reconciler.context()
    texts = Shown(context)
    known = _compiled(context, {owner for stat in shown for owner in owners_of(stat.cookie)})
    learned = 0
    if asked.owner is None and asked.table in (None, Table.STICKY):
        learned = len(reconciler.session.read_flows(ANSWER_TIMEOUT, (), LEARNED_MAGIC, COOKIE_MASK))
    rows = [_row(stat, known.get(stat.cookie), texts, owners_of(stat.cookie)) for stat in shown]
    return {"flows": rows, "more": len(stats) - len(shown), "learned": learned}


def _compiled(context: Context, owners: Iterable[Owner]) -> dict[int, Flow]:
    return {cookie_of(flow): flow for owner in owners for flow in compile_owner(context, owner).flows}


def _row(stat: FlowStat, flow: Flow | None, texts: Shown, owners: Iterable[Hashable]) -> dict[str, Any]:
    """``flow`` None: the model has changed since the switch was written to."""
    return {
        "table": table_name(stat.table),
        "priority": stat.priority,
        "packets": stat.packet_count,
        "bytes": stat.byte_count,
        "kind": FlowKind(kind_of(stat.cookie)).name.lower(),
        "owners": sorted(":".join(owner).rstrip(":") for owner in cast(Iterable[Owner], owners)),
        "match": "" if flow is None else texts.match(flow),
        "actions": "" if flow is None else texts.actions(flow),
    }
