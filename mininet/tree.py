"""A tree of switches, two below each, with a host at each leaf.

          s1
       ┌──┴──┐
      s2    s3
     ┌┴┐    ┌┴┐
    s4 s5  s6 s7

Run as root while the controller runs (`make run`): `python mininet/tree.py`, or with --test.
"""

from __future__ import annotations

import sys

from script import run
from woven import plan, tests

LEAVES = range(4, 8)
LINKS = [(f"s{n // 2}", f"s{n}") for n in range(2, max(LEAVES) + 1)]

if __name__ == "__main__":
    sys.exit(run(__doc__, "mnt", "10.212.0.0/16", plan(LINKS, [f"s{n}" for n in LEAVES]), tests()))
