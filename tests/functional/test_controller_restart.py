"""The controller goes and comes: traffic goes on, and what it sends afterwards is the difference and nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ryu_apps.pipeline.tables import Table
from tests.kit.controller import controller
from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.loop import asking
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private

WEB = {"tier": "web"}
VIP = "100.1.1.1"


@pytest.fixture(scope="module")
def furnished(bare: Lab) -> Lab:
    """A service with two providers, and a client."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    for name in ("w1", "w2"):
        bare.host(name, "web", f"10.1.1.{name[1]}", WEB, serve=["tcp:80", "udp:53"])
    bare.host("c1", "cli", "20.1.1.1")
    assert bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"]) == VIP
    return bare


@pytest.fixture
def there(furnished: Lab) -> Lab:
    """The same, with its controller running and connected, whatever the last test has done."""
    if not furnished.controller.running:
        furnished.controller.start()
    furnished.connect()
    return furnished


@pytest.fixture
def client(there: Lab) -> Host:
    return Host("c1", there.instance, there.bridge, "20.1.1.1/24", "20.1.1.254")


def mods(there: Lab) -> tuple[int, int]:
    """How many flow and group mods this controller has sent since the switch connected, when it has settled."""
    doc = there.settled()
    return doc["flowMods"], doc["groupMods"]


def difference(before: tuple[set[tuple[int, int, int, str, str]], list[str]], there: Lab) -> tuple[int, int]:
    """How many flows and groups are not as they were."""
    flows, groups = there.contents()
    # a group that changed is one line less and one more: one mod
    known = {line.split(",")[0]: line for line in before[1]}
    now = {line.split(",")[0]: line for line in groups}
    return len(flows ^ before[0]), len({k for k in known | now if known.get(k) != now.get(k)})


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_goes_unnoticed(there: Lab, client: Host, how: signal.Signals) -> None:
    """Every update or crash of the controller would cut connections, or send all of the model again."""
    before = there.contents()
    with (
        asking(client, "tcp", VIP, 8080) as tcp,
        asking(client, "udp", VIP, 53) as udp,
        client.connect("tcp", VIP, 8080) as connection,
    ):
        provider = ask_again(connection)
        tcp.wait_for_more()
        if how == signal.SIGTERM:
            there.controller.stop()
        else:
            there.controller.kill()
        tcp.wait_for_more()
        udp.wait_for_more()
        assert ask_again(connection) == provider
        there.controller.start()
        assert mods(there) == (0, 0)
        tcp.wait_for_more()
        udp.wait_for_more()
        assert ask_again(connection) == provider

    assert (tcp.failures, udp.failures) == ([], [])
    assert there.contents() == before
    doc = there.settled()
    assert (doc["flows"], doc["groups"]) == (len(before[0]), len(before[1]))


def test_a_dead_port_is_passed_over_without_a_controller(there: Lab, client: Host) -> None:
    """While the controller is away, a part of all new connections would go to a provider that is gone."""
    there.controller.kill()
    port = Host("w2", there.instance, there.bridge, "10.1.1.2/24").port_name
    there.instance.ip("link", "set", port, "down")

    wait_for(lambda: not client.reaches("tcp", "10.1.1.2", 80), "the provider to be gone")
    wait_for(lambda: all(client.reaches("tcp", VIP, 8080) for _ in range(20)), "the other to have all connections")
    assert set(client.who("tcp", VIP, 8080, 20)) == {"w1"}

    there.instance.ip("link", "set", port, "up")
    there.controller.start()
    wait_for(lambda: client.answered_by({"w1", "w2"}, VIP, 8080, 20), "both to be back")
    assert mods(there) == (0, 0)


