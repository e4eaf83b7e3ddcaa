"""Which controller programs the switches: alone, all of them; else the one that is elected.

Every switch is connected to every controller. The leader asks each to be its master, in its generation, before it reads
anything; the others are slaves, and have no thread that writes. Who ceases to lead drops its switches' connections:
they come back, and find a slave.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ryu_apps.framework import hub
from ryu_apps.openflow.session import Session
from ryu_apps.rest.forward import NOBODY
from ryu_apps.switches import Switches
from topology.commands import Commands
from topology.errors import Unavailable
from topology.store import StoreUnavailable, StoreUnusable

if TYPE_CHECKING:
    from topology.etcd_store import EtcdStore

LOG = logging.getLogger(__name__)

RETRY_SECONDS = 0.2
CHECK_SECONDS = 2.0


class Alone:
    """There are no other controllers."""

    leads = True
    leader_url = ""

    def __init__(self, url: str, check: Callable[[], None] = lambda: None) -> None:
        """``url``: of our REST API. ``check`` raises StoreUnavailable where the store can't be written."""
        self._url = url
        self._check = check
        self._line = ""

    def controllers(self) -> dict[str, bool]:
        """The controllers there are, and whether each leads."""
        return {self._url: True}

    def connected(self, session: Session) -> bool:
        """A switch is there; whether it is ours to program."""
        return True

    def run(self) -> None:
        """Look after the store until we are killed: nobody may write to it for days, and it should be known before."""
        while True:
            hub.sleep(CHECK_SECONDS)
            self.step()

    def step(self) -> None:
        """Say when the store ceases to be there, and when it is back."""
        try:
            self._check()
            line = ""
        except StoreUnavailable as error:
            line = str(error)
        if line != self._line:
            LOG.error("%s", line) if line else LOG.info("the store can be written again")
        self._line = line

    def resign(self) -> None:
        """There is nobody to tell."""


class Elected:
    """One of several controllers. `run` is for a greenthread of its own."""

    def __init__(
        self,
        commands: Commands,
        store: EtcdStore,
        switches: Switches,
        *,
        url: str,
        sessions: Callable[[], Iterable[Session]],
        spawn: Callable[..., Any],
        takes_over: Callable[[], None],
        begin: Callable[[Session], None],
        ceased: Callable[[], None],
    ) -> None:
        """``takes_over`` is called when we begin to lead, ``begin`` then for each switch; ``ceased`` when we do no
        longer.
        """
        from topology.election import Election  # with etcd's client, which nobody else needs

        self._url = url
        self._commands = commands
        self._switches = switches
        self._sessions = sessions
        self._spawn = spawn
        self._takes_over = takes_over
        self._begin = begin
        self._ceased = ceased
        self._election = Election(store.etcd, url, url, self._changed)

    @property
    def leads(self) -> bool:
        """Whether we may write to the switches at this moment."""
        generation = self._election.generation
        return generation != 0 and generation == self._switches.generation

    @property
    def leader_url(self) -> str:
        """Where the leader's REST is; empty: it is us. Unavailable: nobody leads, or we don't know who."""
        if self._election.generation:
            return ""
        leader = self._election.leader
        if self._election.doubled:
            raise Unavailable(self._doubled)
        if leader is None or leader.url == self._url:  # the latter: us, before we were started again
            raise Unavailable(NOBODY)
        return leader.url

    @property
    def _doubled(self) -> str:
        return f"another controller is at {self._url} as well: give each an address of its own (--rest-url)"

    def controllers(self) -> dict[str, bool]:
        """The controllers there are, as far as etcd tells, and whether each leads."""
        try:
            leader = self.leader_url or self._url
        except Unavailable:
            leader = ""
        return {url: url == leader for url in sorted({self._url, *self._election.standing})}

    def connected(self, session: Session) -> bool:
        """A switch is there; whether it is ours to program."""
        if not self.leads:
            self._enslave(session)
        return self.leads

    def run(self) -> None:
        """Until it is killed."""
        self._election.run(hub.sleep)

    def resign(self) -> None:
        """Let another lead at once."""
        self._election.resign()

    def _changed(self) -> None:
        generation, leader = self._election.generation, self._election.leader
        if self._switches.generation not in (0, generation):
            LOG.warning("we do not lead any more in generation %d", self._switches.generation)
            self._switches.generation = 0
            for session in list(self._sessions()):
                session.close()
            self._ceased()
        self._switches.awaited.clear()
        if generation:
            self._switches.awaited.update(s.datapath.id for s in self._sessions())
        self._switches.progress.made()
        if generation:
            self._spawn(self._take_over, generation)
            return
        if self._election.doubled:
            LOG.error("%s; this one does not stand", self._doubled)
        LOG.info("%s", f"{leader.url} leads" if leader else "nobody leads")
        for session in list(self._sessions()):
            self._enslave(session)

    def _enslave(self, session: Session) -> None:
        leader = self._election.leader
        if leader is not None and not self._election.generation:
            session.be_slave(leader.generation)

    def _take_over(self, generation: int) -> None:
        """All that was written before us is known before a switch hears of us."""
        while self._election.generation == generation:
            try:
                self._commands.catch_up()
            except (StoreUnavailable, StoreUnusable) as error:
                LOG.debug("taking over: %s", error)
                hub.sleep(RETRY_SECONDS)
                continue
            self._takes_over()
            self._switches.lead(generation)
            LOG.info("we lead, in generation %d, from revision %d", generation, self._commands.model.revision)
            for session in list(self._sessions()):
                self._begin(session)
            return
