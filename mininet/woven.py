"""Plans of several switches, and what each is tested for: a host at every edge, in two networks by turns, and a
service over half of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from checks import Checks
from fabric import Fabric, HostPlan, Plan, ServicePlan, Subnets

PORT, TARGET = 8080, 80
WEB = {"tier": "web"}


def plan(links: Sequence[tuple[str, str]], edges: Sequence[str]) -> Callable[[Subnets], Plan]:
    """One host a switch in ``edges``, in the networks red and blue by turns."""

    def made(subnets: Subnets) -> Plan:
        services = subnets.network("srv", 0, gateway=False)
        networks = [subnets.network(name, n) for n, name in enumerate(("red", "blue"), 1)]
        app = ServicePlan("app", services, PORT, TARGET, WEB)
        hosts = [
            HostPlan(f"h{n}", networks[n % 2], networks[n % 2].address(n), WEB if n % 4 in (1, 2) else {}, switch)
            for n, switch in enumerate(edges, 1)
        ]
        return Plan((services, *networks), (app,), tuple(hosts), tuple(links))

    return made


def tests(*cut: int) -> Callable[[Checks, Fabric, dict[str, str], int], None]:
    """All pairs of hosts and the VIP, with all links, while those of these numbers are down, and after."""

    def run(check: Checks, fabric: Fabric, vips: dict[str, str], connections: int) -> None:
        providers = [host.name for host in fabric.plan.hosts if host.labels]
        each = max(1, connections // len(fabric.plan.hosts))

        def reached(when: str) -> None:
            check.all_pairs(when)
            check.vip_from_everywhere(when, vips["app"], PORT, providers, each)

        reached("at first")
        for number in cut:
            check.link(number, "down")
        if cut:
            reached("with that down")
        for number in cut:
            check.link(number, "up")
        if cut:
            reached("up again")

    return run
