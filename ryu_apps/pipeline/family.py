"""The two families of addresses: what each calls the same thing. Features loop over them and are written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ryu_apps.pipeline.fields import ETH_IP, ETH_IPV6, ICMP, ICMPV6
from topology.model import Address, Endpoint, Network


@dataclass(frozen=True, slots=True)
class Family:
    """One family: numbers and names of match fields."""

    version: int
    bits: int  # of an address
    eth_type: int
    src: str  # match fields
    dst: str
    ct_dst: str  # of the connection's first packet
    icmp: int  # protocol
    icmp_type: str
    icmp_code: str
    echo_request: int  # types
    echo_reply: int
    errors: tuple[int, ...]  # types of errors that are about a connection
    later: int | None  # the protocol that flows are shown of a later fragment; None: the packet's own
    spoilt: bool  # Open vSwitch 3.1 changes two bytes of a later fragment, where a flow sets its address
    hidden: int  # an endpoint's hidden address is this plus its number

    def address(self, value: int) -> Address:
        """An address by its bits."""
        return IPv4Address(value) if self.version == 4 else IPv6Address(value)

    def of(self, held: Iterable[Address]) -> int | None:
        """The first address of this family among those that something holds."""
        return next((int(address) for address in held if address.version == self.version), None)

    def hidden_of(self, endpoint: Endpoint) -> int:
        """The endpoint's hidden address: what traffic straight to its service ports is sent to inside the switch."""
        return self.hidden + endpoint.number

    def subnet(self, network: Network) -> tuple[int, int] | None:
        """The network's subnet, as a value and its mask."""
        found = network.subnet if self.version == 4 else network.subnet6
        return None if found is None else (int(found.network_address), int(found.netmask))

    def gateway(self, network: Network) -> int | None:
        """The address by which the network is routed; None: it is not, as it has no gateway or is internal."""
        if network.internal:
            return None
        found = network.gateway if self.version == 4 else network.gateway6
        return None if found is None else int(found)


V4 = Family(
    version=4, bits=32, eth_type=ETH_IP, src="ipv4_src", dst="ipv4_dst", ct_dst="ct_nw_dst",
    icmp=ICMP, icmp_type="icmpv4_type", icmp_code="icmpv4_code", echo_request=8, echo_reply=0,
    errors=(3, 11, 12),  # unreachable (also: fragmentation needed), time exceeded, parameter problem
    later=None,
    spoilt=True,
    hidden=250 << 24,  # 250.0.0.0/8
)  # fmt: skip
V6 = Family(
    version=6, bits=128, eth_type=ETH_IPV6, src="ipv6_src", dst="ipv6_dst", ct_dst="ct_ipv6_dst",
    icmp=ICMPV6, icmp_type="icmpv6_type", icmp_code="icmpv6_code", echo_request=128, echo_reply=129,
    errors=(1, 2, 3, 4),  # unreachable, packet too big, time exceeded, parameter problem
    later=44,
    spoilt=False,
    hidden=0x0100 << 112,  # 100::/64, which nobody routes (RFC 6666)
)  # fmt: skip
FAMILIES = (V4, V6)
BY_VERSION = {family.version: family for family in FAMILIES}
BY_ETH_TYPE = {family.eth_type: family for family in FAMILIES}


UNIVERSAL = 1 << 57  # the bit of an interface identifier that is a MAC's universal/local bit, turned over


def link_local(mac: int) -> int:
    """The address that a host has on its link by its MAC (RFC 4291, appendix A)."""
    identifier = mac >> 24 << 40 | 0xFFFE << 24 | mac & 0xFFFFFF
    return 0xFE80 << 112 | identifier ^ UNIVERSAL


def each(held: Iterable[Address]) -> Iterator[tuple[Family, int]]:
    """Each address that something holds, with its family."""
    for address in held:
        yield BY_VERSION[address.version], int(address)


def source(packet: Mapping[str, int]) -> Address:
    """Where an IP packet comes from."""
    family = of_packet(packet)
    return family.address(packet[family.src])


def destination(packet: Mapping[str, int]) -> Address:
    """Where an IP packet goes to."""
    family = of_packet(packet)
    return family.address(packet[family.dst])


def of_packet(packet: Mapping[str, int]) -> Family:
    """The family of an IP packet; of another, that which its missing fields make no difference to."""
    return BY_ETH_TYPE.get(packet.get("eth_type", 0), V4)


__all__ = [
    "BY_ETH_TYPE", "BY_VERSION", "FAMILIES", "V4", "V6", "Family",
    "destination", "each", "link_local", "of_packet", "source",
]  # fmt: skip
