"""Containers whose processes have all ended, which Docker still lists as running.

Docker takes down a dead container's network before it says that the container is dead, and repeats the plugin's calls
ever more slowly while there is no agent. Docker's inspection of such a container waits as well. The kernel does not: no
process is left in the network namespace that the other end of the container's veth pair is in.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.veth import host_end

PROC = Path("/proc")
CONNECT = 3.0  # s


def emptied(endpoints: Iterable[str]) -> set[str]:
    """Of these endpoints, by id, those that are in a network namespace without a process.

    Raises `OSError` or `NetlinkError` where the kernel does not tell.
    """
    names = {host_end(endpoint): endpoint for endpoint in endpoints}
    if not names:
        return set()
    with IPRoute() as ip:
        places = {}
        for link in ip.get_links():
            name, place = link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_LINK_NETNSID")
            if name in names and place is not None:
                places[names[name]] = place
        inhabited = _inhabited(ip)
    return {endpoint for endpoint, place in places.items() if place not in inhabited}


def _inhabited(ip: IPRoute) -> set[int]:
    """The network namespaces that processes are in, by the numbers that they have in ours."""
    found: set[int] = set()
    seen: set[int] = set()
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        # suppressed: a process that has just ended
        with suppress(OSError, NetlinkError), (entry / "ns" / "net").open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode not in seen:
                seen.add(inode)
                found.add(int((ip.get_netnsid(fd=file.fileno()) or {}).get("nsid", -1)))
    return found


def sees_processes_of(url: str) -> bool:
    """Whether Docker's processes are to be seen from here: it may run in another process namespace, or elsewhere."""
    kind, _, path = url.partition("://")
    if kind != "unix":
        return False
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(CONNECT)
        connection.connect(path)
        size = struct.calcsize("3i")
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        return bool(pid > 0)
    return False
