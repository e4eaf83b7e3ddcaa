"""VIP:port → conntrack → select group over the providers."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation
from ryu_apps.pipeline.explain import Reader, chosen_provider
from ryu_apps.pipeline.family import Family, destination, each, of_packet, source
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import select
from ryu_apps.pipeline.features.scopes import Choice, scopes
from ryu_apps.pipeline.fields import CT_EST, CT_INV, CT_NEW, CT_REL, CT_TRK
from ryu_apps.pipeline.inputs import ITS_PORTS_HERE, ITS_PROVIDERS, ITS_VIPS, NETWORK_OF_VIP
from ryu_apps.pipeline.tables import NETWORK, PROVIDER, TENANT, VIP, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import MISFIT, PROTOCOLS, Terms, known
from ryu_apps.pipeline.values import (
    Action,
    Ct,
    Flow,
    Group,
    GroupAction,
    Move,
    Nat,
    Resubmit,
    SetField,
    match,
)
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint, Service, ServicePort

# A select group of OpenFlow 1.3 chooses by a hash of addresses and ports, but not of UDP's ports: all that a client
# sends would go to one provider. So a part of its port stands in the VIP's place (of IPv6: in its low bits') while the
# group chooses. More bits spread better, and cost more: each value is a flow of its own in the datapath.
SPREAD_BITS = 12
VIP_BITS = 32


def _hide_vip(family: Family, port: ServicePort) -> tuple[Action, ...]:
    if port.protocol != "UDP":
        return ()
    return (Move(family.dst, VIP, bits=VIP_BITS), Move("udp_src", family.dst, bits=SPREAD_BITS))


def _show_vip(family: Family, port: ServicePort) -> tuple[Action, ...]:
    return (Move(VIP, family.dst, bits=VIP_BITS),) if port.protocol == "UDP" else ()


def new_connection(ctx: Context, service: Service, family: Family, vip: int, port: ServicePort) -> Terms:
    """The terms that a new connection to a port of the VIP meets, out of conntrack."""
    number, name = PROTOCOLS[port.protocol]
    return {
        TENANT: ctx.zone(service.tenant),
        "ct_state": known(CT_NEW),
        "eth_type": family.eth_type,
        "ip_proto": number,
        family.dst: vip,
        f"{name}_dst": port.port,
    }


def translate_to(ctx: Context, family: Family, provider: Endpoint, port: ServicePort) -> Ct:
    """Commit the connection to this provider, and go on to route."""
    nat = Nat(dst=family.of(provider.addresses), port=port.target, version=family.version)
    return Ct(ctx.zone(provider.tenant), table=Table.ROUTE, commit=True, nat=nat)


def to_endpoint(ctx: Context, family: Family, endpoint: Endpoint, port: ServicePort) -> tuple[Action, ...]:
    """What the bucket of a provider does that has one address for all clients."""
    return (*_show_vip(family, port), translate_to(ctx, family, endpoint, port))


def to_provider(family: Family, number: int, port: ServicePort) -> tuple[Action, ...]:
    """What the bucket of a provider does whose address depends on the client's network; the rest is `keep`'s."""
    return (*_show_vip(family, port), SetField(PROVIDER, number), Resubmit(Table.KEEP))


def _bucket(ctx: Context, family: Family, choice: Choice, port: ServicePort) -> tuple[Action, ...]:
    if choice.near:
        return to_provider(family, choice.number, port)
    return to_endpoint(ctx, family, choice.at, port)


def at_each_network(choice: Choice) -> Iterator[tuple[int, Terms, Endpoint]]:
    """The provider's endpoints: which flow goes before, the client's network, the endpoint."""
    yield 0, {}, choice.at
    for number, endpoint in choice.near:
        yield 1, {NETWORK: number}, endpoint


def for_switch(ctx: Context) -> Iterator[Flow]:
    """What belongs to a connection goes on, translated already; what makes no sense and belongs to none is dropped."""
    no_sense = (CT_TRK | CT_INV, CT_TRK | MISFIT)
    yield Flow(Table.BALANCE, Priority.MORE_EXACT, match(ct_state=no_sense), kind=FlowKind.BALANCE)
    for state in (CT_EST, CT_REL, MISFIT):
        yield Flow(
            Table.BALANCE, Priority.EXACT, match(ct_state=known(state)), goto=Table.ROUTE, kind=FlowKind.BALANCE
        )


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """All IP to the VIP through conntrack; a new connection to one of its ports to that port's group."""
    zone = ctx.zone(service.tenant)
    for family, vip in each(service.vips):
        yield Flow(
            Table.SERVICE,
            Priority.NORMAL,
            match(**{TENANT: zone, "eth_type": family.eth_type, family.dst: vip}),
            (Ct(zone, table=Table.BALANCE, nat=Nat()),),
            kind=FlowKind.BALANCE,
        )
    for family, vip in each(ctx.vips(service)):
        for scope in scopes(ctx, service, family):
            for port in () if service.affinity else ctx.ports_of(service):
                terms = new_connection(ctx, service, family, vip, port)
                for more, group in select.choices(family, port, select.CLIENT_PORT[port.protocol], scope):
                    yield Flow(
                        Table.BALANCE,
                        Priority.NORMAL + scope.rank,
                        match(**terms | scope.terms | more),
                        (*_hide_vip(family, port), GroupAction(group)),
                        kind=FlowKind.BALANCE,
                    )
                for choice in scope.choices:
                    if choice.near:
                        yield from _addresses(ctx, family, choice, port, terms)


