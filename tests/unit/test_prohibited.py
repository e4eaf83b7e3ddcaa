"""What may not enter a network, or leave one, is answered: by whom, with what, and by which way back."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest

from ryu_apps import answers, prohibited
from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.tables import HOST_MAC, ROUTER_MAC
from ryu_apps.pipeline.values import LOCAL, Action, Output
from tests.kit import frames
from tests.kit.several import PORTS_OF, A, on_hosts
from tests.kit.wide import wide
from tests.kit.world import model_of

CLOSED = "30.1.1.1"  # x1's, whose network has no gateway
TENANT = 1


def context() -> Context:
    """Host a's switch, of two."""
    return Context(model_of(on_hosts(dual=True)), A, PORTS_OF[A])


def asked(sender: str, target: str) -> bytes:
    """What the controller gets: a SYN, or a datagram of IPv6, with the router's MACs."""
    mac = "0e:4e:43:00:00:01"
    return frames.udp6(mac, sender, target, 53) if ":" in target else frames.syn(mac, sender, target, 5000, 22)


def answer(sender: str, target: str = CLOSED) -> tuple[tuple[Action, ...], bytes]:
    found = prohibited.answer(context(), TENANT, asked(sender, target))
    assert found is not None
    return found


def test_a_container_here_is_told_at_its_port() -> None:
    """Its client would wait for minutes."""
    actions, frame = answer("20.1.1.1")
    assert actions == (Output(1),)
    assert frame[:12] == mac_int(context().model.endpoints["c1"].mac).to_bytes(6, "big") + ROUTER_MAC.to_bytes(6, "big")
    assert (answers.source(frame), answers.destination(frame)) == (ip_address("20.1.1.254"), ip_address("20.1.1.1"))
    assert (frame[34], frame[35]) == (3, 13), "ICMP: administratively prohibited"
    assert answers.destination(bytes(12) + b"\x08\x00" + frame[42:62] + bytes(20)) == ip_address(CLOSED), "of what"


def test_ipv6_is_told_as_well() -> None:
    """IPv6 leaves no network: a client that tries it first would wait for it each time."""
    actions, frame = answer(wide("20.1.1.1"), "2001:db8::1")
    assert actions == (Output(1),)
    assert answers.source(frame) == IPv6Address(wide("20.1.1.254"))
    assert (frame[54], frame[55]) == (1, 1)


def test_a_container_on_another_host_is_told_there() -> None:
    """Only clients on the same host would be told."""
    actions, frame = answer("20.1.1.2")
    of = context()
    assert actions == of.onward(of.model.endpoints["c2"])
    assert frame[:6] == mac_int(of.model.endpoints["c2"].mac).to_bytes(6, "big")


def test_the_host_is_told() -> None:
    """Whoever tries a container from its host would wait for minutes."""
    of = context()
    own = str(of.host_addresses[0])
    actions, frame = answer(own)
    assert actions == (Output(LOCAL),)
    assert frame[:6] == HOST_MAC.to_bytes(6, "big")
    assert answers.source(frame) == ip_address(CLOSED), "no gateway is there that could say it"


@pytest.mark.parametrize("sender", ["20.1.1.99", "192.0.2.7"])
def test_nobody_else_is_told(sender: str) -> None:
    """The controller would send to whoever a forged packet names."""
    assert prohibited.answer(context(), TENANT, asked(sender, CLOSED)) is None


def test_an_error_is_not_answered() -> None:
    """Two that answer each other's errors never stop (RFC 1122, 3.2.2)."""
    _, error = answer("20.1.1.1")
    assert prohibited.answer(context(), TENANT, error) is None
