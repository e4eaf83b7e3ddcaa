"""A switch with hosts, made with Mininet as a plan says, and what of it the controller is told over REST."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from deadline import wait_for
from mininet.net import Mininet  # type: ignore[import-untyped]
from mininet.node import Host, OVSSwitch, RemoteController  # type: ignore[import-untyped]

from netctl.client import Client

TENANT = "default"
LONGEST = 15  # characters of a name that Linux gives an interface


class CannotStart(Exception):
    """Why nothing was built, in one line."""


@dataclass(frozen=True)
class NetworkPlan:
    """A network. Hosts of one without a gateway stay among themselves."""

    name: str
    subnet: str
    gateway: str = ""


@dataclass(frozen=True)
class HostPlan:
    """A host. ``labels`` None: nobody registers it, so that the controller has to learn it."""

    name: str
    network: NetworkPlan
    address: str
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ServicePlan:
    """A service: TCP ``port`` of its VIP is ``target`` of the hosts that have all its labels."""

    name: str
    network: NetworkPlan
    port: int
    target: int
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """All of it. Names get the fabric's name before them, where others could have the same."""

    networks: tuple[NetworkPlan, ...]
    services: tuple[ServicePlan, ...]
    hosts: tuple[HostPlan, ...] = field(default=())


class Listening(RemoteController):  # type: ignore[misc]
    """A controller that is known to be there."""

    def checkListening(self) -> None:
        """REST has answered already; Mininet would ask with telnet."""


class Fabric:
    """What a plan became."""

    def __init__(self, plan: Plan, name: str, client: Client, controller_port: int) -> None:
        self.plan = plan
        self.name = name
        self.client = client
        self._controller_port = controller_port
        longest = max((self.port_of(h.name) for h in plan.hosts), key=len)
        if len(longest) > LONGEST:
            raise CannotStart(f"name {name} is too long: {longest} has more than {LONGEST} characters")
        self._make_room()
        self._net = Mininet(controller=None, autoSetMacs=True, build=False)
        self._net.addController("c0", Listening, ip="127.0.0.1", port=controller_port)
        self._add_nodes()

    def _add_nodes(self) -> None:
        switch = self._net.addSwitch(
            self.name, OVSSwitch, dpid=self.dpid, datapath="user", protocols="OpenFlow13", failMode="secure"
        )
        for plan in self.plan.hosts:
            prefix = plan.network.subnet.rpartition("/")[2]
            route = f"via {plan.network.gateway}" if plan.network.gateway else None
            host = self._net.addHost(plan.name, ip=f"{plan.address}/{prefix}", defaultRoute=route)
            self._net.addLink(host, switch, intfName1="eth0", intfName2=self.port_of(plan.name))

    @cached_property
    def dpid(self) -> str:
        """Its datapath id: the same whenever the name is."""
        return f"{0x4D4E << 32 | zlib.crc32(self.name.encode()):016x}"

    @property
    def mininet(self) -> Mininet:
        """For Mininet's own command line."""
        return self._net

    def port_of(self, host: str) -> str:
        """Name of the host's port of the switch."""
        return f"{self.name}-{host}"

    def key_of(self, name: str) -> str:
        """Key of one of our networks or services in the controller."""
        return f"{TENANT}:{self.own(name)}"

    def own(self, name: str) -> str:
        """Name of one of our networks or services, or id of one of our endpoints, in the controller."""
        return f"{self.name}-{name}"

    def host(self, name: str) -> Host:
        """A host as Mininet has it."""
        return self._net.get(name)

    def _make_room(self) -> None:
        """Remove the bridge that a killed run left, and no other: Mininet would remove any of our name."""
        if self.name not in _vsctl("list-br").split():
            return
        dpid = _vsctl("get", "bridge", self.name, "datapath_id").strip().strip('"')
        alive = [p for p in _vsctl("list-ports", self.name).split() if Path("/sys/class/net", p).exists()]
        if dpid != self.dpid or alive:
            raise CannotStart(f"a bridge {self.name} is there already: take another name with --name")
        # now: replaced in one transaction, ports of the same names would go on with the interfaces that are gone
        _vsctl("del-br", self.name)

    def start(self) -> None:
        """Build it, and wait until the controller has the switch and sees all its ports."""
        self.clear()  # of what a killed run told the controller
        self._net.build()
        for host in self._net.hosts:
            # the userspace datapath hands packets on as they are, and would pass on a checksum left to the device
            _, error, status = host.pexec("ethtool", "-K", "eth0", "tx", "off")
            if status:
                raise CannotStart(f"ethtool on {host.name}: {error.strip()}")
        self._net.start()
        wanted = {self.port_of(h.name) for h in self.plan.hosts}
        wait_for(
            lambda: wanted <= self._ports_up(),
            f"the switch to be in the controller with all its ports; OpenFlow on 127.0.0.1:{self._controller_port}?",
        )

    def _ports_up(self) -> set[str]:
        mine = (s for s in self.client.switches() if s["dpid"] == self.dpid)
        return {p["name"] for s in mine for p in s["ports"] if p["up"]}

    def register_network(self, plan: NetworkPlan) -> None:
        """Tell the controller of a network."""
        self.client.put_network(
            {
                "tenantName": TENANT,
                "networkName": self.own(plan.name),
                "subnet": plan.subnet,
                "gateway": plan.gateway,
            }
        )

    def register_service(self, plan: ServicePlan) -> str:
        """Tell the controller of a service; its VIP."""
        self.client.put_service(
            {
                "tenantName": TENANT,
                "serviceName": self.own(plan.name),
                "networkName": self.own(plan.network.name),
                "selectors": [f"{k}={v}" for k, v in plan.labels.items()],
                "ports": [f"{plan.port}:{plan.target}:TCP"],
            }
        )
        key = self.key_of(plan.name)
        return next(s["serviceVip"] for s in self.client.services() if s["key"] == key)

    def register_host(self, plan: HostPlan) -> None:
        """Tell the controller of a host."""
        self.client.put_endpoint(
            {
                "endpointID": self.own(plan.name),
                "tenantName": TENANT,
                "networkName": self.own(plan.network.name),
                "ipAddress": [plan.address],
                "macAddress": self.host(plan.name).MAC(),
                "switch": self.dpid,
                "portName": self.port_of(plan.name),
                "labels": dict(plan.labels or {}),
            }
        )

    def stop(self) -> None:
        """Take the switch and the hosts down."""
        self._net.stop()

    def clear(self) -> None:
        """Take out of the controller what it was told. Learned hosts go with their network."""
        client = self.client
        mine = {self.own(h.name) for h in self.plan.hosts}
        for endpoint in client.endpoints():
            if endpoint["endpointID"] in mine:
                client.delete_endpoint(endpoint["endpointID"])
        services = {self.key_of(s.name) for s in self.plan.services}
        for service in client.services():
            if service["key"] in services:
                client.delete_service(service["key"])
        networks = {self.key_of(n.name) for n in self.plan.networks}
        for network in client.networks():
            if network["key"] in networks:
                client.delete_network(network["key"])


def _vsctl(*args: str) -> str:
    try:
        done = subprocess.run(
            ["ovs-vsctl", "--timeout=10", *args], capture_output=True, text=True, check=True, timeout=20
        )
    except FileNotFoundError as error:
        raise CannotStart("ovs-vsctl is not there: install Open vSwitch") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit {error.returncode}"]
        raise CannotStart(f"ovs-vsctl: {lines[-1]}") from error
    return done.stdout
