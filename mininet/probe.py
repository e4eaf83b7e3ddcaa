"""What the tests do on a host: listen, connect, ping. Its sockets are this process's and end with it."""

from __future__ import annotations

import os
import re
import selectors
import socket
import threading

from mininet.node import Host  # type: ignore[import-untyped]
from pyroute2 import netns  # type: ignore[import-untyped]

TIMEOUT = 3.0  # seconds for a connection and its answer
BACKLOG = 128  # connections that wait
_TIME = re.compile(r"time=([\d.]+) ms")


def socket_on(host: Host) -> socket.socket:
    """A TCP socket in the host's network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY)
        try:
            # of this thread alone; a socket stays where it was made
            netns.setns(there)
            return socket.socket()
        finally:
            netns.setns(home)
            os.close(there)
    finally:
        os.close(home)


class Listeners:
    """Listening sockets on hosts: whoever connects is told the host's name."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="listeners", daemon=True)
        self._sockets: list[socket.socket] = []

    def add(self, host: Host, port: int) -> None:
        """Listen there; before `start`."""
        listener = socket_on(host)
        self._sockets.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, f"{host.name}\n".encode())

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                try:
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    with connection:
                        connection.sendall(key.data)
                except (BlockingIOError, ConnectionError):
                    continue  # the client has gone: its own look at it is what counts

    def stop(self) -> None:
        """Close them all."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._selector.close()
        for listener in self._sockets:
            listener.close()


def connect(host: Host, address: str, port: int) -> str:
    """The name that answers at address and port; where none does, the reason in brackets."""
    with socket_on(host) as client:
        client.settimeout(TIMEOUT)
        try:
            client.connect((address, port))
            with client.makefile() as answer:
                return answer.readline().strip()
        except OSError as error:
            return f"({error.strerror or error})"


def ping(host: Host, address: str) -> float | None:
    """One echo request; milliseconds until its answer, None without one."""
    # long enough for the kernel to ask for the neighbour a second time
    output, _, _ = host.pexec("ping", "-n", "-c", "1", "-W", "4", address)
    found = _TIME.search(output)
    return float(found[1]) if found else None
