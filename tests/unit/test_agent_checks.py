"""Active checks, tried on real sockets in the test's own network namespace."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import pytest

from netctl.agent.checks import Checks, Watch
from netctl.agent.docker_api import Docker, DockerGone
from netctl.agent.netns import tcp_sockets
from netctl.agent.state import Container, LocalEndpoint, LocalNetwork, State
from netctl.agent.sync import Synchroniser
from netctl.agent.wanted import Check, wanted
from tests.unit.agent_kit import wait_for
from topology.documents import ServiceDoc

NETWORK = "1" * 64
APP = "default:app"
CHECK = Check("c1", "127.0.0.1", (80,), "tcp", "", 5, 2, rise=2, fall=3)


def service(port: int, protocol: str = "tcp", **fields: Any) -> ServiceDoc:
    """A service over the test's container; times so that a test is quick."""
    check = {"protocol": protocol, "interval": 0.1, "timeout": 0.08, "rise": 1, "fall": 2}
    if protocol == "http":
        check["path"] = "/ok"
    base = {"tenantName": "default", "serviceName": "app", "selectors": ["tier=web"], "healthCheck": check}
    return cast(ServiceDoc, {**base, "ports": [f"80:{port}:TCP", "53:53:UDP"], **fields})


class FakeSync:
    """Whose verdicts were told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def verdict(self, endpoint_id: str) -> None:
        self.told.append(endpoint_id)


class FakeDocker:
    """Every container's first process is the test itself."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def pid(self, container_id: str) -> int:
        self.asked += 1
        if self.away:
            raise DockerGone("Docker does not answer")
        return os.getpid()


class World:
    """A host with one provider at 127.0.0.1."""

    def __init__(self) -> None:
        self.state = State("host")
        subnet = IPv4Network("127.0.0.0/8")
        self.state.set_network(LocalNetwork(NETWORK, "net", "default", "net", subnet, None))
        self.state.put_endpoint(LocalEndpoint("e1", NETWORK, IPv4Address("127.0.0.1"), "", "c1"))
        self.container = Container("c1", "web", {"tier": "web", "v": "1"}, "running")
        self.state.set_container(self.container)
        self.sync = FakeSync()
        self.docker = FakeDocker()
        self.checks = Checks(self.state, cast(Synchroniser, self.sync), cast(Docker, self.docker))
        self.checks.start()

    def verdict(self, key: str = APP) -> bool | None:
        return self.state.verdicts.get("e1", {}).get(key)

    def wait(self, verdict: bool | None, key: str = APP) -> None:
        wait_for(lambda: self.verdict(key) is verdict, f"verdict {verdict} of {key}")


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.checks.stop(5)


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", port)) as server:
        yield server


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers every connection with this; its port and what it was sent."""
    seen: list[bytes] = []

    def work() -> None:
        with contextlib.suppress(OSError):  # the end of the test
            while True:
                connection, _ = server.accept()
                with connection:
                    seen.append(connection.recv(65536))
                    connection.sendall(answer)

    with listening() as server:
        thread = threading.Thread(target=work)
        thread.start()
        yield server.getsockname()[1], seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("++", ".+"),
        ("+-++", "...+"),
        ("---", "..-"),
        ("++--+---", ".+.....-"),
        ("++---+-++", ".+..-...+"),
        ("+++++", ".+..."),
        ("--+---", ".....-"),
    ],
)
def test_rise_and_fall(results: str, verdicts: str) -> None:
    """Else one lost packet takes a provider out, or one lucky answer brings a broken one in."""
    watch = Watch(CHECK, 0)
    seen = ""
    for result in results:
        changed = watch.judge(result == "+")
        seen += {True: "+", False: "-"}[bool(watch.passing)] if changed else "."
    assert seen == verdicts


def test_a_server_that_comes_and_goes(world: World) -> None:
    """Else a provider without a server gets connections, or one that is well never does."""
    with listening() as server:
        port = server.getsockname()[1]
        world.state.set_service(APP, service(port))
        world.wait(True)
    world.wait(False)
    with listening(port):
        world.wait(True)
    assert world.sync.told[:2] == ["e1", "e1"]


def test_every_port_has_to_pass(world: World) -> None:
    """Else a provider counts as well while half of it is dead."""
    with listening() as one, listening() as two:
        ports = [f"{n}:{s.getsockname()[1]}:TCP" for n, s in ((1, one), (2, two))]
        world.state.set_service(APP, service(0, ports=ports))
        world.wait(True)
        two.close()
        world.wait(False)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n" + 100_000 * b"x", True),
        (b"HTTP/1.1 399 ?", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 500 Oops\r\n\r\n", False),
        (b"HTTP/1.1 199 Hm\r\n\r\n", False),
        (b"HTTP/1.1 2000 Hm\r\n\r\n", False),
        (b"220 mail.example.org ESMTP\r\n", False),
        (b"", False),
    ],
)
def test_answers_of_http(world: World, answer: bytes, verdict: bool) -> None:
    """Else a provider that answers with errors counts as well, or one that redirects as broken."""
    with answering(answer) as (port, seen):
        world.state.set_service(APP, service(port, "http"))
        world.wait(verdict)
        assert seen[0].startswith(b"GET /ok HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert seen[0].endswith(b"\r\n\r\n")


def test_no_answer_is_a_failure_in_time_and_holds_nobody_up(world: World) -> None:
    """Else one provider that hangs stops the checks of all others."""
    with listening() as silent, listening() as well:
        services = {
            APP: service(silent.getsockname()[1], "http"),
            "default:well": service(well.getsockname()[1], serviceName="well"),
        }
        world.state.set_services(services)
        world.wait(True, "default:well")
        world.wait(False)
        begun = threading.active_count()
        for number in range(200):
            world.state.set_service(f"default:s{number}", service(silent.getsockname()[1], "http"))
        wait_for(lambda: len(world.state.verdicts["e1"]) == 202, "all of them to be judged")
        assert threading.active_count() == begun
        assert world.verdict("default:well")


def test_an_agent_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a provider that has answered in time is taken out because its agent was late to look."""
    start_due = Checks._start_due

    def stands_still(checks: Checks, now: float) -> None:
        start_due(checks, now)
        for watch in list(checks._running.values()):
            while watch.attempt is not None and time.monotonic() <= watch.attempt.deadline:
                pass  # as on a machine that has other things to do

    monkeypatch.setattr(Checks, "_start_due", stands_still)
    world = World()
    try:
        with listening() as server:
            world.state.set_service(APP, service(server.getsockname()[1]))
            world.wait(True)
            told = len(world.sync.told)
            asked = service(server.getsockname()[1])
            world.state.set_service("default:other", {**asked, "serviceName": "other"})
            world.wait(True, "default:other")
            assert world.verdict() is True
            assert len(world.sync.told) == told + 1
    finally:
        world.checks.stop(5)


