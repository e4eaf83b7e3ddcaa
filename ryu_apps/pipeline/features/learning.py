"""Hosts that nobody registered, on switches without an agent: their ARP goes to the controller, metered."""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.features.neighbour import REQUEST
from ryu_apps.pipeline.fields import ETH_ARP
from ryu_apps.pipeline.tables import PACKET_IN_METER, Feature, Priority, Table
from ryu_apps.pipeline.values import CONTROLLER, Flow, Output, match

TO_CONTROLLER = (Output(CONTROLLER, 0xFFFF),)


def for_switch(ctx: Context) -> Iterator[Flow]:
    """ARP of an unknown sender: to be learned. ARP for an unknown target: to be looked for."""
    if not ctx.learns:
        return
    yield Flow(
        Table.CLASSIFY,
        Priority.FALLBACK,
        match(eth_type=ETH_ARP),
        TO_CONTROLLER,
        meter=PACKET_IN_METER,
        feature=Feature.LEARN,
    )
    yield Flow(
        Table.NEIGHBOUR,
        Priority.FALLBACK,
        match(eth_type=ETH_ARP, arp_op=REQUEST),
        TO_CONTROLLER,
        meter=PACKET_IN_METER,
        feature=Feature.LEARN,
    )
