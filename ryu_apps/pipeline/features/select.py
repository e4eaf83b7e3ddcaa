"""Select groups: which provider a new connection goes to, by weight, for two providers or for thousands.

Open vSwitch spreads by 256 slots of a hash at the most: within a group of few buckets the shares come out right, in one of
a thousand they can't. So many providers are split into several groups, and the client's port says which is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS
from ryu_apps.pipeline.values import ANY, Action, Bucket, Group
from topology.model import Endpoint, ServicePort

UNIT = 100  # a provider of weight 1
MOST = 128  # providers of one group
PORT_SHIFT = 1  # Linux takes every other port for its connections: the lowest bit says nothing

Terms = dict[str, int | tuple[int, int]]


def group_id(port: ServicePort, part: int = 0) -> int:
    """The group of a part of a service port's providers: its stored number, and the part."""
    return port.number << GROUP_CHUNK_BITS | part


def parts(count: int) -> int:
    """Into how many groups so many providers are split: a power of two; 0 for none."""
    out = 1 if count else 0
    while count > MOST * out:
        out *= 2
    return min(out, 1 << GROUP_CHUNK_BITS)


def choices(port: ServicePort, name: str, count: int) -> Iterator[tuple[Terms, int]]:
    """What more to match, and the group to go to then; ``name``: tcp or udp, ``count``: of providers."""
    number = parts(count)
    for part in range(number):
        mask = (number - 1) << PORT_SHIFT
        yield {f"{name}_src": (part << PORT_SHIFT, mask)} if mask else {}, group_id(port, part)


def groups(
    ctx: Context,
    port: ServicePort,
    providers: Sequence[Endpoint],
    actions: Callable[[Endpoint], tuple[Action, ...]],
) -> Iterator[Group]:
    """The groups of one service port; ``actions``: what a provider's bucket does."""
    number = parts(len(providers))
    # dealt out in turns, the heavy ones first: so that the parts weigh alike
    ordered = sorted(providers, key=lambda p: (-p.weight, p.number))
    for part in range(number):
        buckets = []
        for weight, provider in _weighted(ordered[part::number]):
            here = ctx.port_of(provider)
            # a provider whose port goes down is passed over at once, by the switch itself
            watched = ANY if here is None else here
            buckets.append(Bucket(actions(provider), weight=weight, watch_port=watched))
        yield Group(group_id(port, part), "select", tuple(buckets))


def _weighted(providers: Sequence[Endpoint]) -> Iterator[tuple[int, Endpoint]]:
    """Before Open vSwitch 3.1.6, equal weights give few slots and so an uneven spread: a bucket of weight 1 beside
    heavy ones makes it use all 256, so the last provider has two buckets.
    """
    for provider in providers[:-1]:
        yield provider.weight * UNIT, provider
    last = providers[-1]
    if len(providers) == 1:
        yield last.weight * UNIT, last
    else:
        yield last.weight * UNIT - 1, last
        yield 1, last
