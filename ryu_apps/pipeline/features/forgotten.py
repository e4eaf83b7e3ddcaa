"""What a provider says of a connection that conntrack does not know (any more).

A packet of a service port, in midstream, with no entry: its client asked a VIP, and does not know the provider. Or it
asked the provider itself, which the packet does not tell: then it is right as it is. So it goes on as it is, to a
client that knows the connection or resets it, and the controller is told, who resets the client's end of what may have
been a connection to a VIP (`ryu_apps.forgotten`). To the host it does not go on: there it would leave untranslated.

A client's next packet to its VIP meets no entry either. It goes to a provider, as a new connection does: mostly to the
same one, and the connection goes on. Else that provider resets it. But where conntrack had moved the client's port, the
provider may know another connection by the port that the client has, and the two would contradict each other for ever:
so the controller is told as well, and resets the client where it has just heard its provider.

What the provider itself begins from its service port is no such packet: it is noted, with the hidden address in its
place, which is what answers to a service port are sent to.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Outgoing
from ryu_apps.pipeline.family import FAMILIES, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import refuse
from ryu_apps.pipeline.features.translate import targets
from ryu_apps.pipeline.fields import CT_NEW, TCP, TCP_ACK, TCP_RST, TCP_SYN
from ryu_apps.pipeline.inputs import ITS_PLACE, ITS_SERVICES, ITS_VIPS
from ryu_apps.pipeline.tables import TENANT, TOLD, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import known
from ryu_apps.pipeline.values import Action, Ct, Flow, Match, Nat, Resubmit, SetField, match
from topology.model import Endpoint, Network, Service

BEGINS = (TCP_SYN, TCP_SYN | TCP_ACK)
MIDSTREAM = (0, TCP_SYN)
NO_RESET = (0, TCP_SYN | TCP_RST)
IT_IS_RESET = "to the controller: it belongs to no connection, and its ends are reset"


def for_switch(ctx: Context) -> Iterator[Flow]:
    """To a client here: on, and to the controller, in this order, for what exceeds a meter is dropped."""
    for family in FAMILIES:
        tcp = {"eth_type": family.eth_type, "ip_proto": TCP}
        lost = match(**tcp, ct_state=known(CT_NEW), tcp_flags=MIDSTREAM)
        yield _flow(Table.RESTORE, Priority.LAST, lost, Resubmit(Table.DELIVER), Resubmit(Table.FORGOTTEN))


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """Of a client, to a VIP: on its way, as any new connection, and to the controller, which may know better."""
    for family, vip in each(ctx.vips(service)):
        to_vip = {TENANT: ctx.zone(service.tenant), "eth_type": family.eth_type, family.dst: vip, "ip_proto": TCP}
        asks = match(**to_vip, **{TOLD: 0}, ct_state=known(CT_NEW), tcp_flags=NO_RESET)
        once = (SetField(TOLD, 1), Resubmit(Table.BALANCE), Resubmit(Table.FORGOTTEN))
        yield _flow(Table.BALANCE, Priority.REFUSE_FIRST, asks, *once)


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """To the controller, by the meter of the tenant. Every network of a tenant has these flows."""
    zone = ctx.zone(network.tenant)
    for family in FAMILIES:
        what = match(**{TENANT: zone, "eth_type": family.eth_type, "ip_proto": TCP})
        yield refuse.tell(Table.FORGOTTEN, Priority.NORMAL, what, zone, FlowKind.FORGOTTEN)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For a provider: what it begins itself; and what it says to the host."""
    ports = _ports(ctx, endpoint)
    for family, own in each(endpoint.addresses if ports else ()):
        sent = {TENANT: ctx.zone(endpoint.tenant), "eth_type": family.eth_type, family.src: own, "ip_proto": TCP}
        hidden = Nat(src=family.hidden_of(endpoint), version=family.version)
        note = Ct(ctx.zone(endpoint.tenant), table=Table.RESTORE, commit=True, nat=hidden)
        begins = match(**sent, **{TOLD: 0}, ct_state=known(CT_NEW), tcp_flags=BEGINS)
        yield _flow(Table.RESTORE, Priority.LAST, begins, SetField(TOLD, 1), note)
        for port in ports:
            lost: dict[str, int | tuple[int, int]] = {**sent, "tcp_src": port, "tcp_flags": MIDSTREAM}
            # not what a network with nat has let out: that is known to the second zone
            yield _flow(Table.LEAVE, Priority.FALLBACK, match(**lost), goto=Table.FORGOTTEN)
            new = match(**lost, ct_state=known(CT_NEW))
            yield _flow(Table.DEPART, Priority.SPECIFIC, new, goto=Table.FORGOTTEN)


def outgoing(ctx: Context, endpoint: Endpoint) -> Iterator[Outgoing]:
    """What it has begun, while it is alive."""
    if endpoint.alive and ctx.reachable(endpoint) and _ports(ctx, endpoint):
        for family, own in each(endpoint.addresses):
            yield Outgoing(ctx.zone(endpoint.tenant), own, family.hidden_of(endpoint), version=family.version)


def _ports(ctx: Context, endpoint: Endpoint) -> list[int]:
    return [target for protocol, target in targets(ctx, endpoint) if protocol == "TCP"]


def _flow(table: Table, priority: int, what: Match, *actions: Action, goto: Table | None = None) -> Flow:
    return Flow(table, priority, what, actions, goto=goto, kind=FlowKind.FORGOTTEN)




FEATURE = Feature(
    "forgotten",
    (FlowKind.FORGOTTEN,),
    looks_at=(*ITS_PLACE, *ITS_SERVICES, *ITS_VIPS),
    switch=for_switch,
    network=for_network,
    endpoint=for_endpoint,
    endpoint_connections=outgoing,
    service=for_service,
    words={
        (FlowKind.FORGOTTEN, Table.FORGOTTEN): lambda *_: IT_IS_RESET,
    },
)
