"""Looking for silent hosts: who is asked for, how often, what is kept meanwhile, and that all of it is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ryu_apps.answers import HOST_UNREACHABLE, report
from ryu_apps.edges import Edges
from ryu_apps.learning import BrokenPacketError, Sought, parse, question, seek
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.tables import REFUSE_METERS, UNKNOWN_METER, FlowKind, Table
from ryu_apps.seeking import INTERVAL, MOST, MOST_BYTES, MOST_KEPT, ROUNDS, Kept, Seeker
from tests.kit import frames
from tests.kit.world import DPID, PORTS, endpoint, mac_text, model
from topology.model import Change, Commit, Host, Lease
from topology.observed import Observed, Port
from topology.paths import End
from topology.snapshot import Model

LEARNED = replace(endpoint("u1", "default", "web", 9, "10.1.1.9"), origin="learned")
DEFAULT, BLUE = 1, 2  # numbers of the tenants
CLIENTS = 3  # of the network
AT_CLIENT = End(DPID, 1)


def observed() -> Observed:
    """Ports p1 to p12; nobody is registered at 5 and from 9 on."""
    out = Observed()
    out.connect(DPID, (Port(f"p{n}", n, "", up=True) for n in range(1, 13)))
    return out


def packet(source: str, target: str, data: bytes = b"x", port: int = 1) -> bytes:
    """To the gateway."""
    return frames.udp(mac_text(port), source, target, 4000, data=data)


def sought(
    source: str, target: str, tenant: int = DEFAULT, port: int = 1, of: Model | None = None, *, network: int = CLIENTS
) -> Sought | None:
    """Who has to be found for a packet that came in by a port, from a network of a tenant (0: nobody knows)."""
    place = (tenant, network) if tenant else (0, 0)
    return seek(of or model((LEARNED,)), observed(), End(DPID, port), place, packet(source, target))


def test_the_receiver_is_looked_for() -> None:
    """If it fails: a silent host is not found."""
    found = sought("20.1.1.1", "10.1.1.77")
    assert found is not None
    assert (found.network.key, str(found.address), found.port) == ("default:web", "10.1.1.77", None)
    assert found.routed


def test_a_receiver_within_the_network_is_looked_for() -> None:
    """If it fails: who knows a neighbour's MAC from before, or by hand, reaches it only when it speaks first."""
    near, island = (
        seek(model(), observed(), End(DPID, port), (DEFAULT, network), frames.udp(mac_text(port), *ends, 1, to=to))
        for port, network, ends in ((2, 2, ("10.1.1.1", "10.1.1.77")), (8, 4, ("30.1.1.1", "30.1.1.77")))
        for to in ("02:00:00:00:00:77",)
    )
    assert near is not None
    assert island is not None, "without a gateway, too"
    assert (near.routed, island.routed) == (False, False)
    other = frames.udp(mac_text(1), "20.1.1.1", "10.1.1.77", 1, to="02:00:00:00:00:77")
    assert seek(model(), observed(), AT_CLIENT, (DEFAULT, CLIENTS), other) is None, "that is the gateway's job"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("8.8.8.8", "in no network"),
        ("30.1.1.9", "its network has no gateway"),
        ("10.1.1.254", "the gateway itself"),
        ("10.1.1.0", "the network itself"),
        ("10.1.1.255", "broadcast"),
        ("10.1.1.1", "known"),
        ("100.1.1.1", "a VIP"),
        ("10.1.1.50", "granted to a container"),
    ],
)
def test_nobody_else_is(target: str, why: str) -> None:
    """If it fails: bare hosts hear questions about what is nobody's, or what is known."""
    of = model((LEARNED, Lease("default", "web", IPv4Address("10.1.1.50"), host="h")))
    assert sought("20.1.1.1", target, of=of) is None, why


