"""A ring of four switches, with a host at each: two equal ways to the far side, and one when a link is down.

    s1 ─ s2
    │     │
    s4 ─ s3

Run as root while the controller runs (`make run`): `python mininet/ring.py`, or with --test.
"""

from __future__ import annotations

import sys

from script import run
from woven import plan, tests

SWITCHES = ["s1", "s2", "s3", "s4"]
LINKS = [(one, SWITCHES[(n + 1) % len(SWITCHES)]) for n, one in enumerate(SWITCHES)]

if __name__ == "__main__":
    sys.exit(run(__doc__, "mnr", "10.213.0.0/16", plan(LINKS, SWITCHES), tests(0)))
