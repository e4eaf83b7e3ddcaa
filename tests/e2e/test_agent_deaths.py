"""The agent dies or freezes, and with it a container; its supervisor is that of `make run`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.machine import wait_for
from tests.e2e.node import Node
from tests.e2e.test_walkthrough import Inside, providers
from tests.kit.controller import ROOT
from tests.kit.loop import asking

VIP = "100.1.1.1"
PROVIDERS = ("p1", "p2", "p3")
SUPERVISOR = "agent-supervisor"
# What the supervisor does: README promises a new agent 1 s after a death, and 5 to 7 s after it hangs.
DEAD, FROZEN = "starts again in 100 ms", "has sent no heartbeat for 5 s"


def agent_pid(host: Node) -> int:
    """The agent's process; 0: none."""
    try:
        return int((host.directory / "agent.pid").read_text())
    except (OSError, ValueError):
        return 0


@pytest.fixture
def supervised(host: Node) -> Iterator[Node]:
    """The host, its agent kept by scripts/supervise as with `make run`."""
    host.kill("agent", signal.SIGTERM)
    directory = str(host.directory)
    host._agent_from = len(host.log("agent"))
    host.spawn(
        SUPERVISOR,
        *(f"{ROOT}/scripts/supervise", directory, directory, "agent", *host.agent_command()),
        environment={"NETCTL_SILENCE": "5"},
    )
    try:
        host.wait_for_agent()
        yield host
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent_pid(host), signal.SIGCONT)
        host.kill(SUPERVISOR, signal.SIGTERM)


@pytest.fixture
def client(supervised: Node) -> Iterator[Inside]:
    """A client of a service with three providers."""
    host = supervised
    host.netctl("net", "create", "srv-net", "-s", "100.1.1.0/24")
    host.netctl("net", "create", "web-net", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    host.netctl("service", "create", "app", "--network=srv-net", "--selector=tier=web", "--port=8080:80:TCP")
    with contextlib.ExitStack() as stack:
        stack.callback(host.netctl, "service", "rm", "app", check=False)
        for name in PROVIDERS:
            host.container(name, "web-net", "--label=tier=web")
            host.docker("exec", "-d", name, "nc", "-ll", "-p", "80", "-e", "cat")  # inside, so that it ends with it
        made = stack.enter_context(Inside(host, "client", host.container("client", "web-net")))
        for name in PROVIDERS:
            address = host.address(name, "web-net")
            wait_for(lambda at=address: made.reaches("tcp", at, 80), f"{name} to listen")  # type: ignore[misc]
        wait_for(lambda: providers(host) == "3/3", "all to be asked")
        yield made


def ends(host: Node, *command: str) -> None:
    """A container ends while no agent lives, and Docker waits for long before it calls the plugin again."""
    host.kill("agent")
    before = len(host.log("dockerd"))
    waits = ["/usr/bin/docker", "-H", host.docker_url, *command]
    host.processes["ending"] = subprocess.Popen(waits, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: "retrying in 8s" in host.log("dockerd")[before:], "Docker to wait for 8 s")


@pytest.mark.parametrize("end", ["kill", "stop", "rm"])
def test_a_new_agent_sees_for_itself_who_is_dead(host: Node, end: str) -> None:
    """Else a dead provider keeps its share until Docker next calls the plugin: here 8 s, and up to 32 s."""
    host.netctl("net", "create", "srv-net", "-s", "100.1.1.0/24")
    host.netctl("net", "create", "web-net", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    host.netctl("service", "create", "app", "--network=srv-net", "--selector=tier=web", "--port=8080:80:TCP")
    try:
        for name in ("p1", "p2"):
            host.container(name, "web-net", "--label=tier=web")
        wait_for(lambda: providers(host) == "2/2", "both to be asked")
        commands = {"kill": ("kill", "p1"), "stop": ("stop", "-t", "0", "p1"), "rm": ("rm", "-f", "p1")}
        ends(host, *commands[end])
        began = time.monotonic()
        host.start_agent(wait=False)
        wait_for(lambda: providers(host).startswith("1/"), "the dead one to be counted out")
        assert "is dead, Docker has not noticed yet" in host.log("agent")[host._agent_from :]
        print(f"{end}: a dead provider was out {time.monotonic() - began:.1f} s after the agent's start")
        assert host.endpoint("p2")["state"] == "running"
        assert host.processes.pop("ending").wait(30) == 0
        host.wait_for_agent()
        wait_for(lambda: "p1" not in host.endpoints(), "the dead one's endpoint to be gone")
        assert providers(host) == "1/1"
    finally:
        host.netctl("service", "rm", "app", check=False)


@pytest.mark.parametrize("end", ["kill", "pause"])
@pytest.mark.parametrize(("number", "noted"), [(signal.SIGKILL, DEAD), (signal.SIGSTOP, FROZEN)])
def test_a_container_ends_meanwhile(
    supervised: Node, client: Inside, number: signal.Signals, noted: str, end: str
) -> None:
    """Else every third connection goes to a container that is no more, for as long as nobody looks after the agent."""
    with asking(client, "tcp", VIP, 8080, patience=0.5) as loop:
        loop.wait_for_more()
        before, began = agent_pid(supervised), time.monotonic()
        supervised._agent_from = len(supervised.log("agent"))
        os.kill(before, number)
        command = ["/usr/bin/docker", "-H", supervised.docker_url, end, "p1"]
        ending = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # it may wait for the agent
        supervised.processes["ending"] = ending
        wait_for(lambda: agent_pid(supervised) not in (0, before), "another agent")
        assert noted in supervised.log("agent")[supervised._agent_from :]
        started = time.monotonic() - began
        supervised.wait_for_agent()
        told = time.monotonic() - began
        loop.wait_for_more(40)
        last = max((at - began for at, _ in loop.failures), default=0.0)
    print(
        f"{number.name}, {end}: {len(loop.failures)} connections failed, the last after {last:.1f} s; a new agent was "
        f"started after {started:.1f} s and has told what there is after {told:.1f} s"
    )
    # Docker tells of a container's end when it has reached the agent, after 1, 3, 7, … s: the agent looks for itself
    assert last < told + 1
    wait_for(lambda: providers(supervised).startswith("2/"), "the provider to be counted out")
    assert supervised.processes.pop("ending").wait(30) == 0
    supervised.docker("unpause", "p1", check=False)
