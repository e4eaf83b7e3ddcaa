"""The sockets of a namespace as this machine's kernel tells them, and connections that are reset."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from netctl.agent.netns import inside
from netctl.agent.sockdiag import Sockets, sockets
from tests.kit.ovs import wait_for

OWN = "/proc/self/ns/net"
# the server's address, and what the client connects to
PAIRS = [("127.0.0.77", "127.0.0.77"), ("::1", "::1"), ("::", "127.0.0.78")]


@pytest.fixture
def found() -> Iterator[Sockets]:
    with sockets(OWN) as made:
        yield made


@pytest.mark.parametrize(("bound", "address"), PAIRS, ids=["IPv4", "IPv6", "dual stack"])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_connection_is_reset(found: Sockets, bound: str, address: str, *, accepted: bool) -> None:
    """A client would wait for ever for a provider that has left its network."""
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.create_server((bound, 0), family=family, dualstack_ipv6=bound == "::") as server:
        port = server.getsockname()[1]
        with socket.create_connection((address, port), 20) as client:
            held = server.accept()[0] if accepted else server
            (one,) = [s for s in found.connections([ip_address(address)]) if port_of(s.identity) == port]
            found.reset([one])
            found.reset([one])  # it has gone already
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            held.close()


def port_of(identity: bytes) -> int:
    """The near end's."""
    return int.from_bytes(identity[:2], "big")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_whether_a_namespace_is_in_use(kind: socket.SocketKind) -> None:
    """Each `docker stop` would wait for connections that have ended; or a provider that only listens not be drained."""
    with subprocess.Popen(["unshare", "-n", "sleep", "60"]) as apart:
        try:
            path = f"/proc/{apart.pid}/ns/net"
            wait_for(lambda: os.readlink(path) != os.readlink(OWN), "it to be apart")
            with sockets(path) as found:
                assert not found.in_use()
                with inside(path):
                    server = socket.socket(socket.AF_INET, kind)
                with server:
                    server.bind(("0.0.0.0", 0))
                    if kind == socket.SOCK_STREAM:
                        assert not found.in_use()
                        server.listen()
                    assert found.in_use()
                assert not found.in_use()
        finally:
            apart.kill()


def test_a_namespace_that_is_not_there() -> None:
    """A container that has ended would be an error of ours."""
    with pytest.raises(OSError), sockets("/proc/self/ns/none"):
        pass
