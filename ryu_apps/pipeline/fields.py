"""Match fields, declared once: their OXM header, width and prerequisites.

Class 0x8000 is OpenFlow's own (specification 1.3.5, 7.2.3.7), class 0x0001 is Nicira's NXM_1, class 0x1000 Open
vSwitch's for the rest of neighbour discovery (ovs-fields(7)). Values are plain integers: an IPv4 address is its 32
bits, an IPv6 address its 128, a MAC its 48.
"""

from __future__ import annotations

from dataclasses import dataclass

OPENFLOW_BASIC = 0x8000
NXM_1 = 0x0001
ERICSSON = 0x1000


@dataclass(frozen=True, slots=True)
class Field:
    """One match field. ``bits`` is its width; ``needs`` names fields that a match must fix as well."""

    name: str
    oxm_class: int
    number: int
    bits: int
    needs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    maskable: bool = False

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return (self.bits + 7) // 8


ETH_ARP, ETH_IP, ETH_IPV6, ETH_LLDP = 0x0806, 0x0800, 0x86DD, 0x88CC
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136  # types of ICMPv6 (RFC 4861)

_IP = (("eth_type", (ETH_IP,)),)
_IPV6 = (("eth_type", (ETH_IPV6,)),)
_L4 = (("eth_type", (ETH_IP, ETH_IPV6)),)
_ARP = (("eth_type", (ETH_ARP,)),)
_TCP = (("ip_proto", (TCP,)),)
_UDP = (("ip_proto", (UDP,)),)
_SCTP = (("ip_proto", (SCTP,)),)
_CT_L4 = (("ct_nw_proto", (TCP, UDP, SCTP)),)
_ICMP = (("ip_proto", (ICMP,)),)
_ICMPV6 = (("ip_proto", (ICMPV6,)),)
_NS = (("icmpv6_type", (NEIGHBOUR_SOLICITATION,)),)
_NA = (("icmpv6_type", (NEIGHBOUR_ADVERTISEMENT,)),)
_ND = (("icmpv6_type", (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT)),)


def _of(name: str, number: int, bits: int, needs: tuple[tuple[str, tuple[int, ...]], ...] = (),
        maskable: bool = False) -> Field:
    return Field(name, OPENFLOW_BASIC, number, bits, needs, maskable)


def _nx(name: str, number: int, bits: int, needs: tuple[tuple[str, tuple[int, ...]], ...] = (),
        maskable: bool = True) -> Field:
    return Field(name, NXM_1, number, bits, needs, maskable)


FIELDS: dict[str, Field] = {
    f.name: f
    for f in (
        _of("in_port", 0, 32),
        _of("eth_dst", 3, 48, maskable=True),
        _of("eth_src", 4, 48, maskable=True),
        _of("eth_type", 5, 16),
        _of("vlan_vid", 6, 13, maskable=True),
        _of("ip_proto", 10, 8, _L4),
        _of("ipv4_src", 11, 32, _IP, maskable=True),
        _of("ipv4_dst", 12, 32, _IP, maskable=True),
        _of("tcp_src", 13, 16, _TCP, maskable=True),
        _of("tcp_dst", 14, 16, _TCP, maskable=True),
        _of("udp_src", 15, 16, _UDP, maskable=True),
        _of("udp_dst", 16, 16, _UDP, maskable=True),
        _of("sctp_src", 17, 16, _SCTP, maskable=True),
        _of("sctp_dst", 18, 16, _SCTP, maskable=True),
        _of("icmpv4_type", 19, 8, _ICMP),
        _of("icmpv4_code", 20, 8, _ICMP),
        _of("arp_op", 21, 16, _ARP),
        _of("arp_spa", 22, 32, _ARP, maskable=True),
        _of("arp_tpa", 23, 32, _ARP, maskable=True),
        _of("arp_sha", 24, 48, _ARP),
        _of("arp_tha", 25, 48, _ARP),
        _of("ipv6_src", 26, 128, _IPV6, maskable=True),
        _of("ipv6_dst", 27, 128, _IPV6, maskable=True),
        _of("icmpv6_type", 29, 8, _ICMPV6),
        _of("icmpv6_code", 30, 8, _ICMPV6),
        _of("nd_target", 31, 128, _ND, maskable=True),
        _of("nd_sll", 32, 48, _NS),
        _of("nd_tll", 33, 48, _NA),
        _of("tunnel_id", 38, 64, maskable=True),
        *(_nx(f"reg{n}", n, 32) for n in range(9)),
        _nx("ip_frag", 26, 8, _L4),  # bit 0: a fragment; bit 1: not the first one
        _nx("ip_ttl", 29, 8, _L4, maskable=False),
        _nx("tun_ipv4_dst", 32, 32),
        _nx("tcp_flags", 34, 16, _TCP),
        _nx("ct_state", 105, 32),
        _nx("ct_zone", 106, 16, maskable=False),
        _nx("ct_mark", 107, 32),
        _nx("ct_nw_dst", 121, 32, _IP),  # where the connection's first packet was sent to
        _nx("ct_ipv6_dst", 123, 128, _IPV6),
        # of the connection's first packet, as its client sent it
        _nx("ct_nw_proto", 119, 8, maskable=False),
        _nx("ct_tp_dst", 125, 16, _CT_L4),
        # what neighbour discovery has beside its target: flags, and the type of its first option
        Field("nd_reserved", ERICSSON, 1, 32, _ND),
        Field("nd_options_type", ERICSSON, 2, 8, _ND),
    )
}

TCP_SYN, TCP_RST, TCP_ACK = 0x02, 0x04, 0x10  # bits of tcp_flags
VLAN_PRESENT = 0x1000  # in vlan_vid: there is a tag (OFPVID_PRESENT)

# bits of ct_state (ovs-fields(7))
CT_NEW, CT_EST, CT_REL, CT_RPL, CT_INV, CT_TRK, CT_SNAT, CT_DNAT = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
