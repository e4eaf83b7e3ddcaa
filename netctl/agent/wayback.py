"""Routing inside a container's network namespace: what there should be. Pure; `nsroutes` reads and writes it.

Linux chooses a route by destination alone, so a container in several networks answers by its default route, whichever
address it was asked at, and the answer is dropped as forged. Here each address gets a routing table of its own:

    7800:  from 10.1.1.1 lookup 78000002       one rule an address
    table 78000002:  10.1.1.0/24 dev eth0      its own network
                     default via 10.1.1.254    or unreachable, where the network has no way out

Connections that the container itself begins have no source yet. With several networks more rules say where they go:

    32700: from all lookup main suppress_prefixlength 0    what has a route of its own: Docker's and the container's
    32701: from all lookup 78000000    its tenants' networks, where the default route may be in somebody else's network
    32702: from all lookup 78000002    all else by one network that leads outside, if any does, and always the same one

The main table is Docker's: it refuses to connect a network to which there is a route in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    collapse_addresses,
)
from typing import NamedTuple

from netctl.agent.state import Address, Subnet
from topology.reach import HOST_BASE6

PROTOCOL = 78  # who made a route or rule: us. All others are left alone
MAIN = 254
TABLES = 78_000_000  # plus an interface's index: the table of its addresses; no interface: tenants' networks
FROM = 7800  # priority of the rules by source
SPECIFIC, TENANTS, OUTSIDE = 32700, 32701, 32702  # after whatever rules the container has
METRIC = 1024
DOCKERS_KINDS = frozenset({"veth", "macvlan", "ipvlan"})  # what Docker's drivers put into containers
LINK_LOCAL6 = IPv6Network("fe80::/64")
# hosts as containers see them, below the cloud's metadata addresses
HOSTS: Mapping[int, Subnet] = {4: IPv4Network("169.254.0.0/20"), 6: IPv6Network((HOST_BASE6, 112))}


class Route(NamedTuple):
    """One route. Without a device: unreachable."""

    table: int
    subnet: Subnet
    gateway: Address | None
    device: int  # its index
    metric: int

    @property
    def place(self) -> tuple[int, Subnet, int]:
        """Where only one can be."""
        return self.table, self.subnet, self.metric


class Rule(NamedTuple):
    """One rule. ``specific``: default routes of its table don't count."""

    version: int
    priority: int
    source: Address | None
    table: int
    specific: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """An interface of the container."""

    index: int
    mac: str
    kind: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]  # global ones


@dataclass(frozen=True, slots=True)
class Facts:
    """What a container's namespace has."""

    devices: tuple[Device, ...]
    defaults: Mapping[int, tuple[Address | None, int]]  # by version: gateway and device of the main default route
    routes: frozenset[Route]  # ours
    rules: frozenset[Rule]  # ours


@dataclass(frozen=True, slots=True)
class Attachment:
    """One of our endpoints of the container, and its network."""

    endpoint_id: str
    tenant: str
    network: str  # name
    number: int  # of the network in the model
    mac: str
    addresses: tuple[Address, ...]
    gateways: Mapping[int, Address]  # by version; nothing where the network has no way out
    nat: bool = False
    primary: bool = False  # so far


class Net(NamedTuple):
    """A network of a tenant's."""

    number: int
    key: str
    tenant: str
    subnet: Subnet


@dataclass(frozen=True, slots=True)
class Wish:
    """What there should be."""

    routes: frozenset[Route]
    rules: frozenset[Rule]
    primary: frozenset[str] = frozenset()  # endpoints whose address the kernel takes as source, one a tenant
    spread: frozenset[str] = frozenset()  # tenants to all of whose networks there are routes
    troubles: Mapping[str, str] = field(default_factory=dict)  # lines by what they are about


class _Place(NamedTuple):
    """An address of the container."""

    device: int
    address: Address
    subnet: Subnet
    gateway: Address | None
    attachment: Attachment | None  # None: another driver's
    outside: bool

    @property
    def table(self) -> int:
        return TABLES + self.device


def wanted(
    facts: Facts,
    attachments: Collection[Attachment],
    others: Mapping[Address, Address | None],
    networks: Sequence[Net] | None,
) -> Wish:
    """What a container's namespace should have.

    ``others``: addresses that other drivers gave it, with the gateway that leads outside. ``networks``: all of its
    tenants'; None: not known, so that what depends on them stays as it is.
    """
    four = _of_version(4, facts, attachments, others, networks=networks, preferred=frozenset())
    six = _of_version(6, facts, attachments, others, networks=networks, preferred=four.primary)
    return _joined(four, six)


