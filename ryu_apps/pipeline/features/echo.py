"""Echo requests (ping) to gateways and VIPs, answered in the switch."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, ip_int
from ryu_apps.pipeline.fields import CT_NEW, CT_TRK, ETH_IP, ICMP
from ryu_apps.pipeline.tables import ROUTER_MAC, TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import IN_PORT, Action, Flow, Move, Output, SetField, match
from topology.model import Network, Service

ECHO_REPLY, ECHO_REQUEST = 0, 8
TTL = 64
FRAGMENT = 1
NO_FRAGMENT = (0, FRAGMENT)


def _turn_round(address: int) -> tuple[Action, ...]:
    return (
        Move("eth_src", "eth_dst"),
        SetField("eth_src", ROUTER_MAC),
        Move("ipv4_src", "ipv4_dst"),
        SetField("ipv4_src", address),
        SetField("ip_ttl", TTL),
        SetField("icmpv4_type", ECHO_REPLY),
        Output(IN_PORT),
    )


def _answer(zone: int, address: int) -> Flow:
    # a fragment is not answered here: the checksum of the whole is in its first part only
    terms = {TENANT: zone, "eth_type": ETH_IP, "ip_proto": ICMP, "icmpv4_type": ECHO_REQUEST}
    return Flow(
        Table.SERVICE,
        Priority.EXACT,
        match(**terms, ipv4_dst=address, ip_frag=NO_FRAGMENT),
        _turn_round(address),
        feature=Feature.ECHO,
    )


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """The gateway answers to all of its tenant."""
    if network.gateway is not None:
        yield _answer(ctx.zone(network.tenant), ip_int(network.gateway))


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The VIP answers to all of its tenant."""
    zone = ctx.zone(service.tenant)
    for vip in service.vips:
        yield _answer(zone, ip_int(vip))
        # a fragmented request comes here out of conntrack, put together again
        yield Flow(
            Table.BALANCE,
            Priority.EXACT,
            match(
                **{TENANT: zone},
                ct_state=(CT_TRK | CT_NEW, CT_TRK | CT_NEW),
                eth_type=ETH_IP,
                ip_proto=ICMP,
                icmpv4_type=ECHO_REQUEST,
                ipv4_dst=ip_int(vip),
            ),
            _turn_round(ip_int(vip)),
            feature=Feature.ECHO,
        )
