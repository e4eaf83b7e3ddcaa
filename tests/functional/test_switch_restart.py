"""Open vSwitch itself dies: it comes back empty, and is filled again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.kit.hosts import Host
from tests.kit.lab import Lab, lab
from tests.kit.loop import Loop, asking
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import private

WEB = {"tier": "web"}
VIP = "100.1.1.1"
PROMISE = 3.0  # s after the switch is back


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A service with two providers and a client, on an Open vSwitch that nobody else uses."""
    with private("k") as instance, lab(tmp_path_factory.mktemp("lab"), instance) as made:
        made.network("srv", "100.1.1.0/24")
        made.network("web", "10.1.1.0/24", "10.1.1.254")
        made.network("cli", "20.1.1.0/24", "20.1.1.254")
        for name in ("w1", "w2"):
            made.host(name, "web", f"10.1.1.{name[1]}", WEB, serve=["tcp:80", "udp:53"])
        made.host("c1", "cli", "20.1.1.1")
        assert made.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"]) == VIP
        yield made


@pytest.fixture
def client(there: Lab) -> Host:
    return Host("c1", there.instance, there.bridge, "20.1.1.1/24", "20.1.1.254")


def back(there: Lab, old: int) -> float:
    """Wait until there is another switch with our bridge; when that was seen (monotonic s)."""
    instance = there.instance
    wait_for(lambda: instance.switch_pid not in {0, old} and instance.has_bridge(there.bridge), "the switch to be back")
    return time.monotonic()


def answered_after(loop: Loop, at: float) -> float:
    """Wait for an answer to a question asked after ``at``; how long after it that was asked (s)."""
    wait_for(lambda: loop.answers and loop.answers[-1][0] > at, "an answer")
    return next(asked for asked, _ in loop.answers if asked > at) - at


@pytest.mark.parametrize("how", [signal.SIGABRT, signal.SIGKILL])
def test_connections_again_soon_after_its_return(there: Lab, client: Host, how: signal.Signals) -> None:
    """After a crash of the switch, services would be away until somebody restarts the controller."""
    flows, groups = there.contents()
    # soon given up, for the next to be asked when the switch is back
    with asking(client, "tcp", VIP, 8080, patience=0.2) as tcp, asking(client, "udp", VIP, 53, patience=0.2) as udp:
        tcp.wait_for_more()
        udp.wait_for_more()
        old = there.instance.end_switch(how)
        if how == signal.SIGKILL:
            # its own monitor starts it again after a fault, but ends when it is killed: here we are its supervisor
            there.instance.start_switch()
        at = back(there, old)
        for loop in (tcp, udp):
            assert answered_after(loop, at) < PROMISE

    doc = there.settled()
    assert (doc["flows"], doc["groups"]) == (len(flows), len(groups))
    assert there.contents() == (flows, groups)
    assert set(client.who("tcp", VIP, 8080, 20)) == {"w1", "w2"}
    assert client.pings("10.1.1.1")


def test_the_controller_dies_with_it(there: Lab, client: Host) -> None:
    """After a power failure of both, the switch would stay empty."""
    before = there.contents()
    there.controller.kill()
    old = there.instance.end_switch(signal.SIGKILL)
    there.instance.start_switch()
    back(there, old)
    assert there.flows() == []
    there.controller.start()
    there.settled()

    assert there.contents() == before
    wait_for(lambda: client.reaches("tcp", VIP, 8080), "the VIP to answer")
