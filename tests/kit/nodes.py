"""Docker hosts without Docker: each an Open vSwitch of its own with a bridge and a tunnel port, joined by an underlay.

    with nodes(directory, "a", "b") as (ctl, (a, b)):
        a.host(ctl, "c1", "cli", "20.1.1.1/24", gateway="20.1.1.254")

A node's underlay bridge holds its address, as it does on a host whose uplink Open vSwitch has: the userspace datapath
can send tunnelled packets out of nothing else.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

from netctl.agent import hostlink
from tests.kit.controller import Controller, controller
from tests.kit.hosts import ETH_P_ALL, Host, Namespace, host, inside
from tests.kit.ovs import run, wait_for, wait_for_live
from tests.kit.private_ovs import Private, private
from topology.model import HOST_BASE
from topology.reach import HOST_MAC, TUNNEL_PORT, host_address6

MTU = 1450  # of what is sent through a tunnel over a network of 1500
UNDERLAY, CABLE = "br-phy", "cable"
UDP, VXLAN, OUTER = 17, (4789).to_bytes(2, "big"), 50  # bytes before the inner frame


class Node:
    """One host with an agent, as far as switch and controller can see."""

    def __init__(self, name: str, number: int, instance: Private, bridge: str, stack: contextlib.ExitStack) -> None:
        self.name = name
        self.instance = instance
        self.bridge = bridge
        self.address = f"192.0.2.{number}"
        self.dpid = instance.vsctl("get", "bridge", bridge, "datapath_id").strip('"')
        self._stack = stack

    def wire(self) -> None:
        """The underlay, and the tunnel port."""
        self.instance.vsctl("add-br", UNDERLAY, "--", "set", "bridge", UNDERLAY, "datapath_type=netdev")
        self.instance.vsctl("add-port", UNDERLAY, CABLE)
        self._set_up_underlay()
        self.add_tunnel_port()

    def _set_up_underlay(self) -> None:
        for device in (UNDERLAY, CABLE):
            self.instance.ip("link", "set", device, "up")
        self.instance.ip("address", "replace", f"{self.address}/24", "dev", UNDERLAY)

    def restart_switch(self) -> None:
        """It dies and comes again, and its host sets up the underlay as at its own start."""
        self.instance.end_switch(signal.SIGKILL)
        self.instance.start_switch()
        wait_for(lambda: self.instance.has_bridge(UNDERLAY) and self.instance.has_bridge(self.bridge), "the bridges")
        self._set_up_underlay()

    def add_tunnel_port(self) -> None:
        """As the agent does."""
        self.instance.add_tunnel_port(self.bridge, self.address)

    def connect(self, control: Controller) -> None:
        """Register, and tell the switch of its controller."""
        if control.host != self.instance.controller_host:
            # an address of another link of the machine
            self.instance.ip("route", "replace", control.host, "via", self.instance.controller_host)
        self.register(control)
        self.instance.vsctl("set-controller", self.bridge, control.target)
        self.instance.vsctl("set", "controller", self.bridge, "max_backoff=1000")
        control.wait_for_switch(self.dpid)

    def register(self, control: Controller) -> None:
        """The agent's heartbeat."""
        control.client.put_host({"hostName": self.name, "switch": self.dpid, "tunnelAddress": self.address})

    def host(
        self,
        control: Controller,
        name: str,
        network: str,
        address: str,
        *,
        gateway: str = "",
        labels: Mapping[str, str] | None = None,
        serve: Sequence[str] = (),
        tenant: str = "default",
        homed: bool = True,
        ipv6: bool = False,
        **more: Any,
    ) -> Host:
        """A container here, with ``ipv6`` also with the addresses that go with its IPv4 ones.

        ``homed``: as its host's; else as its switch's, which no agent takes for gone. ``more``: fields of its document.
        """
        made = self._stack.enter_context(host(name, self.instance, self.bridge, address, gateway, ipv6=ipv6))
        run("ip", "-n", made.netns, "link", "set", "eth0", "mtu", str(MTU))
        where = {"switch": "", "homingHost": self.name} if homed else {}
        made.register(control.client, network, labels, tenant, **where, **more)
        if serve:
            made.serve(*serve)
        return made

    def itself(self, control: Controller, subnets: Iterable[str]) -> Namespace:
        """The host, which has these networks of its containers by its bridge, as the agent gives them to it."""
        settings = (f"other-config:datapath-id={self.dpid}", f'other-config:hwaddr="{HOST_MAC}"')
        self.instance.vsctl("set", "bridge", self.bridge, *settings)
        made = Namespace(self.name, self.instance.netns, control.client.host(self.name)["hostAddress"])
        made.ip6 = str(host_address6(int(IPv4Address(made.ip)) - int(HOST_BASE)))
        routed = [ip_network(subnet) for subnet in subnets]
        for address in map(ip_address, (made.ip, made.ip6)):
            with inside(self.instance.netns):
                of_family = [subnet for subnet in routed if subnet.version == address.version]
                refused = hostlink.ensure(self.bridge, address, of_family, MTU)
            assert not refused
        return made

    def tap(self) -> Tap:
        """Listen to the underlay."""
        return Tap(self.instance.netns, CABLE)


class Tap:
    """Hears the frames that are inside of what passes an underlay's cable, both ways."""

    def __init__(self, netns: str, device: str) -> None:
        with inside(netns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._socket.bind((device, 0))

    def until(self, wanted: Callable[[bytes], bool], timeout: float = 5) -> list[bytes]:
        """Every frame up to the wanted one."""
        heard: list[bytes] = []
        end = time.monotonic() + timeout
        while not heard or not wanted(heard[-1]):
            left = end - time.monotonic()
            assert left > 0, f"waited {timeout} s for a frame; {len(heard)} others came"
            if select.select([self._socket], [], [], left)[0]:
                frame = self._socket.recv(65535)
                if frame[12:14] == b"\x08\x00" and frame[23] == UDP and frame[36:38] == VXLAN:
                    heard.append(frame[OUTER:])
        return heard

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@contextlib.contextmanager
def nodes(directory: Path, *names: str) -> Iterator[tuple[Controller, list[Node]]]:
    """Two of them, cabled; registered with a controller that their switches are connected to."""
    assert len(names) == 2, "one cable has two ends"
    with contextlib.ExitStack() as stack:
        instances = [stack.enter_context(private(f"n{name}")) for name in names]
        control = stack.enter_context(controller(directory, instances[0].controller_host))
        ends = [("name", CABLE, "netns", instance.netns) for instance in instances]
        run("ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        made = []
        for number, (name, instance) in enumerate(zip(names, instances, strict=True), 1):
            node = Node(name, number, instance, stack.enter_context(instance.bridge("br")), stack)
            node.wire()
            node.connect(control)
            made.append(node)
        for node in made:
            number = int(node.instance.vsctl("get", "interface", TUNNEL_PORT, "ofport"))
            wait_for_live(node.instance, node.bridge, number)
        wait_for(lambda: made[0].instance.conntrack() == made[1].instance.conntrack() == [], "nothing tracked")
        yield control, made
