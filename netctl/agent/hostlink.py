"""The host's end of the bridge's own port: its address, the way to its router (the switch), and routes by it."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from socket import AF_INET

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.errors import SwitchError
from topology.reach import HIDDEN, NEXT_HOP, PUBLISHED
from topology.validate import ROUTER_MAC

MAIN, LOCAL = 254, 255  # routing tables
PERMANENT = 0x80  # NUD_PERMANENT
ONLINK = 4  # RTNH_F_ONLINK
DESTINATIONS = (1, 2)  # RTN_UNICAST, RTN_LOCAL
SETTINGS = Path("/proc/sys/net/ipv4")


def ensure(device: str, address: IPv4Address, subnets: Iterable[IPv4Network]) -> dict[IPv4Network, str]:
    """Make the device have exactly these. Returns the subnets that have no route by it, each with the reason."""
    with _netlink(device) as ip:
        found = ip.link_lookup(ifname=device)
        if not found:
            raise SwitchError(f"device {device} is not there (yet)")
        index = found[0]
        # before it is up; it goes with the device
        _set(f"conf/{device}/route_localnet", "1")
        _address(ip, index, address)
        if not ip.get_links(index)[0]["flags"] & 1:
            ip.link("set", index=index, state="up")
        _next_hop(ip, index)
        return _routes(ip, index, address, {HIDDEN, PUBLISHED, *subnets})


def _address(ip: IPRoute, index: int, address: IPv4Address) -> None:
    have = {(a.get_attr("IFA_LOCAL"), a["prefixlen"]) for a in ip.get_addr(family=AF_INET, index=index)}
    for other, length in have - {(str(address), 32)}:
        ip.addr("del", index=index, address=other, prefixlen=length)
    if (str(address), 32) not in have:
        ip.addr("add", index=index, address=str(address), prefixlen=32)


def _next_hop(ip: IPRoute, index: int) -> None:
    for known in ip.get_neighbours(family=AF_INET, ifindex=index):
        there = (known.get_attr("NDA_DST"), known.get_attr("NDA_LLADDR"))
        if there == (str(NEXT_HOP), ROUTER_MAC) and known["state"] & PERMANENT:
            return
    ip.neigh("replace", ifindex=index, dst=str(NEXT_HOP), lladdr=ROUTER_MAC, state="permanent")


def _routes(
    ip: IPRoute, index: int, address: IPv4Address, wanted: set[IPv4Network]
) -> dict[IPv4Network, str]:
    own: dict[IPv4Network, str | None] = {}  # and the address that the host has on packets there
    others: dict[IPv4Network, int] = {}
    for route in ip.get_routes(family=AF_INET):
        table = route.get_attr("RTA_TABLE") or route["table"]
        if table not in (MAIN, LOCAL) or route["type"] not in DESTINATIONS or not route["dst_len"]:
            continue
        subnet = IPv4Network((route.get_attr("RTA_DST"), route["dst_len"]))
        if route.get_attr("RTA_OIF") != index:
            others[subnet] = route.get_attr("RTA_OIF") or 0
        elif table == MAIN:
            own[subnet] = route.get_attr("RTA_PREFSRC")
    refused = {}
    for subnet in wanted:
        taken = next((other for other in others if other.overlaps(subnet)), None)
        if taken is not None:
            refused[subnet] = f"this host has a route to {taken} by {_name(ip, others[taken])} already"
    right = wanted - refused.keys()
    for subnet in own.keys() - right:
        ip.route("del", dst=str(subnet), oif=index, table=MAIN)
    for subnet in right:
        if own.get(subnet) != str(address):
            ip.route(
                "replace", dst=str(subnet), gateway=str(NEXT_HOP), oif=index, flags=ONLINK, prefsrc=str(address)
            )
    return refused


def _name(ip: IPRoute, index: int) -> str:
    links = ip.get_links(index) if index else ()
    return str(links[0].get_attr("IFLA_IFNAME")) if links else "another way"


def forward() -> bool:
    """Have the kernel forward packets. Returns whether it did not before."""
    if (SETTINGS / "ip_forward").read_text().strip() == "1":
        return False
    _set("ip_forward", "1")
    return True


def _set(name: str, value: str) -> None:
    try:
        (SETTINGS / name).write_text(value)
    except OSError as error:
        raise SwitchError(f"net.ipv4.{name.replace('/', '.')}: {error.strerror}") from error


@contextmanager
def _netlink(device: str) -> Iterator[IPRoute]:
    try:
        with IPRoute() as ip:
            yield ip
    except (NetlinkError, OSError) as error:
        if getattr(error, "code", 0) == errno.ENODEV:
            raise SwitchError(f"device {device} has gone") from error
        raise SwitchError(f"device {device}: {error}") from error
