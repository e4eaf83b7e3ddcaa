"""Packets and what must become of them, in the world of `tests.kit.world`.

The same cases run on the fake switch and on Open vSwitch (ofproto/trace), which does not translate addresses while
it traces: a case that goes through conntrack says what it does up to there (``ct``), or what state it comes out
with (``known``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ryu_apps.pipeline.family import V4
from ryu_apps.pipeline.fields import ETH_ARP, ETH_IP, ICMP, TCP, UDP
from ryu_apps.pipeline.tables import ROUTER_MAC
from ryu_apps.pipeline.values import CONTROLLER
from tests.kit.world import ip, mac

BROADCAST = 0xFFFFFFFFFFFF
VIP, GATEWAY, WEB_GATEWAY = ip("100.1.1.1"), ip("20.1.1.254"), ip("10.1.1.254")
C1, W1, W2, O1, X1 = ip("20.1.1.1"), ip("10.1.1.1"), ip("10.1.1.2"), ip("10.1.1.3"), ip("30.1.1.1")


@dataclass(frozen=True)
class Case:
    """One packet: ``ports`` it leaves by (empty: dropped), fields it leaves with, ct calls on its way."""

    name: str
    in_port: int
    packet: dict[str, int]
    ports: tuple[int, ...] = ()
    fields: dict[str, int] = field(default_factory=dict)
    zones: tuple[int, ...] = ()  # of the conntrack calls, in order
    to: tuple[int, ...] = ()  # possible translations of the destination on commit


def ipv4(port: int, src: int, dst: int, eth_dst: int = ROUTER_MAC, **more: int) -> dict[str, int]:
    """An IPv4 packet from the endpoint at a port."""
    return {
        "eth_src": mac(port), "eth_dst": eth_dst, "eth_type": ETH_IP, "ipv4_src": src, "ipv4_dst": dst, "ip_ttl": 64,
        "ip_proto": 0, **more,
    }  # fmt: skip


def tcp(port: int, src: int, dst: int, sport: int, dport: int, **more: int) -> dict[str, int]:
    """A TCP packet, to the router's MAC unless told."""
    return ipv4(port, src, dst, **{"ip_proto": TCP, "tcp_src": sport, "tcp_dst": dport, **more})


def udp(port: int, src: int, dst: int, sport: int, dport: int, **more: int) -> dict[str, int]:
    """A UDP packet, likewise."""
    return ipv4(port, src, dst, **{"ip_proto": UDP, "udp_src": sport, "udp_dst": dport, **more})


def echo(port: int, src: int, dst: int, **more: int) -> dict[str, int]:
    """An echo request."""
    return ipv4(port, src, dst, **{"ip_proto": ICMP, "icmpv4_type": 8, "icmpv4_code": 0, **more})


def arp(port: int, src: int, dst: int, **more: int) -> dict[str, int]:
    """An ARP request."""
    return {
        "eth_src": mac(port), "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 1,
        "arp_sha": mac(port), "arp_spa": src, "arp_tha": 0, "arp_tpa": dst, **more,
    }  # fmt: skip


