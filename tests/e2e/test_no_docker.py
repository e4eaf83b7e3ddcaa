"""`make run` and `make demo` where something of Docker is missing: what works is there, and the reason for the rest."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.kit.controller import ROOT

# A machine of its own: mounts, network and processes. There is no apt-get, as if there were no network.
MACHINE = """
set -eu
for place in /run /etc/openvswitch /var/lib/{docker,containerd,netctl,openvswitch} /var/log/{netctl,openvswitch}; do
  mkdir -p $place && mount -t tmpfs -o mode=755 tmpfs $place
done
mkdir -p /run/lock /run/netns
number=0
for place in /usr/bin /usr/sbin /usr/local/bin; do
  number=$((number + 1))
  mkdir -p /run/over/$number/{upper,work}
  mount -t overlay -o lowerdir=$place,upperdir=/run/over/$number/upper,workdir=/run/over/$number/work overlay $place
done
mount --bind .venv .venv && mount -o remount,bind,ro .venv
ip link set lo up
rm /usr/bin/apt-get
"""
SECONDS = 60  # for all that `make run` does; it was two minutes for a daemon alone


def on_a_machine(script: str, timeout: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """What is said there. Its programs end with it."""
    command = ["unshare", "-mnpuif", "--kill-child", "--mount-proc", "--propagation", "private"]
    return subprocess.run(
        [*command, "bash", "-c", f"{MACHINE}\n{script}"],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_without_the_command_docker() -> None:
    """On Debian 13 a user would have no host at all: the command is a package of its own there."""
    remove = 'while found=$(command -v docker); do rm "$found"; hash -r; done'
    work = "scripts/run; netctl net create n1 -s 10.1.1.0/24; scripts/demo && exit 9; scripts/down"
    done = on_a_machine(f"{remove}; {work}", 4 * SECONDS)  # four commands
    assert "agent          host " in done.stdout, done.stdout + done.stderr
    assert "the command docker is not installed (Debian's package docker-cli)" in done.stdout
    assert "Creating network default:n1" in done.stdout
    assert "demo: the walk-through types the command docker, which is not installed here" in done.stderr
    assert done.returncode == 0 and "netctl is down: " in done.stdout, done.stderr


FROZEN = """
dockerd --bridge=none --iptables=false --ip6tables=false >/run/dockerd.log 2>&1 & daemon=$!
until docker version >/dev/null 2>&1; do sleep 0.1; done
kill -STOP $daemon
"""
BROKEN = {
    "no engine": ("rm /usr/sbin/dockerd", "Docker Engine is not installed: dockerd, of Debian's package docker.io"),
    "dockerd": ("mount -o remount,ro /var/lib/docker", "dockerd does not start: .*read-only file system"),
    "containerd": ("mount -o remount,ro /var/lib/containerd", "containerd does not start: .*read-only file system"),
    "dockerd hangs": (FROZEN, "the Docker daemon at /run/docker.sock does not answer within 4 s"),
}


@pytest.mark.parametrize(("breaks", "reason"), BROKEN.values(), ids=BROKEN)
def test_without_an_engine(breaks: str, reason: str) -> None:
    """A user would wait for minutes and be told another reason, or none; and make demo would say less."""
    done = on_a_machine(f"{breaks}\nscripts/demo")
    said = done.stderr.splitlines()
    assert re.search(f"No Docker daemon here: {reason}", done.stderr), done.stdout + done.stderr
    assert "netctl runs.\n" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
    assert said[-1].startswith("demo: the walk-through needs a Docker host, and "), done.stderr


def test_the_plugin_s_place_is_taken() -> None:
    """Docker would look for the networks in a file, and make run would say that the agent does not get there."""
    done = on_a_machine("mkdir -p /run/docker/plugins/netctl.sock; scripts/run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "/run/docker/plugins/netctl.sock is there and is not a socket" in done.stderr


def test_a_dead_plugin_s_socket() -> None:
    """After a crash no container could start in our networks any more."""
    leave = "import socket; socket.socket(socket.AF_UNIX).bind('/run/docker/plugins/netctl.sock')"
    done = on_a_machine(f'mkdir -p /run/docker/plugins; python3 -c "{leave}"; scripts/run')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agent          host " in done.stdout
