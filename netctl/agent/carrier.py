"""The kernel's word of interfaces that come up, as it happens."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

RTMGRP_LINK = 1
RTM_NEWLINK = 16
IFF_LOWER_UP = 1 << 16
IFLA_IFNAME = 3
_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # length, type


def carriers() -> Iterator[str]:
    """Names of interfaces of this network namespace that are up and have a carrier, at each change of one."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.bind((0, RTMGRP_LINK))
        while True:
            try:
                content = link.recv(1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some are lost: Docker's events come for those containers too
                    raise
            else:
                yield from names(content)


def names(content: bytes) -> Iterator[str]:
    """Those of one datagram of the kernel's."""
    at = 0
    while at + _MESSAGE.size <= len(content):
        length, kind, *_ = _MESSAGE.unpack_from(content, at)
        end = min(at + length, len(content))
        first = at + _MESSAGE.size + _LINK.size
        if kind == RTM_NEWLINK and first <= end and _LINK.unpack_from(content, at + _MESSAGE.size)[3] & IFF_LOWER_UP:
            yield from _name(content, first, end)
        at += max(_aligned(length), _MESSAGE.size)


def _name(content: bytes, at: int, end: int) -> Iterator[str]:
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        if kind == IFLA_IFNAME:
            yield content[at + _ATTRIBUTE.size : min(at + length, end)].rstrip(b"\0").decode("utf-8", "replace")
            return
        at += max(_aligned(length), _ATTRIBUTE.size)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
