"""One Docker host for all tests here; each test leaves it as it found it, and proves it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.machine import sweep, wait_for
from tests.e2e.node import Node


@pytest.fixture(scope="session")
def machine() -> Iterator[Node]:
    """A Docker host of its own for all tests here."""
    sweep()
    node = Node()
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture
def host(machine: Node, request: pytest.FixtureRequest) -> Iterator[Node]:
    """The host with everything running and, afterwards, proof that nothing was left behind."""
    before = request.session.testsfailed
    yield machine
    machine.start_missing()
    if request.session.testsfailed > before:
        print(machine.log("agent")[-8000:])
    containers = machine.docker("ps", "-aq").split()
    if containers:
        machine.docker("rm", "-f", *containers)
    wait_for(lambda: not machine.ports() and not machine.links(), "every port and veth to be gone")
    wait_for(lambda: not machine.endpoints(), "every endpoint to be gone")
    for key in machine.networks():
        tenant, _, name = key.partition(":")
        machine.netctl("net", "rm", "-t", tenant, name)
    # an agent that is just finding its controller again does it later than the answer
    wait_for(lambda: not machine.docker_networks(), "Docker's networks to be gone")


@pytest.fixture
def net(host: Node) -> str:
    """A network with a gateway."""
    host.netctl("net", "create", "net1", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    return "net1"
