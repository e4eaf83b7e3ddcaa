"""Whom to tell that a connection is forgotten: the packet of a provider that belongs to none in, resets out.

The packet does not say which VIP its client had asked: so there is a reset from each that leads to the provider's port.
Its numbers are the packet's, so the right one is believed (RFC 5961: a reset has to have exactly the number that is
expected next), and the others meet nothing, or are not believed. Where conntrack had moved the client's port, all are
in vain: so who was spoken to is remembered, and such a client is reset when it asks. What is forgotten here, by a
restart say, costs that client its reset where the provider knows another connection by its port.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from ryu_apps import answers
from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.tables import ROUTER_MAC
from ryu_apps.pipeline.values import IN_PORT, LOCAL, LOCAL_IN_REGISTER, Action, Output
from topology.model import Endpoint

REMEMBERED = 10_000

Resets = Iterator[tuple[tuple[Action, ...], bytes]]
"""What to do with each, and its frame."""


class Forgotten:
    """Hears of packets that belong to no connection, and says whom to reset.

    Of each client whose provider has spoken, that is remembered: of so many at the most, the latest.
    """

    def __init__(self) -> None:
        self._spoke: OrderedDict[tuple[str, bytes, int], None] = OrderedDict()  # provider, its client, its port

    def heard(self, ctx: Context, tenant_number: int, port: int, frame: bytes) -> Resets:
        """``port``: by which a provider's packet was to leave the switch, as a register has it; 0: of a client, and
        translated to the provider that it goes to now. Raises BrokenPacketError.
        """
        segment = answers.segment(frame)
        provider = ctx.endpoint_at(tenant_number, ip_address(segment.src if port else segment.dst))
        if provider is None:
            return
        if port:
            key = (provider.id, segment.dst, segment.src_port)
            self._spoke[key] = None
            self._spoke.move_to_end(key)
            if len(self._spoke) > REMEMBERED:
                self._spoke.popitem(last=False)
            yield from resets(ctx, provider, port, segment)
        elif (provider.id, segment.src, segment.dst_port) in self._spoke:
            yield from resets_to_client(ctx, provider, segment)


def resets(ctx: Context, provider: Endpoint, port: int, segment: answers.Segment) -> Resets:
    """Of a provider's packet, which was to leave the switch by this port."""
    fronts = dict.fromkeys(_fronts(ctx, provider, len(segment.src), segment.src_port))
    if not fronts:
        return
    to_client = (Output(LOCAL if port == LOCAL_IN_REGISTER else port),)
    if port == LOCAL_IN_REGISTER:  # the host has not seen the packet: it may also have asked the provider itself
        fronts[int.from_bytes(segment.src, "big"), segment.src_port] = None
    for front, front_port in fronts:
        address = front.to_bytes(len(segment.src), "big")
        for made in answers.resets_to_receiver(segment, address, front_port, ROUTER_MAC):
            yield to_client, made
    back = answers.reset_to_sender(segment, ROUTER_MAC, mac_int(provider.mac))
    if port == LOCAL_IN_REGISTER and back is not None:
        here = ctx.port_of(provider)
        yield ctx.onward(provider) if here is None else (Output(here),), back


def resets_to_client(ctx: Context, provider: Endpoint, segment: answers.Segment) -> Resets:
    """Of a client's packet, translated from a VIP to the provider: from all that it may have been to."""
    for front, front_port in dict.fromkeys(_fronts(ctx, provider, len(segment.dst), segment.dst_port)):
        to_vip = replace(segment, dst=front.to_bytes(len(segment.dst), "big"), dst_port=front_port)
        made = answers.reset_to_sender(to_vip, ROUTER_MAC, segment.eth_src)
        if made is not None:
            yield (Output(IN_PORT),), made


def resets_to_itself(ctx: Context, tenant_number: int, frame: bytes) -> Iterator[bytes]:
    """The same of a provider's connection to itself: it knows its client, itself, as the VIP. Raises BrokenPacketError.

    The frames are for where the packet came from; the end that has sent it is refused as any packet to the VIP is.
    """
    segment = answers.segment(frame)
    provider = ctx.endpoint_at(tenant_number, ip_address(segment.src))
    if provider is None or segment.flags & answers.SYN:
        return
    client = replace(segment, dst=segment.src, eth_dst=mac_int(provider.mac))
    for front, front_port in _fronts(ctx, provider, len(segment.src), segment.src_port):
        if front == int.from_bytes(segment.dst, "big"):
            yield from answers.resets_to_receiver(client, segment.dst, front_port, ROUTER_MAC)


def _fronts(ctx: Context, provider: Endpoint, size: int, target: int) -> Iterator[tuple[int, int]]:
    """The VIPs, of so many bytes, and their ports, that lead to this port of the provider."""
    version = 4 if size == 4 else 6
    for service in ctx.model.selected_by(provider):
        for port in ctx.ports_of(service):
            if (port.protocol, port.target) == ("TCP", target):
                yield from ((int(vip), port.port) for vip in ctx.vips(service) if vip.version == version)
