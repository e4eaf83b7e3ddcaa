"""A web server of few bytes: ``python server.py PORT…``; answers each request and closes at once.

Says "ready" when all ports listen. Several of them may share the ports.
"""

from __future__ import annotations

import select
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n"


def listen(port: int) -> socket.socket:
    made = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.bind(("", port))
    made.listen(4096)
    made.setblocking(False)
    return made


def serve(listeners: list[socket.socket]) -> None:
    """For ever."""
    poll = select.epoll()
    waiting = {s.fileno(): s for s in listeners}
    for fd in waiting:
        poll.register(fd, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if (listener := waiting.get(fd)) is not None:
                made, _ = listener.accept()
                made.setblocking(False)
                connections[made.fileno()] = made
                poll.register(made.fileno(), select.EPOLLIN)
                continue
            connection = connections.pop(fd)
            try:
                if connection.recv(4096):
                    connection.send(ANSWER)
            except OSError:
                pass  # the client has gone, which is its good right
            connection.close()  # and so out of the poll


def main(ports: list[int]) -> None:
    listeners = [listen(port) for port in ports]
    print("ready", flush=True)
    serve(listeners)


if __name__ == "__main__":
    main([int(port) for port in sys.argv[1:]])
