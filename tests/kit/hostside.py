"""A host's own side of its bridge, and the world around it: the agent's part without Docker, and a machine outside.

    with place(directory, instance) as it:
        it.out.ask("tcp", it.side.ip, 80)

Run as a program it is that part of the agent, in a process that may be killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from netctl.agent import hostport, outside
from netctl.agent.kernel_rules import KernelRules, Table
from netctl.agent.networks import Networks
from netctl.agent.state import State
from netctl.agent.sync import Synchroniser
from netctl.agent.tunnel import ETHERNET_MTU, containers_mtu
from tests.kit.controller import DIES_WITH_US, ROOT, Controller
from tests.kit.hosts import Host, Namespace
from tests.kit.lab import Lab, lab
from tests.kit.ovs import PREFIX, Instance, run, wait_for
from tests.kit.private_ovs import Private
from tests.kit.wide import wide
from topology.reach import HOST_MAC

NAME = "h1"
IP, OUTSIDE_IP = "192.0.2.1", "192.0.2.9"
VIP = "100.1.1.1"
LOOKED = "looked at the rules"
FAR_IP, FAR_MTU = "198.51.100.9", 1280  # Open vSwitch takes no fragments of less than 1200
CONTROL = 9999  # where the machine outside has a controller, as far as anybody is told
SERVE = ("tcp:80", "udp:53", "tcp:22", "udp:99")


class NoDocker:
    """Takes networks and forgets them."""

    driver = "netctl"

    def create_network(self, *_: Any, **__: Any) -> None:
        """Nothing to be made."""

    def remove_network(self, *_: Any) -> None:
        """Nothing to be removed."""


class NoRegistry:
    """No user makes or removes a network in Docker here."""

    def withdraw_left(self, tenant: str = "") -> None:
        """Nothing was left."""


class Bridged(Protocol):
    """A bridge with its Open vSwitch: a lab, or a node."""

    @property
    def instance(self) -> Private: ...
    @property
    def bridge(self) -> str: ...
    @property
    def dpid(self) -> str: ...


class HostSide(Namespace):
    """The host of a bridge: it has an uplink, an address of its own, and the agent's part for the outside.

    ``tunnel``: the address that other hosts reach it by.
    """

    def __init__(
        self, at: Bridged, control: Controller, directory: Path, name: str = NAME, ip: str = IP, *, tunnel: str = ""
    ) -> None:
        super().__init__("host", at.instance.netns, ip)
        self.at = at
        self.control = control
        self.directory = directory
        self.host_name = name
        self.tunnel = tunnel
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the agent's part."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *DIES_WITH_US, "nsenter", f"--net=/run/netns/{self.netns}", sys.executable, "-m", __name__,
                    self.control.url, self.at.dpid, self.at.bridge, str(self.directory), self.host_name, self.tunnel,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it; what is in the kernel stays."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(10)

    def looked(self) -> None:
        """Wait until it has looked at the kernel's rules once more, and put right what was not."""
        begun = self.log().count(LOOKED)
        wait_for(lambda: self.log().count(LOOKED) > begun + 1, "the agent to look at the kernel's rules")

    def rules(self) -> list[str]:
        """The kernel's rules, without counters and comments."""
        of = (("iptables-save", "filter"), ("iptables-save", "nat"), ("ip6tables-save", "filter"))
        said = "".join(self.run(program, "-t", table) for program, table in of)
        return [line.partition(" [")[0] for line in said.splitlines() if not line.startswith("#")]

    def publishes(self, port: int) -> bool:
        """Whether the kernel has a rule for that port."""
        return any(f"--dport {port} " in rule for rule in self.rules())

    def routes(self) -> dict[str, str]:
        """The device of each route."""
        lines = [line for version in "46" for line in self.run("ip", f"-{version}", "route", "show").splitlines()]
        return {line.split()[0]: line.split(" dev ")[1].split()[0] for line in lines}

    def run(self, *command: str, check: bool = True) -> str:
        """A command on the host."""
        return run("nsenter", f"--net=/run/netns/{self.netns}", *command, check=check)

    def document(self) -> dict[str, Any]:
        """The host as REST shows it."""
        return dict(self.control.client.host(self.host_name))

    def log(self) -> str:
        """All that it has said."""
        return self._log_file.read_text()

    @property
    def _log_file(self) -> Path:
        return self.directory / f"hostside-{self.host_name}.log"


class Machine(Namespace):
    """A machine outside."""

    def __init__(self, name: str, ip: str) -> None:
        super().__init__(name, f"{PREFIX}-{name}", ip)

    def ip_command(self, *commands: str) -> None:
        """``ip`` there, a line each."""
        for command in commands:
            run("ip", "-n", self.netns, *command.split())

    def start(self) -> None:
        """Make it."""
        run("ip", "netns", "add", self.netns)
        self.ip_command("link set lo up")

    def close(self) -> None:
        """Remove it."""
        self.stop_serving()
        run("ip", "netns", "delete", self.netns, check=False)


