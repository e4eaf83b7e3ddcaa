"""A client that asks again and again while something else happens."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.kit.hosts import Namespace
from tests.kit.ovs import wait_for

PAUSE = 0.05  # s between two questions: twenty a second
PATIENCE = 2.0  # s for an answer, unless told


@dataclass
class Loop:
    """What became of the questions: answers and failures, each with when it was asked (monotonic s)."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)

    def wait_for_more(self, count: int = 5) -> None:
        """Wait until as many more questions have been answered."""
        until = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= until, f"{count} more answers (failures: {self.failures[-3:]})")


@contextlib.contextmanager
def asking(client: Namespace, kind: str, address: str, port: int, patience: float = PATIENCE) -> Iterator[Loop]:
    """Ask for as long as the block lasts, each time by a new connection."""
    loop = Loop()
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(PAUSE):
            at = time.monotonic()
            try:
                loop.answers.append((at, client.ask(kind, address, port, timeout=patience)))
            except OSError as error:
                loop.failures.append((at, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield loop
    finally:
        ended.set()
        thread.join(patience + 10)
