"""As `tests.kit.packets`, for IPv6: packets in the world that has it (`tests.kit.world.dual`)."""

from __future__ import annotations

from ryu_apps.pipeline.family import V6, link_local
from ryu_apps.pipeline.fields import ETH_IPV6, ICMPV6, TCP, UDP
from ryu_apps.pipeline.tables import ROUTER_MAC
from ryu_apps.pipeline.values import CONTROLLER
from tests.kit.packets import Case
from tests.kit.wide import wide
from tests.kit.world import ip, mac

VIP, GATEWAY, WEB_GATEWAY = (ip(wide(text)) for text in ("100.1.1.1", "20.1.1.254", "10.1.1.254"))
C1, W1, W2, O1, NOBODY = (ip(wide(text)) for text in ("20.1.1.1", "10.1.1.1", "10.1.1.2", "10.1.1.3", "20.1.1.9"))
ALL_NODES, ALL_NODES_MAC = ip("ff02::1"), 0x333300000001
SOLICITED, ROUTER = 3 << 29, 7 << 29


def ipv6(port: int, src: int, dst: int, eth_dst: int = ROUTER_MAC, **more: int) -> dict[str, int]:
    """An IPv6 packet from the endpoint at a port."""
    return {
        "eth_src": mac(port), "eth_dst": eth_dst, "eth_type": ETH_IPV6, "ipv6_src": src, "ipv6_dst": dst,
        "ip_ttl": 64, "ip_proto": 59, **more,
    }  # fmt: skip


def tcp(port: int, src: int, dst: int, sport: int, dport: int, **more: int) -> dict[str, int]:
    """A TCP packet, to the router's MAC unless told."""
    return ipv6(port, src, dst, **{"ip_proto": TCP, "tcp_src": sport, "tcp_dst": dport, **more})


def udp(port: int, src: int, dst: int, sport: int, dport: int, **more: int) -> dict[str, int]:
    """A UDP packet, likewise."""
    return ipv6(port, src, dst, **{"ip_proto": UDP, "udp_src": sport, "udp_dst": dport, **more})


def icmp(port: int, src: int, dst: int, kind: int, **more: int) -> dict[str, int]:
    """An ICMPv6 packet, likewise."""
    return ipv6(port, src, dst, **{"ip_proto": ICMPV6, "icmpv6_type": kind, "icmpv6_code": 0, **more})


def echo(port: int, src: int, dst: int, **more: int) -> dict[str, int]:
    """An echo request."""
    return icmp(port, src, dst, V6.echo_request, **more)


def solicitation(port: int, src: int, target: int, **more: int) -> dict[str, int]:
    """A neighbour solicitation, to the target's solicited-node group."""
    group = ip("ff02::1:ff00:0") | target & 0xFFFFFF
    fields = {"eth_dst": 0x333300000000 | group & 0xFFFFFFFF, "ip_ttl": 255, "nd_target": target, "nd_sll": mac(port)}
    return icmp(port, src, group, 135, **fields | more)


def advertisement(port: int, src: int, target: int, **more: int) -> dict[str, int]:
    """A neighbour advertisement to all nodes."""
    fields = {"eth_dst": ALL_NODES_MAC, "ip_ttl": 255, "nd_target": target, "nd_tll": mac(port)}
    return icmp(port, src, ALL_NODES, 136, **fields | more)


def own(port: int) -> int:
    """The link-local address of the endpoint at a port."""
    return link_local(mac(port))


