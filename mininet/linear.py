"""Switches in a row, with a host at each; and two that nobody registers, at the ends.

    s1 ─ s2 ─ s3 ─ s4        u1 at s1, u2 at s4

Run as root while the controller runs (`make run`): `python mininet/linear.py`, or with --test.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise

from checks import Checks
from fabric import Fabric, HostPlan
from script import run
from woven import plan, tests

SWITCHES = ["s1", "s2", "s3", "s4"]
ALL = plan(3, list(pairwise(SWITCHES)), SWITCHES)
RED = ALL.networks[1]
U1, U2 = HostPlan("u1", RED, "10.3.1.101", switch="s1"), HostPlan("u2", RED, "10.3.1.102", switch="s4")
PLAN = replace(ALL, hosts=(*ALL.hosts, U1, U2))


def learned(check: Checks, fabric: Fabric, vips: dict[str, str], connections: int) -> None:
    """Hosts that nobody registers are found at the other end of the row; then all is as with the others."""
    check.unknown(U1, U2)
    check.ping("u1", RED.gateway, "its gateway")
    check.ping("u1", U2.address, "the silent u2, at the other end")
    check.learned(U1, U2)
    tests()(check, fabric, vips, connections)


if __name__ == "__main__":
    sys.exit(run(__doc__, "mnl", PLAN, learned))
