"""What a user asks for, as typed: the commands check it and make model objects of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from topology.model import DEFAULT_DRAIN, Address


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network as asked for. Empty text and 0 mean: not given."""

    tenant: str
    name: str
    subnet: str  # a.b.c.d[-e.f.g.h]/len
    gateway: str = ""
    encap: str = ""
    pkt_tag: int = 0
    nw_type: str = ""
    cfgd_tag: str = ""
    subnet6: str = ""  # address/len
    gateway6: str = ""
    nat: bool = False
    internal: bool = False
    docker_ipam: bool = False
    nat_host: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A host without an agent, seen on the wire. ``instead_of``: the id of the learned one whose address it has now."""

    network: str  # key
    mac: str
    address: Address
    switch: int
    port_name: str
    port_mac: str = ""
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """An active check as asked for. None: the default."""

    protocol: str  # tcp | http
    path: str = ""
    interval: int | None = None  # seconds, as the timeout
    timeout: int | None = None
    rise: int | None = None
    fall: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as asked for."""

    tenant: str
    name: str
    network: str
    ip_address: str = ""
    selectors: Sequence[str] = ()  # key=value
    ports: Sequence[str] = ()  # port:target:protocol
    affinity: int = 0  # seconds; 0: off
    affinity_mode: str = ""  # idle | absolute
    drain: int = DEFAULT_DRAIN  # seconds
    check: CheckSpec | None = None
    ip_address6: str = ""
    publish: Sequence[str] = ()  # host port:port[:protocol]


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint as asked for. No address of a family: what it has, else the lowest free one; no MAC the same."""

    id: str
    tenant: str
    network: str
    addresses: Sequence[str] = ()
    mac: str = ""
    host: str = ""
    switch: int = 0
    port_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    container_id: str = ""
    container_name: str = ""
    health: str = ""
    state: str = "running"
    origin: str = "rest"
    weight: int | None = None  # None: what the label netctl.weight says, else 1
    no_way_back: str = ""
    primary: bool = False
