"""What may not pass between networks, or leave one: to the controller, metered, so that its sender is told at once.

- Into a network without a gateway, or an internal one, only what has a source in that network.
- Out of a network without nat, only answers to the host. IPv6 has no nat at all.

`ryu_apps.prohibited` makes the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.family import FAMILIES, V6, Family, each
from ryu_apps.pipeline.features import refuse
from ryu_apps.pipeline.features.balance import known
from ryu_apps.pipeline.features.route import LINK_LOCAL
from ryu_apps.pipeline.fields import CT_NEW
from ryu_apps.pipeline.tables import NETWORK, PORT, REFUSE_METERS, ROUTER_MAC, Feature, Priority, Table
from ryu_apps.pipeline.values import Flow, OutputReg, match
from topology.model import Endpoint, Network

LAST = Priority.FALLBACK - 1  # below what belongs to a forgotten connection, and what is asked about


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """Into a network that does not route: its own, and answers to its connections through its VIPs.

    Only conntrack tells those answers from the rest, so that is seen at the end: they are from a VIP, an address of the
    network.
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
            yield Flow(Table.DELIVER, Priority.EXACT, what, (OutputReg(PORT),), feature=Feature.CLOSED)
        yield _tell(ctx, network, Table.DELIVER, Priority.REFUSE_FIRST, **into)


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """Out of a network: what no more exact flow of `outside` lets leave."""
    if ctx.host is None:
        return
    for family in FAMILIES:
        out = {NETWORK: network.number, "eth_type": family.eth_type}
        yield _tell(ctx, network, Table.LEAVE, LAST, **out)
        yield _tell(ctx, network, Table.DEPART, LAST, **out, ct_state=known(CT_NEW))
    nowhere = {NETWORK: network.number, "eth_dst": ROUTER_MAC, "eth_type": V6.eth_type}
    yield _tell(ctx, network, Table.ROUTE, LAST, **nowhere)


def _own(family: Family, network: Network) -> list[tuple[int, int]]:
    """Sources in the network, or on its link."""
    subnet = family.subnet(network)
    return ([subnet] if subnet is not None else []) + ([LINK_LOCAL] if family is V6 else [])


def _tell(ctx: Context, network: Network, table: Table, priority: int, **what: int | tuple[int, int]) -> Flow:
    meter = REFUSE_METERS | ctx.zone(network.tenant)
    return refuse.tell(table, priority, match(**what), meter, Feature.CLOSED)
