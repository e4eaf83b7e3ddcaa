"""Echo requests (ping) to gateways and VIPs, answered in the switch."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import Reader
from ryu_apps.pipeline.family import FAMILIES, Family, destination, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import CT_NEW, CT_TRK
from ryu_apps.pipeline.inputs import NETWORK_OF_VIP
from ryu_apps.pipeline.tables import NETWORK, ROUTER_MAC, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import NO_FRAGMENT
from ryu_apps.pipeline.values import IN_PORT, Action, Flow, Move, Output, SetField, match
from ryu_apps.pipeline.walk import Step
from topology.model import Network, Service

TTL = 64


def _request(family: Family, zone: int, address: int, network: int) -> dict[str, int]:
    """``network``: only from that one, by its number; 0: from any of the tenant."""
    return ({NETWORK: network} if network else {}) | {
        TENANT: zone,
        "eth_type": family.eth_type,
        "ip_proto": family.icmp,
        family.icmp_type: family.echo_request,
        family.dst: address,
    }


def _turn_round(family: Family, address: int) -> tuple[Action, ...]:
    return (
        Move("eth_src", "eth_dst"),
        SetField("eth_src", ROUTER_MAC),
        Move(family.src, family.dst),
        SetField(family.src, address),
        SetField("ip_ttl", TTL),
        SetField(family.icmp_type, family.echo_reply),
        Output(IN_PORT),
    )


def _answer(family: Family, zone: int, address: int, network: int = 0) -> Flow:
    # a fragment is not answered here: the checksum of the whole is in its first part only
    return Flow(
        Table.SERVICE,
        Priority.EXACT,
        match(**_request(family, zone, address, network), ip_frag=NO_FRAGMENT),
        _turn_round(family, address),
        kind=FlowKind.ECHO,
    )


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """The gateway answers to all of its tenant."""
    for family in FAMILIES:
        gateway = family.gateway(network)
        if gateway is not None:
            yield _answer(family, ctx.zone(network.tenant), gateway)


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The VIP answers to all of its tenant; that of an internal network to those in it."""
    zone = ctx.zone(service.tenant)
    network = ctx.model.networks[service.network_key]
    only = network.number if network.internal else 0
    for family, vip in each(service.vips):
        yield _answer(family, zone, vip, only)
        # a fragmented request comes here out of conntrack, put together again
        yield Flow(
            Table.BALANCE,
            Priority.EXACT,
            match(**_request(family, zone, vip, only), ct_state=(CT_TRK | CT_NEW, CT_TRK | CT_NEW)),
            _turn_round(family, vip),
            kind=FlowKind.ECHO,
        )


def _says(reader: Reader, step: Step) -> str:
    return f"an echo request to {reader.what(destination(step.packet))}"


FEATURE = Feature(
    "echo",
    (FlowKind.ECHO,),
    looks_at=(*NETWORK_OF_VIP,),
    network=for_network,
    service=for_service,
    words={
        (FlowKind.ECHO, Table.SERVICE): _says,
    },
)
