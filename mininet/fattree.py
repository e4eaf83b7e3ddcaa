"""A fat tree for switches of K ports: K pods of K/2 edge and K/2 aggregation switches, (K/2)² cores, a host an edge.

For 4 ports: 20 switches, 32 links, four equal ways from pod to pod. A link between aggregation and core is cut.

Run as root while the controller runs (`make run`): `python mininet/fattree.py`, or with --test.
"""

from __future__ import annotations

import sys

from script import run
from woven import plan, tests

K = 4
HALF = K // 2

BELOW = [(f"a{pod}{up}", f"e{pod}{edge}") for pod in range(K) for up in range(HALF) for edge in range(HALF)]
ABOVE = [(f"c{up}{core}", f"a{pod}{up}") for pod in range(K) for up in range(HALF) for core in range(HALF)]
EDGES = [f"e{pod}{edge}" for pod in range(K) for edge in range(HALF)]

if __name__ == "__main__":
    sys.exit(run(__doc__, "mnf", "10.214.0.0/16", plan([*BELOW, *ABOVE], EDGES), tests(len(BELOW))))
