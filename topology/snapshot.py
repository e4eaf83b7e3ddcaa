"""The model in memory, with the indexes that keep the cost of a question apart from the size of the whole.

Only `Model.apply` changes it, one commit at a time; `topology.commands` is the one that calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any, Literal, cast

from topology.addresses import Holder, Space
from topology.model import (
    KINDS,
    Address,
    Commit,
    Endpoint,
    Host,
    Lease,
    Network,
    Object,
    Service,
    Tenant,
)

Pair = tuple[str, str]
Gateway = Literal["gateway"]

UDP, SCTP = "UDP", "SCTP"
POOLS = ("tenant", "network", "service", "port", "endpoint", "host", "vlan")
"""Spaces of numbers; a service has one of pool ``service`` and one of pool ``port`` for each port, a network one of
pool ``network`` and one of pool ``vlan``."""


def numbers_of(value: Object) -> list[tuple[str, int]]:
    """The (pool, number) pairs that an object owns."""
    if isinstance(value, Lease) or (isinstance(value, Host) and not value.number):
        return []
    own = [(value.kind, value.number)]
    if isinstance(value, Service):
        own += [("port", p.number) for p in value.ports]
    if isinstance(value, Network) and value.vlan:
        own.append(("vlan", value.vlan))
    return own


def held_by(value: Object) -> tuple[Address, ...]:
    """The addresses that an object holds in its network; a cooling lease holds none."""
    if isinstance(value, Service):
        return value.vips
    if isinstance(value, Endpoint):
        return value.addresses
    if isinstance(value, Network):
        return tuple(gateway for gateway in (value.gateway, value.gateway6) if gateway is not None)
    if isinstance(value, Lease) and value.released is None:
        return (value.address,)
    return ()


def network_of(value: Object) -> str | None:
    """Key of the network that an object is, or is in."""
    if isinstance(value, Network):
        return value.key
    if isinstance(value, Service | Endpoint | Lease):
        return value.network_key
    return None


class Model:
    """All objects at one revision. Readers see whole commits only."""

    def __init__(self) -> None:
        self.load(0, ())

    def load(self, revision: int, objects: Iterable[Object]) -> None:
        """Become exactly these objects at this revision."""
        self.revision = revision
        self.tenants: dict[str, Tenant] = {}
        self.networks: dict[str, Network] = {}
        self.services: dict[str, Service] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.hosts: dict[str, Host] = {}
        self.leases: dict[str, Lease] = {}
        self._kinds: dict[str, dict[str, Any]] = {
            "tenant": self.tenants,
            "network": self.networks,
            "service": self.services,
            "endpoint": self.endpoints,
            "host": self.hosts,
            "lease": self.leases,
        }
        self._members: dict[tuple[str, str, str], dict[str, Any]] = {}  # (kind, grouping, group) → objects
        self._spaces: dict[str, Space] = {}
        self._numbers: dict[str, dict[int, Object]] = {pool: {} for pool in POOLS}
        self._macs: dict[tuple[str, str], Endpoint] = {}
        self._tags: dict[tuple[str, int], Network] = {}
        self._switches: dict[int, Host] = {}
        self._tunnels: dict[IPv4Address, Host] = {}
        self._published: dict[tuple[int, str], Service] = {}  # (host port, protocol) → service
        self._labelled: dict[tuple[str, Pair], dict[str, Endpoint]] = {}
        self._selecting: dict[tuple[str, Pair], dict[str, Service]] = {}
        self._judged: dict[str, dict[str, Endpoint]] = {}  # service key → endpoints that name it
        self._filed_under: dict[str, Pair] = {}  # service key → the selector it is indexed by
        # cooling leases stand in the order of their release, which a store doesn't keep
        ordered = sorted(objects, key=lambda o: (o.released or 0.0) if isinstance(o, Lease) else 0.0)
        for value in ordered:
            self._add(value)

    def apply(self, commit: Commit) -> None:
        """Take over one commit, all of it."""
        if commit.revision <= self.revision:
            raise ValueError(f"revision {commit.revision} applied after {self.revision}")
        # all that goes goes first: one commit may move an address from one object to another
        for change in commit.changes:
            if change.before is not None:
                self._remove(change.before)
        for change in commit.changes:
            if change.after is not None:
                self._add(change.after)
        self.revision = commit.revision

    # questions

    def get(self, kind: str, key: str) -> Object | None:
        """The object of this kind and key."""
        return cast("Object | None", self._kinds[kind].get(key))

    def objects(self) -> Iterator[Object]:
        """Every object, by kind: those that others name come first."""
        for kind in KINDS:
            yield from self._kinds[kind].values()

    def networks_of(self, tenant: str) -> list[Network]:
        """Networks of a tenant, oldest first."""
        return self._by_number("network", "tenant", tenant)

    def services_of(self, network_key: str) -> list[Service]:
        """Services whose VIP is in this network, oldest first."""
        return self._by_number("service", "network", network_key)

    def services_of_tenant(self, tenant: str) -> list[Service]:
        """Services of a tenant, oldest first."""
        return self._by_number("service", "tenant", tenant)

    def services_with_sctp(self) -> list[Service]:
        """Services, of all tenants, with a port of the protocol that not every switch knows; oldest first."""
        return self._by_number("service", "protocol", SCTP)

    def endpoints_of(self, network_key: str) -> list[Endpoint]:
        """Endpoints in a network, oldest first."""
        return self._by_number("endpoint", "network", network_key)

    def endpoints_of_host(self, host: str) -> list[Endpoint]:
        """Endpoints on a host with an agent, oldest first."""
        return self._by_number("endpoint", "host", host)

    def endpoints_of_switch(self, switch: int) -> list[Endpoint]:
        """Endpoints without an agent, placed on a switch by its datapath id; oldest first."""
        return self._by_number("endpoint", "switch", str(switch))

    def endpoints_on(self, switch: int) -> list[Endpoint]:
        """Endpoints that are plugged into a switch: its host's, and those without an agent."""
        host = self.by_switch(switch)
        return [*(self.endpoints_of_host(host.name) if host is not None else ()), *self.endpoints_of_switch(switch)]

    def endpoints_at(self, switch: int, port_name: str) -> list[Endpoint]:
        """Endpoints without an agent at one port of a switch, oldest first."""
        return self._by_number("endpoint", "port", f"{switch} {port_name}")

    def learned_on(self, switch: int) -> int:
        """How many endpoints are learned at a switch."""
        return len(self._group("endpoint", "learned", str(switch)))

    def endpoints_plugged(self, switch: int, port_name: str) -> list[Endpoint]:
        """Endpoints at one port of a switch: its host's, and those without an agent."""
        host = self.by_switch(switch)
        of_host = self._by_number("endpoint", "port", f"{host.name} {port_name}") if host is not None else []
        return [*of_host, *self.endpoints_at(switch, port_name)]

    def networks_around(self, address: Address) -> list[Network]:
        """Networks, of any tenant, a subnet of which holds an address; oldest first."""
        bits, width = int(address), address.max_prefixlen
        groups = (f"{bits >> width - n << width - n}/{n}" for n in range(width + 1))
        found = [n for group in groups for n in self._group("network", "subnet", group).values()]
        return sorted(found, key=lambda n: n.number)

    def leases_of(self, network_key: str) -> list[Lease]:
        """Leases of a network, granted and cooling, by address."""
        return sorted(self._group("lease", "network", network_key).values(), key=lambda o: int(o.address))

    def leases_of_host(self, host: str) -> list[Lease]:
        """Leases granted to a host."""
        return list(self._group("lease", "host", host).values())

    def count(self, kind: str, grouping: str, group: str) -> int:
        """How many objects of a kind a group has: ``count("service", "network", key)``."""
        return len(self._group(kind, grouping, group))

    def providers(self, service: Service) -> list[Endpoint]:
        """Endpoints of the tenant whose labels are a superset of the selectors, whatever their health."""
        if not service.selectors:
            return []
        sets = [self._labelled.get((service.tenant, pair), {}) for pair in service.selectors]
        smallest = min(sets, key=len)
        wanted = set(service.selectors)
        return sorted((e for e in smallest.values() if wanted.issubset(e.labels)), key=lambda e: e.number)

    def serves(self, endpoint: Endpoint, service: Service) -> bool:
        """Whether a provider may receive new connections: it serves, and its host is not being emptied."""
        host = self.hosts.get(endpoint.host)
        return endpoint.serves(service) and not (host is not None and host.draining)

    def keeps(self, endpoint: Endpoint, service: Service, protocol: str) -> bool:
        """Whether a provider may keep the connections of a protocol that it has: all until the end of its drain; else
        UDP's, which have no end that a switch sees, while it serves, and others while it lives.
        """
        if endpoint.state == "draining":
            return service.key not in endpoint.drained
        if protocol == UDP:
            on_its_way = self.draining_since(endpoint) and service.key not in endpoint.drained
            return self.serves(endpoint, service) or bool(on_its_way and endpoint.serves(service))
        return endpoint.alive

    def draining_since(self, endpoint: Endpoint) -> float:
        """When (epoch s) an endpoint that lives, or else its host, began to drain; 0: neither does."""
        if endpoint.state == "draining":
            return endpoint.draining_since
        host = self.hosts.get(endpoint.host)
        return host.draining_since if host is not None and endpoint.alive else 0.0

    def selected_by(self, endpoint: Endpoint) -> list[Service]:
        """Services that this endpoint provides for; the endpoint need not be in the model."""
        have = set(endpoint.labels)
        found = [
            service
            for pair in have
            for service in self._selecting.get((endpoint.tenant, pair), {}).values()
            if have.issuperset(service.selectors)
        ]
        return sorted(found, key=lambda s: s.number)

    def judged(self, service_key: str) -> list[Endpoint]:
        """Endpoints that have passed a service's check, or whose drain time is over for it; oldest first."""
        return sorted(self._judged.get(service_key, {}).values(), key=lambda e: e.number)

    def holder(self, network_key: str, address: Address) -> Service | Endpoint | Lease | Gateway | None:
        """Who holds an address: a service, an endpoint, a granted lease, the gateway. Cooling: nobody."""
        space = self._spaces.get(network_key)
        found = None if space is None else space.holders.get(int(address))
        return "gateway" if isinstance(found, Network) else found

    def held(self, network_key: str) -> list[Address]:
        """Every held address of a network, in order: IPv4, then IPv6."""
        space = self._spaces.get(network_key)
        return [] if space is None else [ip_address(a) for a in sorted(space.holders)]

    def space(self, network_key: str) -> Space | None:
        """The addresses of a network; for the allocator, which only reads it."""
        return self._spaces.get(network_key)

    def by_number(self, pool: str, number: int) -> Object | None:
        """The living owner of a number; pools are those of `POOLS`."""
        return self._numbers[pool].get(number)

    def used_numbers(self, pool: str) -> dict[int, Object]:
        """Numbers in use with their owners; only to be read."""
        return self._numbers[pool]

    def by_mac(self, network_key: str, mac: str) -> Endpoint | None:
        """The endpoint of a network with this MAC address."""
        return self._macs.get((network_key, mac))

    def by_tag(self, encap: str, tag: int) -> Network | None:
        """The network that a VNI or VLAN belongs to."""
        return self._tags.get((encap, tag))

    def by_switch(self, switch: int) -> Host | None:
        """The host whose switch has this datapath id."""
        return self._switches.get(switch)

    def by_tunnel(self, address: IPv4Address) -> Host | None:
        """The host that others send tunnelled packets to at this address."""
        return self._tunnels.get(address)

    def published(self, port: int, protocol: str) -> Service | None:
        """The service, of any tenant, that has this port of the hosts."""
        return self._published.get((port, protocol))

    def published_services(self) -> list[Service]:
        """The services, of all tenants, that have ports of the hosts; oldest first."""
        return sorted({s.key: s for s in self._published.values()}.values(), key=lambda s: s.number)

    # indexes

    def _group(self, kind: str, grouping: str, group: str) -> dict[str, Any]:
        return self._members.get((kind, grouping, group), {})

    def _by_number(self, kind: str, grouping: str, group: str) -> list[Any]:
        return sorted(self._group(kind, grouping, group).values(), key=lambda o: o.number)

    @staticmethod
    def _groups(value: Object) -> Iterator[tuple[str, str, str]]:
        if isinstance(value, Network):
            yield (value.kind, "tenant", value.tenant)
            for subnet in value.subnets:
                yield (value.kind, "subnet", f"{int(subnet.network_address)}/{subnet.prefixlen}")
        elif isinstance(value, Service | Endpoint | Lease):
            yield (value.kind, "network", value.network_key)
            yield (value.kind, "tenant", value.tenant)
        if isinstance(value, Service) and any(port.protocol == SCTP for port in value.ports):
            yield (value.kind, "protocol", SCTP)
        if isinstance(value, Endpoint | Lease) and value.host:
            yield (value.kind, "host", value.host)
        if isinstance(value, Endpoint) and value.host:
            yield (value.kind, "port", f"{value.host} {value.port_name}")
        if isinstance(value, Endpoint) and value.switch:
            yield (value.kind, "switch", str(value.switch))
            if value.origin == "learned":
                yield (value.kind, "learned", str(value.switch))
            yield (value.kind, "port", f"{value.switch} {value.port_name}")

    def _add(self, value: Object) -> None:
        self._kinds[value.kind][value.key] = value
        for group in self._groups(value):
            self._members.setdefault(group, {})[value.key] = value
        for pool, number in numbers_of(value):
            self._numbers[pool][number] = value
        network = network_of(value)
        if network is not None:
            for address in held_by(value):
                self._spaces.setdefault(network, Space()).hold(int(address), cast(Holder, value))
        if isinstance(value, Lease) and value.released is not None:
            self._spaces.setdefault(value.network_key, Space()).cool(value)
        elif isinstance(value, Network):
            self._tags[(value.encap, value.tag)] = value
        elif isinstance(value, Host):
            if value.switch:
                self._switches[value.switch] = value
            if value.tunnel_address is not None:
                self._tunnels[value.tunnel_address] = value
        elif isinstance(value, Endpoint):
            self._macs[(value.network_key, value.mac)] = value
            for pair in value.labels:
                self._labelled.setdefault((value.tenant, pair), {})[value.id] = value
            for key in {*value.passed, *value.drained}:
                self._judged.setdefault(key, {})[value.id] = value
        elif isinstance(value, Service):
            self._published.update({(p.port, p.protocol): value for p in value.published})
            if value.selectors:
                self._file(value)

    def _remove(self, value: Object) -> None:
        del self._kinds[value.kind][value.key]
        for group in self._groups(value):
            _discard(self._members, group, value.key)
        for pool, number in numbers_of(value):
            del self._numbers[pool][number]
        network = network_of(value)
        if network is not None:
            self._leave_space(network, value)
        if isinstance(value, Network):
            del self._tags[(value.encap, value.tag)]
        elif isinstance(value, Host):
            self._switches.pop(value.switch, None)
            if value.tunnel_address is not None and self._tunnels.get(value.tunnel_address) == value:
                del self._tunnels[value.tunnel_address]
        elif isinstance(value, Endpoint):
            del self._macs[(value.network_key, value.mac)]
            for pair in value.labels:
                _discard(self._labelled, (value.tenant, pair), value.id)
            for key in {*value.passed, *value.drained}:
                _discard(self._judged, key, value.id)
        elif isinstance(value, Service):
            for published in value.published:
                del self._published[published.port, published.protocol]
            if value.selectors:
                _discard(self._selecting, (value.tenant, self._filed_under.pop(value.key)), value.key)

    def _leave_space(self, network: str, value: Object) -> None:
        space = self._spaces.get(network)
        if space is None:
            return
        for address in held_by(value):
            space.drop(int(address))
        if isinstance(value, Lease) and value.released is not None:
            space.thaw(int(value.address))
        if space.empty:
            del self._spaces[network]

    def _file(self, service: Service) -> None:
        # under its rarest selector: `environment=prod`, which all have, must not become one long list
        pair = min(service.selectors, key=lambda p: len(self._selecting.get((service.tenant, p), ())))
        self._filed_under[service.key] = pair
        self._selecting.setdefault((service.tenant, pair), {})[service.key] = service


def _discard(index: dict[Any, dict[str, Any]], group: Any, key: str) -> None:
    members = index[group]
    del members[key]
    if not members:
        del index[group]
