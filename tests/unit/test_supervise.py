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
from topology import backoff
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


NUMBERS = "import sys, time\nfor n in range(40_000): print('line', n)\nsys.stdout.flush()\ntime.sleep(600)"


def lines(directory: Path) -> list[str]:
    """What the program has said, the old file before the new one."""
    files = [directory / name for name in ("it.log.1", "it.log")]
    return [line for file in files if file.exists() for line in file.read_text().splitlines() if "line" in line]


def test_a_log_is_put_aside_while_the_program_runs(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    """Else a controller that runs for a year, or that somebody makes complain, fills the disk. No line is lost."""
    one = supervise(sys.executable, "-c", NUMBERS, NETCTL_LOG_BYTES="300000")
    pid = one.pid()
    wait_for(lambda: "line 39999" in one.log(), "all that it says")
    assert lines(tmp_path) == [f"line {n}" for n in range(40_000)]
    assert 200_000 < (tmp_path / "it.log.1").stat().st_size <= 300_100
    assert one.pid() == pid
    one.stop()


def test_only_so_much_of_a_log_is_kept(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    """Else what is put aside fills the disk instead."""
    supervise(sys.executable, "-c", NUMBERS, NETCTL_LOG_BYTES="20000")
    wait_for(lambda: lines(tmp_path)[-1:] == ["line 39999"], "all that it says")
    found = lines(tmp_path)
    assert found == [f"line {n}" for n in range(40_000 - len(found), 40_000)], "the latest, in order"
    assert sum(file.stat().st_size for file in tmp_path.glob("it.log*")) < 45_000


def test_a_program_whose_log_writer_dies(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    """Else nobody learns any more what a program says."""
    talks = "import time\nwhile True: print('line', flush=True); time.sleep(0.05)"
    one = supervise(sys.executable, "-c", talks)
    wait_for(lambda: lines(tmp_path), "it to speak")
    before, (writer,) = one.pid(), children(one.process.pid, "log-writer")
    os.kill(writer, signal.SIGKILL)
    wait_for(lambda: one.pid() not in (0, before), "another life")
    said = len(lines(tmp_path))
    wait_for(lambda: len(lines(tmp_path)) > said, "it to speak again")
    one.stop()


def test_a_log_writer_ends_with_its_program(supervise: Callable[..., Supervised], tmp_path: Path) -> None:
    """Else `make down` leaves processes behind."""
    one = supervise("sh", "-c", "echo line; exec sleep 600")
    wait_for(lambda: lines(tmp_path), "it to speak")
    (writer,) = children(one.process.pid, "log-writer")
    one.stop()
    wait_for(lambda: not Path(f"/proc/{writer}/fd/0").exists(), "it to end")


def children(parent: int, name: str) -> list[int]:
    """The processes of that name that another one has started."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in found if name in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_service_of_systemd_slows_down(tmp_path: Path) -> None:
    """Else a controller that can't start takes all processors, or, given up, is away for good."""
    file, clock, pauses = tmp_path / "lives", [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses[-1] = seconds
        clock[0] += seconds

    def start() -> None:
        pauses.append(0.0)
        assert backoff.main([str(file)], lambda: clock[0], sleep) == 0

    for _ in range(60):
        start()
        clock[0] += 0.5  # it dies
    assert pauses[:6] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert pauses[20:] == [30.0] * 40
    clock[0] += 20  # a long life
    start()
    clock[0] += 1
    start()
    assert pauses[-2:] == [0.0, 0.1]
    for text in ("", "nonsense", "-5 3", "1", "1 nan", "999999 1e400", "3 99999999"):
        file.write_text(text)
        start()
        assert pauses[-1] == 0.0, text
    assert backoff.main([str(tmp_path / "no" / "place")], lambda: clock[0], sleep) == 0


@pytest.mark.parametrize("name", ["controller", "agent"])
def test_the_units_slow_down_and_never_give_up(name: str) -> None:
    """Else the unit is what gives up, or what does not slow down."""
    unit = (ROOT / f"etc/systemd/netctl-{name}.service").read_text().splitlines()
    for line in (
        "StartLimitIntervalSec=0", "Restart=always", f"RuntimeDirectory=netctl-{name}",
        "RuntimeDirectoryPreserve=restart",
        f"ExecStartPre=/opt/netctl/bin/python -m topology.backoff /run/netctl-{name}/lives",
    ):  # fmt: skip
        assert line in unit
