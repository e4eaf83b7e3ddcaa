"""A provider stops serving but lives on: its UDP clients move, its open TCP connections stay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import run, wait_for
from tests.kit.running import VIP, connect, entries, goes_on, join, put, to_provider
from tests.kit.wide import of_family

DRAIN = 2  # s; what is asked meanwhile takes some milliseconds
UDP, TCP = "17", "6"


Stop = Callable[[Lab, Mapping[str, Host]], None]


def paused(lab: Lab, hosts: Mapping[str, Host]) -> None:
    join(lab, hosts["w1"], state="paused")


def unhealthy(lab: Lab, hosts: Mapping[str, Host]) -> None:
    join(lab, hosts["w1"], health="unhealthy")


def starting(lab: Lab, hosts: Mapping[str, Host]) -> None:
    join(lab, hosts["w1"], health="starting")


def failing(lab: Lab, hosts: Mapping[str, Host]) -> None:
    lab.rest.set_checks("w1", {"default:app": False})


def without_a_link(lab: Lab, hosts: Mapping[str, Host]) -> None:
    run("ip", "-n", hosts["w1"].netns, "link", "set", "eth0", "down")


def moves(udp: object, name: str) -> None:
    """The socket's next datagrams are answered by another; one that met a cached decision is lost."""

    def moved() -> bool:
        with contextlib.suppress(TimeoutError):
            return ask_again(udp).split()[0] == name  # type: ignore[arg-type]
        return False

    wait_for(moved, f"a client to move to {name}")


@pytest.mark.parametrize("stop", [paused, unhealthy, starting, failing])
def test_udp_moves_and_tcp_stays(
    bare: Lab, hosts: Mapping[str, Host], client: Host, version: int, stop: Stop
) -> None:
    """A resolver or a phone would send to a frozen or broken server for as long as it goes on sending."""
    check = {"protocol": "tcp", "interval": 5, "timeout": 2}
    put(bare, healthCheck=check)
    for name in ("w1", "w2"):
        bare.rest.set_checks(name, {"default:app": True})
    vip, w1 = of_family(version, VIP), of_family(version, "10.1.1.1")
    with (
        connect(client, "tcp", "w1", vip=vip) as tcp,
        connect(client, "udp", "w1", vip=vip) as udp,
        client.connect("udp", w1, 53) as straight,
    ):
        goes_on(straight, "w1")
        udp.settimeout(0.3)
        stop(bare, hosts)
        moves(udp, "w2")
        wait_for(lambda: {e[0] for e in to_provider(bare, w1, vip)} == {"tcp"}, "UDP's to be forgotten")
        goes_on(tcp, "w1")
        goes_on(straight, "w1")
        assert [e for e in entries(bare) if e[0] == "udp" and f"src={w1}," in e[2]], "straight to it is not the VIP's"


def test_a_port_that_goes_down(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """A client would send to a container whose interface is down for as long as it goes on sending."""
    with connect(client, "udp", "w1") as udp:
        udp.settimeout(0.3)
        try:
            without_a_link(bare, hosts)
            moves(udp, "w2")
        finally:
            for command in ("link set eth0 up", "route add default via 10.1.1.254"):
                run("ip", "-n", hosts["w1"].netns, *command.split())


def test_a_container_drains(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """A call in progress would be cut by a deployment, or never move on from the container that is being stopped."""
    put(bare, drainTimeout=DRAIN)
    with connect(client, "udp", "w1") as udp:
        join(bare, hosts["w1"], state="draining")
        bare.settled()
        goes_on(udp, "w1")
        udp.settimeout(0.3)
        moves(udp, "w2")


def test_a_host_drains(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """UDP clients of a host that is to be emptied would never leave it; TCP connections there would be cut."""
    dpid = bare.dpid
    bare.rest.put_host({"hostName": "h1", "switch": dpid})
    try:
        join(bare, hosts["w1"], switch="", homingHost="h1")
        put(bare, drainTimeout=DRAIN)
        with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w1") as udp:
            bare.rest.drain_host("h1")
            bare.settled()
            goes_on(udp, "w1")
            udp.settimeout(0.3)
            moves(udp, "w2")
            goes_on(tcp, "w1")
            bare.rest.undrain_host("h1")
            with connect(client, "udp", "w1") as again:
                goes_on(again, "w1")
    finally:
        bare.rest.delete_endpoint("w1")
        bare.rest.drain_host("h1")
        bare.rest.delete_host("h1")


def test_a_provider_that_asks_its_own_vip(bare: Lab, hosts: Mapping[str, Host], client: Host) -> None:
    """A container that is not well would go on asking itself through its own service."""
    with connect(hosts["w1"], "udp", "w1") as udp:
        udp.settimeout(0.3)
        join(bare, hosts["w1"], health="unhealthy")
        moves(udp, "w2")
        wait_for(lambda: not [e for e in entries(bare) if e[3] == str(1 | 0x8000)], "the second zone to be empty")
