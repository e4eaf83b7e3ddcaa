"""Actions and instructions on the wire, as Open vSwitch itself would write them.

A group has no cookie: it is recognised by comparing its buckets with what the switch tells of them. So each
action is encoded in the very bytes in which Open vSwitch reads it back (its lib/ofp-actions.c); a functional
test checks that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from ryu_apps.openflow.oxm import encode_term, nicira_header
from ryu_apps.pipeline.values import (
    CONTROLLER,
    Action,
    Ct,
    CtClear,
    DecTtl,
    GroupAction,
    Learn,
    LearnLoad,
    LearnMatch,
    Move,
    Nat,
    Output,
    OutputReg,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    field_bits,
)

_NICIRA = 0x00002320
_NXAST_REG_MOVE, _NXAST_RESUBMIT_TABLE, _NXAST_OUTPUT_REG, _NXAST_LEARN = 6, 14, 15, 16
_NXAST_CT, _NXAST_NAT, _NXAST_CT_CLEAR, _NXAST_LEARN2 = 35, 36, 43, 45

_CT_COMMIT = 1
_CT_NO_TABLE = 0xFF
_NAT_SRC, _NAT_DST = 1, 2
_NAT_ADDRESS_MIN, _NAT_PROTO_MIN = {4: (1, 4), 6: (4, 16)}, 16  # by version: the bit, and an address's bytes
_RESUBMIT_SAME_PORT = 0xFFF8
_LEARN_DELETE = 2  # what was learned goes with the last flow that learns it
_LEARN_CONSTANT, _LEARN_LOAD = 1 << 13, 1 << 11

LEARNED_MAGIC = 0x4C << 56

_OUTPUT = Struct("!HHIH6x")
_GROUP = Struct("!HHI")
_MOVE = Struct("!HHIHHHH4s4s")
_RESUBMIT = Struct("!HHIHHB3x")
_OUTPUT_REG = Struct("!HHIHH4sH6x")
_CT = Struct("!HHIHHIHB3xH")
_NAT = Struct("!HHIH2xHH")
_LEARN = Struct("!HHIHHHHQHBxHH")
_LEARN_LIMIT = Struct("!IHH")  # how many, and where the result would go

_DEC_TTL = Struct("!HH4x").pack(24, 8)
_PUSH_VLAN = Struct("!HHH2x").pack(17, 8, 0x8100)
_POP_VLAN = Struct("!HH4x").pack(18, 8)
_CT_CLEAR = Struct("!HHIH6x").pack(0xFFFF, 16, _NICIRA, _NXAST_CT_CLEAR)

_SET_FIELD_HEAD = {size: Struct("!HH").pack(25, size) for size in range(0, 64, 8)}
_PAD = tuple(bytes(n) for n in range(8))

_MOST = 0xFF00  # what can fit a message, whatever stands before it


def _output(action: Output) -> bytes:
    # the switch forgets max_len unless it goes to the controller
    return _OUTPUT.pack(0, 16, action.port, action.max_len if action.port == CONTROLLER else 0)


def _group(action: GroupAction) -> bytes:
    return _GROUP.pack(22, 8, action.group_id)


def _set_field(action: SetField) -> bytes:
    if action.value >> field_bits(action.field):  # it would name another field
        raise ValueError(f"{action.field} can't be set to {action.value:#x}: it has {field_bits(action.field)} bits")
    term = encode_term((action.field, action.value, None))
    size = 4 + len(term)
    pad = -size % 8
    return _SET_FIELD_HEAD[size + pad] + term + _PAD[pad]


def _move(action: Move) -> bytes:
    bits = field_bits(action.src) if action.bits is None else action.bits
    return _MOVE.pack(
        0xFFFF, 24, _NICIRA, _NXAST_REG_MOVE, bits, 0, 0, nicira_header(action.src), nicira_header(action.dst)
    )


def _output_reg(action: OutputReg) -> bytes:
    bits = field_bits(action.reg) - 1
    return _OUTPUT_REG.pack(
        0xFFFF, 24, _NICIRA, _NXAST_OUTPUT_REG, bits, nicira_header(action.reg), action.max_len
    )


def _resubmit(action: Resubmit) -> bytes:
    return _RESUBMIT.pack(0xFFFF, 16, _NICIRA, _NXAST_RESUBMIT_TABLE, _RESUBMIT_SAME_PORT, action.table)


def _nat(nat: Nat) -> bytes:
    flags = present = 0
    body = b""
    address = nat.src if nat.src is not None else nat.dst
    if address is not None:
        flags = _NAT_SRC if nat.src is not None else _NAT_DST
        present, size = _NAT_ADDRESS_MIN[nat.version]
        body = address.to_bytes(size, "big")
        if nat.port:
            present |= _NAT_PROTO_MIN
            body += nat.port.to_bytes(2, "big")
    elif nat.port is not None:
        raise ValueError(f"{nat}: a port to translate to needs an address")
    if nat.src is not None and nat.dst is not None:
        raise ValueError(f"{nat}: translates the source or the destination, not both")
    pad = -len(body) % 8
    return _NAT.pack(0xFFFF, 16 + len(body) + pad, _NICIRA, _NXAST_NAT, flags, present) + body + _PAD[pad]


def _ct(action: Ct) -> bytes:
    nested = b"" if action.nat is None else _nat(action.nat)
    nested += encode_actions(action.exec)
    flags = _CT_COMMIT if action.commit else 0
    table = _CT_NO_TABLE if action.table is None else action.table
    size = 24 + len(nested)
    return _CT.pack(0xFFFF, size, _NICIRA, _NXAST_CT, flags, 0, action.zone, table, 0) + nested


def learned_cookie(number: int) -> int:
    """The cookie of the flows that a `Learn` of this number adds.

    Not one of ours (`codec.COOKIE_MAGIC`): a read-back must not show them, for the model knows nothing of them.
    """
    if number >> 48:
        raise ValueError(f"a learned flow's number {number:#x} does not fit 48 bits")
    return LEARNED_MAGIC | number


def _learn_spec(spec: LearnMatch | LearnLoad) -> bytes:
    kind = _LEARN_LOAD if isinstance(spec, LearnLoad) else 0
    if isinstance(spec.src, str):
        bits = field_bits(spec.src) if spec.bits is None else spec.bits
        source = nicira_header(spec.src) + _PAD[2]  # from its lowest bit
    else:
        bits = field_bits(spec.field) if spec.bits is None else spec.bits
        kind |= _LEARN_CONSTANT
        if spec.src >> bits:
            raise ValueError(f"{spec}: does not fit {bits} bits")
        source = spec.src.to_bytes((bits + 15) // 16 * 2, "big")
    if bits > field_bits(spec.field):
        raise ValueError(f"{spec}: {bits} bits do not fit {spec.field}")
    return (kind | bits).to_bytes(2, "big") + source + nicira_header(spec.field) + _PAD[2]


def _learn(action: Learn) -> bytes:
    specs = b"".join(map(_learn_spec, action.specs))
    kind = _NXAST_LEARN
    if action.limit:
        kind, specs = _NXAST_LEARN2, _LEARN_LIMIT.pack(action.limit, 0, 0) + specs
    pad = -len(specs) % 8
    head = _LEARN.pack(
        0xFFFF, 32 + len(specs) + pad, _NICIRA, kind,
        action.idle, action.hard, action.priority, learned_cookie(action.number), _LEARN_DELETE, action.table, 0, 0,
    )  # fmt: skip
    return head + specs + _PAD[pad]


# by type: a dictionary look-up costs less than isinstance() tried one after the other
_ENCODERS: dict[type, Callable[..., bytes]] = {
    Output: _output,
    OutputReg: _output_reg,
    GroupAction: _group,
    SetField: _set_field,
    Move: _move,
    DecTtl: lambda _: _DEC_TTL,
    PushVlan: lambda _: _PUSH_VLAN,
    PopVlan: lambda _: _POP_VLAN,
    Resubmit: _resubmit,
    Ct: _ct,
    CtClear: lambda _: _CT_CLEAR,
    Learn: _learn,
}


def encode_actions(actions: Sequence[Action]) -> bytes:
    """A list of actions, one after the other."""
    out = b"".join([_ENCODERS[type(action)](action) for action in actions])
    if len(out) > _MOST:
        raise ValueError(f"{len(actions)} actions take {len(out)} bytes, more than {_MOST}")
    return out


_METER = Struct("!HHI")
_APPLY = Struct("!HH4x")
_GOTO = tuple(Struct("!HHB3x").pack(1, 8, table) for table in range(256))


def encode_instructions(actions: Sequence[Action], goto: int | None, meter: int) -> bytes:
    """Meter, then apply-actions, then goto-table: the order in which the switch carries them out."""
    out = b""
    if meter:
        out = _METER.pack(6, 8, meter)
    if actions:
        body = encode_actions(actions)
        out += _APPLY.pack(4, 8 + len(body)) + body
    if goto is not None:
        out += _GOTO[goto]
    return out
