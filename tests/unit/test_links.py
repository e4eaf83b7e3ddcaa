"""Links are found when both ends hear each other, and gone when one does not, or its port is down."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryu_apps.links import EDGE_AFTER, HOLD_DOWN, Links, frame, sender_of
from topology.observed import MISSED, Heard, Observed, Port
from topology.paths import End, Link, link

A1, A2, B1, B2, C1 = End(1, 1), End(1, 2), End(2, 1), End(2, 2), End(3, 1)
AB = link(A1, B1)


def test_a_frame_says_where_it_was_sent() -> None:
    """If it fails: links are joined wrongly."""
    end = End(0xFFFF_0000_1234_5678, 0xFFFF_FE00)
    sent = frame(end, b"k")
    assert sender_of(sent, b"k") == end
    assert sender_of(sent + bytes(9), b"k") == end, "padding is no fault"
    assert sent[12:14] == b"\x88\xcc"


def test_a_frame_that_a_host_makes_up_says_nothing() -> None:
    """If it fails: a host makes a link that is not there, and gets other switches' packets."""
    sent = frame(A1, b"k")
    assert sender_of(sent, b"another controller's") is None
    for at in range(14, len(sent) - 2):
        assert sender_of(sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1 :], b"k") is None, at
    for length in range(len(sent)):
        assert sender_of(sent[:length], b"k") is None


def test_a_link_is_heard_both_ways() -> None:
    """If it fails: packets are sent by a link that carries nothing in one direction."""
    heard = Heard()
    assert heard.heard(A1, B1)
    assert heard.links() == frozenset()
    assert heard.joined(A1)
    assert heard.joined(B1), "no edge, already"
    assert heard.heard(B1, A1)
    assert heard.links() == {AB}
    assert not heard.heard(A1, B1), "no news"
    assert not heard.joined(A2)


def test_a_link_that_is_not_heard_is_gone() -> None:
    """If it fails: a cut link whose ports stay up (a media converter) swallows packets for ever."""
    heard = Heard()
    heard.heard(A1, B1)
    heard.heard(B1, A1)
    for _ in range(MISSED):
        heard.sent(A1)
        heard.sent(B1)
        heard.heard(B1, A1)
    assert heard.links() == {AB}
    heard.sent(A1)
    assert heard.links() == frozenset()
    assert not heard.joined(B1)
    heard.heard(A1, B1)
    for _ in range(MISSED):
        heard.sent(A1)
    heard.heard(A1, B1)
    for _ in range(MISSED):
        heard.sent(A1)
    assert heard.joined(A1), "heard between"


def test_a_cable_is_plugged_in_elsewhere() -> None:
    """If it fails: the switch that was there before is still sent packets."""
    heard = Heard()
    for one, other in ((A1, B1), (B1, A1)):
        heard.heard(one, other)
    heard.heard(A1, C1)
    assert heard.links() == frozenset()
    assert not heard.joined(B1)
    heard.heard(C1, A1)
    assert heard.links() == {link(A1, C1)}


ENDS = st.builds(End, st.integers(1, 3), st.integers(1, 2))


@given(st.lists(st.tuples(st.sampled_from(["hear", "hear", "drop", "sent"]), ENDS, ENDS), max_size=40))
def test_whatever_is_heard_a_port_is_in_one_link(events: list[tuple[str, End, End]]) -> None:
    """If it fails: cables that are plugged about leave links that nobody ever ends."""
    heard = Heard()
    for what, one, other in events:
        if what == "hear" and one != other:
            heard.heard(one, other)
        elif what == "drop":
            heard.drop(one)
            assert not heard.joined(one)
        else:
            heard.sent(one)
        ends = [end for link in heard.links() for end in link]
        assert len(ends) == len(set(ends))
        assert all(map(heard.joined, ends))
    for switch in (1, 2, 3):
        for end in heard.ends(switch):
            heard.drop(end)
    assert heard.links() == frozenset()
    assert not any(heard.ends(switch) for switch in (1, 2, 3))


