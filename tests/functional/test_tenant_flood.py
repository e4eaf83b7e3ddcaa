"""One tenant's flood: its own connections are refused and counted, nothing leaves untranslated, the others go on."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netctl.agent.bridge import Bridge
from netctl.agent.limits import Limits, zones_of
from netctl.agent.ovsdb import Ovsdb
from netctl.agent.state import State
from ryu_apps.pipeline.tables import REFUSE_METERS
from tests.kit import frames
from tests.kit.hosts import Host
from tests.kit.lab import Lab, lab
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import private
from tests.kit.wide import of_family

LIMIT = 20
SECOND = 0x8000
VIPS = {"blue": "100.1.1.1", "red": "100.2.1.1"}


class Agent:
    """What of an agent looks after the limits of a bridge."""

    def __init__(self, here: Lab, limit: int = LIMIT) -> None:
        self.state = State("h1")
        numbers = {"default": {"number": 1}, "blue": {"number": 2}, "red": {"number": 3}}
        self.state.set_tenants(numbers)  # type: ignore[arg-type]
        bridge = Bridge(Ovsdb(here.instance.database), here.bridge, "h1", [here.controller.target], "netdev")
        bridge.ensure()
        self.limits = Limits(bridge, here.instance.database, limit, self.state, lambda: None)

    def look(self) -> dict[str, str]:
        """One look; the lines for the user."""
        self.limits.ensure()
        return self.state.troubles.lines()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A switch that may be killed, with two tenants."""
    with private("n") as instance, lab(tmp_path_factory.mktemp("flood"), instance) as made:
        for number, tenant in enumerate(VIPS, 1):
            made.rest.put_tenant(tenant)
            made.network(f"s{number}", f"100.{number}.1.0/24", tenant=tenant, ipv6=True)
            made.network(f"n{number}", f"10.{number}.1.0/24", f"10.{number}.1.254", tenant=tenant, ipv6=True)
            made.service(
                "app", f"s{number}", ["80:80:TCP", "53:53:UDP"], ["tier=web"], tenant=tenant, vip=VIPS[tenant]
            )
        yield made


@pytest.fixture(scope="module")
def hosts(here: Lab) -> dict[str, Host]:
    """A provider and a client of each tenant, in one network."""
    made = {}
    for number, tenant in enumerate(VIPS, 1):
        made[f"w{number}"] = here.host(
            f"w{number}", f"n{number}", f"10.{number}.1.1", {"tier": "web"}, tenant, serve=["tcp:80", "udp:53"]
        )
        made[f"c{number}"] = here.host(f"c{number}", f"n{number}", f"10.{number}.1.9", tenant=tenant)
    here.settled()
    return made


@pytest.fixture
def agent(here: Lab, hosts: dict[str, Host]) -> Iterator[Agent]:
    """With a low limit; without connections before and after."""
    here.instance.flush_conntrack()
    made = Agent(here)
    made.look()
    here.settled()
    yield made
    here.instance.flush_conntrack()


def limits(here: Lab) -> dict[int, int]:
    """By zone, as the switch says."""
    return {zone: found.limit for zone, found in zones_of(here.instance.appctl("dpctl/ct-get-limits")).items()}


def opened(stack: contextlib.ExitStack, client: Host, address: str, times: int) -> int:
    """How many of so many new connections are opened; they stay open."""
    made = 0
    for _ in range(times):
        with contextlib.suppress(OSError):
            stack.enter_context(client.connect("tcp", address, 80, timeout=0.3))
            made += 1
    return made


def refused(here: Lab) -> dict[str, int]:
    """Packets of connections that the switch has refused, by tenant, as the user sees them."""
    here.settled()  # an agent that sets the bridge up has it connect again
    return dict(here.rest.switch(here.dpid).get("refusedByLimit", {}))


def translated(frame: bytes, receiver: Host) -> bool:
    """Whether a frame to this host, if it is one, is for an address that the host has."""
    if frame[:6] != bytes.fromhex(receiver.mac.replace(":", "")) or frame[12:14] not in (b"\x08\0", b"\x86\xdd"):
        return True
    family, at = (socket.AF_INET, 30) if frame[12:14] == b"\x08\0" else (socket.AF_INET6, 38)
    own = socket.inet_pton(family, receiver.ip if family == socket.AF_INET else receiver.ip6)
    return frame[at : at + len(own)] == own


