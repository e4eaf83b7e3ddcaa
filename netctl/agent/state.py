"""What this host has: Docker networks of ours, endpoints, addresses; and what the model wants of it.

Plain data under one lock. Nobody calls Docker, the controller or the switch while holding it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from netctl.agent.pulse import Pulse
from netctl.agent.troubles import Troubles
from netctl.agent.veth import host_end
from topology.control import Listener
from topology.documents import NetworkDoc, StreamNetworkDoc, StreamServiceDoc, StreamTenantDoc
from topology.reach import SECOND_ZONES
from topology.reports import EndpointDoc, HostDoc
from topology.text import one_line

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network
DEFAULT_TENANT = "default"
STARTED = frozenset({"running", "draining", "paused"})  # states in which a container's active checks count
MAX_REASON = 200  # characters that the controller takes
MAX_LINES = 20  # of one kind, for the user


class Subnets(NamedTuple):
    """A network's subnets, and the gateways in them. IPv6 is beside IPv4, never instead of it."""

    subnet: IPv4Network
    gateway: IPv4Address | None
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class LocalNetwork:
    """A Docker network of our driver, and the network of the model that it stands for."""

    id: str  # Docker's
    name: str  # Docker's; "" until its event says it
    tenant: str
    network: str  # name in the model; "" until known
    subnet: IPv4Network
    gateway: IPv4Address | None
    own_ipam: bool = True  # addresses are ours to give; else Docker's own IPAM driver gives them
    tenant_in_pool: bool = True  # whether the tenant was named to the IPAM driver as well
    ip_range: IPv4Network | None = None
    reserved: tuple[Address, ...] = ()  # Docker's auxiliary addresses: never handed out
    internal: bool = False
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    by_agent: bool = False  # an agent made it for a network of the model; else a user of Docker did
    picked: bool = False  # its user named no subnet
    made: Mapping[str, Any] = field(default_factory=dict, compare=False)  # what else Docker was told when it was made

    @property
    def key(self) -> str:
        """Key in the model."""
        return f"{self.tenant}:{self.network}"

    @property
    def subnets(self) -> Subnets:
        """Its subnets and gateways."""
        return Subnets(self.subnet, self.gateway, self.subnet6, self.gateway6)

    @property
    def pools(self) -> tuple[tuple[str, Subnet], ...]:
        """The pools that its addresses come from."""
        tenant = self.tenant if self.tenant_in_pool else ""
        return tuple((tenant, subnet) for subnet in (self.subnet, self.subnet6) if subnet is not None)


@dataclass(frozen=True, slots=True)
class Container:
    """What the model wants to know of a container."""

    id: str
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    state: str = "created"  # created | running | paused | draining | stopped
    health: str = ""
    left_out: int = 0  # labels that are too large to be told


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """A container's attachment to a network."""

    id: str  # Docker's
    network_id: str
    address: IPv4Address
    mac: str
    container_id: str = ""
    created: float = 0.0  # monotonic clock, where this agent made it; inf: it is about to
    address6: IPv6Address | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The IPv4 one first."""
        return (self.address,) if self.address6 is None else (self.address, self.address6)


@dataclass(frozen=True, slots=True)
class Way:
    """What an endpoint's container does with what is sent to it and from it."""

    primary: bool = False  # its address is what the kernel takes as source for its tenant's networks
    lost: str = ""  # why it can't answer beyond its own network; "": it can, as far as the agent knows


@dataclass(frozen=True, slots=True)
class Pending:
    """A network made by a user of Docker that the model does not have yet. ``refusal``: why it never will."""

    refusal: str = ""


@dataclass(slots=True)
class Pool:
    """What Docker said when it asked for a pool."""

    ip_range: IPv4Network | None = None
    reserved: list[Address] = field(default_factory=list)
    picked: bool = False  # it named none


