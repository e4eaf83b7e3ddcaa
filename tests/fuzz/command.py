"""What the fuzzers have in common: where they connect to, and their command."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY = 1 << 30  # of the fuzzer itself
COUNT = 20_000


class Fault(AssertionError):
    """What is never to be."""


@dataclass(frozen=True)
class Target:
    """Where a server listens: HOST:PORT, or the path of a socket."""

    place: str
    timeout: float = 60.0

    def connect(self) -> socket.socket:
        """A connection to it."""
        if "/" not in self.place:
            host, _, port = self.place.rpartition(":")
            return socket.create_connection((host, int(port)), self.timeout)
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(self.timeout)
        made.connect(self.place)
        return made


def exchange(connection: socket.socket, content: bytes, patience: float) -> tuple[bytes, bool]:
    """What a server says to these bytes until it ends the connection, and whether by a reset. TimeoutError: it doesn't
    end it within ``patience`` seconds of silence.
    """
    connection.settimeout(patience)
    with contextlib.suppress(OSError):  # it may end before it has read all
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
    said = b""
    try:
        while part := connection.recv(1 << 16):
            said += part
    except ConnectionError:
        return said, True
    return said, False


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def command(
    name: str,
    text: str | None,
    run: Callable[[int, int], Counter[str]],
    connect: Callable[..., Counter[str]],
) -> int:
    """The command of a fuzzer: its seed, and how many became what; the last line is that in JSON."""
    options = argparse.ArgumentParser(prog=f"python -m tests.fuzz.{name}", description=text)
    options.add_argument("--count", type=int, default=COUNT)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--connect", metavar="HOST:PORT or PATH")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--spare", action="append", default=[], metavar="NAME")
    wanted = options.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (2 * MEMORY, 2 * MEMORY))
    began = time.monotonic()
    try:
        if wanted.connect:
            became = connect(Target(wanted.connect), wanted.seconds, wanted.seed, wanted.spare)
        else:
            became = run(wanted.count, wanted.seed)
    except Fault as fault:
        print(fault, flush=True)
        return 1
    print(f"{became.total()} in {time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps(dict(became.most_common())), flush=True)
    return 0
