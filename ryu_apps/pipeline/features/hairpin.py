"""A provider reaches its own VIP, also when it is picked itself: then it must not see itself as the client.

Its own connection, translated to itself, is translated once more in a second zone of the tenant: its source becomes the
VIP. The answers, to the VIP, are translated back in both zones. Fragments, and errors about such a connection, are
looked up in both as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation
from ryu_apps.pipeline.explain import Reader, shown_end
from ryu_apps.pipeline.family import each, of_packet
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import errors
from ryu_apps.pipeline.features.balance import keeps
from ryu_apps.pipeline.fields import CT_DNAT, CT_RPL, CT_TRK
from ryu_apps.pipeline.inputs import ITS_PORTS_HERE, ITS_PROVIDERS
from ryu_apps.pipeline.tables import HAIRPIN_ZONES, TENANT, ZERO, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import FRAGMENT, MISFIT, PROTOCOLS, Terms, known
from ryu_apps.pipeline.values import Action, Ct, Flow, Move, Nat, match
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint, Service

FORWARD = (CT_TRK | CT_DNAT, CT_TRK | CT_DNAT | CT_RPL)
# the switch does not send a packet out of the port that it came in by, unless it has forgotten which it was
ANY_PORT: Action = Move(ZERO, "in_port", bits=16)


def for_switch(ctx: Context) -> Iterator[Flow]:
    """An answer that the second zone has translated back: on to its provider, and there through the first zone."""
    for state in (CT_RPL, MISFIT):
        yield Flow(
            Table.HAIRPIN,
            Priority.EXACT,
            match(ct_state=known(state)),
            (ANY_PORT,),
            goto=Table.ROUTE,
            kind=FlowKind.HAIRPIN,
        )


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """For each provider that may be picked by itself: only here, where it is plugged in."""
    zone = ctx.zone(service.tenant)
    second = zone | HAIRPIN_ZONES
    lookup = Ct(second, table=Table.HAIRPIN, nat=Nat())
    alive = _alive(ctx, service)
    for family, vip in each(service.vips):
        tenant = {TENANT: zone, "eth_type": family.eth_type}
        providers = [own for p in alive if (own := family.of(p.addresses)) is not None]
        if providers:
            # from a service port to the VIP, but no such answer: as any other packet to the VIP
            yield Flow(
                Table.HAIRPIN,
                Priority.NORMAL,
                match(**tenant | {family.dst: vip}),
                (Ct(zone, table=Table.BALANCE, nat=Nat()),),
                kind=FlowKind.HAIRPIN,
            )
        for kind in errors.kinds(family) if providers else ():
            yield Flow(
                Table.SERVICE,
                Priority.EXACT,
                match(**tenant | {family.dst: vip} | kind),
                (lookup,),
                kind=FlowKind.HAIRPIN,
            )
        for own in providers:
            yield Flow(
                Table.ROUTE,
                Priority.EXACT,
                match(**tenant | {family.src: own, family.dst: own, family.ct_dst: vip}, ct_state=FORWARD),
                (ANY_PORT, Ct(second, table=Table.ROUTE, commit=True, nat=Nat(src=vip, version=family.version))),
                kind=FlowKind.HAIRPIN,
            )
            answer: Terms = {**tenant, family.src: own, family.dst: vip}
            for what in _answers(ctx, service):
                yield Flow(
                    Table.SERVICE, Priority.EXACT, match(**answer | what), (lookup,), kind=FlowKind.HAIRPIN
                )


def translations_for_service(ctx: Context, service: Service) -> Iterator[Translation]:
    """Connections of its providers to themselves, in the second zone."""
    second = ctx.zone(service.tenant) | HAIRPIN_ZONES
    for provider in _alive(ctx, service):
        kept = [(p, t) for p, t in _targets(ctx, service) if keeps(ctx, service, provider, p)]
        for family, vip in each(service.vips if kept else ()):
            own = family.of(provider.addresses)
            if own is None:
                continue
            for protocol, target in kept:
                number = PROTOCOLS[protocol][0]
                yield Translation(second, number, own, target, own, target, seen=vip, version=family.version)


def _answers(ctx: Context, service: Service) -> Iterator[Terms]:
    """What its answers are known by: the port, or that they come in fragments, which show none."""
    for protocol, target in _targets(ctx, service):
        number, name = PROTOCOLS[protocol]
        yield {"ip_proto": number, f"{name}_src": target}
    if any(protocol == "UDP" for protocol, _ in _targets(ctx, service)):
        yield {"ip_frag": FRAGMENT}


def _alive(ctx: Context, service: Service) -> list[Endpoint]:
    return [p for p in ctx.model.providers(service) if p.alive and ctx.port_of(p) is not None]


def _targets(ctx: Context, service: Service) -> list[tuple[str, int]]:
    return sorted({(p.protocol, p.target) for p in ctx.ports_of(service)})


def _to_vip(reader: Reader, step: Step) -> str:
    holder, me = reader.target(step), reader.me
    who = holder.key if isinstance(holder, Service) else ""
    return f"from a service port of {me} to the VIP of {who}: it may be a reply to {me} itself → second {reader.zone}"


def _back(reader: Reader, step: Step) -> str:
    if step.flow.goto is None:
        return f"no reply to itself → {reader.zone}"
    return f"a known connection of {reader.me} to itself: translated back, to {shown_end(step.packet)}"


def _to_itself(reader: Reader, step: Step) -> str:
    vip = next((a.nat.src for a in step.flow.actions if isinstance(a, Ct) and a.nat), None)
    seen = of_packet(step.packet).address(vip or 0)
    return f"{reader.me} is its own provider: it sees the VIP {seen} as its client"


FEATURE = Feature(
    "hairpin",
    (FlowKind.HAIRPIN,),
    looks_at=(*ITS_PORTS_HERE, *ITS_PROVIDERS),
    switch=for_switch,
    service=for_service,
    service_connections=translations_for_service,
    words={
        (FlowKind.HAIRPIN, Table.SERVICE): _to_vip,
        (FlowKind.HAIRPIN, Table.HAIRPIN): _back,
        (FlowKind.HAIRPIN, Table.ROUTE): _to_itself,
    },
)
