"""The life of a provider: when its service counts on it, when no more, and what becomes of its connections."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.machine import wait_for
from tests.e2e.node import IMAGE, Node
from tests.e2e.test_walkthrough import Inside
from tests.kit.hosts import ask_again
from tests.kit.loop import asking

VIP = "100.1.1.1"
LABEL = "--label=tier=web"
TCP, UDP = 80, 53
HEALTHY = ("--health-cmd", "test -f /tmp/ok", "--health-interval=1s", "--health-retries=1")
EVERY_TWO_SECONDS = ("--check-interval=2", "--check-timeout=1", "--check-rise=1", "--check-fall=2")
STUBBORN = "trap '' TERM; for i in $(seq 60); do sleep 1; done"


class Stage:
    """A client, a service, and providers that answer with their names."""

    def __init__(self, host: Node, client: Inside, held: contextlib.ExitStack) -> None:
        self.host = host
        self.client = client
        self._held = held

    def service(self, *options: str) -> None:
        """Create it, or change it."""
        ports = (f"--port={TCP}:{TCP}:TCP", f"--port={UDP}:{UDP}:UDP")
        self.host.netctl("service", "create", "web", "--network=srv", "--selector=tier=web", *ports, *options)

    def provider(self, name: str, *options: str, serve: bool = True, command: tuple[str, ...] = ()) -> Inside:
        """A container, with servers in its network."""
        run = ("run", "-d", "--name", name, "--net=web", LABEL, *options, IMAGE, *(command or ("sleep", "3600")))
        self.host.docker(*run)
        made = self._held.enter_context(Inside(self.host, name, self.host.address(name, "web")))
        if serve:
            made.serve(f"tcp:{TCP}", f"udp:{UDP}")
        return made

    def providers(self, expected: str) -> None:
        """Wait for so many of the service's providers: healthy/all."""
        wait_for(lambda: self.counts() == expected, f"{expected} providers, not {self.counts()}")

    def counts(self) -> str:
        """The column of `netctl service ls`: healthy/all."""
        return self.host.netctl("service", "ls").splitlines()[-1].split()[5]

    def settled(self) -> bool:
        """Whether the switch has nothing left to do."""
        (switch,) = json.loads(self.host.rest("/api/v1/switches/"))
        return bool(switch["settled"])

    def state(self, name: str) -> str:
        """A container's state in the model; "": it is not there."""
        return str(self.host.endpoints().get(name, {}).get("state", ""))

    def who(self, times: int = 20) -> set[str]:
        """Who answers new connections, once the switch carries out what the model says."""
        wait_for(self.settled, "the switch to carry it out")
        return set(self.client.who("tcp", VIP, TCP, times))

    def connected_to(self, name: str) -> socket.socket:
        """An open connection through the VIP to that provider."""
        for _ in range(50):
            connection = self._held.enter_context(self.client.connect("tcp", VIP, TCP))
            if ask_again(connection).split()[0] == name:
                return connection
        raise AssertionError(f"{name} gets no connections")


@pytest.fixture
def stage(host: Node) -> Iterator[Stage]:
    """The networks and the client; the service and the providers are for each test to make."""
    host.netctl("net", "create", "srv", "-s", "100.1.1.0/24", "-g", "100.1.1.254")
    host.netctl("net", "create", "web", "-s", "10.1.1.0/24", "-g", "10.1.1.254")
    host.netctl("net", "create", "cli", "-s", "20.1.1.0/24", "-g", "20.1.1.254")
    with contextlib.ExitStack() as held:
        client = held.enter_context(Inside(host, "client", host.container("client", "cli")))
        yield Stage(host, client, held)
    host.netctl("service", "rm", "web", check=False)


@contextlib.contextmanager
def meanwhile(host: Node, *command: str) -> Iterator[None]:
    """A `docker` command that takes its time; done at the end of the block."""
    thread = threading.Thread(target=host.docker, args=command, kwargs={"check": False})
    thread.start()
    try:
        yield
    finally:
        thread.join(60)


def goes_on_until_cut(connection: socket.socket, name: str) -> None:
    """The provider answers on an open connection until that is reset."""
    until = time.monotonic() + 20
    with pytest.raises(ConnectionResetError):
        while time.monotonic() < until:
            assert ask_again(connection).split()[0] == name
            time.sleep(0.05)  # between two requests


def test_health_that_the_image_declares(stage: Stage) -> None:
    """Else connections go to a provider that says itself that it can't take them, or never to one that recovers."""
    stage.service()
    stage.provider("plain")
    stage.providers("1/1")  # none declared: in at its start
    stage.provider("own", *HEALTHY, "--health-start-period=30s")
    wait_for(lambda: stage.host.endpoints().get("own", {}).get("health") == "starting", "its health to be declared")
    assert stage.counts() == "1/2"
    assert stage.who() == {"plain"}
    for command, counts, who in (
        (("touch", "/tmp/ok"), "2/2", {"plain", "own"}),
        (("rm", "/tmp/ok"), "1/2", {"plain"}),
        (("touch", "/tmp/ok"), "2/2", {"plain", "own"}),
    ):
        stage.host.docker("exec", "own", *command)
        stage.providers(counts)
        assert stage.who() == who


