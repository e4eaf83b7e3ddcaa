"""A host's own side of its bridge, and the world around it: the agent's part without Docker, and a machine outside.

    with beyond(instance) as outside, hostside(lab, directory) as side:
        outside.ask("tcp", side.ip, 80)

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netctl.agent.networks import Networks
from netctl.agent.outside import Outside
from netctl.agent.state import State
from netctl.agent.sync import Synchroniser
from tests.kit.controller import DIES_WITH_US, ROOT
from tests.kit.hosts import Namespace
from tests.kit.lab import Lab
from tests.kit.ovs import PREFIX, Instance, run, wait_for
from topology.reach import HOST_MAC

NAME = "h1"
IP, OUTSIDE_IP = "192.0.2.1", "192.0.2.9"


class NoDocker:
    """Takes networks and forgets them."""

    driver = "netctl"

    def create_network(self, *_: Any) -> None:
        """Nothing to be made."""

    def remove_network(self, *_: Any) -> None:
        """Nothing to be removed."""


class HostSide(Namespace):
    """The host of a lab's bridge: it has an uplink, an address of its own, and the agent's part for the outside."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        super().__init__("host", lab.instance.netns, IP)
        self.lab = lab
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the agent's part."""
        dpid = self.lab.dpid
        with (self.directory / "hostside.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *DIES_WITH_US, "nsenter", f"--net=/run/netns/{self.netns}", sys.executable, "-m", __name__,
                    self.lab.controller.url, dpid, self.lab.bridge, str(self.directory),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it; what is in the kernel stays."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(10)

    def rules(self) -> list[str]:
        """The kernel's rules, without counters and comments."""
        said = self.run("iptables-save", "-t", "filter") + self.run("iptables-save", "-t", "nat")
        return [line.partition(" [")[0] for line in said.splitlines() if not line.startswith("#")]

    def routes(self) -> dict[str, str]:
        """The device of each route."""
        lines = self.run("ip", "route", "show").splitlines()
        return {line.split()[0]: line.split(" dev ")[1].split()[0] for line in lines}

    def run(self, *command: str, check: bool = True) -> str:
        """A command on the host."""
        return run("nsenter", f"--net=/run/netns/{self.netns}", *command, check=check)

    def document(self) -> dict[str, Any]:
        """The host as REST shows it."""
        return dict(self.lab.rest.host(NAME))

    def log(self) -> str:
        """All that it has said."""
        return (self.directory / "hostside.log").read_text()


class Beyond(Namespace):
    """A machine on the host's network."""

    def __init__(self, instance: Instance) -> None:
        super().__init__("out", f"{PREFIX}-out", OUTSIDE_IP)
        self._instance = instance

    def start(self) -> None:
        """Make it, and the link to the host."""
        run("ip", "netns", "add", self.netns)
        self._instance.ip("link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        for command in (f"address add {IP}/24 dev wan", "link set wan up"):
            self._instance.ip(*command.split())
        for command in ("link set lo up", f"address add {OUTSIDE_IP}/24 dev eth0", "link set eth0 up"):
            run("ip", "-n", self.netns, *command.split())

    def route(self, subnet: str, gateway: str) -> None:
        """Send there by a gateway."""
        run("ip", "-n", self.netns, "route", "replace", subnet, "via", gateway)

    def close(self) -> None:
        """Remove it."""
        self.stop_serving()
        self._instance.ip("link", "delete", "wan")
        run("ip", "netns", "delete", self.netns)


@contextlib.contextmanager
def beyond(instance: Instance) -> Iterator[Beyond]:
    """A machine outside; gone at the end."""
    made = Beyond(instance)
    try:
        made.start()
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def hostside(lab: Lab, directory: Path) -> Iterator[HostSide]:
    """The lab's bridge as a host's, with the agent's part; at the end, nothing is left in the host's kernel."""
    settings = (f'other-config:hwaddr="{HOST_MAC}"', f"other-config:datapath-id={lab.dpid}")
    lab.instance.vsctl("set", "bridge", lab.bridge, *settings)
    made = HostSide(lab, directory)
    try:
        made.start()
        wait_for(lambda: lab.bridge in made.routes().values(), "the host to have its routes")
        yield made
    finally:
        made.stop_serving()
        made.end()


def main(url: str, dpid: str, bridge: str, directory: str) -> None:
    """Until somebody ends it."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    state = State(NAME)
    state.update(listed=True)
    sync = Synchroniser(url, state, lambda: {"hostName": NAME, "switch": dpid})
    registry: Any = None
    docker: Any = NoDocker()
    networks = Networks(url, state, docker, sync, registry)
    parts = (sync, networks, Outside(bridge, state, Path(directory), networks.troubles_changed))
    for part in parts:
        part.start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
