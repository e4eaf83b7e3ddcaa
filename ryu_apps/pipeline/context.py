"""What a feature sees while it compiles: the model, and where things are as seen from one switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ryu_apps.pipeline.values import Action, Flow, Group
from ryu_apps.pipeline.ways import Path, Tunnel, Way, group_of
from topology.model import Address, Endpoint, Host, Network, Service, ServicePort, Tenant
from topology.observed import Switch
from topology.paths import Paths
from topology.reach import TUNNEL_PORT, host_addresses
from topology.snapshot import Model

Owner = tuple[str, str]
"""Whose flows they are: (kind, key), kind one of network, endpoint, service, switch."""

SWITCH: Owner = ("switch", "")
NO_PATHS = Paths()


class Translation(NamedTuple):
    """Connections that conntrack may translate: those of ``zone`` to ``vip:port`` that went to ``to:target``.

    In the second zone ``vip`` is the provider already, and its client, itself, is ``seen`` as the VIP.
    """

    zone: int
    ip_proto: int
    vip: int  # or a hidden address
    port: int
    to: int
    target: int
    seen: int = 0  # the client's address as the provider sees it; 0: any
    version: int = 4  # of the addresses

    @property
    def front(self) -> int:
        """The VIP or hidden address that stands before the provider."""
        return self.seen or self.vip


class Outgoing(NamedTuple):
    """Connections that conntrack may translate: those of ``zone`` that ``own`` begins, shown as ``hidden``."""

    zone: int
    own: int
    hidden: int
    version: int = 4  # of the addresses


@dataclass(frozen=True, slots=True)
class Program:
    """What one owner wants on one switch: flows, groups, and which connections may be in conntrack."""

    flows: tuple[Flow, ...] = ()
    groups: tuple[Group, ...] = ()
    translations: tuple[Translation | Outgoing, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """The model as seen from the switch ``dpid``. ``ports``: its port names to OpenFlow numbers. ``dead``: names of
    hosts that are not there now. ``paths``: of the fabric, where switches without a host are joined. ``moving``: ids of
    endpoints that nobody sends to just now. ``switches``: those that are connected, as they say they are.
    """

    model: Model
    dpid: int
    ports: Mapping[str, int] = field(default_factory=dict)
    sctp: bool = False  # whether the switch's conntrack knows SCTP's ports
    dead: frozenset[str] = frozenset()
    paths: Paths = NO_PATHS
    moving: frozenset[str] = frozenset()
    switches: Mapping[int, Switch] = field(default_factory=dict)

    def switch_of(self, endpoint: Endpoint) -> int:
        """Datapath id of the endpoint's switch; 0 while its host is unknown."""
        if not endpoint.host:
            return endpoint.switch
        host = self.model.hosts.get(endpoint.host)
        return 0 if host is None else host.switch

    def port_of(self, endpoint: Endpoint) -> int | None:
        """The endpoint's port on this switch; None: it is elsewhere, or not plugged in yet."""
        if self.switch_of(endpoint) != self.dpid:
            return None
        return self.ports.get(endpoint.port_name)

    def reachable(self, endpoint: Endpoint) -> bool:
        """Whether a packet finds it from here: at a port of this switch, or by a way to a switch that is there."""
        if self.port_of(endpoint) is not None:
            return True
        return endpoint.host not in self.dead and not self.unplugged(endpoint) and bool(self._there(endpoint))

    def unplugged(self, endpoint: Endpoint) -> bool:
        """Whether its switch is connected and has no port of it: its container is gone, or not there yet."""
        there = self.switches.get(self.switch_of(endpoint))
        return there is not None and there.port_number(endpoint.port_name) is None

    def linked(self, endpoint: Endpoint) -> bool:
        """Whether a new connection finds it. Here the switch itself passes over a port that is down; elsewhere, this
        switch does not know.
        """
        return self.reachable(endpoint) and (self.switch_of(endpoint) == self.dpid or self.up(endpoint))

    def up(self, endpoint: Endpoint) -> bool:
        """Whether its port has a link, as far as its switch says."""
        there = self.switches.get(self.switch_of(endpoint))
        return there is None or there.has_link(endpoint.port_name)

    def way(self, dpid: int) -> Way | None:
        """From this switch to another one; None: there is none now."""
        if dpid in self.hops:
            return Path(group_of(dpid, self.hops))
        port, host = self.ports.get(TUNNEL_PORT), self.model.by_switch(dpid)
        if dpid == self.dpid or port is None or host is None or host.tunnel_address is None:
            return None
        return Tunnel(port, int(host.tunnel_address))

    @property
    def hops(self) -> Mapping[int, tuple[int, ...]]:
        """The ports that lead on to each other switch of the fabric."""
        return self.paths.hops.get(self.dpid, {})

    @property
    def links(self) -> list[int]:
        """The ports with a switch at their other end."""
        return sorted(end.port for end in self.paths.peers if end.switch == self.dpid)

    def onward(self, endpoint: Endpoint) -> tuple[Action, ...]:
        """What sends a packet on to an endpoint at another switch; nothing: it is here, or there is no way now."""
        return () if endpoint.id in self.moving else self._there(endpoint)

    def _there(self, endpoint: Endpoint) -> tuple[Action, ...]:
        way = self.way(self.switch_of(endpoint))
        return () if way is None else way.actions(self.network_of(endpoint))

    @property
    def host(self) -> Host | None:
        """The host that this switch is on; None: nobody's, or one without an address towards its containers."""
        found = self.model.by_switch(self.dpid)
        return found if found is not None and found.number else None

    @property
    def host_addresses(self) -> tuple[Address, ...]:
        """This switch's host, as its containers see it; nothing where there is none."""
        host = self.host
        return () if host is None else host_addresses(host)

    def vips(self, service: Service) -> tuple[Address, ...]:
        """The service's VIPs, and the address that its published ports lead to here."""
        if service.published and self.host is not None:
            return (*service.vips, service.published_address)
        return service.vips

    def ports_of(self, service: Service) -> tuple[ServicePort, ...]:
        """The service's ports that this switch can translate."""
        return tuple(p for p in service.ports if self.sctp or p.protocol != "SCTP")

    def network_of(self, endpoint: Endpoint) -> Network:
        """The endpoint's network."""
        return self.model.networks[endpoint.network_key]

    def endpoint_at(self, zone: int, address: Address) -> Endpoint | None:
        """Who has an address in the tenant of this number, if a container or host does."""
        tenant = self.model.by_number("tenant", zone)
        if not isinstance(tenant, Tenant):
            return None
        for network in self.model.networks_around(address):
            holder = self.model.holder(network.key, address)
            if network.tenant == tenant.name and isinstance(holder, Endpoint):
                return holder
        return None

    def zone(self, tenant: str) -> int:
        """The tenant's number, which is its conntrack zone."""
        return self.model.tenants[tenant].number

    @property
    def learns(self) -> bool:
        """Whether hosts are learned from their ARP here: where no agent says what there is."""
        return all(host.switch != self.dpid for host in self.model.hosts.values())


@lru_cache(maxsize=65536)
def mac_int(mac: str) -> int:
    """A MAC in text as its 48 bits."""
    return int(mac.replace(":", ""), 16)
