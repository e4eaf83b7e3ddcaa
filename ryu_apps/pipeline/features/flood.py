"""Broadcast and multicast: to the ports of the network, here and at other switches, never beyond."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.features import transit
from ryu_apps.pipeline.tables import MULTICAST, NETWORK, Feature, Priority, Table
from ryu_apps.pipeline.values import Flow, Output, match
from topology.model import Network


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """One flow with all the ports of the network here and a copy for each other switch that has some.

    The switch leaves out the port that it came in by: what came by a tunnel is not sent into it again.
    """
    found = (ctx.port_of(e) for e in ctx.model.endpoints_of(network.key))
    ports = sorted({p for p in found if p is not None})
    copies = transit.copies(ctx, network)
    if ports or copies:
        yield Flow(
            Table.ROUTE,
            Priority.EXACT,
            match(**{NETWORK: network.number}, eth_dst=MULTICAST),
            (*(Output(p) for p in ports), *copies),
            feature=Feature.FLOOD,
        )
