"""What a feature sees while it compiles: the model, and where things are as seen from one switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address
from typing import NamedTuple

from ryu_apps.pipeline.tables import HIDDEN_BASE
from ryu_apps.pipeline.values import Flow, Group
from topology.model import Endpoint, Network
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

    @property
    def front(self) -> int:
        """The VIP or hidden address that stands before the provider."""
        return self.seen or self.vip


@dataclass(frozen=True, slots=True)
class Program:
    """What one owner wants on one switch: flows, groups, and which connections may be in conntrack."""

    flows: tuple[Flow, ...] = ()
    groups: tuple[Group, ...] = ()
    translations: tuple[Translation, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """The model as seen from the switch ``dpid``. ``ports``: its port names to OpenFlow numbers."""

    model: Model
    dpid: int
    ports: Mapping[str, int] = field(default_factory=dict)

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


def ip_int(address: IPv4Address) -> int:
    """An address as its 32 bits."""
    return int(address)


def hidden(endpoint: Endpoint) -> int:
    """The endpoint's hidden address: what traffic straight to its service ports is sent to inside the switch."""
    return HIDDEN_BASE + endpoint.number
