"""Ways to other switches. What is between two switches is one thing to the features, whether it is a tunnel or links.

A packet takes a way after it was routed: it has the MAC and the network of where it goes, and no more of the tenant's
addresses is looked at on the way. The far switch sends it on by these two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ryu_apps.pipeline.fields import VLAN_PRESENT
from ryu_apps.pipeline.tables import GROUP_WAY, WAY_BITS
from ryu_apps.pipeline.values import Action, GroupAction, Output, PushVlan, SetField
from topology import validate
from topology.model import Network

VLAN_VNIS = validate.ENCAPS["vxlan"] + 1  # plus its tag: of a VLAN network
LOW = (1 << WAY_BITS) - 1


class Way(Protocol):
    """From one switch to another."""

    def actions(self, network: Network) -> tuple[Action, ...]:
        """What sends a packet of the network on; nothing: this way does not carry the network."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """To another host: out of ``port``, with the other host's tunnel address."""

    port: int
    address: int

    def actions(self, network: Network) -> tuple[Action, ...]:
        """The network is told by the VNI."""
        return (
            SetField("tun_ipv4_dst", self.address),
            SetField("tunnel_id", vni(network)),
            Output(self.port),
        )


@dataclass(frozen=True, slots=True)
class Path:
    """To another switch of a fabric: by a group that knows the next hops, whichever they are."""

    group: int

    def actions(self, network: Network) -> tuple[Action, ...]:
        """The network is told by an 802.1Q tag; there is none for more networks than there are tags."""
        return (*tagged(network), GroupAction(self.group)) if network.vlan else ()


def group_of(dpid: int, others: Iterable[int]) -> int:
    """The group that leads to a switch: by the low bits of its id, or by the next free ones where another has them."""
    low = dpid & LOW
    if all(other & LOW != low or other == dpid for other in others):
        return GROUP_WAY | low
    taken: dict[int, int] = {}
    for other in sorted(others):
        number = other & LOW
        while number in taken.values():
            number = (number + 1) & LOW
        taken[other] = number
    return GROUP_WAY | taken[dpid]


def is_way(group: int) -> bool:
    """Whether a group leads to another switch."""
    return group & ~LOW == GROUP_WAY


def tagged(network: Network) -> tuple[Action, ...]:
    """What puts the network's tag on a packet."""
    return (PushVlan(), SetField("vlan_vid", VLAN_PRESENT | network.vlan))


def vni(network: Network) -> int:
    """The network's number in a tunnel."""
    return VLAN_VNIS + network.tag if network.encap == "vlan" else network.tag
