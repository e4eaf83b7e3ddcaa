"""The objects of the model: immutable values. Their form in a store: `topology.stored`.

Every object has a ``kind`` and a ``key``; (kind, key) names it for good. Keys are those of the REST API:
``tenant``, ``tenant:name``. Numbers are given out by the write door, are never shared by two living objects,
and end up in the switch: a tenant's number is its conntrack zone, a network's is in a register, an endpoint's
is its reserved (hidden) address, a service's its published one, a service port's its group id, a network's vlan
its tag on links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import ClassVar

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

PUBLISHED_BASE = IPv4Address("249.0.0.0")
HOST_BASE = IPv4Address("169.254.0.0")

Labels = tuple[tuple[str, str], ...]
"""Labels or selectors: (key, value) pairs, sorted by key, keys unique."""

ACTIVE_HEALTH = frozenset({"", "healthy"})
ALIVE_STATES = frozenset({"running", "paused", "draining"})

DEFAULT_DRAIN = 30  # seconds


@dataclass(frozen=True, slots=True)
class Tenant:
    """A space of addresses of its own; networks of one tenant reach each other."""

    kind: ClassVar[str] = "tenant"
    name: str
    number: int  # 1..32767: conntrack zone

    @property
    def key(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Network:
    """A subnet of a tenant. ``first``..``last`` bound (inclusively) what is handed out automatically."""

    kind: ClassVar[str] = "network"
    tenant: str
    name: str
    number: int  # 1..2^24-1, in a register
    subnet: IPv4Network
    first: IPv4Address
    last: IPv4Address
    gateway: IPv4Address | None = None
    nw_type: str = "data"  # data | infra
    encap: str = "vxlan"  # vxlan | vlan
    tag: int = 0  # VNI or VLAN between hosts
    requested_tag: int = 0  # what the user asked for; 0: automatic
    cfgd_tag: str = ""
    subnet6: IPv6Network | None = None  # beside the IPv4 subnet, never instead of it
    gateway6: IPv6Address | None = None
    nat: bool = False  # its endpoints reach what their host reaches, translated to the host's address
    vlan: int = 0  # 1..4094: its 802.1Q tag on links between switches; 0: there was none left
    internal: bool = False  # closed in both directions: it has no way to other networks or to its hosts
    docker_ipam: bool = False  # containers' addresses come from Docker's own IPAM driver, the lowest free ones
    nat_host: bool = False  # with nat: its endpoints also reach the ports of their host, but never the control plane's

    @property
    def key(self) -> str:
        return f"{self.tenant}:{self.name}"

    @property
    def tenant_key(self) -> str:
        return self.tenant

    @property
    def subnets(self) -> tuple[Prefix, ...]:
        """The IPv4 subnet, then the IPv6 one if there is one."""
        return (self.subnet,) if self.subnet6 is None else (self.subnet, self.subnet6)

    def handed_out(self, version: int) -> tuple[int, int]:
        """First and last address that is handed out automatically, of IP version 4 or 6, as numbers."""
        if version == 4:
            return int(self.first), int(self.last)
        assert self.subnet6 is not None, f"network {self.key} has no IPv6"
        # the all-zero one is every router's (RFC 4291 2.6.1); IPv6 has no broadcast address
        return int(self.subnet6.network_address) + 1, int(self.subnet6.broadcast_address)

    @property
    def docker_name(self) -> str:
        """Name of the Docker network that stands for this one."""
        return self.name if self.tenant == "default" else f"{self.name}/{self.tenant}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a VIP. ``number`` is its stored group number: kept as long as the port is kept."""

    port: int
    target: int
    protocol: str  # TCP | UDP
    number: int  # 1..2^21-1

    def __str__(self) -> str:
        return f"{self.port}:{self.target}:{self.protocol}"


@dataclass(frozen=True, slots=True)
class Published:
    """A port of every host's own addresses that leads to a port of a VIP."""

    port: int  # the host's
    target: int  # the VIP's
    protocol: str  # TCP | UDP

    def __str__(self) -> str:
        return f"{self.port}:{self.target}:{self.protocol}"


@dataclass(frozen=True, slots=True)
class Check:
    """An active check of a service's providers, run by each provider's host. Times in seconds."""

    protocol: str = "tcp"  # tcp | http
    path: str = ""  # begins with / for http; "" for tcp
    interval: int = 5
    timeout: int = 2  # less than the interval
    rise: int = 2  # passes in a row that bring a provider in
    fall: int = 3  # failures in a row that take it out


