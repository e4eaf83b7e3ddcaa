"""A bridge with its controller, one client and providers in namespaces, and three ways to the first provider."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.kit.controller import DIES_WITH_US
from tests.kit.hosts import Host
from tests.kit.lab import Lab, lab
from tests.kit.ovs import run, wait_for
from tests.kit.private_ovs import private

SERVER = Path(__file__).with_name("server.py")
SERVER_PROCESSES = 2
WEB, BULK = 80, 5201  # the provider's service ports
PLAIN_WEB, PLAIN_BULK = 81, 5202  # ports of the provider that no service uses


class Way(NamedTuple):
    """One way from the client to the provider: its name, and the address and ports that the client uses."""

    name: str
    address: str
    web: int
    bulk: int


class Stage:
    """What the data path is measured on."""

    def __init__(self, it: Lab, client: Host, provider: Host, vip: str, spread_vip: str) -> None:
        self.lab = it
        self.client = client
        self.provider = provider
        self.plain = Way("straight, a port of no service", provider.ip, PLAIN_WEB, PLAIN_BULK)
        self.beside = Way("straight, the service port", provider.ip, WEB, BULK)
        self.vip = Way("VIP", vip, 8080, 8081)
        self.spread = Way("VIP", spread_vip, 8080, 0)

    @property
    def ways(self) -> tuple[Way, Way, Way]:
        """All ways to the one provider, the VIP last."""
        return self.plain, self.beside, self.vip


def inside(host: Host, *command: str) -> list[str]:
    """The command line that runs ``command`` at ``host`` and ends with us."""
    return [*DIES_WITH_US, "nsenter", f"--net=/run/netns/{host.netns}", *command]


@contextlib.contextmanager
def _server(host: Host, *command: str) -> Iterator[None]:
    with subprocess.Popen(inside(host, *command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline(), f"no server at {host.name}"
            yield
        finally:
            made.kill()


def _tune(host: Host) -> None:
    # No closed connections are remembered: conntrack, which keeps a client's port from being used twice, is flushed
    # between the rounds, and the provider would take a new connection, come another way, for an old one.
    for setting in (
        "net.ipv4.ip_local_port_range=1024 65535",
        "net.core.somaxconn=4096",
        "net.ipv4.tcp_max_tw_buckets=0",
    ):
        run(*inside(host, "sysctl", "-qw", setting))


@contextlib.contextmanager
def stage(directory: Path, providers: int = 4) -> Iterator[Stage]:
    """A stage whose servers listen: one service over the first provider alone, one over all of them."""
    with contextlib.ExitStack() as stack:
        it = stack.enter_context(lab(directory, stack.enter_context(private("b")), "br"))
        it.network("srv", "100.1.1.0/24")
        it.network("web", "10.1.1.0/24", "10.1.1.254")
        it.network("cli", "20.1.1.0/24", "20.1.1.254")
        client = it.host("c1", "cli", "20.1.1.1")
        hosts = [it.host(f"w{n}", "web", f"10.1.1.{n}", {"all": "yes", "one": str(n)}) for n in range(1, providers + 1)]
        vip = it.service("one", "srv", [f"8080:{WEB}:TCP", f"8081:{BULK}:TCP"], ["one=1"])
        spread_vip = it.service("all", "srv", [f"8080:{WEB}:TCP"], ["all=yes"])
        it.settled()
        for host in (client, *hosts):
            _tune(host)
        for host in hosts:
            ports = [str(WEB), *([str(PLAIN_WEB)] if host is hosts[0] else [])]
            for _ in range(SERVER_PROCESSES if host is hosts[0] else 1):
                stack.enter_context(_server(host, sys.executable, "-I", str(SERVER), *ports))
        for port in (BULK, PLAIN_BULK):
            stack.enter_context(_server(hosts[0], "iperf3", "--server", "--port", str(port), "--forceflush"))
        made = Stage(it, client, hosts[0], vip, spread_vip)
        for way in (*made.ways, made.spread):
            wait_for(lambda way=way: client.reaches("tcp", way.address, way.web), f"{way.name} to answer")  # type: ignore[misc]
        yield made
