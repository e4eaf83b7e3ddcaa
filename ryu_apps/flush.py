"""Conntrack's entries of connections that lead nowhere any more: flushed, so that their clients move on.

An entry for a dead provider is refreshed by every packet that its client sends, and would blackhole it for ever. Which
connections may be there is part of what an owner wants (`Translation`); what it no longer wants is flushed.

A flush reads all of conntrack, in the thread that forwards: so one is for all connections of a VIP or of a provider
where nothing of it is wanted any more, and the switch is left most of its time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from ryu_apps.openflow.messages import Tuple5
from ryu_apps.pipeline.context import Outgoing, Owner, Translation

T = TypeVar("T")

# A packet can still meet a cached decision for the old provider until the datapath has been revalidated (at most
# 500 ms). And before 3.4 a flush on the userspace datapath skips entries when what it takes away is most of what there
# is: half of them, seen with 10,000, and half of those the next time. So again and again.
UNTIL = 1.2  # s after the change
LEAST = 14  # flushes, however long they take: of 10,000 entries none is left
FIRST, LONGER = 0.01, 2.0  # s until it is flushed again, and how much longer each time
LONGEST = 1.0  # s that this grows to
SHARE = 0.2  # of the switch's time that flushes may take, but for the first
AT_ONCE = 8  # flushes, before the switch may turn to something else
QUICK, TIMES = 0.01, 4  # s: what is flushed so quickly is flushed as many times at once, for clients that do not wait
TIMEOUT = 30.0  # s for an answer; a switch that takes longer is as good as gone

Entries = Translation | Outgoing


class Session(Protocol):
    """What of a session is needed here."""

    def flush_ct(
        self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
    ) -> None:
        """Forget connections of a zone that agree with protocol and tuples."""

    def barrier(self, timeout: float) -> None:
        """Wait until the switch has done all that it was sent."""


class Cut(NamedTuple):
    """What one flush forgets."""

    zone: int
    ip_proto: int = 0
    orig: Tuple5 | None = None
    reply: Tuple5 | None = None


@dataclass(slots=True)
class Round:
    """What went with one change: to be flushed at ``due``, and again, the last time not before ``until``.

    ``cuts``: what does it, until more is wanted. ``flushes``: so many have been.
    """

    gone: frozenset[Entries]
    due: float
    until: float
    wait: float = FIRST
    cuts: tuple[Cut, ...] | None = None
    flushes: int = 0


class Flusher:
    """What may be in one switch's conntrack, by owner, and what is due to be flushed."""

    def __init__(self, session: Session, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._wanted: dict[Owner, frozenset[Entries]] = {}
        # how many wishes there are for it, for any of its VIP, for any of its provider
        self._wanting: Counter[Entries] = Counter()
        self._vips: Counter[tuple[int, int]] = Counter()
        self._providers: Counter[tuple[int, int]] = Counter()
        self._gone: set[Entries] = set()
        self._rounds: list[Round] = []

    def put(self, owner: Owner, translations: Iterable[Entries]) -> None:
        """``owner``'s connections may be these now; the others are flushed by `changed`."""
        before, now = self._wanted.get(owner, frozenset()), frozenset(translations)
        self._gone |= before - now
        self._count(before - now, -1)
        self._count(now - before, 1)
        if not now <= before:
            for one in self._rounds:
                one.cuts = None
        if now:
            self._wanted[owner] = now
        else:
            self._wanted.pop(owner, None)

    def ended(self, entries: Iterable[Entries]) -> None:
        """These may be there from before this connection of the switch; `changed` flushes those that nobody wants."""
        self._gone.update(entries)

    def _count(self, entries: Iterable[Entries], more: int) -> None:
        for one in entries:
            _add(self._wanting, one, more)
            if isinstance(one, Outgoing):
                continue
            _add(self._vips, (one.zone, one.front), more)
            _add(self._providers, (one.zone, one.to), more)

    def changed(self) -> None:
        """The switch has been given what goes with the latest `put`: from now on no such connection is made."""
        now = self._clock()
        if gone := self._unwanted(self._gone):
            self._rounds.append(Round(gone, now, now + UNTIL))
        self._gone.clear()
        self.run()

    def run(self) -> None:
        """Flush what is due; but what is wanted again by now has new connections."""
        began = self._clock()
        ready = [r for r in self._rounds if r.due <= began]
        if not ready:
            return
        for one in ready:
            if one.cuts is None:
                one.cuts = tuple(self._cuts(self._unwanted(one.gone)))
        cuts = list(dict.fromkeys(cut for one in ready for cut in one.cuts or ()))
        flushes = 0
        while flushes < TIMES:
            started = self._clock()
            self._flush(cuts)
            flushes += 1
            if self._clock() - started > QUICK:
                break
        ended = self._clock()
        for one in ready:
            one.flushes += flushes
            one.due = ended + max(one.wait, (ended - began) / SHARE)
            one.wait = min(one.wait * LONGER, LONGEST)
        over = {id(one) for one in ready if began >= one.until and one.flushes >= LEAST}
        self._rounds = [r for r in self._rounds if id(r) not in over]

    def _unwanted(self, entries: Iterable[Entries]) -> frozenset[Entries]:
        # not as a difference to a view of the dictionary's keys: that goes through all that is wanted
        return frozenset(one for one in entries if one not in self._wanting)

    def _flush(self, cuts: list[Cut]) -> None:
        for at in range(0, len(cuts), AT_ONCE):
            for cut in cuts[at : at + AT_ONCE]:
                self._session.flush_ct(*cut)
            self._session.barrier(TIMEOUT)

    def _cuts(self, gone: frozenset[Entries]) -> Iterator[Cut]:
        """As few as will do."""
        wide: dict[Cut, set[Translation]] = {}
        left: set[Translation] = set()
        for one in sorted(gone):
            to = partial(Tuple5, version=one.version)
            if isinstance(one, Outgoing):
                yield Cut(one.zone, 0, to(src=one.own), to(dst=one.hidden))
                continue
            left.add(one)
            if (one.zone, one.to) not in self._providers:
                wide.setdefault(Cut(one.zone, reply=to(src=one.to)), set()).add(one)
            if (one.zone, one.front) not in self._vips:
                orig, reply = (None, to(dst=one.seen)) if one.seen else (to(dst=one.vip), None)
                wide.setdefault(Cut(one.zone, 0, orig, reply), set()).add(one)
        for cut, covered in sorted(wide.items(), key=lambda item: -len(item[1])):
            if covered & left:
                yield cut
                left -= covered
        for one in sorted(left):
            to = partial(Tuple5, version=one.version)
            reply = to(src=one.to, src_port=one.target, dst=one.seen)
            yield Cut(one.zone, one.ip_proto, to(dst=one.vip, dst_port=one.port), reply)

    def next_due(self) -> float | None:
        """When `run` has something to do (by the clock); None: never."""
        return min((r.due for r in self._rounds), default=None)


def _add(counter: Counter[T], key: T, more: int) -> None:
    counter[key] += more
    if not counter[key]:
        del counter[key]