def test_what_changed_while_the_switch_was_away(there: Lab, client: Host) -> None:
    """The switch would miss changes, or get all anew: every connection looked up again."""
    before = there.contents()
    there.disconnect()
    vip = there.service("late", "srv", ["9090:80:TCP"], ["tier=web"])
    there.service("app", "srv", ["8080:80:TCP", "53:53:UDP", "8081:80:TCP"], ["tier=web"])
    assert there.contents() == before
    assert client.reaches("tcp", VIP, 8080), "the switch goes on without"
    there.connect()

    sent = mods(there)

    assert sent == difference(before, there)
    assert sent[1] == 4, "a group for each new port and family"
    assert client.reaches("tcp", vip, 9090)
    assert client.reaches("tcp", VIP, 8081)

    changed = there.contents()
    there.disconnect()
    there.rest.delete_service("default:late")
    there.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"])
    there.connect()
    assert mods(there) == difference(changed, there) == sent
    assert there.contents() == before


def test_what_changed_while_the_controller_knew_another_store(
    there: Lab, client: Host, tmp_path: Path, instance: Private
) -> None:
    """A restored backup of the store would not reach the switch."""
    before = there.contents()
    there.controller.stop()
    saved = there.controller.store.read_bytes()
    there.controller.start()
    there.settled()
    there.rest.delete_endpoint("w2")
    wait_for(lambda: client.answered_by({"w1"}, VIP, 8080, 20), "w2 to be gone")
    gone = there.contents()
    there.controller.stop()
    for path in there.controller.store.parent.glob("netctl.db*"):
        path.unlink()
    there.controller.store.write_bytes(saved)
    there.controller.start()

    assert mods(there) == difference(gone, there)

    assert there.contents() == before
    assert set(client.who("tcp", VIP, 8080, 20)) == {"w1", "w2"}


def test_what_was_changed_by_hand(there: Lab, client: Host) -> None:
    """A flow lost in the switch would stay lost, and a leftover group of a crash stay for ever."""
    before = there.contents()
    there.controller.stop()
    ofctl = there.instance.ofctl
    flows = there.flows(f"table={Table.ROUTE.value}")
    route = next(f for f in flows if f.match.endswith("nw_dst=10.1.1.2") and "nw_src" not in f.match)
    ofctl("del-flows", there.bridge, f"cookie={route.cookie:#x}/-1,table={Table.ROUTE.value}")
    wait_for(lambda: not client.reaches("tcp", "10.1.1.2", 80), "the flow to be missed")
    ofctl("add-group", there.bridge, "group_id=256000,type=select,bucket=drop")

    there.controller.start()

    assert mods(there) == (1, 1)
    assert there.contents() == before
    wait_for(lambda: client.reaches("tcp", "10.1.1.2", 80), "the flow to work again")


def test_what_is_not_ours_is_left_alone(there: Lab) -> None:
    """A flow that an administrator put in by hand, and the group it uses, would vanish."""
    before = there.contents()
    ofctl = there.instance.ofctl
    ofctl("add-group", there.bridge, "group_id=7,type=select,bucket=drop")
    ofctl("add-flow", there.bridge, "cookie=0x5,table=200,priority=7,actions=group:7")
    with_theirs = there.contents()
    there.controller.restart()

    assert mods(there) == (0, 0)

    assert there.contents() == with_theirs
    ofctl("del-groups", there.bridge, "group_id=7")
    assert there.contents() == before


def test_a_group_that_was_changed_by_hand(there: Lab, client: Host) -> None:
    """A service would keep selecting what somebody else put into its group."""
    before = there.contents()
    number = before[1][0].split(",")[0].removeprefix("group_id=")
    there.controller.stop()
    there.instance.ofctl("mod-group", there.bridge, f"group_id={number},type=select,bucket=drop")
    there.controller.start()

    assert mods(there) == (0, 1)

    assert there.contents() == before


def test_an_empty_store_and_a_full_switch(there: Lab, instance: Private, tmp_path: Path) -> None:
    """The flows of services that nobody knows any more would stay in the switch."""
    with controller(tmp_path, instance.controller_host) as empty:
        there.instance.vsctl("set-controller", there.bridge, empty.target)
        empty.wait_for_switch(there.dpid)
        assert there.groups() == []
        assert not any("nw_dst=100.1.1.1" in f.match for f in there.flows())
    there.connect()
    assert len(there.groups()) == 4
