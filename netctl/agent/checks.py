"""Active checks: each local provider is tried as its services say, from inside its own network namespace.

One thread runs them all: sockets that don't block, and a schedule on the monotonic clock. Another asks Docker for
process ids, as Docker may make its caller wait. The state says what is to be checked and takes the verdicts; the
synchroniser tells them. A provider that was in before the agent's start, or before there was a check or one of these
terms, stays so until it has failed often enough since.
"""

from __future__ import annotations

import heapq
import logging
import os
import queue
import selectors
import threading
import time
from dataclasses import dataclass

from netctl.agent.attempt import Attempt, request_for
from netctl.agent.docker_api import Docker, DockerGone, DockerRefused
from netctl.agent.netns import tcp_sockets
from netctl.agent.state import State
from netctl.agent.sync import Synchroniser
from netctl.agent.wanted import Check, Key, wanted

LOG = logging.getLogger(__name__)

AT_ONCE = 200  # attempts under way; the others wait for one to end


@dataclass(slots=True)
class Watch:
    """One check of one provider, and what has come of it."""

    check: Check
    due: float
    passing: bool | None = None  # None: not known since the agent's start
    attempt: Attempt | None = None
    _last: bool | None = None
    _streak: int = 0

    def judge(self, passed: bool) -> bool:
        """Take a result in. Returns whether the verdict is another now."""
        self._streak = self._streak + 1 if passed is self._last else 1
        self._last = passed
        if passed is self.passing or self._streak < (self.check.rise if passed else self.check.fall):
            return False
        self.passing = passed
        return True

    def change(self, check: Check) -> None:
        """Go on with other terms: the verdict stays, but what was found under the old ones does not count."""
        self.give_up()
        self.check = check
        self._last, self._streak = None, 0

    def give_up(self) -> None:
        """End what is under way."""
        if self.attempt is not None:
            self.attempt.end(passed=None)
            self.attempt = None


