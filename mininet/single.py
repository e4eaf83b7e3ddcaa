"""One switch: a service over hosts of two networks, a client in a third, and hosts that nobody registers.

    h1 h2   10.210.1.1 .2   red    registered, tier=web      u1 u2  10.210.1.11 .12   red    not registered
    h3 h4   10.210.2.1 .2   blue   registered, tier=web      u3 u4  10.210.2.11 .12   blue   not registered
    c1      10.210.3.1      cli    registered

Run as root while the controller runs (`make run`): `python mininet/single.py`, or with --test.
"""

from __future__ import annotations

import sys

from checks import Checks
from fabric import Fabric, HostPlan, Plan, ServicePlan, Subnets
from script import run

WEB = {"tier": "web"}
PORT, TARGET = 8080, 80


def plan(subnets: Subnets) -> Plan:
    """Four networks of the subnet."""
    services = subnets.network("srv", 0, gateway=False)
    red, blue, clients = (subnets.network(name, n) for n, name in enumerate(("red", "blue", "cli"), 1))
    one, two = {**WEB, "version": "1"}, {**WEB, "version": "2"}
    hosts = (
        *(HostPlan(f"h{n}", red, red.address(n), one) for n in (1, 2)),
        *(HostPlan(f"h{n + 2}", blue, blue.address(n), two) for n in (1, 2)),
        HostPlan("c1", clients, clients.address(1), {}),
        *(HostPlan(f"u{n}", red, red.address(10 + n)) for n in (1, 2)),
        *(HostPlan(f"u{n}", blue, blue.address(8 + n)) for n in (3, 4)),
    )
    return Plan((services, red, blue, clients), (ServicePlan("app", services, PORT, TARGET, WEB),), hosts)


def tests(check: Checks, fabric: Fabric, vips: dict[str, str], connections: int) -> None:
    """The VIP, the gateways, and the hosts that nobody registered."""
    h1, h2, h3, h4, c1, u1, u2, u3, u4 = fabric.plan.hosts
    vip, providers = vips["app"], [h.name for h in (h1, h2, h3, h4)]
    check.ping("c1", vip, "the VIP")
    for host in (c1, h1, h3):
        check.ping(host.name, host.network.gateway, "its gateway")
    check.vip("c1", vip, PORT, providers, connections)
    check.straight("c1", h1, TARGET)

    check.unknown(u1, u2, u3, u4)
    check.ping("u1", u1.network.gateway, "its gateway")
    check.ping("h1", u2.address, "the silent u2")
    check.ping("c1", u4.address, "the silent u4, behind its gateway,")
    check.ping("u3", u3.network.gateway, "its gateway")
    check.learned(u1, u2, u3, u4)
    check.ping("u1", h2.address, "h2, in its network,")
    check.ping("u1", h3.address, "h3, in the other,")
    check.ping("u1", u2.address, "u2, in its network,")
    check.ping("u1", u3.address, "u3, in the other,")
    check.ping("u1", vip, "the VIP")
    check.straight("u3", h1, TARGET)
    check.vip("u2", vip, PORT, providers, connections)


if __name__ == "__main__":
    sys.exit(run(__doc__, "mn1", "10.210.0.0/16", plan, tests))
