"""Containers on their way out: from their stop signal on they get no new connections, until they die.

Docker tells nobody that it stops a container, only that a signal was sent, and lists it as running meanwhile. So what
was sent is remembered here; after a restart it is read from Docker's past events.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from netctl.agent.docker_api import Docker, DockerRefused
from netctl.agent.state import Container, State

LOG = logging.getLogger(__name__)

SURVIVED = 300.0  # s: who still runs so long after its stop signal goes on running
STOP_MARGIN = 10.0  # s beside a container's own stop timeout, where that is longer


class Draining:
    """Which containers those are, and until when."""

    def __init__(self, state: State, docker: Docker, changed: Callable[[Container], None]) -> None:
        self._state = state
        self._docker = docker
        self._changed = changed  # told of a container that has survived
        self._until: dict[str, float] = {}  # monotonic clock, by container
        self._lock = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="draining", daemon=True)

    def start(self) -> None:
        """Begin to look for survivors."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        with self._lock:
            self._stop = True
            self._lock.notify_all()

    def catch_up(self, alive: Collection[str]) -> None:
        """Know the signals to these containers that nobody here has heard of. Raises what Docker's events raise."""
        for container_id, (age, number) in self._docker.last_signals(SURVIVED).items():
            if container_id in alive:
                self.signalled(container_id, number, age)

    def signalled(self, container_id: str, number: int, age: float = 0.0) -> None:
        """A container was sent a signal; only its stop signal counts."""
        if number == signal.SIGKILL:
            return  # its death follows at once
        try:
            stops, timeout = self._docker.stopping(container_id)
        except DockerRefused as error:
            LOG.debug("container %s: %s", container_id[:12], error)
            return  # gone since
        if number != stops:
            return
        with self._lock:
            self._until[container_id] = time.monotonic() - age + max(SURVIVED, timeout + STOP_MARGIN)
            self._lock.notify_all()
        LOG.info("container %s was sent its stop signal: no new connections", container_id[:12])

    def ended(self, container_id: str) -> None:
        """A container died or was started."""
        with self._lock:
            self._until.pop(container_id, None)

    def seen(self, container: Container) -> Container:
        """A container as Docker lists it → as it is."""
        with self._lock:
            drains = container.state == "running" and self._until.get(container.id, 0.0) > time.monotonic()
        return replace(container, state="draining") if drains else container

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stop:
                    return
                now = time.monotonic()
                survivors = [c for c, until in self._until.items() if until <= now]
                for container_id in survivors:
                    del self._until[container_id]
                if not survivors:
                    self._lock.wait(min(self._until.values(), default=now + threading.TIMEOUT_MAX) - now)
                    continue
            for container_id in survivors:
                self._survived(container_id)

    def _survived(self, container_id: str) -> None:
        with self._state.changed:  # until it is noted: it may die at any moment
            container = self._state.containers.get(container_id)
            if container is not None and container.state == "draining":
                LOG.warning("container %s goes on after its stop signal: new connections again", container_id[:12])
                self._changed(replace(container, state="running"))
