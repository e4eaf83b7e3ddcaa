"""Conntrack's entries of connections that lead nowhere any more: flushed, so that their clients move on.

An entry for a dead provider is refreshed by every packet that its client sends, and would blackhole it for ever. Which
connections may be there is part of what an owner wants (`Translation`); what it no longer wants is flushed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from ryu_apps.openflow.messages import Tuple5
from ryu_apps.pipeline.context import Outgoing, Owner, Translation

# A packet can still meet a cached decision for the old provider until the datapath has been revalidated (at most
# 500 ms), and before 3.4 one flush on the userspace datapath may skip entries: so again, later.
AGAIN = (0.0, 0.2, 1.0)  # seconds after the change

Entries = Translation | Outgoing


class Session(Protocol):
    """What of a session is needed here."""

    def flush_ct(
        self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
    ) -> None:
        """Forget connections of a zone that agree with protocol and tuples."""


class Flusher:
    """What may be in one switch's conntrack, by owner, and what is due to be flushed."""

    def __init__(self, session: Session, clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._wanted: dict[Owner, frozenset[Entries]] = {}
        self._wanting: Counter[Entries] = Counter()  # how many owners want it
        self._gone: set[Entries] = set()
        self._due: list[tuple[float, Entries]] = []

    def put(self, owner: Owner, translations: Iterable[Entries]) -> None:
        """``owner``'s connections may be these now; the others are flushed by `changed`."""
        before, now = self._wanted.get(owner, frozenset()), frozenset(translations)
        self._gone |= before - now
        for gone in before - now:
            self._wanting[gone] -= 1
            if not self._wanting[gone]:
                del self._wanting[gone]
        self._wanting.update(now - before)
        if now:
            self._wanted[owner] = now
        else:
            self._wanted.pop(owner, None)

    def changed(self) -> None:
        """The switch has been given what goes with the latest `put`: from now on no such connection is made."""
        now = self._clock()
        gone = sorted(self._gone - self._wanting.keys())
        self._due += [(now + later, one) for one in gone for later in AGAIN]
        self._due.sort()
        self._gone.clear()
        self.run()

    def run(self) -> None:
        """Flush what is due; but what is wanted again by now has new connections."""
        now = self._clock()
        ready = [gone for due, gone in self._due if due <= now and gone not in self._wanting]
        self._due = [(due, gone) for due, gone in self._due if due > now]
        for gone in ready:
            if isinstance(gone, Outgoing):
                orig = Tuple5(src=gone.own, version=gone.version)
                reply = Tuple5(dst=gone.hidden, version=gone.version)
                self._session.flush_ct(gone.zone, orig=orig, reply=reply)
                continue
            self._session.flush_ct(
                gone.zone,
                gone.ip_proto,
                orig=Tuple5(dst=gone.vip, dst_port=gone.port, version=gone.version),
                reply=Tuple5(src=gone.to, src_port=gone.target, version=gone.version),
            )

    def next_due(self) -> float | None:
        """When `run` has something to do (by the clock); None: never."""
        return self._due[0][0] if self._due else None
