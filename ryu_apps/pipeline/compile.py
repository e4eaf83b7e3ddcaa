"""Compile one owner to its flows and groups on one switch. Pure: no I/O, no clock, no framework.

A full recompute is `compile_owner` over `dependents.owners`; a change recompiles what `DEPENDENTS` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ryu_apps.pipeline.catalog import FEATURES
from ryu_apps.pipeline.context import SWITCH, Context, Owner, Program
from ryu_apps.pipeline.feature import Connection, Feature, nothing
from ryu_apps.pipeline.tables import check
from ryu_apps.pipeline.values import Flow, Group
from topology.model import Endpoint, Network, Service


class _Parts(NamedTuple):
    """What all features add to the programs of one kind of owner."""

    flows: tuple[Callable[..., Iterable[Flow]], ...]
    groups: tuple[Callable[..., Iterable[Group]], ...]
    connections: tuple[Callable[..., Iterable[Connection]], ...]


def _parts(
    flows: Callable[[Feature], Callable[..., Iterable[Flow]]],
    groups: Callable[[Feature], Callable[..., Iterable[Group]]] = lambda _: nothing,
    connections: Callable[[Feature], Callable[..., Iterable[Connection]]] = lambda _: nothing,
) -> _Parts:
    def of(choose: Callable[[Feature], Any]) -> tuple[Any, ...]:
        return tuple(part for part in map(choose, FEATURES) if part is not nothing)

    return _Parts(of(flows), of(groups), of(connections))


_PARTS = {
    SWITCH[0]: _parts(lambda f: f.switch, lambda f: f.switch_groups),
    Network.kind: _parts(lambda f: f.network, lambda f: f.network_groups),
    Endpoint.kind: _parts(lambda f: f.endpoint, connections=lambda f: f.endpoint_connections),
    Service.kind: _parts(lambda f: f.service, lambda f: f.service_groups, lambda f: f.service_connections),
}


def compile_owner(ctx: Context, owner: Owner) -> Program:
    """All that ``owner`` wants in the switch; empty where the model does not have it (any more)."""
    seen = _seen(ctx, owner)
    if seen is None:
        return Program()
    parts = _PARTS[owner[0]]
    flows = tuple(flow for part in parts.flows for flow in part(*seen))
    for flow in flows:
        check(flow)
    groups = tuple(group for part in parts.groups for group in part(*seen))
    return Program(flows, groups, tuple(connections(ctx, owner)))


def connections(ctx: Context, owner: Owner) -> Iterator[Connection]:
    """Which connections the switch may track for ``owner``."""
    if (seen := _seen(ctx, owner)) is not None:
        for part in _PARTS[owner[0]].connections:
            yield from part(*seen)


def _seen(ctx: Context, owner: Owner) -> tuple[Any, ...] | None:
    """What its features are given; None: it has no program. A stopped container's endpoint has none."""
    if owner == SWITCH:
        return (ctx,)
    found = ctx.model.get(*owner) if owner[0] in _PARTS else None
    if found is None or (isinstance(found, Endpoint) and found.state == "stopped"):
        return None
    return ctx, found
