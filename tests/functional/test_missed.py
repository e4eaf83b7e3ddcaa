"""What ends while the switch has no controller: once it has one again, clients move on or are told."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.running import (
    PORTS,
    VIP,
    connect,
    entries,
    goes_on,
    join,
    put,
    reset,
    to_provider,
)  # fmt: skip
from tests.kit.wide import of_family


@pytest.fixture(params=["the switch is away", "the controller restarts"])
def away(request: pytest.FixtureRequest, bare: Lab) -> Callable[[], None]:
    """Cuts the switch off; what this returns joins them again."""

    def back() -> None:
        if request.param == "the controller restarts":
            bare.controller.kill()
            bare.controller.start()
        bare.connect()

    bare.disconnect()
    return back


ENDS: dict[str, Callable[[Lab, Mapping[str, Host]], object]] = {
    "deleted": lambda lab, _: lab.rest.delete_endpoint("w1"),
    "deleted, and the service made anew": lambda lab, _: (
        lab.rest.delete_service("default:app"),
        lab.rest.delete_endpoint("w1"),
        put(lab),
    ),
    "stopped": lambda lab, hosts: join(lab, hosts["w1"], state="stopped"),
    "relabelled": lambda lab, hosts: join(lab, hosts["w1"], {"tier": "db"}),
    "unplugged": lambda _, hosts: hosts["w1"].unplug(),
}


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest, bare: Lab, hosts: Mapping[str, Host]) -> Iterator[Callable[[], object]]:
    """Ends w1; it is plugged in afterwards."""
    yield lambda: ENDS[request.param](bare, hosts)
    if request.param == "unplugged":
        hosts["w1"].plug()
        bare.settled()


def test_a_provider_ends(
    bare: Lab, client: Host, version: int, end: Callable[[], object], away: Callable[[], None]
) -> None:
    """A resolver would ask a dead server for as long as it asks at all, and a TCP client wait for minutes."""
    vip, w1 = of_family(version, VIP), of_family(version, "10.1.1.1")
    with connect(client, "tcp", "w1", vip=vip) as tcp, connect(client, "udp", "w1", vip=vip) as udp:
        other = connect(client, "tcp", "w2", vip=vip)
        end()
        away()
        wait_for(lambda: not to_provider(bare, w1, vip), "its connections to be forgotten")
        assert ask_again(udp).split()[0] == "w2"
        reset(bare, tcp, vip)
        goes_on(other, "w2")
        other.close()


def test_a_service_ends(bare: Lab, client: Host, away: Callable[[], None]) -> None:
    """Connections of a service that is gone would be kept, and meet the next that has its address."""
    with connect(client, "tcp", "w1"), connect(client, "udp", "w2"):
        bare.rest.delete_service("default:app")
        away()
        wait_for(lambda: not entries(bare), "conntrack to be empty")


def test_a_port_ends(bare: Lab, client: Host, away: Callable[[], None]) -> None:
    """A port that a service has no more would go on for those who have a connection."""
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w2") as udp:
        put(bare, ports=PORTS[1:])
        away()
        reset(bare, tcp)
        goes_on(udp, "w2")


def test_a_drain_ends(bare: Lab, hosts: Mapping[str, Host], client: Host, away: Callable[[], None]) -> None:
    """A connection that outlives the drain time would keep its client waiting until the container is killed."""
    put(bare, drainTimeout=1)
    with connect(client, "tcp", "w1") as tcp, connect(client, "tcp", "w2") as other:
        join(bare, hosts["w1"], state="draining")

        wait_for(lambda: drained(bare, "w1"), "the drain time to be over")
        away()
        reset(bare, tcp)
        goes_on(other, "w2")


def drained(lab: Lab, name: str) -> bool:
    """Whether the controller has stored that an endpoint's drain time is over."""
    with contextlib.closing(sqlite3.connect(f"file:{lab.controller.store}?mode=ro", uri=True)) as store:
        ((text,),) = store.execute("SELECT data FROM objects WHERE kind = 'endpoint' AND key = ?", (name,))
    return bool(json.loads(text)["drained"])


def test_nothing_ends(bare: Lab, client: Host, away: Callable[[], None]) -> None:
    """Each restart of the controller would cost clients their connections."""
    with connect(client, "tcp", "w1") as tcp, connect(client, "udp", "w2") as udp:
        before = entries(bare)
        away()
        goes_on(tcp, "w1")
        goes_on(udp, "w2")
        assert before <= entries(bare)