class State:
    """All of it. ``changed`` is the lock, and is notified of every change."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.changed = threading.Condition(threading.RLock())
        self.listed = False  # whether Docker has been asked for its networks since the start
        self.followed = False  # whether the model's networks are known
        self.networks: dict[str, LocalNetwork] = {}  # by Docker's id
        self.pending: dict[str, Pending] = {}  # by Docker's id of the network
        self.leaving: set[str] = set()  # by Docker's id: networks that Docker is removing
        self.left: set[str] = set()  # keys: their users removed them from this host's Docker, the model keeps them
        self.making = ""  # key of the network that the agent itself is making in Docker
        self.forms: dict[str, LocalNetwork] = {}  # by key: networks that Docker is to get back as they were
        self.pools: dict[tuple[str, Subnet], Pool] = {}
        self.model: dict[str, StreamNetworkDoc] = {}  # by key
        self.tenants: dict[str, int] | None = None  # their numbers; None: not known yet
        self.services: dict[str, StreamServiceDoc] = {}  # by key: those of the model that have an active check
        self.published: dict[str, StreamServiceDoc] = {}  # by key: those that have ports of the hosts
        self.host_address: IPv4Address | None = None  # as this host's containers see it
        self.own_control: tuple[Listener, ...] = ()  # the control plane's, as this agent's options tell them
        self.control: tuple[Listener, ...] = ()  # and as the controller does
        self.addresses: dict[str, tuple[Address, ...]] = {}  # of names among them; (): there is no such name
        self.mtu = 1500  # of this host's containers
        self.peers: dict[str, IPv4Address] = {}  # the other hosts' tunnel addresses, by name
        self.troubles = Troubles()
        self.pulse = Pulse()
        self.verdicts: dict[str, dict[str, bool]] = {}  # by endpoint and service: whether its check passes
        self.untold: set[str] = set()  # endpoints with verdicts that the controller may not know
        # endpoints that have stopped and services that had no check, until the checks have begun anew for them
        self.unjudged: set[str] = set()
        self.touched: Callable[[], None] = lambda: None  # called, under the lock, when a check may concern another
        self.endpoints: dict[str, LocalEndpoint] = {}
        self._dropped: set[str] | None = None  # endpoints that have gone since the listing began that is under way
        self.sandboxes: dict[str, str] = {}  # by endpoint: path of the network namespace that it is in
        self.ways: dict[str, Way] = {}  # by endpoint
        self.disconnecting: set[str] = set()  # endpoints that Docker takes out of running containers
        self.containers: dict[str, Container] = {}
        self.granted: dict[str, float] = {}  # when (monotonic) by lease key: ours, no endpoint of the model has it
        self.spare: set[str] = set()  # lease keys: released while the controller was away

    # Networks

    def set_network(self, network: LocalNetwork) -> None:
        """Know a Docker network, or know it better."""
        with self.changed:
            self.networks[network.id] = network
            self.changed.notify_all()
            self.touched()

    def drop_network(self, network_id: str) -> LocalNetwork | None:
        """Forget a Docker network."""
        with self.changed:
            self.pending.pop(network_id, None)
            self.leaving.discard(network_id)
            self.changed.notify_all()
            return self.networks.pop(network_id, None)

    def networks_of(self, key: str) -> list[LocalNetwork]:
        """The Docker networks that stand for a network of the model."""
        with self.changed:
            return [n for n in self.networks.values() if n.network and n.key == key]

    def stands(self, key: str) -> bool:
        """Whether Docker has a network for one of the model, and is not removing it."""
        return any(network.id not in self.leaving for network in self.networks_of(key))

    def network_of_pool(self, tenant: str, subnet: Subnet) -> LocalNetwork | None:
        """The Docker network whose addresses come from this pool; tenant "": not named to the IPAM driver."""
        with self.changed:
            found = [n for n in self.networks.values() if n.own_ipam and (tenant, subnet) in n.pools]
            return found[0] if found else None

    def modelled(self, tenant: str, subnet: Subnet) -> StreamNetworkDoc | None:
        """The model's network with that subnet."""
        with self.changed:
            for doc in self.model.values():
                if doc["tenantName"] == tenant and subnet in subnets_of(doc):
                    return doc
            return None

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition on the state holds. Returns whether it does."""
        with self.changed:
            return self.changed.wait_for(condition, timeout)

    def update(self, **fields: bool) -> None:
        """Set ``listed`` or ``followed``."""
        with self.changed:
            for name, value in fields.items():
                setattr(self, name, value)
            self.changed.notify_all()
            self.touched()

    def set_host_address(self, address: str) -> None:
        """Know what this host's containers see it as; "": the controller has not said."""
        known = IPv4Address(address) if address else None
        with self.changed:
            if known != self.host_address:
                self.host_address = known
                self.changed.notify_all()

    # The control plane

    def set_control(self, listeners: tuple[Listener, ...]) -> None:
        """Know the listeners that the controller tells: these and no others."""
        with self.changed:
            if listeners != self.control:
                self.control = listeners
                self.changed.notify_all()

    def set_addresses(self, name: str, addresses: tuple[Address, ...]) -> None:
        """Know where a name leads."""
        with self.changed:
            if addresses != self.addresses.get(name):
                self.addresses[name] = addresses
                self.changed.notify_all()

    # Tenants

    def set_tenants(self, tenants: Mapping[str, StreamTenantDoc]) -> None:
        """Know the model's tenants: these and no others."""
        with self.changed:
            self.tenants = {}
            for name, tenant in tenants.items():
                self.set_tenant(name, tenant)

    def set_tenant(self, name: str, tenant: StreamTenantDoc | None) -> None:
        """Know another tenant, or that it is gone."""
        with self.changed:
            known = self.tenants = {} if self.tenants is None else self.tenants
            known.pop(name, None)
            if tenant is not None and 0 < (number := tenant.get("number", 0)) < SECOND_ZONES:
                known[name] = number

    # Other hosts

    def set_peers(self, hosts: Mapping[str, HostDoc]) -> None:
        """Know the model's hosts: these and no others."""
        with self.changed:
            self.peers.clear()
            for name, host in hosts.items():
                self.set_peer(name, host)

    def set_peer(self, name: str, host: HostDoc | None) -> None:
        """Know another host better, or that it is gone."""
        with self.changed:
            address = "" if host is None or name == self.host else host.get("tunnelAddress", "")
            if address:
                self.peers[name] = IPv4Address(address)
            else:
                self.peers.pop(name, None)

    # Endpoints

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        """Know an endpoint."""
        with self.changed:
            self.endpoints[endpoint.id] = endpoint
            self.touched()

    def drop_endpoint(self, endpoint_id: str) -> LocalEndpoint | None:
        """Forget an endpoint."""
        with self.changed:
            self.touched()
            self.sandboxes.pop(endpoint_id, None)
            self.ways.pop(endpoint_id, None)
            self.disconnecting.discard(endpoint_id)
            if self._dropped is not None:
                self._dropped.add(endpoint_id)
            return self.endpoints.pop(endpoint_id, None)

    def set_disconnecting(self, endpoint_id: str, disconnecting: bool) -> None:
        """Docker takes an endpoint out of a running container, and it drains until it is deleted; or puts it back."""
        with self.changed:
            if disconnecting and endpoint_id in self.endpoints:
                self.disconnecting.add(endpoint_id)
            else:
                self.disconnecting.discard(endpoint_id)

    def made(self, endpoint_id: str) -> None:
        """Docker has been answered: from now on it should list the endpoint."""
        with self.changed:
            if (endpoint := self.endpoints.get(endpoint_id)) is not None:
                self.endpoints[endpoint_id] = replace(endpoint, created=time.monotonic())

    def watch_drops(self) -> None:
        """Note from now on which endpoints go."""
        with self.changed:
            self._dropped = set()

    def drops_watched(self) -> set[str]:
        """The endpoints that have gone since `watch_drops`, which ends by this."""
        with self.changed:
            dropped, self._dropped = self._dropped or set(), None
            return dropped

    def link(self, endpoint_id: str, container_id: str) -> bool:
        """Say whose an endpoint is. Returns whether that is news."""
        with self.changed:
            endpoint = self.endpoints.get(endpoint_id)
            if endpoint is None or endpoint.container_id == container_id:
                return False
            self.endpoints[endpoint_id] = replace(endpoint, container_id=container_id)
            self.touched()
            return True

    def set_ways(self, ways: Mapping[str, Way]) -> set[str]:
        """Know endpoints' ways. Returns the endpoints whose documents differ by that."""
        with self.changed:
            news = {e for e, way in ways.items() if e in self.endpoints and self.ways.get(e, Way()) != way}
            self.ways.update((e, way) for e, way in ways.items() if e in self.endpoints)
            return news

    def set_container(self, container: Container) -> list[str]:
        """Know a container. Returns the ids of the endpoints whose documents differ by that."""
        with self.changed:
            if self.containers.get(container.id) == container:
                return []
            self.containers[container.id] = container
            ids = self.endpoints_of(container.id)
            if container.state not in STARTED:
                self._unjudge(ids)
            self.touched()
            return ids

    def drop_container(self, container_id: str) -> None:
        """Forget a container."""
        with self.changed:
            self.containers.pop(container_id, None)
            self.touched()

    def endpoints_of(self, container_id: str) -> list[str]:
        """Ids of a container's endpoints."""
        with self.changed:
            return [e.id for e in self.endpoints.values() if e.container_id == container_id]

    def document(self, endpoint_id: str) -> EndpointDoc | None:
        """The endpoint as the controller is told of it; None: there is none, or its network is not known yet."""
        with self.changed:
            endpoint = self.endpoints.get(endpoint_id)
            network = self.networks.get(endpoint.network_id) if endpoint else None
            if endpoint is None or network is None or not network.network:
                return None
            container = self.containers.get(endpoint.container_id) or Container(endpoint.container_id)
            way = self.ways.get(endpoint_id, Way())
            drains = endpoint_id in self.disconnecting and container.state == "running"
            found: EndpointDoc = {
                "endpointID": endpoint.id,
                "tenantName": network.tenant,
                "networkName": network.network,
                "ipAddress": [str(address) for address in endpoint.addresses],
                "macAddress": endpoint.mac,
                "homingHost": self.host,
                "portName": host_end(endpoint.id),
                "labels": dict(container.labels),
                "containerID": container.id,
                "containerName": container.name,
                "health": container.health,
                "state": "draining" if drains else container.state,
                "origin": "agent",
            }
            if way.primary:
                found["primary"] = True
            if way.lost:
                found["noWayBack"] = way.lost[:MAX_REASON]
            return found

    def documents(self) -> list[EndpointDoc]:
        """All endpoints whose network the model has."""
        with self.changed:
            found = [self.document(endpoint_id) for endpoint_id in sorted(self.endpoints)]
            return [
                doc
                for doc in found
                if doc is not None and (not self.followed or f"{doc['tenantName']}:{doc['networkName']}" in self.model)
            ]

    def large_labels(self) -> dict[str, str]:
        """A line for each container that has labels which the controller is not told."""
        with self.changed:
            large = sorted((c.name or c.id[:12], c.left_out) for c in self.containers.values() if c.left_out)
        return {
            f"labels of container {one_line(name, 80)}": f"{count} of them are too large and count as absent"
            for name, count in large[:MAX_LINES]
        }

    # Active checks

    def set_services(self, services: Mapping[str, StreamServiceDoc]) -> None:
        """Know the model's services that hosts have something to do for: these and no others."""
        with self.changed:
            before = self.services.keys()
            self.services = {key: service for key, service in services.items() if service.get("healthCheck")}
            self._unjudge(before - self.services.keys())
            self.published = {key: service for key, service in services.items() if _is_published(service)}
            self.changed.notify_all()
            self.touched()

    def set_service(self, key: str, service: StreamServiceDoc | None) -> None:
        """Know a service better; one that is gone, or wants nothing of hosts, is forgotten."""
        with self.changed:
            if service is not None and _is_published(service):
                self.published[key] = service
                self.changed.notify_all()
            elif self.published.pop(key, None) is not None:
                self.changed.notify_all()
            if service is not None and service.get("healthCheck"):
                self.services[key] = service
            elif self.services.pop(key, None) is None:
                return
            else:
                self._unjudge([key])
            self.touched()

    def _unjudge(self, keys: Iterable[str]) -> None:
        """Forget the verdicts about endpoints or of services: the controller has, and they may be back at once."""
        self.unjudged.update(keys)
        for endpoint_id, verdicts in list(self.verdicts.items()):
            left = {} if endpoint_id in self.unjudged else {k: v for k, v in verdicts.items() if k not in self.unjudged}
            if left:
                self.verdicts[endpoint_id] = left
            else:
                del self.verdicts[endpoint_id]

    def untold_verdicts(self) -> tuple[str, dict[str, bool]] | None:
        """An endpoint whose verdicts are to be told, and all of them; the caller tells them."""
        with self.changed:
            while self.untold:
                endpoint_id = self.untold.pop()
                if verdicts := self.verdicts.get(endpoint_id):
                    return endpoint_id, dict(verdicts)
            return None

    # Addresses

    def leases(self) -> set[str]:
        """Keys of the leases that the controller has to keep for this host."""
        with self.changed:
            reserved = {
                lease_key(network.tenant, network.network, address)
                for network in self.networks.values()
                for address in network.reserved
                if network.network and network.id not in self.pending
            }
            return {*self.granted, *reserved}

    def take_spare(self, tenant: str, network: str, address: Address | None, version: int) -> Address | None:
        """An address that this host had been granted and has released, while the controller could not be told.

        ``version``: of IP, where no address is named."""
        with self.changed:
            prefix = f"{tenant}:{network}:"
            own = [ip_address(key.removeprefix(prefix)) for key in self.spare if key.startswith(prefix)]
            fitting = [one for one in own if (one == address if address else one.version == version)]
            if not fitting:
                return None
            chosen = min(fitting, key=int)
            key = lease_key(tenant, network, chosen)
            self.spare.discard(key)
            self.grant(key)
            return chosen

    def grant(self, key: str) -> None:
        """Hold a lease."""
        with self.changed:
            self.granted[key] = time.monotonic()

    def use(self, documents: Iterable[EndpointDoc]) -> None:
        """The controller knows these endpoints: they hold their addresses from now on, the leases are no more."""
        with self.changed:
            for doc in documents:
                for address in doc["ipAddress"]:
                    key = lease_key(doc["tenantName"], doc["networkName"], ip_address(address))
                    self.granted.pop(key, None)