def unknown_addresses(facts: Facts, attachments: Iterable[Attachment]) -> set[Address]:
    """Those of interfaces that another driver of Docker's has made."""
    ours = {address for one in attachments for address in one.addresses}
    return {a.ip for d in facts.devices if d.kind in DOCKERS_KINDS for a in d.addresses} - ours


def overlap(networks: Iterable[Net], tenants: Collection[str]) -> tuple[Net, Net] | None:
    """Two networks of different tenants of these that share addresses, if there are any."""
    found = sorted(
        (n for n in networks if n.tenant in tenants),
        key=lambda n: (n.subnet.version, int(n.subnet.network_address), -n.subnet.prefixlen),
    )
    open_: list[Net] = []  # those that the next one may lie in
    for one in found:
        open_ = [n for n in open_ if n.subnet.version == one.subnet.version and n.subnet.overlaps(one.subnet)]
        for other in open_:
            if other.tenant != one.tenant:
                return other, one
        open_.append(one)
    return None


def _of_version(
    version: int,
    facts: Facts,
    attachments: Collection[Attachment],
    others: Mapping[Address, Address | None],
    *,
    networks: Sequence[Net] | None,
    preferred: frozenset[str],
) -> Wish:
    """``preferred``: endpoints that are primary in the other version, and are to be so in this one."""
    known = {}
    if networks is None:  # gateways that only the model knows
        known = {r.table: r.gateway for r in facts.routes if r.gateway and r.subnet == everything(version)}
    places = list(_places(version, facts, attachments, others, known))
    if not any(p.attachment for p in places):
        return Wish(frozenset(), frozenset())
    routes = {route for p in places for route in _own_table(p)}
    rules = {Rule(version, FROM, p.address, p.table) for p in places}
    kept = Wish(
        frozenset(r for r in facts.routes if r.subnet.version == version and r.table == TABLES),
        frozenset(r for r in facts.rules if r.version == version and r.priority != FROM),
    )
    foreign = {a for a in unknown_addresses(facts, attachments) if a.version == version}
    chosen = _chosen(version, facts, places, preferred, unresolved=bool(foreign - others.keys()))
    leading = _leading(places, kept.routes, preferred, chosen or _default(version, facts, places))
    names = frozenset(_endpoint(p) for p in leading.values())
    mixed = {*leading, *([None] if foreign else [])}  # whose network may get the default route; None: another driver's
    spread = frozenset(tenant for tenant in leading if mixed != {tenant})
    if networks is None:
        return Wish(frozenset(routes) | kept.routes, frozenset(rules) | kept.rules, names, spread)
    troubles: Mapping[str, str] = {}
    if spread:
        ways, troubles = _tenants_routes(version, places, leading, spread, networks)
        routes |= ways
        rules.add(Rule(version, TENANTS, None, TABLES))
    if chosen is not None and sum(version in a.gateways for a in attachments) + len(foreign) > 1:
        rules.add(Rule(version, OUTSIDE, None, chosen.table))
    elif leading and version == 6 and version not in facts.defaults and not any(a.gateways.get(4) for a in attachments):
        # Docker sets default routes only in a network with an IPv4 gateway
        rules.add(Rule(version, OUTSIDE, None, min(leading.values(), key=_number).table))
    if any(rule.priority in (TENANTS, OUTSIDE) for rule in rules):
        rules.add(Rule(version, SPECIFIC, None, MAIN, specific=True))
    return Wish(frozenset(routes), frozenset(rules), names, spread, troubles)


def _places(
    version: int,
    facts: Facts,
    attachments: Collection[Attachment],
    others: Mapping[Address, Address | None],
    known: Mapping[int, Address],
) -> Iterator[_Place]:
    ours = {(one.mac, address): one for one in attachments for address in one.addresses}
    for device in facts.devices:
        for interface in device.addresses:
            address = interface.ip
            if address.version != version:
                continue
            found = ours.get((device.mac, address))
            if found is not None:
                gateway = found.gateways.get(version) or known.get(TABLES + device.index)
                outside = gateway is not None and found.nat and version == 4
                yield _Place(device.index, address, interface.network, gateway, found, outside)
            elif (gateway := others.get(address)) is not None:
                yield _Place(device.index, address, interface.network, gateway, None, outside=True)


def _own_table(place: _Place) -> Iterator[Route]:
    yield Route(place.table, place.subnet, None, place.device, METRIC)
    if isinstance(place.address, IPv6Address):
        yield Route(place.table, LINK_LOCAL6, None, place.device, METRIC)
    device = place.device if place.gateway is not None else 0
    yield Route(place.table, everything(place.address.version), place.gateway, device, METRIC)


