"""Switches of a fabric in one Open vSwitch of our own: bridges joined by cables, and hosts at them.

    with weave(directory, instance, ["s1", "s2"], [("s1", "s2")]) as it:
        it.network("web", "10.1.1.0/24", "10.1.1.254")
        it.host("w1", "s1", "web", "10.1.1.1")
        it.cable(0, "down")
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.kit.controller import Controller, controller
from tests.kit.hosts import Host, host
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private
from topology.documents import NetworkDoc, ServiceDoc


class Weave:
    """Switches, cables, hosts, and their controllers; ``control`` is the one that is asked."""

    def __init__(self, instance: Private, controllers: Sequence[Controller], stack: contextlib.ExitStack) -> None:
        self.instance = instance
        self.control = controllers[0]
        self._targets = [each.target for each in controllers]
        self.bridges: dict[str, str] = {}
        self.dpids: dict[str, str] = {}
        self._stack = stack
        self._cables: list[tuple[str, str]] = []
        self._networks: dict[str, tuple[str, str]] = {}

    def switch(self, name: str) -> None:
        """One more switch."""
        self.bridges[name] = bridge = self._stack.enter_context(self.instance.bridge(name))
        self.dpids[name] = self.instance.vsctl("get", "bridge", bridge, "datapath_id").strip('"')

    def join(self, one: str, other: str) -> None:
        """A cable between two switches."""
        number = len(self._cables)
        ends = (f"cable{number}a", f"cable{number}b")
        self.instance.ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        self._stack.callback(self.instance.ip, "link", "delete", ends[0])
        for end, switch in zip(ends, (one, other), strict=True):
            self.instance.ip("link", "set", end, "addrgenmode", "none", "up")
            self.instance.vsctl("add-port", self.bridges[switch], end)
        self._cables.append(ends)

    def connect(self) -> None:
        """Tell all switches of their controllers, and wait until all links are known."""
        for bridge in self.bridges.values():
            self.instance.vsctl("set-controller", bridge, *self._targets)
            for uuid in self.instance.vsctl("get", "bridge", bridge, "controller").strip("[]").split(", "):
                self.instance.vsctl("set", "controller", uuid, "max_backoff=1000")
        self.wait_for_cables(*range(len(self._cables)))

    def cable(self, number: int, state: str) -> None:
        """A cable is ``down`` or ``up`` at both ends."""
        for end in self._cables[number]:
            self.instance.ip("link", "set", end, state)

    def end(self, number: int) -> str:
        """The interface at a cable's first end."""
        return self._cables[number][0]

    def wait_for_cables(self, *numbers: int) -> None:
        """Until exactly these are links, and all switches have what follows from it."""
        wanted = {frozenset(self._cables[number]) for number in numbers}

        def known() -> bool:
            documents = [self.control.switch(dpid) for dpid in self.dpids.values()]
            links = {frozenset((link["port"], link["peer"])) for d in documents for link in d.get("links", ())}
            return links == wanted and all(d.get("settled") for d in documents)

        wait_for(known, f"exactly the cables {numbers} to be links")

    def network(self, name: str, subnet: str, gateway: str = "") -> None:
        """Make a network."""
        doc = NetworkDoc(tenantName="default", networkName=name, subnet=subnet, gateway=gateway)
        self.control.client.put_network(doc)
        self._networks[name] = (subnet.partition("/")[2], gateway)

    def service(self, name: str, network: str, ports: Sequence[str], selectors: Sequence[str]) -> str:
        """Make a service; its VIP."""
        doc = ServiceDoc(
            tenantName="default", serviceName=name, networkName=network, selectors=list(selectors), ports=list(ports)
        )
        return self.control.client.put_service(doc)["serviceVip"]

    def host(
        self,
        name: str,
        switch: str,
        network: str,
        address: str,
        labels: Mapping[str, str] | None = None,
        *,
        serve: Sequence[str] = (),
        register: bool = True,
    ) -> Host:
        """A host at a switch."""
        prefix, gateway = self._networks[network]
        made = host(name, self.instance, self.bridges[switch], f"{address}/{prefix}", gateway)
        found = self._stack.enter_context(made)
        if register:
            found.register(self.control.client, network, labels)
        if serve:
            found.serve(*serve)
        return found

    def contents(self) -> dict[str, tuple[list[str], list[str]]]:
        """What is in each switch."""
        out = {}
        for name, bridge in self.bridges.items():
            flows = self.instance.ofctl("--no-stats", "dump-flows", bridge).splitlines()
            groups = self.instance.ofctl("dump-groups", bridge).splitlines()
            out[name] = (sorted(flows[1:]), sorted(groups[1:]))
        return out


@contextlib.contextmanager
def weave(
    directory: Path,
    instance: Private,
    switches: Sequence[str],
    cables: Sequence[tuple[str, str]],
    controllers: Sequence[Controller] = (),
) -> Iterator[Weave]:
    """A fabric whose switches are connected, with all cables up; to a controller of its own where none are given."""
    with contextlib.ExitStack() as stack:
        alone = () if controllers else (stack.enter_context(controller(directory, instance.controller_host)),)
        made = Weave(instance, controllers or alone, stack)
        for name in switches:
            made.switch(name)
        for one, other in cables:
            made.join(one, other)
        made.connect()
        yield made
