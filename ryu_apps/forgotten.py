"""Whom to tell that a connection is forgotten: the packet of a provider that belongs to none in, resets out. Pure.

The packet does not say which VIP its client had asked: so there is a reset from each that leads to the provider's port.
Its numbers are the packet's, so the right one is believed (RFC 5961: a reset has to have exactly the number that is
expected next), and the others meet nothing, or are not believed. Where conntrack had moved the client's port, all are
in vain: then the client's next packet goes to a provider, which resets what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from ryu_apps import answers
from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.tables import ROUTER_MAC
from ryu_apps.pipeline.values import LOCAL, LOCAL_IN_REGISTER, Action, Output
from topology.model import Address, Endpoint, Tenant

Resets = Iterator[tuple[tuple[Action, ...], bytes]]
"""What to do with each, and its frame."""


def resets(ctx: Context, tenant_number: int, port: int, frame: bytes) -> Resets:
    """``port``: by which the packet was to leave the switch, as a register has it. Raises BrokenPacketError."""
    segment = answers.segment(frame)
    provider = _provider(ctx, tenant_number, ip_address(segment.src))
    if provider is None:
        return
    fronts = dict.fromkeys(_fronts(ctx, provider, segment))
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


def resets_to_itself(ctx: Context, tenant_number: int, frame: bytes) -> Iterator[bytes]:
    """The same of a provider's connection to itself: it knows its client, itself, as the VIP. Raises BrokenPacketError.

    The frames are for where the packet came from; the end that has sent it is refused as any packet to the VIP is.
    """
    segment = answers.segment(frame)
    provider = _provider(ctx, tenant_number, ip_address(segment.src))
    if provider is None or segment.flags & answers.SYN:
        return
    client = replace(segment, dst=segment.src, eth_dst=mac_int(provider.mac))
    for front, front_port in _fronts(ctx, provider, segment):
        if front == int.from_bytes(segment.dst, "big"):
            yield from answers.resets_to_receiver(client, segment.dst, front_port, ROUTER_MAC)


def _fronts(ctx: Context, provider: Endpoint, segment: answers.Segment) -> Iterator[tuple[int, int]]:
    """The VIPs, and their ports, that lead to the port that the segment comes from."""
    version = 4 if len(segment.src) == 4 else 6
    for service in ctx.model.selected_by(provider):
        for port in ctx.ports_of(service):
            if (port.protocol, port.target) == ("TCP", segment.src_port):
                yield from ((int(vip), port.port) for vip in ctx.vips(service) if vip.version == version)


def _provider(ctx: Context, tenant_number: int, address: Address) -> Endpoint | None:
    tenant = ctx.model.by_number("tenant", tenant_number)
    if not isinstance(tenant, Tenant):
        return None
    for network in ctx.model.networks_around(address):
        holder = ctx.model.holder(network.key, address) if network.tenant == tenant.name else None
        if isinstance(holder, Endpoint):
            return holder
    return None
