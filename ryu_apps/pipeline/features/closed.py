"""Packets that may not enter or leave a network: to the controller, metered, which tells their sender at once.

- Only packets with a source in the network enter a network without a gateway, or an internal one.
- Only replies to the host leave a network without nat. There is no nat for IPv6.
- Link-local addresses, a cloud's metadata service among them, are not reached from any network.

`ryu_apps.prohibited` makes the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.explain import Reader, special
from ryu_apps.pipeline.family import FAMILIES, V4, V6, Family, destination, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import refuse
from ryu_apps.pipeline.fields import CT_NEW
from ryu_apps.pipeline.inputs import HOSTS_OF_NETWORKS, ITS_NETWORK, ITS_PLACE
from ryu_apps.pipeline.tables import NETWORK, PORT, ROUTER_MAC, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import LINK_LOCAL, LINK_LOCAL6, known
from ryu_apps.pipeline.values import Flow, OutputReg, match
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint, Network


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """Into a network that does not route: what its own containers send, and replies through its VIPs.

    The check is in the last table because conntrack has given such a reply its source, the VIP, only there.
    """
    port, network = ctx.port_of(endpoint), ctx.network_of(endpoint)
    if port is None:
        return
    for family, _ in each(endpoint.addresses):
        if family.gateway(network) is not None:
            continue
        into = {PORT: port, "eth_dst": mac_int(endpoint.mac), "eth_type": family.eth_type}
        for source in _own(family, network):
            what = match(**into | {family.src: source})
            yield Flow(Table.DELIVER, Priority.EXACT, what, (OutputReg(PORT),), kind=FlowKind.CLOSED)
        yield _tell(ctx, network, Table.DELIVER, Priority.REFUSE_FIRST, **into)


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """Out of a network: what `outside` has no flow for."""
    if ctx.host is None:
        return
    for family in FAMILIES:
        out = {NETWORK: network.number, "eth_type": family.eth_type}
        yield _tell(ctx, network, Table.LEAVE, Priority.LAST, **out)
        yield _tell(ctx, network, Table.DEPART, Priority.LAST, **out, ct_state=known(CT_NEW))
    routed = {NETWORK: network.number, "eth_dst": ROUTER_MAC, "eth_type": V4.eth_type}
    yield _tell(ctx, network, Table.ROUTE, Priority.REFUSE, **routed, ipv4_dst=LINK_LOCAL)
    nowhere = {NETWORK: network.number, "eth_dst": ROUTER_MAC, "eth_type": V6.eth_type}
    yield _tell(ctx, network, Table.ROUTE, Priority.LAST, **nowhere)


def _own(family: Family, network: Network) -> list[tuple[int, int]]:
    """Sources in the network, or on its link."""
    subnet = family.subnet(network)
    return ([subnet] if subnet is not None else []) + ([LINK_LOCAL6] if family is V6 else [])


def _tell(ctx: Context, network: Network, table: Table, priority: int, **what: int | tuple[int, int]) -> Flow:
    return refuse.tell(table, priority, match(**what), ctx.zone(network.tenant), FlowKind.CLOSED)


def _to_the_outside(reader: Reader, step: Step) -> str:
    to = destination(step.packet)
    return special(to) or f"{to} is outside, and IPv6 has no nat"


def _out(reader: Reader, step: Step) -> str:
    return f"network {reader.sender.network_key} has no nat: only replies to the host may leave it"


def _into(reader: Reader, step: Step) -> str:
    return reader.no_way(destination(step.packet)) if step.flow.goto is not None else ""


FEATURE = Feature(
    "closed",
    (FlowKind.CLOSED,),
    looks_at=(*HOSTS_OF_NETWORKS, *ITS_NETWORK, *ITS_PLACE),
    network=for_network,
    endpoint=for_endpoint,
    words={
        (FlowKind.CLOSED, Table.ROUTE): _to_the_outside,
        (FlowKind.CLOSED, Table.LEAVE): _out,
        (FlowKind.CLOSED, Table.DEPART): _out,
        (FlowKind.CLOSED, Table.DELIVER): _into,
    },
)
