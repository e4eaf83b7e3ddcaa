"""Compile one owner to its flows and groups on one switch. Pure: no I/O, no clock, no framework.

A full recompute is `compile_owner` over `owners`; a change recompiles what `affected` says and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ryu_apps.pipeline.context import SWITCH, Context, Outgoing, Owner, Program, Translation
from ryu_apps.pipeline.features import (
    access,
    affinity,
    balance,
    closed,
    discovery,
    echo,
    errors,
    flood,
    forgotten,
    fragments,
    hairpin,
    ingress,
    learning,
    limit,
    neighbour,
    outside,
    refuse,
    route,
    transit,
    translate,
    unfit,
    unreachable,
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
    if owner == SWITCH:
        flows += _misses()
        for feature in (
            balance, discovery, hairpin, fragments, forgotten, route, learning, refuse, outside, transit, ingress,
            limit, unfit,
        ):
            flows += feature.for_switch(ctx)
        groups = tuple(transit.groups(ctx))
    elif kind == Network.kind and key in ctx.model.networks:
        network = ctx.model.networks[key]
        for feature in (
            neighbour, discovery, echo, flood, forgotten, learning, outside, unreachable, closed,
            transit, ingress,
        ):
            flows += feature.for_network(ctx, network)
        groups = tuple(flood.groups_for_network(ctx, network))
    elif kind == Endpoint.kind and key in ctx.model.endpoints:
        endpoint = ctx.model.endpoints[key]
        if endpoint.state != "stopped":
            for feature in (
                access, neighbour, discovery, translate, errors, fragments, forgotten, route, closed, outside, ingress,
                limit, unfit,
            ):
                flows += feature.for_endpoint(ctx, endpoint)
    elif kind == Service.kind and key in ctx.model.services:
        service = ctx.model.services[key]
        for feature in (
            neighbour, discovery, echo, balance, affinity, hairpin, fragments, forgotten, refuse, outside, limit,
        ):
            flows += feature.for_service(ctx, service)
        groups = (*balance.groups_for_service(ctx, service), *affinity.groups_for_service(ctx, service))
    for flow in flows:
        check(flow)
    return Program(tuple(flows), groups, tuple(connections(ctx, owner)))


def connections(ctx: Context, owner: Owner) -> Iterator[Translation | Outgoing]:
    """Which connections the switch may track for ``owner``."""
    kind, key = owner
    if kind == Endpoint.kind and key in ctx.model.endpoints:
        endpoint = ctx.model.endpoints[key]
        if endpoint.state != "stopped":
            for half in (translate, fragments, ingress):
                yield from half.translations_for_endpoint(ctx, endpoint)
            for begun in (outside, forgotten):
                yield from begun.outgoing(ctx, endpoint)
    elif kind == Service.kind and key in ctx.model.services:
        for part in (balance, hairpin):
            yield from part.translations_for_service(ctx, ctx.model.services[key])


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
        if _is_verdict(change):
            continue
        for value in (change.before, change.after):
            match value:
                case Network():
                    out |= {(value.kind, value.key), SWITCH}  # which networks a host reaches, all of them decide
                    out |= {(s.kind, s.key) for s in model.services_of(value.key)}
                    for endpoint in model.endpoints_of(value.key):  # whether it routes says who can answer
                        out |= of_endpoint(model, endpoint)
                case Endpoint():
                    out |= of_endpoint(model, value)
                case Service():
                    out.add((value.kind, value.key))
                    out |= {(e.kind, e.key) for e in model.providers(value)}
                    if value.published:  # the ways back to the hosts that its clients came in by
                        out |= {(Network.kind, e.network_key) for e in model.providers(value)}
                case Host():
                    out |= of_outside(model) | of_sctp(model) | {SWITCH}
                    for endpoint in model.endpoints_of_host(value.name):
                        out |= of_endpoint(model, endpoint)
                    out |= {(e.kind, e.key) for e in model.endpoints_of_switch(value.switch)}
    return out


def _is_verdict(change: Change) -> bool:
    """Whether it only says that a host is dead, or is no longer: what is compiled has that from who judges."""
    before, after = change.before, change.after
    return isinstance(before, Host) and isinstance(after, Host) and replace(before, dead=after.dead) == after


def of_outside(model: Model) -> set[Owner]:
    """The owners that look at a switch's host: networks, the services that it publishes, and their providers."""
    out: set[Owner] = {(n.kind, n.key) for n in model.networks.values()}
    for service in model.published_services():
        out |= {(service.kind, service.key)} | {(e.kind, e.key) for e in model.providers(service)}
    return out


def of_sctp(model: Model) -> set[Owner]:
    """The owners that look at what a switch's conntrack knows: the services with SCTP, and their providers."""
    out: set[Owner] = set()
    for service in model.services_with_sctp():
        out |= {(service.kind, service.key)} | {(e.kind, e.key) for e in model.providers(service)}
    return out


def of_endpoint(model: Model, endpoint: Endpoint) -> set[Owner]:
    """The owners that look at this endpoint: itself, its network (broadcast), the services that select it."""
    out: set[Owner] = {(endpoint.kind, endpoint.key), (Network.kind, endpoint.network_key)}
    return out | {(s.kind, s.key) for s in model.selected_by(endpoint)}
