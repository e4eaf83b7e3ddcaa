"""Many short TCP connections from few source ports; a script without other modules, for inside of a namespace.

    python churn.py serve NAME PORT…      answers with its name; says "ready" when it listens
    python churn.py ask JSON              see `Plan`; says what became of the connections, as JSON

Each connection asks once and is closed in one of three ways in turn: by the client, by the client with a reset, by the
server. A port is used again as soon as its connection is closed, to each target: so the same port goes to all of them.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field

STAY, GO = b"stay\n", b"go\n"  # what is asked: the client closes, or the server
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
BACKLOG = 4096


@dataclass
class Plan:
    """What one process is to do."""

    source: str  # address
    ports: tuple[int, int]  # source ports: first, how many
    targets: list[tuple[str, str, int]]  # name, address, port: a connection to each in turn
    count: int  # of connections, all targets together
    at_once: int  # connections open at a time
    patience: float  # s
    others: list[tuple[str, str, int]] = field(default_factory=list)  # targets that may fail; every tenth connection
    hasty: float = 0.5  # s: how long to wait for those


@dataclass
class Outcome:
    """What became of the connections to one target."""

    answered: int = 0
    late: int = 0  # of those, after more than 0.9 s: a packet was lost and sent again
    refused: int = 0  # reset while it was opened
    reset: int = 0  # later
    silent: int = 0  # no answer in time
    other: int = 0  # other errors
    by: dict[str, int] = field(default_factory=dict)  # answers, by the name of who answered
    errors: list[str] = field(default_factory=list)  # the first few: source port, seconds since the start, what


def listen(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    made.listen(BACKLOG)
    made.setblocking(False)
    return made


def serve(name: str, ports: list[int]) -> None:
    """For ever."""
    poll = select.epoll()
    listeners = {s.fileno(): s for s in map(listen, ports)}
    for fd in listeners:
        poll.register(fd, select.EPOLLIN)
    print("ready", flush=True)
    open_ones: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if (listener := listeners.get(fd)) is not None:
                try:
                    made, _ = listener.accept()
                except (BlockingIOError, ConnectionError):
                    continue  # it was given up before it was accepted
                made.setblocking(False)
                open_ones[made.fileno()] = made
                poll.register(made.fileno(), select.EPOLLIN)
                continue
            connection = open_ones[fd]
            try:
                asked = connection.recv(100)
                if asked:
                    connection.send(name.encode() + b"\n")
            except OSError:
                asked = b""  # the client has gone, which is its good right
            if asked != STAY:
                poll.unregister(fd)
                del open_ones[fd]
                connection.close()


class Asking:
    """One connection."""

    def __init__(self, number: int, target: str, port: int, until: float) -> None:
        self.number = number
        self.target = target
        self.port = port
        self.began = time.monotonic()
        self.until = until
        self.sent = False
        self.answer = b""
        self.socket = socket.socket()

    def open(self, source: str, address: str, port: int) -> None:
        made = self.socket
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((source, self.port))
        made.setblocking(False)
        if (number := made.connect_ex((address, port))) not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))

    @property
    def server_closes(self) -> bool:
        return self.number % 3 == 2

    def advance(self) -> bool:
        """Go on when something has happened; whether it is over. OSError: it failed."""
        if not self.sent:
            if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
            self.socket.send(GO if self.server_closes else STAY)
            self.sent = True
            return False
        got = self.socket.recv(100)
        self.answer += got
        if not got:
            if not self.answer.endswith(b"\n"):
                raise ConnectionResetError(0, "closed without an answer")
            return True
        return self.answer.endswith(b"\n") and not self.server_closes

    def close(self) -> None:
        if self.number % 3 == 1:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()


class Client:
    """All connections of one process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.poll = select.epoll()
        self.open_ones: dict[int, Asking] = {}
        self.outcomes: dict[str, Outcome] = {name: Outcome() for name, _, _ in plan.targets + plan.others}
        self.busy: set[tuple[str, int]] = set()
        self.next = dict.fromkeys(self.outcomes, 0)
        self.closing: dict[tuple[str, int], float] = {}  # since when the kernel has not let go of a port
        self.start = time.monotonic()
        self.left = plan.count
        self.begun = 0

    def run(self) -> None:
        while self.left > 0 or self.open_ones:
            while self.left > 0 and len(self.open_ones) < self.plan.at_once and self.begin():
                pass
            for fd, _ in self.poll.poll(0.05):
                self.event(self.open_ones[fd])
            now = time.monotonic()
            for one in [a for a in self.open_ones.values() if a.until < now]:
                self.end(one, TimeoutError("no answer"))

    def begin(self) -> bool:
        """Open the next one; False: not now, the kernel is not done with the last one from that port."""
        plan = self.plan
        number = self.begun
        self.begun += 1
        other = bool(plan.others) and number % 10 == 9
        if other:
            name, address, port = plan.others[number // 10 % len(plan.others)]
            patience = plan.hasty
        else:
            self.left -= 1
            name, address, port = plan.targets[self.left % len(plan.targets)]
            patience = plan.patience
        first, count = plan.ports
        while (name, source := first + self.next[name] % count) in self.busy:
            self.next[name] += 1
        self.next[name] += 1
        one = Asking(number, name, source, time.monotonic() + patience)
        self.busy.add((name, source))
        self.open_ones[one.socket.fileno()] = one
        self.poll.register(one.socket.fileno(), select.EPOLLOUT)
        try:
            one.open(plan.source, address, port)
            self.closing.pop((name, source), None)
        except OSError as error:
            since = self.closing.setdefault((name, source), one.began)
            if error.errno == errno.EADDRNOTAVAIL and one.began - since < plan.patience:
                self.left += not other
                self.forget(one)
                return False
            self.end(one, error)
        return True

    def event(self, one: Asking) -> None:
        try:
            sent = one.sent
            over = one.advance()
            if one.sent and not sent:
                self.poll.modify(one.socket.fileno(), select.EPOLLIN)
            if over:
                self.end(one)
        except OSError as error:
            self.end(one, error)

    def end(self, one: Asking, error: OSError | None = None) -> None:
        now = time.monotonic()
        out = self.outcomes[one.target]
        if error is None:
            out.answered += 1
            out.late += now - one.began > 0.9
            name = one.answer.decode().strip()
            out.by[name] = out.by.get(name, 0) + 1
        elif isinstance(error, TimeoutError):
            out.silent += 1
        elif isinstance(error, ConnectionRefusedError) and not one.sent:
            out.refused += 1
        elif isinstance(error, ConnectionError):
            out.reset += 1
        else:
            out.other += 1
        if (error is not None or now - one.began > 0.9) and len(out.errors) < 20:
            out.errors.append(f"port {one.port} way {one.number % 3} at {one.began - self.start:.2f}: {error}")
        self.forget(one)

    def forget(self, one: Asking) -> None:
        del self.open_ones[one.socket.fileno()]
        self.poll.unregister(one.socket.fileno())
        self.busy.discard((one.target, one.port))
        one.close()


def ask(plan: Plan) -> dict[str, object]:
    client = Client(plan)
    client.run()
    took = time.monotonic() - client.start
    return {"took": took, "outcomes": {name: asdict(out) for name, out in client.outcomes.items()}}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], [int(port) for port in sys.argv[3:]])
    else:
        print(json.dumps(ask(Plan(**json.loads(sys.argv[2])))), flush=True)
