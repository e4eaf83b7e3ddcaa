"""Switches in a row, with a host at each; and three that nobody registers, at the ends.

    s1 ─ s2 ─ s3 ─ s4        u1 at s1, u2 u3 at s4

Run as root while the controller runs (`make run`): `python mininet/linear.py`, or with --test.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise

from checks import Checks
from fabric import Fabric, HostPlan, Plan, Subnets
from script import run
from woven import plan, tests

SWITCHES = ["s1", "s2", "s3", "s4"]


def all_of_it(subnets: Subnets) -> Plan:
    """With the two at the ends, and one behind its gateway."""
    rest = plan(list(pairwise(SWITCHES)), SWITCHES)(subnets)
    _, red, blue = rest.networks
    silent = (("u1", red, 101, "s1"), ("u2", red, 102, "s4"), ("u3", blue, 103, "s4"))
    unknown = (HostPlan(name, net, net.address(number), switch=switch) for name, net, number, switch in silent)
    return replace(rest, hosts=(*rest.hosts, *unknown))


def learned(check: Checks, fabric: Fabric, vips: dict[str, str], connections: int) -> None:
    """Hosts that nobody registers are found at the other end of the row; then all is as with the others."""
    u1, u2, u3 = fabric.plan.hosts[-3:]
    check.unknown(u1, u2, u3)
    check.ping("u1", u1.network.gateway, "its gateway")
    check.ping("u1", u2.address, "the silent u2, at the other end,")
    check.ping("u1", u3.address, "the silent u3, there and behind its gateway,")
    check.learned(u1, u2, u3)
    tests()(check, fabric, vips, connections)


if __name__ == "__main__":
    sys.exit(run(__doc__, "mnl", "10.211.0.0/16", all_of_it, learned))
