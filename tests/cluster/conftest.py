"""One cluster for all tests here; each test leaves it as it found it, and proves it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.machines import Cluster
from tests.cluster.stage import Stage
from tests.e2e.machine import sweep, wait_for
from tests.e2e.test_walkthrough import LABELS, create_service


@pytest.fixture(scope="session")
def running() -> Iterator[Cluster]:
    """The cluster, for all tests here."""
    sweep()
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def stage(running: Cluster, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Everything runs, and at the end nothing is left of what the test made."""
    before = request.session.testsfailed
    for name, subnet in (("srv-net", "100.1.1.0/24"), ("web-net", "10.1.1.0/24"), ("cli-net", "20.1.1.0/24")):
        gateway = () if name == "srv-net" else ("-g", subnet.replace(".0/24", ".254"))
        running.netctl("net", "create", name, "-s", subnet, *gateway)
    create_service(running)
    made = Stage(running)
    try:
        for number, member in enumerate(running.members, 1):
            made.start(member, f"p{number}", "web-net", *LABELS).serve("tcp:80", "udp:53")
        for number, member in enumerate(running.members[:2], 1):
            made.start(member, f"c{number}", "cli-net")
        wait_for(lambda: made.providers() == "3/3", "three providers")
        wait_for(made.all_settled, "the switches")
        yield made
    finally:
        if request.session.testsfailed > before:
            for machine in running.machines:
                for name in ("controller", "agent", "dockerd"):
                    if name in machine.processes:
                        print(machine.name, name, machine.log(name)[-6000:])
        running.mend()
        for one in made.inside.values():
            one.__exit__()
        for member in running.members:
            containers = member.docker("ps", "-aq").split()
            if containers:
                member.docker("rm", "-f", *containers)
        for name in ("app-svc", "dns"):
            running.netctl("service", "rm", name, check=False)
        wait_for(lambda: not running.endpoints(), "every endpoint to be gone")
        for name in ("cli-net", "web-net", "srv-net"):
            running.netctl("net", "rm", name, check=False)
        for member in running.members:
            wait_for(lambda m=member: not m.ports() and not m.links(), "every port and veth to be gone")  # type: ignore[misc]
            # an agent that is just finding its controller again does it later than the answer
            wait_for(lambda m=member: not m.docker_networks(), "Docker's networks to be gone")  # type: ignore[misc]
