"""scripts/supervise and the heartbeat. If these fail, a program that hangs or has died often is never started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netctl.agent.pulse import Pulse
from tests.kit.controller import DIES_WITH_US, ROOT
from topology.heartbeat import Heartbeat

LIVES = "from topology.heartbeat import Heartbeat; import time\nwhile True: Heartbeat().beat(); time.sleep(0.2)"


def wait_for(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Until ``condition`` holds."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"waited {timeout} s for {what}"
        time.sleep(0.02)  # between two looks


class Supervised:
    """A program under scripts/supervise."""

    def __init__(self, directory: Path, *command: str, **environment: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*DIES_WITH_US, str(ROOT / "scripts/supervise"), str(directory), str(directory), "it", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )

    def pid(self) -> int:
        """The program's process; 0: none yet."""
        try:
            return int((self.directory / "it.pid").read_text())
        except (OSError, ValueError):
            return 0

    def log(self) -> str:
        """What supervisor and program have said."""
        with contextlib.suppress(OSError):
            return (self.directory / "it.log").read_text()
        return ""

    def beats(self) -> bool:
        """Whether a heartbeat has come from the process that runs now."""
        file = self.directory / "it.heartbeat"
        began = (self.directory / "it.pid").stat().st_mtime_ns if self.pid() else 0
        return bool(began) and file.exists() and file.stat().st_mtime_ns > began + 10**8

    def stop(self) -> None:
        """As `make down` does."""
        self.process.terminate()
        assert self.process.wait(20) == 0


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Makes one; ended at the end."""
    made: list[Supervised] = []

    def make(*command: str, **environment: str) -> Supervised:
        made.append(Supervised(tmp_path, *command, **environment))
        wait_for(made[-1].pid, "the program to run")
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            if pid := one.pid():
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_dies_or_freezes_is_started_again(supervise: Callable[..., Supervised], number: signal.Signals) -> None:
    """Else an agent that hangs keeps dead containers in their services for ever."""
    one = supervise(sys.executable, "-c", LIVES, NETCTL_SILENCE="2")
    for _ in range(2):
        wait_for(one.beats, "it to live")
        before = one.pid()
        os.kill(before, number)
        wait_for(lambda before=before: one.pid() not in (0, before), "another life", 40)  # type: ignore[misc]
    frozen = number == signal.SIGSTOP
    assert ("has sent no heartbeat for 2 s: killed" in one.log()) == frozen
    wait_for(one.beats, "it to live")
    one.stop()
    assert not (one.directory / "it.pid").exists()
    assert not (one.directory / "it.heartbeat").exists()


def test_what_sends_no_heartbeats_is_not_watched(supervise: Callable[..., Supervised]) -> None:
    """Else Docker's daemon, which knows nothing of them, is killed every minute; or a shell's child is taken for it."""
    one = supervise("sh", "-c", 'echo "[$NETCTL_HEARTBEAT]"; exec sleep 600', NETCTL_HEARTBEAT="/somebody/elses")
    wait_for(lambda: "[]" in one.log(), "it to have no file")
    assert not (one.directory / "it.heartbeat").exists()
    one.stop()


def test_it_never_gives_up(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    """Else what could not start for a minute, say, is away for good; or it takes all processors."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sleep").write_text("#!/bin/sh\nexit 0\n")
    (tools / "sleep").chmod(0o755)
    one = supervise("false", PATH=f"{tools}:{os.environ['PATH']}")
    wait_for(lambda: one.log().count("starts again in 30000 ms") > 20, "it to go on", 60)
    pauses = [int(line.split()[-2]) for line in one.log().splitlines() if "starts again" in line]
    assert pauses[:5] == [100, 200, 400, 800, 1600]
    assert pauses[:30] == sorted(pauses[:30])
    assert int((tmp_path / "it.failures").read_text()) > 20
    one.stop()


def test_systemd_is_told(tmp_path: Path) -> None:
    """Else systemd takes a service that lives for one that hangs, or one that hangs for one that lives."""
    for name, address in ((str(tmp_path / "notify"), str(tmp_path / "notify")), (f"@{tmp_path}", f"\0{tmp_path}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address)
            systemd.settimeout(5)
            heart = Heartbeat({"NOTIFY_SOCKET": name})
            for say, lines in ((heart.ready, ["READY=1", "WATCHDOG=1"]), (heart.stopping, ["STOPPING=1"])):
                say()
                assert [systemd.recv(100).decode() for _ in lines] == lines
    Heartbeat({"NOTIFY_SOCKET": str(tmp_path / "gone"), "NETCTL_HEARTBEAT": str(tmp_path / "gone")}).ready()
    assert not (tmp_path / "gone").exists()


def test_a_thread_that_hangs() -> None:
    """Else an agent whose one thread waits for ever passes for alive, as its others go on."""
    now = [100.0]
    pulse = Pulse(lambda: now[0])
    pulse.within(10)
    now[0] += 9
    assert pulse.late() == []
    now[0] += 2
    assert pulse.late() == ["MainThread"]
    pulse.within(10)
    assert pulse.late() == []
    pulse.rest()
    now[0] += 1000
    assert pulse.late() == []
