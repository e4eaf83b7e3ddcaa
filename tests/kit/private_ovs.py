"""An Open vSwitch of a test run's own, in a network namespace: it may be killed, and its conntrack holds nobody else's.

It reaches a controller at `Private.controller_host`, an address of the machine's side of a link into the namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from tests.kit.ovs import PREFIX, Instance, run, wait_for

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class Private(Instance):
    """A running instance: database and switch are daemons, the switch under Open vSwitch's own monitor."""

    def __init__(self, name: str) -> None:
        super().__init__(Path(tempfile.mkdtemp(prefix=f"tst-{name}-")), f"{PREFIX}{name}")
        # held as long as this process lives: what says to `sweep` that the directory is in use
        self._lock = (self.directory / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.controller_host = ""
        self._link = f"{PREFIX}{name}"

    def start(self) -> None:
        """Make the namespace and start everything."""
        run("ip", "netns", "add", self.netns)
        self.controller_host, inside = _free_pair()
        link = ("link", "add", self._link, "type", "veth", "peer", "name", "uplink", "netns", self.netns)
        run("ip", *link)
        run("ip", "address", "add", f"{self.controller_host}/30", "dev", self._link)
        run("ip", "link", "set", self._link, "up")
        for command in ("link set lo up", f"address add {inside}/30 dev uplink", "link set uplink up"):
            self.ip(*command.split())
        run("ovsdb-tool", "create", str(self.directory / "conf.db"), SCHEMA)
        self._daemon("ovsdb-server", str(self.directory / "conf.db"), f"--remote=p{self.database}")
        self.vsctl("--no-wait", "init")
        self.start_switch()

    @property
    def database(self) -> str:
        """Where its database is."""
        return f"unix:{self.directory}/db.sock"

    def start_switch(self) -> None:
        """Start the switch, or start it again where nobody else does; its bridges are in the database."""
        self._daemon("ovs-vswitchd", self.database, "--monitor", "--overwrite-pidfile")

    def _daemon(self, name: str, *args: str) -> None:
        # the namespace's mounts stay the machine's: nsenter, not "ip netns exec"
        enter = ("nsenter", f"--net=/run/netns/{self.netns}")
        log = f"--log-file={self.directory}/{name}.log"
        run(*enter, name, *args, "--pidfile", "--detach", log, "-vconsole:off", env=self._env)

    @property
    def switch_pid(self) -> int:
        """The process that forwards; 0: none."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = int((self.directory / "ovs-vswitchd.pid").read_text())
            if pid in _processes(self.directory):
                return pid
        return 0

    def end_switch(self, number: signal.Signals) -> int:
        """Send the switch a signal; returns the process that got it, when it is no more."""
        pid = self.switch_pid
        assert pid, "no switch runs"
        os.kill(pid, number)
        wait_for(lambda: pid not in _processes(self.directory), "the switch to end")
        return pid

    def has_bridge(self, name: str) -> bool:
        """Whether the switch runs and has made the bridge."""
        pid = self.switch_pid
        if not pid or not (self.directory / f"ovs-vswitchd.{pid}.ctl").exists():
            return False
        return name in run("ovs-appctl", "dpif/show", check=False, env=self._env)

    def conntrack(self) -> list[str]:
        """All connections that are tracked, a line each."""
        return self.appctl("dpctl/dump-conntrack").splitlines()

    def flush_conntrack(self) -> None:
        """Forget all connections; before 3.4 one flush may skip some."""
        wait_for(lambda: self.appctl("dpctl/flush-conntrack") == "" and not self.conntrack(), "an empty conntrack")

    def close(self) -> None:
        """End and remove everything."""
        _end_all(self.directory)
        run("ip", "netns", "delete", self.netns, check=False)
        run("ip", "link", "delete", self._link, check=False)
        shutil.rmtree(self.directory)
        self._lock.close()


@contextlib.contextmanager
def private(name: str) -> Iterator[Private]:
    """A private instance, called ``tst<pid><name>``."""
    made = Private(name)
    try:
        made.start()
        yield made
    finally:
        made.close()


def sweep() -> None:
    """End the instances of test runs that are no more, and remove their directories."""
    for directory in Path(tempfile.gettempdir()).glob("tst-*-*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_all(directory)
            shutil.rmtree(directory)


def _end_all(directory: Path) -> None:
    # a monitor starts its switch again: so until none is left
    def none_left() -> bool:
        found = _processes(directory)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    wait_for(none_left, f"the daemons of {directory} to end")


def _processes(directory: Path) -> set[int]:
    """The processes of an instance: their environment names its directory (a monitor's command line does not)."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text().startswith("ovs") and (
                    f"\0OVS_RUNDIR={directory}\0" in "\0" + (entry / "environ").read_text(errors="replace")
                ):
                    found.add(int(entry.name))
    return found


def _free_pair() -> tuple[str, str]:
    """Two addresses of a link-local /30 that no link of this machine has."""
    links = json.loads(run("ip", "-json", "address", "show"))
    taken = {address.get("local") for link in links for address in link["addr_info"]}
    # not 169.254.169.254, where clouds tell a machine what it is
    for third, part in random.sample([(t, p) for t in range(1, 160) for p in range(64)], 50):
        first = IPv4Address(f"169.254.{third}.{4 * part + 1}")
        if str(first) not in taken:
            return str(first), str(first + 1)
    raise AssertionError("no free addresses in 169.254.0.0/16")
