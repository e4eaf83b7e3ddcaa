"""Frames of a hostile neighbour, by the hundred: ``python -m tests.fuzz.frames`` sends more of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import pytest

from tests.fuzz import frames as fuzz
from tests.fuzz.command import resident
from tests.kit.controller import DIES_WITH_US, ROOT
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.loop import asking
from tests.kit.running import OTHER_VIP, VIP
from tests.kit.wide import wide


@pytest.fixture
def hostile(bare: Lab, client: Host) -> Iterator[Host]:
    """A neighbour of the client's."""
    yield bare.host("c2", "cli", "20.1.1.2")


def test_hostile_frames(bare: Lab, hosts: Mapping[str, Host], client: Host, hostile: Host) -> None:
    """One container would end the controller, fill its memory, or cost its neighbours their connections."""
    pid = bare.controller.pid
    before, said = resident(pid), len(bare.controller.log())
    others = ("20.1.1.254", VIP, OTHER_VIP, "20.1.1.99", client.ip, *(hosts[name].ip for name in ("w1", "w2")))
    macs = (client.mac, hosts["w1"].mac)
    stage = fuzz.Stage(hostile.mac, hostile.ip, hostile.ip6, others, tuple(map(wide, others)), macs)
    command = ("-m", "tests.fuzz.frames", "--seconds=5", "--seed=2611", f"--stage={json.dumps(asdict(stage))}")
    with asking(client, "tcp", VIP, 8080, 10.0) as tcp, asking(client, "udp", VIP, 53, 10.0) as udp:
        inside = ("nsenter", f"--net=/run/netns/{hostile.netns}", sys.executable)
        done = subprocess.run(
            [*DIES_WITH_US, *inside, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
        )
        assert sum(json.loads(done.stdout.splitlines()[-1]).values()) > 300
        for loop in (tcp, udp):
            loop.wait_for_more()
            assert not loop.failures
    assert bare.controller.pid == pid
    assert resident(pid) - before < 50_000_000
    assert "Traceback" not in bare.controller.log()[said:]
    bare.settled()
