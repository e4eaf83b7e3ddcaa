"""Nobody home: what a VIP has no answer for, and what may not be routed further, goes to the controller, metered.

`ryu_apps.answers` makes the answer: a reset, port unreachable, or time exceeded. OpenFlow's actions can't.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import Reader
from ryu_apps.pipeline.family import FAMILIES, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import fragments
from ryu_apps.pipeline.fields import CT_NEW
from ryu_apps.pipeline.inputs import ITS_VIPS
from ryu_apps.pipeline.tables import (
    EXPIRE_METER,
    FORGOTTEN_METERS,
    REASON,
    REFUSALS_METER,
    REFUSE_METERS,
    RESETS_METER,
    ROUTER_MAC,
    SEEK_METER,
    TENANT,
    FlowKind,
    Priority,
    Table,
)
from ryu_apps.pipeline.terms import NO_FRAGMENT, NOT_LATER, PROTOCOLS, TO_CONTROLLER, known
from ryu_apps.pipeline.values import Flow, Match, SetField, match
from ryu_apps.pipeline.walk import Step
from topology.model import Service

ASKED = {
    FlowKind.REFUSE: (REFUSE_METERS, REFUSALS_METER),
    FlowKind.UNREACHABLE: (REFUSE_METERS, REFUSALS_METER),
    FlowKind.CLOSED: (REFUSE_METERS, REFUSALS_METER),
    FlowKind.SEEK: (REFUSE_METERS, SEEK_METER),
    FlowKind.FORGOTTEN: (FORGOTTEN_METERS, RESETS_METER),
}
"""Why a tenant's packets go to the controller: by which meters of the tenants, and which of all tenants together."""


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The last hop: before conntrack, so that the sender is told of the packet that it sent.

    Below the echo answers: a gateway or VIP that is itself meant takes a packet of any TTL.
    """
    for family in FAMILIES:
        for ttl in (0, 1):
            yield _to_controller(
                Table.SERVICE,
                Priority.LESS_EXACT,
                match(eth_dst=ROUTER_MAC, eth_type=family.eth_type, ip_ttl=ttl),
                EXPIRE_METER,
                FlowKind.EXPIRE,
            )
    for kind, (_, meter) in ASKED.items():
        what = match(**{REASON: int(kind)})
        yield _to_controller(Table.TELL, Priority.NORMAL, what, meter, kind)


def tell(table: Table, priority: int, what: Match, zone: int, kind: FlowKind) -> Flow:
    """To the controller by the meter of a tenant, whose number ``zone`` is, then by one of all tenants together."""
    meters, _ = ASKED[kind]
    return Flow(table, priority, what, (SetField(REASON, kind),), Table.TELL, meters | zone, kind)


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """What comes to the VIP and is for none of its ports, or for one without a provider that serves.

    Out of conntrack, which has changed nothing in a new connection, and lets nothing through that makes no sense.
    """
    for family, vip in each(ctx.vips(service)):
        to_vip = {TENANT: ctx.zone(service.tenant), "eth_type": family.eth_type, family.dst: vip}
        yield Flow(Table.BALANCE, Priority.REFUSE, match(**to_vip), kind=FlowKind.REFUSE)
        wanted = NOT_LATER if fragments.shown(service) else NO_FRAGMENT
        for number, _ in PROTOCOLS.values():
            what = match(**to_vip, ct_state=known(CT_NEW), ip_proto=number, ip_frag=wanted)
            yield tell(Table.BALANCE, Priority.TELL, what, ctx.zone(service.tenant), FlowKind.REFUSE)


def _to_controller(table: Table, priority: int, what: Match, meter: int, kind: FlowKind) -> Flow:
    return Flow(table, priority, what, TO_CONTROLLER, meter=meter, kind=kind)


def _says(reader: Reader, step: Step) -> str:
    service = reader.target(step)
    if not isinstance(service, Service):
        return ""
    return ("" if step.flow.actions else "dropped: ") + reader.refusal(service, step.packet)


FEATURE = Feature(
    "refuse",
    (FlowKind.REFUSE, FlowKind.EXPIRE),
    looks_at=(*ITS_VIPS,),
    switch=for_switch,
    service=for_service,
    words={
        (FlowKind.REFUSE, Table.BALANCE): _says,
        (FlowKind.EXPIRE, Table.SERVICE): lambda *_: "its TTL ends here: time exceeded",
    },
)
