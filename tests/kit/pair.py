"""Two hosts joined by a tunnel, with containers of both families on them and services over both.

    with pair(directory) as world:
        world["c1"].ask("tcp", of_family(version, FAR_VIP), 8080)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit.controller import Controller
from tests.kit.hosts import Host, Namespace
from tests.kit.nodes import Node, nodes
from tests.kit.ovs import run, wait_for
from tests.kit.wide import wide
from topology.documents import NetworkDoc, ServiceDoc

VIP, FAR_VIP = "100.1.1.1", "100.1.1.2"  # of all providers, of those on b
PORTS = ("8080:80:TCP", "53:5353:UDP")
SERVE = ("tcp:80", "udp:5353", "tcp:22", "udp:99")
WEB = {"tier": "web"}
NETWORKS = {  # name → subnet, gateway
    "srv": ("100.1.1.0/24", ""),
    "web": ("10.1.1.0/24", "10.1.1.254"),
    "cli": ("20.1.1.0/24", "20.1.1.254"),
    "near": ("30.1.1.0/24", "30.1.1.254"),
}


@dataclass
class World:
    """Two hosts, a and b; w1 and c1 on a, w2, w3 and c2 on b, o2 on b without a service; n1 alone in its network."""

    control: Controller
    a: Node
    b: Node
    host: Namespace  # a, as its own programs see it
    hosts: dict[str, Host]

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def flush(self) -> None:
        """Nothing is tracked any more, and nothing is known of any path."""
        for node in (self.a, self.b):
            node.instance.flush_conntrack()
        for host in self.hosts.values():
            for family in ("-4", "-6"):
                run("ip", "-n", host.netns, family, "route", "flush", "cache")


@contextlib.contextmanager
def pair(directory: Path) -> Iterator[World]:
    """The two hosts; their containers reach each other."""
    with nodes(directory, "a", "b") as (control, (a, b)):
        rest = control.client
        for name, (subnet, gateway) in NETWORKS.items():
            doc = NetworkDoc(tenantName="default", networkName=name, subnet=subnet, gateway=gateway, encap="vxlan")
            rest.put_network(doc | NetworkDoc(ipv6Subnet=wide(subnet), ipv6Gateway=wide(gateway)))
        for name, vip, selectors in (("app", VIP, ["tier=web"]), ("far", FAR_VIP, ["tier=web", "side=b"])):
            rest.put_service(
                ServiceDoc(
                    tenantName="default", serviceName=name, networkName="srv", ipAddress=vip, ipv6Address=wide(vip),
                    selectors=selectors, ports=list(PORTS),
                )
            )  # fmt: skip
        # first: the switch reads its host's routes anew, and has none for its tunnels meanwhile
        itself = a.itself(control, [of for subnet, _ in NETWORKS.values() for of in (subnet, wide(subnet))])
        made = {}
        for node, name, network, address, labels in (
            (a, "w1", "web", "10.1.1.1/24", WEB | {"side": "a"}),
            (b, "w2", "web", "10.1.1.2/24", WEB | {"side": "b"}),
            (b, "w3", "web", "10.1.1.3/24", WEB | {"side": "b"}),
            (b, "o2", "web", "10.1.1.9/24", {}),
            (a, "c1", "cli", "20.1.1.1/24", {}),
            (b, "c2", "cli", "20.1.1.2/24", {}),
            (a, "n1", "near", "30.1.1.1/24", {}),
        ):
            gateway = NETWORKS[network][1]
            made[name] = node.host(
                control, name, network, address, gateway=gateway, labels=labels, serve=SERVE, ipv6=True
            )
        for address in (made["o2"].ip, made["o2"].ip6):
            wait_for(lambda to=address: made["c1"].reaches("tcp", to, 22), "the tunnel to be up")  # type: ignore[misc]
        yield World(control, a, b, itself, made)
