"""Which connections are flushed, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

from ryu_apps.flush import AT_ONCE, LEAST, SHARE, TIMES, UNTIL, Cut, Flusher
from ryu_apps.openflow.messages import Tuple5
from ryu_apps.pipeline.context import Owner, Translation

APP, HEIR, WEB = ("service", "default:app"), ("service", "default:heir"), ("endpoint", "w1")
ONE, TWO = (Translation(1, 6, 100, 8080, 10 + n, 80) for n in range(2))
HIDDEN_ONE = Translation(1, 6, 250, 80, ONE.to, 80)
ITSELF_ONE = Translation(0x8001, 6, ONE.to, 80, ONE.to, 80, seen=100)


def exactly(one: Translation) -> Cut:
    """The flush of these connections and no others."""
    reply = Tuple5(src=one.to, src_port=one.target, dst=one.seen)
    return Cut(one.zone, one.ip_proto, Tuple5(dst=one.vip, dst_port=one.port), reply)


@dataclass
class Rig:
    """A flusher with a clock in hand, and what it has flushed."""

    now: float = 0.0
    takes: float = 0.0  # s that the switch takes for a flush
    flushed: list[Cut] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    waiting: int = 0

    def __post_init__(self) -> None:
        self.flusher = Flusher(self, lambda: self.now)

    def flush_ct(
        self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
    ) -> None:
        """As a session does."""
        self.flushed.append(Cut(zone, ip_proto, orig, reply))
        self.times.append(self.now)
        self.waiting += 1
        assert self.waiting <= AT_ONCE

    def barrier(self, timeout: float) -> None:
        """As a session does."""
        self.now += self.takes * self.waiting
        self.waiting = 0

    def put(self, owner: Owner, *wanted: Translation) -> None:
        """A step of the reconciler for one owner."""
        self.flusher.put(owner, wanted)
        self.flusher.changed()

    def taken(self) -> list[Cut]:
        """What has been flushed since the last call, each once."""
        taken, self.flushed = self.flushed, []
        return list(dict.fromkeys(taken))

    def wait(self) -> None:
        """Until nothing is due any more."""
        while (due := self.flusher.next_due()) is not None:
            self.now = max(self.now, due)
            self.flusher.run()


def test_what_is_gone_is_flushed_many_times() -> None:
    """Connections made by a cached decision, or skipped by the switch (half of them each time), would lead nowhere."""
    rig = Rig()
    rig.put(WEB, HIDDEN_ONE)
    rig.put(APP, ONE, TWO)
    assert rig.flushed == []
    rig.put(APP, TWO)
    assert rig.flushed == [exactly(ONE)] * TIMES, "at once"
    rig.wait()
    assert len(rig.times) > 20
    assert UNTIL <= rig.times[-1] < 3 * UNTIL
    assert rig.taken() == [exactly(ONE)]


def test_a_switch_with_much_to_do() -> None:
    """Flushes of a large conntrack would leave a switch no time to forward packets."""
    rig = Rig(takes=0.1)
    rig.put(WEB, HIDDEN_ONE)
    rig.put(APP, ONE, TWO)
    rig.put(APP, TWO)
    rig.wait()
    assert all(b - a >= 0.1 / SHARE for a, b in zip(rig.times, rig.times[1:], strict=False))
    assert rig.times[-1] >= UNTIL, "one when no cached decision is left, in any case"
    assert len(rig.times) == LEAST, "a slow switch skips as many entries as a quick one"


def test_one_flush_for_all_of_a_provider() -> None:
    """A provider of many services would cost a flush, which reads all of conntrack, for each of them."""
    rig = Rig()
    others = [Translation(1, 6, 100 + n, 8080, ONE.to, 80) for n in range(1, 20)]
    rig.put(WEB, HIDDEN_ONE)
    rig.put(APP, ONE, TWO, ITSELF_ONE)
    rig.put(HEIR, *others)
    rig.flusher.put(WEB, ())
    rig.flusher.put(HEIR, ())
    rig.put(APP, TWO)
    assert rig.taken() == [Cut(1, reply=Tuple5(src=ONE.to)), Cut(0x8001, reply=Tuple5(src=ONE.to))]


def test_one_flush_for_all_of_a_vip() -> None:
    """A service of many providers would cost a flush for each of them."""
    rig = Rig()
    many = [Translation(1, 6, 100, 8080, n, 80) for n in range(1, 20)]
    rig.put(WEB, *(Translation(1, 6, 250 + n, 80, n, 80) for n in range(1, 20)))
    itself = [Translation(0x8001, 6, n, 80, n, 80, seen=100) for n in range(1, 20)]
    rig.put(APP, *many, *itself)
    rig.put(APP)
    assert rig.taken() == [Cut(1, orig=Tuple5(dst=100)), Cut(0x8001, reply=Tuple5(dst=100))]


def test_what_shares_vip_and_provider_is_left_alone() -> None:
    """Of a service with two ports one would go, and take the connections of the other with it."""
    rig = Rig()
    other_port = Translation(1, 6, 100, 9090, ONE.to, 80)
    rig.put(APP, ONE, other_port)
    rig.put(APP, other_port)
    assert rig.taken() == [exactly(ONE)]


def test_many_flushes_do_not_go_at_once() -> None:
    """A switch would forward nothing until it has done all of them."""
    rig = Rig()
    many = [Translation(1, 6, 100 + n, 8080, 10 + n, 80) for n in range(5 * AT_ONCE)]
    rig.put(APP, *many)
    rig.put(APP)
    assert len(rig.taken()) == 5 * AT_ONCE


def test_ipv6_is_flushed_as_such() -> None:
    """What is gone over IPv6 would stay, or something of IPv4 go in its place."""
    rig = Rig()
    rig.put(WEB, Translation(1, 6, 1 << 100, 9090, 1 << 101, 80, version=6))
    rig.put(APP, Translation(1, 6, 1 << 100, 8080, 1 << 101, 80, version=6))
    rig.put(APP)
    assert rig.taken() == [
        Cut(
            1,
            6,
            Tuple5(dst=1 << 100, dst_port=8080, version=6),
            Tuple5(src=1 << 101, src_port=80, dst=0, version=6),
        )
    ]


def test_what_is_wanted_again_is_left_alone() -> None:
    """A container that restarts quickly would have its first connections cut by what was due for its last ones."""
    rig = Rig()
    rig.put(WEB, HIDDEN_ONE)
    rig.put(APP, ONE, TWO)
    rig.put(APP, TWO)
    rig.put(APP, ONE, TWO)
    rig.wait()
    assert rig.taken() == [exactly(ONE)]
    rig.put(APP)
    rig.wait()
    assert rig.taken() == [Cut(1, orig=Tuple5(dst=100))], "and flushed when it goes once more"


def test_a_flush_of_a_vip_that_is_wanted_again() -> None:
    """The first connections of a service made anew would go with those of its provider that has left."""
    rig = Rig()
    rig.put(APP, ONE)
    rig.put(APP)
    assert rig.taken() == [Cut(1, reply=Tuple5(src=ONE.to))]
    rig.put(APP, TWO)
    rig.now += 0.1
    rig.flusher.run()
    assert rig.taken() == [Cut(1, reply=Tuple5(src=ONE.to))]
    rig.put(WEB, HIDDEN_ONE)
    rig.now += 0.1
    rig.flusher.run()
    assert rig.taken() == [exactly(ONE)]


def test_what_another_owner_wants_is_left_alone() -> None:
    """A service made at the address of one that was just deleted would lose its first connections."""
    rig = Rig()
    rig.put(APP, ONE)
    rig.flusher.put(APP, ())
    rig.flusher.put(HEIR, (ONE,))
    rig.flusher.changed()
    rig.wait()
    assert rig.flushed == []
    rig.put(APP, ONE)
    rig.put(HEIR)
    assert rig.flushed == []
    rig.put(APP)
    assert rig.flushed
