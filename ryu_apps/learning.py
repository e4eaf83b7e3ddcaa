"""Hosts that nobody registered: what follows from their ARP, and when they have to be looked for."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from topology.documents import DEFAULT_TENANT
from topology.model import Endpoint, Network, Tenant
from topology.observed import Observed, Port, Switch
from topology.paths import End
from topology.snapshot import Model
from topology.validate import ROUTER_MAC

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IP = struct.Struct("!BBHHHBBH4s4s")
_ETHERNET_ARP = (1, 0x0800, 6, 4)
_LONGEST_ARP = 256  # with what fills the frame up
REQUEST = 1
NOBODY = IPv4Address(0)
_BROADCAST, _ROUTER = bytes.fromhex("ff" * 6), bytes.fromhex(ROUTER_MAC.replace(":", ""))
OFPP_MAX = 0xFFFFFF00  # ports from here on are the switch's own


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
    if len(frame) > _LONGEST_ARP:  # it is passed on to many ports, by messages of 64 KB
        raise BrokenPacketError(f"{len(frame)} bytes are too many for ARP")
    _, source, kind = _ETHERNET.unpack_from(frame)
    *head, operation, sha, spa, _, tpa = _ARP.unpack_from(frame, _ETHERNET.size)
    if kind != 0x0806 or tuple(head) != _ETHERNET_ARP:
        raise BrokenPacketError("no ARP for IPv4 over Ethernet")
    if sha != source or sha[0] & 1:
        raise BrokenPacketError("the ARP sender is not the frame's, or is a group")
    return Arp(operation, sha.hex(":"), IPv4Address(spa), IPv4Address(tpa))


def network_for(model: Model, address: IPv4Address) -> Network | None:
    """The network whose subnet holds ``address``: the default tenant's first; None where several others do."""
    found = model.networks_around(address)
    default = [n for n in found if n.tenant == DEFAULT_TENANT]
    if default:
        return default[0]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Learn:
    """The sender is new, or has moved. ``instead_of``: the id of the learned host whose address it has now."""

    network: Network
    port_name: str
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A known host, at this port, looks for one that nobody knows: its question goes out of all other edge ports."""

    asker: End


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing follows. ``forged``: the sender claims what another has."""

    forged: bool = False


def decide(
    model: Model, observed: Observed, switch: Switch, in_port: int, arp: Arp, *, early: bool = False
) -> Learn | Ask | Ignore:
    """What follows from an ARP packet-in. ``early``: switches that are not connected may only not be yet."""
    port_name = switch.port_name(in_port)
    network = network_for(model, arp.sender)
    if port_name is None or network is None or observed.heard.joined(End(switch.dpid, in_port)):
        return Ignore()
    holder = model.holder(network.key, arp.sender)
    if holder is None:
        return Learn(network, port_name)
    if not isinstance(holder, Endpoint):
        return Ignore(forged=True)  # a gateway's, a VIP's or a granted address
    at_home = (holder.switch, holder.port_name) == (switch.dpid, port_name)
    if at_home and holder.mac == arp.sender_mac:
        return _looks_for(model, observed, End(switch.dpid, in_port), network, arp)
    if holder.origin != "learned":
        return Ignore(forged=True)
    if holder.mac == arp.sender_mac:
        return Learn(network, port_name)
    # another host: only where the one that was learned can't be any more, or can't be reached
    home = observed.switches.get(holder.switch)
    if at_home or (not early if home is None else not home.has_link(holder.port_name)):
        return Learn(network, port_name, instead_of=holder.id)
    return Ignore(forged=True)


def _looks_for(model: Model, observed: Observed, asker: End, network: Network, arp: Arp) -> Ask | Ignore:
    if arp.operation != REQUEST or arp.target not in network.subnet:
        return Ignore()
    if _known(model, observed, network, arp.target):
        return Ignore()
    return Ask(asker)


def unclaimed_ports(model: Model, observed: Observed, switch: Switch) -> list[End]:
    """The ports of a switch without a host where nobody is registered, and no other switch: an unknown host may be."""
    if model.by_switch(switch.dpid) is not None:
        return []

    def claimed(name: str) -> bool:
        return any(e.origin != "learned" for e in model.endpoints_at(switch.dpid, name))

    ends = (End(switch.dpid, p.number) for p in switch.ports.values() if p.number < OFPP_MAX and not claimed(p.name))
    return sorted(end for end in ends if not observed.heard.joined(end))


def replaced(model: Model, dpid: int, ports: Iterable[Port]) -> list[str]:
    """The ids of hosts that were learned at a port of a switch which is another one now, of the same name."""
    macs = {port.name: port.mac for port in ports}
    found = ((e, mac) for name, mac in macs.items() for e in model.endpoints_at(dpid, name))
    return [e.id for e, mac in found if e.origin == "learned" and e.port_mac not in ("", mac)]


