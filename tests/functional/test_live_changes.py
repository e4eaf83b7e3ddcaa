"""A running service is changed: each change takes effect at once, and what it does not concern goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.running import (
    OTHER_VIP,
    PORTS,
    SECOND_VIP,
    VIP,
    becomes,
    connect,
    entries,
    goes_on,
    join,
    put,
    refused,
    reset,
    silent,
)

# What does not concern a connection

Change = Callable[[Lab, Mapping[str, Host], Host], None]


def other_leaves_and_joins(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    lab.rest.delete_endpoint("w2")
    becomes(client, {"w1"})
    join(lab, hosts["w2"])
    join(lab, hosts["w3"])
    becomes(client, {"w1", "w2", "w3"})


def other_is_unplugged(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    hosts["w2"].unplug()
    becomes(client, {"w1"})
    hosts["w2"].plug()
    becomes(client, {"w1", "w2"})


def a_port_comes_and_goes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    put(lab, ports=[*PORTS, "9090:81:TCP"])
    becomes(client, {"w1", "w2"}, port=9090)
    put(lab)
    assert refused(client, "tcp", VIP, 9090)


def the_weight_changes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    join(lab, hosts["w1"], weight=20)
    join(lab, hosts["w2"], weight=7)
    becomes(client, {"w1", "w2"})


def affinity_comes_and_goes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    put(lab, sessionAffinity=600)
    wait_for(lambda: len(set(client.who("tcp", VIP, 8080, 20))) == 1, "affinity")
    put(lab)
    becomes(client, {"w1", "w2"})


def it_drains(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    join(lab, hosts["w1"], state="draining")
    becomes(client, {"w2"})
    join(lab, hosts["w1"])
    becomes(client, {"w1", "w2"})


def a_second_service_comes_and_goes(lab: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    put(lab, "second", vip=OTHER_VIP, ports=["8080:80:TCP", "81:81:TCP", "53:53:UDP"])
    becomes(client, {"w1", "w2"}, vip=OTHER_VIP)
    lab.rest.delete_service("default:second")
    assert not client.reaches("tcp", OTHER_VIP, 8080)


@pytest.mark.parametrize(
    "change",
    [
        other_leaves_and_joins, other_is_unplugged, a_port_comes_and_goes, the_weight_changes, affinity_comes_and_goes,
        it_drains, a_second_service_comes_and_goes,
    ],
)  # fmt: skip
def test_open_connections_go_on(bare: Lab, hosts: Mapping[str, Host], client: Host, change: Change) -> None:
    """A deployment, or a change of an option, would cut connections that it has nothing to do with."""
    with (
        connect(client, "tcp", "w1") as tcp,
        connect(client, "udp", "w1") as udp,
        client.connect("tcp", "10.1.1.1", 80) as straight,
    ):
        for connection in (tcp, udp, straight):
            goes_on(connection, "w1")
        change(bare, hosts, client)
        for connection in (tcp, udp, straight):
            goes_on(connection, "w1")
        assert not client.reaches("tcp", VIP, 8081)


def test_straight_connections_outlive_the_service(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """To put a service before a running container, or to take it away, would cut who is connected to it already."""
    bare.rest.delete_service("default:app")
    with client.connect("tcp", "10.1.1.1", 80) as straight:
        goes_on(straight, "w1")
        put(bare)
        goes_on(straight, "w1")
        becomes(client, {"w1", "w2"})
        goes_on(straight, "w1")
        bare.rest.delete_service("default:app")
        goes_on(straight, "w1")


# What a change does


def test_another_vip(bare: Lab, client: Host) -> None:
    """A service would stay at an address that its owner has given up, or not be reached at the new one."""
    with connect(client, "tcp", "w1") as old:
        assert put(bare, vip=OTHER_VIP) == OTHER_VIP
        becomes(client, {"w1", "w2"}, vip=OTHER_VIP)
        becomes(client, {"w1", "w2"}, vip=OTHER_VIP, kind="udp", port=53)
        assert not client.reaches("tcp", VIP, 8080)
        assert not client.pings(VIP)
        assert client.pings(OTHER_VIP)
        silent(old)
    assert not [e for e in entries(bare) if f"dst={VIP}," in e[1]]


def test_another_network(bare: Lab, client: Host) -> None:
    """A service could not move to another network without being deleted."""
    vip = put(bare, vip="", network="srv2")
    assert vip == SECOND_VIP
    becomes(client, {"w1", "w2"}, vip=vip)
    assert not client.reaches("tcp", VIP, 8080)
    assert put(bare) == VIP
    becomes(client, {"w1", "w2"})
    assert not client.reaches("tcp", vip, 8080)


def test_other_ports(bare: Lab, client: Host) -> None:
    """A port that is closed would stay open, also for who is connected; or one that is opened stay closed."""
    with connect(client, "tcp", "w1") as old, connect(client, "udp", "w1") as udp:
        put(bare, ports=["9090:80:TCP", "53:53:UDP"])
        assert refused(client, "tcp", VIP, 8080)
        becomes(client, {"w1", "w2"}, port=9090)
        goes_on(udp, "w1")
        reset(bare, old)


def test_another_target_port(bare: Lab, client: Host) -> None:
    """New connections would go on to the old port of the container."""
    with connect(client, "tcp", "w1") as old:
        put(bare, ports=["8080:81:TCP", "53:53:UDP"])
        becomes(client, {"w1", "w2"})

        def targets() -> set[str]:
            return {e[2].split(",")[2] for e in entries(bare) if f"dst={VIP}," in e[1] and e[0] == "tcp"}

        wait_for(lambda: targets() == {"sport=81"}, "the old to be forgotten")
        reset(bare, old)


def test_other_selectors(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """A service would stay with the containers of the last version; or cut who is with one that stays."""
    join(bare, hosts["w1"], {"tier": "web", "v": "1"})
    join(bare, hosts["w3"], {"v": "1"})
    becomes(client, {"w1", "w2"})
    with connect(client, "tcp", "w1") as stays, connect(client, "tcp", "w2") as goes:
        put(bare, selectors=["v=1"])
        becomes(client, {"w1", "w3"})
        goes_on(stays, "w1")
        reset(bare, goes)
