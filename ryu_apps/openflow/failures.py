"""What can go wrong between us and a switch, and the names of what a switch answers.

    SessionError
    ├── Disconnected     the switch has gone; all is to be read back when it returns
    ├── NoAnswer         it did not answer in time: what it has done is not known
    ├── Refused          it refused a request as a whole, naming no message: nothing of it was done
    └── PartlyDone       it refused a later bundle of a change that took several: the earlier ones are done
"""

from __future__ import annotations

from ryu_apps.framework import ofproto
from ryu_apps.openflow.messages import NICIRA, ONF

_EXPERIMENTER = 0xFFFF


class SessionError(Exception):
    """Base of them all; ``str(error)`` is one line."""


class Disconnected(SessionError):
    """The connection to the switch has ended."""


class NoAnswer(SessionError, TimeoutError):
    """The switch did not answer in time."""


class Refused(SessionError):
    """The switch refused a dump or a bundle as a whole."""


class PartlyDone(SessionError):
    """Of a change that took several bundles the first are in the switch, the others are not."""


# Open vSwitch sends what OpenFlow 1.3 has no code for under its own number, or under that of ONF's extensions
# (include/openvswitch/ofp-errors.h): those that our messages can meet
_NAMES: dict[tuple[int, int], str] = {
    **{
        (ONF, 2300 + number): f"OFPBFC_{name}"
        for number, name in enumerate(
            ("UNKNOWN", "EPERM", "BAD_ID", "BUNDLE_EXIST", "BUNDLE_CLOSED", "OUT_OF_BUNDLES", "BAD_TYPE",
             "BAD_FLAGS", "MSG_BAD_LEN", "MSG_BAD_XID", "MSG_UNSUP", "MSG_CONFLICT", "MSG_TOO_MANY",
             "MSG_FAILED", "TIMEOUT", "BUNDLE_IN_PROGRESS")
        )
    },
    (ONF, 2360): "OFPFMFC_BAD_PRIORITY",
    (ONF, 2640): "OFPBRC_MULTIPART_REQUEST_TIMEOUT",
    (ONF, 2641): "OFPBRC_MULTIPART_REPLY_TIMEOUT",
    (ONF, 4250): "OFPBAC_BAD_SET_MASK",
    (NICIRA, 2): "NXBRC_NXM_INVALID",
    (NICIRA, 3): "NXBRC_NXM_BAD_TYPE",
    (NICIRA, 4): "NXBRC_MUST_BE_ZERO",
    (NICIRA, 10): "NXBRC_UNENCODABLE_ERROR",
    (NICIRA, 11): "NXBAC_MUST_BE_ZERO",
    (NICIRA, 12): "NXFMFC_HARDWARE",
    (NICIRA, 13): "NXFMFC_BAD_TABLE_ID",
    (NICIRA, 42): "NXBAC_CT_DATAPATH_SUPPORT",
    (NICIRA, 43): "NXBMC_CT_DATAPATH_SUPPORT",
}  # fmt: skip


def error_text(message: bytes) -> str:
    """An OFPT_ERROR message in words: its type and code by the names that the specification gives them."""
    kind = int.from_bytes(message[8:10], "big")
    code = int.from_bytes(message[10:12], "big")
    if kind != _EXPERIMENTER:
        return f"{ofproto.ofp_error_type_to_str(kind)} {ofproto.ofp_error_code_to_str(kind, code)}"
    experimenter = int.from_bytes(message[12:16], "big")
    name = _NAMES.get((experimenter, code), "unknown error")
    return f"experimenter {experimenter:#x}: {name}({code})"
