"""One transaction in the making: the model with changes laid over it, and nothing written yet."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, cast

from topology.addresses import Holder, Space
from topology.allocate import COOLING_SECONDS, NumberPool
from topology.capabilities import Capabilities
from topology.errors import Conflict, NotFound
from topology.indexes import POOLS, held_by, network_of, numbers_of
from topology.model import Address, Change, Endpoint, Lease, Network, Object, Service, Tenant
from topology.snapshot import Model
from topology.validate import show, subnet_text

Slot = tuple[str, int]
"""(network key, address)"""
Family = tuple[str, int]
"""(network key, IP version)"""


class Draft:
    """What the model would be. Dropping a draft undoes it."""

    def __init__(
        self,
        model: Model,
        pools: Mapping[str, NumberPool],
        now: float,
        capabilities: Capabilities = Capabilities(),  # noqa: B008 - immutable
    ) -> None:
        self.model = model
        self.capabilities = capabilities
        self.now = now
        self._pools = pools
        self._after: dict[tuple[str, str], Object | None] = {}
        self._holders: dict[Slot, Holder | None] = {}
        self._macs: dict[tuple[str, str], Endpoint | None] = {}
        self._last = {name: pool.last for name, pool in pools.items()}
        self._taken: dict[str, set[int]] = {name: set() for name in pools}
        self._searched: dict[Family, int] = {}  # no address below is free
        self._expired: dict[Family, list[int]] = {}  # heap of addresses that have cooled down

    # reading

    def get(self, kind: str, key: str) -> Object | None:
        """The object of this kind and key as it would be."""
        if (kind, key) in self._after:
            return self._after[kind, key]
        return self.model.get(kind, key)

    def tenant(self, name: str) -> Tenant:
        """A tenant that must exist."""
        found = self.get("tenant", name)
        if not isinstance(found, Tenant):
            raise NotFound(f"Tenant {show(name)} not found")
        return found

    def network(self, tenant: str, name: str) -> Network:
        """A network that must exist."""
        self.tenant(tenant)
        found = self.get("network", f"{tenant}:{name}")
        if not isinstance(found, Network):
            raise NotFound(f"Network {show(name)} not found in tenant {tenant}")
        return found

    def lease(self, network_key: str, address: Address) -> Lease | None:
        """The lease, granted or cooling, on an address."""
        found = self.get("lease", f"{network_key}:{address}")
        return found if isinstance(found, Lease) else None

    def holder(self, network_key: str, address: Address) -> Holder | None:
        """Who holds an address; a network holds its gateway."""
        slot = (network_key, int(address))
        if slot in self._holders:
            return self._holders[slot]
        space = self.model.space(network_key)
        return None if space is None else space.holders.get(int(address))

    def by_mac(self, network_key: str, mac: str) -> Endpoint | None:
        """The endpoint of a network with this MAC address."""
        if (network_key, mac) in self._macs:
            return self._macs[network_key, mac]
        return self.model.by_mac(network_key, mac)

    # writing

    def put(self, value: Object) -> None:
        """Lay an object over what is. Addresses let go start to cool; leases on those taken are used up."""
        self._replace(self.get(value.kind, value.key), value)

    def delete(self, value: Object) -> None:
        """Lay the absence of an object over what is."""
        self._replace(self.get(value.kind, value.key), None)

    def drop_leases(self, network: Network) -> None:
        """Forget every lease of a network that goes."""
        laid = [v for v in self._after.values() if isinstance(v, Lease) and v.network_key == network.key]
        for lease in (*self.model.leases_of(network.key), *laid):
            self.delete(lease)

    def release(self, lease: Lease) -> Lease:
        """Let a granted lease cool."""
        cooling = Lease(lease.tenant, lease.network, lease.address, released=self.now)
        self.put(cooling)
        return cooling

    def number(self, pool: str) -> int:
        """A number out of a pool; taken for good only by `changes` that are committed."""
        number = self._pools[pool].next(self._last[pool], self.model.used_numbers(pool), self._taken[pool])
        self._last[pool] = number
        self._taken[pool].add(number)
        return number

    def free_address(self, network: Network, version: int) -> Address:
        """The IPv4 or IPv6 address to hand out: none held, none freed just now unless nothing else is left.

        The lowest one; where Docker's own IPAM driver hands out the lowest ones, the highest.
        """
        found = self._highest(network, version) if network.docker_ipam else self._lowest(network, version)
        if found is None:
            found = self._coolest(network, version)
        if found is None:
            text = subnet_text(network) if version == 4 else str(network.subnet6)
            raise Conflict(f"auto allocation failed - address exhaustion in subnet {text}")
        return ip_address(found)

    # the result

    def changes(self) -> tuple[Change, ...]:
        """What differs from the model. Leases that have cooled down go with a write to their network."""
        out = []
        touched: dict[str, None] = {}
        for (kind, key), after in self._after.items():
            before = self.model.get(kind, key)
            if before == after:
                continue
            out.append(Change(before, after))
            some = after if after is not None else before
            network = None if some is None else network_of(some)
            if network is not None:
                touched[network] = None
        for key in touched:
            space = self.model.space(key)
            for lease in () if space is None else space.older_than(self.now, COOLING_SECONDS):
                if ("lease", lease.key) not in self._after:
                    out.append(Change(lease, None))
        return tuple(out)

    def meta(self, changes: tuple[Change, ...]) -> dict[str, Any]:
        """The values that a store keeps about numbers."""
        freed = _freed(changes)
        return {
            key: value
            for name, pool in self._pools.items()
            for key, value in pool.meta(self._last[name], freed[name])
        }

    def committed(self, changes: tuple[Change, ...]) -> None:
        """Tell the pools that this draft counts."""
        freed = _freed(changes)
        for name, pool in self._pools.items():
            pool.committed(self._last[name], self._taken[name], freed[name])

    # parts

    def _replace(self, before: Object | None, after: Object | None) -> None:
        some = after if after is not None else before
        if before == after or some is None:
            return
        self._after[some.kind, some.key] = after
        if isinstance(before, Endpoint):
            self._macs[before.network_key, before.mac] = None
        if isinstance(after, Endpoint):
            self._macs[after.network_key, after.mac] = after
        old, new = _slots(before), _slots(after)
        for slot, address in old.items():
            if slot not in new:
                self._holders[slot] = None
                if isinstance(before, Service | Endpoint):
                    self.put(Lease(before.tenant, before.network, address, released=self.now))
        for slot, address in new.items():
            if slot not in old and not isinstance(after, Lease):
                lease = self.lease(slot[0], address)
                if lease is not None:
                    self.delete(lease)
            self._holders[slot] = cast(Holder, after)

    def _lowest(self, network: Network, version: int) -> int | None:
        key, family = network.key, (network.key, version)
        first, last = network.handed_out(version)
        space = self.model.space(key) or Space()
        found = space.lowest_free(self._searched.get(family, first), last)
        while found is not None and self._laid_on(key, found):
            found = space.lowest_free(found + 1, last)
        self._searched[family] = last + 1 if found is None else found
        if family not in self._expired:
            expired = (int(lease.address) for lease in space.older_than(self.now, COOLING_SECONDS))
            self._expired[family] = [a for a in expired if first <= a <= last]
            heapq.heapify(self._expired[family])
        heap = self._expired[family]
        while heap and self._laid_on(key, heap[0]):
            heapq.heappop(heap)
        if heap and (found is None or heap[0] < found):
            found = heap[0]
        return found

    def _highest(self, network: Network, version: int) -> int | None:
        first, last = network.handed_out(version)
        space = self.model.space(network.key) or Space()
        found = space.highest_free(first, last)
        while found is not None and self._laid_on(network.key, found):
            found = space.highest_free(first, found - 1)
        expired = (int(lease.address) for lease in space.older_than(self.now, COOLING_SECONDS))
        free = [a for a in expired if first <= a <= last and not self._laid_on(network.key, a)]
        return max(free if found is None else [*free, found], default=None)

    def _coolest(self, network: Network, version: int) -> int | None:
        first, last = network.handed_out(version)
        space = self.model.space(network.key) or Space()
        for address in space.cooling:
            if first <= address <= last and not self._laid_on(network.key, address):
                return address
        for value in self._after.values():
            if (
                isinstance(value, Lease)
                and value.network_key == network.key
                and value.released is not None
                and first <= int(value.address) <= last
            ):
                return int(value.address)
        return None

    def _laid_on(self, network_key: str, address: int) -> bool:
        """Whether this draft has given the address to somebody, or has freed it."""
        if self._holders.get((network_key, address)) is not None:
            return True
        return ("lease", f"{network_key}:{ip_address(address)}") in self._after


def follow(pools: Mapping[str, NumberPool], changes: tuple[Change, ...]) -> None:
    """Tell the pools of what somebody else has committed."""
    taken, freed = _freed(tuple(Change(c.after, c.before) for c in changes)), _freed(changes)
    for name, pool in pools.items():
        pool.follow(taken[name], freed[name])


def _slots(value: Object | None) -> dict[Slot, Address]:
    network = None if value is None else network_of(value)
    if value is None or network is None:
        return {}
    return {(network, int(address)): address for address in held_by(value)}


def _freed(changes: tuple[Change, ...]) -> dict[str, list[int]]:
    freed: dict[str, list[int]] = {pool: [] for pool in POOLS}
    for change in changes:
        if change.before is not None:
            kept = set() if change.after is None else set(numbers_of(change.after))
            for pool, number in numbers_of(change.before):
                if (pool, number) not in kept:
                    freed[pool].append(number)
    return freed
