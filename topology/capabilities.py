"""What the write door knows of the machines: a service that they could not carry out is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """``control``: where the control plane listens, as text. ``without_sctp``: the connected switches whose conntrack
    does not know SCTP's ports, each in a few words. Both are called for each service, as their answers change.
    """

    control: Callable[[], Iterable[str]] = tuple
    without_sctp: Callable[[], Sequence[str]] = tuple
