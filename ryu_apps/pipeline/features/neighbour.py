"""ARP, answered in the switch: gateways and VIPs by the router's MAC, endpoints by their own."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.family import V4, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import ETH_ARP
from ryu_apps.pipeline.inputs import ITS_NETWORK, ITS_PLACE, NETWORK_OF_VIP
from ryu_apps.pipeline.tables import NETWORK, ROUTER_MAC, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import ARP_REPLY, ARP_REQUEST
from ryu_apps.pipeline.values import IN_PORT, Flow, Move, Output, SetField, match
from topology.model import Endpoint, Network, Service


def answer(network: Network, address: int, mac: int) -> Flow:
    """The flow that tells ``network`` that ``address`` is at ``mac``: the request itself, turned round."""
    return Flow(
        Table.NEIGHBOUR,
        Priority.NORMAL,
        match(**{NETWORK: network.number}, eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=address),
        (
            Move("eth_src", "eth_dst"),
            SetField("eth_src", mac),
            SetField("arp_op", ARP_REPLY),
            Move("arp_sha", "arp_tha"),
            SetField("arp_sha", mac),
            Move("arp_spa", "arp_tpa"),
            SetField("arp_spa", address),
            Output(IN_PORT),
        ),
        kind=FlowKind.NEIGHBOUR,
    )


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """The gateway answers."""
    gateway = V4.gateway(network)
    if gateway is not None:
        yield answer(network, gateway, ROUTER_MAC)


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The VIP answers, to those in its own network."""
    network = ctx.model.networks[service.network_key]
    for family, vip in each(service.vips):
        if family is V4:
            yield answer(network, vip, ROUTER_MAC)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """The endpoint's address is answered for it, so that ARP need not be flooded."""
    network = ctx.network_of(endpoint)
    if endpoint.origin == "learned" and not ctx.reachable(endpoint):
        return  # it may have come back elsewhere: who asks for it makes the controller look for it
    for family, own in each(endpoint.addresses):
        if family is not V4:
            continue
        yield answer(network, own, mac_int(endpoint.mac))
        # its announcement or probe of its own address must not be told that the address is taken
        yield Flow(
            Table.NEIGHBOUR,
            Priority.EXACT,
            match(**{NETWORK: network.number}, eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_spa=own, arp_tpa=own),
            kind=FlowKind.NEIGHBOUR,
        )


FEATURE = Feature(
    "neighbour",
    (FlowKind.NEIGHBOUR,),
    looks_at=(*ITS_NETWORK, *ITS_PLACE, *NETWORK_OF_VIP),
    network=for_network,
    endpoint=for_endpoint,
    service=for_service,
)
