"""The host's ports that are published: held by a socket each, so that no program serves one unseen, nor loses one.

A port that a program of the host uses is not taken over, nor while that program restarts: only once the port has been
free for `QUIET` seconds. The control plane's ports are never taken: whoever took the controller's would lock it out.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path

TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
Port = tuple[int, str]
QUIET = 60.0  # s; supervisors restart a program after 30 s at the latest
SOCKETS = {"TCP": ("tcp", "tcp6"), "UDP": ("udp", "udp6")}
LISTENING = "0A"  # a TCP socket's state there
CONTROL = "the control plane's port, never taken over"


class HostPorts:
    """What this agent holds. Nothing is ever received there: the kernel's rules send it elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[Port, socket.socket] = {}
        self._used: dict[Port, float] = {}  # when a program of the host was seen to use it last

    def hold(self, wanted: Collection[Port], control: Collection[Port] = ()) -> dict[Port, str]:
        """Hold these, and no others. Returns those that can't be, with the reason. ``control``: the control plane's."""
        refused = dict.fromkeys(set(wanted) & set(control), CONTROL)
        kept = set(wanted) - refused.keys()
        for port in self._held.keys() - kept:
            self._held.pop(port).close()
        self._used = {port: at for port, at in self._used.items() if port in kept}
        in_use = used() if self._used else set()
        for port in sorted(kept - self._held.keys()):
            if port in in_use:
                self._used[port] = self._clock()
            if port in in_use or not self._quiet(port):
                refused[port] = f"in use on this host, not taken over before it has been free for {QUIET:g} s"
            elif reason := self._take(port):
                self._used[port] = self._clock()
                refused[port] = f"{reason} on this host, not taken over"
        return refused

    def _quiet(self, port: Port) -> bool:
        return port not in self._used or self._clock() - self._used[port] >= QUIET

    def _take(self, port: Port) -> str:
        made = socket.socket(socket.AF_INET, TYPES[port[1]])
        try:
            # without SO_REUSEADDR: who comes later, even with it, does not get the port
            made.bind(("", port[0]))
        except OSError as error:
            made.close()
            return error.strerror or str(error)
        self._held[port] = made
        self._used.pop(port, None)
        return ""


def used(directory: Path = Path("/proc/thread-self/net")) -> set[Port]:
    """The ports that sockets of this host listen on, or, UDP, are bound to."""
    found: set[Port] = set()
    for protocol, names in SOCKETS.items():
        for name in names:
            try:
                lines = (directory / name).read_text().splitlines()[1:]
            except OSError:
                continue  # a kernel without IPv6
            for fields in map(str.split, lines):
                if protocol == "UDP" or fields[3] == LISTENING:
                    found.add((int(fields[1].rpartition(":")[2], 16), protocol))
    return found
