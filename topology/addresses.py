"""Which addresses of a network are spoken for; finds the lowest free one without a scan in Python."""

from __future__ import annotations

from collections.abc import Iterator

from topology.model import Endpoint, Lease, Network, Service

Holder = Network | Service | Endpoint | Lease
"""Who may hold an address: a network (by its gateway), a service, an endpoint, a granted lease."""

PAGE_BITS = 12
PAGE = 1 << PAGE_BITS


class AddressMap:
    """A set of addresses as numbers, in pages of one byte an address; only pages with a mark exist."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def mark(self, address: int) -> None:
        """Add an address."""
        page = self._pages.get(address >> PAGE_BITS)
        if page is None:
            page = self._pages[address >> PAGE_BITS] = bytearray(PAGE)
        page[address & (PAGE - 1)] = 1

    def clear(self, address: int) -> None:
        """Take an address out; one that is not in is no error."""
        page = self._pages.get(address >> PAGE_BITS)
        if page is not None:
            page[address & (PAGE - 1)] = 0
            if 1 not in page:  # of an IPv6 subnet there are more pages than fit anywhere
                del self._pages[address >> PAGE_BITS]

    def __contains__(self, address: int) -> bool:
        page = self._pages.get(address >> PAGE_BITS)
        return page is not None and page[address & (PAGE - 1)] == 1

    def lowest_free(self, first: int, last: int) -> int | None:
        """The lowest address in ``first..last`` (inclusive) that is not marked."""
        while first <= last:
            number = first >> PAGE_BITS
            page = self._pages.get(number)
            if page is None:
                return first
            base = number << PAGE_BITS
            found = page.find(0, first - base, min(PAGE, last - base + 1))
            if found >= 0:
                return base + found
            first = base + PAGE
        return None

    def highest_free(self, first: int, last: int) -> int | None:
        """The highest address in ``first..last`` (inclusive) that is not marked."""
        while first <= last:
            number = last >> PAGE_BITS
            page = self._pages.get(number)
            if page is None:
                return last
            base = number << PAGE_BITS
            found = page.rfind(0, max(0, first - base), last - base + 1)
            if found >= 0:
                return base + found
            last = base - 1
        return None


class Space:
    """The addresses of one network as numbers: who holds which, and which were freed of late.

    Both families are in one: numbers below 2^32 are IPv4, and no network has IPv6 addresses as low (::/8 is reserved).
    """

    def __init__(self) -> None:
        self.holders: dict[int, Holder] = {}
        self.cooling: dict[int, Lease] = {}  # oldest release first
        self._busy = AddressMap()

    def hold(self, address: int, holder: Holder) -> None:
        self.holders[address] = holder
        self._busy.mark(address)

    def drop(self, address: int) -> None:
        self.holders.pop(address, None)
        if address not in self.cooling:
            self._busy.clear(address)

    def cool(self, lease: Lease) -> None:
        address = int(lease.address)
        self.cooling[address] = lease
        self._busy.mark(address)

    def thaw(self, address: int) -> None:
        self.cooling.pop(address, None)
        if address not in self.holders:
            self._busy.clear(address)

    def lowest_free(self, first: int, last: int) -> int | None:
        """The lowest address in ``first..last`` that is neither held nor cooling."""
        return self._busy.lowest_free(first, last)

    def highest_free(self, first: int, last: int) -> int | None:
        """The highest one."""
        return self._busy.highest_free(first, last)

    def older_than(self, now: float, seconds: float) -> Iterator[Lease]:
        """Cooling leases released ``seconds`` ago or earlier, oldest first."""
        for lease in self.cooling.values():
            if lease.released is not None and 0 <= now - lease.released < seconds:
                return
            yield lease

    @property
    def empty(self) -> bool:
        return not self.holders and not self.cooling
