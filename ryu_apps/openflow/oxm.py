"""Match fields on the wire: OXM headers, TLVs and the ofp_match that holds them (OpenFlow 1.3.5, 7.2.3)."""

from __future__ import annotations

from ryu_apps.pipeline.fields import FIELDS, NXM_1, Field
from ryu_apps.pipeline.values import Match, Term

_NXM_0 = 0x0000

# Where a field has a Nicira header too, Open vSwitch speaks that one inside Nicira's own actions.
_NXM_TWINS: dict[str, tuple[int, int]] = {
    "eth_dst": (_NXM_0, 1),
    "eth_src": (_NXM_0, 2),
    "eth_type": (_NXM_0, 3),
    "ip_proto": (_NXM_0, 6),
    "ipv4_src": (_NXM_0, 7),
    "ipv4_dst": (_NXM_0, 8),
    "tcp_src": (_NXM_0, 9),
    "tcp_dst": (_NXM_0, 10),
    "udp_src": (_NXM_0, 11),
    "udp_dst": (_NXM_0, 12),
    "icmpv4_type": (_NXM_0, 13),
    "icmpv4_code": (_NXM_0, 14),
    "arp_op": (_NXM_0, 15),
    "arp_spa": (_NXM_0, 16),
    "arp_tpa": (_NXM_0, 17),
    "tunnel_id": (NXM_1, 16),
    "arp_sha": (NXM_1, 17),
    "arp_tha": (NXM_1, 18),
    "ipv6_src": (NXM_1, 19),
    "ipv6_dst": (NXM_1, 20),
    "icmpv6_type": (NXM_1, 21),
    "icmpv6_code": (NXM_1, 22),
    "nd_target": (NXM_1, 23),
    "nd_sll": (NXM_1, 24),
    "nd_tll": (NXM_1, 25),
}


def _header(oxm_class: int, number: int, size: int, masked: bool = False) -> int:
    return oxm_class << 16 | number << 9 | masked << 8 | (2 * size if masked else size)


def _shifted(field: Field) -> tuple[int, int, int, int, int]:
    bits = 8 * field.size
    exact = _header(field.oxm_class, field.number, field.size)
    masked = _header(field.oxm_class, field.number, field.size, masked=True)
    return exact << bits, 4 + field.size, masked << 2 * bits, bits, 4 + 2 * field.size


# name -> (exact header over its value, bytes of both, masked header, bits of a value, bytes of all three)
_HEADERS = {name: _shifted(field) for name, field in FIELDS.items()}

_NXM_HEADERS = {
    name: _header(*_NXM_TWINS.get(name, (field.oxm_class, field.number)), field.size).to_bytes(4, "big")
    for name, field in FIELDS.items()
} | {"in_port": _header(_NXM_0, 0, 2).to_bytes(4, "big")}  # 16 bits: the only form of it that can be written to

_EMPTY = bytes.fromhex("0001000400000000")
_PAD = tuple(bytes(n) for n in range(8))


def encode_term(term: Term) -> bytes:
    """One OXM TLV."""
    name, value, mask = term
    exact, size, masked, bits, masked_size = _HEADERS[name]
    if mask is None:
        return (exact | value).to_bytes(size, "big")
    return (masked | value << bits | mask).to_bytes(masked_size, "big")


def encode_match(match: Match) -> bytes:
    """A whole ofp_match, with its padding."""
    if not match:
        return _EMPTY
    body = b"".join(map(encode_term, match))
    length = 4 + len(body)
    return b"\x00\x01" + length.to_bytes(2, "big") + body + _PAD[-length % 8]


def nicira_header(name: str) -> bytes:
    """The header by which Nicira's actions (move, output to a register) name a field."""
    return _NXM_HEADERS[name]
