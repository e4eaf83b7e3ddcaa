"""Whether Docker Engine answers, asked every few seconds: one that hangs breaks no connection and says nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

from netctl.agent.docker_api import Docker, DockerGone
from netctl.agent.state import State

INTERVAL = 2.0  # s between two questions
ABOUT = "docker"  # what the trouble is about, in the host's document


class EngineWatch:
    """Keeps the host's trouble about Docker as it is."""

    def __init__(self, docker: Docker, state: State, changed: Callable[[], None]) -> None:
        self._docker = docker
        self._state = state
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="docker-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def look(self) -> None:
        """Ask once."""
        lines = {}
        try:
            self._docker.ping()
        except DockerGone as error:
            lines[ABOUT] = str(error)
        if self._state.troubles.say(ABOUT, lines):
            self._changed()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(INTERVAL)
