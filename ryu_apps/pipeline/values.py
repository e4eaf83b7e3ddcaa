"""Flows and groups as plain, hashable values. What they look like on the wire is the codec's business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ryu_apps.pipeline.fields import FIELDS

Term = tuple[str, int, int | None]
"""One field of a match: (name, value, mask); mask None: exact."""

Match = tuple[Term, ...]

IN_PORT = 0xFFFFFFF8
CONTROLLER = 0xFFFFFFFD
LOCAL = 0xFFFFFFFE  # the bridge's own port: the host
LOCAL_IN_REGISTER = 0xFFFE  # the same where a register names the port: there Open vSwitch takes its own 16 bits
ANY = 0xFFFFFFFF


class FieldError(ValueError):
    """A value that its field can't hold."""


def match(**terms: int | tuple[int, int]) -> Match:
    """A match in canonical order; a value is an integer, or (value, mask).

    Raises ValueError for an unknown field, bits outside the mask, or a missing prerequisite (say ``tcp_dst`` without
    ``ip_proto=6``), FieldError for a value wider than its field: the switch would refuse those too.
    """
    out: list[Term] = []
    for name, wanted in terms.items():
        field = FIELDS.get(name)
        if field is None:
            raise ValueError(f"no match field {name}")
        value, mask = wanted if isinstance(wanted, tuple) else (wanted, None)
        if value >> field.bits or (mask is not None and (not field.maskable or mask >> field.bits)):
            raise FieldError(f"{name}={value:#x}/{mask}: does not fit {field.bits} bits, or can't be masked")
        if mask is not None and value & ~mask:
            raise ValueError(f"{name}={value:#x}/{mask:#x}: bits outside the mask")
        for other, allowed in field.needs:
            if terms.get(other) not in allowed:
                raise ValueError(f"{name} needs {other} to be one of {allowed}")
        out.append((name, value, mask))
    # OXM order: a field stands after its prerequisites
    out.sort(key=lambda t: (FIELDS[t[0]].oxm_class != 0x8000, FIELDS[t[0]].oxm_class, FIELDS[t[0]].number))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Output:
    """To a port; ``max_len`` counts only for CONTROLLER (0xffff: the whole packet)."""

    port: int
    max_len: int = 0


@dataclass(frozen=True, slots=True)
class OutputReg:
    """To the port whose number is in a register (NXAST_OUTPUT_REG)."""

    reg: str
    max_len: int = 0


@dataclass(frozen=True, slots=True)
class GroupAction:
    """To a group."""

    group_id: int


@dataclass(frozen=True, slots=True)
class SetField:
    """Set a whole field (OFPAT_SET_FIELD)."""

    field: str
    value: int


@dataclass(frozen=True, slots=True)
class Move:
    """Copy ``bits`` low bits of one field to another (NXAST_REG_MOVE); None: the source's whole width."""

    src: str
    dst: str
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class DecTtl:
    """Decrement the TTL (OFPAT_DEC_NW_TTL)."""


@dataclass(frozen=True, slots=True)
class PushVlan:
    """Push an 802.1Q tag (OFPAT_PUSH_VLAN)."""


@dataclass(frozen=True, slots=True)
class PopVlan:
    """Pop the outer tag (OFPAT_POP_VLAN)."""


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look up again in ``table`` and come back (NXAST_RESUBMIT_TABLE)."""

    table: int


@dataclass(frozen=True, slots=True)
class Nat:
    """Inside `Ct`: translate. All None: by the entry of the connection. Else set one address, maybe a port."""

    src: int | None = None
    dst: int | None = None
    port: int | None = None
    version: int = 4  # of the address


@dataclass(frozen=True, slots=True)
class Ct:
    """Through conntrack (NXAST_CT). ``table`` None: no recirculation.

    ``exec``: with ``commit``, what sets the connection's ``ct_mark``; also that of one that is known already.
    """

    zone: int
    table: int | None = None
    commit: bool = False
    nat: Nat | None = None
    exec: tuple[SetField | Move, ...] = ()


@dataclass(frozen=True, slots=True)
class CtClear:
    """Forget what conntrack said of this packet (NXAST_CT_CLEAR)."""


@dataclass(frozen=True, slots=True)
class LearnMatch:
    """Inside `Learn`: the learned flow matches ``field`` against a constant, or a field of this packet by name.

    ``bits``: this many low ones; None: the whole width (of the packet's field, or for a constant of ``field``).
    """

    field: str
    src: int | str
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class LearnLoad:
    """Inside `Learn`: the learned flow sets ``field`` to a constant, or to what this packet has in a field."""

    field: str
    src: int | str
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class Learn:
    """Add a flow that this packet describes to ``table`` (NXAST_LEARN).

    ``limit``: as many flows of its number at the most; more are not learned (NXAST_LEARN2, Open vSwitch 2.8); 0: no
    limit. It lasts ``idle`` seconds without a packet and ``hard`` seconds in all (0: no such limit). ``number``, of 48
    bits, is in its cookie (`openflow.actions.learned_cookie`): what was learned under one number in one table is
    deleted with the last flow that learns it. In a bucket it does nothing: resubmit from there to a flow with it.
    """

    table: int
    priority: int
    specs: tuple[LearnMatch | LearnLoad, ...]
    idle: int = 0
    hard: int = 0
    number: int = 0
    limit: int = 0


Action = (
    Output
    | OutputReg
    | GroupAction
    | SetField
    | Move
    | DecTtl
    | PushVlan
    | PopVlan
    | Resubmit
    | Ct
    | CtClear
    | Learn
)


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow: no actions and no goto is a drop. ``meter`` 0: none."""

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    meter: int = 0
    kind: int = 0  # 0..255: a `FlowKind`, for the cookie

    def __post_init__(self) -> None:
        if self.goto is not None and self.goto <= self.table:
            raise ValueError(f"table {self.table}: goto {self.goto} does not go forward")


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket. ``weight`` counts only in select groups; ``watch_port`` ANY: always live."""

    actions: tuple[Action, ...]
    weight: int = 0
    watch_port: int = ANY


@dataclass(frozen=True, slots=True)
class Group:
    """A group: ``type`` is all, select, indirect or ff (fast failover)."""

    id: int
    type: str
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter that drops what exceeds ``rate`` packets a second (after ``burst`` packets)."""

    id: int
    rate: int
    burst: int


def field_bits(name: str) -> int:
    """Width of a field in bits."""
    return FIELDS[name].bits


def terms(m: Match) -> dict[str, Any]:
    """The match as a dictionary, for reading in tests and traces."""
    return {name: value if mask is None else (value, mask) for name, value, mask in m}
