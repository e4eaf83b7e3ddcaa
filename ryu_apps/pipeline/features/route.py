"""Destination → next MAC, TTL, and port or way.

A packet to another switch leaves at once: answers are translated back at the switch of their client.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.family import V6, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.inputs import ITS_NETWORK, ITS_PLACE
from ryu_apps.pipeline.tables import NETWORK, PORT, ROUTER_MAC, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import LINK_LOCAL6
from ryu_apps.pipeline.values import DecTtl, Flow, OutputReg, SetField, match
from topology.model import Endpoint


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The one flow that sends: the port is in a register. A link's own addresses are not routed (RFC 4291, 2.5.6)."""
    yield Flow(Table.DELIVER, Priority.NORMAL, match(), (OutputReg(PORT),), kind=FlowKind.ROUTE)
    what = match(eth_dst=ROUTER_MAC, eth_type=V6.eth_type, ipv6_src=LINK_LOCAL6)
    yield Flow(Table.ROUTE, Priority.EXACT, what, kind=FlowKind.ROUTE)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """By its MAC within its network, by its address from anywhere in the tenant: `closed` says who may."""
    port = ctx.port_of(endpoint)
    send, goto = (ctx.onward(endpoint), None) if port is None else ((SetField(PORT, port),), Table.REPLY)
    network = ctx.network_of(endpoint)
    mac = mac_int(endpoint.mac)
    if send:
        yield Flow(
            Table.ROUTE,
            Priority.NORMAL,
            match(**{NETWORK: network.number}, eth_dst=mac),
            send,
            goto=goto,
            kind=FlowKind.ROUTE,
        )
    elif endpoint.host or endpoint.origin == "learned":
        return
    for family, own in each(endpoint.addresses):
        terms = {
            TENANT: ctx.zone(endpoint.tenant),
            "eth_dst": ROUTER_MAC,
            "eth_type": family.eth_type,
            family.dst: own,
        }
        # without a way: it is known, so that its gateway need not look for it
        actions = (DecTtl(), SetField("eth_src", ROUTER_MAC), SetField("eth_dst", mac), *send) if send else ()
        yield Flow(
            Table.ROUTE, Priority.NORMAL, match(**terms), actions, goto=goto if send else None, kind=FlowKind.ROUTE
        )


FEATURE = Feature(
    "route",
    (FlowKind.ROUTE,),
    looks_at=(*ITS_NETWORK, *ITS_PLACE),
    switch=for_switch,
    endpoint=for_endpoint,
)
