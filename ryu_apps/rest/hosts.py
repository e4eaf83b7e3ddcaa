"""What is known of the hosts' agents: open change streams, what they have said of themselves and carried out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ryu_apps.liveness import Liveness
from ryu_apps.rest.documents import OPEN_VSWITCH, HostState
from ryu_apps.wsgi import new_event
from topology.model import Host
from topology.snapshot import Model

NO_DOCKER = "docker"  # what an agent's line is about when its Docker does not answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """How waiting for the hosts ended: all have applied the revision, or these have not."""

    failed: tuple[tuple[str, str], ...] = ()  # (host, its line)
    late: tuple[str, ...] = ()  # hosts that did not answer in time


@dataclass(slots=True)
class _Record:
    mtu: int = 0
    applied: int = 0
    errors: dict[str, str] = field(default_factory=dict)  # by network key, or by what else is wrong there
    broken: float = 0.0  # since when its Open vSwitch is, s since the epoch


class HostTracker:
    """Never stored: after a restart the agents connect and report again.

    A host is connected while it has a change stream open. A host without an agent's registration is never
    waited for, whoever opens a stream in its name; nor is one that is down: its stream may look open for long.
    """

    def __init__(self, model: Model, liveness: Liveness | None = None) -> None:
        self.liveness = liveness or Liveness(model)
        self.liveness.subscribe(lambda _: self._wake())
        self._model = model
        self._records: dict[str, _Record] = {}
        self._streams: Counter[str] = Counter()
        self._waiting: list[Callable[[], None]] = []

    def beat(self, host: str, mtu: int = 0) -> None:
        """The host's agent is alive; ``mtu``: of its containers, 0 where it does not say."""
        self.liveness.beat(host)
        self._record(host).mtu = mtu

    def forget(self, host: str) -> None:
        """The host is no more."""
        self._records.pop(host, None)
        self.liveness.forget(host)
        self._wake()

    def connect(self, host: str) -> None:
        """One more change stream of the host is open."""
        self._streams[host] += 1

    def disconnect(self, host: str) -> None:
        """One of the host's change streams ended."""
        self._streams[host] -= 1
        if not self._streams[host]:
            del self._streams[host]
        self._wake()

    def connected(self, host: str) -> bool:
        """Whether a change stream of the host is open."""
        return host in self._streams

    def applied(self, host: str, revision: int, errors: Mapping[str, str]) -> None:
        """The host has carried out everything up to a revision, but for the networks in ``errors``."""
        record = self._record(host)
        if revision < record.applied:
            return  # overtaken on the way by a later report
        record.applied = revision
        record.errors = dict(errors)
        record.broken = (record.broken or time.time()) if OPEN_VSWITCH in errors else 0.0
        self._wake()

    def state(self, host: Host) -> HostState:
        """What its document shows beside the host's object."""
        record = self._records.get(host.name, _Record())
        life = self.liveness.life(host)
        return HostState(self.connected(host.name), life, record.mtu, record.applied, record.errors, record.broken)

    def down(self, host: str) -> bool:
        """Whether nothing was heard of the host for too long; of one that is not registered nothing ever is."""
        found = self._model.hosts.get(host)
        return found is None or self.liveness.down(found)

    def wait(self, revision: int, network: str, timeout: float) -> Outcome:
        """Until every connected host that is up has applied ``revision``, one failed at ``network`` or has no Docker,
        or time is up.

        A host that connects meanwhile is waited for as well; one that goes no longer.
        """
        deadline = time.monotonic() + timeout
        while True:
            late: list[str] = []
            failed: list[tuple[str, str]] = []
            for host in sorted(h for h in self._streams if not self.down(h)):
                record = self._record(host)
                if record.applied < revision and NO_DOCKER in record.errors:
                    failed.append((host, record.errors[NO_DOCKER]))  # it would not come to it in time
                elif record.applied < revision:
                    late.append(host)
                elif network in record.errors:
                    failed.append((host, record.errors[network]))
            remaining = deadline - time.monotonic()
            if failed or not late or remaining <= 0:
                return Outcome(tuple(failed), tuple(late))
            self._sleep(remaining)

    def _record(self, host: str) -> _Record:
        return self._records.setdefault(host, _Record())

    def _sleep(self, timeout: float) -> None:
        event = new_event()
        self._waiting.append(event.send)
        try:
            event.wait(timeout)
        finally:
            if event.send in self._waiting:
                self._waiting.remove(event.send)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
