"""What others want to know of a switch: asked by the one thread that talks to it, waited for by theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ryu_apps.framework import hub
from ryu_apps.openflow.failures import Refused, SessionError

T = TypeVar("T")

GONE = "the switch has disconnected"
BUSY = "no answer from the switch in time"


class Question(Generic[T]):
    """One question, and its answer once there is one."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._done = hub.Event()
        self.answer: T | None = None
        self.failure = ""  # why there is no answer, in one line
        self.given_up = False

    def ask(self) -> None:
        """In the switch's thread. Raises SessionError where the switch is in doubt."""
        try:
            self.answer = self._read()
            self._done.set()
        except Refused as error:
            self.fail(str(error))
        except SessionError:
            self.fail(GONE)
            raise

    def fail(self, line: str) -> None:
        """There will be no answer."""
        self.failure = line
        self._done.set()

    def wait(self, timeout: float) -> T | None:
        """In the thread of whoever wants to know: the answer; None where there is none in ``timeout`` seconds."""
        if not self._done.wait(max(timeout, 0.0)):
            self.given_up = True
            self.failure = BUSY
        return self.answer


class Questions:
    """The questions to one switch, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[Question[object]] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, question: Question[T]) -> None:
        """To be asked when its turn comes; at a switch that is gone there is none."""
        if self._closed:
            question.fail(GONE)
        else:
            self._waiting.append(question)  # type: ignore[arg-type]  # nobody here looks at the answer

    def ask_next(self) -> None:
        """Ask one question that somebody still waits for."""
        while self._waiting:
            question = self._waiting.popleft()
            if not question.given_up:
                question.ask()
                return

    def close(self) -> None:
        """The switch is gone."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().fail(GONE)
