"""Session affinity: a client stays with its provider, for the time that was said, and not longer than there is one."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ryu_apps.pipeline.features.affinity import most_clients
from ryu_apps.pipeline.tables import Table
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.wide import of_family

VIP, OTHER = "100.1.1.1", "100.1.1.2"
PORTS = ["8080:80:TCP", "53:53:UDP"]
PORTS_IN_A_ROW = itertools.count(10240, 16)


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Three providers, and clients."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    made = {
        name: bare.host(name, "web", f"10.1.1.{name[1]}", {"tier": "web"}, serve=["tcp:80", "udp:53"])
        for name in ("w1", "w2", "w3")
    }
    return made | {f"c{n}": bare.host(f"c{n}", "cli", f"20.1.1.{n}") for n in range(1, 7)}


@pytest.fixture
def service(bare: Lab, hosts: Mapping[str, Host]) -> Iterator[Any]:
    """Makes the service, with these options; it goes afterwards, and all that was learned with it."""

    def make(**options: Any) -> None:
        assert bare.service("app", "srv", PORTS, ["tier=web"], vip=VIP, options=options) == VIP

    yield make
    bare.rest.delete_service("default:app")
    wait_for(lambda: not learned(bare), "what was learned to be gone")


def together(client: Host, kind: str, vip: str, port: int) -> set[str]:
    """Who answers ten new connections, one after the other and before anything is learned of the client.

    From ports in a row: of a client's port only the high bits say who is chosen, until then.
    """
    first = next(PORTS_IN_A_ROW)
    return {client.ask(kind, vip, port, source_port=first + n).split()[0] for n in range(10)}


def learned(lab: Lab) -> list[str]:
    """What the switch has learned: a line a client."""
    return [f.match for f in lab.flows(f"table={Table.STICKY.value}") if f.priority]


def births(lab: Lab) -> list[float]:
    """When (monotonic s) the switch has learned each."""
    dump = lab.instance.ofctl("dump-flows", lab.bridge, f"table={Table.STICKY.value}")
    ages = re.findall(r"duration=([0-9.]+)s.* priority=[1-9]", dump)
    return [time.monotonic() - float(age) for age in ages]


def test_a_client_stays_and_a_neighbour_service_does_not(
    bare: Lab, hosts: Mapping[str, Host], service: Any, version: int
) -> None:
    """Sessions kept in a provider's memory would be lost with the next connection; or services affect each other."""
    service(sessionAffinity=60)
    vip, other = (of_family(version, v) for v in (VIP, bare.service("plain", "srv", PORTS, ["tier=web"], vip=OTHER)))
    chosen = {}
    for name in ("c1", "c2", "c3", "c4", "c5", "c6"):
        met = together(hosts[name], "tcp", vip, 8080) | together(hosts[name], "udp", vip, 53)
        assert len(met) == 1, f"{name} met {met}: one provider, for all of the service's ports"
        chosen[name] = met.pop()
    assert len(set(chosen.values())) > 1, "clients are spread"
    assert len(set(hosts["c1"].who("tcp", other, 8080, 30))) == 3
    assert len(learned(bare)) == 6
    bare.rest.delete_service("default:plain")


def test_a_provider_that_goes_frees_its_clients_at_once(
    bare: Lab, hosts: Mapping[str, Host], service: Any, version: int
) -> None:
    """A client would be stuck to a dead provider until the time is over."""
    service(sessionAffinity=3600)
    client, vip = hosts["c1"], of_family(version, VIP)
    (first,) = together(client, "tcp", vip, 8080)
    hosts[first].register(bare.rest, "web", {"tier": "web"}, state="paused")
    try:
        # at once, or when cached decisions are gone
        wait_for(lambda: first not in together(client, "tcp", vip, 8080), "the client to move")
        (second,) = together(client, "tcp", vip, 8080)
    finally:
        hosts[first].register(bare.rest, "web", {"tier": "web"})
    assert together(client, "tcp", vip, 8080) == {second}, "it stays where it went"


@pytest.mark.parametrize("mode", ["idle", "absolute"])
def test_it_ends(bare: Lab, hosts: Mapping[str, Host], service: Any, mode: str) -> None:
    """A client would stay with one provider for ever, whatever was said."""
    service(sessionAffinity=2, affinityMode=mode)
    client = hosts["c1"]
    (first,) = set(client.who("tcp", VIP, 8080, 3))
    began = time.monotonic()
    if mode == "absolute":
        (born,) = births(bare)

        def renewed() -> bool:
            """Whether what was learned is gone, though it is in use; the next one may be the same provider."""
            client.ask("tcp", VIP, 8080)
            return all(birth > born + 1 for birth in births(bare))

        assert not renewed()
        wait_for(renewed, "it to end", 30)
        assert time.monotonic() - began > 1
    else:
        for _ in range(8):
            next_use = time.monotonic() + 0.5
            wait_for(lambda until=next_use: time.monotonic() > until, "half a second")
            assert set(client.who("tcp", VIP, 8080, 1)) == {first}, "in use, it does not end"
        wait_for(lambda: not learned(bare), "it to be forgotten, without use")


def test_more_clients_than_are_remembered(bare: Lab, hosts: Mapping[str, Host], service: Any) -> None:
    """A flood of clients would fill the switch with what it learns of them, until it has no memory left."""
    service(sessionAffinity=600)
    flows = [f for f in bare.flows() if f.table == Table.KEEP and "tcp" in f.match and "learn(" in f.actions]
    limit = f"limit={most_clients(3)}"
    assert flows and all(limit in f.actions for f in flows)
    for flow in flows:  # as they are, but for the limit
        actions = flow.actions.replace(limit, "limit=1")
        what = f"table={flow.table},cookie={flow.cookie:#x},priority={flow.priority},{flow.match}"
        bare.instance.ofctl("add-flow", bare.bridge, f"{what},actions={actions}")
    clients = [hosts[f"c{n}"] for n in range(1, 7)]

    def one_for_each() -> bool:
        for client in clients:
            assert client.who("tcp", VIP, 8080, 2), "who is not remembered is served all the same"
        return len(learned(bare)) == 3

    wait_for(one_for_each, "one client of each provider to be remembered", 30)
    for client in clients:
        client.ask("tcp", VIP, 8080)
    assert len(learned(bare)) == 3


def test_more_providers_do_not_move_clients(bare: Lab, hosts: Mapping[str, Host], service: Any) -> None:
    """Each provider remembers fewer clients when there are more: with that change all sessions would end."""
    assert most_clients(5) < most_clients(3)
    service(sessionAffinity=600)
    chosen = {name: together(hosts[name], "tcp", VIP, 8080).pop() for name in ("c1", "c2", "c3", "c4")}
    before = births(bare)
    for n in (4, 5):
        bare.host(f"w{n}", "web", f"10.1.1.{n}", {"tier": "web"}, serve=["tcp:80"])
    try:
        wait_for(lambda: f"limit={most_clients(5)}" in learns(bare), "the new limit")
        assert {name: together(hosts[name], "tcp", VIP, 8080).pop() for name in chosen} == chosen
        assert len(births(bare)) == len(before)
    finally:
        for name in ("w4", "w5"):
            bare.rest.delete_endpoint(name)
    wait_for(lambda: f"limit={most_clients(3)}" in learns(bare), "the old limit")
    assert {name: together(hosts[name], "tcp", VIP, 8080).pop() for name in chosen} == chosen


def learns(lab: Lab) -> str:
    """What learns clients, in one string."""
    return "\n".join(f.actions for f in lab.flows(f"table={Table.KEEP.value}"))
