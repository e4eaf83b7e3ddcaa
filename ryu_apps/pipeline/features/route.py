"""Destination → next MAC, TTL and port."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, ip_int, mac_int
from ryu_apps.pipeline.fields import ETH_IP
from ryu_apps.pipeline.tables import NETWORK, PORT, ROUTER_MAC, TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import DecTtl, Flow, OutputReg, SetField, match
from topology.model import Endpoint


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The one flow that sends: the port is in a register."""
    yield Flow(Table.DELIVER, Priority.NORMAL, match(), (OutputReg(PORT),), feature=Feature.ROUTE)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """By its MAC within its network, by its address from anywhere in the tenant."""
    port = ctx.port_of(endpoint)
    if port is None:
        return
    network = ctx.network_of(endpoint)
    mac = mac_int(endpoint.mac)
    yield Flow(
        Table.ROUTE,
        Priority.NORMAL,
        match(**{NETWORK: network.number}, eth_dst=mac),
        (SetField(PORT, port),),
        goto=Table.REPLY,
        feature=Feature.ROUTE,
    )
    terms = {TENANT: ctx.zone(endpoint.tenant), "eth_dst": ROUTER_MAC, "eth_type": ETH_IP}
    if network.gateway is None:
        # it could not answer to another network: only a VIP of its own network leads here
        terms[NETWORK] = network.number
    for address in endpoint.addresses:
        yield Flow(
            Table.ROUTE,
            Priority.NORMAL,
            match(**terms, ipv4_dst=ip_int(address)),
            (DecTtl(), SetField("eth_src", ROUTER_MAC), SetField("eth_dst", mac), SetField(PORT, port)),
            goto=Table.REPLY,
            feature=Feature.ROUTE,
        )
