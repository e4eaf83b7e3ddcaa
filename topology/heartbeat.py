"""Tells whoever supervises this process that it lives: systemd by its protocol, scripts/supervise by a file's time.

systemd gives a socket in NOTIFY_SOCKET (sd_notify(3)), scripts/supervise a file in NETCTL_HEARTBEAT. Without either
nobody listens, and nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

PERIOD = 1.0  # s between two heartbeats: supervisors wait for several times as long


class Heartbeat:
    """The way to a supervisor, as the environment gives it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._file = environment.get("NETCTL_HEARTBEAT", "")
        self._socket = environment.get("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """The start is over."""
        self._tell("READY=1")
        self.beat()

    def beat(self) -> None:
        """Alive, now."""
        self._tell("WATCHDOG=1")
        if self._file:
            with contextlib.suppress(OSError):
                os.utime(self._file)

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, line: str) -> None:
        if not self._socket:
            return
        name = self._socket
        address = f"\0{name[1:]}" if name.startswith("@") else name
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(PERIOD)
            connection.sendto(line.encode(), address)
