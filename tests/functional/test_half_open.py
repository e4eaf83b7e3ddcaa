"""A provider has a connection open of which nobody else knows any more: its client's next one from that port."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

WEB = {"tier": "web"}
VIP, OTHER_VIP = "100.1.1.1", "100.1.1.2"
TCP_REPAIR = 19  # Linux: closed like this, a socket is gone without a packet
PORT = 9000


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """One provider, which every connection meets, and a client."""
    bare.network("srv", "100.1.1.0/24")
    bare.network("web", "10.1.1.0/24", "10.1.1.254")
    bare.network("cli", "20.1.1.0/24", "20.1.1.254")
    bare.service("app", "srv", ["8080:80:TCP"], ["tier=web"], vip=VIP)
    return {
        "w1": bare.host("w1", "web", "10.1.1.1", WEB, serve=["tcp:80"]),
        "c1": bare.host("c1", "cli", "20.1.1.1"),
    }


@pytest.fixture(autouse=True)
def _settled(bare: Lab, hosts: Mapping[str, Host]) -> None:
    bare.settled()
    bare.instance.flush_conntrack()


@pytest.fixture(params=["in conntrack", "flushed"])
def conntrack(request: pytest.FixtureRequest, bare: Lab) -> Callable[[], None]:
    """What becomes of conntrack's entry: nothing, or it goes as with a restart of the switch."""
    return bare.instance.flush_conntrack if request.param == "flushed" else lambda: None


def forget(connection: socket.socket) -> None:
    """As if the client's machine had been started anew."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    connection.close()


def answers(client: Host, address: str, port: int) -> str:
    """Who answers a new connection, and goes on answering."""
    with client.connect("tcp", address, port, source_port=PORT) as connection:
        (name,) = {ask_again(connection).split()[0] for _ in range(10)}
        return name


@pytest.mark.parametrize(
    ("who", "address", "port"),
    [("c1", VIP, 8080), ("w1", VIP, 8080), ("c1", "10.1.1.1", 80)],
    ids=["to a VIP", "to itself", "straight"],
)
def test_a_client_that_has_forgotten(
    hosts: Mapping[str, Host], conntrack: Callable[[], None], who: str, address: str, port: int
) -> None:
    """A client that was started anew would be locked out for as long as provider or switch remember its last life.

    The provider says where it is in the old connection, the client answers with a reset, and asks again: none of this
    makes sense to conntrack, and all of it has to pass.
    """
    forgotten = hosts[who].connect("tcp", address, port, source_port=PORT)
    assert ask_again(forgotten).split()[0] == "w1"
    forget(forgotten)
    conntrack()

    assert answers(hosts[who], address, port) == "w1"


@pytest.mark.parametrize("who", ["c1", "w1"])
def test_the_service_of_an_open_connection_goes(bare: Lab, hosts: Mapping[str, Host], who: str) -> None:
    """A client of a service that is deleted would be locked out of another one with the same provider."""
    bare.service("other", "srv", ["9090:80:TCP"], ["tier=web"], vip=OTHER_VIP)
    with hosts[who].connect("tcp", OTHER_VIP, 9090, source_port=PORT) as cut:
        assert ask_again(cut).split()[0] == "w1"
        bare.rest.delete_service("default:other")
        bare.settled()
        wait_for(lambda: not [e for e in bare.instance.conntrack() if f"dst={OTHER_VIP}" in e], "the flush")
        forget(cut)

    assert answers(hosts[who], VIP, 8080) == "w1"
