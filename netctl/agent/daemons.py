"""Open vSwitch's two daemons: whether each lives and answers, and when one did not.

Both answer JSON-RPC on a Unix socket: the database on the one that the agent uses itself, the switch on its control
socket beside it. Who listens there is the kernel's knowledge (SO_PEERCRED). Where the sockets can't be found, because
the database is reached by TCP or the switch has its files elsewhere, nothing is said.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from netctl.agent.memory import write
from netctl.agent.state import State

LOG = logging.getLogger(__name__)

INTERVAL = 1.0  # s between two looks
ANSWER = 5.0  # s for an answer: a switch that takes in thousands of ports is busy for longer than usual
SHOWN = 3600.0  # s that a death which is over is spoken of
MAX_ANSWER = 65536  # bytes
FILE = "agent-daemons.json"  # in the agent's state directory
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NOW, PAST = "Open vSwitch", "Open vSwitch restarted"  # what the lines are about
DATABASE, SWITCH = "ovsdb-server", "ovs-vswitchd"
FORGETS = {
    DATABASE: "the switch kept its flows and connections",
    SWITCH: "connections to services and published ports that were open then are lost",
}


@dataclass(frozen=True, slots=True)
class Process:
    """One life of a daemon."""

    pid: int
    ticks: int  # of the kernel's clock, when it was started: a number may be given again
    started: float = field(compare=False)  # the same in s since the epoch; 0.0: it is not to be seen from here


class Silent(Exception):
    """A daemon that should answer does not; the text follows its name."""


class History:
    """What became of one daemon, out of what each look found."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._life: Process | None = None
        self.silent = ""  # what is the matter with it now
        self.since = 0.0  # since when
        self._again = 0.0  # when it was started after a death that we have seen
        self._away = 0.0  # s that it had been away then

    def lives(self, life: Process, now: float) -> None:
        """It answers, as this process."""
        came_back = self.silent if self._life is None else life != self._life
        if came_back:
            self._again = life.started or now
            self._away = max(0.0, self._again - self.since) if self.silent else 0.0
        self._life, self.silent = life, ""

    def is_silent(self, why: str, now: float) -> None:
        """It does not answer."""
        if not self.silent:
            self.since = now
        self.silent = why

    @property
    def remembered(self) -> dict[str, float]:
        """What a later agent has to know."""
        life = self._life or Process(0, 0, 0.0)
        return {"pid": life.pid, "ticks": life.ticks, "again": self._again, "away": self._away}

    def remember(self, of: Mapping[str, float]) -> None:
        """What an earlier agent knew."""
        if of["pid"]:
            self._life = Process(int(of["pid"]), int(of["ticks"]), 0.0)
        self._again, self._away = float(of["again"]), float(of["away"])

    def past(self, now: float) -> str:
        """Its last death, while that is worth a line."""
        if not self._again or now > self._again + SHOWN:
            return ""
        away = f", after {self._away:.0f} s" if self._away >= 1 else ""
        return f"{self.name} at {stamp(self._again)}{away}: {FORGETS[self.name]}"


def lines(histories: Iterable[History], now: float) -> dict[str, str]:
    """What a user is told."""
    known = tuple(histories)
    out = {}
    if silent := [h for h in known if h.silent]:
        what = " and ".join(f"{h.name} {h.silent} since {stamp(h.since)}" for h in silent)
        out[NOW] = f"does not work: {what}"
    if past := [line for h in known if (line := h.past(now))]:
        out[PAST] = "; ".join(past)
    return out


def stamp(at: float) -> str:
    """A time in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


class Daemons:
    """Looks at both every second, and tells when there is news."""

    def __init__(self, remote: str, state: State, directory: Path, report: Callable[[], None]) -> None:
        """``remote``: the database's; ``directory``: of the agent's state; ``report`` is called when the lines for the
        user are others."""
        kind, _, path = remote.partition(":")
        self._socket = Path(path) if kind == "unix" and path else None
        self._state = state
        self._report = report
        self._histories = {name: History(name) for name in (DATABASE, SWITCH)}
        self._path = directory / FILE
        self._written = self._load()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daemons", daemon=True)

    def start(self) -> None:
        """Begin to look, where there is something to be seen."""
        if self._socket is not None:
            self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._state.pulse.within()
            self.look()
            self._stop.wait(INTERVAL)

    def look(self) -> None:
        """Once."""
        assert self._socket is not None
        self._note(DATABASE, self._socket, "echo")
        control = control_socket(self._socket.parent)
        if control is not None:
            self._note(SWITCH, control, "version")
        self._save()
        if self._state.troubles.say("open vswitch", lines(self._histories.values(), time.time())):
            self._report()

    def _load(self) -> str:
        """Take over what an earlier agent has seen since this machine was started. Returns it as it is written."""
        try:
            text = self._path.read_text(encoding="utf-8")
            found = json.loads(text)
            if found["boot"] != BOOT_ID.read_text().strip():
                return ""
            for name, history in self._histories.items():
                history.remember(found[name])
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, TypeError, KeyError) as error:
            LOG.warning("%s is not used: %s", self._path, error)
            return ""
        return text

    def _save(self) -> None:
        known = {name: history.remembered for name, history in self._histories.items()}
        text = json.dumps({"boot": BOOT_ID.read_text().strip(), **known})
        if text != self._written:
            write(self._path, text)
            self._written = text

    def _note(self, name: str, path: Path, method: str) -> None:
        history = self._histories[name]
        try:
            history.lives(ask(path, method), time.time())
        except Silent as reason:
            history.is_silent(str(reason), time.time())


def control_socket(folder: Path) -> Path | None:
    """The control socket of the switch whose files are in this folder; it may be dead. None: it has none here."""
    try:
        pid = int((folder / f"{SWITCH}.pid").read_text()[:20])
    except (OSError, ValueError):
        return None
    return folder / f"{SWITCH}.{pid}.ctl"


def ask(path: Path, method: str) -> Process:
    """Who answers a request at a socket. Raises `Silent`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER)
        deadline = time.monotonic() + ANSWER
        try:
            connection.connect(str(path))
            size = struct.calcsize("3i")
            pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
            connection.sendall(json.dumps({"method": method, "params": [], "id": 0}).encode())
            answer = b""
            while not _whole(answer):
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                more = connection.recv(4096)
                if not more or len(answer) > MAX_ANSWER:
                    raise Silent("is gone")
                answer += more
        except TimeoutError:
            raise Silent("does not answer") from None
        except OSError:
            raise Silent("is gone") from None
    return process(pid)


def _whole(answer: bytes) -> bool:
    try:
        json.loads(answer)
    except ValueError:
        return False
    return True


def process(pid: int) -> Process:
    """A process by its number, with the time of its start."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return Process(pid, 0, 0.0)
    return Process(pid, ticks, time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK"))
