"""Which tenant and network a packet comes from, and that its sender is who it says."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.family import V6, each, link_local
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import ETH_ARP
from ryu_apps.pipeline.inputs import ITS_NETWORK, ITS_PLACE
from ryu_apps.pipeline.tables import NETWORK, ROUTER_MAC, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.values import Flow, SetField, match
from topology.model import Endpoint


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """At the endpoint's own port: admit its MAC and addresses, count and drop all else."""
    port = ctx.port_of(endpoint)
    if port is None:
        return
    mac = mac_int(endpoint.mac)
    network = ctx.network_of(endpoint)
    yield Flow(
        Table.CLASSIFY,
        Priority.NORMAL,
        match(in_port=port, eth_src=mac),
        (SetField(TENANT, ctx.zone(endpoint.tenant)), SetField(NETWORK, network.number)),
        goto=Table.GUARD,
        kind=FlowKind.ACCESS,
    )
    for family, own in each(endpoint.addresses):
        of_family = {"in_port": port, "eth_src": mac, "eth_type": family.eth_type}
        yield Flow(
            Table.GUARD,
            Priority.NORMAL,
            match(**of_family | {family.src: own}),
            goto=Table.SERVICE,
            kind=FlowKind.ACCESS,
        )
        subnet = family.subnet(network)
        if family.gateway(network) is None and subnet is not None:
            # the router leads to the network's own VIPs, and no further
            to_router = of_family | {family.src: own, "eth_dst": ROUTER_MAC}
            for priority, more, goto in (
                (Priority.MORE_SPECIFIC, {family.dst: subnet}, Table.SERVICE),
                (Priority.SPECIFIC, {}, None),
            ):
                what = match(**to_router | more)
                yield Flow(Table.GUARD, priority, what, goto=goto, kind=FlowKind.ACCESS)
        yield Flow(Table.GUARD, Priority.REFUSE, match(**of_family), kind=FlowKind.ACCESS)
        if family is V6:
            # to its neighbours; and what it says before it has an address is no forgery, but goes nowhere
            for source, goto in ((link_local(mac), Table.ROUTE), (0, None)):
                what = match(**of_family | {family.src: source})
                yield Flow(Table.GUARD, Priority.NORMAL, what, goto=goto, kind=FlowKind.ACCESS)
        else:
            yield Flow(
                Table.GUARD,
                Priority.NORMAL,
                match(in_port=port, eth_src=mac, eth_type=ETH_ARP, arp_sha=mac, arp_spa=own),
                goto=Table.NEIGHBOUR,
                kind=FlowKind.ACCESS,
            )
    if endpoint.origin == "learned":
        return  # nobody registered its addresses: see `learning`
    yield Flow(
        Table.GUARD,
        Priority.REFUSE,
        match(in_port=port, eth_src=mac, eth_type=ETH_ARP),
        kind=FlowKind.ACCESS,
    )
    yield Flow(Table.CLASSIFY, Priority.REFUSE, match(in_port=port), kind=FlowKind.ACCESS)


FEATURE = Feature(
    "access",
    (FlowKind.ACCESS,),
    looks_at=(*ITS_NETWORK, *ITS_PLACE),
    endpoint=for_endpoint,
)
