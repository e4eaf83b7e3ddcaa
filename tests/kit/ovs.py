"""Open vSwitch for tests: bridges on the machine's own, and private instances that may be killed.

What a run makes is named ``tst<pid>…``; the next run removes what belongs to a process that is no more.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from topology.reach import TUNNEL_PORT

PREFIX = f"tst{os.getpid()}"
RUN_DIR = Path("/var/run/openvswitch")
_OURS = re.compile(r"^tst(\d+)")


def run(*command: str, check: bool = True, timeout: float = 30, env: Mapping[str, str] | None = None) -> str:
    """Run a command; its output. A failure shows what it said."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **(env or {})}
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Instance:
    """One Open vSwitch: its run directory, and the network namespace of its ports (empty: the machine's)."""

    def __init__(self, directory: Path = RUN_DIR, netns: str = "") -> None:
        self.directory = directory
        self.netns = netns
        self._env = {f"OVS_{name}DIR": str(directory) for name in ("RUN", "DB", "LOG")} if netns else {}

    def vsctl(self, *args: str, timeout: int = 20) -> str:
        """``ovs-vsctl``: returns when the switch has done it."""
        return run("ovs-vsctl", f"--timeout={timeout}", *args, env=self._env).strip()

    def ofctl(self, *args: str) -> str:
        """``ovs-ofctl`` in OpenFlow 1.3."""
        return run("ovs-ofctl", "-O", "OpenFlow13", *args, env=self._env)

    def appctl(self, *args: str) -> str:
        """``ovs-appctl`` to the switch."""
        return run("ovs-appctl", *args, env=self._env)

    def ip(self, *args: str) -> str:
        """``ip`` where the ports are."""
        return run("ip", *(("-n", self.netns) if self.netns else ()), *args)

    def add_tunnel_port(self, bridge: str, address: str = "") -> None:
        """The port by which a bridge reaches other hosts, as the agent makes it; ``address``: the host's own."""
        options = ["type=vxlan", "options:remote_ip=flow", "options:key=flow"]
        options += [f"options:local_ip={address}"] if address else []
        self.vsctl("add-port", bridge, TUNNEL_PORT, "--", "set", "interface", TUNNEL_PORT, *options)

    @contextlib.contextmanager
    def bridge(self, name: str, *options: str) -> Iterator[str]:
        """A userspace bridge called ``tst<pid><name>``, without flows of its own."""
        full = f"{PREFIX}{name}"
        self.vsctl(
            "add-br", full, "--", "set", "bridge", full, "datapath_type=netdev", "fail_mode=secure",
            "protocols=OpenFlow13", "other-config:disable-in-band=true", *options,
        )  # fmt: skip
        try:
            yield full
        finally:
            self.vsctl("--if-exists", "del-br", full)


MACHINE = Instance()
"""The Open vSwitch that this machine runs."""


def bridge(name: str, *options: str) -> contextlib.AbstractContextManager[str]:
    """A bridge on the machine's Open vSwitch."""
    return MACHINE.bridge(name, *options)


def add_ports(bridge_name: str, numbers: Sequence[int]) -> None:
    """Ports of no use but to be there, with these OpenFlow numbers."""
    command = []
    for number in numbers:
        port = f"{PREFIX}p{number}"
        command += ["--", "add-port", bridge_name, port, "--"]
        command += ["set", "interface", port, "type=internal", f"ofport_request={number}"]
    MACHINE.vsctl(*command)
    for number in numbers:
        # an internal port is down until somebody brings it up, and a dead bucket is not selected
        run("ip", "link", "set", f"{PREFIX}p{number}", "up")
    for number in numbers:
        wait_for_live(MACHINE, bridge_name, number)


def wait_for_live(instance: Instance, bridge_name: str, number: int) -> None:
    """Until a port is up, as its switch sees it."""

    def live() -> bool:
        text = instance.ofctl("dump-ports-desc", bridge_name, str(number))
        return "state:" in text and "LIVE" in text[text.find("state:") :].splitlines()[0]

    wait_for(live, f"port {number} to be live")


def wait_for(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Until ``condition`` holds; after ``timeout`` seconds the test fails, naming ``what``."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"waited {timeout} s for {what}"
        time.sleep(0.02)  # between two looks


def sweep() -> None:
    """Remove bridges, namespaces and links of test runs that are no more."""
    for name in MACHINE.vsctl("list-br").split():
        if _orphan(name):
            MACHINE.vsctl("--if-exists", "del-br", name)
    for line in run("ip", "netns", "list").splitlines():
        if _orphan(line):
            run("ip", "netns", "delete", line.split()[0])
    for link in os.listdir("/sys/class/net"):
        if _orphan(link):
            run("ip", "link", "delete", link, check=False)


def _orphan(name: str) -> bool:
    found = _OURS.match(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()
