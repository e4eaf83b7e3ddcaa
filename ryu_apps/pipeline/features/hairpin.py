"""A provider reaches its own VIP, also when it is picked itself: then it must not see itself as the client.

Its own connection, translated to itself, is translated once more in a second zone of the tenant: its source becomes the
VIP. The answers, to the VIP, are translated back in both zones.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation, ip_int
from ryu_apps.pipeline.features.balance import MISFIT, PROTOCOLS, known
from ryu_apps.pipeline.fields import CT_DNAT, CT_RPL, CT_TRK, ETH_IP
from ryu_apps.pipeline.tables import HAIRPIN_ZONES, TENANT, ZERO, Feature, Priority, Table
from ryu_apps.pipeline.values import Action, Ct, Flow, Move, Nat, match
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
            feature=Feature.HAIRPIN,
        )


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """For each provider that may be picked by itself."""
    zone = ctx.zone(service.tenant)
    second = zone | HAIRPIN_ZONES
    tenant = {TENANT: zone, "eth_type": ETH_IP}
    providers = _providers(ctx, service)
    for vip in map(ip_int, service.vips):
        if providers:
            # from a service port to the VIP, but no such answer: as any other packet to the VIP
            yield Flow(
                Table.HAIRPIN,
                Priority.NORMAL,
                match(**tenant, ipv4_dst=vip),
                (Ct(zone, table=Table.BALANCE, nat=Nat()),),
                feature=Feature.HAIRPIN,
            )
        for provider in providers:
            own = ip_int(provider.addresses[0])
            yield Flow(
                Table.ROUTE,
                Priority.EXACT,
                match(**tenant, ct_state=FORWARD, ipv4_src=own, ipv4_dst=own, ct_nw_dst=vip),
                (ANY_PORT, Ct(second, table=Table.ROUTE, commit=True, nat=Nat(src=vip))),
                feature=Feature.HAIRPIN,
            )
            for protocol, target in _targets(service):
                number, name = PROTOCOLS[protocol]
                answer = {**tenant, "ip_proto": number, "ipv4_src": own, f"{name}_src": target}
                yield Flow(
                    Table.SERVICE,
                    Priority.EXACT,
                    match(**answer, ipv4_dst=vip),
                    (Ct(second, table=Table.HAIRPIN, nat=Nat()),),
                    feature=Feature.HAIRPIN,
                )


def translations_for_service(ctx: Context, service: Service) -> Iterator[Translation]:
    """Connections of its providers to themselves, in the second zone."""
    second = ctx.zone(service.tenant) | HAIRPIN_ZONES
    for provider in _providers(ctx, service):
        own = ip_int(provider.addresses[0])
        for protocol, target in () if service.key in provider.drained else _targets(service):
            for vip in map(ip_int, service.vips):
                yield Translation(second, PROTOCOLS[protocol][0], own, target, own, target, seen=vip)


def _providers(ctx: Context, service: Service) -> list[Endpoint]:
    return [p for p in ctx.model.providers(service) if p.alive and ctx.reachable(p)]


def _targets(service: Service) -> list[tuple[str, int]]:
    return sorted({(p.protocol, p.target) for p in service.ports})
