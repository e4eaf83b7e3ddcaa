"""What each table does with a packet that no other flow matches: on to another table, or dropped and counted."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.tables import TABLES, FlowKind, Priority
from ryu_apps.pipeline.values import Flow, match


def for_switch(ctx: Context) -> Iterator[Flow]:
    """One flow a table."""
    for table, declared in TABLES.items():
        yield Flow(table, Priority.MISS, match(), goto=declared.miss, kind=FlowKind.MISSES)


FEATURE = Feature(
    "misses",
    (FlowKind.MISSES,),
    switch=for_switch,
)
