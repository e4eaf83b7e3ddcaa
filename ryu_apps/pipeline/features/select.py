"""Select groups: which provider a new connection goes to, by weight, for two providers or for thousands.

Open vSwitch spreads by 256 slots of a hash at the most: within a group of few buckets the shares come out right, in
one of a thousand they can't. So many providers are split into several groups, and the client's port (with affinity: its
address) says which is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS
from ryu_apps.pipeline.values import ANY, Action, Bucket, Group
from topology.model import Endpoint, ServicePort

SLOTS = 256  # of the hash
MOST = 128  # providers of one group
PORT_SHIFT = 1  # Linux takes every other port for its connections: the lowest bit says nothing
CLIENT_PORT = {"TCP": ("tcp_src", PORT_SHIFT), "UDP": ("udp_src", PORT_SHIFT)}
CLIENT_ADDRESS = ("ipv4_src", 0)

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


def choices(port: ServicePort, by: tuple[str, int], count: int) -> Iterator[tuple[Terms, int]]:
    """What more to match, and the group to go to then. ``by``: the field that says which of the parts, and the
    bits of it to pass over; ``count``: of providers.
    """
    number = parts(count)
    field, shift = by
    for part in range(number):
        mask = (number - 1) << shift
        yield {field: (part << shift, mask)} if mask else {}, group_id(port, part)


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
    """The slots shared out by weight. Open vSwitch takes as many slots as the sum of the weights over the least of
    them, rounded up to a power of two: too few spread unevenly (as equal weights do before 3.1.6), and for more than
    256 it hashes each connection by itself, with an upcall for each. So there are 256, and one bucket has one of them.
    """
    if len(providers) == 1:
        yield SLOTS, providers[0]
        return
    shares = _shares([p.weight for p in providers])
    yield from zip(shares[:-1], providers[:-1], strict=True)
    if shares[-1] > 1:
        yield shares[-1] - 1, providers[-1]
    yield 1, providers[-1]


def _shares(weights: Sequence[int]) -> list[int]:
    """``SLOTS`` shared out in proportion, at least one each; what is over or short goes by the largest error."""
    exact = [SLOTS * weight / sum(weights) for weight in weights]
    shares = [max(1, int(share)) for share in exact]
    while sum(shares) != SLOTS:
        step = 1 if sum(shares) < SLOTS else -1
        able = [i for i, share in enumerate(shares) if share + step >= 1]
        shares[max(able, key=lambda i: step * (exact[i] - shares[i]))] += step
    return shares