CASES = [
    # routing
    Case("routed to another network", 1, tcp(1, C1, O1, 999, 22), (4,),
         {"eth_src": ROUTER_MAC, "eth_dst": mac(4), "ip_ttl": 63, "ipv4_dst": O1}),
    Case("bridged within a network", 2, tcp(2, W1, O1, 999, 22, eth_dst=mac(4)), (4,),
         {"eth_src": mac(2), "eth_dst": mac(4), "ip_ttl": 64}),
    Case("a last hop is not taken", 1, tcp(1, C1, O1, 999, 22, ip_ttl=1), (CONTROLLER,), {"ipv4_dst": O1}),
    Case("no hop left at all", 1, tcp(1, C1, O1, 999, 22, ip_ttl=0), (CONTROLLER,)),
    Case("a last hop within a network", 2, tcp(2, W1, O1, 999, 22, eth_dst=mac(4), ip_ttl=1), (4,), {"ip_ttl": 1}),
    Case("a last hop to a VIP: not translated", 1, tcp(1, C1, VIP, 999, 8080, ip_ttl=1), (CONTROLLER,),
         {"ipv4_dst": VIP}),
    Case("a last hop of an answer: not translated", 2, tcp(2, W1, C1, 80, 999, ip_ttl=1), (CONTROLLER,),
         {"ipv4_src": W1}),
    Case("a last hop to the gateway itself", 1, echo(1, C1, GATEWAY, ip_ttl=1), (1,), {"icmpv4_type": 0}),
    Case("an address that nobody has: looked for", 1, tcp(1, C1, ip("10.1.1.77"), 999, 22), (CONTROLLER,),
         {"eth_dst": ROUTER_MAC, "ip_ttl": 64}),
    Case("an address of no network", 1, tcp(1, C1, ip("8.8.8.8"), 999, 22)),
    Case("to a gateway itself, and no ping", 1, tcp(1, C1, WEB_GATEWAY, 999, 22)),
    Case("a MAC that nobody has, near: looked for", 2, tcp(2, W1, ip("10.1.1.77"), 999, 22, eth_dst=mac(77)),
         (CONTROLLER,)),
    Case("an unknown sender: looked for", 9, tcp(9, C1, O1, 999, 22), (CONTROLLER,)),
    Case("another tenant's MAC", 1, tcp(1, C1, W1, 999, 22, eth_dst=mac(7))),
    Case("into a network without a gateway: told", 1, tcp(1, C1, X1, 999, 22), (CONTROLLER,)),
    Case("same addresses, other tenant", 6, tcp(6, C1, W1, 999, 22), (7,), {"eth_dst": mac(7)}),
    Case("an address that only the other tenant has: looked for", 6, tcp(6, C1, W2, 999, 22), (CONTROLLER,)),
    # broadcast
    Case("broadcast reaches its network only", 2, udp(2, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST), (3, 4)),
    Case("broadcast of the other tenant", 7, udp(7, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST)),
    # forgery
    Case("forged IP", 1, tcp(1, ip("20.1.1.9"), O1, 999, 22)),
    Case("forged MAC", 1, tcp(1, C1, O1, 999, 22, eth_src=mac(2))),
    Case("forged neighbour", 4, tcp(4, W1, C1, 80, 999)),
    Case("forged ARP sender address", 1, arp(1, ip("20.1.1.9"), GATEWAY)),
    Case("forged ARP sender MAC", 1, arp(1, C1, GATEWAY, arp_sha=mac(2))),
    # neighbours
    Case("ARP for the gateway", 1, arp(1, C1, GATEWAY), (1,),
         {"arp_op": 2, "arp_sha": ROUTER_MAC, "arp_spa": GATEWAY, "arp_tha": mac(1), "arp_tpa": C1, "eth_dst": mac(1)}),
    Case("ARP for an endpoint", 2, arp(2, W1, W2), (2,), {"arp_sha": mac(3), "arp_spa": W2}),
    Case("ARP for another network's endpoint", 1, arp(1, C1, W1), (CONTROLLER,)),
    Case("ARP announcing oneself", 2, arp(2, W1, W1)),
    # echo
    Case("ping of one's gateway", 1, echo(1, C1, GATEWAY), (1,),
         {"icmpv4_type": 0, "ipv4_src": GATEWAY, "ipv4_dst": C1, "eth_dst": mac(1)}),
    Case("ping of another network's gateway", 1, echo(1, C1, WEB_GATEWAY), (1,), {"ipv4_src": WEB_GATEWAY}),
    Case("ping of a VIP", 1, echo(1, C1, VIP), (1,), {"icmpv4_type": 0, "ipv4_src": VIP}),
    Case("ping of an endpoint", 1, echo(1, C1, W1), (2,), {"icmpv4_type": 8, "ipv4_dst": W1}),
    # services
    Case("TCP to the VIP", 1, tcp(1, C1, VIP, 999, 8080), zones=(1, 1), to=(W1, W2)),
    Case("UDP to the VIP", 1, udp(1, C1, VIP, 999, 5353), zones=(1, 1), to=(W1, W2)),
    Case("TCP to the other tenant's VIP", 6, tcp(6, C1, VIP, 999, 8080), zones=(2, 2), to=(W1,)),
    Case("another port of the VIP", 1, tcp(1, C1, VIP, 999, 9999), (CONTROLLER,), zones=(1,)),
    Case("another protocol of the VIP", 1, udp(1, C1, VIP, 999, 8080), (CONTROLLER,), zones=(1,)),
    Case("a protocol without ports to the VIP", 1, ipv4(1, C1, VIP, ip_proto=47), zones=(1,)),
    Case("an error of a provider: looked up", 2, echo(2, W1, C1, icmpv4_type=3), (1,), zones=(1,)),
    Case("ICMP to the VIP that is no echo", 1, echo(1, C1, VIP, icmpv4_type=13), zones=(1,)),
    Case("straight to a service port", 1, tcp(1, C1, W1, 999, 80), zones=(1, 1), to=(W1,),
         fields={"ipv4_dst": V4.hidden + 2}),
    Case("to another port of a provider: no conntrack", 1, tcp(1, C1, W1, 999, 22), (2,)),
    Case("to the same port of no provider: no conntrack", 1, tcp(1, C1, O1, 999, 80), (4,)),
    Case("from a service port, in no connection", 2, tcp(2, W1, C1, 80, 999, tcp_flags=16), (1, CONTROLLER),
         zones=(1,)),
    Case("to a VIP, in no connection", 1, tcp(1, C1, VIP, 999, 9, tcp_flags=16), (CONTROLLER, CONTROLLER), zones=(1,)),
    Case("from another port of a provider: no conntrack", 2, tcp(2, W1, C1, 22, 999), (1,)),
    Case("an error of a provider: looked up", 2, echo(2, W1, C1, icmpv4_type=3), (1,), zones=(1,)),
    Case("a ping from a provider: no conntrack", 2, echo(2, W1, C1), (1,)),
    Case("the hidden address is nobody's to send to", 1, tcp(1, C1, V4.hidden + 2, 999, 80)),
]  # fmt: skip
