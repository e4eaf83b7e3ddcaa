"""Networks of every kind, a service, and containers in any mixture of those networks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e.machine import run, wait_for
from tests.e2e.node import IMAGE, Node
from tests.e2e.test_walkthrough import Inside
from tests.kit.hosts import Namespace

WORLD = "192.0.2.1"
"""An address that the host has, and that no network of ours leads to."""
TIMES = 20


class Mixture:
    """``front``, ``back`` and ``clients`` have gateways, ``lone`` has none, ``closed`` is internal; all have IPv6."""

    def __init__(self, host: Node, held: contextlib.ExitStack) -> None:
        self.host = host
        self._held = held
        self.vip, self.vip6 = "10.11.9.1", "fd00:9::1"
        for number, name, *more in (
            (1, "front", "-g", "10.11.1.254", "-g6", "fd00:1::fe"),
            (2, "back", "-g", "10.11.2.254", "-g6", "fd00:2::fe"),
            (3, "clients", "-g", "10.11.3.254", "-g6", "fd00:3::fe"),
            (4, "lone"),
            (5, "closed", "-g", "10.11.5.254", "-g6", "fd00:5::fe", "--internal"),
            (9, "vips"),
        ):
            subnets = ("-s", f"10.11.{number}.0/24", "-s6", f"fd00:{number}::/64")
            host.netctl("net", "create", name, *subnets, *more)
        ports = ("-p", "80:80:TCP", "-p", "53:53:UDP")
        vips = ("-s", "vips", "-ip", self.vip, "-ip6", self.vip6)
        host.netctl("service", "create", "app", *vips, "-l", "app=app", *ports)
        held.callback(host.netctl, "service", "rm", "app")
        self.client = self.run("mc", "clients")

    def bridge(self, name: str, *options: str) -> None:
        """A network of Docker's own."""
        self.host.docker("network", "create", *options, name)
        self._held.callback(self._drop, name)

    def _drop(self, name: str) -> None:
        found = self.host.docker("network", "inspect", name, "--format", "{{range .Containers}}{{.Name}} {{end}}")
        for container in found.split():
            self.host.docker("rm", "-f", container)
        self.host.docker("network", "rm", name)

    def world(self) -> Namespace:
        """The host, as a machine somewhere outside."""
        made = Namespace("world", self.host.name, WORLD)
        run("ip", "-n", self.host.name, "address", "add", f"{WORLD}/32", "dev", "lo")
        self._held.callback(run, "ip", "-n", self.host.name, "address", "del", f"{WORLD}/32", "dev", "lo")
        self._held.callback(made.stop_serving)
        made.serve("tcp:7")
        return made

    def run(self, name: str, *networks: str, connect: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> Inside:
        """A container in several networks from its start on, and connected to others when it runs."""
        self.host.docker("create", "--name", name, f"--net={networks[0]}", *options, IMAGE, "sleep", "86400")
        for network in networks[1:]:
            self.host.docker("network", "connect", network, name)
        self.host.docker("start", name)
        for network in connect:
            self.host.docker("network", "connect", network, name)
        return self.entered(name, networks[0])

    def entered(self, name: str, network: str) -> Inside:
        """A running container's inside."""
        return self._held.enter_context(Inside(self.host, name, self.host.address(name, network)))

    def provider(
        self, name: str, *networks: str, connect: tuple[str, ...] = (), datagrams: str = "udp"
    ) -> Inside:
        """A container that serves, as soon as the model knows that it does. ``datagrams``: see `tests.kit.echo`."""
        made = self.run(name, *networks, connect=connect, options=("--label=app=app",))
        made.serve("tcp:80", f"{datagrams}:53", "info:5353", "tcp:81")
        ours = {n.partition("/")[0] for n in (*networks, *connect) if n in self.host.docker_networks()}
        wait_for(lambda: self.running(name) == ours, f"{name} to run in {ours}")
        return made

    def remove(self, name: str) -> None:
        """Remove a container, until the model has it no more."""
        self.host.docker("rm", "-f", name)
        wait_for(lambda: not self.running(name), f"{name} to be gone")

    def at_the_end(self, work: Callable[..., object], *arguments: str) -> None:
        """Done when the networks are needed no more."""
        self._held.callback(work, *arguments)

    def running(self, name: str) -> set[str]:
        """In which networks the model has a container as running."""
        found = json.loads(self.host.rest("/api/v1/endpoints/"))
        return {e["networkName"] for e in found if e["containerName"] == name and e["state"] == "running"}

    def primary(self, name: str) -> list[str]:
        """The networks by which a container reaches its tenant."""
        found = json.loads(self.host.rest("/api/v1/endpoints/"))
        return sorted(e["networkName"] for e in found if e.get("containerName") == name and e.get("primary"))

    def addresses(self, name: str, *networks: str) -> list[str]:
        """A container's, of both versions."""
        found = []
        for network in networks:
            for field in ("IPAddress", "GlobalIPv6Address"):
                place = f'{{{{(index .NetworkSettings.Networks "{network}").{field}}}}}'
                found.append(self.host.docker("inspect", name, "--format", place))
        return [address for address in found if address]

    def answers(self, client: Namespace, name: str) -> None:
        """The service does, each time, in both versions, over TCP and UDP; and the ping of its VIP."""
        for address in (self.vip, self.vip6):
            for kind, port in (("tcp", 80), ("udp", 53)):
                got = [client.ask(kind, address, port).split()[0] for _ in range(TIMES)]
                assert got == [name] * TIMES, f"{address} {kind}"

    def answers_at(self, client: Namespace, name: str, *addresses: str) -> None:
        """A container does, at each address: at a service's port, at another, over UDP."""
        assert addresses
        for address in addresses:
            for kind, port in (("tcp", 80), ("tcp", 81), ("info", 5353)):
                for _ in range(TIMES):
                    said = client.ask({"info": "udp"}.get(kind, kind), address, port)
                    assert said.split()[0] == name, f"{address} {kind}:{port}"

    def rules(self, name: str) -> list[str]:
        """Rules and routes of ours in a container."""
        inside = ("nsenter", "-t", self.host.docker("inspect", name, "--format", "{{.State.Pid}}"), "-n", "ip")
        found = []
        for version in ("-4", "-6"):
            found += run(*inside, version, "rule").splitlines()
            found += run(*inside, version, "route", "show", "table", "all", "proto", "78").splitlines()
        return sorted(line.strip() for line in found)


@contextlib.contextmanager
def mixture(host: Node) -> Iterator[Mixture]:
    """All of it, until it is no more needed."""
    with contextlib.ExitStack() as held:
        yield Mixture(host, held)


def write_project(host: Node, text: str) -> Path:
    """A Compose file."""
    directory = host.directory / "project"
    directory.mkdir(exist_ok=True)
    (directory / "docker-compose.yml").write_text(text)
    return directory
