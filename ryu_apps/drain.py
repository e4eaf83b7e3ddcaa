"""Ends of drain times: who has been draining for as long as a service allows keeps none of its connections; who is on
a host that has been draining so long keeps none of UDP's, for these have no end that a switch sees.

Since when is in the model, so a restart of the controller costs nothing. From then on the monotonic clock counts.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ryu_apps.framework import hub
from topology.commands import Commands
from topology.errors import NetctlError, Unavailable
from topology.model import Commit, Endpoint, Host, Service
from topology.snapshot import UDP

AGAIN_SECONDS = 1.0  # after a store that could not be written


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """When (monotonic s) a service's drain time is over for an endpoint, and what that stands on."""

    due: float
    endpoint_id: str
    service_key: str
    since: float  # epoch s
    seconds: int


class Drains:
    """The deadlines. `run` is for a greenthread of its own."""

    def __init__(
        self,
        commands: Commands,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._commands = commands
        self._model = commands.model
        self._clock = clock
        self._wall_clock = wall_clock
        self._deadlines: list[Deadline] = []  # a heap; one that the model contradicts counts no more
        self._wake = hub.Event()
        for endpoint in self._model.endpoints.values():
            self._note(endpoint, self._model.selected_by(endpoint))

    def committed(self, commit: Commit) -> None:
        """The model changed; to be subscribed."""
        for change in commit.changes:
            before, after = change.before, change.after
            if isinstance(after, Endpoint):
                if not isinstance(before, Endpoint) or _terms(before) != _terms(after):
                    self._note(after, self._model.selected_by(after))
            elif isinstance(after, Service):
                for endpoint in self._model.providers(after):
                    self._note(endpoint, [after])
            elif isinstance(after, Host) and after.draining and after != before:
                for endpoint in self._model.endpoints_of_host(after.name):
                    self._note(endpoint, self._model.selected_by(endpoint))

    def run(self) -> None:
        """Until it is killed."""
        while True:
            self._wake.wait(timeout=self.step())
            self._wake.clear()

    def step(self) -> float | None:
        """End what is due. Returns the seconds until there is more to do; None: nothing is waited for."""
        while self._deadlines and self._deadlines[0].due <= self._clock():
            deadline = heapq.heappop(self._deadlines)
            if self._holds(deadline):
                try:
                    self._commands.drained(deadline.endpoint_id, deadline.service_key)
                except Unavailable:  # nor can anybody else write then
                    heapq.heappush(self._deadlines, replace(deadline, due=self._clock() + AGAIN_SECONDS))
                except NetctlError:
                    continue  # another controller has forestalled us
        return max(0.0, self._deadlines[0].due - self._clock()) if self._deadlines else None

    def _note(self, endpoint: Endpoint, services: Iterable[Service]) -> None:
        since = self._model.draining_since(endpoint)
        if not since:
            return
        for service in services:
            if service.key not in endpoint.drained and _ends(endpoint, service):
                # a clock that was set back must not make it longer than asked for
                left = min(since + service.drain - self._wall_clock(), service.drain)
                due = self._clock() + left
                heapq.heappush(self._deadlines, Deadline(due, endpoint.id, service.key, since, service.drain))
                self._wake.set()

    def _holds(self, deadline: Deadline) -> bool:
        endpoint = self._model.endpoints.get(deadline.endpoint_id)
        service = self._model.services.get(deadline.service_key)
        return (
            endpoint is not None
            and service is not None
            and (self._model.draining_since(endpoint), service.drain) == (deadline.since, deadline.seconds)
            and service.key not in endpoint.drained
            and service.selects(endpoint)
        )


def _terms(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.draining_since, endpoint.labels, endpoint.host


def _ends(endpoint: Endpoint, service: Service) -> bool:
    """Whether the end of the drain makes a difference: a host's drain ends for UDP alone."""
    return endpoint.state == "draining" or any(port.protocol == UDP for port in service.ports)
