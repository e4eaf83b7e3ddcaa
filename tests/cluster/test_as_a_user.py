"""`make cluster`, the walk-through over it and `make down`, as a user types them. Before the others have a cluster."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.controller import ROOT

LEFT = ("/run/netctl", "/var/lib/netctl-cluster", *(f"/run/netns/netctl-{name}" for name in ("phy", "h1", "m1")))


def make(target: str, timeout: float) -> str:
    """What `make TARGET` says."""
    done = subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name not in ("NETMASTER", "MAKEFLAGS", "MAKELEVEL")},
    )  # fmt: skip
    assert done.returncode == 0, f"make {target}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def said() -> Iterator[str]:
    """What `make cluster` says. Afterwards nothing of it is left."""
    assert not Path("/run/netctl").exists(), "a netctl system is running here: make down first"
    try:
        yield make("cluster", 400)
    finally:
        make("down", 300)
        assert not [place for place in LEFT if Path(place).exists()]
        assert "netctl" not in subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def test_make_cluster(said: str) -> None:
    """Else a newcomer can't try several hosts."""
    assert re.search(r"^h3 +\S+ +203\.0\.113\.3 +\S+ +up ", said, re.MULTILINE), said
    assert sorted(re.findall(r"^http://203\.0\.113\.1[12]:9999 +(yes|no)", said, re.MULTILINE)) == ["no", "yes"], said


def test_the_walk_through_over_it(said: str) -> None:
    """Else the commands that work on one host do not on three."""
    shown = make("demo", 200)
    assert "docker -H unix:///run/netctl/cluster/h3/docker.sock run" in shown
    assert re.search(r"^100\.1\.1\.1:8080 is open; 40 connections over 4 providers", shown, re.MULTILINE), shown
    rows = re.findall(r"^netctl-demo-\d +(h\d) +10\.1\.1\.\d+ +1\.\d +(\d+)$", shown, re.MULTILINE)
    assert [host for host, _ in rows] == ["h1", "h2", "h3", "h1"]
