"""What lies between a host, its containers and other hosts: names and rules that controller and agent agree on.

The bridge's own port (OpenFlow's LOCAL) joins a host and its containers: the host routes, the switch says what may
pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import TypeVar

from topology.model import HOST_BASE, PUBLISHED_BASE, Address, Host, Prefix
from topology.validate import OWN_MACS

T = TypeVar("T")

HOST_MAC = f"{OWN_MACS}00:00:02"  # of every host's end of that port
INGRESS_MAC = f"{OWN_MACS}01:80:00"  # plus a host's number: from outside, in by that host, to a provider on another
TUNNEL_PORT = "netctl-vxlan"  # of a host's bridge, made by its agent; each packet says which host it goes to
HIDDEN = IPv4Network("250.0.0.0/7")  # endpoints, as their host sees them once they are on their way out:
HIDDEN_BASE = IPv4Address("250.0.0.0")
HIDDEN_HOST_BASE = IPv4Address("251.0.0.0")  # of those in networks with natHost
HIDDEN_HOST = IPv4Network((HIDDEN_HOST_BASE, 8))
SECOND_ZONES = 0x8000  # a tenant has two conntrack zones: its number, and its number plus this
PUBLISHED = IPv4Network((PUBLISHED_BASE, 8))
INGRESS = IPv4Network("240.0.0.0/5")  # providers, in conntrack at their own host, for what came in by another
NEXT_HOP = HOST_BASE + 0xFFFE  # the switch, as the host's router; hosts' numbers end before
HOST_BASE6 = IPv6Address("100::1:0:0")  # beside the hidden addresses, in what nobody routes (RFC 6666)
NEXT_HOP6 = IPv6Address("fe80::1")


def host_address6(number: int) -> IPv6Address:
    """A host as its own containers see it; the IPv4 one is the host's own to say."""
    return HOST_BASE6 + number


def host_addresses(host: Host) -> tuple[Address, ...]:
    """A host as its own containers see it, in each family; nothing where it has no number."""
    return () if host.address is None else (host.address, host_address6(host.number))


def reached(found: Iterable[tuple[int, Prefix, T]]) -> list[T]:
    """Of (number, subnet, what it is of): those that a host has its route to.

    Subnets of several tenants may overlap, but a host has one route to an address: it is the lowest number's.
    """
    taken: list[tuple[int, int]] = []  # first and last addresses, in order
    out = []
    for _, subnet, value in sorted(found, key=lambda one: one[0]):
        first, last = int(subnet.network_address), int(subnet.broadcast_address)
        at = bisect_left(taken, (first, first))
        if (at and taken[at - 1][1] >= first) or (at < len(taken) and taken[at][0] <= last):
            continue
        taken.insert(at, (first, last))
        out.append(value)
    return out


