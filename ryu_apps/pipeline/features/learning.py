"""Hosts that nobody registered, on switches without an agent: their ARP goes to the controller, metered; and so does
what shows that one is missing: a packet of an unknown sender, or to an unknown address of a network with a gateway.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.explain import Reader
from ryu_apps.pipeline.family import V4, destination
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import refuse
from ryu_apps.pipeline.fields import ETH_ARP
from ryu_apps.pipeline.inputs import EVERY_HOST, HOSTS_OF_NETWORKS, ITS_PLACE
from ryu_apps.pipeline.tables import (
    NETWORK,
    PACKET_IN_METER,
    ROUTER_MAC,
    TENANT,
    UNKNOWN_METER,
    FlowKind,
    Priority,
    Table,
)
from ryu_apps.pipeline.terms import ARP_REQUEST, TO_CONTROLLER
from ryu_apps.pipeline.values import Flow, match
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint, Network


def for_switch(ctx: Context) -> Iterator[Flow]:
    """ARP of an unknown sender: to be learned. ARP for an unknown target, IP of an unknown sender: to be looked for."""
    if not ctx.learns:
        return
    yield Flow(
        Table.CLASSIFY,
        Priority.FALLBACK,
        match(eth_type=ETH_ARP),
        TO_CONTROLLER,
        meter=PACKET_IN_METER,
        kind=FlowKind.LEARN,
    )
    yield Flow(
        Table.NEIGHBOUR,
        Priority.FALLBACK,
        match(eth_type=ETH_ARP, arp_op=ARP_REQUEST),
        TO_CONTROLLER,
        meter=PACKET_IN_METER,
        kind=FlowKind.LEARN,
    )
    yield Flow(
        Table.CLASSIFY,
        Priority.FALLBACK,
        match(eth_type=V4.eth_type),
        TO_CONTROLLER,
        meter=UNKNOWN_METER,
        kind=FlowKind.SEEK,
    )


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """To an address that no endpoint here has: its gateway looks for it, but not for itself. Within the network also to
    a MAC that nobody has: its sender knows it from before, or was told it by hand.
    """
    if not ctx.learns:
        return
    subnet = (int(network.subnet.network_address), int(network.subnet.netmask))
    near = match(**{NETWORK: network.number}, eth_type=V4.eth_type, ipv4_dst=subnet)
    zone = ctx.zone(network.tenant)
    yield refuse.tell(Table.ROUTE, Priority.LAST, near, zone, FlowKind.SEEK)
    if network.gateway is not None:
        routed = {TENANT: zone, "eth_dst": ROUTER_MAC, "eth_type": V4.eth_type}
        yield refuse.tell(Table.ROUTE, Priority.FALLBACK, match(**routed, ipv4_dst=subnet), zone, FlowKind.SEEK)
        itself = match(**routed, ipv4_dst=int(network.gateway))
        yield Flow(Table.ROUTE, Priority.NORMAL, itself, kind=FlowKind.SEEK)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """Nobody registered the addresses of a learned host: a new one in its ARP is news, not a forgery."""
    port = ctx.port_of(endpoint)
    if port is not None and endpoint.origin == "learned":
        what = match(in_port=port, eth_src=mac_int(endpoint.mac), eth_type=ETH_ARP)
        yield Flow(
            Table.GUARD, Priority.REFUSE, what, TO_CONTROLLER, meter=PACKET_IN_METER, kind=FlowKind.LEARN
        )


def _seeks(reader: Reader, step: Step) -> str:
    if not step.flow.actions:
        return ""
    to, tenant = destination(step.packet), reader.sender.tenant
    return f"nobody in tenant {tenant} is known to have {to}: its gateway asks by ARP who has it"


FEATURE = Feature(
    "learning",
    (FlowKind.LEARN, FlowKind.SEEK),
    looks_at=(*EVERY_HOST, *HOSTS_OF_NETWORKS, *ITS_PLACE),
    switch=for_switch,
    network=for_network,
    endpoint=for_endpoint,
    words={
        (FlowKind.SEEK, Table.ROUTE): _seeks,
    },
)
