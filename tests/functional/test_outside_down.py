"""What `make down` leaves of the agent's work in the host's kernel: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netctl.agent import kernel_rules
from netctl.agent.kernel_rules import KernelRules
from tests.kit.controller import ROOT
from tests.kit.hosts import inside
from tests.kit.ovs import PREFIX, run

DOWN = """
set -euo pipefail
. scripts/lib.sh; . scripts/daemons.sh; . scripts/outside.sh
left=() LOG_DIR={0} STATE_DIR={0}
docker_answers() {{ {1}; }}
take_rules_down
take_forwarding_down
printf '%s\\n' "${{left[@]}}"
"""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@pytest.fixture
def netns() -> Iterator[str]:
    """A machine, of which only the kernel's network matters; it forwards."""
    name = f"{PREFIX}-down"
    run("ip", "netns", "add", name)
    try:
        execute(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        execute(name, "iptables", "-A", "FORWARD", "-s", "192.0.2.0/24", "-j", "ACCEPT")
        yield name
    finally:
        run("ip", "netns", "delete", name)


def execute(netns: str, *command: str) -> str:
    """There."""
    return run("nsenter", f"--net=/run/netns/{netns}", *command)


def rules(netns: str) -> list[str]:
    """All rules and chains, of both families."""
    said = "".join(execute(netns, program, "-t", t) for program in PROGRAMS for t in ("filter", "nat"))
    return [line.partition(" [")[0] for line in said.splitlines() if line[0] in ":-"]


PROGRAMS = ("iptables-save", "ip6tables-save")


def down(netns: str, directory: Path, docker: str = "false") -> str:
    """What of it could not be removed. ``docker``: whether Docker goes on running."""
    return execute(netns, "bash", "-c", f"cd {ROOT}; {DOWN.format(directory, docker)}").strip()


def test_other_peoples_rules_stay_and_ours_go(netns: str, tmp_path: Path) -> None:
    """A machine would go on to drop or translate packets for a system that is no more."""
    before = rules(netns)
    with inside(netns):
        assert KernelRules().ensure(kernel_rules.wanted("br-netctl", ()))
        assert KernelRules("ip6tables").ensure(kernel_rules.wanted6("br-netctl"))
    assert rules(netns) != before

    assert down(netns, tmp_path) == ""
    assert rules(netns) == before
    assert down(netns, tmp_path) == "", "a second time, there is nothing to be done"


@pytest.mark.parametrize(
    ("mark", "docker", "forwards"),
    [("this boot", "false", "0"), ("this boot", "true", "1"), ("another boot", "false", "1"), ("", "false", "1")],
)
def test_forwarding_is_as_it_was(netns: str, tmp_path: Path, mark: str, docker: str, forwards: str) -> None:
    """A machine that was no router would be one from now on; or Docker's containers would be cut off."""
    file = tmp_path / "forwarding"
    if mark:
        file.write_text(BOOT_ID.read_text() if mark == "this boot" else mark)

    down(netns, tmp_path, docker)

    assert execute(netns, "sysctl", "-n", "net.ipv4.ip_forward").strip() == forwards
    assert not file.exists()
