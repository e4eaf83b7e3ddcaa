"""A server for inside of a container: ``python finisher.py NAME finish|exit``; TCP port 80, UDP port 53, both families.

It answers with its name. On SIGTERM ``exit`` ends at once; ``finish`` goes on until nothing has come for a second, as
a server does that finishes its work when it is told to stop.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time

TCP, UDP = 80, 53
IDLE = 1.0  # s without anything new, after which nobody sends here any more
BACKLOG = 1024


class Server:
    """One thread; a connection is answered when it has asked, and closed by its client."""

    def __init__(self, name: str) -> None:
        self.answer = name.encode() + b"\n"
        self.open = 0
        self.last = 0.0
        self.stopping = False
        self.selector = selectors.DefaultSelector()

    def listen(self) -> None:
        for kind, port, handler in (
            (socket.SOCK_DGRAM, UDP, self.datagram),
            (socket.SOCK_STREAM, TCP, self.accept),  # last: who finds it open finds all open
        ):
            made = socket.socket(socket.AF_INET6, kind)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setblocking(False)
            made.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                made.listen(BACKLOG)
            self.selector.register(made, selectors.EVENT_READ, handler)

    def run(self) -> None:
        while not (self.stopping and not self.open and time.monotonic() - self.last > IDLE):
            for key, _ in self.selector.select(0.1):
                self.last = time.monotonic()
                try:
                    key.data(key.fileobj)
                except (BlockingIOError, ConnectionError):
                    continue  # the client has gone, which is its good right

    def stop(self, *_: object) -> None:
        self.stopping, self.last = True, time.monotonic()

    def datagram(self, endpoint: socket.socket) -> None:
        _, client = endpoint.recvfrom(2048)
        endpoint.sendto(self.answer, client)

    def accept(self, listener: socket.socket) -> None:
        made, _ = listener.accept()
        made.setblocking(False)
        self.open += 1
        self.selector.register(made, selectors.EVENT_READ, self.ask)

    def ask(self, connection: socket.socket) -> None:
        try:
            if connection.recv(100):
                connection.send(self.answer)
                return
        except ConnectionError:
            pass  # as good as closed
        self.selector.unregister(connection)
        connection.close()
        self.open -= 1


def main(name: str, how: str) -> None:
    server = Server(name)
    # the first process of a container ends by no signal that it does not handle
    signal.signal(signal.SIGTERM, server.stop if how == "finish" else lambda *_: os._exit(0))
    server.listen()
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