@dataclass
class Bench:
    """Two switches whose first ports are joined by a cable that can be cut; each has two more ports."""

    now: float = 0.0
    observed: Observed = field(default_factory=Observed)
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    told: list[frozenset[Link]] = field(default_factory=list)
    of_fabric: set[int] = field(default_factory=lambda: {1, 2})

    def __post_init__(self) -> None:
        self.links = Links(
            self.observed,
            lambda dpid, message: self.sent.append((dpid, message)),
            lambda dpid: dpid in self.of_fabric,
            self.told.append,
            lambda: self.now,
        )

    def connect(self, dpid: int) -> None:
        self.observed.connect(dpid, [port(n) for n in (1, 2, 3)])
        self.links.probe(dpid)

    def carry(self) -> None:
        """What was sent out of the joined ports comes in at the other end."""
        while self.sent:
            dpid, message = self.sent.pop(0)
            if out_of(message) == 1 and 3 - dpid in self.observed.switches:
                self.links.heard(3 - dpid, 1, message[40:])


def out_of(message: bytes) -> int:
    """The port that a packet-out is for."""
    return int.from_bytes(message[28:32], "big")


def port(number: int, *, up: bool = True) -> Port:
    return Port(f"p{number}", number, "", up)


@pytest.fixture
def bench() -> Bench:
    out = Bench()
    for dpid in (1, 2):
        out.connect(dpid)
    out.carry()
    return out


def test_two_switches_find_each_other(bench: Bench) -> None:
    """If it fails: a fabric has no links."""
    assert bench.told == [{AB}]
    bench.links.tick()
    bench.carry()
    assert bench.told == [{AB}], "told once"


def test_a_port_that_goes_down_ends_its_link_at_once(bench: Bench) -> None:
    """If it fails: for seconds packets go to a cut link; and one that flaps keeps all switches busy."""
    bench.observed.put_port(1, port(1, up=False))
    bench.links.port_changed(1, port(1, up=False), gone=False)
    assert bench.told[1:] == [frozenset()]
    bench.observed.put_port(1, port(1))
    bench.links.port_changed(1, port(1), gone=False)
    bench.carry()
    assert bench.told[1:] == [frozenset()], "held down"
    bench.now += HOLD_DOWN
    bench.links.tick()
    assert bench.told[1:] == [frozenset(), {AB}]


def test_a_switch_that_goes_ends_its_links(bench: Bench) -> None:
    """If it fails: packets are sent to a switch that is not there."""
    bench.observed.disconnect(2)
    for _ in range(MISSED + 1):
        bench.links.tick()
    assert bench.told[1:] == [frozenset()]


def test_a_switch_that_comes_again_in_time_keeps_its_links(bench: Bench) -> None:
    """If it fails: a connection to the controller that breaks takes a working link with it."""
    bench.observed.disconnect(2)
    bench.links.tick()
    bench.connect(2)
    bench.carry()
    assert bench.told == [{AB}]
    bench.observed.disconnect(2)
    bench.observed.connect(2, [port(2)])
    bench.links.tick()
    assert bench.told[1:] == [frozenset()], "without that port, it is gone"


def test_hosts_with_agents_are_left_alone() -> None:
    """If it fails: each container hears a frame a second, and two hosts' bridges that see each other are a fabric."""
    bench = Bench(of_fabric=set())
    bench.connect(1)
    bench.links.tick()
    assert bench.sent == []


def test_a_packet_for_an_edge_waits_until_it_is_one(bench: Bench) -> None:
    """If it fails: a question for an unknown host goes over a link that is not yet known, and its asker is learned at
    the other end.
    """
    late = Bench()
    late.connect(1)
    late.sent.clear()
    late.links.send_to_edges((A1, A2), b"question")
    assert late.sent == []
    late.connect(2)
    late.carry()
    asked = []
    for _ in range(EDGE_AFTER):
        late.links.tick()
        asked += [(dpid, out_of(m)) for dpid, m in late.sent if m.endswith(b"question")]
        late.carry()
    assert asked == [(1, 2)]


def test_a_switch_that_makes_up_ports(bench: Bench) -> None:
    """A broken switch would have a frame kept for each number that it names: four billion."""
    first, before = frame(A2, bench.links._key), len(bench.links._frames)
    for number in range(4, 500):
        bench.links.heard(2, number, first)
    assert len(bench.links._frames) == before
    assert not bench.observed.heard.joined(A2)


def test_switches_that_come_and_go(bench: Bench) -> None:
    """A broken switch would have frames kept for each datapath id that it has ever claimed."""
    for dpid in range(10, 60):
        bench.of_fabric.add(dpid)
        bench.connect(dpid)
        bench.observed.disconnect(dpid)
        bench.links.tick()
    assert len(bench.links._frames) <= 6