def everything(version: int) -> Subnet:
    """The destination of a default route."""
    return IPv4Network("0.0.0.0/0") if version == 4 else IPv6Network("::/0")


def _default(version: int, facts: Facts, places: Iterable[_Place]) -> _Place | None:
    """Whose network the main default route is in."""
    if version not in facts.defaults:
        return None
    gateway, device = facts.defaults[version]
    return next((p for p in places if p.device == device and p.gateway == gateway), None)


def _chosen(
    version: int, facts: Facts, places: Sequence[_Place], preferred: frozenset[str], *, unresolved: bool
) -> _Place | None:
    """By which network leaves what the container begins and no other route is for: one that leads outside, if any does.
    It changes as seldom as can be, whatever Docker does with the default route meanwhile.

    None: there is no default route yet, or the container has made its own, which is to stay what it is.
    ``unresolved``: it may be one of another driver's, which Docker has not been asked about yet.
    """
    before = {r.table for r in facts.rules if r.version == version and r.priority == OUTSIDE}
    default = _default(version, facts, places)
    if default is None:
        return next((p for p in places if unresolved and p.table in before), None)
    leading = [p for p in places if p.outside] or [p for p in places if p.gateway is not None]
    return min(
        leading,
        key=lambda p: (_endpoint(p) not in preferred, p.table not in before, p != default, _number(p)),
        default=None,
    )


def _endpoint(place: _Place) -> str:
    return place.attachment.endpoint_id if place.attachment else ""


def _was_primary(place: _Place) -> bool:
    return place.attachment is not None and place.attachment.primary


def _number(place: _Place) -> int:
    return place.attachment.number if place.attachment else 0


def _leading(
    places: Iterable[_Place], present: Collection[Route], preferred: frozenset[str], chosen: _Place | None
) -> dict[str, _Place]:
    """By which of its networks the container reaches each tenant. It changes as seldom as can be: the source address of
    what the container sends changes with it."""
    used = {r.device for r in present if r.gateway is not None}

    def rank(p: _Place) -> tuple[bool | int, ...]:
        return _endpoint(p) not in preferred, p != chosen, not _was_primary(p), p.device not in used, _number(p)

    ranked = sorted((p for p in places if p.gateway is not None), key=rank)
    found: dict[str, _Place] = {}
    for place in ranked:
        if place.attachment is not None:
            found.setdefault(place.attachment.tenant, place)
    return found


def _tenants_routes(
    version: int,
    places: Sequence[_Place],
    leading: Mapping[str, _Place],
    spread: Collection[str],
    networks: Sequence[Net],
) -> tuple[frozenset[Route], dict[str, str]]:
    """Routes to all networks of tenants. Of networks of two tenants that overlap, the older one has its route."""
    connected = {p.subnet for p in places}
    taken: list[Net] = []
    subnets: dict[str, list[Subnet]] = {tenant: [] for tenant in spread}
    troubles: dict[str, str] = {}
    for net in sorted(networks, key=lambda n: (n.number, n.key)):
        if net.subnet.version != version or net.tenant not in leading:
            continue
        others = (n for n in taken if n.tenant != net.tenant and n.subnet.overlaps(net.subnet))
        other = next(others, None) if len(leading) > 1 else None
        if other is not None:
            troubles[f"way to {net.key}"] = (  # not the key alone: the network itself is well here
                f"network {net.key} ({net.subnet}) overlaps {other.key} ({other.subnet}), which is older:"
                " containers that are in both tenants don't reach it"
            )
            continue
        taken.append(net)
        if net.tenant in spread and net.subnet not in connected:
            subnets[net.tenant].append(net.subnet)
    first = min(spread, key=lambda tenant: _number(leading[tenant]))
    subnets[first].append(HOSTS[version])
    routes = {
        Route(TABLES, subnet, leading[tenant].gateway, leading[tenant].device, METRIC)
        for tenant, found in subnets.items()
        for subnet in _collapsed(found)
    }
    return frozenset(routes), troubles


def _collapsed(subnets: Iterable[Subnet]) -> Iterator[Subnet]:
    """As few as have the same addresses."""
    four = [s for s in subnets if isinstance(s, IPv4Network)]
    six = [s for s in subnets if isinstance(s, IPv6Network)]
    yield from collapse_addresses(four)
    yield from collapse_addresses(six)


def _joined(one: Wish, other: Wish) -> Wish:
    return Wish(
        one.routes | other.routes,
        one.rules | other.rules,
        one.primary or other.primary,
        one.spread | other.spread,
        {**one.troubles, **other.troubles},
    )
