"""Open vSwitch's daemons die or freeze while clients ask on; scripts/keep-ovs looks after them, as with `make run`.

The machine's process 1 reaps nobody, as in many containers: what dies stays as a zombie.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import wait_for
from tests.e2e.node import Node
from tests.e2e.test_walkthrough import Inside, mods
from tests.kit.controller import ROOT
from tests.kit.loop import Loop, asking

VIP = "100.1.1.1"
PROVIDERS = {"p1", "p2"}
DAEMONS = ("ovsdb-server", "ovs-vswitchd")
PROMISED = 3.0  # s without an answer after the death of a daemon, at most
FROZEN = 12.0  # s after one has frozen
KEEPER = "openvswitch"
BAD_INIT = (
    "import ctypes, subprocess, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); sys.exit(subprocess.call(sys.argv[1:]))"
)
"""Runs a command as the parent of all orphans below it (PR_SET_CHILD_SUBREAPER), and never reaps them."""


def pid_of(host: Node, daemon: str) -> int:
    """A daemon's process, by its own file."""
    return int((host.directory / f"{daemon}.pid").read_text())


def is_dead(pid: int) -> bool:
    """Whether a process is no more, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def end_open_vswitch(host: Node) -> None:
    """The keeper first, then what it keeps."""
    if KEEPER in host.processes:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((host.directory / f"{KEEPER}.supervisor.pid").read_text()), signal.SIGTERM)
        host.processes.pop(KEEPER).wait(20)
    for daemon in DAEMONS:
        with contextlib.suppress(OSError, ValueError):
            pid = pid_of(host, daemon)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: is_dead(pid), f"{daemon} to end")
        (host.directory / f"{daemon}.pid").unlink(missing_ok=True)


@pytest.fixture
def kept(host: Node) -> Iterator[Node]:
    """The host; its Open vSwitch is kept by keep-ovs."""
    for daemon in reversed(DAEMONS):
        host.kill(daemon)
    directory = str(host.directory)
    host.spawn(
        KEEPER,
        *(sys.executable, "-c", BAD_INIT),
        *(f"{ROOT}/scripts/supervise", directory, directory, KEEPER, f"{ROOT}/scripts/keep-ovs"),
        environment={"OVS_DBDIR": directory, "OVS_LOGDIR": directory, "OVS_CTL_OPTS": "--no-mlockall"},
    )
    try:
        wait_for(lambda: host.vsctl("--timeout=1", "list-br", check=False), "the switch to be back")
        yield host
    finally:
        end_open_vswitch(host)


@pytest.fixture
def client(kept: Node) -> Iterator[Inside]:
    """A client of a service with two providers that answer with their names."""
    kept.netctl("net", "create", "srv-net", "-s", "100.1.1.0/24")
    kept.netctl("net", "create", "web-net", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    kept.netctl("service", "create", "app", "--network=srv-net", "--selector=tier=web", "--port=8080:80:TCP")
    with contextlib.ExitStack() as stack:
        stack.callback(kept.netctl, "service", "rm", "app", check=False)
        for name in PROVIDERS:
            address = kept.container(name, "web-net", "--label=tier=web")
            stack.enter_context(Inside(kept, name, address)).serve("tcp:80")
        made = stack.enter_context(Inside(kept, "client", kept.container("client", "web-net")))
        wait_for(lambda: set(made.who("tcp", VIP, 8080, times=10)) == PROVIDERS, "both providers to be asked")
        yield made


def outage(loop: Loop, since: float) -> float:
    """Seconds from a death to the last question that had no answer."""
    return max((at - since for at, _ in loop.failures), default=0.0)


def condition(host: Node) -> str:
    """What `netctl host ls` says of the host."""
    return str(json.loads(host.rest(f"/api/v1/hosts/{host.host}/"))["state"])


def errors(host: Node) -> dict[str, str]:
    """What the host's state says is wrong there."""
    found: dict[str, str] = json.loads(host.rest(f"/api/v1/hosts/{host.host}/")).get("errors", {})
    return found


@pytest.mark.parametrize("dies", [DAEMONS[:1], DAEMONS[1:], DAEMONS], ids=["ovsdb-server", "ovs-vswitchd", "both"])
def test_daemons_that_are_killed(kept: Node, client: Inside, dies: tuple[str, ...]) -> None:
    """Else every connection of a host is gone for good, with a host that is called up."""
    before = mods(kept)
    with asking(client, "tcp", VIP, 8080, patience=0.5) as loop:
        loop.wait_for_more()
        killed = time.monotonic()
        for pid in [pid_of(kept, daemon) for daemon in dies]:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: loop.answers[-1][0] > killed + PROMISED, "answers after what is promised")
        loop.wait_for_more(20)
    wait_for(lambda: set(errors(kept)) == {"Open vSwitch restarted"}, "the host's state to say what happened")
    assert all(f"{daemon} at 20" in errors(kept)["Open vSwitch restarted"] for daemon in dies)
    print(f"{' and '.join(dies)} killed: {outage(loop, killed):.2f} s until every connection is answered")
    assert outage(loop, killed) < PROMISED
    assert set(client.who("tcp", VIP, 8080, times=20)) == PROVIDERS
    if dies == DAEMONS[:1]:
        assert mods(kept) == before, "a switch that lost only its database keeps its flows"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_that_freezes(kept: Node, client: Inside, daemon: str) -> None:
    """Else a daemon that hangs cuts its host off until somebody comes and looks."""
    with asking(client, "tcp", VIP, 8080, patience=0.5) as loop:
        loop.wait_for_more()
        frozen, pid = time.monotonic(), pid_of(kept, daemon)
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: is_dead(pid), "the keeper to end it", FROZEN)
        wait_for(lambda: loop.answers[-1][0] > frozen + FROZEN, "answers after the bound")
        loop.wait_for_more(20)
    print(f"{daemon} frozen: {outage(loop, frozen):.2f} s until every connection is answered")
    assert outage(loop, frozen) < FROZEN


def test_nobody_restarts_them(kept: Node, client: Inside) -> None:
    """Else a host that forwards nothing is called up for as long as its agent lives."""
    assert condition(kept) == "up", errors(kept)
    end_open_vswitch(kept)
    wait_for(lambda: condition(kept) == "degraded", "the host to be called degraded")
    wait_for(lambda: "ovsdb-server is gone since" in errors(kept).get("Open vSwitch", ""), "the reason")
    assert "ovs-vswitchd" in kept.netctl("host", "inspect", kept.host)
    assert "degraded" in kept.netctl("host", "ls")


def test_the_keeper_is_killed_too(kept: Node, client: Inside) -> None:
    """Else the death of three programs at once, out of memory say, is for good."""
    with asking(client, "tcp", VIP, 8080, patience=0.5) as loop:
        loop.wait_for_more()
        killed = time.monotonic()
        keeper = int((kept.directory / f"{KEEPER}.pid").read_text())
        for pid in (keeper, *(pid_of(kept, daemon) for daemon in DAEMONS)):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: loop.answers[-1][0] > killed + PROMISED, "answers after what is promised")
        loop.wait_for_more(20)
    assert outage(loop, killed) < PROMISED
