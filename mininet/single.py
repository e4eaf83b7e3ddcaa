"""One switch: a service over hosts of two networks, a client in a third, and hosts that nobody registers.

    h1 h2   10.2.1.1 .2   red    registered, tier=web       c1  20.2.1.1   clients  registered
    h3 h4   10.2.2.1 .2   blue   registered, tier=web       u1 u2  10.2.1.11 .12, u3  10.2.2.11   not registered

Run as root while the controller runs (`make run`): `python mininet/single.py`, or with --test.
"""

from __future__ import annotations

import sys

from checks import Checks
from fabric import Fabric, HostPlan, NetworkPlan, Plan, ServicePlan
from script import run

SERVICES = NetworkPlan("srv", "100.2.1.0/24")
RED = NetworkPlan("red", "10.2.1.0/24", "10.2.1.254")
BLUE = NetworkPlan("blue", "10.2.2.0/24", "10.2.2.254")
CLIENTS = NetworkPlan("cli", "20.2.1.0/24", "20.2.1.254")
WEB = {"tier": "web"}
APP = ServicePlan("app", SERVICES, 8080, 80, WEB)

H1, H2 = (HostPlan(f"h{n}", RED, f"10.2.1.{n}", {**WEB, "version": "1"}) for n in (1, 2))
H3, H4 = (HostPlan(f"h{n + 2}", BLUE, f"10.2.2.{n}", {**WEB, "version": "2"}) for n in (1, 2))
C1 = HostPlan("c1", CLIENTS, "20.2.1.1", {})
U1, U2, U3 = HostPlan("u1", RED, "10.2.1.11"), HostPlan("u2", RED, "10.2.1.12"), HostPlan("u3", BLUE, "10.2.2.11")

PLAN = Plan((SERVICES, RED, BLUE, CLIENTS), (APP,), (H1, H2, H3, H4, C1, U1, U2, U3))


def tests(check: Checks, _fabric: Fabric, vips: dict[str, str], connections: int) -> None:
    """The VIP, the gateways, and the hosts that nobody registered."""
    vip = vips[APP.name]
    check.ping("c1", vip, "the VIP")
    for host in (C1, H1, H3):
        check.ping(host.name, host.network.gateway, "its gateway")
    check.vip("c1", vip, APP.port, [h.name for h in (H1, H2, H3, H4)], connections)
    check.straight("c1", H1, APP.target)

    check.unknown(U1, U2, U3)
    check.ping("u1", RED.gateway, "its gateway")
    check.ping("h1", U2.address, "the silent u2")
    check.ping("u3", BLUE.gateway, "its gateway")
    check.learned(U1, U2, U3)
    check.ping("u1", H2.address, "h2, in its network,")
    check.ping("u1", H3.address, "h3, in the other,")
    check.ping("u1", U2.address, "u2, in its network,")
    check.ping("u1", U3.address, "u3, in the other,")
    check.ping("u1", vip, "the VIP")
    check.straight("u3", H1, APP.target)
    check.vip("u2", vip, APP.port, [h.name for h in (H1, H2, H3, H4)], connections)


if __name__ == "__main__":
    sys.exit(run(__doc__, "mn1", PLAN, tests))
