"""The host's end of the bridge's own port: its addresses, the way to its router (the switch), and routes by it."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.errors import SwitchError
from netctl.agent.state import Address, Subnet
from topology.reach import NEXT_HOP, NEXT_HOP6
from topology.validate import ROUTER_MAC

MAIN, LOCAL = 254, 255  # routing tables
PERMANENT = 0x80  # NUD_PERMANENT
ONLINK = 4  # RTNH_F_ONLINK
NO_DAD = 2  # IFA_F_NODAD: nobody would answer that it is taken
LINK = 253  # RT_SCOPE_LINK
DESTINATIONS = (1, 2)  # RTN_UNICAST, RTN_LOCAL
SETTINGS = Path("/proc/sys/net")


def ensure(device: str, address: Address, wanted: Collection[Subnet], mtu: int) -> dict[Subnet, str]:
    """Make the device have exactly these, of the address's family. ``mtu``: what fits on the way to other hosts.

    Returns the subnets that have no route by it, each with the reason.
    """
    with _netlink(device) as ip:
        found = ip.link_lookup(ifname=device)
        if not found:
            raise SwitchError(f"device {device} is not there (yet)")
        link = _Link(ip, device, found[0], address.version)
        if address.version == 4:
            # before it is up; they go with the device
            _set(f"ipv4/conf/{device}/route_localnet", "1")
            _set(f"ipv4/conf/{device}/accept_source_route", "0")  # else containers reach by the host what it reaches
        elif not has_ipv6(device):
            return dict.fromkeys(wanted, "IPv6 is off on this host")
        link.address(address)
        link.up()
        link.next_hop(NEXT_HOP if address.version == 4 else NEXT_HOP6)
        return link.routes(address, set(wanted), mtu)


def clear6(device: str) -> None:
    """No IPv6 on the device."""
    with _netlink(device) as ip:
        for index in ip.link_lookup(ifname=device):
            link = _Link(ip, device, index, 6)
            link.address(None)
            link.routes(None, set(), 0)


def has_ipv6(device: str) -> bool:
    """Whether the kernel has IPv6, for this device."""
    setting = SETTINGS / f"ipv6/conf/{device}/disable_ipv6"
    return setting.exists() and setting.read_text().strip() == "0"


class _Link:
    """The device, in one family."""

    def __init__(self, ip: IPRoute, device: str, index: int, version: int) -> None:
        self._ip = ip
        self._device = device
        self._index = index
        self._family = AF_INET if version == 4 else AF_INET6
        self._length = 32 if version == 4 else 128

    def up(self) -> None:
        if not self._ip.get_links(self._index)[0]["flags"] & 1:
            self._ip.link("set", index=self._index, state="up")

    def address(self, wanted: Address | None) -> None:
        """This one, and none but the link's own."""
        have = {
            (a.get_attr("IFA_LOCAL") or a.get_attr("IFA_ADDRESS"), a["prefixlen"])
            for a in self._ip.get_addr(family=self._family, index=self._index)
            if a["scope"] != LINK
        }
        right = set() if wanted is None else {(str(wanted), self._length)}
        for other, length in have - right:
            self._ip.addr("del", index=self._index, address=other, prefixlen=length, family=self._family)
        for own, length in right - have:
            more = {"flags": NO_DAD} if self._family == AF_INET6 else {}
            self._ip.addr("add", index=self._index, address=own, prefixlen=length, family=self._family, **more)

    def next_hop(self, router: Address) -> None:
        for known in self._ip.get_neighbours(family=self._family, ifindex=self._index):
            there = (known.get_attr("NDA_DST"), known.get_attr("NDA_LLADDR"))
            if there == (str(router), ROUTER_MAC) and known["state"] & PERMANENT:
                return
        self._ip.neigh(
            "replace", family=self._family, ifindex=self._index, dst=str(router), lladdr=ROUTER_MAC, state="permanent"
        )

    def routes(self, address: Address | None, wanted: set[Subnet], mtu: int) -> dict[Subnet, str]:
        """By this device, with that source. Returns those that go by another: they are not taken over."""
        # the device takes what fits its ports, which is more where none of them is a container's
        fits = 0 if mtu >= self._ip.get_links(self._index)[0].get_attr("IFLA_MTU") else mtu
        own: dict[Subnet, tuple[str | None, int]] = {}  # and the address that the host has on packets there, their MTU
        others: dict[Subnet, int] = {}
        for route in self._ip.get_routes(family=self._family):
            table = route.get_attr("RTA_TABLE") or route["table"]
            if table not in (MAIN, LOCAL) or route["type"] not in DESTINATIONS or not route["dst_len"]:
                continue
            subnet = ip_network((route.get_attr("RTA_DST"), route["dst_len"]))
            if route.get_attr("RTA_OIF") != self._index:
                others[subnet] = route.get_attr("RTA_OIF") or 0
            elif table == MAIN and route.get_attr("RTA_GATEWAY"):
                own[subnet] = route.get_attr("RTA_PREFSRC"), _mtu(route)
        refused = {}
        for subnet in wanted:
            taken = next((other for other in others if other.overlaps(subnet)), None)
            if taken is not None:
                refused[subnet] = f"this host has a route to {taken} by {self._name(others[taken])} already"
        right = wanted - refused.keys()
        for subnet in own.keys() - right:
            self._ip.route("del", family=self._family, dst=str(subnet), oif=self._index, table=MAIN)
        for subnet in right:
            if own.get(subnet) != (str(address), fits):
                self._add(subnet, address, fits)
        return refused

    def _add(self, subnet: Subnet, source: Address | None, mtu: int) -> None:
        by = {"gateway": str(NEXT_HOP), "flags": ONLINK} if self._family == AF_INET else {"gateway": str(NEXT_HOP6)}
        where = {"family": self._family, "dst": str(subnet), "oif": self._index, "prefsrc": str(source)}
        self._ip.route("replace", **where, **by, **({"metrics": {"mtu": mtu}} if mtu else {}))

    def _name(self, index: int) -> str:
        links = self._ip.get_links(index) if index else ()
        return str(links[0].get_attr("IFLA_IFNAME")) if links else "another way"


def _mtu(route: Any) -> int:
    """The route's own; 0: it has the device's."""
    metrics = route.get_attr("RTA_METRICS")
    return 0 if metrics is None else metrics.get_attr("RTAX_MTU") or 0


def forwards() -> bool:
    """Whether the kernel forwards IPv4."""
    return (SETTINGS / "ipv4/ip_forward").read_text().strip() == "1"


def forward() -> None:
    """Have it do so."""
    _set("ipv4/ip_forward", "1")


def _set(name: str, value: str) -> None:
    try:
        (SETTINGS / name).write_text(value)
    except OSError as error:
        raise SwitchError(f"net.{name.replace('/', '.')}: {error.strerror}") from error


@contextmanager
def _netlink(device: str) -> Iterator[IPRoute]:
    try:
        with IPRoute() as ip:
            yield ip
    except (NetlinkError, OSError) as error:
        if getattr(error, "code", 0) == errno.ENODEV:
            raise SwitchError(f"device {device} has gone") from error
        raise SwitchError(f"device {device}: {error}") from error
