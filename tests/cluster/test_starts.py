"""Many containers start and stop on several hosts at once, and what helps them to dies meanwhile."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import inf

from tests.cluster.machines import Cluster, Member
from tests.cluster.stage import Stage
from tests.e2e.machine import wait_for
from tests.e2e.node import IMAGE

STARTS = int(os.environ.get("NETCTL_CLUSTER_STARTS", "50"))  # containers a host in the test of starts at once
STAGE = 5  # endpoints that are there before


def held(cluster: Cluster) -> list[str]:
    """The addresses of all endpoints."""
    return [doc["ipAddress"][0] for doc in json.loads(cluster.rest("/api/v1/endpoints/"))]


def allocated(cluster: Cluster) -> int:
    """How many addresses of the providers' network are taken."""
    return int(json.loads(cluster.netctl("net", "inspect", "web-net"))["Oper"]["allocatedAddressesCount"])


def test_starts_and_stops_on_two_hosts_at_once(stage: Stage) -> None:
    """Else two hosts give one address to two containers, or addresses leak with every start."""
    failed: list[str] = []
    addresses: dict[str, list[tuple[float, str]]] = {}  # when it was seen at which container
    removed: dict[str, float] = {}  # from when on a container was about to go

    def churn(member: Member) -> None:
        try:
            for count in range(STARTS):
                name = f"{member.host}-{count}"
                member.docker("run", "-d", "--name", name, "--net=web-net", IMAGE, "sleep", "3600")
                addresses.setdefault(member.address(name, "web-net"), []).append((time.monotonic(), name))
                if count % 2:
                    before = f"{member.host}-{count - 1}"
                    removed[before] = time.monotonic()
                    member.docker("rm", "-f", before)
        except Exception as error:  # noqa: BLE001 - the test shows it
            failed.append(f"{member.host}: {error}")

    pair = stage.cluster.members[:2]
    began = time.monotonic()
    threads = [threading.Thread(target=churn, args=(member,)) for member in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    print(f"{2 * STARTS} containers in {time.monotonic() - began:.1f} s")
    assert not failed
    there = {f"{member.host}-{count}" for member in pair for count in range(1, STARTS, 2)}
    wait_for(lambda: there <= stage.cluster.endpoints().keys(), "all to be listed")
    wait_for(lambda: len(held(stage.cluster)) == STAGE + len(there), "none that is gone to be listed")
    assert len(set(held(stage.cluster))) == len(held(stage.cluster))
    for holders in addresses.values():  # on a busy machine all of this takes more than the minute that it is kept
        for (_, before), (seen, name) in pairwise(sorted(holders)):
            assert seen > removed.get(before, inf) + 60, f"{before} and {name} had one address within a minute"
    for member in pair:
        member.docker("rm", "-f", *(name for name in there if name.startswith(member.host)))
    wait_for(lambda: len(held(stage.cluster)) == STAGE, "the endpoints to be gone")
    wait_for(lambda: allocated(stage.cluster) == 3, "all addresses but the providers' to be free")


def test_an_agent_that_is_killed_while_containers_start(stage: Stage) -> None:
    """Else a container is left without a network or nobody's list, an address is lost or given twice."""
    member = stage.cluster.members[0]
    names = [f"s{number}" for number in range(10)]
    ports = member.ports()

    def start(name: str) -> bool:
        """Whether it runs; who was refused is removed, as its user does."""
        try:
            member.docker("run", "-d", "--name", name, "--net=web-net", "--label=tier=many", IMAGE, "sleep", "3600")
        except AssertionError:
            member.docker("rm", "-f", name, check=False)
            return False
        return True

    with ThreadPoolExecutor(len(names)) as pool:
        asked = {name: pool.submit(start, name) for name in names}
        wait_for(lambda: member.ports() != ports, "the first one to be plugged in")
        member.kill("agent")
        member.start_agent()
        started = {name for name, answer in asked.items() if answer.result()}
    wait_for(lambda: started <= stage.cluster.endpoints().keys(), "all that run to be listed")
    assert {name for name in stage.cluster.endpoints() if name.startswith("s")} == started
    addresses = {name: member.address(name, "web-net") for name in started}
    assert len(set(addresses.values())) == len(started)
    listed = stage.cluster.endpoints()
    assert {name: listed[name]["ipAddress"][0].partition("/")[0] for name in started} == addresses
    wait_for(stage.all_settled, "the switches")
    for address in addresses.values():
        assert stage.clients[1].pings(address), "reached from another host"
    if started:
        member.docker("rm", "-f", *started)
    wait_for(lambda: len(held(stage.cluster)) == STAGE, "the endpoints to be gone")
    wait_for(lambda: allocated(stage.cluster) == 3, "all addresses but the providers' to be free")
    wait_for(lambda: member.ports() == ports, "no port to be left")
    for name in names:  # and each name can be used again
        assert start(name)
    wait_for(lambda: set(names) <= stage.cluster.endpoints().keys(), "all ten to be listed")
