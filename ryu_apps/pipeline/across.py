"""From switch to switch: where a packet that left one comes in again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.walk import Sent
from topology.paths import End
from topology.reach import TUNNEL_PORT

TUNNEL_TO, TUNNEL_ID = "tun_ipv4_dst", "tunnel_id"


class Arrival(NamedTuple):
    """A packet comes in at another switch, by a port of it."""

    dpid: int
    in_port: int
    packet: Packet


def arrival(ctx: Context, sent: Sent, contexts: Mapping[int, Context]) -> Arrival | None:
    """Where what left the switch of ``ctx`` comes in; None: at none of the switches in ``contexts``."""
    packet = _wire(sent.packet)
    if (peer := ctx.paths.peers.get(End(ctx.dpid, sent.port))) is not None:
        return Arrival(*peer, packet) if peer.switch in contexts else None
    if sent.port != ctx.ports.get(TUNNEL_PORT):
        return None
    packet[TUNNEL_ID] = sent.packet[TUNNEL_ID]
    for host in ctx.model.hosts.values():
        there = contexts.get(host.switch)
        if host.tunnel_address is None or int(host.tunnel_address) != sent.packet[TUNNEL_TO] or there is None:
            continue
        port = there.ports.get(TUNNEL_PORT)
        return None if port is None else Arrival(host.switch, port, packet)
    return None


def _wire(packet: Packet) -> Packet:
    """What of a packet leaves the switch: no registers, nothing that conntrack said."""
    inside = ("in_port", TUNNEL_TO, TUNNEL_ID)
    return {k: v for k, v in packet.items() if k not in inside and not k.startswith(("reg", "ct_"))}
