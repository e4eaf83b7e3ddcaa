"""Compile one owner to its flows and groups on one switch. Pure: no I/O, no clock, no framework.

A full recompute is `compile_owner` over `owners`; a change recompiles what `affected` says and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ryu_apps.pipeline.context import SWITCH, Context, Owner, Program, Translation
from ryu_apps.pipeline.features import (
    access,
    affinity,
    balance,
    echo,
    flood,
    fragments,
    hairpin,
    learning,
    neighbour,
    refuse,
    route,
    translate,
)
from ryu_apps.pipeline.tables import TABLES, Feature, Priority, check
from ryu_apps.pipeline.values import Flow, Group, match
from topology.model import Change, Endpoint, Host, Network, Service
from topology.snapshot import Model


def compile_owner(ctx: Context, owner: Owner) -> Program:
    """All that ``owner`` wants in the switch; empty where the model does not have it (any more)."""
    kind, key = owner
    flows: list[Flow] = []
    groups: tuple[Group, ...] = ()
    translations: tuple[Translation, ...] = ()
    if owner == SWITCH:
        flows += _misses()
        for feature in (balance, hairpin, route, learning, refuse):
            flows += feature.for_switch(ctx)
    elif kind == Network.kind and key in ctx.model.networks:
        network = ctx.model.networks[key]
        for feature in (neighbour, echo, flood):
            flows += feature.for_network(ctx, network)
    elif kind == Endpoint.kind and key in ctx.model.endpoints:
        endpoint = ctx.model.endpoints[key]
        if endpoint.state != "stopped":
            for feature in (access, neighbour, translate, route):
                flows += feature.for_endpoint(ctx, endpoint)
            translations = tuple(translate.translations_for_endpoint(ctx, endpoint))
    elif kind == Service.kind and key in ctx.model.services:
        service = ctx.model.services[key]
        for feature in (neighbour, echo, balance, affinity, hairpin, fragments, refuse):
            flows += feature.for_service(ctx, service)
        groups = (*balance.groups_for_service(ctx, service), *affinity.groups_for_service(ctx, service))
        for half in (balance, hairpin):
            translations += tuple(half.translations_for_service(ctx, service))
    for flow in flows:
        check(flow)
    return Program(tuple(flows), groups, translations)


def _misses() -> Iterator[Flow]:
    for table, declared in TABLES.items():
        yield Flow(table, Priority.MISS, match(), goto=declared.miss, feature=Feature.PIPELINE)


def owners(model: Model) -> Iterator[Owner]:
    """All owners that there are."""
    yield SWITCH
    for kind, keys in (
        (Network.kind, model.networks),
        (Endpoint.kind, model.endpoints),
        (Service.kind, model.services),
    ):
        for key in keys:
            yield kind, key


def affected(model: Model, changes: Iterable[Change]) -> set[Owner]:
    """The owners whose programs the changes may alter; ``model`` has the changes already."""
    out: set[Owner] = set()
    for change in changes:
        for value in (change.before, change.after):
            match value:
                case Network():
                    out.add((value.kind, value.key))
                    out |= {(e.kind, e.key) for e in model.endpoints_of(value.key)}
                case Endpoint():
                    out |= of_endpoint(model, value)
                case Service():
                    out.add((value.kind, value.key))
                    out |= {(e.kind, e.key) for e in model.providers(value)}
                case Host():
                    out.add(SWITCH)
                    for endpoint in model.endpoints_of_host(value.name):
                        out |= of_endpoint(model, endpoint)
    return out


def of_endpoint(model: Model, endpoint: Endpoint) -> set[Owner]:
    """The owners that look at this endpoint: itself, its network (broadcast), the services that select it."""
    out: set[Owner] = {(endpoint.kind, endpoint.key), (Network.kind, endpoint.network_key)}
    return out | {(s.kind, s.key) for s in model.selected_by(endpoint)}
