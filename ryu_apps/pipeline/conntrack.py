"""The connections that one switch tracks, in all its zones, as the flows see them. Pure.

Tests compare it with Open vSwitch (the packet tables, tests/functional/test_trace.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from ryu_apps.pipeline.family import of_packet
from ryu_apps.pipeline.fields import CT_DNAT, CT_EST, CT_INV, CT_NEW, CT_RPL, CT_SNAT, CT_TRK, TCP, TCP_ACK, TCP_SYN
from ryu_apps.pipeline.packet import PORTS, FiveTuple, Packet, five_tuple, move
from ryu_apps.pipeline.values import Ct, Move, Nat


@dataclass(slots=True)
class Connection:
    """One entry: both directions as they are seen on the wire."""

    forward: FiveTuple  # as the client sends it
    reverse: FiveTuple  # as the provider answers
    answered: bool = False
    mark: int = 0


class Conntrack:
    """Entries by zone and by either direction's packets."""

    def __init__(self) -> None:
        self.connections: dict[tuple[int, FiveTuple], Connection] = {}

    def track(self, packet: Packet, ct: Ct) -> Packet:
        """The packet as it leaves conntrack: with its state, and translated."""
        out = dict(packet)
        here = five_tuple(out)
        found = self.connections.get((ct.zone, here))
        if found is None and ct.commit:
            found = self.commit(ct, here)
            state = CT_NEW
        else:
            state = self.state(found, out)
        out["ct_state"] = CT_TRK | state
        out["ct_zone"] = ct.zone
        out[of_packet(out).ct_dst] = found.forward[3] if found else here[3]
        if found is not None:
            found.mark = _marked(ct, packet, found.mark)
        out["ct_mark"] = found.mark if found else 0
        if ct.nat is not None and found is not None:
            _translate(out, found, reply=here == found.reverse)
            if out[of_packet(out).dst] != here[3]:
                out["ct_state"] |= CT_DNAT
            if out[of_packet(out).src] != here[1]:
                out["ct_state"] |= CT_SNAT
        return out

    def state(self, found: Connection | None, packet: Packet) -> int:
        """What conntrack says of a packet, given the connection that it belongs to."""
        if found is None:
            answer = packet.get("ip_proto") == TCP and packet.get("tcp_flags") == TCP_SYN | TCP_ACK
            return CT_INV if answer else CT_NEW
        if five_tuple(packet) == found.reverse:
            found.answered = True
            return CT_EST | CT_RPL
        return CT_EST if found.answered or packet.get("ip_proto") == TCP else CT_NEW

    def commit(self, ct: Ct, here: FiveTuple) -> Connection:
        """A new entry."""
        proto, src, sport, dst, dport = here
        nat = ct.nat or Nat()
        to, to_port, seen = nat.dst or dst, nat.port or dport, nat.src or src
        # the answers of two connections may not look alike: move the source port
        while (ct.zone, (proto, to, to_port, seen, sport)) in self.connections:
            sport = 1024 + (sport + 1) % 60000
        connection = Connection(here, (proto, to, to_port, seen, sport))
        self.connections[(ct.zone, here)] = connection
        self.connections[(ct.zone, connection.reverse)] = connection
        return connection


def _marked(ct: Ct, packet: Packet, mark: int) -> int:
    """The mark of a connection after ``ct``; it had ``mark``."""
    if not ct.commit:
        return mark
    seen = packet | {"ct_mark": mark}
    for action in ct.exec:
        if isinstance(action, Move):
            move(seen, action)
        else:
            seen[action.field] = action.value
    return seen["ct_mark"]


def _translate(packet: Packet, connection: Connection, *, reply: bool) -> None:
    proto, a, aport, b, bport = connection.forward if reply else connection.reverse
    names = PORTS.get(proto)
    # what is sent is the other direction's tuple, turned round
    family = of_packet(packet)
    packet[family.src], packet[family.dst] = b, a
    if names:
        packet[names[0]], packet[names[1]] = bport, aport