def test_what_is_checked_no_more_is_forgotten(world: World) -> None:
    """Else an old verdict counts for a service, or a container, that only has the name of the one it was about."""
    with listening() as server:
        asked = service(server.getsockname()[1])

        def gone_and_back() -> None:
            world.wait(None)
            world.state.set_service(APP, asked)
            world.state.set_container(world.container)
            world.wait(True)

        world.state.set_service(APP, asked)
        world.wait(True)
        world.state.set_service(APP, None)
        gone_and_back()
        world.state.set_services({})
        gone_and_back()
        world.state.set_service(APP, {**asked, "selectors": ["tier=db"]})
        gone_and_back()
        for change in ({"state": "stopped"}, {"labels": {"tier": "db"}}):
            world.state.set_container(replace(world.container, **change))
            gone_and_back()
        world.state.drop_endpoint("e1")
        wait_for(lambda: not world.state.verdicts, "the endpoint's verdicts to be gone")


def test_other_words_for_the_check_of_a_service_keep_the_verdict(world: World) -> None:
    """Else a changed interval takes all providers out for a while."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (port, seen):
        asked = service(port, "http")
        world.state.set_service(APP, asked)
        world.wait(True)
        told = len(world.sync.told)
        world.state.set_service(APP, {**asked, "healthCheck": {**asked["healthCheck"], "rise": 3}})
        tried = len(seen)
        wait_for(lambda: len(seen) >= tried + 4, "some more tries")
        assert world.verdict() is True
        assert len(world.sync.told) == told


def test_only_failures_under_the_new_terms_count() -> None:
    """Else a provider is taken out by one failure of the check that there is now, and two of another port."""
    world = World()
    world.checks.stop(5)  # turned by hand below
    world.state.set_service(APP, service(80))
    checks = world.checks
    checks._refresh(0.0)
    watch = checks._watches["e1", APP]
    assert not watch.judge(False)
    world.state.set_service(APP, service(81))
    checks._refresh(0.0)
    assert checks._watches["e1", APP] is watch
    assert not watch.judge(False), "the second in a row, but the first of this port"
    assert watch.judge(False)


def test_a_check_turned_off_and_on_between_two_looks() -> None:
    """Else what was found before is told as if the check that there is now had found it, or never told again."""
    world = World()
    world.checks.stop(5)
    checks, asked, key = world.checks, service(80), ("e1", APP)

    def judged(verdict: bool) -> Watch:
        checks._refresh(0.0)
        watch = checks._watches[key]
        for _ in range(2):
            watch.judge(verdict)
        world.state.verdicts["e1"] = {APP: verdict}
        return watch

    def off_and_on() -> None:
        world.state.set_service(APP, {**asked, "healthCheck": {}})
        world.state.set_service(APP, asked)

    def gone_and_made_anew() -> None:
        world.state.set_service(APP, None)
        world.state.set_service(APP, asked)

    def the_connection_was_lost_meanwhile() -> None:
        world.state.set_services({})
        world.state.set_services({APP: asked})

    def the_container_restarts() -> None:
        world.state.set_container(replace(world.container, state="stopped"))
        world.state.set_container(world.container)

    world.state.set_service(APP, asked)
    for change in (off_and_on, gone_and_made_anew, the_connection_was_lost_meanwhile, the_container_restarts):
        watch = judged(False)
        change()
        assert not world.state.verdicts, change.__name__
        checks._refresh(0.0)
        assert checks._watches[key] is not watch, change.__name__
        assert checks._watches[key].passing is None


def test_a_paused_provider_keeps_its_verdict(world: World) -> None:
    """Else it has to pass again after each pause."""
    with listening() as server, answering(b"HTTP/1.1 200 OK\r\n\r\n") as (port, seen):
        world.state.set_service(APP, service(server.getsockname()[1]))
        world.wait(True)
        world.state.set_container(replace(world.container, state="paused"))
        server.close()
        other = replace(world.container, id="c2", labels={"tier": "other"})
        world.state.put_endpoint(LocalEndpoint("e2", NETWORK, IPv4Address("127.0.0.1"), "", "c2"))
        world.state.set_container(other)
        world.state.set_service("default:other", service(port, "http", selectors=["tier=other"]))
        wait_for(lambda: len(seen) >= 5, "another to be tried as often as would do")
        assert world.verdict() is True
        world.state.set_container(world.container)
        world.wait(False)


def test_docker_that_does_not_answer(world: World) -> None:
    """Else checks end with Docker, or the agent floods it with questions."""
    with listening() as server:
        world.docker.away = True
        port = server.getsockname()[1]
        for number in range(50):
            world.state.set_service(f"default:s{number}", service(port))
        wait_for(lambda: world.docker.asked >= 3, "it to be asked again")
        begun = time.monotonic()
        asked = world.docker.asked
        wait_for(lambda: world.docker.asked >= asked + 3, "it to be asked again")
        assert time.monotonic() > begun + 0.15
        assert not world.state.verdicts
        world.docker.away = False
        world.wait(True, "default:s7")


def test_a_process_of_another_container() -> None:
    """Else, where a process id is used again, another container's server speaks for a dead one."""
    with pytest.raises(OSError, match="Cannot assign requested address"):
        tcp_sockets(os.getpid(), "203.0.113.7", 1)
    with pytest.raises(FileNotFoundError):
        tcp_sockets(2**22 + 1, "127.0.0.1", 1)


