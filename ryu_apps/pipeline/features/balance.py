"""VIP:port → conntrack → select group over the providers."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation, ip_int
from ryu_apps.pipeline.fields import CT_EST, CT_INV, CT_NEW, CT_REL, CT_TRK, ETH_IP, TCP, UDP
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS, TENANT, VIP, Feature, Priority, Table
from ryu_apps.pipeline.values import (
    ANY,
    Bucket,
    Ct,
    Flow,
    Group,
    GroupAction,
    Move,
    Nat,
    match,
)
from topology.model import Endpoint, Service, ServicePort

PROTOCOLS = {"TCP": (TCP, "tcp"), "UDP": (UDP, "udp")}
# A select group of OpenFlow 1.3 chooses by a hash of addresses and TCP's ports, but not UDP's: all that a client sends
# would go to one provider. So a part of its port stands in the VIP's place while the group chooses. More bits spread
# better, and cost more: each value is a flow of its own in the datapath.
SPREAD_BITS = 12
HIDE_VIP = {"UDP": (Move("ipv4_dst", VIP), Move("udp_src", "ipv4_dst", bits=SPREAD_BITS))}
SHOW_VIP = {"UDP": (Move(VIP, "ipv4_dst"),)}
WEIGHT = 100


def known(state: int) -> tuple[int, int]:
    """A ct_state match: tracked, and all bits of ``state`` set."""
    return (CT_TRK | state, CT_TRK | state)


def group_id(port: ServicePort) -> int:
    """The group of a service port: its stored number, part 0."""
    return port.number << GROUP_CHUNK_BITS


def for_switch(ctx: Context) -> Iterator[Flow]:
    """What conntrack knows goes on, translated already; what makes no sense to it is dropped."""
    yield Flow(Table.BALANCE, Priority.EXACT + 1, match(ct_state=known(CT_INV)), feature=Feature.BALANCE)
    for state in (CT_EST, CT_REL):
        yield Flow(
            Table.BALANCE, Priority.EXACT, match(ct_state=known(state)), goto=Table.ROUTE, feature=Feature.BALANCE
        )


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """All IP to the VIP through conntrack; a new connection to one of its ports to that port's group."""
    zone = ctx.zone(service.tenant)
    anyone = bool(_selectable(ctx, service))
    for vip in map(ip_int, service.vips):
        yield Flow(
            Table.SERVICE,
            Priority.NORMAL,
            match(**{TENANT: zone}, eth_type=ETH_IP, ipv4_dst=vip),
            (Ct(zone, table=Table.BALANCE, nat=Nat()),),
            feature=Feature.BALANCE,
        )
        for port in service.ports if anyone else ():
            number, name = PROTOCOLS[port.protocol]
            terms = {TENANT: zone, "eth_type": ETH_IP, "ip_proto": number, f"{name}_dst": port.port}
            yield Flow(
                Table.BALANCE,
                Priority.NORMAL,
                match(**terms, ct_state=known(CT_NEW), ipv4_dst=vip),
                (*HIDE_VIP.get(port.protocol, ()), GroupAction(group_id(port))),
                feature=Feature.BALANCE,
            )


def groups_for_service(ctx: Context, service: Service) -> Iterator[Group]:
    """A select group a port; none while there is no provider to select."""
    zone = ctx.zone(service.tenant)
    providers = _selectable(ctx, service)
    for port in service.ports if providers else ():
        yield Group(group_id(port), "select", _buckets(ctx, zone, port, providers))


def translations_for_service(ctx: Context, service: Service) -> Iterator[Translation]:
    """Connections through the VIP may be those of every provider that is alive: also one that gets no new ones."""
    zone = ctx.zone(service.tenant)
    for provider in ctx.model.providers(service):
        if provider.alive and service.key not in provider.drained and ctx.reachable(provider):
            to = ip_int(provider.addresses[0])
            for vip in map(ip_int, service.vips):
                for port in service.ports:
                    yield Translation(zone, PROTOCOLS[port.protocol][0], vip, port.port, to, port.target)


def _selectable(ctx: Context, service: Service) -> list[Endpoint]:
    return [p for p in ctx.model.providers(service) if p.serves(service) and ctx.reachable(p)]


def _buckets(ctx: Context, zone: int, port: ServicePort, providers: list[Endpoint]) -> tuple[Bucket, ...]:
    out = []
    for weight, provider in _weighted(providers):
        here = ctx.port_of(provider)
        nat = Nat(dst=ip_int(provider.addresses[0]), port=port.target)
        out.append(
            Bucket(
                (*SHOW_VIP.get(port.protocol, ()), Ct(zone, table=Table.ROUTE, commit=True, nat=nat)),
                weight=weight,
                # a provider whose port goes down is passed over at once, by the switch itself
                watch_port=ANY if here is None else here,
            )
        )
    return tuple(out)


def _weighted(providers: list[Endpoint]) -> Iterator[tuple[int, Endpoint]]:
    """Equal weights. Before Open vSwitch 3.1.6, equal weights give few slots and so an uneven spread: a bucket of
    weight 1 beside one of ``WEIGHT`` makes it use all 256, so the last provider has two buckets.
    """
    for provider in providers[:-1]:
        yield WEIGHT, provider
    last = providers[-1]
    if len(providers) == 1:
        yield WEIGHT, last
    else:
        yield WEIGHT - 1, last
        yield 1, last
