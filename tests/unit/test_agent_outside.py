"""What the agent wants of its host's kernel, and how it says so."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netctl.agent import kernel_rules
from netctl.agent.hostport import QUIET, HostPorts, used
from netctl.agent.kernel_rules import Present, Published, Table, restore_text
from netctl.agent.outside import Outside, Wish, wish
from netctl.agent.state import State
from topology.documents import StreamNetworkDoc, StreamServiceDoc

WEB = StreamNetworkDoc(tenantName="default", networkName="web", subnet="10.1.1.0/24", gateway="10.1.1.254", number=1)
BLUE = StreamNetworkDoc(tenantName="blue", networkName="web", subnet="10.1.0.0/16", gateway="10.1.1.254", number=2)
APP = StreamServiceDoc(
    tenantName="default", serviceName="app", publish=["80:8080:TCP", "53:53:UDP"], publishedAddress="249.0.0.3"
)
ADDRESS = IPv4Address("169.254.0.7")
PUBLISHED = (
    Published(53, "UDP", IPv4Address("249.0.0.3"), 53, "default:app"),
    Published(80, "TCP", IPv4Address("249.0.0.3"), 8080, "default:app"),
)


def test_nothing_is_wished_before_all_is_known() -> None:
    """At each start the agent would take away what its predecessor had made, and make it again."""
    state = State("h1")
    assert wish(state) is None
    state.set_host_address("169.254.0.7")
    assert wish(state) is None
    state.update(followed=True)
    assert wish(state) == Wish(ADDRESS, (), (), forward=False)
    state.set_host_address("")
    assert wish(state) is None, "a controller of an earlier version gives none"


def test_the_wish_follows_the_model() -> None:
    """Routes, ports and forwarding would not be those of the networks and services that there are."""
    state = State("h1")
    state.update(followed=True)
    state.set_host_address("169.254.0.7")
    state.model = {"blue:web": BLUE, "default:web": WEB}
    assert wish(state) == Wish(ADDRESS, (IPv4Network("10.1.1.0/24"),), (), forward=False)
    state.model = {"blue:web": BLUE}
    assert wish(state) == Wish(ADDRESS, (IPv4Network("10.1.0.0/16"),), (), forward=False)
    state.set_services({"default:app": APP, "default:other": StreamServiceDoc(serviceName="other")})
    found = wish(state)
    assert found is not None
    assert (sorted(found.published), found.forward) == (list(PUBLISHED), True)
    state.set_service("default:app", StreamServiceDoc(serviceName="app"))
    assert wish(state) == Wish(ADDRESS, (IPv4Network("10.1.0.0/16"),), (), forward=False)
    state.model = {"default:web": StreamNetworkDoc(**WEB | {"nat": True})}  # type: ignore[typeddict-item]
    found = wish(state)
    assert found is not None
    assert found.forward


def test_the_wish_has_what_fits_a_tunnel() -> None:
    """What the host sends or forwards to a container on another host would be lost where it is large."""
    state = State("h1")
    state.update(followed=True)
    state.set_host_address("169.254.0.7")
    state.mtu = 1450
    assert wish(state) == Wish(ADDRESS, (), (), forward=False, mtu=1450)


def test_a_port_is_held_against_all_comers() -> None:
    """Somebody's server would seem to run and never be asked anything."""
    now = 1000.0
    ports = HostPorts(lambda: now)
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        number = theirs.getsockname()[1]
        assert ports.hold([(number, "TCP"), (number, "UDP")]) == {
            (number, "TCP"): "Address already in use on this host, not taken over"
        }
    now += QUIET
    assert ports.hold([(number, "TCP"), (number, "UDP")]) == {}, "free by now"
    assert ports.hold([(number, "TCP"), (number, "UDP")]) == {}, "held already"
    with socket.socket() as late:
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            late.bind(("", number))
    ports.hold([])
    with socket.socket() as late:
        late.bind(("", number))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_program_that_restarts_keeps_its_port(kind: socket.SocketKind, family: socket.AddressFamily) -> None:
    """The host's SSH server, or the controller itself, would not get its port back, for as long as the agent lives."""
    now = 1000.0
    ports = HostPorts(lambda: now)
    port = (0, "TCP" if kind == socket.SOCK_STREAM else "UDP")
    for _ in range(3):
        with socket.socket(family, kind) as theirs:
            if kind == socket.SOCK_STREAM:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            theirs.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port[0]))
            port = (theirs.getsockname()[1], port[1])
            if kind == socket.SOCK_STREAM:
                theirs.listen()
            if port in used():
                ports._used.setdefault(port, now)  # IPv6's alone would not be in the way of IPv4's
            assert port in ports.hold([port])
            now += 2 * QUIET
            assert "not taken over" in ports.hold([port])[port]
        now += QUIET - 1
        assert "before it has been free for 60 s" in ports.hold([port])[port]
    now += 1
    assert ports.hold([port]) == {}
    ports.hold([])


