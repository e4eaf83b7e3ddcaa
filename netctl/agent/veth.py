"""Veth pairs: one end for the switch, the other for a container. The name says which endpoint's, the alias whose."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.errors import SwitchError

HOST_END = re.compile(r"nv[0-9a-f]{12}\Z")
GONE = (errno.ENODEV, errno.ENOENT)


def host_end(endpoint: str) -> str:
    """Name of the end that is plugged into the switch."""
    return "nv" + endpoint[:12]


def container_end(endpoint: str) -> str:
    """Name of the end that Docker moves into the container, where it becomes ethN."""
    return "nc" + endpoint[:12]


@contextmanager
def _netlink(what: str) -> Iterator[IPRoute]:
    try:
        with IPRoute() as ip:
            yield ip
    except (NetlinkError, EthtoolError, OSError) as error:
        raise SwitchError(f"{what}: {error}") from error


def make(endpoint: str, mac: str, mtu: int, owner: str, *, checksums: bool) -> None:
    """Make the pair. ``checksums``: whether the container may leave them to the device."""
    host, container = host_end(endpoint), container_end(endpoint)
    with _netlink(f"veth pair {host}") as ip:
        _delete(ip, host)  # half of a pair that an earlier try left
        ip.link("add", ifname=host, kind="veth", mtu=mtu, peer={"ifname": container, "mtu": mtu, "address": mac})
        index = ip.link_lookup(ifname=host)[0]
        try:
            _away_from_the_host(host)
            ip.link("set", index=index, state="up", ifalias=alias(owner, endpoint))
            if not checksums:
                _checksums_off(container)
        except (NetlinkError, EthtoolError, OSError):
            _delete(ip, host)
            raise


def _away_from_the_host(name: str) -> None:
    # With the userspace datapath the host's own stack sees what comes in at the switch's end as well. It must neither
    # answer a container past the switch, nor take routes from its router advertisements: no IPv6, and no IPv4 source
    # is right at an interface without addresses.
    conf = Path("/proc/sys/net")
    (conf / f"ipv4/conf/{name}/rp_filter").write_text("1", encoding="ascii")
    with suppress(FileNotFoundError):  # a kernel without IPv6
        (conf / f"ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")


def _checksums_off(name: str) -> None:
    # The userspace datapath hands packets on as they are: one with its checksum left to the device is dropped later.
    ethtool = IoctlEthtool(name)
    try:
        ethtool.set_offload_flag("tx-checksumming", 0)
    finally:
        ethtool.close()


def delete(endpoint: str) -> bool:
    """Remove the pair, wherever its other end is. Returns whether there was one."""
    name = host_end(endpoint)
    with _netlink(f"veth pair {name}") as ip:
        return _delete(ip, name)


def _delete(ip: IPRoute, name: str) -> bool:
    try:
        for index in ip.link_lookup(ifname=name):
            ip.link("del", index=index)
            return True
    except NetlinkError as error:
        if error.code not in GONE:
            raise
    return False


def alias(owner: str, endpoint: str) -> str:
    """How a pair says whose it is: two agents of one machine must not remove each other's."""
    return f"netctl {owner} {endpoint}"


def existing(owner: str) -> set[str]:
    """The endpoints whose pairs exist here and are of that owner."""
    found = set()
    with _netlink("the list of links") as ip:
        for link in ip.get_links():
            attributes: Any = link.get_attr
            words = (attributes("IFLA_IFALIAS") or "").split(" ")
            if HOST_END.match(attributes("IFLA_IFNAME") or "") and words[:2] == ["netctl", owner] and len(words) == 3:
                found.add(words[2])
    return found
