"""Packets that the kernel holds for a switch that is a process.

Open vSwitch's userspace datapath reads a port from a packet socket, and forgets what it has not read when the port goes
away. The kernel's datapath has none: what is sent is forwarded before the sender goes on.
"""

from __future__ import annotations

import socket
from pathlib import Path

PACKET_SOCKETS = Path("/proc/thread-self/net/packet")  # of our network namespace, which the switch is in too
_INTERFACE, _UNREAD = 4, 6  # columns (Linux, net/packet/af_packet.c: packet_seq_show)


def unread(interface: str) -> int:
    """Bytes that came by an interface and that no program has taken yet, with the kernel's overhead; 0: none."""
    try:
        index = socket.if_nametoindex(interface)
        lines = PACKET_SOCKETS.read_text().splitlines()[1:]
    except OSError:
        return 0  # it is gone; or the kernel has no packet sockets
    columns = [line.split() for line in lines]
    return sum(int(of[_UNREAD]) for of in columns if int(of[_INTERFACE]) == index)