@dataclass(frozen=True, slots=True)
class Service:
    """A VIP with ports, in front of the endpoints whose labels are a superset of ``selectors``."""

    kind: ClassVar[str] = "service"
    tenant: str
    name: str
    number: int  # 1..2^24-1
    network: str  # name; same tenant
    vips: tuple[Address, ...]  # the IPv4 one, then the IPv6 one where the network has IPv6
    ports: tuple[ServicePort, ...]
    selectors: Labels
    requested_vip: IPv4Address | None = None
    affinity: int = 0  # seconds a client stays with its provider, 1..65535; 0: off
    affinity_mode: str = "idle"  # idle (since its last packet) | absolute (since its first)
    drain: int = DEFAULT_DRAIN  # seconds that open connections of a stopping provider may still take
    check: Check | None = None
    requested_vip6: IPv6Address | None = None
    published: tuple[Published, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.tenant}:{self.name}"

    @property
    def network_key(self) -> str:
        return f"{self.tenant}:{self.network}"

    @property
    def tenant_key(self) -> str:
        return self.tenant

    @property
    def published_address(self) -> IPv4Address:
        """Where hosts send what comes to its published ports; no network has it."""
        return PUBLISHED_BASE + self.number

    def selects(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is one of its providers, whatever its health; no selectors select nothing."""
        return (
            endpoint.tenant == self.tenant
            and bool(self.selectors)
            and set(self.selectors).issubset(endpoint.labels)
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attachment of a container (or of a bare host) to a network.

    Where it is: on ``host`` (an agent's name; its switch is the host's) or, without an agent, on ``switch``
    (datapath id); in both cases at the port called ``port_name``.
    """

    kind: ClassVar[str] = "endpoint"
    id: str
    tenant: str
    network: str  # name; same tenant
    number: int  # 1..2^24-1: hidden address 250.0.0.0 + number
    addresses: tuple[Address, ...]  # IPv4 first, then IPv6 where the network has it; a learned one may lack either
    mac: str  # aa:bb:cc:dd:ee:ff
    host: str = ""
    switch: int = 0  # datapath id, for endpoints without an agent
    port_name: str = ""
    labels: Labels = ()
    container_id: str = ""
    container_name: str = ""
    health: str = ""  # "" (none declared) | starting | healthy | unhealthy
    state: str = "running"  # created | running | paused | draining | stopped
    origin: str = "rest"  # agent | rest | learned
    weight: int = 1  # 1..100: its share of a service's new connections
    # sorted keys of the services whose active check it passes, or has not failed since that was turned on
    passed: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()  # sorted keys of the services whose drain time is over for it
    draining_since: float = 0.0  # epoch s; 0: not draining
    no_way_back: str = ""  # why its address can't answer beyond its own network, as its agent says; "": it can
    primary: bool = False  # of its container's: whose address the container's kernel takes as source
    port_mac: str = ""  # of a learned one: the switch's own MAC at that port, by which another port of its name is told

    @property
    def key(self) -> str:
        return self.id

    @property
    def network_key(self) -> str:
        return f"{self.tenant}:{self.network}"

    @property
    def tenant_key(self) -> str:
        return self.tenant

    @property
    def alive(self) -> bool:
        """Whether it may hold connections, be they of a service or not."""
        return self.state in ALIVE_STATES

    @property
    def well(self) -> bool:
        """Whether it lives, and says itself that it is well."""
        return self.alive and self.health in ACTIVE_HEALTH

    def serves(self, service: Service) -> bool:
        """Whether it may receive new connections of ``service``, given that it is selected, for all that it says
        itself; its host has a say as well (`Model.serves`).
        """
        return (
            self.state == "running"
            and self.health in ACTIVE_HEALTH
            and (service.check is None or service.key in self.passed)
        )


@dataclass(frozen=True, slots=True)
class Host:
    """A Docker host with an agent."""

    kind: ClassVar[str] = "host"
    name: str
    switch: int  # datapath id
    tunnel_address: IPv4Address | None = None
    version: str = ""
    datapath_type: str = ""  # of its bridge: netdev | system; "" while it is not known
    number: int = 0  # 1..32767; 0: stored by an earlier version, has one from its next registration on
    draining_since: float = 0.0  # epoch s; 0: not draining
    dead: bool = False  # as the leading controller has judged; the next one begins with it

    @property
    def key(self) -> str:
        return self.name

    @property
    def draining(self) -> bool:
        """Whether the providers on it get no new connections; open ones go on."""
        return self.draining_since > 0

    @property
    def address(self) -> IPv4Address | None:
        """The host as its own containers see it."""
        return HOST_BASE + self.number if self.number else None


@dataclass(frozen=True, slots=True)
class Lease:
    """An address of a network that no object holds: granted to a host for an endpoint to come, or cooling."""

    kind: ClassVar[str] = "lease"
    tenant: str
    network: str
    address: Address
    host: str = ""
    released: float | None = None  # epoch s: free since then, not to be handed out at once; None: granted

    @property
    def key(self) -> str:
        return f"{self.tenant}:{self.network}:{self.address}"

    @property
    def network_key(self) -> str:
        return f"{self.tenant}:{self.network}"


Object = Tenant | Network | Service | Endpoint | Host | Lease

KINDS: Mapping[str, type[Object]] = {c.kind: c for c in (Tenant, Network, Service, Endpoint, Host, Lease)}


@dataclass(frozen=True, slots=True)
class Change:
    """One object before and after a transaction; None: it was not, or is no more."""

    before: Object | None
    after: Object | None

    @property
    def kind(self) -> str:
        return self._any.kind

    @property
    def key(self) -> str:
        return self._any.key

    @property
    def _any(self) -> Object:
        value = self.after if self.after is not None else self.before
        assert value is not None, "a change has a before or an after"
        return value


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: the revision it made and what it changed. One Change an object at the most."""

    revision: int
    changes: tuple[Change, ...]
