"""Open vSwitch for tests: bridges of their own, removed also when a test run was killed.

What a run makes is named ``tst<pid>…``; the next run removes what belongs to a process that is no more.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PREFIX = f"tst{os.getpid()}"
_OURS = re.compile(r"^tst(\d+)")


def run(*command: str, check: bool = True, timeout: float = 30) -> str:
    """Run a command; its output. A failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def sweep() -> None:
    """Remove bridges, namespaces and links of test runs that are no more."""
    for bridge in run("ovs-vsctl", "--timeout=10", "list-br").split():
        if _orphan(bridge):
            run("ovs-vsctl", "--timeout=10", "--if-exists", "del-br", bridge)
    for line in run("ip", "netns", "list").splitlines():
        if _orphan(line):
            run("ip", "netns", "delete", line.split()[0])
    for link in os.listdir("/sys/class/net"):
        if _orphan(link):
            run("ip", "link", "delete", link, check=False)


def _orphan(name: str) -> bool:
    found = _OURS.match(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


@contextlib.contextmanager
def bridge(name: str, *options: str) -> Iterator[str]:
    """A userspace bridge called ``tst<pid><name>``, without flows of its own."""
    full = f"{PREFIX}{name}"
    run(
        "ovs-vsctl", "--timeout=20", "add-br", full, "--", "set", "bridge", full, "datapath_type=netdev",
        "fail_mode=secure", "protocols=OpenFlow13", "other-config:disable-in-band=true", *options,
    )  # fmt: skip
    try:
        yield full
    finally:
        run("ovs-vsctl", "--timeout=20", "--if-exists", "del-br", full)


def add_ports(bridge_name: str, numbers: Sequence[int]) -> None:
    """Ports of no use but to be there, with these OpenFlow numbers."""
    command = ["ovs-vsctl", "--timeout=20"]
    for number in numbers:
        port = f"{PREFIX}p{number}"
        command += ["--", "add-port", bridge_name, port, "--"]
        command += ["set", "interface", port, "type=internal", f"ofport_request={number}"]
    run(*command)
    for number in numbers:
        # an internal port is down until somebody brings it up, and a dead bucket is not selected
        run("ip", "link", "set", f"{PREFIX}p{number}", "up")
    for number in numbers:
        wait_for(lambda n=number: "LIVE" in _port_state(bridge_name, n), f"port {number} to be live")


def _port_state(bridge_name: str, number: int) -> str:
    text = run("ovs-ofctl", "-O", "OpenFlow13", "dump-ports-desc", bridge_name, str(number))
    return text[text.find("state:") :].splitlines()[0] if "state:" in text else ""


def wait_for(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Until ``condition`` holds; after ``timeout`` seconds the test fails, naming ``what``."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"waited {timeout} s for {what}"
        time.sleep(0.02)  # between two looks
