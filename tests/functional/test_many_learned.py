"""A port that claims hosts without an end: so many are learned, in few commits, and the other ports go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kit.bare import DPID, GATEWAY, ROUTER, World, bare_world
from tests.kit.controller import Controller, controller
from tests.kit.ovs import wait_for
from tests.kit.station import arp

PER_PORT = 8
CLAIMED = 1200


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    made = tmp_path_factory.mktemp("many")
    with controller(made, "127.0.0.1", "--learned-per-port", str(PER_PORT)) as running:
        yield running


@pytest.fixture
def world(control: Controller) -> Iterator[World]:
    with bare_world(control) as made:
        yield made


def claim(world: World, number: int, first: int = 0) -> None:
    """ARP of as many hosts, each with a MAC and an address of its own."""
    flood = world.stations[0]
    for n in range(first, first + number):
        mac = bytes.fromhex("024d4f00") + n.to_bytes(2, "big")
        flood.send(arp(mac, f"10.3.{1 + n % 2}.{1 + n // 2 % 250}", GATEWAY))


def test_a_port_that_claims_many_hosts(world: World) -> None:
    """One bare host could fill the store with endpoints, and every change take seconds."""
    rest, started = world.control.client, time.monotonic()
    slowest = 0.0
    for round_ in range(6):
        claim(world, CLAIMED // 6, round_ * CLAIMED // 6)
        began = time.monotonic()
        rest.put_tenant(f"t{round_}")
        slowest = max(slowest, time.monotonic() - began)

    def ignored() -> str:
        return str(world.control.switch(DPID)["errors"].get(f"port {world.stations[0].port}", ""))

    wait_for(ignored, "the user to be told")
    assert ignored().startswith(f"{PER_PORT} hosts are learned there, the most (--learned-per-port): ")
    learned = [e for e in rest.endpoints() if e["origin"] == "learned"]
    assert len(learned) == PER_PORT
    assert slowest < 2, f"a change took {slowest:.1f} s of {time.monotonic() - started:.1f}"
    other = world.stations[1]

    def known() -> bool:
        other.ask("10.3.1.251", GATEWAY)
        return bool(world.endpoints("10.3.1.251"))

    wait_for(known, "a host at another port to be learned")
    other.ask("10.3.1.251", GATEWAY)
    assert other.answer(GATEWAY) == ROUTER
    for round_ in range(6):
        rest.delete_tenant(f"t{round_}")


def test_who_is_learned_may_change_its_address(world: World) -> None:
    """At a full port a host that gets another address would be cut off."""
    flood = world.stations[0]
    for n in range(PER_PORT):
        flood.send(arp(bytes.fromhex("024d4f0100") + bytes([n]), f"10.3.1.{1 + n}", GATEWAY))
    wait_for(lambda: len(world.control.client.endpoints()) == PER_PORT, "the port to be full")
    flood.send(arp(bytes.fromhex("024d4f010003"), "10.3.1.99", GATEWAY))
    wait_for(lambda: world.endpoints("10.3.1.99"), "the new address to be learned")
    assert len(world.control.client.endpoints()) == PER_PORT
