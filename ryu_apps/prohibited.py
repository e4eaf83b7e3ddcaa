"""The answer to a packet that may not enter the network that it is for, or may not leave its own.

Linux reports it to the program at once: "No route to host" (IPv4), "Permission denied" (IPv6).
"""

from __future__ import annotations

from ryu_apps import answers
from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.tables import HOST_MAC, ROUTER_MAC
from ryu_apps.pipeline.values import LOCAL, Action, Output


def answer(ctx: Context, tenant: int, frame: bytes) -> tuple[tuple[Action, ...], bytes] | None:
    """Actions for the answer, and its frame; None: it gets no answer, or its sender is unknown.

    The sender is found by its IP address: the frame has the router's MACs by now, and the pipeline may have changed its
    input port. ``tenant``: the tenant's register. Raises BrokenPacketError.
    """
    sender = answers.source(frame)
    if sender in ctx.host_addresses:
        made = answers.report(frame, answers.PROHIBITED, answers.destination(frame))
        return None if made is None else ((Output(LOCAL),), answers.readdressed(made, HOST_MAC, ROUTER_MAC))
    endpoint = ctx.endpoint_at(tenant, sender)
    if endpoint is None:
        return None
    network, here = ctx.network_of(endpoint), ctx.port_of(endpoint)
    made = answers.report(frame, answers.PROHIBITED, network.gateway, network.gateway6)
    if made is None:
        return None
    actions = ctx.onward(endpoint) if here is None else (Output(here),)
    return None if not actions else (actions, answers.readdressed(made, mac_int(endpoint.mac), ROUTER_MAC))