def _is_published(service: StreamServiceDoc) -> bool:
    return bool(service.get("publish")) and bool(service.get("publishedAddress"))


def lease_key(tenant: str, network: str, address: Address) -> str:
    """Key of a lease in the model."""
    return f"{tenant}:{network}:{address}"


def subnet_of(text: str) -> IPv4Network:
    """The subnet of a network document, which may bound what is handed out: ``a.b.c.d[-e.f.g.h]/len``."""
    first, _, length = text.partition("/")
    return IPv4Network(f"{first.partition('-')[0]}/{length}", strict=False)


def subnets_of(document: NetworkDoc) -> Subnets:
    """The subnets and gateways of a network document."""
    gateway = document.get("gateway")
    subnet6, gateway6 = document.get("ipv6Subnet"), document.get("ipv6Gateway")
    return Subnets(
        subnet_of(document["subnet"]),
        IPv4Address(gateway) if gateway else None,
        IPv6Network(subnet6) if subnet6 else None,
        IPv6Address(gateway6) if gateway6 else None,
    )


def agree(found: Subnets, wanted: Subnets) -> bool:
    """Whether a Docker network is as wanted; a gateway that Docker does not list is as wanted."""
    return wanted == found._replace(gateway=found.gateway or wanted.gateway, gateway6=found.gateway6 or wanted.gateway6)


def model_name(docker_name: str, tenant: str) -> str:
    """The model's name for a Docker network that named none: what Docker allows and the model does not is a dash.

    A name that the model takes stays as it is.
    """
    name = docker_name.removesuffix(f"/{tenant}") if tenant != DEFAULT_TENANT else docker_name
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "-" for c in name).strip("-._")
