"""Follows a store that others write to as well: their commits come in as they are made.

The store is watched; and because a watch may hang without a word, it is asked anyway whenever nothing has come for
a while. While it can't be reached, what is known stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ryu_apps.framework import hub
from topology.commands import Commands
from topology.store import SharedStore, StoreUnavailable, StoreUnusable

LOG = logging.getLogger(__name__)

SILENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.2  # before the store is asked again that has not answered, or that has ended a watch


class Follower:
    """`run` is for a greenthread of its own."""

    def __init__(self, commands: Commands, store: SharedStore, sleep: Callable[[float], object] = hub.sleep) -> None:
        self._commands = commands
        self._store = store
        self._sleep = sleep
        self._reachable = True

    def run(self) -> None:
        """Until it is killed."""
        while True:
            self.step()
            self._sleep(PAUSE_SECONDS)

    def step(self) -> None:
        """Look, then watch until nothing comes any more."""
        try:
            self._look()
            for revision in self._store.watch(SILENCE_SECONDS):
                if revision > self._commands.model.revision or not revision:
                    self._look()
        except (StoreUnavailable, StoreUnusable) as error:
            # unusable: others have written what makes no sense. Whoever puts it right need not start us again
            self._note(error)

    def _look(self) -> None:
        self._commands.catch_up()
        self._note(None)

    def _note(self, error: StoreUnavailable | StoreUnusable | None) -> None:
        if self._reachable and error is not None:
            LOG.error("%s; what is known is told, changes are refused", error)
        elif not self._reachable and error is None:
            LOG.info("the store answers again, at revision %d", self._commands.model.revision)
        self._reachable = error is None
