"""IPv6 neighbour discovery: solicitations answered in the switch, and nobody speaks for another (RFC 4861, RFC 6105).

Gateways and VIPs have the router's MAC, endpoints their own. Nothing of it is flooded but what an endpoint announces of
its own addresses. Router advertisements and redirects are nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.family import V6, link_local
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION
from ryu_apps.pipeline.inputs import ITS_NETWORK, ITS_PLACE, NETWORK_OF_VIP
from ryu_apps.pipeline.tables import NETWORK, ROUTER_MAC, FlowKind, Priority, Table
from ryu_apps.pipeline.values import IN_PORT, Flow, Move, Output, SetField, match
from topology.model import Endpoint, Network, Service

ROUTER_ADVERTISEMENT, REDIRECT = 134, 137
GUARDED = (ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT)
ROUTER, SOLICITED, OVERRIDE = 1 << 31, 1 << 30, 1 << 29  # flags of an advertisement
TARGET_LINK_LAYER_ADDRESS = 2  # type of an option
UNSPECIFIED = 0



def _message(kind: int) -> dict[str, int]:
    return {"eth_type": V6.eth_type, "ip_proto": V6.icmp, V6.icmp_type: kind}


def answer(network: Network, address: int, mac: int, flags: int = SOLICITED | OVERRIDE) -> Flow:
    """The flow that tells ``network`` that ``address`` is at ``mac``: the solicitation becomes an advertisement.

    It was sent with the option that says its sender's MAC, which becomes the one that says the target's.
    """
    return Flow(
        Table.NEIGHBOUR,
        Priority.NORMAL,
        match(**_message(NEIGHBOUR_SOLICITATION) | {NETWORK: network.number, "nd_target": address}),
        (
            Move("eth_src", "eth_dst"),
            SetField("eth_src", mac),
            SetField("nd_reserved", flags),
            SetField("nd_options_type", TARGET_LINK_LAYER_ADDRESS),
            SetField(V6.icmp_type, NEIGHBOUR_ADVERTISEMENT),
        ),
        goto=Table.ADVERTISE,
        kind=FlowKind.DISCOVERY,
    )


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The other half of all answers: only an advertisement has the field that says its target's MAC."""
    yield Flow(
        Table.ADVERTISE,
        Priority.NORMAL,
        match(**_message(NEIGHBOUR_ADVERTISEMENT)),
        (Move(V6.src, V6.dst), Move("nd_target", V6.src), Move("eth_src", "nd_tll"), Output(IN_PORT)),
        kind=FlowKind.DISCOVERY,
    )


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """The gateway answers, and says that it is a router."""
    gateway = V6.gateway(network)
    if gateway is not None:
        yield answer(network, gateway, ROUTER_MAC, ROUTER | SOLICITED | OVERRIDE)


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The VIP answers, to those in its own network."""
    vip = V6.of(service.vips)
    if vip is not None:
        yield answer(ctx.model.networks[service.network_key], vip, ROUTER_MAC)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """The endpoint's addresses are answered for it; at its own port it speaks for these alone."""
    address = V6.of(endpoint.addresses)
    if address is None:
        return
    mac, network, port = mac_int(endpoint.mac), ctx.network_of(endpoint), ctx.port_of(endpoint)
    addresses = (address, link_local(mac))
    for own in addresses:
        yield answer(network, own, mac)
    if port is None:
        return
    at_port = {"in_port": port, "eth_src": mac}
    for own in addresses:
        asks = at_port | _message(NEIGHBOUR_SOLICITATION)
        announces = at_port | _message(NEIGHBOUR_ADVERTISEMENT)
        for wanted, goto in (
            (asks | {V6.src: own}, Table.NEIGHBOUR),
            # it looks whether another has its address already (RFC 4862): nobody has
            (asks | {V6.src: UNSPECIFIED, "nd_target": own}, None),
            (announces | {V6.src: own, "nd_target": own, "nd_tll": mac}, Table.ROUTE),
        ):
            yield Flow(Table.GUARD, Priority.EXACT, match(**wanted), goto=goto, kind=FlowKind.DISCOVERY)
    for kind in GUARDED:
        yield Flow(Table.GUARD, Priority.REFUSE_FIRST, match(**at_port | _message(kind)), kind=FlowKind.DISCOVERY)


FEATURE = Feature(
    "discovery",
    (FlowKind.DISCOVERY,),
    looks_at=(*ITS_NETWORK, *ITS_PLACE, *NETWORK_OF_VIP),
    switch=for_switch,
    network=for_network,
    endpoint=for_endpoint,
    service=for_service,
)
