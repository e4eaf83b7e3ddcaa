"""The model in memory, with the indexes that keep the cost of a question apart from the size of the whole.

Only `Model.apply` changes it, one commit at a time; `topology.commands` is the one that calls it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any, Literal, TypeVar, cast

from topology import indexes as ix
from topology.addresses import Space
from topology.indexes import Index, Indexes
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

V = TypeVar("V", bound=Object)
Gateway = Literal["gateway"]

UDP = "UDP"


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
        self._indexes = Indexes()
        # cooling leases stand in the order of their release, which a store doesn't keep
        ordered = sorted(objects, key=lambda o: (o.released or 0.0) if isinstance(o, Lease) else 0.0)
        for value in ordered:
            self._file(value, there=True)

    def apply(self, commit: Commit) -> None:
        """Take over one commit, all of it."""
        if commit.revision <= self.revision:
            raise ValueError(f"revision {commit.revision} applied after {self.revision}")
        # all that goes goes first: one commit may move an address from one object to another
        for change in commit.changes:
            if change.before is not None:
                self._file(change.before, there=False)
        for change in commit.changes:
            if change.after is not None:
                self._file(change.after, there=True)
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
        return self._by_number(ix.NETWORKS_OF_TENANT, tenant)

    def services_of(self, network_key: str) -> list[Service]:
        """Services whose VIP is in this network, oldest first."""
        return self._by_number(ix.SERVICES_OF_NETWORK, network_key)

    def services_of_tenant(self, tenant: str) -> list[Service]:
        """Services of a tenant, oldest first."""
        return self._by_number(ix.SERVICES_OF_TENANT, tenant)

    def services_with_sctp(self) -> list[Service]:
        """Services, of all tenants, with a port of the protocol that not every switch knows; oldest first."""
        return self._by_number(ix.WITH_PROTOCOL, ix.SCTP)

    def endpoints_of(self, network_key: str) -> list[Endpoint]:
        """Endpoints in a network, oldest first."""
        return self._by_number(ix.ENDPOINTS_OF_NETWORK, network_key)

    def endpoints_of_host(self, host: str) -> list[Endpoint]:
        """Endpoints on a host with an agent, oldest first."""
        return self._by_number(ix.ENDPOINTS_OF_HOST, host)

    def endpoints_of_switch(self, switch: int) -> list[Endpoint]:
        """Endpoints without an agent, placed on a switch by its datapath id; oldest first."""
        return self._by_number(ix.ENDPOINTS_OF_SWITCH, switch)

    def endpoints_on(self, switch: int) -> list[Endpoint]:
        """Endpoints that are plugged into a switch: its host's, and those without an agent."""
        host = self.by_switch(switch)
        return [*(self.endpoints_of_host(host.name) if host is not None else ()), *self.endpoints_of_switch(switch)]

    def endpoints_at(self, switch: int, port_name: str) -> list[Endpoint]:
        """Endpoints without an agent at one port of a switch, oldest first."""
        return self._by_number(ix.PLUGGED, (switch, port_name))

    def learned_on(self, switch: int) -> int:
        """How many endpoints are learned at a switch."""
        return len(self._indexes.all(ix.LEARNED_ON, switch))

    def endpoints_plugged(self, switch: int, port_name: str) -> list[Endpoint]:
        """Endpoints at one port of a switch: its host's, and those without an agent."""
        host = self.by_switch(switch)
        of_host = self._by_number(ix.PLUGGED, (host.name, port_name)) if host is not None else []
        return [*of_host, *self.endpoints_at(switch, port_name)]

    def networks_around(self, address: Address) -> list[Network]:
        """Networks, of any tenant, a subnet of which holds an address; oldest first."""
        bits, width = int(address), address.max_prefixlen
        keys = (ix.subnet_key(bits >> width - n << width - n, n) for n in range(width + 1))
        found = [n for key in keys for n in self._indexes.all(ix.AROUND, key).values()]
        return sorted(found, key=lambda n: n.number)

    def leases_of(self, network_key: str) -> list[Lease]:
        """Leases of a network, granted and cooling, by address."""
        return sorted(self._indexes.all(ix.LEASES_OF_NETWORK, network_key).values(), key=lambda o: int(o.address))

    def leases_of_host(self, host: str) -> list[Lease]:
        """Leases granted to a host."""
        return list(self._indexes.all(ix.LEASES_OF_HOST, host).values())

    def count(self, index: Index[Any], key: Hashable) -> int:
        """How many objects have a key in an index."""
        return len(self._indexes.all(index, key))

    def providers(self, service: Service) -> list[Endpoint]:
        """Endpoints of the tenant whose labels are a superset of the selectors, whatever their health."""
        if not service.selectors:
            return []
        sets = [self._indexes.all(ix.LABELLED, (service.tenant, pair)) for pair in service.selectors]
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
            for service in self._indexes.selecting.all(endpoint.tenant, pair)
            if have.issuperset(service.selectors)
        ]
        return sorted(found, key=lambda s: s.number)

    def judged(self, service_key: str) -> list[Endpoint]:
        """Endpoints that have passed a service's check, or whose drain time is over for it; oldest first."""
        return self._by_number(ix.JUDGED, service_key)

    def holder(self, network_key: str, address: Address) -> Service | Endpoint | Lease | Gateway | None:
        """Who holds an address: a service, an endpoint, a granted lease, the gateway. Cooling: nobody."""
        space = self._indexes.spaces.get(network_key)
        found = None if space is None else space.holders.get(int(address))
        return "gateway" if isinstance(found, Network) else found

    def held(self, network_key: str) -> list[Address]:
        """Every held address of a network, in order: IPv4, then IPv6."""
        space = self._indexes.spaces.get(network_key)
        return [] if space is None else [ip_address(a) for a in sorted(space.holders)]

    def space(self, network_key: str) -> Space | None:
        """The addresses of a network; for the allocator, which only reads it."""
        return self._indexes.spaces.get(network_key)

    def by_number(self, pool: str, number: int) -> Object | None:
        """The living owner of a number; pools are those of `POOLS`."""
        return self._indexes.numbers[pool].get(number)

    def used_numbers(self, pool: str) -> dict[int, Object]:
        """Numbers in use with their owners; only to be read."""
        return self._indexes.numbers[pool]

    def by_mac(self, network_key: str, mac: str) -> Endpoint | None:
        """The endpoint of a network with this MAC address."""
        return self._indexes.one(ix.BY_MAC, (network_key, mac))

    def by_tag(self, encap: str, tag: int) -> Network | None:
        """The network that a VNI or VLAN belongs to."""
        return self._indexes.one(ix.BY_TAG, (encap, tag))

    def by_switch(self, switch: int) -> Host | None:
        """The host whose switch has this datapath id."""
        return self._indexes.one(ix.BY_SWITCH, switch)

    def by_tunnel(self, address: IPv4Address) -> Host | None:
        """The host that others send tunnelled packets to at this address."""
        return self._indexes.one(ix.BY_TUNNEL, address)

    def published(self, port: int, protocol: str) -> Service | None:
        """The service, of any tenant, that has this port of the hosts."""
        return self._indexes.one(ix.PUBLISHED, (port, protocol))

    def published_services(self) -> list[Service]:
        """The services, of all tenants, that have ports of the hosts; oldest first."""
        return sorted({s.key: s for s in self._indexes.each(ix.PUBLISHED)}.values(), key=lambda s: s.number)

    # indexes

    def _by_number(self, index: Index[V], key: Hashable) -> list[V]:
        return sorted(self._indexes.all(index, key).values(), key=lambda o: cast(int, o.number))  # type: ignore[union-attr]

    def _file(self, value: Object, *, there: bool) -> None:
        if there:
            self._kinds[value.kind][value.key] = value
        else:
            del self._kinds[value.kind][value.key]
        self._indexes.file(value, there=there)
