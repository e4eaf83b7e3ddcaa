"""Between switches: what comes in by a tunnel or a link, where it goes on, and copies of what all of a network get.

What came by a way was routed, and balanced, at its sender's switch: nothing is left but to deliver it by network and
MAC, and to translate an answer back if its client is here; or, in a fabric, to pass it on to the next switch.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import Reader, set_to
from ryu_apps.pipeline.family import FAMILIES, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import ETH_LLDP, VLAN_PRESENT
from ryu_apps.pipeline.inputs import (
    EVERY_HOST,
    HOSTS_OF_NETWORKS,
    ITS_ENDPOINTS,
    ITS_PATHS,
    ITS_PORTS,
    PATHS_OF_NETWORKS,
)
from ryu_apps.pipeline.tables import LINK_METER, NETWORK, PACKET_IN_METER, ROUTER_MAC, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.values import CONTROLLER, Action, Bucket, Flow, Group, Output, PopVlan, SetField, match
from ryu_apps.pipeline.walk import Step
from ryu_apps.pipeline.ways import group_of, tagged, vni
from topology.model import Network
from topology.reach import TUNNEL_PORT, host_addresses


def for_switch(ctx: Context) -> Iterator[Flow]:
    """Links are found by the frames that the controller sends out of each port. What comes by a link has a tag."""
    if ctx.learns:
        yield _lldp(Priority.EXACT, PACKET_IN_METER)
    for port in ctx.links:
        # with a meter of their own: whatever hosts send, no link looks dead for it
        yield _lldp(Priority.MORE_EXACT, LINK_METER, in_port=port)
        what = match(in_port=port, vlan_vid=(VLAN_PRESENT, VLAN_PRESENT))
        yield Flow(Table.CLASSIFY, Priority.NORMAL, what, goto=Table.ARRIVE, kind=FlowKind.TRANSIT)
        # no host is there: nobody is learned from what has no tag
        yield Flow(Table.CLASSIFY, Priority.REFUSE, match(in_port=port), kind=FlowKind.TRANSIT)


def _lldp(priority: int, meter: int, **terms: int) -> Flow:
    what, to_controller = match(eth_type=ETH_LLDP, **terms), (Output(CONTROLLER, 0xFFFF),)
    return Flow(Table.CLASSIFY, priority, what, to_controller, meter=meter, kind=FlowKind.LINKS)


def groups(ctx: Context) -> Iterator[Group]:
    """To each other switch of the fabric, by all of the next hops that are up: the switch itself sees to that."""
    for dpid, ports in sorted(ctx.hops.items()):
        buckets = tuple(Bucket((Output(port),), weight=1, watch_port=port) for port in ports)
        yield Group(group_of(dpid, ctx.hops), "select", buckets)


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """In: the VNI or the tag says tenant and network. Out: to the other hosts themselves."""
    place = (SetField(TENANT, ctx.zone(network.tenant)), SetField(NETWORK, network.number))
    if ctx.links and network.vlan:
        what = match(vlan_vid=VLAN_PRESENT | network.vlan)
        yield Flow(
            Table.ARRIVE, Priority.NORMAL, what, (PopVlan(), *place), goto=Table.ROUTE, kind=FlowKind.TRANSIT
        )
    tunnel = ctx.ports.get(TUNNEL_PORT)
    if tunnel is not None:
        what = match(in_port=tunnel, tunnel_id=vni(network))
        yield Flow(Table.CLASSIFY, Priority.NORMAL, what, place, goto=Table.ROUTE, kind=FlowKind.TRANSIT)
        yield from _to_hosts(ctx, network)


def _to_hosts(ctx: Context, network: Network) -> Iterator[Flow]:
    """A host that uses a service, or lets others use it, has addresses that its own switch alone leads to: answers
    of providers here go there as they are.
    """
    routed = {family for family in FAMILIES if family.gateway(network) is not None}
    if not routed or all(ctx.port_of(e) is None for e in ctx.model.endpoints_of(network.key)):
        return
    for host in sorted(ctx.model.hosts.values(), key=lambda h: h.name):
        way = ctx.way(host.switch)
        if way is None:
            continue
        for family, address in each(host_addresses(host)):
            if family in routed:
                yield Flow(
                    Table.ROUTE,
                    Priority.NORMAL,
                    match(
                        **{NETWORK: network.number, "eth_type": family.eth_type},
                        eth_dst=ROUTER_MAC,
                        **{family.dst: address},
                    ),
                    way.actions(network),
                    kind=FlowKind.TRANSIT,
                )


def copies(ctx: Context, network: Network) -> tuple[Action, ...]:
    """A copy for each other switch that has endpoints of the network: to hosts straight, over links along the tree."""
    others = {ctx.switch_of(e) for e in ctx.model.endpoints_of(network.key) if e.state != "stopped"}
    out: list[Action] = []
    for dpid in sorted(others - ctx.hops.keys()):
        way = ctx.way(dpid)
        if way is not None:
            out += way.actions(network)
    tree = ctx.paths.tree.get(ctx.dpid, {})
    ports = sorted(port for port, beyond in tree.items() if beyond & others)
    if ports and network.vlan:
        out += (*tagged(network), *(Output(port) for port in ports))
    return tuple(out)


def _from_switch(reader: Reader, step: Step) -> str:
    network = reader.ctx.model.by_number("network", set_to(step, NETWORK))
    if isinstance(network, Network):
        return f"from another switch: network {network.key}"
    port = reader.port(step.packet["in_port"])
    return f"port {port} is a link" if step.flow.goto else f"dropped: port {port} is a link"


FEATURE = Feature(
    "transit",
    (FlowKind.TRANSIT, FlowKind.LINKS),
    looks_at=(*EVERY_HOST, *HOSTS_OF_NETWORKS, *ITS_ENDPOINTS, *ITS_PATHS, *ITS_PORTS, *PATHS_OF_NETWORKS),
    switch=for_switch,
    switch_groups=groups,
    network=for_network,
    words={
        (FlowKind.TRANSIT, Table.CLASSIFY): _from_switch,
        (FlowKind.TRANSIT, Table.ARRIVE): _from_switch,
    },
)
