"""The port to the other hosts, as the options say, and what containers' packets may be."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, cast

import pytest

from netctl.agent import tunnel as module
from netctl.agent.bridge import Bridge
from netctl.agent.errors import SwitchError
from netctl.agent.ovsdb import from_map, omap, oset
from netctl.agent.state import State
from netctl.agent.tunnel import Tunnel, Underlay
from topology.reach import TUNNEL_PORT

ADDRESS = "192.0.2.1"
OPTIONS = {"remote_ip": "flow", "key": "flow", "local_ip": ADDRESS}


class FakeBridge:
    """A bridge and the database that it is in: rows of table Interface, by name."""

    name = "br"

    def __init__(self, userspace: bool = True) -> None:
        self.userspace = userspace
        self.interfaces: dict[str, dict[str, Any]] = {"br-phy": {"type": "internal"}, "eth0": {"type": ""}}
        self.plugged = 0
        self.broken = False
        self.db = self

    def transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.broken:
            raise SwitchError("Open vSwitch does not answer")
        (operation,) = operations
        row = self.interfaces.get(operation["where"][0][2])
        return [{"rows": [] if row is None else [{c: row[c] for c in operation["columns"]}]}]

    def plug(self, port: str, columns: dict[str, Any]) -> None:
        self.interfaces[port] = {"error": oset([]), **columns}
        self.plugged += 1

    def unplug(self, port: str) -> bool:
        return self.interfaces.pop(port, None) is not None


class World:
    """A host with a tunnel, as the option says."""

    def __init__(self, bridge: FakeBridge, address: str = ADDRESS) -> None:
        self.bridge = bridge
        self.state = State("h1")
        self.told = 0
        self.tunnel = Tunnel(cast(Bridge, bridge), address, self.state, self.tell)

    def tell(self) -> None:
        self.told += 1

    def look(self) -> dict[str, str]:
        self.tunnel.ensure()
        return self.state.troubles.lines()


@pytest.fixture
def underlay(monkeypatch: pytest.MonkeyPatch) -> dict[str, Underlay]:
    """The devices of this host, by address; and whose MAC was looked up."""
    devices = {ADDRESS: Underlay("br-phy", 1500)}
    monkeypatch.setattr(module, "underlay", lambda address: devices.get(str(address)))
    monkeypatch.setattr(module, "look_up", looked_up.extend)
    looked_up.clear()
    return devices


looked_up: list[IPv4Address] = []


def test_the_port_is_made_once(underlay: dict[str, Underlay]) -> None:
    """Else every look of the agent interrupts the traffic between hosts."""
    world = World(FakeBridge())
    world.state.set_peers({"h1": {"tunnelAddress": ADDRESS}, "h2": {"tunnelAddress": "192.0.2.2"}, "h3": {}})
    assert world.look() == {}
    assert world.look() == {}
    port = world.bridge.interfaces[TUNNEL_PORT]
    assert (port["type"], from_map(port["options"]), world.bridge.plugged) == ("vxlan", OPTIONS, 1)
    assert set(looked_up) == {IPv4Address("192.0.2.2")}
    assert (world.state.mtu, world.told) == (1450, 0)
    again = World(world.bridge)
    again.look()
    assert world.bridge.plugged == 1, "nor does its restart"


def test_another_address_changes_the_port(underlay: dict[str, Underlay]) -> None:
    """Else packets go on to be sent from the address that a host had."""
    world = World(FakeBridge())
    world.bridge.plug(TUNNEL_PORT, {"type": "vxlan", "options": omap(OPTIONS | {"local_ip": "192.0.2.9"})})
    assert world.look() == {}
    assert from_map(world.bridge.interfaces[TUNNEL_PORT]["options"]) == OPTIONS


def test_without_the_option_there_is_no_port(underlay: dict[str, Underlay]) -> None:
    """Else a host that left the others is still sent to, and its containers have small packets for nothing."""
    bridge = FakeBridge()
    World(bridge).look()
    world = World(bridge, "")
    assert world.look() == {}
    assert TUNNEL_PORT not in bridge.interfaces
    assert world.state.mtu == 1500


def test_what_is_wrong_is_told_in_one_line(underlay: dict[str, Underlay]) -> None:
    """Else containers of two hosts don't reach each other and nobody knows why. It is told once."""
    world = World(FakeBridge())
    mine = underlay.pop(ADDRESS)
    line = world.look()["tunnel"]
    assert line == (
        "--tunnel-address 192.0.2.1 is not an address of this host: right is the one that other hosts reach it by"
    )
    world.look()
    assert (world.told, world.state.mtu) == (1, 1450)
    underlay[ADDRESS] = Underlay("eth0", 1400)
    assert world.look()["tunnel"].startswith("192.0.2.1 is on eth0, which the userspace switch can't send by: right is")
    assert (world.told, world.state.mtu) == (2, 1350)
    underlay[ADDRESS] = mine
    assert world.look() == {}
    assert world.told == 3
    world.bridge.interfaces[TUNNEL_PORT]["error"] = "File exists"
    assert world.look()["tunnel"] == "port netctl-vxlan does not work: File exists"
    world.bridge.broken = True
    assert world.look()["tunnel"] == "Open vSwitch does not answer"


def test_the_kernels_switch_sends_by_any_device(underlay: dict[str, Underlay]) -> None:
    """Else a host with the kernel's switch is told to set up what it does not need."""
    underlay[ADDRESS] = Underlay("eth0", 9000)
    world = World(FakeBridge(userspace=False))
    assert world.look() == {}
    assert world.state.mtu == 1450, "as on the other hosts"
    assert not looked_up