class Checks:
    """All checks of this host."""

    def __init__(self, state: State, sync: Synchroniser, docker: Docker) -> None:
        self._state = state
        self._sync = sync
        self._docker = docker
        self._watches: dict[Key, Watch] = {}
        self._schedule: list[tuple[float, Key]] = []  # a heap; what its watch's `due` contradicts counts no more
        self._running: dict[Key, Watch] = {}
        self._pids: dict[str, int | None] = {}  # by container; None: asked for
        self._questions: queue.Queue[str | None] = queue.Queue()
        self._answers: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._stale = True
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="checks", daemon=True)
        self._asker = threading.Thread(target=self._ask, name="check-pids", daemon=True)
        state.touched = self.look

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._asker.start()

    def stop(self, timeout: float) -> None:
        """End; what is under way is given up."""
        self._stop = True
        self._questions.put(None)
        self.look()
        self._thread.join(timeout)

    def look(self) -> None:
        """What is to be checked may have changed. For any thread."""
        self._stale = True
        os.eventfd_write(self._wake, 1)

    # The thread

    def _run(self) -> None:
        while not self._stop:
            self._state.pulse.within()
            if self._stale:
                self._stale = False
                self._refresh(time.monotonic())
            self._take_answers(time.monotonic())
            self._start_due(time.monotonic())
            self._finish()
            self._state.pulse.rest()
            for key, _ in self._selector.select(self._until_due(time.monotonic())):
                if key.data is None:
                    os.eventfd_read(self._wake)
                else:
                    key.data.go_on(key.fileobj)
            self._expire(time.monotonic())  # not before: who has answered by now is no worse for our being late
        for watch in self._watches.values():
            watch.give_up()

    def _until_due(self, now: float) -> float | None:
        """Seconds until there is something to do without anything happening; None: never."""
        due = [watch.attempt.deadline for watch in self._running.values() if watch.attempt is not None]
        if self._schedule and len(self._running) < AT_ONCE:
            due.append(self._schedule[0][0])
        return max(0.0, min(due) - now) if due else None

    def _refresh(self, now: float) -> None:
        """Take up what is to be checked by now, and leave what is not. Verdicts go with their checks."""
        with self._state.changed:
            checks, unjudged = wanted(self._state), set(self._state.unjudged)
            self._state.unjudged.clear()
        for key in list(self._watches):
            if key not in checks or not unjudged.isdisjoint(key):
                self._leave(key)
        for key, check in checks.items():
            watch = self._watches.get(key)
            if watch is not None and watch.check.target != check.target:
                self._leave(key)  # another container, or another address: nothing is known of it
                watch = None
            if watch is None:
                self._watches[key] = Watch(check, now)
                self._plan(key, now)
            elif watch.check != check:
                watch.change(check)
                self._running.pop(key, None)
                self._plan(key, now)
        used = {check.container_id for check in checks.values()}
        self._pids = {c: pid for c, pid in self._pids.items() if c in used}

    def _leave(self, key: Key) -> None:
        self._watches.pop(key).give_up()
        self._running.pop(key, None)
        endpoint_id, service_key = key
        with self._state.changed:
            verdicts = self._state.verdicts.get(endpoint_id, {})
            verdicts.pop(service_key, None)
            if not verdicts:
                self._state.verdicts.pop(endpoint_id, None)

    def _plan(self, key: Key, due: float) -> None:
        self._watches[key].due = due
        heapq.heappush(self._schedule, (due, key))

    def _start_due(self, now: float) -> None:
        while self._schedule and self._schedule[0][0] <= now and len(self._running) < AT_ONCE:
            due, key = heapq.heappop(self._schedule)
            watch = self._watches.get(key)
            if watch is None or watch.due != due:
                continue
            pid = self._pid(watch.check.container_id)
            if pid is None:
                continue  # planned again when Docker has answered
            # the next one an interval after this one was due; those missed are left out
            missed = (now - due) // watch.check.interval
            self._plan(key, due + (missed + 1) * watch.check.interval)
            if not watch.check.paused and key not in self._running:
                self._attempt(key, watch, pid, now)

    def _attempt(self, key: Key, watch: Watch, pid: int, now: float) -> None:
        check = watch.check
        attempt = watch.attempt = Attempt(self._selector, now + check.timeout)
        self._running[key] = watch
        try:
            sockets = tcp_sockets(pid, check.address, len(check.ports))
        except OSError as error:
            self._pids.pop(check.container_id, None)  # that process is no more, or another's: ask again
            attempt.end(passed=False, reason=error.strerror or str(error))
        else:
            attempt.start(sockets, check.address, check.ports, request_for(check.protocol, check.path, check.address))

    def _expire(self, now: float) -> None:
        for watch in self._running.values():
            attempt = watch.attempt
            if attempt is not None and attempt.passed is None and attempt.deadline <= now:
                attempt.end(passed=False, reason=f"no answer in {watch.check.timeout:g} s")

    def _finish(self) -> None:
        for key, watch in list(self._running.items()):
            attempt = watch.attempt
            if attempt is not None and attempt.passed is not None:
                del self._running[key]
                watch.attempt = None
                if watch.judge(attempt.passed):
                    self._verdict(key, attempt)

    def _verdict(self, key: Key, attempt: Attempt) -> None:
        endpoint_id, service_key = key
        passes = bool(attempt.passed)
        with self._state.changed:
            if not self._state.unjudged.isdisjoint(key):
                return  # of a check that is over
            self._state.verdicts.setdefault(endpoint_id, {})[service_key] = passes
        self._sync.verdict(endpoint_id)
        if passes:
            LOG.info("endpoint %s passes the check of service %s", endpoint_id[:12], service_key)
        else:
            LOG.warning("endpoint %s fails the check of service %s: %s", endpoint_id[:12], service_key, attempt.reason)

    # Process ids

    def _pid(self, container_id: str) -> int | None:
        """A container's process id; None: Docker is being asked."""
        if container_id not in self._pids:
            self._pids[container_id] = None
            self._questions.put(container_id)
        return self._pids[container_id]

    def _take_answers(self, now: float) -> None:
        while not self._answers.empty():
            container_id, pid = self._answers.get()
            if self._pids.get(container_id, 0) is not None:
                continue  # nobody waits for it any more
            if pid:
                self._pids[container_id] = pid
            else:
                del self._pids[container_id]  # asked for again
            for key, watch in self._watches.items():
                if watch.check.container_id == container_id:
                    self._plan(key, now if pid else now + watch.check.interval)

    def _ask(self) -> None:
        while (container_id := self._questions.get()) is not None:
            try:
                pid = self._docker.pid(container_id)
            except (DockerGone, DockerRefused) as error:
                LOG.debug("no process id of container %s: %s", container_id[:12], error)
                pid = 0
            self._answers.put((container_id, pid))
            os.eventfd_write(self._wake, 1)
