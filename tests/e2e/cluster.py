"""Several hosts on one machine, joined by an underlay: each is a `Node` of its own; the controller is in the underlay.

An underlay is a Linux bridge in a namespace of its own: Docker has the kernel drop what bridges of the machine's own
namespace forward. A host's uplink is a port of its bridge ``br-phy``, which also has its address: a userspace switch
sends tunnelled packets by no other kind of device.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.node import PREFIX, Node, processes, run, wait_for

SUBNET = "192.0.2"
CONTROLLER = f"{SUBNET}.254"


def _directory(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{PREFIX}{os.getpid()}-{name}"


class Underlay(Node):
    """The wires between the hosts, and the controller."""

    host = "underlay"
    rest_url = f"http://{CONTROLLER}:9999"

    def __init__(self) -> None:
        super().__init__(_directory("phy"))

    def prepare(self) -> None:
        """Namespace and bridge."""
        self.directory.mkdir(mode=0o700)
        run("ip", "netns", "add", self.name)
        for command in (
            "link set lo up", "link add phy type bridge", f"address add {CONTROLLER}/24 dev phy", "link set phy up",
        ):  # fmt: skip
            run("ip", "-n", self.name, *command.split())
        self.whole_checksums("phy")

    def whole_checksums(self, device: str) -> None:
        """A userspace switch hands packets on as they are: none may leave its checksum to the device."""
        run(*self.inside("ethtool", "-K", device, "tx", "off"))

    def connect(self, member: Member) -> None:
        """A wire to a host, where it is ``eth0``."""
        device = member.host
        run("ip", "-n", self.name, "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", member.name)
        run("ip", "-n", self.name, "link", "set", device, "master", "phy", "up")
        run("ip", "-n", member.name, "link", "set", "eth0", "up")
        for name in ("arp_ignore", "rp_filter"):  # the kernel sees what comes in there as well
            run(*member.inside("sh", "-c", f"echo 1 >/proc/sys/net/ipv4/conf/eth0/{name}"))
        self.whole_checksums(device)
        run(*member.inside("ethtool", "-K", "eth0", "tx", "off"))

    def cut(self, member: Member, *, cut: bool = True) -> None:
        """Cut the wire to a host, or mend it."""
        run("ip", "-n", self.name, "link", "set", member.host, "down" if cut else "up")

    def controller_settings(self) -> str:
        """It listens where the hosts reach it."""
        return f"{super().controller_settings()}rest_host = {CONTROLLER}\nofp_listen_host = {CONTROLLER}\n"


class Member(Node):
    """One of the hosts."""

    rest_url = Underlay.rest_url

    def __init__(self, number: int) -> None:
        self.host = f"h{number}"
        self.ip = f"{SUBNET}.{number}"
        super().__init__(_directory(self.host))

    def start_vswitchd(self) -> None:
        """The switch, and what a host's start makes of its network."""
        super().start_vswitchd()
        self.vsctl("--may-exist", "add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev")
        self.vsctl("--may-exist", "add-port", "br-phy", "eth0")
        for command in (f"address replace {self.ip}/24 dev br-phy", "link set br-phy up"):
            run(*self.inside("ip", *command.split()))

    def agent_command(self, *options: str) -> Sequence[str]:
        """With a tunnel."""
        return super().agent_command(f"--tunnel-address={self.ip}", f"--controller=tcp:{CONTROLLER}:6653", *options)

    def has_tunnel(self) -> bool:
        """Whether the agent has made the port to the other hosts."""
        return "netctl-vxlan" in self.vsctl("list-ports", "br-netctl").split()

    def neighbours(self) -> set[str]:
        """Whose MAC the switch knows, to send tunnelled packets to."""
        pid = (self.directory / "ovs-vswitchd.pid").read_text().strip()
        lines = run("ovs-appctl", "-t", f"{self.directory}/ovs-vswitchd.{pid}.ctl", "tnl/neigh/show").splitlines()
        return {line.split()[0] for line in lines if line.strip()}

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


class Cluster:
    """Hosts ``h1``, ``h2`` … and the underlay."""

    def __init__(self, size: int = 3) -> None:
        self.underlay = Underlay()
        self.members = [Member(number) for number in range(1, size + 1)]

    def start(self) -> None:
        """All of it; what takes long runs side by side."""
        self.underlay.prepare()
        self.underlay.start_controller()
        for member in self.members:
            member.prepare()
            self.underlay.connect(member)
            member.start_ovsdb()
            member.start_vswitchd()
            member.start_containerd()
            member.start_docker(wait=False)
        for member in self.members:
            member.wait_for_docker()
            member.load_image()
            member.start_agent(wait=False)
        for member in self.members:
            member.wait_for_agent()
        self.wait_for_ports()

    def wait_for_ports(self) -> None:
        """Until every host can be reached by the others."""
        for member in self.members:
            wait_for(member.has_tunnel, f"the tunnel port of {member.host}")

    def stop(self) -> None:
        """End every process and remove every trace."""
        for member in self.members:
            member.stop()
        self.underlay.stop()
