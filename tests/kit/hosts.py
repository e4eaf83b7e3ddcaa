"""Network namespaces as hosts: each with an ``eth0`` plugged into a bridge, servers inside, sockets to the inside.

    with host("w1", instance, bridge, "10.1.1.1/24", gateway="10.1.1.254") as web, host("c1", …) as client:
        web.register(rest, "web", {"tier": "web"})
        web.serve("tcp:80", "udp:53")
        client.ask("tcp", "10.1.1.1", 80)   # "w1 20.1.1.1 41234": who answered, and whom it saw

Sockets are opened inside by the test's own process, so a test has them in its hands.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from netctl.client import Client
from tests.kit.controller import DIES_WITH_US
from tests.kit.ovs import PREFIX, Instance, run, wait_for_live
from tests.kit.wide import wide
from topology.reports import EndpointDoc

ECHO = Path(__file__).with_name("echo.py")
ETH_P_ALL = 3
IP_RECVERR, IPV6_RECVERR = 11, 25  # Linux
TIMEOUT = 3.0
ETH0 = {"disable_ipv6": "0", "accept_dad": "0", "router_solicitations": "0", "autoconf": "0"}
"""How a host with IPv6 has it: its addresses can be used at once, and it asks for nothing."""

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(netns: str) -> Iterator[None]:
    """The calling thread's network is that namespace's meanwhile; a socket opened there stays there."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{netns}") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "can't enter a network namespace")


