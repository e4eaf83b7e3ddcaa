"""Where an endpoint's kernel sends a packet: to a neighbour of its subnet, or to its gateway. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.explain import name, whose
from ryu_apps.pipeline.family import BY_VERSION, V4, V6, Family
from ryu_apps.pipeline.fields import ETH_ARP, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.terms import ARP_REPLY, ARP_REQUEST
from ryu_apps.pipeline.walk import Walker
from topology.model import Address, Endpoint, Network, Prefix

LINK_TTL = 255  # of what must not have been routed
BROADCAST = 0xFFFFFFFFFFFF
IPV6_MULTICAST = 0x3333 << 32  # a MAC, with an address's low bits (RFC 2464)
SOLICITED_NODE = 0xFF02 << 112 | 0x01FF << 24  # an address, with another's low bits (RFC 4291)


class NextHop(NamedTuple):
    """``mac`` None: it can't send, for the reason in ``text``. ``text`` is empty for multicast."""

    mac: int | None
    text: str = ""


def next_hop(ctx: Context, walker: Walker, endpoint: Endpoint, to: Address) -> NextHop:
    """The MAC that an endpoint plugged in here sends to. ``walker``: the endpoint's switch, which answers its ARP."""
    network = ctx.network_of(endpoint)
    family = BY_VERSION[to.version]
    near = on_link(network, to)
    if family is V6 and to.is_multicast:
        return NextHop(IPV6_MULTICAST | int(to) & 0xFFFFFFFF)
    if to.is_multicast or to == V4.address(0xFFFFFFFF) or (near and to == network.subnet.broadcast_address):
        return NextHop(BROADCAST)
    gateway = family.gateway(network)
    if not near and gateway is None:
        elsewhere = "; by a network of another driver, its host refuses it" if ctx.model.networks_around(to) else ""
        return NextHop(None, f"{no_gateway(network, family)}: {name(endpoint)} has no route to {to} by it{elsewhere}")
    hop = to if near or gateway is None else family.address(gateway)
    mac = _resolve(ctx, walker, endpoint, family, int(hop))
    if mac is None:
        request = "ARP request" if family is V4 else "neighbour solicitation"
        why = f"no host in network {network.key} has {hop}: {name(endpoint)} gets no reply to its {request}"
        return NextHop(None, why)
    text = f"{hop}, {whose(ctx, endpoint.tenant, hop)}, is at {mac.to_bytes(6, 'big').hex(':')}"
    return NextHop(mac, text if near else f"next hop {text}")


def on_link(network: Network, to: Address) -> bool:
    """Whether an address lies in the network's own subnet."""
    subnet: Prefix | None = network.subnet if to.version == V4.version else network.subnet6
    return subnet is not None and to in subnet


def no_gateway(network: Network, family: Family) -> str:
    """Why nothing is routed to or from a network, in a family."""
    if network.internal:
        return f"network {network.key} is internal"
    return f"network {network.key} has no {'' if family is V4 else 'IPv6 '}gateway"


def _resolve(ctx: Context, walker: Walker, endpoint: Endpoint, family: Family, hop: int) -> int | None:
    """The MAC that the switch answers for an address."""
    port = ctx.port_of(endpoint)
    assert port is not None, "whose packet it is has been seen to be plugged in"
    mac, own = mac_int(endpoint.mac), family.of(endpoint.addresses) or 0
    if family is V4:
        request, kind, reply, told = _arp(mac, own, hop), "arp_op", ARP_REPLY, "arp_sha"
    else:
        request, kind, reply = _solicitation(mac, own, hop), V6.icmp_type, NEIGHBOUR_ADVERTISEMENT
        told = "nd_tll"
    for sent in walker.send(port, request).sent:
        if sent.port == port and sent.packet[kind] == reply:
            return sent.packet[told]
    return None


def _arp(mac: int, own: int, hop: int) -> Packet:
    return {
        "eth_src": mac, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": ARP_REQUEST,
        "arp_sha": mac, "arp_spa": own, "arp_tha": 0, "arp_tpa": hop,
    }  # fmt: skip


def _solicitation(mac: int, own: int, hop: int) -> Packet:
    group = SOLICITED_NODE | hop & 0xFFFFFF
    return {
        "eth_src": mac, "eth_dst": IPV6_MULTICAST | group & 0xFFFFFFFF, "eth_type": V6.eth_type,
        V6.src: own, V6.dst: group, "ip_ttl": LINK_TTL, "ip_proto": V6.icmp,
        V6.icmp_type: NEIGHBOUR_SOLICITATION, V6.icmp_code: 0, "nd_target": hop, "nd_sll": mac,
    }  # fmt: skip
