"""Which connections are flushed, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

from ryu_apps.flush import AGAIN, Flusher
from ryu_apps.openflow.messages import Tuple5
from ryu_apps.pipeline.context import Owner, Translation

APP, HEIR = ("service", "default:app"), ("service", "default:heir")
ONE, TWO = (Translation(1, 6, 100, 8080, 10 + n, 80) for n in range(2))


@dataclass
class Rig:
    """A flusher with a clock in hand, and what it has flushed: providers' addresses."""

    now: float = 0.0
    flushed: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flusher = Flusher(self, lambda: self.now)

    def flush_ct(
        self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
    ) -> None:
        """As a session does."""
        assert (zone, ip_proto, orig) == (1, 6, Tuple5(dst=100, dst_port=8080))
        assert reply is not None
        self.flushed.append(reply.src)

    def put(self, owner: Owner, *wanted: Translation) -> None:
        """A step of the reconciler for one owner."""
        self.flusher.put(owner, wanted)
        self.flusher.changed()

    def wait(self) -> None:
        """Until nothing is due any more."""
        while (due := self.flusher.next_due()) is not None:
            self.now = due
            self.flusher.run()


def test_what_is_gone_is_flushed_more_than_once() -> None:
    """A connection made by a cached decision, or skipped by the switch, would lead nowhere for ever."""
    rig = Rig()
    rig.put(APP, ONE, TWO)
    assert rig.flushed == []
    rig.put(APP, TWO)
    assert rig.flushed == [ONE.to], "at once"
    rig.wait()
    assert rig.flushed == [ONE.to] * len(AGAIN)


def test_ipv6_is_flushed_as_such() -> None:
    """What is gone over IPv6 would stay, or something of IPv4 go in its place."""
    gone: list[tuple[Tuple5 | None, Tuple5 | None]] = []

    class Session:
        def flush_ct(
            self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
        ) -> None:
            gone.append((orig, reply))

    flusher = Flusher(Session(), lambda: 0.0)
    flusher.put(APP, [Translation(1, 6, 1 << 100, 8080, 1 << 101, 80, version=6)])
    flusher.put(APP, [])
    flusher.changed()
    assert gone == [
        (Tuple5(dst=1 << 100, dst_port=8080, version=6), Tuple5(src=1 << 101, src_port=80, version=6)),
    ]


def test_what_is_wanted_again_is_left_alone() -> None:
    """A container that restarts quickly would have its first connections cut by what was due for its last ones."""
    rig = Rig()
    rig.put(APP, ONE, TWO)
    rig.put(APP, TWO)
    rig.put(APP, ONE, TWO)
    rig.wait()
    assert rig.flushed == [ONE.to]
    rig.put(APP)
    rig.wait()
    assert rig.flushed == [ONE.to] + [ONE.to, TWO.to] * len(AGAIN), "and flushed when it goes once more"


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
    assert rig.flushed == [ONE.to]
