"""What the write door hands out: numbers, addresses, tags, subnets. Nothing freed comes back at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from itertools import chain
from typing import Any

from topology.errors import Conflict
from topology.indexes import POOLS
from topology.model import Address

LIMITS = {
    "tenant": 0x7FFF,  # a tenant has two conntrack zones, of 16 bits
    "network": 2**24 - 8,  # of a group's id, which ends at 0xffffff00, its part has 6 bits and two say what it is
    "service": 2**24 - 1,
    # of a group's id, its part has 8 bits; one says the family, one for whom it is, and one that it is no port's at all
    "port": 2**21 - 1,
    "endpoint": 2**24 - 1,
    "host": 0x7FFF,  # half of 169.254.0.0/16
    "vlan": 4094,  # IEEE 802.1Q: 0 and 4095 are none
}
REMEMBERED = 1024  # freed numbers a pool that stay out of use longest

COOLING_SECONDS = 60.0

PICK_FROM = IPv4Network("10.224.0.0/12")
PICK_LENGTH = 24


class NumberPool:
    """Numbers 1..limit. First each once, upwards; after that round and round.

    Then numbers in use and the last ones freed are passed over; when nothing else is left, the one freed
    longest ago is taken. A store keeps ``last`` and the ring of the freed in a few values of bounded size.
    """

    def __init__(self, name: str, limit: int, meta: Mapping[str, Any], used: Container[int]) -> None:
        self.name = name
        self.limit = limit
        """ValueError: a meta value can't be one of these."""
        self.last, self.releases = _pair(meta, f"pool.{name}") or (0, 0)
        self.freed: OrderedDict[int, None] = OrderedDict()  # oldest first
        slots = (_pair(meta, f"freed.{name}.{slot}") for slot in range(REMEMBERED))
        for _, number in sorted(slot for slot in slots if slot is not None):
            if number not in used:
                self.freed[number] = None
                self.freed.move_to_end(number)

    def next(self, after: int, *taken: Container[int]) -> int:
        """The number to hand out after ``after``, in none of ``taken``; `Conflict` where there is none."""
        for number in chain(range(after + 1, self.limit + 1), range(1, min(after, self.limit) + 1)):
            if number not in self.freed and not any(number in t for t in taken):
                return number
        for number in self.freed:
            if not any(number in t for t in taken):
                return number
        raise Conflict(f"all {self.limit} {self.name} numbers are in use: delete a {self.name} first")

    def committed(self, last: int, taken: Iterable[int], freed: Iterable[int]) -> None:
        """Take over what a transaction did."""
        self.last = last
        for number in taken:
            self.freed.pop(number, None)
        for number in freed:
            self.releases += 1
            self.freed[number] = None
            self.freed.move_to_end(number)
            if len(self.freed) > REMEMBERED:
                self.freed.popitem(last=False)

    def follow(self, taken: Sequence[int], freed: Iterable[int]) -> None:
        """Take over what somebody else's transaction did."""
        last = max(taken, key=lambda number: (number - self.last - 1) % self.limit, default=self.last)
        self.committed(last, taken, freed)

    def meta(self, last: int, freed: Iterable[int]) -> Iterator[tuple[str, Any]]:
        """What a store must set for `committed` to be remembered."""
        releases = self.releases
        for number in freed:
            releases += 1
            yield f"freed.{self.name}.{releases % REMEMBERED}", [releases, number]
        if (last, releases) != (self.last, self.releases):
            yield f"pool.{self.name}", [last, releases]


def _pair(meta: Mapping[str, Any], name: str) -> tuple[int, int] | None:
    """Two numbers that the store keeps under a name."""
    found = meta.get(name)
    if found is None:
        return None
    if not isinstance(found, list | tuple) or len(found) != 2 or not all(type(n) is int and n >= 0 for n in found):
        raise ValueError(f"meta value {name} can't be {str(found)[:60]}: right are two numbers")
    return found[0], found[1]


def number_pools(meta: Mapping[str, Any], used: Mapping[str, Container[int]]) -> dict[str, NumberPool]:
    """All pools, from a store's meta values and the numbers in use."""
    return {name: NumberPool(name, LIMITS[name], meta, used[name]) for name in POOLS}


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """The lowest /24 of `PICK_FROM` that overlaps none of ``taken``."""
    size = 1 << (32 - PICK_LENGTH)
    low, count = int(PICK_FROM.network_address), PICK_FROM.num_addresses // size
    used = bytearray(count)
    for net in taken:
        if net.overlaps(PICK_FROM):
            first = max(0, (int(net.network_address) - low) // size)
            last = min(count - 1, (int(net.broadcast_address) - low) // size)
            used[first : last + 1] = b"\1" * (last + 1 - first)
    found = used.find(0)
    return None if found < 0 else IPv4Network((low + found * size, PICK_LENGTH))


def mac_of(address: Address) -> str:
    """A locally administered MAC made of an address: who gets the address next is right in old ARP caches."""
    return "02:42:" + address.packed[-4:].hex(":")
