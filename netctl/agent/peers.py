"""The other hosts' MAC addresses, or the router's to them, known before a packet needs them.

The userspace switch learns them from the kernel's ARP, which passes through it, and drops what it should send into a
tunnel until it knows: the first packet to a host would be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.errors import SwitchError

USE = 1  # NTF_USE: as if there were a packet to be sent
PROBE = 0x10  # NUD_PROBE
UNICAST = 1  # RTN_UNICAST


def look_up(peers: Iterable[IPv4Address]) -> None:
    """Have the kernel ask for all of them, also those that it knows: the switch may not have been listening, and keeps
    what it has heard for a quarter of an hour, though a host may come back with another MAC."""
    try:
        with IPRoute() as ip:
            for peer in peers:
                try:
                    _look_up(ip, peer)
                except NetlinkError:
                    continue  # no way there now, or it is being asked for already
    except OSError as error:
        raise SwitchError(f"the kernel's neighbours can't be asked for: {error}") from error


def _look_up(ip: IPRoute, peer: IPv4Address) -> None:
    for route in ip.route("get", dst=str(peer)):
        if route["type"] == UNICAST:
            via = route.get_attr("RTA_GATEWAY") or str(peer)
            place = {"dst": via, "ifindex": route.get_attr("RTA_OIF")}
            ip.neigh("replace", **place, flags=USE, state=0)
            ip.neigh("change", **place, state=PROBE)
