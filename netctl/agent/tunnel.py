"""The port of the bridge by which other hosts' containers are reached, and what it leaves of the underlay's MTU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from socket import AF_INET

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.bridge import Bridge
from netctl.agent.errors import SwitchError
from netctl.agent.ovsdb import by_name, from_map, members, omap
from netctl.agent.peers import look_up
from netctl.agent.state import State
from topology.reach import TUNNEL_PORT

LOG = logging.getLogger(__name__)

ETHERNET_MTU = 1500
OVERHEAD = 50  # bytes of VXLAN: outer Ethernet 14, IPv4 20, UDP 8, VXLAN 8


@dataclass(frozen=True, slots=True)
class Underlay:
    """The device that has the tunnel address."""

    device: str
    mtu: int


class Tunnel:
    """Keeps the port as the option says: there with that address, or not there. ``address`` "": no tunnel."""

    def __init__(self, bridge: Bridge, address: str, state: State, report: Callable[[], None]) -> None:
        self._bridge = bridge
        self._address = address
        self._state = state
        self._report = report  # called when the lines for the user are others
        state.mtu = containers_mtu(ETHERNET_MTU) if address else ETHERNET_MTU

    def ensure(self) -> None:
        """Make it be so. What can't be is told, and tried again with the next look."""
        try:
            lines = self._keep() if self._address else self._remove()
        except SwitchError as error:
            lines = {"tunnel": str(error)}
        if self._state.troubles.say("tunnel", lines):
            self._report()

    def _keep(self) -> dict[str, str]:
        under = underlay(IPv4Address(self._address))
        if under is None:
            raise SwitchError(
                f"--tunnel-address {self._address} is not an address of this host: right is the one that other hosts "
                "reach it by"
            )
        self._state.mtu = containers_mtu(under.mtu)
        self._plug()
        if not self._bridge.userspace:
            return {}
        if not self._switched(under.device):
            return {
                "tunnel": f"{self._address} is on {under.device}, which the userspace switch can't send by: right is "
                f"a bridge of Open vSwitch (datapath_type netdev) that has {under.device} as a port and the address"
            }
        with self._state.changed:
            peers = list(self._state.peers.values())
        look_up(peers)
        return {}

    def _plug(self) -> None:
        wanted = {"remote_ip": "flow", "key": "flow", "local_ip": self._address}
        rows = self._bridge.db.transact([by_name("Interface", TUNNEL_PORT, ["type", "options", "error"])])[0]["rows"]
        if rows and (rows[0]["type"], from_map(rows[0]["options"])) == ("vxlan", wanted):
            error = next(members(rows[0]["error"]), "")
            if error:
                raise SwitchError(f"port {TUNNEL_PORT} does not work: {error}")
            return
        self._bridge.plug(TUNNEL_PORT, {"type": "vxlan", "options": omap(wanted)})
        LOG.info("port %s: tunnels from %s, MTU of containers %d", TUNNEL_PORT, self._address, self._state.mtu)

    def _remove(self) -> dict[str, str]:
        if self._bridge.unplug(TUNNEL_PORT):
            LOG.info("port %s: removed, there is no --tunnel-address", TUNNEL_PORT)
        return {}

    def _switched(self, device: str) -> bool:
        """Whether a device is Open vSwitch's own: the userspace switch sends by no other."""
        rows = self._bridge.db.transact([by_name("Interface", device, ["type"])])[0]["rows"]
        return any(row["type"] == "internal" for row in rows)


def containers_mtu(underlay_mtu: int) -> int:
    """What fits into a tunnel. One size on all hosts where it can be: a larger underlay makes no difference."""
    return min(ETHERNET_MTU, underlay_mtu) - OVERHEAD


def underlay(address: IPv4Address) -> Underlay | None:
    """The device of this host that has an address."""
    try:
        with IPRoute() as ip:
            for found in ip.get_addr(family=AF_INET, address=str(address)):
                links = ip.get_links(found["index"])
                if links:
                    return Underlay(links[0].get_attr("IFLA_IFNAME"), links[0].get_attr("IFLA_MTU"))
    except (NetlinkError, OSError) as error:
        raise SwitchError(f"the addresses of this host can't be listed: {error}") from error
    return None
