"""What a feature is: a value, that `compile` and `dependents` go through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ryu_apps.pipeline.context import Context, Outgoing, Translation
from ryu_apps.pipeline.explain import Reader
from ryu_apps.pipeline.inputs import Dependency
from ryu_apps.pipeline.tables import FlowKind, Table
from ryu_apps.pipeline.values import Flow, Group
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint, Network, Service

Connection = Translation | Outgoing


def nothing(ctx: Context, *of: Any) -> tuple[()]:
    """What a feature adds to an owner that it has no part in."""
    return ()


@dataclass(frozen=True, slots=True)
class Feature:
    """What it adds to the programs of the four kinds of owners: functions of a context and the owner's object, pure.

    ``kinds``: those of its flows, and of no other feature's. ``looks_at``: what these functions look at beside that
    object. ``connections``: what conntrack may hold for it. ``words``: one line for a packet that meets a flow of a
    kind in a table; "": what the table itself has to say.
    """

    name: str
    kinds: tuple[FlowKind, ...]
    looks_at: tuple[Dependency, ...] = ()
    words: Mapping[tuple[FlowKind, Table], Callable[[Reader, Step], str]] = field(default_factory=dict)
    switch: Callable[[Context], Iterable[Flow]] = nothing
    switch_groups: Callable[[Context], Iterable[Group]] = nothing
    network: Callable[[Context, Network], Iterable[Flow]] = nothing
    network_groups: Callable[[Context, Network], Iterable[Group]] = nothing
    endpoint: Callable[[Context, Endpoint], Iterable[Flow]] = nothing
    endpoint_connections: Callable[[Context, Endpoint], Iterable[Connection]] = nothing
    service: Callable[[Context, Service], Iterable[Flow]] = nothing
    service_groups: Callable[[Context, Service], Iterable[Group]] = nothing
    service_connections: Callable[[Context, Service], Iterable[Connection]] = nothing
