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


@pytest.fixture(autouse=True)
def _nothing_left(control: Controller) -> Iterator[None]:
    """Whatever a test leaves is not the next one's."""
    yield
    for endpoint in control.client.endpoints():
        control.client.delete_endpoint(endpoint["endpointID"])
    for network in control.client.networks():
        control.client.delete_network(network["key"])


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
    assert "c1 connects to 10.210.0.1:8080: 60 of 60 answered, by 4 of 4 providers" in done.stdout
    assert "ok    c1 pings the silent u4, behind its gateway, 10.210.2.12" in done.stdout
    assert name not in ovs.MACHINE.vsctl("list-br").split()
    assert not links(name)
    assert not control.client.networks()
    assert not control.client.endpoints()


def put_network(control: Controller, name: str, subnet: str, gateway: str = "") -> None:
    """As `netctl net create` does."""
    control.client.put_network(
        {"tenantName": "default", "networkName": name, "subnet": subnet, "gateway": gateway}
    )


def test_the_scripts_leave_alone_what_a_user_has(control: Controller) -> None:
    """If it fails: a script can't run beside what `make run`, `make demo` and README propose, or says so in a
    traceback, or after it has built everything; or it counts a user's containers as its own providers.
    """
    proposed = ["100.1.1.0/24", "10.1.1.0/24", "20.1.1.0/24", "10.2.1.0/24", "10.9.0.0/24", "10.0.0.0/24"]
    for number, subnet in enumerate(proposed):
        put_network(control, f"n{number}", subnet)
    put_network(control, "mine", "10.219.2.0/24")
    control.client.put_endpoint(
        {
            "endpointID": "mine", "tenantName": "default", "networkName": "mine", "ipAddress": ["10.219.2.1"],
            "macAddress": "02:00:00:00:00:01", "switch": "0000000000000077", "portName": "p", "labels": {"tier": "web"},
        }
    )  # fmt: skip
    name = f"{ovs.PREFIX}p"

    def started(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(control, "--name", name, "--test", "--connections", "20", *options),
            capture_output=True, text=True, timeout=120, check=False, env=environment(), cwd=ROOT,
        )  # fmt: skip

    for subnet, why in (
        ("10.219.0.0/16", "subnet 10.219.2.0/24 overlaps network mine, 10.219.2.0/24: take another one with --subnet"),
        ("10.219.0.1/16", "--subnet 10.219.0.1/16: must be an IPv4 network, such as 10.220.0.0/16: "
         "10.219.0.1/16 has host bits set"),
        ("10.219.0.0/24", "--subnet 10.219.0.0/24: must be /22 or shorter: its first networks /24 are used"),
        ("fd00::/16", "--subnet fd00::/16: must be an IPv4 network, such as 10.220.0.0/16: "),
    ):  # fmt: skip
        done = started("--subnet", subnet)
        assert done.returncode == 2
        *_, last = done.stderr.splitlines()
        assert last.startswith(f"single.py: {why}"), done.stderr
        assert name not in ovs.MACHINE.vsctl("list-br").split()
    done = started("--subnet", "10.218.0.0/22")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "network tstp-red 10.218.1.0/24, gateway 10.218.1.254" in done.stdout.replace(name, "tstp")


def test_mn_itself(control: Controller) -> None:
    """If it fails: the line that README gives for `mn` does not work, or works once only: the hosts of its next run
    have other MACs at the same ports.
    """
    assert "s1" not in ovs.MACHINE.vsctl("list-br").split(), "a bridge s1 of somebody else: mn would remove it"
    put_network(control, "mn", "10.0.0.0/24")
    where = f"remote,ip=127.0.0.1,port={control.ofp_port}"
    line = ["--controller", where, "--switch", "ovs,datapath=user,protocols=OpenFlow13", "--test", "pingall"]
    mn = [*DIES_WITH_US, str(Path(sys.executable).with_name("mn")), *line]
    pairs = {"single,3": 6, "linear,2": 2}
    for more in (["single,3"], ["single,3"], ["linear,2"], ["single,3", "--arp"]):
        run = subprocess.run(
            [*mn, "--topo", *more], capture_output=True, text=True, timeout=120, check=False, env=environment()
        )
        said, count = run.stdout + run.stderr, pairs[more[0]]
        assert f"Results: 0% dropped ({count}/{count} received)" in said, f"{more}: {said}"


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
