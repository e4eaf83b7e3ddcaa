"""Whether objects that come from outside, a store or a file, can be a model together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from topology.allocate import LIMITS
from topology.errors import Conflict
from topology.model import Endpoint, Host, Network, Object, Service, Tenant
from topology.snapshot import held_by, network_of, numbers_of

EARLIER_LIMITS = {**LIMITS, "port": 2**24 - 1}
"""What may be in a store: an earlier version gave larger numbers to ports, which are replaced when it is loaded."""


def check(objects: Iterable[Object], limits: Mapping[str, int] = LIMITS) -> None:
    """Conflict: two of them have what only one may have, or one names what is not there, or a number is too large."""
    objects = list(objects)
    there = {(o.kind, o.key) for o in objects}
    taken: dict[tuple[Any, ...], Object] = {}
    for value in objects:
        for what in _claims(value):
            other = taken.setdefault(what, value)
            if other is not value:
                raise Conflict(f"{_name(value)} and {_name(other)} both have {' '.join(map(str, what))}")
        for kind, key in _needs(value):
            if (kind, key) not in there:
                raise Conflict(f"{_name(value)} needs {kind} {key}, which is not there")
        for pool, number in numbers_of(value):
            if not 0 < number <= limits[pool]:
                raise Conflict(f"{_name(value)} has {pool} number {number}, out of 1 to {limits[pool]}")


def _claims(value: Object) -> Iterator[tuple[Any, ...]]:
    yield ("the name", value.kind, value.key)
    for pool, number in numbers_of(value):
        yield (f"{pool} number", number)
    for address in held_by(value):
        yield ("address", address, "of", network_of(value))
    if isinstance(value, Network):
        yield (value.encap, "tag", value.tag)
    elif isinstance(value, Endpoint):
        yield ("MAC", value.mac, "in", value.network_key)
    elif isinstance(value, Service):
        for one in value.published:
            yield "host port", one.port, one.protocol
    elif isinstance(value, Host) and value.switch:
        yield ("switch", f"{value.switch:016x}")


def _needs(value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Network):
        yield Tenant.kind, value.tenant
    network = network_of(value)
    if network is not None and not isinstance(value, Network):
        yield Network.kind, network
    if isinstance(value, Endpoint):
        for key in {*value.passed, *value.drained}:
            yield Service.kind, key


def _name(value: Object) -> str:
    return f"{value.kind} {value.key}"
