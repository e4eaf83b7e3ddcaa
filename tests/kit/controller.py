"""A controller for tests: a real ``ryu-manager`` process with ports and a store of its own.

    with controller(tmp_path) as ctl:
        ctl.client.put_network({"tenantName": "default", "networkName": "web", "subnet": "10.1.1.0/24"})
        ovs.run("ovs-vsctl", "set-controller", bridge, ctl.target)

It runs on the framework that ``NETCTL_FRAMEWORK`` names, as the tests themselves do. When a test fails, what the
running controllers said meanwhile is shown (`log_of_the_running`, from conftest.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from netctl.client import Client, ClientError, Refused
from tests.kit.ovs import wait_for

ROOT = Path(__file__).parents[2]
SETTLED = 60  # s that a switch may take for a large change on a busy machine
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a command: it ends when the test run does, however that ends."""

_running: list[Controller] = []


def free_port(host: str = "127.0.0.1", but: int = 0) -> int:
    """A port that nobody has, and that the kernel gives to nobody: it is below those of outgoing connections."""
    for port in random.sample([p for p in range(20000, 32000) if p != but], 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise AssertionError(f"no free port on {host}")


class Controller:
    """One controller. Ports and store stay the same from start to start."""

    def __init__(self, directory: Path, host: str = "127.0.0.1", *options: str) -> None:
        self.directory = directory
        self.host = host
        self.ofp_port = free_port(host)
        self.rest_port = free_port(host, but=self.ofp_port)
        self.url = f"http://{host}:{self.rest_port}"
        self.target = f"tcp:{host}:{self.ofp_port}"
        """What `ovs-vsctl set-controller` takes."""
        self.store = directory / "netctl.db"
        self.log_file = directory / "controller.log"
        self.client = Client(self.url)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._shown = 0

    def start(self) -> None:
        """Start it, and wait until REST answers."""
        assert self._process is None, "it runs already"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *DIES_WITH_US, sys.executable, "-m", "ryu_apps.manager",
                    "--ofp-listen-host", self.host, "--ofp-tcp-listen-port", str(self.ofp_port),
                    "--rest-host", self.host, "--rest-port", str(self.rest_port),
                    "--store", str(self.store), *self._options, "ryu_apps.controller",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        _running.append(self)
        wait_for(self._answers, "the controller to answer")

    def _answers(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        assert status is None, f"the controller ended with status {status}:\n{self.log()}"
        try:
            self.client.version()
        except ClientError:
            return False
        return True

    @property
    def running(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def stop(self) -> None:
        """As a supervisor does, by SIGTERM; it has to end well."""
        status = self._end(signal.SIGTERM)
        assert status == 0, f"the controller ended with status {status}:\n{self.log()}"

    def kill(self) -> None:
        """By SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None, "it does not run"
        status = process.poll()
        assert status is None, f"the controller had ended, with status {status}:\n{self.log()}"
        process.send_signal(number)
        try:
            return process.wait(20)
        finally:
            self.close()

    def close(self) -> None:
        """End it in any case, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            _running.remove(self)
            process.kill()
            process.wait(20)
        self.client.close()

    def log(self) -> str:
        """All that it has said, over all starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def new_log(self) -> str:
        """What it has said since the last call."""
        text = self.log()
        start, self._shown = self._shown, len(text)
        return text[start:]

    def switch(self, dpid: str) -> dict[str, Any]:
        """The REST document of a connected switch; empty while it is not connected."""
        found = cast(list[dict[str, Any]], self.client.switches())
        return next((doc for doc in found if doc["dpid"] == dpid), {})

    def wait_for_switch(self, dpid: str) -> dict[str, Any]:
        """Wait until a switch is connected and carries out the model; its document then."""
        doc: dict[str, Any] = {}

        def settled() -> bool:
            nonlocal doc
            try:
                doc = self.switch(dpid)
            except Refused as error:
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE:  # nobody leads yet: as good as not connected
                    raise
                doc = {}
            return bool(doc.get("settled"))

        wait_for(settled, f"switch {dpid} to be connected and settled", SETTLED)
        return doc


@contextlib.contextmanager
def controller(directory: Path, host: str = "127.0.0.1", *options: str) -> Iterator[Controller]:
    """A controller that runs; ended at the end, whatever happens."""
    made = Controller(directory, host, *options)
    try:
        made.start()
        yield made
    finally:
        made.close()


def log_of_the_running() -> str:
    """What the running controllers have said since the last call."""
    return "".join(c.new_log() for c in _running)