def test_a_socket_in_another_namespace(world: World) -> None:
    """Else a check tries the host's own servers, or the thread that ran it is lost in a container."""
    home = os.readlink("/proc/thread-self/ns/net")
    for one in tcp_sockets(os.getpid(), "127.0.0.1", 3):
        one.close()
    assert os.readlink("/proc/thread-self/ns/net") == home


@pytest.mark.parametrize(
    ("fields", "container", "found"),
    [
        ({}, {}, True),
        ({"selectors": ["tier=web", "v=1"]}, {}, True),
        ({"selectors": ["v=1", "tier=web"]}, {}, True),
        ({"selectors": ["tier=web", "v=2"]}, {}, False),
        ({"selectors": []}, {}, False),
        ({"tenantName": "blue"}, {}, False),
        ({}, {"state": "draining"}, True),
        ({}, {"state": "paused"}, True),
        ({}, {"state": "created"}, False),
        ({}, {"state": "stopped"}, False),
        ({"selectors": ["url=a=b"]}, {"labels": {"url": "a=b"}}, True),
    ],
)
def test_what_is_checked(fields: Any, container: Any, found: bool) -> None:
    """Else a provider of a service is not checked, or a container that is none of them is."""
    world = World()
    world.checks.stop(5)
    world.state.set_container(replace(world.container, **container))
    world.state.set_service(APP, service(8080, **fields))
    assert (set(wanted(world.state)) == {("e1", APP)}) is found
    assert all(check.ports == (8080,) for check in wanted(world.state).values())
