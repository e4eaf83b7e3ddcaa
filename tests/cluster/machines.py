"""A cluster on one machine, joined by an underlay: hosts with Docker, and managers with etcd and controllers.

An underlay is a Linux bridge in a namespace of its own: Docker has the kernel drop what bridges of the machine's own
namespace forward. A host's uplink is a port of its bridge ``br-phy``, which also has its address: a userspace switch
sends tunnelled packets by no other kind of device.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from tests.e2e.machine import Machine, own_directory, processes, run, wait_for
from tests.e2e.node import Node
from tests.kit import etcd

SUBNET = "192.0.2"
OWN = f"{SUBNET}.254"  # the underlay's own, to ask the controllers from
MANAGERS = (1, 2, 3)  # a member of etcd on each,
CONTROLLERS = (1, 2)  # and a controller on these
CLIENTS, PEERS = 2379, 2380  # etcd's ports
DEVICES = ("arp_ignore", "rp_filter")  # of an uplink that a switch has: the kernel sees what comes in there as well


class Wired(Machine, ABC):
    """A machine with a wire to the underlay, where it is called ``host``."""

    host: str
    ip: str

    @abstractmethod
    def set_up_wire(self) -> None:
        """What it makes of its end, ``eth0``, which is there and up."""


class Manager(Wired):
    """A machine with a member of etcd and, if it is started, a controller."""

    def __init__(self, number: int) -> None:
        self.ends = ("controller", "etcd") if number in CONTROLLERS else ("etcd",)
        self.host = f"m{number}"
        self.ip = f"{SUBNET}.{10 + number}"
        super().__init__(own_directory(self.host))
        self.url = f"http://{self.ip}:9999"
        self.rest_url = self.url

    def set_up_wire(self) -> None:
        """The address is on it."""
        run("ip", "-n", self.name, "address", "add", f"{self.ip}/24", "dev", "eth0")

    def start_etcd(self) -> None:
        """It answers when most members do."""
        members = ",".join(f"m{n}=http://{SUBNET}.{10 + n}:{PEERS}" for n in MANAGERS)
        urls = (f"http://{self.ip}:{CLIENTS}", f"http://{self.ip}:{PEERS}")
        self.spawn("etcd", *etcd.command(self.host, self.directory / "etcd", *urls, members))

    def start_missing(self) -> None:
        """Start again what a test has ended."""
        for start, name in ((self.start_etcd, "etcd"), (self.start_controller, "controller")):
            if name in self.ends and name not in self.processes:
                start()

    def healthy(self) -> bool:
        """Whether the member takes requests."""
        return '"true"' in self.get(f"http://{self.ip}:{CLIENTS}/health", check=False)

    def controller_settings(self) -> str:
        """It listens where the hosts reach it."""
        store = ",".join(f"{SUBNET}.{10 + n}:{CLIENTS}" for n in MANAGERS)
        return f"store = etcd://{store}/netctl\nrest_host = {self.ip}\nofp_listen_host = {self.ip}\n"


class Member(Wired, Node):
    """One of the hosts."""

    ends = ("agent", "dockerd", "containerd", "ovs-vswitchd", "ovsdb-server")

    def __init__(self, number: int) -> None:
        self.host = f"h{number}"
        self.ip = f"{SUBNET}.{number}"
        Node.__init__(self, own_directory(self.host))
        self.rest_url = ",".join(f"http://{SUBNET}.{10 + n}:9999" for n in CONTROLLERS)

    def set_up_wire(self) -> None:
        """`start_vswitchd` makes a port of it."""
        for name in DEVICES:
            run(*self.inside("sh", "-c", f"echo 1 >/proc/sys/net/ipv4/conf/eth0/{name}"))
        run(*self.inside("ethtool", "-K", "eth0", "tx", "off"))

    def start_vswitchd(self) -> None:
        """The switch, and what a host's start makes of its network."""
        super().start_vswitchd()
        self.vsctl("--may-exist", "add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev")
        self.vsctl("--may-exist", "add-port", "br-phy", "eth0")
        for command in (f"address replace {self.ip}/24 dev br-phy", "link set br-phy up"):
            run(*self.inside("ip", *command.split()))

    def agent_command(self, *options: str) -> Sequence[str]:
        """With a tunnel, and all controllers."""
        controllers = ",".join(f"tcp:{SUBNET}.{10 + n}:6653" for n in CONTROLLERS)
        return super().agent_command(f"--tunnel-address={self.ip}", f"--controller={controllers}", *options)

    def has_tunnel(self) -> bool:
        """Whether the agent has made the port to the other hosts."""
        return "netctl-vxlan" in self.vsctl("list-ports", "br-netctl").split()

    def neighbours(self) -> set[str]:
        """Whose MAC the switch knows, to send tunnelled packets to."""
        pid = (self.directory / "ovs-vswitchd.pid").read_text().strip()
        lines = run("ovs-appctl", "-t", f"{self.directory}/ovs-vswitchd.{pid}.ctl", "tnl/neigh/show").splitlines()
        return {line.split()[0] for line in lines if line.strip()}

    def roles(self) -> dict[str, str]:
        """What its switch takes its controllers for, by address."""
        columns = ("--format=json", "--columns=target,role")
        rows = json.loads(self.vsctl(*columns, "find", "controller", "is_connected=true"))["data"]
        return {target.split(":")[1]: role for target, role in rows if isinstance(role, str)}

    def die(self) -> None:
        """As when the machine is switched off: nothing of it runs, and nobody was told."""
        running = self.docker("ps", "-q").split()
        containers = self.docker("inspect", "--format", "{{.State.Pid}}", *running).split() if running else []
        for name in ("ovs-vswitchd", "agent", "ovsdb-server", "dockerd", "containerd"):
            self.kill(name)
        for process in (*processes(self.directory), *map(int, containers)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for device in self.links():
            run(*self.inside("ip", "link", "delete", device), check=False)  # the other end may have taken it along
        for volatile in ("containerd-run", "exec"):  # of /run on a machine
            shutil.rmtree(self.directory / volatile, ignore_errors=True)

    def rise(self) -> None:
        """As when it is switched on; the agent first: the daemon asks for its plugin before it answers anybody."""
        self.start_ovsdb()
        self.start_vswitchd()
        self.start_containerd()
        self.start_agent(wait=False)
        self.start_docker()
        self.wait_for_agent()


class Cluster(Machine):
    """Hosts ``h1``, ``h2`` …, managers ``m1`` …, and the underlay, which is a machine as well: an operator's."""

    rest_url = Member(0).rest_url

    def __init__(self, size: int = 3) -> None:
        super().__init__(own_directory("phy"))
        self.managers = [Manager(number) for number in MANAGERS]
        self.members = [Member(number) for number in range(1, size + 1)]

    @property
    def controllers(self) -> list[Manager]:
        """The machines that have one."""
        return [manager for manager in self.managers if "controller" in manager.ends]

    @property
    def machines(self) -> Iterable[Manager | Member]:
        """All but the underlay."""
        return (*self.managers, *self.members)

    def start(self) -> None:
        """All of it; what takes long runs side by side."""
        self._lay_underlay()
        for machine in self.machines:
            machine.prepare()
            self._connect(machine)
        for manager in self.managers:
            manager.start_etcd()
        for member in self.members:
            member.start_ovsdb()
            member.start_vswitchd()
            member.start_containerd()
            member.start_docker(wait=False)
        self.wait_for_etcd()
        for manager in self.controllers:
            manager.start_controller()
        for member in self.members:
            member.wait_for_docker()
            member.load_image()
            member.start_agent(wait=False)
        for member in self.members:
            member.wait_for_agent()
            wait_for(member.has_tunnel, f"the tunnel port of {member.host}")

    def _lay_underlay(self) -> None:
        self.prepare()
        for command in ("link add phy type bridge", f"address add {OWN}/24 dev phy", "link set phy up"):
            run("ip", "-n", self.name, *command.split())
        self._whole_checksums("phy")

    def _whole_checksums(self, device: str) -> None:
        """A userspace switch hands packets on as they are: none may leave its checksum to the device."""
        run(*self.inside("ethtool", "-K", device, "tx", "off"))

    def _connect(self, machine: Wired) -> None:
        device = machine.host
        ends = ("type", "veth", "peer", "name", "eth0", "netns", machine.name)
        run("ip", "-n", self.name, "link", "add", device, *ends)
        run("ip", "-n", self.name, "link", "set", device, "master", "phy", "up")
        run("ip", "-n", machine.name, "link", "set", "eth0", "up")
        machine.set_up_wire()
        self._whole_checksums(device)

    def cut(self, machine: Wired, *, cut: bool = True) -> None:
        """Cut the wire to a machine, or mend it."""
        run("ip", "-n", self.name, "link", "set", machine.host, "down" if cut else "up")

    def mend(self) -> None:
        """Whatever a test has cut, frozen or ended is there again."""
        for machine in self.machines:
            self.cut(machine, cut=False)
            for name in machine.processes:
                machine.thaw(name)
        for machine in self.machines:
            machine.start_missing()
        self.wait_for_etcd()
        wait_for(self.leader, "a controller to lead")

    def wait_for_etcd(self) -> None:
        """Until every member takes requests."""
        for manager in self.managers:
            wait_for(manager.healthy, f"etcd on {manager.host}", 60)

    def leader(self) -> Manager | None:
        """The controller that leads, as the first one says that answers and knows."""
        for manager in self.controllers:
            listed = json.loads(manager.rest("/api/v1/controllers/", check=False) or "[]")
            if url := next((doc["url"] for doc in listed if doc["leads"]), ""):
                return next(c for c in self.controllers if c.url == url)
        return None

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """The model's endpoints, by container name."""
        return {doc.get("containerName", ""): doc for doc in json.loads(self.rest("/api/v1/endpoints/"))}

    def stop(self) -> None:
        """End every process and remove every trace."""
        for machine in (*self.members, *self.managers):
            machine.stop()
        super().stop()
