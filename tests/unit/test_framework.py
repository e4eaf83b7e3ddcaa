"""What the framework must keep doing, whichever release of it runs us."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryu_apps import framework
from tests.unit.manager_process import DEADLINE, ROOT, app_file, connect, ports, running


@pytest.fixture
def fatal() -> Iterator[list[BaseException]]:
    """What would have stopped the process."""
    seen: list[BaseException] = []
    framework.set_fatal_handler(seen.append)
    yield seen
    framework.set_fatal_handler(None)


def test_a_switch_that_goes_away_is_noticed(tmp_path: Path) -> None:
    """A switch that is gone would count as connected, and its changes wait for ever (os-ken's native hub)."""
    options, port, _ = ports()
    with running(*options, app_file(tmp_path)) as manager:
        manager.wait_for("running ")
        with connect(port):
            manager.wait_for("state main")
        manager.wait_for("state dead")


def test_an_event_waits_no_longer_than_its_timeout() -> None:
    """A switch that never answers would hold its thread for ever (os-ken's native hub)."""
    code = "from ryu_apps.framework import hub; print(hub.Event().wait(timeout=0.05))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True
    )

    assert done.stdout == "False\n"
    assert done.stderr == ""


def test_an_exception_in_a_thread_is_fatal(
    fatal: list[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """A part of the controller would be dead, with nothing but a line in the log to tell."""
    boom = ValueError("boom")

    def work(exc: BaseException) -> None:
        raise exc

    with caplog.at_level(logging.CRITICAL):
        framework.spawn(work, boom).wait()

    assert fatal == [boom]
    assert "stopping: unexpected ValueError: boom" in caplog.text
    assert "Traceback" in caplog.text


def test_a_thread_that_ends_or_is_killed_is_not(fatal: list[BaseException]) -> None:
    """The controller would stop for no reason."""
    done: list[int] = []
    framework.spawn(done.append, 1).wait()
    sleeper = framework.spawn(framework.hub.sleep, DEADLINE)
    framework.hub.sleep(0)
    framework.hub.kill(sleeper)

    assert done == [1]
    assert fatal == []


def test_an_exception_in_a_handler_is_fatal(fatal: list[BaseException]) -> None:
    """An event would be lost: a switch without its flows, with nothing but a line in the log to tell."""

    class Happened(framework.event.EventBase):  # type: ignore[misc]
        pass

    class Broken(framework.App):
        @framework.set_ev_cls(Happened)
        def happened(self, ev: object) -> None:
            raise KeyError(ev)

    app = Broken()
    framework.handler.register_instance(app)
    app.start()
    app.send_event_to_observers(Happened())
    app.register_observer(Happened, "Broken")
    framework.app_manager.SERVICE_BRICKS["Broken"] = app
    try:
        app.send_event_to_observers(Happened())
        framework.hub.joinall(app.threads)
    finally:
        del framework.app_manager.SERVICE_BRICKS["Broken"]

    assert [type(exc) for exc in fatal] == [KeyError]


def test_an_applications_threads_end_with_it(fatal: list[BaseException]) -> None:
    """A stop would hang until it is cut short."""
    app = framework.App()
    app.start()
    worker = app.spawn(framework.hub.sleep, DEADLINE)
    framework.hub.sleep(0)

    app.stop()

    assert worker.dead
    assert fatal == []


def test_only_the_facade_names_the_framework() -> None:
    """The controller would run on one of Ryu and os-ken only."""
    named = re.compile(r"^\s*(from|import) (ryu|os_ken)\b", re.MULTILINE)
    found = [
        str(path.relative_to(ROOT))
        for package in ("ryu_apps", "netctl", "topology")
        for path in (ROOT / package).rglob("*.py")
        if named.search(path.read_text())
    ]

    assert found == []