def misplaced(model: Model, observed: Observed) -> list[str]:
    """The ids of hosts that were learned where there is another switch."""
    ends = (end for dpid in observed.switches for end in observed.heard.ends(dpid))
    names = ((end.switch, observed.switches[end.switch].port_name(end.port)) for end in ends)
    found = (e for switch, name in names if name for e in model.endpoints_at(switch, name))
    return [endpoint.id for endpoint in found if endpoint.origin == "learned"]


def onward(model: Model, observed: Observed, learned: Endpoint, arp: Arp) -> End | None:
    """The port where an answer of a host just learned is waited for; None: what it said is no answer.

    The switch itself passes no ARP answer on, for it gives them all: but not to a question about the unknown.
    """
    if arp.operation == REQUEST:
        return None
    asker = model.holder(learned.network_key, arp.target)
    home = observed.switches.get(asker.switch) if isinstance(asker, Endpoint) else None
    number = home.port_number(asker.port_name) if home is not None and isinstance(asker, Endpoint) else None
    return None if home is None or number is None else End(home.dpid, number)


@dataclass(frozen=True, slots=True)
class Sought:
    """An address of a network to be asked for. ``port``: there alone; None: wherever an unknown host may be.

    ``routed``: for a packet that a gateway has to send on, whose sender has to know if it can't.
    """

    network: Network
    address: IPv4Address
    port: End | None = None
    routed: bool = False


def seek(model: Model, observed: Observed, end: End, place: tuple[int, int], frame: bytes) -> Sought | None:
    """Who has to be found before an IPv4 packet can go on. Raises BrokenPacketError.

    ``place``: the numbers of its sender's tenant and network, where its receiver is unknown; zeros: its sender is.
    """
    source, target = _ends_of(frame)
    if place == (0, 0):
        return _sender(model, observed, end, source)
    tenant = model.by_number("tenant", place[0])
    found = [n for n in model.networks_around(target) if isinstance(tenant, Tenant) and n.tenant == tenant.name]
    # where it would be learned in another tenant's network, no answer would help
    if not found or network_for(model, target) != found[0]:
        return None
    network, routed = found[0], frame.startswith(_ROUTER)
    if network.gateway is None if routed else network.number != place[1]:
        return None
    known = _known(model, observed, network, target)
    return None if known or not _a_hosts(network, target) else Sought(network, target, routed=routed)


def _known(model: Model, observed: Observed, network: Network, address: IPv4Address) -> bool:
    """Whether somebody has the address. A learned host whose switch is not connected may have come back elsewhere."""
    holder = model.holder(network.key, address)
    if isinstance(holder, Endpoint) and holder.origin == "learned":
        return holder.switch in observed.switches
    return holder is not None


def _sender(model: Model, observed: Observed, end: End, source: IPv4Address) -> Sought | None:
    """The unknown sender itself, which answers at the port where its packet came in; or a learned one that moved."""
    network, switch = network_for(model, source), observed.switches.get(end.switch)
    if network is None or switch is None or not _a_hosts(network, source):
        return None
    holder = model.holder(network.key, source)
    if holder is not None and not (isinstance(holder, Endpoint) and holder.origin == "learned"):
        return None
    return Sought(network, source, end) if end in unclaimed_ports(model, observed, switch) else None


def _ends_of(frame: bytes) -> tuple[IPv4Address, IPv4Address]:
    """Source and destination of the IPv4 packet in an untagged frame."""
    if len(frame) < _ETHERNET.size + _IP.size:
        raise BrokenPacketError(f"{len(frame)} bytes are too few for IP")
    first, _, total, *_, source, target = _IP.unpack_from(frame, _ETHERNET.size)
    if _ETHERNET.unpack_from(frame)[2] != 0x0800 or first >> 4 != 4 or len(frame) - _ETHERNET.size < total:
        raise BrokenPacketError("no IPv4 packet, or not all of it")
    return IPv4Address(source), IPv4Address(target)


def _a_hosts(network: Network, address: IPv4Address) -> bool:
    """Whether it may be a host's: it is neither the subnet's own address nor its broadcast address."""
    edges = (network.subnet.network_address, network.subnet.broadcast_address)
    return network.subnet.prefixlen >= 31 or address not in edges


def question(network: Network, target: IPv4Address) -> bytes:
    """The frame with which a network's gateway asks for an address; without a gateway, nobody asks (RFC 5227, 1.1)."""
    asker = network.gateway or NOBODY
    body = _ARP.pack(*_ETHERNET_ARP, REQUEST, _ROUTER, asker.packed, bytes(6), target.packed)
    return (_ETHERNET.pack(_BROADCAST, _ROUTER, 0x0806) + body).ljust(60, b"\0")
