"""A packet as flows see it: match fields and registers by name. Pure."""

from __future__ import annotations

from ryu_apps.pipeline.family import of_packet
from ryu_apps.pipeline.fields import FIELDS, NXM_1, TCP, UDP
from ryu_apps.pipeline.values import Move

Packet = dict[str, int]
FiveTuple = tuple[int, int, int, int, int]
PORTS = {TCP: ("tcp_src", "tcp_dst"), UDP: ("udp_src", "udp_dst")}


def zero_by_default(name: str) -> bool:
    """Registers and conntrack's fields are there, and zero, from the start."""
    return FIELDS[name].oxm_class == NXM_1


def five_tuple(packet: Packet) -> FiveTuple:
    """What conntrack knows a packet by: protocol, source, its port, destination, its port."""
    proto, family = packet.get("ip_proto", 0), of_packet(packet)
    src, dst = PORTS.get(proto, ("", ""))
    return (proto, packet.get(family.src, 0), packet.get(src, 0), packet.get(family.dst, 0), packet.get(dst, 0))


def move(packet: Packet, action: Move) -> None:
    """Carry out a move, on the packet itself."""
    have = packet.get(action.src, 0) if zero_by_default(action.src) else packet[action.src]
    if action.bits is None:
        packet[action.dst] = have
        return
    low = (1 << action.bits) - 1
    packet[action.dst] = packet.get(action.dst, 0) & ~low | have & low
