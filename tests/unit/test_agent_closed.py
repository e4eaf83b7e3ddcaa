"""Which listeners an agent closes to containers: by its own options, by the controller, by the other hosts."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from netctl.agent import closed, kernel_rules
from netctl.agent.kernel_rules import Closed
from netctl.agent.options import Options, made_of
from netctl.agent.state import State
from topology.control import Listener, parse

GIVEN = {
    "netmaster": "http://192.0.2.11:9999,https://manager.example",
    "host": "h1",
    "bridge": "br-netctl",
    "controller": "tcp:192.0.2.11:6653, ssl:[2001:db8::1]:6653,unix:/run/c.sock",
    "datapath_type": "auto",
    "socket": "/run/docker/plugins/netctl.sock",
    "docker": "tcp://127.0.0.1:2375",
    "ovsdb": "tcp:127.0.0.1:6640",
    "tunnel_address": "192.0.2.1",
    "tcp_established_timeout": 86400,
    "tcp_half_closed_timeout": 10800,
    "udp_timeout": 120,
    "tenant_connections": 0,
    "state_dir": "/var/lib/netctl",
    "log_level": "info",
}


def options(**more: str) -> Options:
    return made_of(GIVEN | more)


def test_of_its_own_options() -> None:
    """Until a controller has said it, or where it is behind a name, containers would reach it."""
    assert {str(listener) for listener in closed.of_options(options())} == {
        "tcp:192.0.2.11:9999",
        "tcp:manager.example:443",
        "tcp:192.0.2.11:6653",
        "tcp:[2001:db8::1]:6653",
        "tcp:127.0.0.1:2375",  # Docker's own API: who has that has the host
        "tcp:127.0.0.1:6640",  # Open vSwitch's database: who has that has every tenant
        "udp:192.0.2.1:4789",
    }
    local = {"docker": "unix:///run/docker.sock", "ovsdb": "unix:/run/db.sock", "controller": "unix:/c"}
    plain = options(**local, tunnel_address="")
    assert {str(one) for one in closed.of_options(plain)} == {"tcp:192.0.2.11:9999", "tcp:manager.example:443"}


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        (None, ()),
        ("tcp:192.0.2.1:1", ()),
        ({"tcp:192.0.2.1:1": 1}, ()),
        (["tcp:192.0.2.1:1", "udp:h:2", "tcp:[::1]:3"], ("tcp:192.0.2.1:1", "tcp:[::1]:3", "udp:h:2")),
        (["tcp:192.0.2.1:1", 5, None, {}, "", "x" * 10_000], ("tcp:192.0.2.1:1",)),
        (["tcp:192.0.2.1:0", "tcp:192.0.2.1:65536", "sctp:192.0.2.1:1", "tcp:a b:1", "tcp:a:1\n"], ()),
        (["tcp:192.0.2.1:1 -j ACCEPT", "tcp:-j ACCEPT:1"], ()),
    ],
)
def test_what_a_controller_tells_is_not_believed(listed: Any, known: tuple[str, ...]) -> None:
    """One bad word would end the agent, or be a rule of its own."""
    assert tuple(map(str, closed.told(listed))) == known


def test_a_controller_that_tells_too_much(caplog: pytest.LogCaptureFixture) -> None:
    """The agent would write rules for ever."""
    assert len(closed.told([f"tcp:192.0.2.1:{n}" for n in range(1, 60_000)])) == 4096
    assert "59999 listeners" in caplog.text


def made() -> State:
    state = State("h1")
    state.own_control = (parse("tcp:127.0.0.1:9999"), parse("tcp:[2001:db8::1]:6653"))
    state.set_control((parse("tcp:192.0.2.11:2379"), parse("tcp:m.example:9998")))
    state.set_peer("h2", {"tunnelAddress": "192.0.2.2"})
    return state


def test_all_together() -> None:
    """A part that only one of them knows of would be open."""
    state = made()
    state.set_addresses("m.example", (IPv4Address("192.0.2.12"), IPv4Address("192.0.2.13")))
    assert closed.closed(state) == Closed(
        (("tcp", 2379), ("tcp", 6653), ("tcp", 9998), ("tcp", 9999), ("udp", 4789)),
        tuple(
            (IPv4Network(where), protocol, port)
            for where, protocol, port in (
                ("192.0.2.2", "udp", 4789),
                ("192.0.2.11", "tcp", 2379),
                ("192.0.2.12", "tcp", 9998),
                ("192.0.2.13", "tcp", 9998),
            )
        ),
    )
    state.set_peer("h2", None)
    state.set_control(())
    assert closed.closed(state) == Closed((("tcp", 6653), ("tcp", 9999)), ())


def test_a_name_that_is_not_known_yet() -> None:
    """A controller would be open from the agent's start until its name is known, or while the name server is away."""
    rules = kernel_rules.wanted("br-netctl", (), closed.closed(made()))["filter"].chains["NETCTL-CONTROL"]
    assert "-p tcp -m tcp --dport 9998 -j REJECT --reject-with tcp-reset" in rules


