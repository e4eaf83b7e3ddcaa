"""A service that runs, with providers and a client, and what tests change of it and see of it."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

WEB = {"tier": "web"}
PORTS = ["8080:80:TCP", "53:53:UDP"]
VIP, OTHER_VIP, SECOND_VIP = "100.1.1.1", "100.1.1.77", "100.2.2.1"
_ENTRY = re.compile(r"(\w+),orig=\((.*?)\),reply=\((.*?)\),zone=(\d+)")


def plug_in(lab: Lab) -> dict[str, Host]:
    """Three that may be providers, and a client; networks for VIPs."""
    lab.network("srv", "100.1.1.0/24", ipv6=True)
    lab.network("srv2", "100.2.2.0/24", ipv6=True)
    lab.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    lab.network("cli", "20.1.1.0/24", "20.1.1.254", ipv6=True)
    serve = ["tcp:80", "tcp:81", "udp:53"]
    made = {n: lab.host(n, "web", f"10.1.1.{n[1]}", serve=serve, register=False) for n in ("w1", "w2", "w3")}
    return made | {"c1": lab.host("c1", "cli", "20.1.1.1")}


@contextlib.contextmanager
def running(lab: Lab, hosts: Mapping[str, Host]) -> Iterator[Host]:
    """The client; service "app" over w1 and w2 runs. Services and providers are gone afterwards."""
    for name in ("w1", "w2"):
        join(lab, hosts[name])
    put(lab)
    yield hosts["c1"]
    for service in lab.rest.services():
        lab.rest.delete_service(f"default:{service['serviceName']}")
    for endpoint in lab.rest.endpoints():
        if endpoint["endpointID"] != "c1":
            lab.rest.delete_endpoint(endpoint["endpointID"])
    lab.instance.flush_conntrack()


def put(lab: Lab, name: str = "app", *, vip: str = VIP, network: str = "srv", **change: Any) -> str:
    """Make the service, or change it to be this."""
    ports, selectors = change.pop("ports", PORTS), change.pop("selectors", ["tier=web"])
    return lab.service(name, network, ports, selectors, vip=vip, options=change)


def join(lab: Lab, host: Host, labels: Mapping[str, str] = WEB, **more: Any) -> None:
    """Register a host of the provider network, or change what is registered of it."""
    host.register(lab.rest, "web", labels, **more)


def connect(client: Host, kind: str, name: str, port: int = 0, vip: str = VIP) -> socket.socket:
    """A connection through the VIP that this provider has got."""
    for _ in range(100):
        made = client.connect(kind, vip, port or {"tcp": 8080, "udp": 53}[kind])
        if ask_again(made).split()[0] == name:
            return made
        made.close()
    raise AssertionError(f"no connection of a hundred went to {name}")


def entries(lab: Lab) -> set[tuple[str, ...]]:
    """What conntrack tracks, without states and times: protocol, both directions, zone."""
    found = [_ENTRY.search(line) for line in lab.instance.conntrack()]
    assert all(found), "a line of another form"
    return {f.groups() for f in found if f}


def refused(client: Host, kind: str, vip: str, port: int) -> bool:
    """Whether a new connection is refused, at once."""
    try:
        client.ask(kind, vip, port, timeout=2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def goes_on(connection: socket.socket, name: str) -> None:
    """The connection is with the same provider as before."""
    for _ in range(3):
        assert ask_again(connection).split()[0] == name


def becomes(client: Host, names: set[str], vip: str = VIP, kind: str = "tcp", port: int = 8080) -> None:
    """New connections go to these providers: at once, or when cached decisions are gone (half a second)."""

    def same() -> bool:
        with contextlib.suppress(OSError):
            # not patient: a datagram that met a cached decision is lost
            return {client.ask(kind, vip, port, timeout=0.5).split()[0] for _ in range(20)} == names
        return False

    wait_for(same, f"{names} to answer", 3)


def reset(lab: Lab, connection: socket.socket, vip: str = VIP) -> None:
    """It is forgotten, soon, and the next that is sent is answered by a reset."""

    def forgotten() -> bool:
        return not any(ports_of(connection) & {*e[1].split(",")} for e in entries(lab) if f"dst={vip}," in e[1])

    wait_for(forgotten, "the connection to be forgotten", 3)
    with pytest.raises(ConnectionResetError):
        ask_again(connection)


def silent(*connections: socket.socket) -> None:
    """What is sent is not answered any more."""
    for connection in connections:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask_again(connection)


def ports_of(*connections: socket.socket) -> set[str]:
    """Their source ports, as conntrack shows them."""
    return {f"sport={connection.getsockname()[1]}" for connection in connections}


def to_provider(lab: Lab, address: str, vip: str = VIP) -> list[tuple[str, ...]]:
    """The tracked connections through the VIP that this provider has."""
    return [e for e in entries(lab) if f"dst={vip}," in e[1] and f"src={address}," in e[2]]
