"""What a gateway answers to a packet for an address that nobody has, and to one for a port of its own."""

from __future__ import annotations

from ryu_apps import answers
from ryu_apps.pipeline.tables import HOST_NETWORK
from topology.model import Network
from topology.reach import TUNNEL_PORT
from topology.snapshot import Model


def answer(model: Model, tenant: int, number: int, port: str | None, frame: bytes) -> bytes | None:
    """The frame of the answer; None where silence is right: for an address that a container has, or is about to have.

    ``tenant`` and ``number``: the registers of tenant and network; ``port``: the name of the port where the frame came
    in. Raises BrokenPacketError.
    """
    if port == TUNNEL_PORT:
        return None  # its sender is on one of several hosts
    to = answers.destination(frame)
    network = next((n for n in model.networks_around(to) if model.tenants[n.tenant].number == tenant), None)
    if network is None:
        return None
    holder = model.holder(network.key, to)
    if holder == "gateway":
        return answers.refuse(frame)
    sender = network if number == HOST_NETWORK else model.by_number("network", number)
    if holder is not None or not isinstance(sender, Network):
        return None
    return answers.report(frame, answers.HOST_UNREACHABLE, sender.gateway, sender.gateway6)
