"""The sockets in a container's network namespace, by the kernel's sock_diag: list them, and reset connections.

Own code for two messages: pyroute2's DiagSocket reports no error, and an address family where it should.
See sock_diag(7); the layout is that of linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from netctl.agent.netns import inside
from netctl.agent.state import Address

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
TIME_WAIT, CLOSE, LISTEN = 6, 7, 10
OPEN = 0xFFF & ~(1 << TIME_WAIT | 1 << CLOSE | 1 << LISTEN)  # states of a connection that either end may still use
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ASKED = struct.Struct("=BBBxI48s")  # inet_diag_req_v2: family, protocol, extensions, states, identity
TOLD = struct.Struct("=Bxxx48s16xI")  # inet_diag_msg: family, identity, inode
ANY = 0xFFF
MOST = 1 << 16  # sockets that are kept of an answer
TIMEOUT = 1.0  # s for an answer of the kernel's


class Socket(NamedTuple):
    """One socket, as the kernel names it."""

    family: int
    identity: bytes  # inet_diag_sockid: ports, addresses, interface, cookie
    held: bool  # by a program; else only the kernel knows it any more

    @property
    def address(self) -> Address:
        """The end that is in the namespace."""
        packed = self.identity[4:20]
        if self.family == socket.AF_INET:
            return IPv4Address(packed[:4])
        return IPv6Address(packed).ipv4_mapped or IPv6Address(packed)


class Sockets:
    """Those of one namespace. OSError: the kernel can't tell, or does not do that."""

    def __init__(self, kernel: socket.socket) -> None:
        self._kernel = kernel

    def in_use(self) -> bool:
        """Whether a program listens there, is connected, or has a UDP socket."""
        tcp = self._all(socket.IPPROTO_TCP, OPEN | 1 << LISTEN)
        return any(one.held for one in [*tcp, *self._all(socket.IPPROTO_UDP, ANY)])

    def connections(self, addresses: Iterable[Address]) -> list[Socket]:
        """The open TCP connections with one of these addresses at the near end."""
        wanted = set(addresses)
        return [one for one in self._all(socket.IPPROTO_TCP, OPEN) if one.address in wanted]

    def reset(self, connections: Iterable[Socket]) -> None:
        """Send the far ends a reset; programs at the near ends get ECONNABORTED."""
        for one in connections:
            asked = ASKED.pack(one.family, socket.IPPROTO_TCP, 0, OPEN, one.identity)
            for _ in self._ask(SOCK_DESTROY, ACK, asked):
                pass

    def _all(self, protocol: int, states: int) -> list[Socket]:
        found: list[Socket] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = ASKED.pack(family, protocol, 0, states, bytes(48))
            for body in self._ask(SOCK_DIAG_BY_FAMILY, DUMP, asked):
                if len(found) < MOST:
                    of, identity, inode = TOLD.unpack_from(body)
                    found.append(Socket(of, identity, bool(inode)))
        return found

    def _ask(self, kind: int, flags: int, asked: bytes) -> Iterator[bytes]:
        """The bodies of the answers; none where there is no such socket, or protocol."""
        self._kernel.send(HEADER.pack(HEADER.size + len(asked), kind, REQUEST | flags, 1, 0) + asked)
        while True:
            data = self._kernel.recv(1 << 16)
            at = 0
            while at + HEADER.size <= len(data):
                length, answer, _, _, _ = HEADER.unpack_from(data, at)
                body = data[at + HEADER.size : at + length]
                if answer == NLMSG_DONE:
                    return
                if answer == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    if number not in (0, errno.ENOENT):
                        raise OSError(number, os.strerror(number))
                    return
                yield body
                at += length + 3 & ~3


@contextmanager
def sockets(path: str) -> Iterator[Sockets]:
    """Those in the namespace that a file stands for. OSError where it can't be entered."""
    with inside(path):
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    with kernel:
        kernel.settimeout(TIMEOUT)
        yield Sockets(kernel)