CASES = [
    # routing
    Case("routed to another network", 1, tcp(1, C1, O1, 999, 22), (4,),
         {"eth_src": ROUTER_MAC, "eth_dst": mac(4), "ip_ttl": 63, "ipv6_dst": O1}),
    Case("bridged within a network", 2, tcp(2, W1, O1, 999, 22, eth_dst=mac(4)), (4,),
         {"eth_src": mac(2), "eth_dst": mac(4), "ip_ttl": 64}),
    Case("a last hop is not taken", 1, tcp(1, C1, O1, 999, 22, ip_ttl=1), (CONTROLLER,), {"ipv6_dst": O1}),
    Case("a last hop to a VIP: not translated", 1, tcp(1, C1, VIP, 999, 8080, ip_ttl=1), (CONTROLLER,),
         {"ipv6_dst": VIP}),
    Case("a last hop to the gateway itself", 1, echo(1, C1, GATEWAY, ip_ttl=1), (1,), {"icmpv6_type": 129}),
    Case("an address that nobody has", 1, tcp(1, C1, ip(wide("10.1.1.77")), 999, 22)),
    Case("another tenant's MAC", 1, tcp(1, C1, W1, 999, 22, eth_dst=mac(7))),
    Case("same addresses, other tenant", 6, tcp(6, C1, W1, 999, 22), (7,), {"eth_dst": mac(7)}),
    Case("an address that only the other tenant has", 6, tcp(6, C1, W2, 999, 22)),
    Case("from a network without IPv6", 8, tcp(8, ip(wide("30.1.1.1")), O1, 999, 22)),
    # on the link
    Case("link-local within a network", 2, tcp(2, own(2), own(4), 999, 22, eth_dst=mac(4)), (4,), {"ip_ttl": 64}),
    Case("link-local to a neighbour's other address", 2, tcp(2, own(2), O1, 999, 22, eth_dst=mac(4)), (4,)),
    Case("link-local is not routed", 1, tcp(1, own(1), O1, 999, 22)),
    Case("link-local to another network's MAC", 1, tcp(1, own(1), own(4), 999, 22, eth_dst=mac(4))),
    Case("multicast reaches its network only", 2, udp(2, own(2), ALL_NODES, 5, 5, eth_dst=ALL_NODES_MAC), (3, 4)),
    Case("multicast of the other tenant", 7, udp(7, W1, ALL_NODES, 5, 5, eth_dst=ALL_NODES_MAC)),
    Case("what is said without an address", 2, icmp(2, 0, ip("ff02::16"), 143, eth_dst=0x333300000016)),
    # forgery
    Case("forged address", 1, tcp(1, NOBODY, O1, 999, 22)),
    Case("forged MAC", 1, tcp(1, C1, O1, 999, 22, eth_src=mac(2))),
    Case("forged neighbour", 4, tcp(4, W1, C1, 80, 999)),
    Case("forged link-local address", 2, tcp(2, own(3), own(4), 999, 22, eth_dst=mac(4))),
    Case("forged solicitation", 1, solicitation(1, NOBODY, GATEWAY)),
    Case("another's address asked for without one's own", 1, solicitation(1, 0, GATEWAY)),
    Case("announcing a neighbour's address", 2, advertisement(2, W1, W2)),
    Case("announcing the gateway's address", 2, advertisement(2, W1, WEB_GATEWAY)),
    Case("announcing one's own at another's MAC", 2, advertisement(2, W1, W1, nd_tll=mac(3))),
    Case("a router's advertisement", 2, icmp(2, own(2), ALL_NODES, 134, eth_dst=ALL_NODES_MAC, ip_ttl=255)),
    Case("a redirect", 2, icmp(2, own(2), W2, 137, eth_dst=mac(3), ip_ttl=255)),
    # neighbours
    Case("who is the gateway", 1, solicitation(1, C1, GATEWAY), (1,),
         {"icmpv6_type": 136, "nd_target": GATEWAY, "nd_tll": ROUTER_MAC, "nd_reserved": ROUTER, "ipv6_src": GATEWAY,
          "ipv6_dst": C1, "eth_src": ROUTER_MAC, "eth_dst": mac(1), "ip_ttl": 255, "nd_options_type": 2}),
    Case("who is an endpoint", 2, solicitation(2, W1, W2), (2,), {"nd_tll": mac(3), "nd_reserved": SOLICITED}),
    Case("who is an endpoint's link-local address", 2, solicitation(2, own(2), own(3)), (2,),
         {"nd_tll": mac(3), "ipv6_src": own(3), "ipv6_dst": own(2)}),
    Case("is it still there", 2, solicitation(2, W1, W2, eth_dst=mac(3), ipv6_dst=W2), (2,), {"nd_tll": mac(3)}),
    Case("another network's endpoint is nobody's", 1, solicitation(1, C1, W1)),
    Case("looking whether one's own is free", 2, solicitation(2, 0, W1)),
    Case("looking whether one's own link-local is free", 2, solicitation(2, 0, own(2))),
    Case("announcing oneself", 2, advertisement(2, W1, W1), (3, 4)),
    # echo
    Case("ping of one's gateway", 1, echo(1, C1, GATEWAY), (1,),
         {"icmpv6_type": 129, "ipv6_src": GATEWAY, "ipv6_dst": C1, "eth_dst": mac(1)}),
    Case("ping of another network's gateway", 1, echo(1, C1, WEB_GATEWAY), (1,), {"ipv6_src": WEB_GATEWAY}),
    Case("ping of a VIP", 1, echo(1, C1, VIP), (1,), {"icmpv6_type": 129, "ipv6_src": VIP}),
    Case("ping of an endpoint", 1, echo(1, C1, W1), (2,), {"icmpv6_type": 128, "ipv6_dst": W1}),
    # services
    Case("TCP to the VIP", 1, tcp(1, C1, VIP, 999, 8080), zones=(1, 1), to=(W1, W2)),
    Case("UDP to the VIP", 1, udp(1, C1, VIP, 999, 5353), zones=(1, 1), to=(W1, W2)),
    Case("TCP to the other tenant's VIP", 6, tcp(6, C1, VIP, 999, 8080), zones=(2, 2), to=(W1,)),
    Case("another port of the VIP", 1, tcp(1, C1, VIP, 999, 9999), (CONTROLLER,), zones=(1,)),
    Case("another protocol of the VIP", 1, udp(1, C1, VIP, 999, 8080), (CONTROLLER,), zones=(1,)),
    Case("a protocol without ports to the VIP", 1, ipv6(1, C1, VIP), zones=(1,)),
    Case("straight to a service port", 1, tcp(1, C1, W1, 999, 80), zones=(1, 1), to=(W1,)),
    Case("to another port of a provider: no conntrack", 1, tcp(1, C1, W1, 999, 22), (2,)),
    Case("from a service port, in no connection", 2, tcp(2, W1, C1, 80, 999, tcp_flags=16), (1, CONTROLLER),
         zones=(1,)),
    Case("to a VIP, in no connection", 1, tcp(1, C1, VIP, 999, 9, tcp_flags=16), (CONTROLLER, CONTROLLER), zones=(1,)),
    Case("from another port of a provider: no conntrack", 2, tcp(2, W1, C1, 22, 999), (1,)),
    Case("an error of a provider: looked up", 2, icmp(2, W1, C1, 2), (1,), zones=(1,)),
    Case("the hidden address is nobody's to send to", 1, tcp(1, C1, V6.hidden + 2, 999, 80)),
]  # fmt: skip