@contextlib.contextmanager
def beyond(instance: Instance, ip: str = IP, outside: str = OUTSIDE_IP) -> Iterator[tuple[Machine, Machine]]:
    """A machine on the host's network, which is the router to another that is behind a link with a small MTU."""
    out, far = Machine("out", outside), Machine("far", FAR_IP)
    try:
        out.start()
        far.start()
        instance.ip("link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", out.netns)
        for command in (f"address add {ip}/24 dev wan", "link set wan up", f"route add {FAR_IP} via {outside}"):
            instance.ip(*command.split())
        out.ip_command(
            f"address add {outside}/24 dev eth0", "link set eth0 up",
            f"link add far mtu {FAR_MTU} type veth peer name eth0 netns {far.netns}",
            "link set far up", f"route add {FAR_IP} dev far",
        )  # fmt: skip
        run("nsenter", f"--net=/run/netns/{out.netns}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        far.ip_command(f"address add {FAR_IP}/32 dev eth0", "link set eth0 up", f"route add {outside} dev eth0")
        # it does not know of the link's MTU from what it says of itself: nor do those that it speaks to
        far.ip_command(f"route add default via {outside} mtu {FAR_MTU} advmss 1460")
        yield out, far
    finally:
        with contextlib.suppress(AssertionError):
            instance.ip("link", "delete", "wan")
        out.close()
        far.close()


@contextlib.contextmanager
def hostside(made: HostSide) -> Iterator[HostSide]:
    """The bridge as a host's, with the agent's part; at the end, nothing is left in the host's kernel."""
    settings = (f'other-config:hwaddr="{HOST_MAC}"', f"other-config:datapath-id={made.at.dpid}")
    made.at.instance.vsctl("set", "bridge", made.at.bridge, *settings)
    try:
        # nothing is forwarded, and what comes by another way than its answer would go is dropped
        for setting in ("ip_forward=0", "conf.all.rp_filter=1", "conf.default.rp_filter=1"):
            made.run("sysctl", "-qw", f"net.ipv4.{setting}")
        made.start()
        wait_for(lambda: made.at.bridge in made.routes().values(), "the host to have its routes")
        yield made
    finally:
        made.stop_serving()
        made.end()
        print(made.log())


class Place(NamedTuple):
    """A host with containers, and machines outside."""

    lab: Lab
    side: HostSide
    out: Machine
    far: Machine
    hosts: dict[str, Host]
    vip: str = VIP


@contextlib.contextmanager
def place(directory: Path, instance: Instance) -> Iterator[Place]:
    """Two tenants whose networks look alike, with nat; one network without; one with nat-host too; one without a
    gateway; a service."""
    with (
        lab(directory, instance, "out", f"--rest-url=http://{OUTSIDE_IP}:{CONTROL}") as it,
        beyond(instance) as (out, far),
        hostside(HostSide(it, it.controller, directory)) as side,
    ):
        it.rest.put_tenant("blue")
        it.network("srv", "100.1.1.0/24", ipv6=True)
        it.network("web", "10.1.1.0/24", "10.1.1.254", nat=True, ipv6=True)
        it.network("shut", "20.1.1.0/24", "20.1.1.254", ipv6=True)
        it.network("bare", "30.1.1.0/24")
        it.network("web", "10.1.1.0/24", "10.1.1.254", "blue", nat=True, ipv6=True)
        it.network("open", "40.1.1.0/24", "40.1.1.254", nat=True, nat_host=True, ipv6=True)
        labels = {"tier": "web"}
        hosts = {
            "w1": it.host("w1", "web", "10.1.1.1", labels, serve=SERVE),
            "w2": it.host("w2", "web", "10.1.1.2", labels, serve=SERVE),
            "s1": it.host("s1", "shut", "20.1.1.1", labels, serve=SERVE),
            "b1": it.host("b1", "bare", "30.1.1.1", serve=SERVE),
            "o1": it.host("o1", "open", "40.1.1.1", serve=SERVE),
            "x1": it.host("x1", "web", "10.1.1.1", tenant="blue", serve=SERVE),
        }
        publish = ["80:8080:TCP", "5300:53:UDP"]
        ports = ["8080:80:TCP", "53:53:UDP"]
        it.service("app", "srv", ports, ["tier=web"], vip=VIP, options={"publish": publish})
        it.settled()
        wait_for(lambda: side.publishes(5300), "the ports to be published")
        wait_for(lambda: {"30.1.1.0/24", wide("20.1.1.0/24")} <= side.routes().keys(), "the host's routes")
        for machine in (out, far, side):
            machine.serve("tcp:7", "udp:7", f"tcp:{CONTROL}", "udp:4789")
        yield Place(it, side, out, far, hosts)


def main(url: str, dpid: str, bridge: str, *more: str) -> None:
    """Until somebody ends it."""
    directory, name, tunnel = more
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    state = State(name)
    state.update(listed=True)
    if tunnel:
        state.mtu = containers_mtu(ETHERNET_MTU)
    sync = Synchroniser(url, state, lambda: {"hostName": name, "switch": dpid, "tunnelAddress": tunnel})
    registry: Any = NoRegistry()
    docker: Any = NoDocker()
    networks = Networks(url, state, docker, sync, registry)
    ensure = KernelRules.ensure

    def looks(rules: KernelRules, tables: Mapping[str, Table]) -> bool:
        changed = ensure(rules, tables)
        logging.info("%s%s", LOOKED, ", and changed them" if changed else "")
        return changed

    KernelRules.ensure = looks  # type: ignore[method-assign]
    outside.RULES_INTERVAL = 1.0
    outside.INTERVAL = 0.5
    hostport.QUIET = 1.0
    parts = (sync, networks, outside.Outside(bridge, state, Path(directory), networks.troubles_changed))
    for part in parts:
        part.start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
