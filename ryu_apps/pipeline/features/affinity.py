"""Session affinity: a client's new connections go to the provider that it had last, for a time.

    balance ─► (resubmit) sticky: learned flows, client → number of a provider
            └► pick ─┬─ a number of a provider that serves ─► translate
                     └─ none: select group ─► keep: learn it, translate

What was learned of a provider goes with the flow in keep that learned it: when it stops serving, its clients are free
at once, without a packet to the controller.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import Reader, chosen_provider, shown_port
from ryu_apps.pipeline.family import Family, each, source
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import select
from ryu_apps.pipeline.features.balance import at_each_network, new_connection, translate_to
from ryu_apps.pipeline.features.scopes import Choice, Scope, scopes
from ryu_apps.pipeline.inputs import ITS_PORTS_HERE, ITS_PROVIDERS, ITS_VIPS, NETWORK_OF_VIP
from ryu_apps.pipeline.tables import CLIENT_PORT, PROVIDER, TENANT, ZERO, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import PROTOCOLS, Terms
from ryu_apps.pipeline.values import (
    Action,
    Flow,
    Group,
    GroupAction,
    Learn,
    LearnLoad,
    LearnMatch,
    Move,
    Resubmit,
    SetField,
    match,
)
from ryu_apps.pipeline.walk import Step
from topology.model import Service, ServicePort

HIDDEN_BITS = 10
MOST_CLIENTS = 65_536  # of a service that a switch remembers; all others are balanced as without affinity
MOST_OF_PROVIDER = 10_000  # of them with one provider
NUMBER_BITS = 24  # of a provider, lowest in the number of what is learned of it


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """For a service with affinity."""
    if not service.affinity:
        return
    for family, vip in each(ctx.vips(service)):
        found = list(scopes(ctx, service, family))
        limit = most_clients(max(len(scope.choices) for scope in found))
        for scope in found:
            for port in ctx.ports_of(service) if scope.choices else ():
                terms = new_connection(ctx, service, family, vip, port) | scope.terms
                yield Flow(
                    Table.BALANCE,
                    Priority.NORMAL + scope.rank,
                    match(**terms),
                    (Resubmit(Table.STICKY),),
                    goto=Table.PICK,
                    kind=FlowKind.AFFINITY,
                )
                for more, group in select.choices(family, port, (family.src, 0), scope):
                    yield Flow(
                        Table.PICK,
                        Priority.NORMAL + scope.rank,
                        match(**terms | more),
                        (*_hide_ports(port), GroupAction(group)),
                        kind=FlowKind.AFFINITY,
                    )
                for choice in scope.choices:
                    learn = _learn(ctx, service, family, vip, choice, limit)
                    yield from _to_provider(ctx, family, port, scope, choice, terms, learn)


def most_clients(providers: int) -> int:
    """How many clients a switch remembers for each provider of a service with so many.

    It changes only when their number passes a power of two, so a new provider seldom changes the flows of the others.
    Learned flows survive that change: Open vSwitch deletes them with the last flow that learns with their cookie.
    """
    return max(1, min(MOST_OF_PROVIDER, MOST_CLIENTS >> max(providers - 1, 0).bit_length()))


def _to_provider(  # noqa: PLR0917 - what for_service has at hand
    ctx: Context, family: Family, port: ServicePort, scope: Scope, choice: Choice, terms: Terms, learn: Learn
) -> Iterator[Flow]:
    """Who was learned, and who was chosen, at its address for the client."""
    for more, where, endpoint in at_each_network(choice):
        rank, known = scope.rank + more, match(**terms | {PROVIDER: choice.number} | where)
        translate = translate_to(ctx, family, endpoint, port)
        yield Flow(Table.PICK, Priority.EXACT + rank, known, (translate,), kind=FlowKind.AFFINITY)
        yield Flow(Table.KEEP, Priority.NORMAL + rank, known, (learn, translate), kind=FlowKind.AFFINITY)


def groups_for_service(ctx: Context, service: Service) -> Iterator[Group]:
    """As without affinity, but a bucket only says who was chosen."""
    if not service.affinity:
        return

    for family, _ in each(service.vips):
        for scope in scopes(ctx, service, family):
            for port in ctx.ports_of(service):

                def bucket(choice: Choice, port: ServicePort = port) -> tuple[Action, ...]:
                    return (*_show_ports(port), SetField(PROVIDER, choice.number), Resubmit(Table.KEEP))

                yield from select.groups(ctx, family, port, scope, bucket)


# What was learned takes effect with a delay of up to half a second, in which a client may connect again. The hash of a
# select group has ports in it, but not UDP's: only the high bits of the client's are shown to it, which its next
# connections share.
def _hide_ports(port: ServicePort) -> tuple[Action, ...]:
    if port.protocol == "UDP":
        return ()
    name = PROTOCOLS[port.protocol][1]
    return (
        Move(f"{name}_src", CLIENT_PORT, bits=16),
        Move(ZERO, f"{name}_src", bits=HIDDEN_BITS),
        SetField(f"{name}_dst", 0),
    )


def _show_ports(port: ServicePort) -> tuple[Action, ...]:
    if port.protocol == "UDP":
        return ()
    name = PROTOCOLS[port.protocol][1]
    return (Move(CLIENT_PORT, f"{name}_src", bits=16), SetField(f"{name}_dst", port.port))


def _learn(  # noqa: PLR0917 - what for_service has at hand
    ctx: Context, service: Service, family: Family, vip: int, choice: Choice, limit: int
) -> Learn:
    absolute = service.affinity_mode == "absolute"
    return Learn(
        Table.STICKY,
        Priority.NORMAL,
        (
            LearnMatch(TENANT, ctx.zone(service.tenant)),
            LearnMatch("eth_type", family.eth_type),
            LearnMatch(family.src, family.src),
            LearnMatch(family.dst, vip),
            LearnLoad(PROVIDER, choice.number),
        ),
        idle=0 if absolute else service.affinity,
        hard=service.affinity if absolute else 0,
        number=service.number << NUMBER_BITS | choice.number,
        limit=limit,
    )


def _begins(reader: Reader, step: Step) -> str:
    service = reader.target(step)
    if not isinstance(service, Service):
        return ""
    return f"{shown_port(step.packet)}: {service.key} has session affinity of {service.affinity} s"


def _keeps(reader: Reader, step: Step) -> str:
    return f"{chosen_provider(reader, step)} is remembered for {source(step.packet)}"


def _picks(reader: Reader, step: Step) -> str:
    if any(isinstance(a, GroupAction) for a in step.flow.actions):
        return shown_port(step.packet)
    return f"{chosen_provider(reader, step)} still serves: {source(step.packet)} stays with it"


FEATURE = Feature(
    "affinity",
    (FlowKind.AFFINITY,),
    looks_at=(*ITS_PORTS_HERE, *ITS_PROVIDERS, *ITS_VIPS, *NETWORK_OF_VIP),
    service=for_service,
    service_groups=groups_for_service,
    words={
        (FlowKind.AFFINITY, Table.BALANCE): _begins,
        (FlowKind.AFFINITY, Table.PICK): _picks,
        (FlowKind.AFFINITY, Table.KEEP): _keeps,
    },
)
