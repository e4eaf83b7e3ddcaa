"""Broadcast and multicast: to the ports of the network, here and at other switches, never beyond."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import Reader
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import transit
from ryu_apps.pipeline.inputs import HOSTS_OF_NETWORKS, ITS_ENDPOINTS, PATHS_OF_NETWORKS
from ryu_apps.pipeline.tables import FLOOD_BITS, GROUP_FLOOD, MULTICAST, NETWORK, FlowKind, Priority, Table
from ryu_apps.pipeline.values import Action, Bucket, Flow, Group, GroupAction, Output, match
from ryu_apps.pipeline.walk import Step
from topology.model import Network

MOST_ACTIONS = 4080  # that fit into one flow: 16 bytes each, of 64 KB
PART_SHIFT = 10  # ports of one group: those whose numbers are alike but for the low bits
PART_MASK = (1 << FLOOD_BITS) - 1


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """One flow with all the ports of the network here and a copy for each other switch that has some.

    The switch leaves out the port that it came in by: what came by a tunnel is not sent into it again.
    """
    ports = _ports(ctx, network)
    copies = transit.copies(ctx, network)
    here: tuple[Action, ...] = tuple(Output(p) for p in ports)
    if _in_groups(ports, copies):
        here = tuple(GroupAction(group.id) for group in _groups(network, ports))
    if here or copies:
        yield Flow(
            Table.ROUTE,
            Priority.EXACT,
            match(**{NETWORK: network.number}, eth_dst=MULTICAST),
            (*here, *copies),
            kind=FlowKind.FLOOD,
        )


def groups_for_network(ctx: Context, network: Network) -> Iterator[Group]:
    """The ports of a network that has more than one flow can name."""
    ports = _ports(ctx, network)
    if _in_groups(ports, transit.copies(ctx, network)):
        yield from _groups(network, ports)


def _ports(ctx: Context, network: Network) -> list[int]:
    found = (ctx.port_of(e) for e in ctx.model.endpoints_of(network.key))
    return sorted({p for p in found if p is not None})


def _in_groups(ports: list[int], copies: tuple[Action, ...]) -> bool:
    return len(ports) + len(copies) > MOST_ACTIONS


def _groups(network: Network, ports: list[int]) -> Iterator[Group]:
    """By the ports' numbers: a container that starts changes one of the groups. A bucket has but one output."""
    by_part = sorted(ports, key=_part)
    for part, some in groupby(by_part, key=_part):
        number = GROUP_FLOOD | network.number << FLOOD_BITS | part
        yield Group(number, "all", tuple(Bucket((Output(p),)) for p in some))


def _part(port: int) -> int:
    return port >> PART_SHIFT & PART_MASK


def _says(reader: Reader, step: Step) -> str:
    return f"to all ports of network {reader.sender.network_key}"


FEATURE = Feature(
    "flood",
    (FlowKind.FLOOD,),
    looks_at=(*HOSTS_OF_NETWORKS, *ITS_ENDPOINTS, *PATHS_OF_NETWORKS),
    network=for_network,
    network_groups=groups_for_network,
    words={
        (FlowKind.FLOOD, Table.ROUTE): _says,
    },
)