def test_another_tenants_host_is_not_looked_for_where_it_could_not_be_learned() -> None:
    """If it fails: tenants with one subnet hear each other's questions, which no answer ends."""
    assert sought("20.1.1.1", "10.1.1.77", BLUE, port=6) is None
    assert sought("20.1.1.1", "10.1.1.77", 99) is None


def test_an_unknown_sender_is_looked_for_at_its_port() -> None:
    """If it fails: a host that never sends ARP is cut off, or everybody is asked about it."""
    found = sought("10.1.1.77", "20.1.1.1", 0, 10)
    assert found is not None
    assert (found.network.key, found.port) == ("default:web", End(DPID, 10))
    island = sought("30.1.1.77", "30.1.1.1", 0, 10)
    assert island is not None, "without a gateway, too"
    assert parse_of(island) == ("0.0.0.0", "30.1.1.77")
    moved = sought("10.1.1.9", "20.1.1.1", 0, 10)
    assert moved is not None, "learned elsewhere: it may have moved"
    for source, port in (("10.1.1.1", 10), ("10.1.1.254", 10), ("100.1.1.1", 10), ("8.8.8.8", 10), ("0.0.0.0", 10)):
        assert sought(source, "20.1.1.1", 0, port) is None, source
    assert sought("10.1.1.77", "20.1.1.1", 0, 2) is None, "a registered host's port"


def parse_of(found: Sought) -> tuple[str, str]:
    """Who asks for whom."""
    asked = question(found.network, found.address)
    sender = ".".join(map(str, asked[28:32]))
    assert asked[:6] == b"\xff" * 6
    return sender, str(parse(asked).target)


def test_broken_packets() -> None:
    """If it fails: what is no IPv4 packet is believed, or stops the controller."""
    good = packet("20.1.1.1", "10.1.1.77", b"x" * 40)
    for length in range(len(good)):
        with pytest.raises(BrokenPacketError):
            seek(model(), observed(), AT_CLIENT, (DEFAULT, CLIENTS), good[:length])
    for at, value in ((12, 0x86), (14, 0x65), (16, 0xFF)):
        with pytest.raises(BrokenPacketError):
            seek(model(), observed(), AT_CLIENT, (DEFAULT, CLIENTS), good[:at] + bytes([value]) + good[at + 1 :])


class Bench:
    """A seeker, and what it does."""

    def __init__(self) -> None:
        self.model = model()
        self.now = 0.0
        self.asked: list[tuple[float, str, list[int]]] = []
        self.released: list[bytes] = []
        self.refused: list[tuple[End, bytes]] = []
        self.seeker = Seeker(
            self.model,
            Edges(self.model, observed(), lambda: self.now).all,
            self._ask,
            self._release,
            lambda *it: self.refused.append(it),
            lambda: self.now,
        )

    def _ask(self, ends: Iterable[End], frame: bytes) -> None:
        self.asked.append((self.now, str(parse(frame).target), [end.port for end in ends]))

    def _release(self, waiting: Sequence[Kept]) -> None:
        self.released += [kept.frame for kept in waiting]

    def send(self, target: str, data: bytes = b"x") -> bytes:
        """The client sends a packet."""
        frame = packet("20.1.1.1", target, data)
        found = seek(self.model, observed(), AT_CLIENT, (DEFAULT, CLIENTS), frame)
        assert found is not None
        self.seeker.look_for(found, Kept(AT_CLIENT, CLIENTS, frame))
        return frame

    def after(self, seconds: float) -> None:
        """Time goes on, a tick after the other."""
        for _ in range(round(seconds * 10)):
            self.now = round(self.now + 0.1, 1)
            self.seeker.tick()

    def appears(self, address: str) -> None:
        """A host is known."""
        made = endpoint("new", "default", "web", 10, address)
        commit = Commit(self.model.revision + 1, (Change(None, made),))
        self.model.apply(commit)
        self.seeker.committed(commit)


