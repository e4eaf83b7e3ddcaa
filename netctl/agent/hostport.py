"""The host's ports that are published: held by a socket each, so that no program serves one unseen, nor loses one."""

from __future__ import annotations

import socket
from collections.abc import Collection

TYPES = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
Port = tuple[int, str]


class HostPorts:
    """What this agent holds. Nothing is ever received there: the kernel's rules send it elsewhere."""

    def __init__(self) -> None:
        self._held: dict[Port, socket.socket] = {}

    def hold(self, wanted: Collection[Port]) -> dict[Port, str]:
        """Hold these, and no others. Returns those that can't be, with the reason: they are somebody else's."""
        for port in self._held.keys() - set(wanted):
            self._held.pop(port).close()
        refused = {}
        for port in wanted:
            if port in self._held:
                continue
            made = socket.socket(socket.AF_INET, TYPES[port[1]])
            try:
                # without SO_REUSEADDR: who comes later, even with it, does not get the port
                made.bind(("", port[0]))
            except OSError as error:
                made.close()
                refused[port] = error.strerror or str(error)
            else:
                self._held[port] = made
        return refused
