"""The model's indexes, each declared once: which objects it holds, and by which keys.

Whatever comes or goes is filed by the same declarations, so an index can't keep what is gone. Two have a form of their
own: the addresses of a network (`Spaces`), and services by a selector (`Selecting`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from topology.addresses import Holder, Space
from topology.model import Address, Endpoint, Host, Lease, Network, Object, Service

V = TypeVar("V", bound=Object)
Pair = tuple[str, str]
SCTP = "SCTP"
POOLS = ("tenant", "network", "service", "port", "endpoint", "host", "vlan")
"""Spaces of numbers; a service has one of pool ``service`` and one of pool ``port`` for each port, a network one of
pool ``network`` and one of pool ``vlan``."""


@dataclass(frozen=True, slots=True, eq=False)
class Index(Generic[V]):
    """Objects of one class by the keys that ``keys`` gives for each; ``unique``: one object has a key."""

    of: type[V]
    keys: Callable[[V], Iterable[Hashable]]
    unique: bool = False


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


def subnet_key(number: int, length: int) -> tuple[int, int]:
    """The key of a subnet in `AROUND`: its address and prefix length."""
    return number, length


def _uses_sctp(service: Service) -> Iterator[Hashable]:
    if any(port.protocol == SCTP for port in service.ports):
        yield SCTP


def _plugged(endpoint: Endpoint) -> Iterator[Hashable]:
    if endpoint.host:
        yield endpoint.host, endpoint.port_name
    if endpoint.switch:
        yield endpoint.switch, endpoint.port_name


NETWORKS_OF_TENANT = Index(Network, lambda n: (n.tenant,))
AROUND = Index(Network, lambda n: (subnet_key(int(s.network_address), s.prefixlen) for s in n.subnets))
BY_TAG = Index(Network, lambda n: ((n.encap, n.tag),), unique=True)
SERVICES_OF_NETWORK = Index(Service, lambda s: (s.network_key,))
SERVICES_OF_TENANT = Index(Service, lambda s: (s.tenant,))
WITH_PROTOCOL = Index(Service, _uses_sctp)
PUBLISHED = Index(Service, lambda s: ((p.port, p.protocol) for p in s.published), unique=True)
ENDPOINTS_OF_NETWORK = Index(Endpoint, lambda e: (e.network_key,))
ENDPOINTS_OF_TENANT = Index(Endpoint, lambda e: (e.tenant,))
ENDPOINTS_OF_HOST = Index(Endpoint, lambda e: (e.host,) if e.host else ())
ENDPOINTS_OF_SWITCH = Index(Endpoint, lambda e: (e.switch,) if e.switch else ())
LEARNED_ON = Index(Endpoint, lambda e: (e.switch,) if e.switch and e.origin == "learned" else ())
PLUGGED = Index(Endpoint, _plugged)
LABELLED = Index(Endpoint, lambda e: ((e.tenant, pair) for pair in e.labels))
JUDGED = Index(Endpoint, lambda e: {*e.passed, *e.drained})
BY_MAC = Index(Endpoint, lambda e: ((e.network_key, e.mac),), unique=True)
LEASES_OF_NETWORK = Index(Lease, lambda o: (o.network_key,))
LEASES_OF_HOST = Index(Lease, lambda o: (o.host,) if o.host else ())
BY_SWITCH = Index(Host, lambda h: (h.switch,) if h.switch else (), unique=True)
BY_TUNNEL = Index(Host, lambda h: (h.tunnel_address,) if h.tunnel_address is not None else (), unique=True)

DECLARED: tuple[Index[Any], ...] = (
    NETWORKS_OF_TENANT, AROUND, BY_TAG, SERVICES_OF_NETWORK, SERVICES_OF_TENANT, WITH_PROTOCOL, PUBLISHED,
    ENDPOINTS_OF_NETWORK, ENDPOINTS_OF_TENANT, ENDPOINTS_OF_HOST, ENDPOINTS_OF_SWITCH, LEARNED_ON, PLUGGED, LABELLED,
    JUDGED, BY_MAC, LEASES_OF_NETWORK, LEASES_OF_HOST, BY_SWITCH, BY_TUNNEL,
)  # fmt: skip


class Indexes:
    """All indexes over some objects."""

    def __init__(self) -> None:
        self._content: dict[Index[Any], dict[Hashable, dict[str, Any]]] = {index: {} for index in DECLARED}
        self._by_class: dict[type[Object], list[Index[Any]]] = {}
        for index in DECLARED:
            self._by_class.setdefault(index.of, []).append(index)
        self.numbers: dict[str, dict[int, Object]] = {pool: {} for pool in POOLS}
        self.spaces = Spaces()
        self.selecting = Selecting()

    def file(self, value: Object, *, there: bool) -> None:
        """An object has come, or it is gone."""
        for index in self._by_class.get(type(value), ()):
            content = self._content[index]
            for key in index.keys(value):
                _file(content, key, value, there=there, alone=index.unique)
        for pool, number in numbers_of(value):
            if there:
                self.numbers[pool][number] = value
            else:
                del self.numbers[pool][number]
        self.spaces.file(value, there=there)
        if isinstance(value, Service):
            self.selecting.file(value, there=there)

    def all(self, index: Index[V], key: Hashable) -> Mapping[str, V]:
        """The objects with this key, by their own."""
        return self._content[index].get(key, {})

    def one(self, index: Index[V], key: Hashable) -> V | None:
        """The object with this key."""
        return next(iter(self._content[index].get(key, {}).values()), None)

    def each(self, index: Index[V]) -> Iterator[V]:
        """All objects in an index, as often as they have keys in it."""
        for found in self._content[index].values():
            yield from found.values()


def _file(content: dict[Hashable, dict[str, Any]], key: Hashable, value: Object, *, there: bool, alone: bool) -> None:
    if there:
        found = content.setdefault(key, {})
        if alone:
            found.clear()
        found[value.key] = value
        return
    found = content.get(key, {})
    found.pop(value.key, None)
    if not found:
        content.pop(key, None)


class Spaces:
    """The addresses of each network: who holds which, and which are cooling after their release."""

    def __init__(self) -> None:
        self._spaces: dict[str, Space] = {}

    def get(self, network_key: str) -> Space | None:
        """Those of a network; None: nothing is known of it."""
        return self._spaces.get(network_key)

    def file(self, value: Object, *, there: bool) -> None:
        """An object holds its addresses, or does so no more."""
        network = network_of(value)
        if network is None:
            return
        space = self._spaces.setdefault(network, Space())
        for address in held_by(value):
            if there:
                space.hold(int(address), cast(Holder, value))
            else:
                space.drop(int(address))
        if isinstance(value, Lease) and value.released is not None:
            if there:
                space.cool(value)
            else:
                space.thaw(int(value.address))
        if space.empty:
            del self._spaces[network]


class Selecting:
    """Services by one of their selectors, the rarest: what all have must not become one long list."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, Pair], dict[str, Service]] = {}
        self._filed_under: dict[str, Pair] = {}  # by the service's key

    def all(self, tenant: str, pair: Pair) -> Iterable[Service]:
        """Those that are filed under this selector."""
        return self._services.get((tenant, pair), {}).values()

    def file(self, service: Service, *, there: bool) -> None:
        """A service has come, or it is gone."""
        if not service.selectors:
            return
        if there:
            rarest = min(service.selectors, key=lambda pair: len(self._services.get((service.tenant, pair), ())))
            pair = self._filed_under.setdefault(service.key, rarest)
        else:
            pair = self._filed_under.pop(service.key)
        _file(
            cast("dict[Hashable, dict[str, Any]]", self._services), (service.tenant, pair), service, there=there,
            alone=False,
        )  # fmt: skip
