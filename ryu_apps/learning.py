"""Hosts that nobody registered: learned from their ARP, looked for by ARP."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from topology.model import Endpoint, Network
from topology.observed import Switch
from topology.snapshot import Model

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET_ARP = (1, 0x0800, 6, 4)
REQUEST = 1


class BrokenPacketError(ValueError):
    """A packet-in that is not what its flow sends."""


@dataclass(frozen=True, slots=True)
class Arp:
    """What an ARP packet says: its operation, and its sender's and target's addresses."""

    operation: int
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address


def parse(frame: bytes) -> Arp:
    """The ARP packet in an untagged Ethernet frame (RFC 826). Raises BrokenPacketError."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        raise BrokenPacketError(f"{len(frame)} bytes are too few for ARP")
    _, source, kind = _ETHERNET.unpack_from(frame)
    *head, operation, sha, spa, _, tpa = _ARP.unpack_from(frame, _ETHERNET.size)
    if kind != 0x0806 or tuple(head) != _ETHERNET_ARP:
        raise BrokenPacketError("no ARP for IPv4 over Ethernet")
    if sha != source or sha[0] & 1:
        raise BrokenPacketError("the ARP sender is not the frame's, or is a group")
    return Arp(operation, sha.hex(":"), IPv4Address(spa), IPv4Address(tpa))


def network_for(model: Model, address: IPv4Address) -> Network | None:
    """The network whose subnet holds ``address``: the default tenant's first; None where several others do."""
    found = [n for n in model.networks.values() if address in n.subnet]
    default = [n for n in found if n.tenant == "default"]
    if default:
        return default[0]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an ARP packet-in: learn its sender, or ask for its target at these ports."""

    learn: Network | None = None
    port_name: str = ""
    ask_ports: tuple[int, ...] = ()


def decide(model: Model, switch: Switch, in_port: int, arp: Arp) -> Decision:
    """An unknown sender is learned; a known one asks for somebody whom the switch does not know."""
    port_name = switch.port_name(in_port)
    network = network_for(model, arp.sender)
    if port_name is None or network is None:
        return Decision()
    holder = model.holder(network.key, arp.sender)
    if holder is None:
        return Decision(learn=network, port_name=port_name)
    if not isinstance(holder, Endpoint):
        return Decision()  # a gateway's, a VIP's or a granted address: a forgery
    if holder.origin == "learned" and (holder.mac, holder.port_name, holder.switch) != (
        arp.sender_mac,
        port_name,
        switch.dpid,
    ):
        return Decision(learn=network, port_name=port_name)
    asks_others = arp.operation == REQUEST and arp.target in network.subnet
    if not asks_others or model.holder(network.key, arp.target) is not None:
        return Decision()
    return Decision(ask_ports=tuple(p for p in unclaimed_ports(model, switch) if p != in_port))


def unclaimed_ports(model: Model, switch: Switch) -> list[int]:
    """The ports of a switch where no registered endpoint is: where an unknown host may be."""
    claimed = {e.port_name for e in model.endpoints.values() if e.switch == switch.dpid and e.origin != "learned"}
    return sorted(p.number for p in switch.ports.values() if p.name not in claimed and p.number < 0xFFFFFF00)
