"""Which hosts are dead: no heartbeat of the agent and no answer of the switch, for `SILENCE` seconds.

Only those whose silence could have been heard: not just after the controller's own start, not after it stood still
itself, and not while it hears from nobody at all: then it is more likely the controller that is cut off.

Only the controller that programs the switches judges. Its verdicts are stored, and whoever leads next, or starts next,
begins with them: it changes nothing before it has heard from a host, or waited for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ryu_apps.framework import hub
from topology.commands import Commands
from topology.errors import NetctlError
from topology.model import Host
from topology.snapshot import Model

LOG = logging.getLogger(__name__)

SILENCE = 5.0  # s without a sign of life
PERIOD = 0.5  # s between two looks
STALL = 2.0  # s between two looks, if it took so long: heartbeats may lie unread


@dataclass(frozen=True, slots=True)
class Life:
    """How a host is. Times in seconds ago."""

    down: bool
    since: float  # down: its last sign of life; else: it came; in both cases as far as this controller knows
    heartbeat: float | None  # the last one; None: none since the controller's start
    switch: bool  # whether its switch is connected and answers
    degraded: float | None = None  # a part has been silent for so long, agent or switch; None: neither has


class Liveness:
    """Takes signs of life, and says who is dead. `run` is for a greenthread of its own.

    ``connected`` gives the datapath ids of the connected switches, ``ready`` tells of one whether it has been filled,
    ``leads`` whether it is ours to judge: who does not lead hears only a part.
    """

    def __init__(
        self,
        model: Model,
        connected: Callable[[], Collection[int]] = tuple,
        clock: Callable[[], float] = time.monotonic,
        ready: Callable[[int], bool] = lambda _: True,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self.dead: frozenset[str] = frozenset()
        self._model = model
        self._leads = leads
        self._connected = connected
        self._clock = clock
        self._ready = ready
        self._subscribers: list[Callable[[frozenset[str]], None]] = []
        self.begin()

    def begin(self) -> None:
        """It is ours to judge from now on: as was judged before us, until we have heard or waited."""
        self._beats: dict[str, float] = {}
        self._heard: dict[int, float] = {}
        self._came: dict[str, float] = {}  # hosts that are not down
        self._started = self._clock()
        self._fair = self._started  # no silence before this counts
        self._alone = self._started  # heard from nobody at all until then
        self._looked = self._started
        self._become(judged_dead(self._model))

    def subscribe(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call back with the names of the dead hosts whenever they are others."""
        self._subscribers.append(callback)

    def beat(self, host: str) -> None:
        """A host's agent is alive."""
        self._beats[host] = self._clock()
        self._came.setdefault(host, self._clock())

    def heard(self, dpid: int) -> None:
        """A switch has answered."""
        self._heard[dpid] = self._clock()

    def forget(self, host: str) -> None:
        """A host is no more."""
        self._beats.pop(host, None)
        self._came.pop(host, None)

    def life(self, host: Host) -> Life:
        """How a host is now."""
        now = self._clock()
        down = self.down(host)
        since = self._sign(host) if down else self._came.get(host.name, now)
        beat = self._beats.get(host.name)
        heartbeat = None if beat is None else now - beat
        return Life(down, now - since, heartbeat, self._answers(host.switch), self._degraded(host, now))

    def _degraded(self, host: Host, now: float) -> float | None:
        """How long agent or switch, whichever is silent for longer, has been so; None: both were heard of lately."""
        since = max(self._fair, self._came.get(host.name, self._fair))
        signs = (self._beats.get(host.name, 0.0), self._heard.get(host.switch, 0.0))
        silent = max(now - max(sign, since) for sign in signs)
        return silent if silent >= SILENCE else None

    def down(self, host: Host) -> bool:
        """Whether nothing was heard of a host for so long; `dead` are those of them that are believed dead.

        A dead host's switch may have come back empty: it is filled before anybody is sent there.
        """
        if host.name in self.dead:  # back when it can be sent to, not before
            return not (self._answers(host.switch) and self._ready(host.switch))
        return self._clock() - max(self._sign(host), self._fair) >= SILENCE

    def agent_silent(self, name: str) -> bool:
        """Whether a host's agent sends no heartbeats, whatever its switch does."""
        return self._clock() - max(self._beats.get(name, 0.0), self._fair) >= SILENCE

    def run(self) -> None:
        """Until it is killed."""
        while True:
            hub.sleep(PERIOD)
            self.step()

    def step(self) -> None:
        """Look at all hosts; to be called every `PERIOD` seconds."""
        if not self._leads():
            return
        now = self._clock()
        if now - self._looked > STALL:
            self._fair = now
        self._looked = now
        present = {dpid for dpid in self._connected() if self._answers(dpid)}
        hosts = self._model.hosts
        down = {host.name for host in hosts.values() if self.down(host)}
        if not present and len(down) == len(hosts):
            self._alone = now
        self._came = {name: self._came.get(name, now) for name in hosts if name not in down}
        judged = now - self._alone >= SILENCE
        dead = frozenset(down if judged else down & self.dead)
        known = self._model.by_switch
        self._heard = {d: t for d, t in self._heard.items() if now - t < SILENCE or known(d) is not None}
        if dead != self.dead:
            self._tell(dead)

    def _tell(self, dead: frozenset[str]) -> None:
        for name in sorted(dead - self.dead):
            LOG.warning("host %s is down: no heartbeat, and its switch does not answer", name)
        for name in sorted(self.dead - dead):
            LOG.info("host %s is %s", name, "up again" if name in self._model.hosts else "removed")
        self._become(dead)

    def _become(self, dead: frozenset[str]) -> None:
        self.dead = dead
        for callback in tuple(self._subscribers):
            callback(dead)

    def _sign(self, host: Host) -> float:
        """The last sign of life; the controller's start where there was none since."""
        return max(self._started, self._beats.get(host.name, 0.0), self._heard.get(host.switch, 0.0))

    def _answers(self, dpid: int) -> bool:
        return dpid in self._connected() and self._clock() - self._heard.get(dpid, 0.0) < SILENCE


def judged_dead(model: Model) -> frozenset[str]:
    """The hosts that are stored as dead."""
    return frozenset(host.name for host in model.hosts.values() if host.dead)


class Verdicts:
    """Stores who is dead. `run` is for a greenthread of its own: judging does not wait for a store that is slow."""

    def __init__(self, commands: Commands, liveness: Liveness, leads: Callable[[], bool]) -> None:
        self._commands = commands
        self._liveness = liveness
        self._leads = leads
        self._failed = False

    def run(self) -> None:
        """Until it is killed."""
        while True:
            hub.sleep(PERIOD)
            self.step()

    def step(self) -> None:
        """Store what is news. What can't be stored now is tried again with the next look."""
        dead = self._liveness.dead & self._commands.model.hosts.keys()
        if not self._leads() or dead == judged_dead(self._commands.model):
            return
        try:
            self._commands.set_dead(dead)
            self._failed = False
        except NetctlError as error:
            if not self._failed:
                LOG.warning("who is dead is not stored, the next leader has to find out: %s", error)
            self._failed = True