def test_one_question_a_second_then_host_unreachable() -> None:
    """If it fails: every packet to a dead address makes a flood of questions, or vanishes in silence."""
    bench = Bench()
    for _ in range(5):
        frame = bench.send("10.1.1.77")
        bench.after(0.1)
    bench.after(ROUNDS * INTERVAL)
    assert [at for at, _, _ in bench.asked] == [0.0, 1.0, 2.0]
    assert all(ports == [5, 9, 10, 11, 12] for _, _, ports in bench.asked)
    gateway = bench.model.networks["default:clients"].gateway
    assert bench.refused == [(AT_CLIENT, report(frame, HOST_UNREACHABLE, gateway))] * MOST_KEPT
    assert not bench.released
    bench.send("10.1.1.77")
    assert len(bench.asked) == ROUNDS + 1, "it is asked for anew"


def test_what_was_kept_goes_on_when_the_host_is_known() -> None:
    """If it fails: the first packets to a silent host are lost, or come in another order."""
    bench = Bench()
    sent = [bench.send("10.1.1.77", data) for data in (b"1", b"2", b"3", b"4")]
    bench.appears("10.1.1.78")
    assert not bench.released
    bench.appears("10.1.1.77")
    assert bench.released == sent[-MOST_KEPT:]
    bench.after(5)
    assert not bench.refused
    assert len(bench.asked) == 1


def test_a_network_that_goes_ends_the_search() -> None:
    """If it fails: the controller stops, or asks for ever."""
    bench = Bench()
    bench.send("10.1.1.77")
    of = bench.model
    for thing in (*of.endpoints_of("default:web"), of.networks["default:web"]):
        bench.model.apply(Commit(bench.model.revision + 1, (Change(thing, None),)))
    bench.after(5)
    assert len(bench.asked) == 1


def test_a_scan_is_bounded() -> None:
    """If it fails: a host that sends to all addresses of a large network takes all of the controller's memory."""
    bench = Bench()
    web = bench.model.networks["default:web"]
    for number in range(MOST + 50):
        sought = Sought(web, IPv4Address(0x0A010000 + number))
        bench.seeker.look_for(sought, Kept(AT_CLIENT, CLIENTS, packet("20.1.1.1", str(sought.address))))
    assert len(bench.asked) == MOST
    bench.after(ROUNDS * INTERVAL)
    assert len(bench.refused) == MOST
    big = bytes(60000)
    for number in range(100):
        bench.seeker.look_for(Sought(web, IPv4Address(0x0A010000 + number)), Kept(AT_CLIENT, 0, big))
    bench.appears("10.1.1.77")
    for number in range(100):
        made = endpoint("new", "default", "web", 10, str(IPv4Address(0x0A010000 + number)))
        bench.seeker.committed(Commit(2, (Change(None, made),)))
    assert 0 < sum(map(len, bench.released)) <= MOST_BYTES


def test_only_a_switch_without_an_agent_looks() -> None:
    """If it fails: the hosts of Docker containers send what they drop to the controller, or the meter of learning is
    used up by who sends to nobody.
    """
    of = model()
    owners = (("network", "default:web"), ("network", "default:island"), ("switch", ""))

    def looking(of: Model) -> list[tuple[int, int]]:
        flows = (f for owner in owners for f in compile_owner(Context(of, DPID, PORTS), owner).flows)
        found = [f for f in flows if f.kind == FlowKind.SEEK and f.actions and f.table != Table.TELL]
        return sorted((f.table, f.meter) for f in found)

    found = looking(of)
    assert [table for table, _ in found] == [Table.CLASSIFY, *[Table.ROUTE] * 3]  # web from outside; both from inside
    tenants_own = REFUSE_METERS | of.tenants["default"].number
    assert [meter for _, meter in found] == [UNKNOWN_METER, *[tenants_own] * 3]
    of.apply(Commit(2, (Change(None, Host("h", DPID)),)))
    assert looking(of) == []
