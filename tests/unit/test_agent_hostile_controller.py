"""The agent's threads on what is no controller: they go on, say it in few lines, and work once it is one."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netctl.agent import networks as networks_module
from netctl.agent.docker_api import Docker
from netctl.agent.memory import Memory
from netctl.agent.networks import Networks
from netctl.agent.registry import Registry
from netctl.agent.state import State
from netctl.agent.sync import Synchroniser
from tests.unit.agent_kit import FakeDocker, wait_for
from tests.unit.hostile import Hostile, chunked, whole
from topology.text import OneLine

WRONG = [[], {"hostAddress": []}, {"hostAddress": "x"}, "\x1b[2J", None, {"a": [[[]]]}]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Threads that have died of an error."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: found.append(f"{args.exc_type} {args.exc_value}"))
    return found


def parts(hostile: Hostile, tmp_path: Path) -> tuple[State, Synchroniser, Networks]:
    """Those that listen to the controller."""
    state = State("h")
    state.update(listed=True)
    docker: Any = FakeDocker()
    sync = Synchroniser(hostile.url, state, lambda: {"hostName": "h", "switch": "0" * 15 + "1"})
    unused = Docker("unix:///nowhere", "netctl")
    registry = Registry(hostile.url, state, unused, sync, Memory(tmp_path, state))
    return state, sync, Networks(hostile.url, state, docker, sync, registry)


def test_what_registers_this_host_is_no_controller(
    hostile: Hostile, tmp_path: Path, failed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The agent would end at every start, and take its containers' networks with it."""
    state, sync, _ = parts(hostile, tmp_path)
    answers = iter([*map(whole, WRONG), whole(b"[" * 50_000), whole("no\nFAKE \x1b", "500 no")])
    hostile.answer = lambda: [next(answers, whole({"hostAddress": "169.254.0.1"}))]
    sync.start()
    wait_for(lambda: len(hostile.seen) > 0, "a heartbeat")
    for _ in range(len(WRONG) + 3):
        seen = len(hostile.seen)
        sync.resync()
        sync._jobs.put(sync._beat)
        wait_for(lambda before=seen: len(hostile.seen) > before, "another")  # type: ignore[misc]
    wait_for(lambda: state.host_address is not None, "the host to be registered")
    sync.stop(5)
    assert not failed
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_change_stream_that_is_none(
    hostile: Hostile, tmp_path: Path, failed: list[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The agent's log would be full of it, or the agent be gone."""
    monkeypatch.setattr(networks_module, "BACKOFF", (0.0,))
    state, sync, networks = parts(hostile, tmp_path)
    sync.registered.set()
    good = {"tenantName": "default", "networkName": "n", "subnet": "10.1.1.0/24", "number": 1, "dockerName": "n"}
    lines: list[dict[str, Any]] = [
        {"kind": "network", "revision": 1, "key": "default:n", "object": {**good, "subnet": "\x1bnonsense"}},
        {"kind": "sync", "revision": "x"},
    ]

    def answer() -> list[bytes]:
        if b"/changes/" not in hostile.seen[-1]:
            return [whole({"revision": 1})]
        return list(chunked([json.dumps(line).encode() + b"\n" for line in lines]))

    hostile.answer = answer
    with caplog.at_level(logging.INFO):
        networks.start()
        wait_for(lambda: sum(b"/changes/" in seen for seen in hostile.seen) > 20, "many tries")
        assert sum("change stream" in record.getMessage() for record in caplog.records) == 1, "it says so once"
        lines[:] = [
            {"kind": "network", "revision": 1, "key": "default:n", "object": good},
            {"kind": "sync", "revision": 1},
        ]
        wait_for(lambda: "default:n" in state.model, "the network to be known")
    networks.stop()
    assert not failed


def test_log_lines_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever names a container could write lines of the log."""
    formatter = OneLine("%(levelname)s %(message)s")

    def line(*args: Any, **more: Any) -> str:
        return formatter.format(logging.LogRecord("x", logging.WARNING, "f", 1, "%s", args, more.get("exc_info")))

    assert line("a\nCRITICAL b\x1b[2J\x9b") == "WARNING a\\nCRITICAL b\\x1b[2J\\x9b"
    assert len(line("x" * 100_000)) < 3000
    try:
        raise ValueError("a\nCRITICAL forged\x1b")
    except ValueError as error:
        text = line("bad", exc_info=(ValueError, error, error.__traceback__))
    assert text.splitlines()[0] == "WARNING bad"
    assert all(one.startswith("  ") and one.isprintable() for one in text.splitlines()[1:])
