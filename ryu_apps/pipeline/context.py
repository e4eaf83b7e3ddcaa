"""What a feature sees while it compiles: the model, and where things are as seen from one switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ryu_apps.pipeline.values import Flow, Group
from topology.model import Address, Endpoint, Host, Network, Service, ServicePort
from topology.reach import host_address6
from topology.snapshot import Model

Owner = tuple[str, str]
"""Whose flows they are: (kind, key), kind one of network, endpoint, service, switch."""

SWITCH: Owner = ("switch", "")


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
    """The model as seen from the switch ``dpid``. ``ports``: its port names to OpenFlow numbers."""

    model: Model
    dpid: int
    ports: Mapping[str, int] = field(default_factory=dict)
    sctp: bool = False  # whether the switch's conntrack knows SCTP's ports

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
        """Whether a packet finds it from here: at a port of this switch, or on another switch."""
        where = self.switch_of(endpoint)
        return where != 0 and (where != self.dpid or self.port_of(endpoint) is not None)

    @property
    def host(self) -> Host | None:
        """The host that this switch is on; None: nobody's, or one without an address towards its containers."""
        found = self.model.by_switch(self.dpid)
        return found if found is not None and found.number else None

    @property
    def host_addresses(self) -> tuple[Address, ...]:
        """This switch's host, as its containers see it; nothing where there is none."""
        host = self.host
        return () if host is None or host.address is None else (host.address, host_address6(host.number))

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
