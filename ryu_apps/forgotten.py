"""Whom to tell that a connection is forgotten: the packet of a provider that belongs to none in, resets out. Pure.

The packet does not say which VIP its client had asked: so there is a reset from each that leads to the provider's port.
Its numbers are the packet's, so the right one is believed (RFC 5961: a reset has to have exactly the number that is
expected next), and the others meet nothing, or are not believed. Where conntrack had moved the client's port, all are
in vain: then the client's next packet goes to a provider, which resets what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    version = 4 if len(segment.src) == 4 else 6
    to_client = (Output(LOCAL if port == LOCAL_IN_REGISTER else port),)
    fronts = {
        (vip, service_port.port): None
        for service in ctx.model.selected_by(provider)
        for service_port in ctx.ports_of(service)
        if (service_port.protocol, service_port.target) == ("TCP", segment.src_port)
        for vip in map(int, (vip for vip in ctx.vips(service) if vip.version == version))
    }
    if not fronts:
        return
    if port == LOCAL_IN_REGISTER:  # the host has not seen the packet: it may also have asked the provider itself
        fronts[int.from_bytes(segment.src, "big"), segment.src_port] = None
    for front, front_port in fronts:
        for made in answers.resets_to_receiver(segment, front.to_bytes(len(segment.src), "big"), front_port, ROUTER_MAC):
            yield to_client, made
    if port == LOCAL_IN_REGISTER and (back := answers.reset_to_sender(segment, ROUTER_MAC, mac_int(provider.mac))) is not None:
        here = ctx.port_of(provider)
        yield ctx.onward(provider) if here is None else (Output(here),), back


def _provider(ctx: Context, tenant_number: int, address: Address) -> Endpoint | None:
    tenant = ctx.model.by_number("tenant", tenant_number)
    if not isinstance(tenant, Tenant):
        return None
    for network in ctx.model.networks_around(address):
        holder = ctx.model.holder(network.key, address) if network.tenant == tenant.name else None
        if isinstance(holder, Endpoint):
            return holder
    return None
