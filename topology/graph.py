"""The paths that follow from the links: next hops by shortest path, and one tree for broadcast.

They depend on the links alone, so all switches use the same paths, also after a restart. Only a controller with links
imports this module: loading networkx takes a fifth of its start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import networkx as nx  # type: ignore[import-untyped]

from topology.paths import End, Link, Paths


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
