"""What the limit of a tenant's connections refuses: dropped, and counted for the tenant.

Open vSwitch does not say that it has refused a commit: the packet goes on as a new one, with nothing translated. So
wherever a commit leads to, these flows take what should have been translated there and is not; where nothing is to be
translated, what should have a mark and has none. Each has the tenant in its match, for `counters` adds them up by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import V4, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import ingress, outside
from ryu_apps.pipeline.features.translate import targets
from ryu_apps.pipeline.fields import CT_DNAT, CT_NEW, CT_SNAT, CT_TRK
from ryu_apps.pipeline.inputs import (
    EVERY_HOST,
    EVERY_NETWORK,
    ITS_NETWORK,
    ITS_PLACE,
    ITS_SERVICES,
    ITS_VIPS,
    PUBLISHED_BY_IT,
)
from ryu_apps.pipeline.tables import (
    HOST_NETWORK,
    INGRESS_BIT,
    NETWORK,
    NOTED,
    PORT,
    TENANT,
    TOLD,
    FlowKind,
    Priority,
    Table,
)
from ryu_apps.pipeline.terms import FRAGMENT, Terms, known
from ryu_apps.pipeline.values import LOCAL_IN_REGISTER, Flow, match
from topology.model import Endpoint, Service

UNSHOWN = (CT_TRK | CT_NEW, CT_TRK | CT_NEW | CT_SNAT)  # new, and its source is not translated
AS_IT_IS = (CT_TRK | CT_NEW, CT_TRK | CT_NEW | CT_DNAT)  # new, and its destination is not translated
UNMARKED = (0, NOTED | INGRESS_BIT)


def for_switch(ctx: Context) -> Iterator[Flow]:
    """What the host begins to a container, and is not noted: its answers would not be known."""
    for family, zone in outside.noted(ctx):
        begun: Terms = {TENANT: zone, NETWORK: HOST_NETWORK, "eth_type": family.eth_type, "ct_mark": UNMARKED}
        yield _drop(Table.ROUTE, Priority.MORE_EXACT, begun, AS_IT_IS)


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """A new connection to the VIP that has got no provider."""
    for family, vip in each(ctx.vips(service)):
        to_vip = {TENANT: ctx.zone(service.tenant), "eth_type": family.eth_type, family.dst: vip}
        yield _drop(Table.ROUTE, Priority.REFUSE_FIRST, to_vip, known(CT_NEW))


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """What would leave with a hidden address; or with its own, where that has to be hidden."""
    zone = ctx.zone(endpoint.tenant)
    provides = bool(targets(ctx, endpoint))
    for family, own in each(endpoint.addresses):
        tenant: Terms = {TENANT: zone, "eth_type": family.eth_type}
        if provides:
            hidden = family.hidden_of(endpoint)
            yield _drop(Table.ROUTE, Priority.REFUSE_FIRST, tenant | {family.dst: hidden}, known(CT_NEW))
            # to itself by a service, but not shown as the VIP
            to_itself = tenant | {family.src: own, family.dst: own}
            yield _drop(Table.ROUTE, Priority.LESS_EXACT, to_itself, known(CT_NEW))
            # what it has begun itself, and is not noted
            begun = tenant | {family.src: own, TOLD: 1}
            yield _drop(Table.RESTORE, Priority.REFUSE_FIRST, begun, known(CT_NEW))
            if family.spoilt:
                fragment = tenant | {family.src: hidden, "ip_frag": FRAGMENT}
                yield _drop(Table.DELIVER, Priority.MORE_EXACT, fragment, UNSHOWN)
                # straight to it in fragments, and not hidden
                yield _drop(Table.HAIRPIN, Priority.NORMAL, tenant | {family.dst: own}, known(CT_NEW))
        if family is V4 and ctx.network_of(endpoint).nat:
            out = tenant | {family.src: own, PORT: LOCAL_IN_REGISTER}
            yield _drop(Table.DELIVER, Priority.MORE_EXACT, out, UNSHOWN)
    yield from _from_other_hosts(ctx, endpoint)


def _from_other_hosts(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """What came in from outside by another host: not translated to the provider, or a fragment that is not noted."""
    own = ingress.noted(ctx, endpoint)
    if own is not None:
        tenant: Terms = {TENANT: ctx.zone(endpoint.tenant), "eth_type": V4.eth_type}
        to_any_kind = tenant | {"ipv4_dst": ingress.any_kind(ingress.ingress_address(endpoint))}
        yield _drop(Table.ROUTE, Priority.REFUSE_FIRST, to_any_kind, known(CT_NEW))
        fragment = tenant | {"ipv4_dst": own, "ip_frag": FRAGMENT, "ct_mark": UNMARKED}
        yield _drop(Table.ROUTE, Priority.REFUSE_FIRST, fragment, AS_IT_IS)


def _drop(table: Table, priority: int, what: Mapping[str, int | tuple[int, int]], state: tuple[int, int]) -> Flow:
    return Flow(table, priority, match(**what, ct_state=state), kind=FlowKind.LIMIT)


FEATURE = Feature(
    "limit",
    (FlowKind.LIMIT,),
    looks_at=(*EVERY_HOST, *EVERY_NETWORK, *ITS_NETWORK, *ITS_PLACE, *ITS_SERVICES, *ITS_VIPS, *PUBLISHED_BY_IT),
    switch=for_switch,
    endpoint=for_endpoint,
    service=for_service,
)