def test_an_active_check_that_connects(stage: Stage) -> None:
    """Else a provider whose server is not up (yet) gets connections, or one that came back never does."""
    stage.service("--check=tcp", *EVERY_TWO_SECONDS)
    stage.provider("well")
    late = stage.provider("late", serve=False)
    stage.providers("1/2")
    assert stage.who() == {"well"}
    late.serve(f"tcp:{TCP}")
    stage.providers("2/2")
    assert stage.who() == {"well", "late"}
    late.stop_serving()
    stage.providers("1/2")
    assert stage.who() == {"well"}
    late.serve(f"tcp:{TCP}")
    stage.providers("2/2")
    stage.service()  # without the check all are in again
    late.stop_serving()
    assert stage.counts() == "2/2"


def test_an_active_check_that_asks(stage: Stage) -> None:
    """Else a provider that answers with an error counts as well."""
    stage.service("--check=http", "--check-path=/ok", *EVERY_TWO_SECONDS)
    stage.provider("web", serve=False, command=("httpd", "-f", "-p", str(TCP), "-h", "/tmp"))
    wait_for(lambda: "HTTP status 404" in stage.host.log("agent"), "the check to fail")
    assert stage.counts() == "0/1"
    for command, counts in (("touch", "1/1"), ("rm", "0/1"), ("touch", "1/1")):
        stage.host.docker("exec", "web", command, "/tmp/ok")
        stage.providers(counts)


def test_a_check_is_turned_on_for_a_running_service(stage: Stage) -> None:
    """Else every connection is refused until the providers have passed, each time that a check or its terms change."""
    stage.service()
    stage.provider("p1")
    second = stage.provider("p2")
    stage.providers("2/2")
    slow = ("--check-interval=2", "--check-timeout=1", "--check-rise=5", "--check-fall=2")
    with asking(stage.client, "tcp", VIP, TCP) as loop:
        for options in (["--check=tcp", *slow], [], ["--check=tcp", *EVERY_TWO_SECONDS], ["--check=tcp", *slow]):
            stage.service(*options)
            assert stage.counts() == "2/2"
            loop.wait_for_more()
        stage.host.kill("agent")
        stage.host.start_agent()
        loop.wait_for_more()
        assert not loop.failures
    second.stop_serving()
    stage.providers("1/2")
    stage.provider("late")
    stage.providers("1/3")  # who joins later waits for its first passes


def test_verdicts_outlive_agent_and_controller(stage: Stage) -> None:
    """Else a restart of the agent takes providers out, or a controller that was away never hears what happened."""
    stage.service("--check=tcp", *EVERY_TWO_SECONDS)
    stage.provider("p1")
    second = stage.provider("p2")
    stage.providers("2/2")
    with asking(stage.client, "tcp", VIP, TCP) as loop:
        stage.host.kill("agent")
        loop.wait_for_more()
        stage.host.start_agent()
        loop.wait_for_more(60)  # more than an interval
        assert not loop.failures
    assert stage.counts() == "2/2"
    stage.host.kill("controller")
    told = len(stage.host.log("agent"))
    second.stop_serving()
    wait_for(lambda: "fails the check" in stage.host.log("agent")[told:], "the check to fail")
    stage.host.start_controller()
    stage.providers("1/2")
    wait_for(lambda: all(stage.client.reaches("tcp", VIP, TCP) for _ in range(10)), "the switch to know")
    assert stage.who() == {"p1"}


def test_stopping_drains(stage: Stage) -> None:
    """Else every rolling update cuts requests that are under way, or sends new ones to who is leaving."""
    stage.service()
    stage.provider("stays")
    stage.provider("leaves", command=("sh", "-c", STUBBORN))
    stage.providers("2/2")
    connection = stage.connected_to("leaves")
    before = time.monotonic()
    with meanwhile(stage.host, "stop", "-t", "8", "leaves"):
        wait_for(lambda: stage.state("leaves") == "draining", "it to drain")
        assert stage.who(20) == {"stays"}
        goes_on_until_cut(connection, "leaves")
        assert time.monotonic() > before + 8, "cut before Docker killed the provider"
    wait_for(lambda: not stage.state("leaves"), "it to be gone")


def test_the_agent_restarts_while_a_provider_drains(stage: Stage) -> None:
    """Else a container that is being stopped gets connections again."""
    stage.service()
    stage.provider("stays")
    stage.provider("leaves", command=("sh", "-c", STUBBORN))
    stage.providers("2/2")
    with meanwhile(stage.host, "stop", "-t", "8", "leaves"):
        wait_for(lambda: stage.state("leaves") == "draining", "it to drain")
        stage.host.kill("agent")
        stage.host.start_agent()
        assert stage.state("leaves") == "draining"
        assert stage.who(20) == {"stays"}