def _addresses(
    ctx: Context, family: Family, choice: Choice, port: ServicePort, terms: Terms
) -> Iterator[Flow]:
    """Of a provider that was chosen."""
    for rank, where, endpoint in at_each_network(choice):
        yield Flow(
            Table.KEEP,
            Priority.NORMAL + rank,
            match(**terms | {PROVIDER: choice.number} | where),
            (translate_to(ctx, family, endpoint, port),),
            kind=FlowKind.BALANCE,
        )


def groups_for_service(ctx: Context, service: Service) -> Iterator[Group]:
    """The select groups of each port; none while there is no provider to select. With affinity: see there."""
    for family, _ in each(service.vips):
        for scope in scopes(ctx, service, family):
            for port in () if service.affinity else ctx.ports_of(service):

                def bucket(choice: Choice, family: Family = family, port: ServicePort = port) -> tuple[Action, ...]:
                    return _bucket(ctx, family, choice, port)

                yield from select.groups(ctx, family, port, scope, bucket)


def translations_for_service(ctx: Context, service: Service) -> Iterator[Translation]:
    """Connections through the VIP may be those of every provider that keeps them, also one that gets no new ones."""
    zone = ctx.zone(service.tenant)
    for provider in ctx.model.providers(service):
        ports = [port for port in ctx.ports_of(service) if keeps(ctx, service, provider, port.protocol)]
        for family, vip in each(ctx.vips(service) if ports else ()):
            to = family.of(provider.addresses)
            if to is None:
                continue
            for port in ports:
                number = PROTOCOLS[port.protocol][0]
                yield Translation(zone, number, vip, port.port, to, port.target, version=family.version)


def keeps(ctx: Context, service: Service, provider: Endpoint, protocol: str) -> bool:
    """Whether a provider may keep its connections of a protocol through the VIP.

    A UDP client goes on sending to whom it has, whether answered or not: so it has to be able to answer.
    """
    if not ctx.model.keeps(provider, service, protocol) or not ctx.reachable(provider):
        return False
    return protocol != "UDP" or ctx.up(provider)


def _to_vip(reader: Reader, step: Step) -> str:
    holder = reader.target(step)
    who = holder.key if isinstance(holder, Service) else ""
    return f"{destination(step.packet)} is the VIP of {who} → {reader.zone}"


def _at_its_network(reader: Reader, step: Step) -> str:
    to = next((a.nat.dst for a in step.flow.actions if isinstance(a, Ct) and a.nat), None)
    at = of_packet(step.packet).address(to or 0)
    return f"{chosen_provider(reader, step)} is in several networks: {source(step.packet)} reaches it at {at}"


FEATURE = Feature(
    "balance",
    (FlowKind.BALANCE,),
    looks_at=(*ITS_PORTS_HERE, *ITS_PROVIDERS, *ITS_VIPS, *NETWORK_OF_VIP),
    switch=for_switch,
    service=for_service,
    service_groups=groups_for_service,
    service_connections=translations_for_service,
    words={
        (FlowKind.BALANCE, Table.SERVICE): _to_vip,
        (FlowKind.BALANCE, Table.KEEP): _at_its_network,
    },
)