class Namespace:
    """A network namespace that has a name, with servers and clients in it."""

    def __init__(self, name: str, netns: str, ip: str) -> None:
        self.name = name
        self.netns = netns
        self.ip = ip
        self.ip6 = ""
        self._servers: list[subprocess.Popen[str]] = []

    def serve(self, *ports: str) -> None:
        """Servers that answer with this host's name, at ports such as ``tcp:80``."""
        enter = ("nsenter", f"--net=/run/netns/{self.netns}")
        server = subprocess.Popen(
            [*DIES_WITH_US, *enter, sys.executable, "-I", str(ECHO), self.name, *ports],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", f"no server at {self.name} {ports}"

    def stop_serving(self) -> None:
        """End the servers; the host itself stays."""
        for server in self._servers:
            server.kill()
            server.wait(10)
            assert server.stdout is not None
            server.stdout.close()
        self._servers.clear()

    def signal_servers(self, number: int) -> None:
        """Stop them as a container is paused, and let them go on."""
        for server in self._servers:
            server.send_signal(number)

    def address(self, version: int) -> str:
        """Its address of a family; empty: it has none."""
        return self.ip if version == 4 else self.ip6

    def open(self, kind: str, source_port: int = 0, timeout: float = TIMEOUT, version: int = 4) -> socket.socket:
        """A socket inside: ``tcp``, ``udp``, or ``raw`` for frames as they are."""
        with inside(self.netns):
            if kind == "raw":
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                made.bind(("eth0", 0))
            else:
                family = socket.AF_INET if version == 4 else socket.AF_INET6
                made = socket.socket(family, {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[kind])
                if source_port:
                    # not without: the kernel could give two UDP sockets the same port, and one of them all answers
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    made.bind((self.address(version), source_port))
        made.settimeout(timeout)
        return made

    def ears(self, wanted: bytes) -> Callable[[float], bool]:
        """From now on; what it returns tells whether a frame with that in it has come, or comes in so many s."""
        ears = self.open("raw")

        def heard(timeout: float) -> bool:
            until = time.monotonic() + timeout
            with ears:
                while select.select([ears], [], [], max(0.0, until - time.monotonic()))[0]:
                    frame, address = ears.recvfrom(65535)
                    if address[2] != socket.PACKET_OUTGOING and wanted in frame:
                        return True
            return False

        return heard

    def connect(
        self, kind: str, address: str, port: int, source_port: int = 0, timeout: float = TIMEOUT
    ) -> socket.socket:
        """A connection from inside; OSError where there is none."""
        made = self.open(kind, source_port, timeout, version=6 if ":" in address else 4)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def ask(self, kind: str, address: str, port: int, source_port: int = 0, timeout: float = TIMEOUT) -> str:
        """Who answers a new connection: ``NAME ADDRESS PORT``, the client as the server saw it; OSError: nobody."""
        with self.connect(kind, address, port, source_port, timeout) as connection:
            return ask_again(connection)

    def answered_by(self, names: set[str], address: str, port: int, times: int) -> bool:
        """Whether these, and no others, answer over TCP. What is begun while one of them goes may be reset."""
        with contextlib.suppress(OSError):
            return set(self.who("tcp", address, port, times)) == names
        return False

    def who(self, kind: str, address: str, port: int, times: int = 1) -> list[str]:
        """The names of those who answer as many new connections."""
        return [self.ask(kind, address, port).split()[0] for _ in range(times)]

    def reaches(self, kind: str, address: str, port: int, timeout: float = 0.5) -> bool:
        """Whether anybody answers a new connection."""
        try:
            self.ask(kind, address, port, timeout=timeout)
        except OSError:
            return False
        return True

    def error(self, kind: str, address: str, port: int = 4) -> int | None:
        """The error that a new connection or datagram gets within a second; None: no error, and no answer either."""
        six = ":" in address
        try:
            with self.open(kind, 0, 1, version=6 if six else 4) as asks:
                if kind == "udp":  # Linux tells only sockets that want to know
                    option = (socket.IPPROTO_IPV6, IPV6_RECVERR) if six else (socket.IPPROTO_IP, IP_RECVERR)
                    asks.setsockopt(*option, 1)
                asks.connect((address, port))
                asks.send(b"x")
                asks.recv(100)
        except TimeoutError:
            return None
        except OSError as error:
            return error.errno
        raise AssertionError(f"{address} answered")

    def pings(self, address: str, *options: str) -> bool:
        """Whether all of a few echo requests are answered."""
        enter = ("nsenter", f"--net=/run/netns/{self.netns}")
        text = run(*enter, "ping", "-c", "3", "-i", "0.1", "-W", "2", *options, address, check=False)
        return " 0% packet loss" in text


class Host(Namespace):
    """One host. ``name`` is at most five letters: interface names are short.

    With ``ipv6`` it has the address and gateway that go with its IPv4 ones (`tests.kit.wide`) as well.
    """

    def __init__(
        self, name: str, instance: Instance, bridge: str, address: str, gateway: str = "", *, ipv6: bool = False
    ) -> None:
        super().__init__(name, f"{PREFIX}-{name}", address.partition("/")[0])
        self.instance = instance
        self.bridge = bridge
        self.cidr = address
        self.gateway = gateway
        self.port_name = f"{PREFIX}{name}"
        self.mac = ""
        self.ip6 = wide(self.ip) if ipv6 else ""

    def start(self) -> None:
        """Make the namespace, with its interface set up but not plugged in."""
        run("ip", "netns", "add", self.netns)
        with inside(self.netns):
            # no packets but those that a test wants
            for scope in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        pair = ("link", "add", self.port_name, "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        self.instance.ip(*pair)
        with inside(self.instance.netns) if self.instance.netns else contextlib.nullcontext():
            # as the agent does: the switch's end is no host's
            Path(f"/proc/sys/net/ipv6/conf/{self.port_name}/disable_ipv6").write_text("1")
        self.instance.ip("link", "set", self.port_name, "up")
        enter = ("nsenter", f"--net=/run/netns/{self.netns}")
        run(*enter, "ethtool", "-K", "eth0", "tx", "off")
        with inside(self.netns):
            for name, value in ETH0.items() if self.ip6 else ():
                Path(f"/proc/sys/net/ipv6/conf/eth0/{name}").write_text(value)
        for command in (
            "link set lo up",
            f"address add {self.cidr} dev eth0",
            *([f"address add {self.ip6}/64 dev eth0 nodad"] if self.ip6 else []),
            "link set eth0 up",
            *([f"route add default via {self.gateway}"] if self.gateway else []),
            *([f"-6 route add default via {wide(self.gateway)}"] if self.ip6 and self.gateway else []),
        ):
            run("ip", "-n", self.netns, *command.split())
        with self.open("raw") as probe:
            self.mac = bytes(probe.getsockname()[4]).hex(":")

    def plug(self, number: int = 0) -> int:
        """Into the bridge, as this port number if it is given; returns the number when the port is up."""
        request = ("--", "set", "interface", self.port_name, f"ofport_request={number}") if number else ()
        self.instance.vsctl("add-port", self.bridge, self.port_name, *request)
        found = self.number
        wait_for_live(self.instance, self.bridge, found)
        return found

    def unplug(self) -> None:
        """Out of the bridge."""
        self.instance.vsctl("del-port", self.bridge, self.port_name)

    def register(
        self, rest: Client, network: str, labels: Mapping[str, str] | None = None, tenant: str = "default", **more: Any
    ) -> None:
        """As an endpoint of that network, of the id that is its name; ``more``: other fields of its document."""
        dpid = self.instance.vsctl("get", "bridge", self.bridge, "datapath_id").strip('"')
        doc = EndpointDoc(
            endpointID=self.name,
            tenantName=tenant,
            networkName=network,
            ipAddress=[self.ip, self.ip6] if self.ip6 else [self.ip],
            macAddress=self.mac,
            switch=dpid,
            portName=self.port_name,
            labels=dict(labels or {}),
        )
        rest.put_endpoint(doc | more)  # type: ignore[arg-type]

    @property
    def number(self) -> int:
        """Its OpenFlow port number."""
        return int(self.instance.vsctl("get", "interface", self.port_name, "ofport"))

    def close(self) -> None:
        """Remove everything of it."""
        self.stop_serving()
        self.instance.vsctl("--if-exists", "del-port", self.port_name)
        # the pair of interfaces would go with the namespace, but later
        run("ip", "-n", self.netns, "link", "delete", "eth0", check=False)
        run("ip", "netns", "delete", self.netns, check=False)


def ask_again(connection: socket.socket, size: int = 5) -> str:
    """What the server answers on an open connection, to a datagram or line of that size."""
    connection.sendall(b"x" * (size - 1) + b"\n")
    answer = connection.recv(65535)
    while answer and not answer.rstrip(b" ").endswith(b"\n"):
        more = connection.recv(65535)
        if not more:
            break
        answer += more
    if not answer:
        raise ConnectionError("the connection was closed without an answer")
    return answer.decode().strip()


@contextlib.contextmanager
def host(
    name: str, instance: Instance, bridge: str, address: str, gateway: str = "", *, number: int = 0,
    ipv6: bool = False,
) -> Iterator[Host]:
    """A host that is plugged in; gone at the end."""
    made = Host(name, instance, bridge, address, gateway, ipv6=ipv6)
    try:
        made.start()
        made.plug(number)
        yield made
    finally:
        made.close()
