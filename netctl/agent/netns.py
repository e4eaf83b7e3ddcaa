"""Sockets in a container's network namespace, opened by a thread that is somewhere else before and after."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_IP_BIND_ADDRESS_NO_PORT = 24  # Linux: the port is chosen when it connects
_LIBC = ctypes.CDLL(None, use_errno=True)  # Python has os.setns only from 3.12


def tcp_sockets(pid: int, address: str, count: int) -> list[socket.socket]:
    """Sockets that don't block, bound to ``address``, in the network namespace of a process.

    OSError where the process is gone, or is another's by now: nobody else has a container's address.
    """
    made: list[socket.socket] = []
    try:
        with inside(f"/proc/{pid}/ns/net"):
            made.extend(socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count))
        for one in made:
            one.setblocking(False)
            one.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            one.bind((address, 0))
    except OSError:
        for one in made:
            one.close()
        raise
    return made


@contextmanager
def inside(path: str) -> Iterator[None]:
    """The thread is in the network namespace that a file stands for. OSError where it can't be entered."""
    with open("/proc/thread-self/ns/net") as home, open(path) as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _return(home.fileno())


def _enter(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _return(fd: int) -> None:
    try:
        _enter(fd)
    except OSError as error:
        # not an OSError: a thread that is lost in a container must not go on
        raise RuntimeError(f"can't return to this host's network namespace: {error.strerror}") from error