def test_other_signals_do_not_drain(stage: Stage) -> None:
    """Else a reload (`docker kill -s HUP`) takes a provider out."""
    stage.service()
    script = "trap : HUP USR1 QUIT; while true; do sleep 0.2; done"
    stage.provider("p1", "--stop-signal=SIGQUIT", command=("sh", "-c", script))
    stage.providers("1/1")
    for number in ("HUP", "USR1"):
        stage.host.docker("kill", "-s", number, "p1")
    stage.host.docker("rename", "p1", "p2")  # what follows in Docker's events
    wait_for(lambda: stage.state("p2"), "the events to be through")
    assert stage.state("p2") == "running"
    stage.host.docker("kill", "-s", "QUIT", "p2")
    wait_for(lambda: stage.state("p2") == "draining", "its own stop signal to count")
    assert stage.counts() == "0/1"


def test_the_drain_time_ends(stage: Stage) -> None:
    """Else a connection that never ends keeps a provider, or a client, from moving on."""
    stage.service("--drain-timeout=1")
    stage.provider("stays")
    stage.provider("leaves", command=("sh", "-c", STUBBORN))
    stage.providers("2/2")
    connection = stage.connected_to("leaves")
    other = stage.connected_to("stays")
    before = time.monotonic()
    with meanwhile(stage.host, "stop", "-t", "10", "leaves"):
        goes_on_until_cut(connection, "leaves")
        assert time.monotonic() > before + 1, "cut before the drain time was over"
        assert stage.state("leaves") == "draining"
        assert ask_again(other).split()[0] == "stays"


def test_the_controller_restarts_while_a_provider_drains(stage: Stage) -> None:
    """Else the drain time ends at once, or never."""
    stage.service("--drain-timeout=4")
    stage.provider("stays")
    stage.provider("leaves", command=("sh", "-c", STUBBORN))
    stage.providers("2/2")
    connection = stage.connected_to("leaves")
    before = time.monotonic()
    with meanwhile(stage.host, "stop", "-t", "15", "leaves"):
        wait_for(lambda: stage.state("leaves") == "draining", "it to drain")
        stage.host.kill("controller")
        stage.host.start_controller()
        goes_on_until_cut(connection, "leaves")
        assert time.monotonic() > before + 4, "cut before the drain time was over"
        assert stage.state("leaves") == "draining", "the drain time did not end before Docker killed the provider"


def test_a_paused_provider(stage: Stage) -> None:
    """Else connections hang while a container is paused, or open ones don't outlive it."""
    stage.service("--check=tcp", *EVERY_TWO_SECONDS)
    stage.provider("p1")
    stage.provider("p2")
    stage.providers("2/2")
    connection = stage.connected_to("p1")
    stage.host.docker("pause", "p1")
    stage.providers("1/2")
    assert stage.who() == {"p2"}
    stage.host.docker("unpause", "p1")
    stage.providers("2/2")
    assert ask_again(connection).split()[0] == "p1"


def test_a_provider_is_killed(stage: Stage) -> None:
    """Else its clients hang: UDP ones for as long as they send, TCP ones until they give up."""
    stage.service()
    stage.provider("lives")
    stage.provider("dies")
    stage.providers("2/2")
    idle = stage.connected_to("dies")
    other = stage.connected_to("lives")
    datagrams = udp_client_of(stage, "dies")
    stage.host.docker("kill", "dies")
    assert stage.who(20) == {"lives"}
    moved = time.monotonic() + 5
    while answer(datagrams) != "lives":
        assert time.monotonic() < moved, "the UDP client still sends to the dead provider"
    for _ in range(20):
        assert answer(datagrams) == "lives"
    with pytest.raises(ConnectionResetError):
        ask_again(idle)
    assert ask_again(other).split()[0] == "lives"


def udp_client_of(stage: Stage, name: str) -> socket.socket:
    """A UDP client with one source port, whose datagrams go to that provider."""
    for _ in range(50):
        made = stage._held.enter_context(stage.client.connect("udp", VIP, UDP, timeout=0.1))
        if answer(made) == name:
            return made
    raise AssertionError(f"{name} gets no datagrams")


def answer(client: socket.socket) -> str:
    """Who answers a datagram within a tenth of a second; "": nobody."""
    try:
        return ask_again(client).split()[0]
    except (TimeoutError, ConnectionError):
        return ""


def test_the_weight_of_a_container(stage: Stage) -> None:
    """Else the label netctl.weight does nothing."""
    stage.provider("heavy", "--label=netctl.weight=3")
    stage.provider("light")
    wait_for(lambda: stage.host.endpoints().get("heavy", {}).get("labels"), "its labels")
    assert stage.host.endpoint("heavy")["weight"] == 3
    assert "weight" not in stage.host.endpoint("light")
