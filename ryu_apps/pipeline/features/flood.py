"""Broadcast and multicast: to the ports of the network, never beyond."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.tables import MULTICAST, NETWORK, Feature, Priority, Table
from ryu_apps.pipeline.values import Flow, Output, match
from topology.model import Network


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """One flow with all the ports of the network here; the switch leaves out the one it came in by."""
    found = (ctx.port_of(e) for e in ctx.model.endpoints_of(network.key))
    ports = sorted({p for p in found if p is not None})
    if ports:
        yield Flow(
            Table.ROUTE,
            Priority.EXACT,
            match(**{NETWORK: network.number}, eth_dst=MULTICAST),
            tuple(Output(p) for p in ports),
            feature=Feature.FLOOD,
        )
