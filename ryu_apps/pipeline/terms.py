"""Terms that several features match: what conntrack says of a packet, fragments, protocols, special addresses."""

from __future__ import annotations

from ryu_apps.pipeline.fields import CT_DNAT, CT_INV, CT_TRK, SCTP, TCP, UDP
from ryu_apps.pipeline.values import CONTROLLER, Output

Terms = dict[str, int | tuple[int, int]]
"""Fields to values, or (value, mask): what `values.match` takes."""

PROTOCOLS = {"TCP": (TCP, "tcp"), "UDP": (UDP, "udp"), "SCTP": (SCTP, "sctp")}
"""Of services: their number in IP, and how their fields begin."""

TO_CONTROLLER = (Output(CONTROLLER, 0xFFFF),)  # the whole packet

# ct_state
UNTRACKED, TRACKED = (0, CT_TRK), (CT_TRK, CT_TRK)
# What makes no sense to conntrack, but belongs to a connection that it has translated, is for both ends to judge: TCP's
# way out of a connection that only one of them remembers is an acknowledgment and a reset, and these do not fit.
MISFIT = CT_INV | CT_DNAT

# ip_frag
FRAGMENT, NO_FRAGMENT = (1, 1), (0, 1)
FIRST, LATER, NOT_LATER = (1, 3), (3, 3), (0, 2)

ARP_REQUEST, ARP_REPLY = 1, 2  # arp_op
LINK_LOCAL = (0xA9FE0000, 0xFFFF0000)  # 169.254.0.0/16
LINK_LOCAL6 = (0xFE80 << 112, 0xFFC0 << 112)  # fe80::/10


def known(state: int) -> tuple[int, int]:
    """A ct_state match: tracked, and all bits of ``state`` set."""
    return (CT_TRK | state, CT_TRK | state)