def test_the_control_planes_ports_are_never_held() -> None:
    """A service that publishes the controller's port would lock it out after its next restart."""
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        port = (theirs.getsockname()[1], "TCP")
    ports = HostPorts()
    assert ports.hold([port]) == {}
    assert ports.hold([port], [port]) == {port: "the control plane's port, never taken over"}
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", port[0]))
        theirs.listen()


FILTER = kernel_rules.wanted("br-netctl", PUBLISHED)["filter"]
NAT = kernel_rules.wanted("br-netctl", PUBLISHED)["nat"]
RIGHT = Present({chain: ([rule], True) for chain, rule in NAT.jumps.items()}, NAT.chains)


def test_rules_that_are_right_are_right() -> None:
    """Each look at them would write them anew, and set their counters to zero."""
    assert RIGHT.agrees(NAT)
    assert not RIGHT.agrees(FILTER)


@pytest.mark.parametrize(
    ("jumps", "expected"),
    [
        ({}, ["-I POSTROUTING 1 -j NETCTL-POSTROUTING"]),
        ({"POSTROUTING": (["-j NETCTL-POSTROUTING"], True)}, []),
        (
            {"POSTROUTING": (["-j NETCTL-POSTROUTING"], False)},
            ["-D POSTROUTING -j NETCTL-POSTROUTING", "-I POSTROUTING 1 -j NETCTL-POSTROUTING"],
        ),
        (
            {"POSTROUTING": (["-j NETCTL-OLD", "-j NETCTL-POSTROUTING"], True)},
            [
                "-D POSTROUTING -j NETCTL-OLD",
                "-D POSTROUTING -j NETCTL-POSTROUTING",
                "-I POSTROUTING 1 -j NETCTL-POSTROUTING",
            ],
        ),
        ({"INPUT": (["-j NETCTL-OLD"], True)}, ["-D INPUT -j NETCTL-OLD", "-I POSTROUTING 1 -j NETCTL-POSTROUTING"]),
    ],
)
def test_what_is_written(jumps: dict[str, tuple[list[str], bool]], expected: list[str]) -> None:
    """A rule would be there twice, or behind another program's that lets everything pass, or for ever."""
    table = Table({"POSTROUTING": "-j NETCTL-POSTROUTING"}, {"NETCTL-POSTROUTING": ["-s 250.0.0.0/8 -j MASQUERADE"]})

    lines = restore_text("nat", table, Present(jumps, {"NETCTL-OLD": ["-j DROP"]})).splitlines()

    assert lines == [
        "*nat",
        ":NETCTL-POSTROUTING - [0:0]",
        ":NETCTL-OLD - [0:0]",
        *expected,
        "-A NETCTL-POSTROUTING -s 250.0.0.0/8 -j MASQUERADE",
        "-X NETCTL-OLD",
        "COMMIT",
    ]


def test_without_iptables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The host would be open to its containers, or the agent would not run at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    outside = Outside("no-such-bridge", State("h1"), tmp_path, lambda: None)

    assert outside.carry_out(Wish(ADDRESS, (), (), forward=True)) == {
        "outside": "iptables-save is not installed: "
        "no way out, no published ports, no way from this host to its containers"
    }
    assert not list(tmp_path.iterdir())
