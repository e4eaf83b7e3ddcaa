"""Addresses of the model's networks that nobody has, on switches with an agent: to the controller, metered.

An agent says of all containers where they are, so nobody has to be looked for. `ryu_apps.nobody` makes the answer: host
unreachable, or what a closed port answers where the address is a gateway's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import Reader
from ryu_apps.pipeline.family import FAMILIES, destination
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import refuse
from ryu_apps.pipeline.inputs import HOSTS_OF_NETWORKS
from ryu_apps.pipeline.tables import ROUTER_MAC, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.values import Flow, match
from ryu_apps.pipeline.walk import Step
from topology.model import Network


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """What is routed to an address of the network for which there is no more exact flow."""
    if ctx.host is None:
        return
    for family in FAMILIES:
        subnet = family.subnet(network)
        if subnet is not None:
            routed = {TENANT: ctx.zone(network.tenant), "eth_dst": ROUTER_MAC, "eth_type": family.eth_type}
            what, zone = match(**routed | {family.dst: subnet}), ctx.zone(network.tenant)
            yield refuse.tell(Table.ROUTE, Priority.TELL, what, zone, FlowKind.UNREACHABLE)


def _says(reader: Reader, step: Step) -> str:
    return reader.no_way(destination(step.packet))


FEATURE = Feature(
    "unreachable",
    (FlowKind.UNREACHABLE,),
    looks_at=(*HOSTS_OF_NETWORKS,),
    network=for_network,
    words={
        (FlowKind.UNREACHABLE, Table.ROUTE): _says,
    },
)
