"""The Mininet scripts, as a user runs them: on a real controller and Open vSwitch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import ovs
from tests.kit.controller import DIES_WITH_US, ROOT, Controller, controller

SCRIPT = ROOT / "mininet" / "single.py"


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with controller(tmp_path_factory.mktemp("mininet")) as running:
        yield running


def command(control: Controller, *options: str) -> list[str]:
    """The script, against the tests' controller."""
    where = ("--controller-port", str(control.ofp_port), "--netmaster", control.url)
    return [sys.executable, str(SCRIPT), *where, *options]


def environment() -> dict[str, str]:
    """Where the script finds our packages, also in a checkout that nobody installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def links(prefix: str) -> list[str]:
    """Interfaces of this machine."""
    return [name for name in os.listdir("/sys/class/net") if name.startswith(prefix)]


def test_single_switch_script(control: Controller) -> None:
    """If it fails: Mininet with the controller does not work as the script promises."""
    name = f"{ovs.PREFIX}s"
    done = subprocess.run(
        command(control, "--name", name, "--test"),
        capture_output=True, text=True, timeout=120, check=False, env=environment(), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 failed\n"), done.stdout
    assert "c1 connects to 100.2.1.1:8080: 60 of 60 answered, by 4 of 4 providers" in done.stdout
    assert name not in ovs.MACHINE.vsctl("list-br").split()
    assert not links(name)
    assert not control.client.networks()
    assert not control.client.endpoints()


def test_killed_script_leaves_only_what_is_swept(control: Controller, tmp_path: Path) -> None:
    """If it fails: every test run that is killed leaves hosts, links or a bridge behind for good."""
    output = tmp_path / "output"
    with output.open("wb") as out:
        # the shell's process id, which is in the name, becomes the script's
        script = [*DIES_WITH_US, "sh", "-c", 'exec "$@" --name "tst$$k"', "sh", *command(control)]
        process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment(), cwd=ROOT)
    with process:
        try:
            ovs.wait_for(lambda: "Try:" in output.read_text(), "the script's prompt", 60)
            shells = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert len(shells) >= 8
        finally:
            process.send_signal(signal.SIGKILL)
            assert process.stdin is not None
            process.stdin.close()
    name = f"tst{process.pid}k"
    ovs.wait_for(lambda: not any(Path("/proc", shell).exists() for shell in shells), "the hosts to end")
    ovs.wait_for(lambda: not links(f"{name}-"), "the hosts' links to go")
    ovs.sweep()
    assert name not in ovs.MACHINE.vsctl("list-br").split()
    assert not links(name)
    # what the controller was told stays: the next run of the same name begins with taking it out
    done = subprocess.run(
        command(control, "--name", name, "--test", "--connections", "40"),
        capture_output=True, text=True, timeout=120, check=False, env=environment(), cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not control.client.networks()
