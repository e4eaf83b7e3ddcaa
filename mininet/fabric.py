"""Switches with hosts, made with Mininet as a plan says, and what of them the controller is told over REST."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from deadline import wait_for
from mininet.net import Mininet  # type: ignore[import-untyped]
from mininet.node import Host, OVSSwitch, RemoteController  # type: ignore[import-untyped]

from netctl.client import Client

TENANT = "default"
LONGEST = 15  # characters of a name that Linux gives an interface


class CannotStart(Exception):
    """Why nothing was built, in one line."""


class Subnets:
    """The networks of a plan: the first ``/24`` s of one subnet."""

    LONGEST = 22  # of its prefix: room for four

    def __init__(self, text: str) -> None:
        try:
            self.all = IPv4Network(text)
        except ValueError as error:
            raise CannotStart(f"--subnet {text}: must be an IPv4 network, such as 10.220.0.0/16: {error}") from error
        if self.all.prefixlen > self.LONGEST:
            raise CannotStart(f"--subnet {text}: must be /{self.LONGEST} or shorter: its first networks /24 are used")

    def network(self, name: str, number: int, *, gateway: bool = True) -> NetworkPlan:
        """The ``number`` th of them, with its last address as the gateway."""
        first = int(self.all.network_address) + (number << 8)
        return NetworkPlan(name, str(IPv4Network((first, 24))), str(IPv4Address(first + 254)) if gateway else "")


@dataclass(frozen=True)
class NetworkPlan:
    """A network. Hosts of one without a gateway stay among themselves."""

    name: str
    subnet: str
    gateway: str = ""

    def address(self, number: int) -> str:
        """One of its addresses."""
        return str(IPv4Network(self.subnet)[number])


@dataclass(frozen=True)
class HostPlan:
    """A host. ``labels`` None: nobody registers it, so that the controller has to learn it."""

    name: str
    network: NetworkPlan
    address: str
    labels: Mapping[str, str] | None = None
    switch: str = ""


@dataclass(frozen=True)
class ServicePlan:
    """A service: TCP ``port`` of its VIP is ``target`` of the hosts that have all its labels."""

    name: str
    network: NetworkPlan
    port: int
    target: int
    labels: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """All of it. Names get the fabric's name before them, where others could have the same.

    ``links`` join switches, which are those that they name and that hosts are at; without any it is one, "".
    """

    networks: tuple[NetworkPlan, ...]
    services: tuple[ServicePlan, ...]
    hosts: tuple[HostPlan, ...] = field(default=())
    links: tuple[tuple[str, str], ...] = ()

    @property
    def switches(self) -> list[str]:
        """Their names."""
        return list(dict.fromkeys([*(name for link in self.links for name in link), *(h.switch for h in self.hosts)]))


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
        names = [self.port_of(h.name) for h in plan.hosts] + [self.bridge(s) for s in plan.switches]
        longest = max([*names, *(p for n in range(len(plan.links)) for p in self.ports_of(n))], key=len)
        if len(longest) > LONGEST:
            raise CannotStart(f"name {name} is too long: {longest} has more than {LONGEST} characters")
        for switch in plan.switches:
            self._make_room(switch)
        self._net = Mininet(controller=None, autoSetMacs=True, build=False)
        self._net.addController("c0", Listening, ip="127.0.0.1", port=controller_port)
        self._add_nodes()

    def _add_nodes(self) -> None:
        switches = {
            name: self._net.addSwitch(
                self.bridge(name),
                OVSSwitch,
                dpid=self.dpid(name),
                datapath="user",
                protocols="OpenFlow13",
                failMode="secure",
            )
            for name in self.plan.switches
        }
        for plan in self.plan.hosts:
            prefix = plan.network.subnet.rpartition("/")[2]
            route = f"via {plan.network.gateway}" if plan.network.gateway else None
            host = self._net.addHost(plan.name, ip=f"{plan.address}/{prefix}", defaultRoute=route)
            self._net.addLink(host, switches[plan.switch], intfName1="eth0", intfName2=self.port_of(plan.name))
        for number, (one, other) in enumerate(self.plan.links):
            ports = self.ports_of(number)
            self._net.addLink(switches[one], switches[other], intfName1=ports[0], intfName2=ports[1])

    def bridge(self, switch: str) -> str:
        """Name of a switch's bridge."""
        return f"{self.name}{switch}"

    def dpid(self, switch: str = "") -> str:
        """A switch's datapath id: the same whenever the name is."""
        return f"{0x4D4E << 32 | zlib.crc32(self.bridge(switch).encode()):016x}"

    def ports_of(self, link: int) -> tuple[str, str]:
        """Names of a link's ports, by its number in the plan."""
        return f"{self.name}.{2 * link}", f"{self.name}.{2 * link + 1}"

    def set_link(self, link: int, state: str) -> None:
        """Bring a link ``up`` or ``down``, by its number in the plan."""
        for port in self.ports_of(link):
            subprocess.run(["ip", "link", "set", port, state], check=True, timeout=10)

    def links(self) -> set[frozenset[str]]:
        """The links that the controller knows of, each by its ports."""
        found = (link for switch in self._switches() for link in switch.get("links", ()))
        return {frozenset((link["port"], link["peer"])) for link in found}

    @property
    def mininet(self) -> Mininet:
        """For Mininet's own command line."""
        return self._net

    def port_of(self, host: str) -> str:
        """Name of the host's port of the switch."""
        return f"{self.name}-{host}"

    @property
    def _mark(self) -> dict[str, str]:
        """The label of our hosts, so that no service of ours selects other providers of the tenant."""
        return {"mininet": self.name}

    def key_of(self, name: str) -> str:
        """Key of one of our networks or services in the controller."""
        return f"{TENANT}:{self.own(name)}"

    def own(self, name: str) -> str:
        """Name of one of our networks or services, or id of one of our endpoints, in the controller."""
        return f"{self.name}-{name}"

    def host(self, name: str) -> Host:
        """A host as Mininet has it."""
        return self._net.get(name)

    def _make_room(self, switch: str) -> None:
        """Remove the bridge that a killed run left, and no other: Mininet would remove any of our name."""
        bridge = self.bridge(switch)
        if bridge not in _vsctl("list-br").split():
            return
        dpid = _vsctl("get", "bridge", bridge, "datapath_id").strip().strip('"')
        ports = _vsctl("list-ports", bridge).split()
        hosts = {self.port_of(h.name) for h in self.plan.hosts}
        alive = [p for p in ports if p in hosts and Path("/sys/class/net", p).exists()]
        if dpid != self.dpid(switch) or alive:
            raise CannotStart(f"a bridge {bridge} is there already: take another name with --name")
        # now: replaced in one transaction, ports of the same names would go on with the interfaces that are gone
        _vsctl("del-br", bridge)
        for port in ports:
            if Path("/sys/class/net", port).exists():  # links between switches are in no host that ended
                subprocess.run(["ip", "link", "delete", port], check=False, timeout=10)

    def _check_free(self) -> None:
        """Whether the controller has no networks but ours where ours are to be."""
        mine = [self.own(n.name) for n in self.plan.networks]
        for network in self.client.networks():
            taken, name = network["subnet"], network["networkName"]
            if network["tenantName"] != TENANT or name in mine:
                continue
            for plan in self.plan.networks:
                if IPv4Network(plan.subnet).overlaps(IPv4Network(taken)):
                    raise CannotStart(
                        f"subnet {plan.subnet} overlaps network {name}, {taken}: take another one with --subnet"
                    )

    def start(self) -> None:
        """Build it, and wait until the controller has the switches, with all ports and links."""
        self.clear()  # of what a killed run told the controller
        self._check_free()
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
            f"all switches to be in the controller with their ports; OpenFlow on 127.0.0.1:{self._controller_port}?",
        )
        wait_for(self.all_links, "all links to be in the controller")

    def all_links(self) -> bool:
        """Whether the controller knows of all links."""
        return {frozenset(self.ports_of(n)) for n in range(len(self.plan.links))} <= self.links()

    def _ports_up(self) -> set[str]:
        return {p["name"] for s in self._switches() for p in s["ports"] if p["up"]}

    def settled(self) -> bool:
        """Whether all switches have what the controller wants of them."""
        return all(s["settled"] for s in self._switches())

    def _switches(self) -> list[Any]:
        dpids = {self.dpid(name) for name in self.plan.switches}
        return [s for s in self.client.switches() if s["dpid"] in dpids]

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
                "selectors": [f"{k}={v}" for k, v in (plan.labels | self._mark).items()],
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
                "switch": self.dpid(plan.switch),
                "portName": self.port_of(plan.name),
                "labels": dict(plan.labels or {}) | self._mark,
            }
        )

    def stop(self) -> None:
        """Take the switches and the hosts down."""
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
