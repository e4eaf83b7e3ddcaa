"""Links between switches, and the paths over them: next hops, and one tree for broadcast. `graph` computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class End(NamedTuple):
    """A port of a switch, by datapath id and OpenFlow number."""

    switch: int
    port: int


class Link(NamedTuple):
    """Two ports that are joined; ``a`` is the lower one."""

    a: End
    b: End


def link(one: End, other: End) -> Link:
    """The link between two ports, whichever is named first."""
    return Link(min(one, other), max(one, other))


@dataclass(frozen=True, slots=True)
class Paths:
    """What follows from the links, by switch.

    ``hops``: the ports that lead on to each other switch; none: it is reached, but not just now. ``tree``: the ports of
    the tree, each with the switches that lie beyond.
    """

    peers: Mapping[End, End] = field(default_factory=dict)
    hops: Mapping[int, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    tree: Mapping[int, Mapping[int, frozenset[int]]] = field(default_factory=dict)

    def of(self, switch: int) -> tuple[object, ...]:
        """All that is about one switch, to compare."""
        ports = {end.port: peer for end, peer in self.peers.items() if end.switch == switch}
        return ports, self.hops.get(switch), self.tree.get(switch)


def common(one: Paths, other: Paths) -> Paths:
    """What two have in common, with all that the other one reaches.

    While some switches go by ``one`` and some by this, every packet goes by ``one``, or nowhere; likewise for
    ``other``. So a packet can't go round in a circle, as it could while some go by one and some by the other.
    """

    def kept(switch: int, port: int) -> bool:
        end = End(switch, port)
        return one.peers.get(end) == other.peers.get(end)

    hops = {
        switch: {
            to: tuple(p for p in ports if p in one.hops.get(switch, {}).get(to, ()) and kept(switch, p))
            for to, ports in found.items()
        }
        for switch, found in other.hops.items()
    }
    tree = {
        switch: {p: beyond for p, beyond in found.items() if p in one.tree.get(switch, {}) and kept(switch, p)}
        for switch, found in other.tree.items()
    }
    return Paths(other.peers, hops, tree)


def grows(one: Paths, other: Paths) -> bool:
    """Whether all that goes by ``one`` goes the same way by ``other``."""
    left = common(one, other)
    hops = all(left.hops.get(s, {}).get(to) == ports for s, found in one.hops.items() for to, ports in found.items())
    return hops and all(left.tree.get(s, {}).keys() == found.keys() for s, found in one.tree.items())
