"""`docker network disconnect` of a provider that runs: its connections end as they do with one that stops."""

from __future__ import annotations

import contextlib

import pytest

from tests.e2e.node import Node
from tests.e2e.test_provider_life import TCP, UDP, VIP, Stage, stage
from tests.kit.loop import asking

__all__ = ["stage"]


def test_no_new_connection_is_lost(stage: Stage) -> None:
    """Connections that begin at that moment would wait for a second, or for ever."""
    stage.service()
    names = [f"p{n}" for n in range(1, 5)]
    for name in names:
        stage.provider(name)
    stage.providers("4/4")
    with contextlib.ExitStack() as stack:
        loops = [stack.enter_context(asking(stage.client, "tcp", VIP, TCP)) for _ in range(8)]
        for gone, name in enumerate(names[:3], 1):
            loops[0].wait_for_more()
            stage.host.docker("network", "disconnect", "web", name)
            stage.providers(f"{4 - gone}/{4 - gone}")
        loops[0].wait_for_more()
    assert [failure for loop in loops for failure in loop.failures] == []


def test_who_only_listens_hears_of_it(stage: Stage) -> None:
    """A client that waits for its provider's answer would wait for ever."""
    stage.service()
    stage.provider("p1")
    stage.providers("1/1")
    waiting = stage.connected_to("p1")
    waiting.settimeout(20)
    stage.host.docker("network", "disconnect", "web", "p1")
    with pytest.raises(ConnectionResetError):
        waiting.recv(1)
    with pytest.raises(ConnectionRefusedError):
        stage.client.ask("udp", VIP, UDP)


def test_it_may_come_back(stage: Stage, host: Node) -> None:
    """Connected again, it would get no connections."""
    stage.service()
    p1 = stage.provider("p1", serve=False)
    for _ in range(2):
        host.docker("network", "disconnect", "web", "p1")
        host.docker("network", "connect", "web", "p1")
    stage.providers("1/1")
    p1.serve(f"tcp:{TCP}")
    assert stage.who() == {"p1"}


def test_without_the_controller(stage: Stage, host: Node) -> None:
    """Docker's command would fail or hang while the controller is away."""
    stage.service()
    stage.provider("p1")
    stage.providers("1/1")
    waiting = stage.connected_to("p1")
    waiting.settimeout(20)
    host.kill("controller")
    host.docker("network", "disconnect", "web", "p1")
    with pytest.raises(ConnectionResetError):
        waiting.recv(1)
    host.start_controller()
    host.wait_for_agent()
    stage.providers("0/0")
