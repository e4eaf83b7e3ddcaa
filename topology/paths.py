"""Paths over the links between switches: next hops by shortest path, and one tree for broadcast.

A function of the links and of nothing else: every switch goes by the same paths, and a restart finds them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import networkx as nx  # type: ignore[import-untyped]


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


def paths(links: Iterable[Link]) -> Paths:
    """The paths over these links."""
    graph: Any = nx.MultiGraph()
    peers: dict[End, End] = {}
    for one in sorted(links):
        graph.add_edge(one.a.switch, one.b.switch, key=one)
        peers[one.a], peers[one.b] = one.b, one.a
    hops: dict[int, dict[int, list[int]]] = {switch: {} for switch in sorted(graph)}
    for to in sorted(graph):
        distance = nx.single_source_shortest_path_length(graph, to)
        for end, peer in sorted(peers.items()):
            if end.switch in distance and distance[end.switch] == distance[peer.switch] + 1:
                hops[end.switch].setdefault(to, []).append(end.port)
    return Paths(
        peers,
        {switch: {to: tuple(ports) for to, ports in found.items()} for switch, found in hops.items()},
        _tree(graph),
    )


def _tree(graph: Any) -> dict[int, dict[int, frozenset[int]]]:
    """Breadth first from the lowest switch of each part; of parallel links, the one with the lowest ports."""
    out: dict[int, dict[int, frozenset[int]]] = {switch: {} for switch in sorted(graph)}
    for part in nx.connected_components(graph):
        tree = nx.bfs_tree(graph, min(part), sort_neighbors=sorted)
        for above, below in tree.edges:
            beyond = frozenset(nx.descendants(tree, below) | {below})
            first = min(graph[above][below])
            for end in first:
                out[end.switch][end.port] = beyond if end.switch == above else frozenset(part - beyond)
    return out


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
