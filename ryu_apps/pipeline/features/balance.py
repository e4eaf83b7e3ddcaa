"""VIP:port → conntrack → select group over the providers."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation, ip_int
from ryu_apps.pipeline.features import select
from ryu_apps.pipeline.fields import CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_REL, CT_TRK, ETH_IP, TCP, UDP
from ryu_apps.pipeline.tables import TENANT, VIP, Feature, Priority, Table
from ryu_apps.pipeline.values import Action, Ct, Flow, Group, GroupAction, Move, Nat, match
from topology.model import Endpoint, Service, ServicePort

PROTOCOLS = {"TCP": (TCP, "tcp"), "UDP": (UDP, "udp")}
# A select group of OpenFlow 1.3 chooses by a hash of addresses and TCP's ports, but not UDP's: all that a client sends
# would go to one provider. So a part of its port stands in the VIP's place while the group chooses. More bits spread
# better, and cost more: each value is a flow of its own in the datapath.
SPREAD_BITS = 12
# What makes no sense to conntrack, but belongs to a connection that it has translated, is for both ends to judge: TCP's
# way out of a connection that only one of them remembers is an acknowledgment and a reset, and these do not fit.
MISFIT = CT_INV | CT_DNAT
HIDE_VIP = {"UDP": (Move("ipv4_dst", VIP), Move("udp_src", "ipv4_dst", bits=SPREAD_BITS))}
SHOW_VIP = {"UDP": (Move(VIP, "ipv4_dst"),)}


def known(state: int) -> tuple[int, int]:
    """A ct_state match: tracked, and all bits of ``state`` set."""
    return (CT_TRK | state, CT_TRK | state)


def selectable(ctx: Context, service: Service) -> list[Endpoint]:
    """The providers that may get new connections, seen from this switch."""
    return [p for p in ctx.model.providers(service) if p.serves(service) and ctx.reachable(p)]


def new_connection(ctx: Context, service: Service, vip: int, port: ServicePort) -> select.Terms:
    """The terms that a new connection to a port of the VIP meets, out of conntrack."""
    number, name = PROTOCOLS[port.protocol]
    return {
        TENANT: ctx.zone(service.tenant),
        "ct_state": known(CT_NEW),
        "eth_type": ETH_IP,
        "ip_proto": number,
        "ipv4_dst": vip,
        f"{name}_dst": port.port,
    }


def translate_to(ctx: Context, provider: Endpoint, port: ServicePort) -> Ct:
    """Commit the connection to this provider, and go on to route."""
    nat = Nat(dst=ip_int(provider.addresses[0]), port=port.target)
    return Ct(ctx.zone(provider.tenant), table=Table.ROUTE, commit=True, nat=nat)


def bucket_actions(ctx: Context, provider: Endpoint, port: ServicePort) -> tuple[Action, ...]:
    """What the bucket of a provider does."""
    return (*SHOW_VIP.get(port.protocol, ()), translate_to(ctx, provider, port))


def for_switch(ctx: Context) -> Iterator[Flow]:
    """What belongs to a connection goes on, translated already; what makes no sense and belongs to none is dropped."""
    no_sense = (CT_TRK | CT_INV, CT_TRK | MISFIT)
    yield Flow(Table.BALANCE, Priority.EXACT + 1, match(ct_state=no_sense), feature=Feature.BALANCE)
    for state in (CT_EST, CT_REL, MISFIT):
        yield Flow(
            Table.BALANCE, Priority.EXACT, match(ct_state=known(state)), goto=Table.ROUTE, feature=Feature.BALANCE
        )


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """All IP to the VIP through conntrack; a new connection to one of its ports to that port's group."""
    zone = ctx.zone(service.tenant)
    providers = selectable(ctx, service)
    for vip in map(ip_int, service.vips):
        yield Flow(
            Table.SERVICE,
            Priority.NORMAL,
            match(**{TENANT: zone}, eth_type=ETH_IP, ipv4_dst=vip),
            (Ct(zone, table=Table.BALANCE, nat=Nat()),),
            feature=Feature.BALANCE,
        )
        for port in () if service.affinity else service.ports:
            for more, group in select.choices(port, select.CLIENT_PORT[port.protocol], providers):
                yield Flow(
                    Table.BALANCE,
                    Priority.NORMAL,
                    match(**new_connection(ctx, service, vip, port) | more),
                    (*HIDE_VIP.get(port.protocol, ()), GroupAction(group)),
                    feature=Feature.BALANCE,
                )


def groups_for_service(ctx: Context, service: Service) -> Iterator[Group]:
    """The select groups of each port; none while there is no provider to select. With affinity: see there."""
    providers = selectable(ctx, service)
    for port in () if service.affinity else service.ports:

        def bucket(provider: Endpoint, port: ServicePort = port) -> tuple[Action, ...]:
            return bucket_actions(ctx, provider, port)

        yield from select.groups(ctx, port, providers, bucket)


def translations_for_service(ctx: Context, service: Service) -> Iterator[Translation]:
    """Connections through the VIP may be those of every provider that is alive: also one that gets no new ones."""
    zone = ctx.zone(service.tenant)
    for provider in ctx.model.providers(service):
        if provider.alive and service.key not in provider.drained and ctx.reachable(provider):
            to = ip_int(provider.addresses[0])
            for vip in map(ip_int, service.vips):
                for port in service.ports:
                    yield Translation(zone, PROTOCOLS[port.protocol][0], vip, port.port, to, port.target)
