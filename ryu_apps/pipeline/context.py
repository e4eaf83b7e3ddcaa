"""What a feature sees while it compiles: the model, and where things are as seen from one switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address

from ryu_apps.pipeline.tables import HIDDEN_BASE
from ryu_apps.pipeline.values import Flow, Group
from topology.model import Endpoint, Network
from topology.snapshot import Model

Owner = tuple[str, str]
"""Whose flows they are: (kind, key), kind one of network, endpoint, service, switch."""

SWITCH: Owner = ("switch", "")


@dataclass(frozen=True, slots=True)
class Program:
    """The flows and groups of one owner on one switch."""

    flows: tuple[Flow, ...] = ()
    groups: tuple[Group, ...] = ()


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
