"""The packet table on the fake switch, and what only a switch that translates can show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit import packets, packets6
from tests.kit.fakeswitch import FakeSwitch, Sent
from tests.kit.packets import C1, O1, VIP, W1, W2, Case, tcp, udp
from tests.kit.world import dual, mac, model, model_of, objects, program
from topology.model import Service
from topology.snapshot import Model


@pytest.fixture
def switch() -> FakeSwitch:
    loaded = FakeSwitch()
    full = program(model())
    loaded.load(full.flows, full.groups)
    return loaded


@pytest.fixture
def both() -> FakeSwitch:
    """A switch in the world that has IPv6 as well."""
    loaded = FakeSwitch()
    full = program(model_of(dual()))
    loaded.load(full.flows, full.groups)
    return loaded


@pytest.mark.parametrize("case", packets.CASES, ids=lambda c: c.name)
def test_packet(switch: FakeSwitch, both: FakeSwitch, case: Case) -> None:
    """If it fails: packets go where they must not, or not where they must."""
    becomes(switch, case)
    becomes(both, case)


@pytest.mark.parametrize("case", packets6.CASES, ids=lambda c: c.name)
def test_ipv6_packet(both: FakeSwitch, case: Case) -> None:
    """As above, for IPv6."""
    becomes(both, case)


def becomes(switch: FakeSwitch, case: Case) -> None:
    walk = switch.send(case.in_port, case.packet)
    assert tuple(ct.zone for ct in walk.cts) == case.zones
    commits = [ct.nat.dst for ct in walk.cts if ct.commit and ct.nat]
    if case.to:
        assert len(commits) == 1
        assert commits[0] in case.to
    else:
        assert not commits
        assert tuple(s.port for s in walk.sent) == case.ports
        for sent in walk.sent:
            assert {k: sent.packet[k] for k in case.fields} == case.fields


def back(switch: FakeSwitch, sent: Sent) -> Sent:
    """The provider answers what it got; what its client gets."""
    got = sent.packet
    name = "tcp" if "tcp_src" in got else "udp"
    answer = {tcp: tcp, udp: udp}[tcp if name == "tcp" else udp](
        sent.port, got["ipv4_dst"], got["ipv4_src"], got[f"{name}_dst"], got[f"{name}_src"]
    )
    (out,) = switch.send(sent.port, answer).sent
    return out


@pytest.mark.parametrize(("make", "port", "target"), [(tcp, 8080, 80), (udp, 5353, 53)])
def test_connection_through_the_vip(switch: FakeSwitch, make: object, port: int, target: int) -> None:
    """If it fails: services do not work."""
    name = "tcp" if make is tcp else "udp"
    (sent,) = switch.send(1, make(1, C1, VIP, 999, port)).sent  # type: ignore[operator]
    assert sent.packet["ipv4_dst"] in (W1, W2)
    assert sent.packet[f"{name}_dst"] == target
    assert sent.packet["eth_dst"] == mac(sent.port)
    reply = back(switch, sent)
    assert reply.port == 1
    assert (reply.packet["ipv4_src"], reply.packet[f"{name}_src"]) == (VIP, port)
    assert reply.packet[f"{name}_dst"] == 999
    # the connection stays where it is
    assert switch.send(1, make(1, C1, VIP, 999, port)).sent[0].port == sent.port  # type: ignore[operator]


@pytest.mark.parametrize("to", [VIP, W1], ids=["to a VIP", "straight"])
def test_what_does_not_fit_its_connection(switch: FakeSwitch, to: int) -> None:
    """If it fails: a client is locked out by what its provider remembers of it, as the reset that ends this is lost."""
    port = 8080 if to == VIP else 80
    (sent,) = switch.send(1, tcp(1, C1, to, 999, port)).sent
    switch.tracked.misfits = True
    (again,) = switch.send(1, tcp(1, C1, to, 999, port)).sent
    assert again.port == sent.port
    assert [again.packet[f] for f in ("ipv4_dst", "tcp_dst")] == [sent.packet[f] for f in ("ipv4_dst", "tcp_dst")]
    reply = back(switch, again).packet
    assert [reply[f] for f in ("ipv4_src", "tcp_src", "tcp_dst")] == [to, port, 999]


def test_what_does_not_fit_a_connection_to_itself(switch: FakeSwitch) -> None:
    """If it fails: as above, for a container that uses its own service."""
    sport, out = next(
        (sport, out) for sport in range(1000, 1040) for out in switch.send(2, tcp(2, W1, VIP, sport, 8080)).sent
        if out.port == 2
    )  # fmt: skip
    switch.tracked.misfits = True
    (again,) = switch.send(2, tcp(2, W1, VIP, sport, 8080)).sent
    assert [again.packet[f] for f in ("ipv4_src", "ipv4_dst", "tcp_dst")] == [VIP, W1, 80]
    assert (again.port, again.packet["tcp_src"]) == (out.port, out.packet["tcp_src"])
    reply = back(switch, again).packet
    assert [reply[f] for f in ("ipv4_src", "tcp_src", "ipv4_dst", "tcp_dst")] == [VIP, 8080, W1, sport]


def test_what_makes_no_sense_and_belongs_to_nothing(switch: FakeSwitch) -> None:
    """If it fails: packets to a VIP leave the switch as they are."""
    assert not switch.send(1, tcp(1, C1, VIP, 999, 8080, tcp_flags=0x12)).sent


def test_datagrams_before_the_first_answer(switch: FakeSwitch) -> None:
    """If it fails: the second datagram of a client that has no answer yet (syslog, say) is lost."""
    first = switch.send(1, udp(1, C1, VIP, 999, 5353)).sent
    second = switch.send(1, udp(1, C1, VIP, 999, 5353)).sent
    assert [s.port for s in first] == [s.port for s in second] != []


def test_straight_beside_the_vip_from_one_source_port(switch: FakeSwitch) -> None:
    """If it fails: a client that also talks to a provider's own address gets the VIP's answers, or none."""
    (vip,) = switch.send(1, tcp(1, C1, VIP, 999, 8080)).sent
    chosen = vip.packet["ipv4_dst"]
    (straight,) = switch.send(1, tcp(1, C1, chosen, 999, 80)).sent
    assert straight.port == vip.port
    assert straight.packet["ipv4_dst"] == chosen
    assert straight.packet["tcp_src"] != vip.packet["tcp_src"], "or the provider could not tell them apart"
    by_vip, by_itself = back(switch, vip).packet, back(switch, straight).packet
    assert (by_vip["ipv4_src"], by_vip["tcp_src"], by_vip["tcp_dst"]) == (VIP, 8080, 999)
    assert (by_itself["ipv4_src"], by_itself["tcp_src"], by_itself["tcp_dst"]) == (chosen, 80, 999)


def test_port_down_is_passed_over(switch: FakeSwitch) -> None:
    """If it fails: connections go to a provider whose port is gone until the controller has noticed."""
    switch.down.add(2)
    ports = {s.port for sport in range(1000, 1040) for s in switch.send(1, tcp(1, C1, VIP, sport, 8080)).sent}
    assert ports == {3}


def test_spread(switch: FakeSwitch) -> None:
    """If it fails: one client always meets the same provider, as in Contiv."""
    ports = [switch.send(1, tcp(1, C1, VIP, sport, 8080)).sent[0].port for sport in range(1000, 1400)]
    assert 140 < ports.count(2) < 260


def test_a_provider_that_is_picked_by_itself(switch: FakeSwitch) -> None:
    """If it fails: a container that uses its own service waits in vain, as often as it is picked itself."""
    met = set()
    for sport in range(1000, 1040):
        (out,) = switch.send(2, tcp(2, W1, VIP, sport, 8080)).sent
        met.add(out.port)
        if out.port == 2:
            assert (out.packet["ipv4_src"], out.packet["ipv4_dst"], out.packet["tcp_dst"]) == (VIP, W1, 80)
            reply = back(switch, out).packet
            assert (reply["ipv4_src"], reply["tcp_src"]) == (VIP, 8080)
            assert (reply["ipv4_dst"], reply["tcp_dst"]) == (W1, sport)
    assert met == {2, 3}


def test_a_client_stays_with_its_provider() -> None:
    """If it fails: session affinity does not hold, or one client's choice is another's too."""
    sticky = Model()
    sticky.load(1, [replace(o, affinity=60) if isinstance(o, Service) else o for o in objects()])
    loaded = FakeSwitch()
    full = program(sticky)
    loaded.load(full.flows, full.groups)
    for port, client in ((1, C1), (4, O1)):
        met = {loaded.send(port, tcp(port, client, VIP, sport, 8080)).sent[0].port for sport in range(1000, 1040)}
        assert len(met) == 1
        assert loaded.send(port, udp(port, client, VIP, 999, 5353)).sent[0].port in met
