"""What the switch has counted: a service's connections add up, and the packets of forged senders."""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from netctl.cli import main
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.wide import wide

WEB = {"tier": "web"}
# Each service has ports of the providers to itself. When one is gone, Open vSwitch lets pass what comes from its port,
# and for some milliseconds still when the next one is there: the answer to a datagram would not be translated.
NUMBERS = itertools.count()
UDP_PORTS = itertools.count(10_000)  # of the client, each used once


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Three providers and a client."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    bare.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    serve = [f"tcp:{80 + n}" for n in range(4)] + [f"udp:{53 + n}" for n in range(4)]
    made = {f"w{n}": bare.host(f"w{n}", "web", f"10.1.1.{n}", WEB, serve=serve) for n in (1, 2, 3)}
    return made | {"c1": bare.host("c1", "cli", "20.1.1.1")}


def counters(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.rest.inspect("serviceLBs", "default:app")["Oper"]["counters"]
    return found


def wait_for_total(lab: Lab, *wanted: int) -> dict[str, Any]:
    """Until the switch has counted so many connections to each port."""
    wait_for(lambda: [p["connections"] for p in counters(lab)["ports"]] == list(wanted), f"{wanted} connections")
    return counters(lab)


def make(lab: Lab, options: Mapping[str, int] | None = None, *, udp: bool = True) -> tuple[str, list[str]]:
    """A service over all three; its VIP and its ports."""
    number = next(NUMBERS)
    ports = [f"8080:{80 + number}:TCP", *([f"5353:{53 + number}:UDP"] if udp else ())]
    lab.service("app", "srv", ports, ["tier=web"], vip=f"100.1.1.{1 + number}", options=options or {})
    return f"100.1.1.{1 + number}", ports


def ask(client: Host, address: str, times: int) -> tuple[Counter[str], Counter[str]]:
    """Who answered, over TCP and over UDP; half of the connections are IPv6's."""
    half = times // 2
    vips = [address] * (times - half) + [wide(address)] * half
    # the kernel gives out a UDP port twice now and then: to conntrack a connection that goes on
    udp = [client.ask("udp", vip, 5353, source_port=next(UDP_PORTS)).split()[0] for vip in vips]
    tcp = client.who("tcp", address, 8080, times - half) + client.who("tcp", wide(address), 8080, half)
    return Counter(tcp), Counter(udp)


@pytest.mark.parametrize("options", [{}, {"sessionAffinity": 60}], ids=["spread", "affinity"])
def test_connections_add_up(bare: Lab, hosts: Mapping[str, Host], options: Mapping[str, int]) -> None:
    """Nobody could see which provider is busy, or whether one gets nothing at all."""
    vip, _ = make(bare, options)
    try:
        tcp, udp = ask(hosts["c1"], vip, 40)
        wait_for_total(bare, 40, 40)

        def adds_up() -> bool:
            # the switch brings its counters up to date one after another, also while they are read
            found = counters(bare)
            each = [p["providers"] for p in found["ports"]] == [tcp, udp]
            return each and found["providers"] == tcp + udp and not any(p["other"] for p in found["ports"])

        wait_for(adds_up, f"providers to have had {tcp} and {udp}")
        wait_for(lambda: counters(bare)["packets"] >= 80 + 40, "more packets than the first of each connection")
        assert counters(bare)["refused"] == 0
    finally:
        bare.rest.delete_service("default:app")


def test_a_provider_leaves(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """Whoever looks after a provider has left would see all counts begin anew, and no trace of what it was given."""
    vip, _ = make(bare)
    tcp, udp = ask(hosts["c1"], vip, 30)
    wait_for_total(bare, 30, 30)
    try:
        hosts["w3"].register(bare.rest, "web", WEB, health="unhealthy")
        more, more_udp = ask(hosts["c1"], vip, 10)
        found = wait_for_total(bare, 40, 40)
        assert [p["providers"] for p in found["ports"]] == [tcp + more, udp + more_udp], "unhealthy, but still one"

        hosts["w3"].register(bare.rest, "web")
        found = wait_for_total(bare, 40, 40)
        assert [p["other"] for p in found["ports"]] == [tcp["w3"], udp["w3"]]
        assert set(found["providers"]) == {"w1", "w2"}
    finally:
        hosts["w3"].register(bare.rest, "web", WEB)

    for name in ("w1", "w2", "w3"):
        bare.rest.delete_endpoint(name)
    assert [p["connections"] for p in counters(bare)["ports"]] == [40, 40], "no provider is left"
    assert not hosts["c1"].reaches("tcp", vip, 8080)
    assert not hosts["c1"].reaches("tcp", vip, 9999)
    wait_for(lambda: counters(bare)["refused"] == 2, "two refused connections")
    for name in ("w1", "w2", "w3"):
        hosts[name].register(bare.rest, "web", WEB)
    bare.rest.delete_service("default:app")


def test_the_table(bare: Lab, hosts: Mapping[str, Host], capsys: pytest.CaptureFixture[str]) -> None:
    """The counts would be there, but for programs only."""
    vip, (wanted,) = make(bare, udp=False)
    given, _ = Counter(hosts["c1"].who("tcp", vip, 8080, 20)), wait_for_total(bare, 20)
    assert main(["--netmaster", bare.controller.url, "service", "stats", "app"]) == 0
    head, port, empty, columns, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith(f"default:app at {vip} and {wide(vip)}: ")
    assert (port, empty) == (f"{wanted}: 20 connections", "")
    assert columns.split() == ["Provider", "Address", "State", "Weight", "Connections", "Share"]
    addresses = f"10.1.1.1,{wide('10.1.1.1')}"
    assert rows[0].split() == ["w1", addresses, "running", "1", str(given["w1"]), f"{5 * given['w1']:.1f}", "%"]
    assert len(rows) == 3
    bare.rest.delete_service("default:app")


def test_forged_packets(bare: Lab, hosts: Mapping[str, Host]) -> None:
    """Nobody would see that a container claims to be another one."""
    client = hosts["c1"]
    frame = bytes.fromhex("0e4e43000001") + bytes.fromhex(client.mac.replace(":", "")) + b"\x08\x00"
    head = bytes.fromhex("450000140000000040fd0000") + socket.inet_aton("20.1.1.9") + socket.inet_aton("10.1.1.1")
    with client.open("raw") as cable:
        for _ in range(5):
            cable.send(frame + head)

    def forged() -> dict[str, int]:
        return {p["name"]: p.get("forged", -1) for p in bare.rest.switch(bare.dpid)["ports"]}

    wait_for(lambda: forged()[client.port_name] == 5, "five forged packets")
    assert forged()[hosts["w1"].port_name] == 0
