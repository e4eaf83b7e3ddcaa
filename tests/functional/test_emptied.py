"""Which network namespaces have no process any more, as the kernel knows it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netctl.agent.emptied import emptied, sees_processes_of
from netctl.agent.veth import container_end, host_end

ENDPOINT = f"{os.getpid():012x}" + "e" * 52


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def place() -> Iterator[str]:
    """A network namespace that stays, with the container's end of a pair in it."""
    name = f"emp{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("link", "add", host_end(ENDPOINT), "type", "veth", "peer", "name", container_end(ENDPOINT))
        ip("link", "set", container_end(ENDPOINT), "netns", name)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", host_end(ENDPOINT)], check=False, capture_output=True)
        ip("netns", "delete", name)


def inside(place: str, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["nsenter", f"--net=/run/netns/{place}", *command], stdout=subprocess.PIPE)


def test_a_namespace_is_empty_when_its_last_process_has_ended(place: str) -> None:
    """A dead provider would be taken for a living one, or a living one be left out of its services."""
    assert emptied([ENDPOINT]) == {ENDPOINT}
    sleeps = ("sh", "-c", "echo there; exec sleep 60")
    with inside(place, *sleeps) as first, inside(place, *sleeps) as other:
        for process in (first, other):
            assert process.stdout is not None and process.stdout.readline()
        assert emptied([ENDPOINT, "0" * 64]) == set()
        first.kill()
        assert emptied([ENDPOINT]) == set()
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        assert emptied([ENDPOINT]) == {ENDPOINT}, "a zombie serves nobody"


def test_an_interface_that_is_not_in_a_container(place: str) -> None:
    """A container that is just starting would be taken for a dead one."""
    ip("-n", place, "link", "set", container_end(ENDPOINT), "netns", str(os.getpid()))
    assert emptied([ENDPOINT]) == set()
    assert emptied([]) == set()


@pytest.mark.parametrize("url", ["tcp://10.0.0.1:2375", "unix:///nowhere/docker.sock", ""])
def test_a_docker_whose_processes_are_not_to_be_seen(url: str) -> None:
    """All its containers would be taken for dead."""
    assert not sees_processes_of(url)


def test_a_docker_beside_us(tmp_path: Path) -> None:
    """Dead containers would never be found."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen()
        assert sees_processes_of(f"unix://{tmp_path}/docker.sock")
