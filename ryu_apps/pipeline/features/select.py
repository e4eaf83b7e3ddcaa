"""Select groups: which provider a new connection goes to, by weight, for two providers or for thousands.

Open vSwitch spreads by 256 slots of a hash at the most: among a few providers the shares come out right, among many
they can't. So many providers are split into several groups, and the client's port (with affinity: its address) says
which is asked: as many groups as it takes for each provider's share to be right within `TOLERANCE`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import Family
from ryu_apps.pipeline.features.scopes import Choice, Scope
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS, GROUP_INSIDE, GROUP_V6, GROUP_WAY
from ryu_apps.pipeline.terms import Terms
from ryu_apps.pipeline.values import ANY, Action, Bucket, Group
from topology.model import ServicePort

SLOTS = 256  # of the hash
MOST = 1 << GROUP_CHUNK_BITS  # groups of one service port
TOLERANCE = 0.05  # of a provider's share
MANY = 512  # buckets of all groups together, from which on a provider has few of them
PORT_SHIFT = 1  # Linux takes every other port for its connections: the lowest bit says nothing
CLIENT_PORT = {"TCP": ("tcp_src", PORT_SHIFT), "UDP": ("udp_src", PORT_SHIFT), "SCTP": ("sctp_src", PORT_SHIFT)}



def group_id(family: Family, port: ServicePort, part: int = 0, *, inside: bool = False) -> int:
    """The group of a part of a service port's providers: its stored number, and the part. ``inside``: of those that
    the clients in the VIP's own network may get, where the others may not get all of them.
    """
    kind = (GROUP_V6 if family.version == 6 else 0) | (GROUP_INSIDE if inside else 0)
    return kind | port.number << GROUP_CHUNK_BITS | part


def of(group: int) -> int:
    """What the groups of one service port, family and scope have in common."""
    return group >> GROUP_CHUNK_BITS


def port_number(group: int) -> int:
    """The stored number of the service port that a group is of."""
    return of(group & ~(GROUP_V6 | GROUP_INSIDE))


def stand_ins(group: int) -> Iterator[int]:
    """Where connections of a group go once there are fewer: the first of these groups that is there. A group that leads
    to another switch, or broadcasts, has none.
    """
    if group & GROUP_WAY:
        return
    part, found = group % MOST, {group}
    for head in dict.fromkeys((group - part, (group - part) & ~GROUP_INSIDE)):
        for bits in range(GROUP_CHUNK_BITS, -1, -1):
            other = head | part % (1 << bits)
            if other not in found:
                found.add(other)
                yield other


def choices(
    family: Family, port: ServicePort, by: tuple[str, int], scope: Scope
) -> Iterator[tuple[Terms, int]]:
    """What more to match, and the group to go to then. ``by``: the field that says which of the groups, and the
    bits of it to pass over.
    """
    number = len(shared_out(_weights(scope)))
    field, shift = by
    for part in range(number):
        mask = (number - 1) << shift
        yield {field: (part << shift, mask)} if mask else {}, group_id(family, port, part, inside=bool(scope.network))


def groups(
    ctx: Context,
    family: Family,
    port: ServicePort,
    scope: Scope,
    actions: Callable[[Choice], tuple[Action, ...]],
) -> Iterator[Group]:
    """The groups of one service port in one scope; ``actions``: what a provider's bucket does."""
    for part, slots in enumerate(shared_out(_weights(scope))):
        buckets = []
        for position, weight in slots:
            choice = scope.choices[position]
            here = ctx.port_of(choice.at)
            # a provider whose port goes down is passed over at once, by the switch itself
            watched = ANY if here is None else here
            buckets.append(Bucket(actions(choice), weight=weight, watch_port=watched))
        yield Group(group_id(family, port, part, inside=bool(scope.network)), "select", tuple(buckets))


def _weights(scope: Scope) -> tuple[int, ...]:
    return tuple(choice.at.weight for choice in scope.choices)


@lru_cache(maxsize=1024)
def shared_out(weights: tuple[int, ...]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The groups, a power of two of them, each with its buckets: (position in ``weights``, slots of `SLOTS`)."""
    if not weights:
        return ()
    number = 1
    while number < MOST and not _exact_enough(weights, number * SLOTS):
        number *= 2
    all_slots = [position for position, share in enumerate(shares(weights, number * SLOTS)) for _ in range(share)]
    if number * len(weights) <= MANY:
        # each in all of the groups: where the port of one goes down, there is another
        parts = [all_slots[part::number] for part in range(number)]
    else:
        parts = [all_slots[at : at + SLOTS] for at in range(0, len(all_slots), SLOTS)]
    return tuple(tuple(_buckets(part)) for part in parts)


def _buckets(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Open vSwitch takes as many slots as the sum of the weights over the least of them, rounded up to a power of two:
    too few spread unevenly (as equal weights do before 3.1.6), and for more than 256 it hashes each connection by
    itself, with an upcall for each, and not in proportion. So there are 256, and one bucket has one of them.
    """
    weights = Counter(slots)
    last = max(weights)
    if len(weights) > 1 and 1 not in weights.values():
        weights[last] -= 1
        yield from weights.items()
        yield last, 1
    else:
        yield from weights.items()


def shares(weights: Sequence[int], slots: int) -> list[int]:
    """``slots`` shared out in proportion, at least one each; what is left over goes by the largest remainder."""
    total = sum(weights)
    out = [max(1, slots * weight // total) for weight in weights]
    left = slots - sum(out)
    at_least_one = [i for i, weight in enumerate(weights) if slots * weight >= total]
    by_remainder = sorted(at_least_one, key=lambda i: slots * weights[i] % total, reverse=True)
    for position in by_remainder[: max(0, left)]:
        out[position] += 1
    for _ in range(left, 0):  # too many, as some would have had none
        out[out.index(max(out))] -= 1
    return out


def _exact_enough(weights: Sequence[int], slots: int) -> bool:
    total = sum(weights)
    if slots * min(weights) < total:
        return False
    return all(
        abs(share * total / (slots * weight) - 1) <= TOLERANCE
        for share, weight in zip(shares(weights, slots), weights, strict=True)
    )
