"""What the write door has to know of the machines: a service that none of them could carry out is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Both are asked anew for each service: switches connect, and controllers tell each other of their listeners.

    ``control``: where the control plane listens, as text. ``without_sctp``: the connected switches whose conntrack does
    not know SCTP's ports, each in a few words.
    """

    control: Callable[[], Iterable[str]] = tuple
    without_sctp: Callable[[], Sequence[str]] = tuple
