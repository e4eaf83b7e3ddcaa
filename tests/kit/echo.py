"""A server that answers with its name: ``python echo.py NAME tcp:80 udp:53``; says "ready" when it listens.

The answer is a line: its name, and the client's address and port as it sees them. To a datagram it answers with one of
the same size, from whatever address its kernel chooses; ``info:53`` from the address that was asked, as DNS servers do.
A TCP connection stays open and every line is answered.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import sys
import threading
from typing import Any

IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50  # Linux; Python has not all of them
NAME = sys.argv[1] if len(sys.argv) > 1 else ""


def answer(client: Any) -> bytes:
    return f"{NAME} {client[0]} {client[1]}\n".encode()


class Lines(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        try:
            for _ in self.rfile:
                self.wfile.write(answer(self.client_address))
        except ConnectionError:
            return  # the client has gone, which is its good right


class Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, endpoint = self.request
        endpoint.sendto(answer(self.client_address).ljust(len(data)), self.client_address)


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class Udp(socketserver.UDPServer):
    max_packet_size = 65535


class Asked(Udp):
    """Answers from the address that was asked."""

    def server_bind(self) -> None:
        six = self.address_family == socket.AF_INET6
        level, option = (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO) if six else (socket.IPPROTO_IP, IP_PKTINFO)
        self.socket.setsockopt(level, option, 1)
        super().server_bind()

    def get_request(self) -> Any:
        data, told, _, client = self.socket.recvmsg(self.max_packet_size, 256)
        # of the answer it says by which interface and from which address; the interface is left to the kernel
        own = []
        for level, _, content in told:
            if level == socket.IPPROTO_IP:
                own.append((level, IP_PKTINFO, struct.pack("=i", 0) + content[4:8] + bytes(4)))
            else:
                own.append((level, IPV6_PKTINFO, content[:16] + struct.pack("=i", 0)))
        return (data, own), client

    def finish_request(self, request: Any, client_address: Any) -> None:
        data, own = request
        self.socket.sendmsg([answer(client_address).ljust(len(data))], own, 0, client_address)


class Of6:
    """The same, for IPv6 alone."""

    address_family = socket.AF_INET6
    socket: socket.socket

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()  # type: ignore[misc]


class Tcp6(Of6, Tcp):
    pass


class Udp6(Of6, Udp):
    pass


class Asked6(Of6, Asked):
    address_family = socket.AF_INET6


def main(ports: list[str]) -> None:
    kinds: dict[str, Any] = {"tcp": ((Tcp, Tcp6), Lines), "udp": ((Udp, Udp6), Datagram)}
    kinds["info"] = ((Asked, Asked6), Datagram)
    for kind, _, port in (p.partition(":") for p in ports):
        servers, handler = kinds[kind]
        for server in servers:
            threading.Thread(target=server(("", int(port)), handler).serve_forever).start()
    print("ready", flush=True)


if __name__ == "__main__":
    main(sys.argv[2:])
