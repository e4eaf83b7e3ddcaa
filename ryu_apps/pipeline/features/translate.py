"""The other half of a translated connection: replies, and traffic straight to a provider beside it.

A reply of a provider's service port may belong to a VIP or to a connection straight to the provider; only
conntrack knows. So both kinds are in conntrack: what goes straight to a provider's service port is sent to a
hidden address of the provider inside the switch, a VIP with one provider, and is given the real one back.
`fragments` does it for what comes in several, `errors` for what is about such a connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation
from ryu_apps.pipeline.explain import Reader, may_be_a_reply, name, shown_port
from ryu_apps.pipeline.family import Family, destination, each, of_packet
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import CT_INV, CT_NEW
from ryu_apps.pipeline.inputs import ITS_PLACE, ITS_SERVICES
from ryu_apps.pipeline.tables import TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import PROTOCOLS, TRACKED, UNTRACKED, known
from ryu_apps.pipeline.values import Ct, Flow, Nat, SetField, match
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For each port that a service uses of this endpoint; nothing for an endpoint that is no provider."""
    if targets(ctx, endpoint):
        for family, own in each(endpoint.addresses):
            yield from _of_family(ctx, endpoint, family, own)


def _of_family(ctx: Context, endpoint: Endpoint, family: Family, own: int) -> Iterator[Flow]:
    zone = ctx.zone(endpoint.tenant)
    src, dst, hidden = family.src, family.dst, family.hidden_of(endpoint)
    tenant = {TENANT: zone, "eth_type": family.eth_type}
    from_own = tenant | {src: own}
    lookup = Ct(zone, table=Table.RESTORE, nat=Nat())
    for protocol, target in targets(ctx, endpoint):
        number, name = PROTOCOLS[protocol]
        port = {"ip_proto": number, f"{name}_dst": target}
        yield Flow(
            Table.SERVICE,
            Priority.NORMAL,
            match(**tenant | port | {dst: own}),
            (SetField(dst, hidden), Ct(zone, table=Table.BALANCE, nat=Nat())),
            kind=FlowKind.TRANSLATE,
        )
        port = {"ip_proto": number, f"{name}_src": target}
        yield Flow(
            Table.REPLY,
            Priority.NORMAL,
            match(**from_own | port, ct_state=UNTRACKED),
            (lookup,),
            kind=FlowKind.TRANSLATE,
        )
        # its answer to itself (hairpin): out of the second zone, so tracked, but not in this one
        yield Flow(
            Table.REPLY,
            Priority.NORMAL,
            match(**from_own | port | {dst: own}, ct_state=TRACKED),
            (lookup,),
            kind=FlowKind.TRANSLATE,
        )
    yield Flow(
        Table.BALANCE,
        Priority.NORMAL,
        match(**tenant | {dst: hidden}, ct_state=known(CT_NEW)),
        (Ct(zone, table=Table.ROUTE, commit=True, nat=Nat(dst=own, version=family.version)),),
        kind=FlowKind.TRANSLATE,
    )
    # what conntrack makes no sense of goes to the provider as it would without a service: the reset, say, that a client
    # sends for what a socket there remembers of a connection that is gone here: else its port can't be used again
    yield Flow(
        Table.BALANCE,
        Priority.MOST_EXACT,
        match(**tenant | {dst: hidden}, ct_state=known(CT_INV)),
        (SetField(dst, own),),
        goto=Table.ROUTE,
        kind=FlowKind.TRANSLATE,
    )
    yield Flow(
        Table.RESTORE,
        Priority.NORMAL,
        match(**tenant | {src: hidden}),
        (SetField(src, own),),
        goto=Table.DELIVER,
        kind=FlowKind.TRANSLATE,
    )


def translations_for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Translation]:
    """Connections straight to the endpoint's service ports, while it is alive."""
    if endpoint.alive and ctx.reachable(endpoint):
        zone = ctx.zone(endpoint.tenant)
        for family, own in each(endpoint.addresses):
            hidden = family.hidden_of(endpoint)
            for protocol, target in targets(ctx, endpoint):
                number = PROTOCOLS[protocol][0]
                yield Translation(zone, number, hidden, target, own, target, version=family.version)


def targets(ctx: Context, endpoint: Endpoint) -> list[tuple[str, int]]:
    """The ports that services use of the endpoint: protocol and number."""
    return sorted({(p.protocol, p.target) for s in ctx.model.selected_by(endpoint) for p in ctx.ports_of(s)})


def to_provider(reader: Reader, step: Step) -> str:
    """Straight to a provider's service port; "": it is no provider's address."""
    holder = reader.target(step)
    if not isinstance(holder, Endpoint):
        return ""
    services = ", ".join(s.key for s in reader.ctx.model.selected_by(holder))
    to, port = destination(step.packet), shown_port(step.packet)
    return f"{to} is {name(holder)}'s, and {port} a service port ({services}) → {reader.zone}"


def _straight(reader: Reader, step: Step) -> str:
    family = of_packet(step.packet)
    provider = reader.ctx.model.by_number("endpoint", step.packet[family.dst] - family.hidden)
    return f"a new connection straight to {name(provider) if isinstance(provider, Endpoint) else '?'}"


FEATURE = Feature(
    "translate",
    (FlowKind.TRANSLATE,),
    looks_at=(*ITS_PLACE, *ITS_SERVICES),
    endpoint=for_endpoint,
    endpoint_connections=translations_for_endpoint,
    words={
        (FlowKind.TRANSLATE, Table.SERVICE): to_provider,
        (FlowKind.TRANSLATE, Table.BALANCE): _straight,
        (FlowKind.TRANSLATE, Table.REPLY): may_be_a_reply,
    },
)
