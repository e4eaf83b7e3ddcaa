"""Packets that a userspace switch has not read yet.

Open vSwitch's userspace datapath reads each port from a packet socket. What it has not read when the port is removed is
lost. The kernel datapath needs no packet socket: it forwards a packet while it is being sent.
"""

from __future__ import annotations

import socket
from pathlib import Path

PACKET_SOCKETS = Path("/proc/thread-self/net/packet")  # of our network namespace, which the switch is in too
_INTERFACE, _UNREAD = 4, 6  # columns (Linux, net/packet/af_packet.c: packet_seq_show)


def unread(interface: str) -> int:
    """Bytes from an interface, with the kernel's overhead, that wait in packet sockets; 0: none."""
    try:
        index = socket.if_nametoindex(interface)
        lines = PACKET_SOCKETS.read_text().splitlines()[1:]
    except OSError:
        return 0  # the interface is gone, or the kernel has no packet sockets
    columns = [line.split() for line in lines]
    return sum(int(of[_UNREAD]) for of in columns if int(of[_INTERFACE]) == index)
