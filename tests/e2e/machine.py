"""A machine of its own for tests: a network namespace with programs in it, each of which can be killed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.kit.controller import DIES_WITH_US, ROOT
from tests.kit.hosts import inside as in_namespace

PREFIX = "agt"
ANSWER = 10.0  # s for an answer of a controller's
_OURS = re.compile(rf"{PREFIX}(\d+)(-\w+)?")


def run(*command: str, check: bool = True, timeout: float = 60) -> str:
    """Run a command; its output. A failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(condition: Callable[[], object], what: str, timeout: float = 30) -> None:
    """Until ``condition`` holds; after ``timeout`` seconds the test fails, naming ``what``."""
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until:
            for machine in list(MACHINES):
                machine.explain()
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.05)  # between two looks


def processes(directory: Path) -> Iterator[int]:
    """Processes whose command line names the directory: what a killed daemon of ours left."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(directory).encode() in (entry / "cmdline").read_bytes():
                    yield int(entry.name)


def sweep() -> None:
    """Remove what a test run that was killed has left."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        found = _OURS.fullmatch(directory.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            Machine(directory).stop()


def own_directory(name: str = "") -> Path:
    """Where this test run's machine of that name has its files."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{os.getpid()}{name and '-'}{name}"


MACHINES: weakref.WeakSet[Machine] = weakref.WeakSet()


class Machine:
    """One machine. ``start_…`` and ``kill`` work on its programs, in any order."""

    rest_url = "http://127.0.0.1:9999"
    """Where controllers are, as seen from here; several with commas."""
    ends: tuple[str, ...] = ("controller",)
    """The programs, in the order in which they end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        MACHINES.add(self)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        """The namespace and the directory."""
        self.directory.mkdir(mode=0o700)
        run("ip", "netns", "add", self.name)
        run(*self.inside("ip", "link", "set", "lo", "up"))

    # Programs

    def inside(self, *command: str) -> list[str]:
        """The command, to be run in the machine's network namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def spawn(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        """Start a program; what it says is in ``NAME.log``."""
        assert name not in self.processes, f"{name} runs already"
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*DIES_WITH_US, *self.inside(*command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "OVS_RUNDIR": str(self.directory), **(environment or {})},
                start_new_session=True,
            )

    def kill(self, name: str, number: int = signal.SIGKILL, timeout: float = 20) -> int:
        """End a program by a signal. Returns its exit status."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(timeout)

    def freeze(self, name: str) -> None:
        """A program does nothing any more, and keeps its connections."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """It goes on."""
        self.processes[name].send_signal(signal.SIGCONT)

    def log(self, name: str) -> str:
        """All that a program has said."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def explain(self) -> None:
        """Print what its programs have said lately, and where the agent's threads are."""
        before = len(self.log("agent")) if "agent" in self.processes else 0
        if before and self.processes["agent"].poll() is None:
            self.processes["agent"].send_signal(signal.SIGUSR2)
            until = time.monotonic() + 5
            while "Current thread" not in self.log("agent")[before:] and time.monotonic() < until:
                time.sleep(0.05)
        for name in ("controller", "agent"):
            if name in self.processes:
                print(f"--- {name} of {self.name}\n{self.log(name)[-20_000:]}")

    def start_controller(self) -> None:
        """A controller."""
        (self.directory / "netctl.conf").write_text(f"[DEFAULT]\n{self.controller_settings()}")
        self.spawn(
            "controller",
            sys.executable,
            "-m",
            "ryu_apps.manager",
            "--config-file",
            f"{self.directory}/netctl.conf",
            "ryu_apps.controller",
        )
        wait_for(lambda: self.rest("/version", check=False), "the controller")

    def controller_settings(self) -> str:
        """What its configuration file says."""
        return f"store = {self.directory}/netctl.db\n"

    def stop(self) -> None:
        """End every process and remove every trace."""
        for name in self.ends:
            if name in self.processes:
                self.thaw(name)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.kill(name, signal.SIGTERM, 20)
        for _ in range(100):
            left = list(processes(self.directory))
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.05)
        for line in Path("/proc/mounts").read_text().splitlines():
            if f" {self.directory}/" in line:
                run("umount", "--lazy", line.split()[1], check=False)
        run("ip", "netns", "delete", self.name, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    # Tools

    def _netctl(self, *arguments: str) -> list[str]:
        return self.inside(sys.executable, "-m", "netctl.cli", f"--netmaster={self.rest_url}", *arguments)

    def netctl(self, *arguments: str, check: bool = True) -> str:
        """The `netctl` command."""
        return run(*self._netctl(*arguments), check=check).strip()

    def complaint(self, *arguments: str) -> str:
        """What `netctl` says when it is refused."""
        done = subprocess.run(self._netctl(*arguments), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode, f"netctl {' '.join(arguments)} was not refused: {done.stdout}"
        return done.stderr.strip()

    def get(self, url: str, check: bool = True) -> str:
        """GET of a URL, from here. Without ``check`` nothing is the answer of who gives none."""
        with in_namespace(self.name):
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=ANSWER) as answer:
                    return bytes(answer.read()).decode()
            except OSError:
                if check:
                    raise
                return ""

    def rest(self, path: str, check: bool = True) -> str:
        """GET of a path of the REST API, of the first controller that answers."""
        *some, last = self.rest_url.split(",")
        for url in some:
            if found := self.get(url + path, check=False):
                return found
        return self.get(last + path, check)
