"""Hosts that are seen on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from topology.model import Address


@dataclass(frozen=True, slots=True)
class Seen:
    """A host without an agent, seen on the wire. ``instead_of``: the id of the learned one whose address it has now."""

    network: str  # key
    mac: str
    address: Address
    switch: int
    port_name: str
    port_mac: str = ""
    instead_of: str = ""
