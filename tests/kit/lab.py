"""A controller, one switch and hosts: what a functional test stands on.

    with lab(directory, instance, "reach") as it:
        it.network("web", "10.1.1.0/24", "10.1.1.254")
        web = it.host("w1", "web", "10.1.1.1", {"tier": "web"})
        vip = it.service("app", "srv", ["8080:80:TCP"], ["tier=web"])
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from netctl.client import Client
from tests.kit.controller import Controller, controller
from tests.kit.hosts import Host, host
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private
from tests.kit.wide import wide
from topology.documents import NetworkDoc, ServiceDoc

CLOSED = "tcp:127.0.0.1:1"
"""A controller that is never there."""


class FlowLine(NamedTuple):
    """One flow in the switch, as ovs-ofctl shows it."""

    cookie: int
    table: int
    packets: int
    priority: int
    match: str
    actions: str


_FLOW = re.compile(r"cookie=(0x[0-9a-f]+),.* table=(\d+), n_packets=(\d+),.* priority=(\d+),?(\S*) actions=(.*)")


class Lab:
    """One bridge with its controller, and what is plugged into it."""

    def __init__(self, instance: Private, bridge: str, ctl: Controller, stack: contextlib.ExitStack) -> None:
        self.instance = instance
        self.bridge = bridge
        self.controller = ctl
        self.dpid = instance.vsctl("get", "bridge", bridge, "datapath_id").strip('"')
        self._stack = stack
        self._networks: dict[tuple[str, str], tuple[str, str, bool]] = {}

    @property
    def rest(self) -> Client:
        """The controller's REST."""
        return self.controller.client

    def connect(self) -> None:
        """Tell the switch of its controller, and wait until the model is in the switch."""
        self.instance.vsctl("set-controller", self.bridge, self.controller.target)
        self.instance.vsctl("set", "controller", self.bridge, "max_backoff=1000")
        self.settled()

    def disconnect(self) -> None:
        """Tell the switch of another controller: it keeps its flows, as it does while its own is away."""
        self.instance.vsctl("set-controller", self.bridge, CLOSED)
        wait_for(lambda: not self.controller.switch(self.dpid), "the switch to be gone")

    def settled(self) -> dict[str, Any]:
        """Wait until the switch is connected and carries out the model; its REST document."""
        return self.controller.wait_for_switch(self.dpid)

    def network(
        self, name: str, subnet: str, gateway: str = "", tenant: str = "default", *, nat: bool = False,
        nat_host: bool = False, ipv6: bool = False, internal: bool = False,
    ) -> None:
        """Make a network; with ``ipv6``, also with the subnet and gateway that go with its IPv4 ones."""
        doc = NetworkDoc(tenantName=tenant, networkName=name, subnet=subnet, gateway=gateway, nat=nat)
        doc["internal"] = internal
        doc["natHost"] = nat_host
        if ipv6:
            doc |= NetworkDoc(ipv6Subnet=wide(subnet), ipv6Gateway=wide(gateway))
        self.rest.put_network(doc)
        self._networks[tenant, name] = (subnet.partition("/")[2], gateway, ipv6)

    def service(
        self,
        name: str,
        network: str,
        ports: Sequence[str],
        selectors: Sequence[str],
        *,
        tenant: str = "default",
        vip: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """Make or change a service; its VIP. ``options``: more fields of its document.

        In a network with IPv6, a VIP that is asked for brings the IPv6 one that goes with it.
        """
        doc = ServiceDoc(
            tenantName=tenant,
            serviceName=name,
            networkName=network,
            ipAddress=vip,
            selectors=list(selectors),
            ports=list(ports),
        )
        if vip and self._networks[tenant, network][2]:
            doc["ipv6Address"] = wide(vip)
        self.rest.put_service(doc | (options or {}))  # type: ignore[operator]
        return next(
            s["serviceVip"] for s in self.rest.services() if (s["tenantName"], s["serviceName"]) == (tenant, name)
        )

    def host(
        self,
        name: str,
        network: str,
        address: str,
        labels: Mapping[str, str] | None = None,
        tenant: str = "default",
        *,
        serve: Sequence[str] = (),
        register: bool = True,
        **more: Any,
    ) -> Host:
        """A host that is plugged in, registered, and serves at ports such as ``tcp:80``; ``more``: fields of its
        document.
        """
        prefix, gateway, ipv6 = self._networks[tenant, network]
        made = self._stack.enter_context(
            host(name, self.instance, self.bridge, f"{address}/{prefix}", gateway, ipv6=ipv6)
        )
        if register:
            made.register(self.rest, network, labels, tenant, **more)
        if serve:
            made.serve(*serve)
        return made

    def flows(self, *what: str) -> list[FlowLine]:
        """The flows in the switch, or those that ``what`` describes to ovs-ofctl."""
        lines = self.instance.ofctl("dump-flows", self.bridge, *what).splitlines()
        found = [_FLOW.search(line.replace("reset_counts ", "")) for line in lines]
        return [FlowLine(int(f[1], 16), int(f[2]), int(f[3]), int(f[4]), f[5], f[6]) for f in found if f]

    def groups(self) -> list[str]:
        """The groups in the switch, a line each, sorted."""
        lines = self.instance.ofctl("dump-groups", self.bridge).splitlines()
        return sorted(line.strip() for line in lines if "group_id=" in line)

    def packet_ins(self) -> int:
        """How many packets its flows have sent to the controller; counted up to half a second late."""
        return sum(f.packets for f in self.flows() if "CONTROLLER" in f.actions)

    def contents(self) -> tuple[set[tuple[int, int, int, str, str]], list[str]]:
        """Flows without their counters, and groups: all that there is to compare."""
        return {(f.cookie, f.table, f.priority, f.match, f.actions) for f in self.flows()}, self.groups()


@contextlib.contextmanager
def lab(directory: Path, instance: Private, name: str = "br", *options: str) -> Iterator[Lab]:
    """A lab whose switch is connected; ``options``: more of the controller's."""
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(instance.bridge(name))
        ctl = stack.enter_context(controller(directory, instance.controller_host, *options))
        made = Lab(instance, bridge, ctl, stack)
        instance.flush_conntrack()
        made.connect()
        yield made