@pytest.mark.parametrize("straight", [False, True], ids=["VIP", "straight"])
def test_one_tenant_at_its_limit(
    here: Lab, hosts: dict[str, Host], agent: Agent, version: int, straight: bool
) -> None:
    """One tenant would fill the table, and no tenant's new connection be opened."""
    client, provider = hosts["c1"], hosts["w1"]
    address = provider.address(version) if straight else of_family(version, VIPS["blue"])
    before = refused(here).get("blue", 0)
    ears = provider.open("raw", timeout=0.1)
    with contextlib.ExitStack() as stack, ears:
        assert opened(stack, client, address, LIMIT + 5) == LIMIT
        assert hosts["c2"].reaches("tcp", of_family(version, VIPS["red"]), 80, timeout=3), "the other tenant goes on"
        lines = agent.look()
        (about,) = lines
        assert about == "connections of tenant blue to services"
        assert lines[about].startswith(f"the limit of {LIMIT} is reached, new ones are refused")
        with contextlib.suppress(TimeoutError):
            while True:
                assert translated(ears.recv(65535), provider)
        wait_for(lambda: refused(here).get("blue", 0) >= before + 5, "the refusals to be counted")
    assert not refused(here).get("red")
    here.instance.flush_conntrack()
    assert agent.look() == {}
    assert client.reaches("tcp", address, 80, timeout=3)


def test_refusals_of_one_tenant(here: Lab, hosts: dict[str, Host], agent: Agent) -> None:
    """While one tenant knocks at a closed port, another's clients would wait for seconds instead of being refused."""
    flood, other = hosts["c1"], hosts["c2"]
    stop = threading.Event()

    def knock() -> None:
        frame = frames.syn(flood.mac, flood.ip, VIPS["blue"], 4000, 81)
        with flood.open("raw") as out:
            while not stop.is_set():
                out.send(frame)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    try:
        wait_for(lambda: metered(here, REFUSE_METERS | 2) > 1000, "the flood to be held back")
        for _ in range(20):
            with pytest.raises(ConnectionRefusedError):
                other.connect("tcp", VIPS["red"], 81, timeout=0.9)  # before the SYN is sent again
    finally:
        stop.set()
        thread.join(10)


def metered(here: Lab, number: int) -> int:
    """Packets that a meter has dropped."""
    text = here.instance.ofctl("meter-stats", here.bridge, f"meter={number}").partition("bands:")[2]
    return int(text.partition("packet_count:")[2].split(maxsplit=1)[0])


def test_limits_are_those_of_the_tenants(
    here: Lab, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant that comes would have no limit, and the number of one that went keep its own."""
    monkeypatch.setattr("netctl.agent.limits.KERNELS_TABLE", tmp_path / "max")
    (tmp_path / "max").write_text("10000\n")
    zones = {n | second for n in (1, 2, 3) for second in (0, SECOND)}
    assert limits(here) == dict.fromkeys(zones, LIMIT)
    here.instance.appctl("dpctl/ct-set-limits", "zone=900,limit=7")
    agent.state.set_tenant("green", {"number": 4})
    agent.state.set_tenant("red", None)
    agent.look()
    zones = {n | second for n in (1, 2, 4) for second in (0, SECOND)}
    assert limits(here) == {**dict.fromkeys(zones, LIMIT), 900: 7}, "somebody else's zone is left alone"
    here.instance.appctl("dpctl/ct-del-limits", "zone=900")
    share = Agent(here, 0)
    share.state.set_tenant("green", {"number": 4})
    share.look()
    each = ((0, 3_000_000 // 20), (SECOND, 10_000 // 20))
    shares = {n | second: share for n in (1, 2, 3, 4) for second, share in each}
    assert limits(here) == shares, "what leaves the switch takes a place in the kernel's table too, which is smaller"
    unknown = Agent(here)
    unknown.state.tenants = None
    unknown.look()
    assert limits(here) == shares, "an agent that knows nothing yet changes nothing"
    share.state.set_tenants({})
    share.look()
    assert limits(here) == {}


def test_a_switch_that_was_restarted(here: Lab, hosts: dict[str, Host], agent: Agent) -> None:
    """After a crash of the switch there would be no limits any more, and nobody would know."""
    here.instance.end_switch(signal.SIGKILL)
    assert "ovs-vswitchd" in str(agent.look())
    here.instance.start_switch()
    wait_for(lambda: here.instance.has_bridge(here.bridge), "the bridge")
    assert limits(here) == {}
    assert agent.look() == {}
    assert set(limits(here).values()) == {LIMIT}
    wait_for(lambda: hosts["c1"].reaches("tcp", VIPS["blue"], 80), "the switch to be filled")
    with contextlib.ExitStack() as stack:
        here.instance.flush_conntrack()
        assert opened(stack, hosts["c1"], VIPS["blue"], LIMIT + 3) == LIMIT