def test_names_are_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that has moved would be open, and one whose name server is away for a moment as well."""
    state, answers = made(), [(IPv4Address("192.0.2.12"),), None, (), (IPv4Address("192.0.2.14"),)]
    names = closed.Names(state, look_up=lambda name: answers.pop(0))
    monkeypatch.setattr(closed, "INTERVAL", 0.0)
    monkeypatch.setattr(closed, "RETRY", 0.0)
    for expected in ("192.0.2.12", "192.0.2.12", "192.0.2.12", "192.0.2.14"):
        names.step()
        assert state.addresses == {"m.example": (IPv4Address(expected),)}


def test_a_name_that_there_is_not() -> None:
    """Containers would reach no server of the world at that port (443, say); or nobody would know that it is open."""
    state, told = made(), []
    names = closed.Names(state, lambda: told.append(state.troubles.lines()), look_up=lambda name: ())
    names.step()
    names.step()
    assert [where for where, _, port in closed.closed(state).elsewhere if port == 9998] == []
    assert told == [{"control plane m.example": closed.UNKNOWN_NAME.format(name="m.example")}]
    state.set_control(())
    names.step()
    assert told[1:] == [{}]


def test_a_name_with_ipv6_alone() -> None:
    """Its port would be closed everywhere, for ever."""
    state = made()
    closed.Names(state, look_up=lambda name: (IPv6Address("2001:db8::1"),)).step()
    assert [where for where, _, port in closed.closed(state).elsewhere if port == 9998] == []


def test_this_machine_looks_names_up() -> None:
    """The system's answers would be taken for others than they are."""
    assert IPv4Address("127.0.0.1") in (closed.look_up("localhost") or ())
    assert closed.look_up("no such name.invalid") in ((), None)
    assert closed.look_up("\udcff" * 3) in ((), None)


def test_a_name_is_not_looked_up_all_the_time() -> None:
    """Each agent would ask the name server some times a second."""
    asked: list[str] = []
    state = made()

    def look_up(name: str) -> tuple[IPv4Address, ...]:
        asked.append(name)
        return (IPv4Address("192.0.2.12"),)

    names = closed.Names(state, look_up=look_up)
    names.step()
    names.step()
    state.set_control((parse("tcp:m.example:9998"), parse("tcp:n.example:1")))
    names.step()
    assert asked == ["m.example", "n.example"]


@pytest.mark.parametrize("text", ["tcp:192.0.2.1:9999", "udp:[fd00::1]:4789", "tcp:m-1.example:1"])
def test_listeners_as_text(text: str) -> None:
    """Controller and agent would not mean the same."""
    assert str(parse(text)) == text


def test_a_listener_is_a_name_or_an_address() -> None:
    """A name would be taken for an address, and its port be closed nowhere."""
    assert Listener("tcp", "m.example", 1).address is None
    assert Listener("tcp", "192.0.2.1", 1).address == IPv4Address("192.0.2.1")
