"""How long the switch remembers idle connections: as the agent's options say, on a real Open vSwitch."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netctl.agent.bridge import Bridge
from netctl.agent.ovsdb import Ovsdb
from netctl.agent.state import State
from netctl.agent.zones import Timeouts, Zones
from tests.kit.hosts import ask_again
from tests.kit.lab import Lab, lab
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import private

VIP = "100.1.1.1"
TIMES = Timeouts(established=7000, half_closed=5000, udp=300)
SECOND = 0x8000
DEFAULT_HALF_CLOSED = 900  # Open vSwitch's own
SLACK = 30  # s between a packet and the look at what is left of its time


class Agent:
    """What of an agent looks after the zones of a bridge."""

    def __init__(self, here: Lab, times: Timeouts = TIMES) -> None:
        self.state = State("h1")
        self.state.set_tenants({"default": {"number": 1}})
        bridge = Bridge(Ovsdb(here.instance.database), here.bridge, "h1", [here.controller.target], "netdev")
        bridge.ensure()
        self.zones = Zones(bridge, times, self.state, lambda: None)

    def look(self) -> dict[str, str]:
        """One look; the lines for the user."""
        self.zones.ensure()
        return self.state.troubles.lines()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    """A switch that may be killed, and a database of its own."""
    with private("t") as instance, lab(tmp_path, instance) as made:
        made.network("srv", "100.1.1.0/24")
        made.network("web", "10.1.1.0/24", "10.1.1.254")
        made.network("cli", "20.1.1.0/24", "20.1.1.254")
        made.service("app", "srv", ["8080:80:TCP", "53:53:UDP", "81:81:TCP"], ["tier=web"], vip=VIP)
        yield made


def policies(here: Lab) -> dict[int, dict[str, int]]:
    """Of each zone, as ovs-vsctl lists them."""
    found = {}
    for line in here.instance.vsctl("list-zone-tp", "netdev").splitlines():
        if m := re.match(r"Zone:(\d+), Timeout Policies: (.*)", line):
            found[int(m[1])] = {k: int(v) for k, _, v in (pair.partition("=") for pair in m[2].split())}
    return found


def left(here: Lab, connection: socket.socket) -> int:
    """How long conntrack will remember it, in seconds."""
    port = f"sport={connection.getsockname()[1]},"
    lines = [e for e in here.instance.appctl("dpctl/dump-conntrack", "-s").splitlines() if port in e]
    return int(re.search(r"timeout=(\d+)", lines[0])[1])  # type: ignore[index]


def test_connections_are_remembered_as_long_as_the_options_say(here: Lab) -> None:
    """A half-closed connection would be forgotten after 15 minutes, and a UDP client's provider after 30 seconds."""
    web = here.host("w1", "web", "10.1.1.1", {"tier": "web"}, serve=["tcp:80", "udp:53"])
    client = here.host("c1", "cli", "20.1.1.1")
    here.settled()
    agent = Agent(here)
    assert agent.look() == {}

    def found() -> list[int]:
        """How long connections that begin now are remembered, after a packet."""
        with (
            web.open("tcp") as server,
            client.connect("tcp", VIP, 8080) as tcp,
            client.connect("udp", VIP, 53) as udp,
            client.connect("udp", web.ip, 53) as straight,
        ):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it is bound each time
            server.bind((web.ip, 81))
            server.listen()
            with client.connect("tcp", VIP, 81) as half, server.accept()[0] as other:
                half.shutdown(socket.SHUT_WR)
                assert other.recv(1) == b""

                other.sendall(b"x")
                for one in (tcp, udp, straight):
                    ask_again(one)
                return [left(here, one) for one in (tcp, half, udp, straight)]

    def remembered() -> bool:
        """Of new ones: the switch takes the options over a moment after the database has them."""
        wanted = (TIMES.established, TIMES.half_closed, TIMES.udp, TIMES.udp)
        return all(one in range(most - SLACK, most + 1) for one, most in zip(found(), wanted, strict=True))

    wait_for(remembered, "the options to count")
    here.instance.end_switch(signal.SIGKILL)
    here.instance.start_switch()
    wait_for(lambda: here.instance.has_bridge(here.bridge), "the bridge")
    wait_for(lambda: client.reaches("tcp", VIP, 8080), "the switch to be filled")
    agent.look()
    wait_for(remembered, "the options to count after a start")


def test_the_zones_of_the_tenants_have_them(here: Lab) -> None:
    """A tenant that comes would have other times, and one that goes leave its own in the switch for ever."""
    agent = Agent(here)
    agent.look()
    want = TIMES.policy
    assert policies(here) == {1: want, 1 | SECOND: want}
    config = here.instance.vsctl("get", "Open_vSwitch", ".", "next_cfg")
    agent.look()
    assert here.instance.vsctl("get", "Open_vSwitch", ".", "next_cfg") == config, "nothing to do, nothing is written"

    agent.state.set_tenant("blue", {"number": 2})
    agent.look()
    assert policies(here).keys() == {1, 2, 1 | SECOND, 2 | SECOND}
    agent.state.set_tenant("default", None)
    agent.look()
    assert policies(here) == {2: want, 2 | SECOND: want}

    later = Agent(here, Timeouts(established=60, half_closed=50, udp=40))
    later.state.tenants = None
    later.look()
    assert policies(here) == {2: want, 2 | SECOND: want}, "a new agent that knows nothing yet changes nothing"
    later.state.set_tenants({"blue": {"number": 2}})
    later.look()
    assert {p["tcp_fin_wait"] for p in policies(here).values()} == {50}

    here.instance.vsctl("clear", "Open_vSwitch", ".", "datapaths")
    later.look()
    assert policies(here).keys() == {2, 2 | SECOND}, "who emptied the database"
    later.state.set_tenants({})
    later.look()
    assert policies(here) == {}


def test_zones_of_somebody_else_are_left_alone(here: Lab) -> None:
    """Whoever set a zone's timeouts by hand, or another program on this machine, would find others."""
    vsctl = here.instance.vsctl
    vsctl("--", "--id=@d", "create", "Datapath", "datapath_version=0", "--", "set", "Open_vSwitch", ".",
          "datapaths:netdev=@d")  # fmt: skip
    vsctl("add-zone-tp", "netdev", "zone=1", "udp_single=77")
    vsctl("add-zone-tp", "netdev", "zone=900", "udp_single=78")
    agent = Agent(here)
    assert agent.look() == {"conntrack zone 1": "it has timeouts of somebody else's, which stay"}
    assert policies(here) == {1: {"udp_single": 77}, 900: {"udp_single": 78}, 1 | SECOND: TIMES.policy}
    vsctl("del-zone-tp", "netdev", "zone=1")
    assert agent.look() == {}
    assert policies(here) == {1: TIMES.policy, 900: {"udp_single": 78}, 1 | SECOND: TIMES.policy}
    agent.state.set_tenants({})
    agent.look()
    assert policies(here) == {900: {"udp_single": 78}}
