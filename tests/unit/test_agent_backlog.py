"""What a switch that is a process has not read yet, as this machine's kernel says."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from netctl.agent.backlog import unread
from netctl.agent.netns import inside
from tests.kit.ovs import run, wait_for

ETH_P_ALL = 3


@pytest.fixture
def apart() -> Iterator[None]:
    """In a network namespace of its own, with its loopback interface up."""
    with subprocess.Popen(["unshare", "-n", "sleep", "60"]) as sleeper:
        try:
            path = f"/proc/{sleeper.pid}/ns/net"
            wait_for(lambda: os.readlink(path) != os.readlink("/proc/self/ns/net"), "it to be apart")
            run("nsenter", f"--net={path}", "ip", "link", "set", "lo", "up")
            with inside(path):
                yield
        finally:
            sleeper.kill()


def test_what_a_packet_socket_holds(apart: None) -> None:
    """Docker would take an interface whose last packets, the resets of its connections, nobody has passed on."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as switch,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        switch.bind(("lo", ETH_P_ALL))
        assert unread("lo") == 0
        sender.sendto(b"x" * 100, ("127.0.0.1", 9))
        wait_for(lambda: unread("lo") >= 100, "the packet to be there")
        switch.setblocking(False)

        def read() -> bool:
            try:
                switch.recv(2000)
            except BlockingIOError:
                return not unread("lo")
            return False

        wait_for(read, "all to be read")


@pytest.mark.parametrize("interface", ["lo", "nv0123456789ab"])
def test_nobody_holds_anything(apart: None, interface: str) -> None:
    """Each `docker network disconnect` would take a second longer."""
    assert unread(interface) == 0
