"""What the agent knows of Open vSwitch's daemons. If these fail, a host that forwards nothing is called up."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netctl.agent import daemons as module
from netctl.agent.daemons import DATABASE, NOW, PAST, SHOWN, SWITCH, Daemons, History, Process, Silent, ask, lines
from netctl.agent.state import State

BEGAN = 1_800_000_000.0


def life(pid: int, started: float = BEGAN) -> Process:
    """A daemon's process."""
    return Process(pid, pid * 100, started)


def test_a_daemon_that_is_gone_and_back() -> None:
    """Else an operator does not learn why connections were lost, once all is well again."""
    database, switch = History(DATABASE), History(SWITCH)
    both = (database, switch)
    for one in both:
        one.lives(life(1), BEGAN)
    assert lines(both, BEGAN + 1) == {}
    database.is_silent("is gone", BEGAN + 2)
    database.is_silent("is gone", BEGAN + 3)
    assert lines(both, BEGAN + 3) == {NOW: "does not work: ovsdb-server is gone since 2027-01-15T08:00:02Z"}
    switch.is_silent("does not answer", BEGAN + 4)
    assert "is gone since 2027-01-15T08:00:02Z and ovs-vswitchd does not answer since" in lines(both, BEGAN + 4)[NOW]
    database.lives(life(2, BEGAN + 5), BEGAN + 6)
    switch.lives(life(1), BEGAN + 6)
    said = lines(both, BEGAN + 6)
    assert said == {PAST: "ovsdb-server at 2027-01-15T08:00:05Z, after 3 s: the switch kept its flows and connections"}
    assert lines(both, BEGAN + 10 + SHOWN) == {}


def test_a_death_between_two_looks() -> None:
    """Else the keeper is so fast that nobody ever hears of a death."""
    switch = History(SWITCH)
    switch.lives(life(1), BEGAN)
    switch.lives(Process(1, 100, BEGAN + 0.4), BEGAN + 1)
    assert not lines([switch], BEGAN + 1), "the same, by a clock that was set meanwhile"
    switch.lives(life(7, BEGAN + 1.5), BEGAN + 2)
    assert lines([switch], BEGAN + 2)[PAST].startswith("ovs-vswitchd at 2027-01-15T08:00:01Z: connections ")


def test_a_daemon_that_comes_after_the_agent() -> None:
    """Else the agent of a host that starts takes a switch that starts after it for one that died for good."""
    switch = History(SWITCH)
    switch.is_silent("is gone", BEGAN)
    assert NOW in lines([switch], BEGAN)
    switch.lives(life(1, BEGAN + 4), BEGAN + 5)
    assert list(lines([switch], BEGAN + 5)) == [PAST]


class Server:
    """A daemon's socket, and what it says to who asks."""

    def __init__(self, path: Path) -> None:
        self.answers = [json.dumps({"id": 0, "result": "3.1.0", "error": None}).encode()]
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(BrokenPipeError):  # who asked may have read enough
                asked = json.loads(connection.recv(1000))
                assert asked["params"] == []
                for part in self.answers:
                    connection.sendall(part)
                if not self.answers:
                    connection.recv(1)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One at ``db.sock``."""
    monkeypatch.setattr(module, "ANSWER", 0.2)
    made = Server(tmp_path / "db.sock")
    yield made
    made.socket.shutdown(socket.SHUT_RDWR)
    made.socket.close()


def test_who_answers(server: Server, tmp_path: Path) -> None:
    """Else a daemon that hangs, or was started again, looks as if it were well."""
    assert ask(tmp_path / "db.sock", "echo").pid == os.getpid()
    server.answers = [b'{"id": 0, "res', b'ult": []}']
    assert ask(tmp_path / "db.sock", "echo") == ask(tmp_path / "db.sock", "echo")
    for answers, why in (([], "does not answer"), ([b"{"], "is gone"), ([b"x" * 200_000], "is gone")):
        server.answers = answers
        with pytest.raises(Silent, match=rf"^{why}$"):
            ask(tmp_path / "db.sock", "echo")
    with pytest.raises(Silent, match=r"^is gone$"):
        ask(tmp_path / "other.sock", "echo")


def test_what_can_not_be_seen_is_not_spoken_of(server: Server, tmp_path: Path) -> None:
    """Else a host whose switch has its files elsewhere is called broken for ever."""
    state, told = State("h1"), []
    daemons = Daemons(f"unix:{tmp_path}/db.sock", state, tmp_path, lambda: told.append(state.troubles.lines()))
    daemons.look()
    assert told == []
    (tmp_path / "ovs-vswitchd.pid").write_text("4\n")
    daemons.look()
    daemons.look()
    assert [list(lines) for lines in told] == [[NOW]]
    assert "ovs-vswitchd is gone since" in told[0][NOW]
    Daemons("tcp:192.0.2.1:6640", state, tmp_path, told.clear).start()


def agent(directory: Path) -> tuple[Daemons, State]:
    """An agent that has just started, and has looked once."""
    state = State("h1")
    daemons = Daemons(f"unix:{directory}/db.sock", state, directory, lambda: None)
    daemons.look()
    return daemons, state


def test_a_new_agent_remembers(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restart of the agent hides from an operator why connections were lost an hour ago."""
    daemons, state = agent(tmp_path)
    assert not state.troubles.lines(), "nothing has happened yet"
    born = module.process(os.getpid())
    monkeypatch.setattr(module, "process", lambda pid: Process(pid, born.ticks + 100, time.time()))
    daemons.look()
    line = state.troubles.lines()[PAST]
    assert line.startswith("ovsdb-server at ")
    assert agent(tmp_path)[1].troubles.lines() == {PAST: line}


def test_a_death_while_no_agent_lived(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody hears of a switch that lost all connections together with the agent."""
    agent(tmp_path)
    born = module.process(os.getpid())
    monkeypatch.setattr(module, "process", lambda pid: Process(pid, born.ticks + 100, time.time()))
    assert list(agent(tmp_path)[1].troubles.lines()) == [PAST]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot": "another"}', '{"boot": 5, "ovsdb-server": []}'])
def test_a_state_file_that_is_no_use(server: Server, tmp_path: Path, text: str) -> None:
    """Else the agent does not start, or takes every start of the machine for a death."""
    (tmp_path / "agent-daemons.json").write_text(text)
    assert not agent(tmp_path)[1].troubles.lines()
    assert "pid" in (tmp_path / "agent-daemons.json").read_text()
