"""Whether objects that come from outside, a store or a file, can be a model together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from topology.allocate import LIMITS
from topology.errors import Conflict
from topology.indexes import held_by, network_of, numbers_of
from topology.model import Address, Change, Endpoint, Host, Network, Object, Service, Tenant
from topology.snapshot import Model

EARLIER_LIMITS = {**LIMITS, "port": 2**24 - 1}
"""What may be in a store: an earlier version gave larger numbers to ports, which are replaced when it is loaded."""


def check(
    objects: Iterable[Object],
    limits: Mapping[str, int] = LIMITS,
    elsewhere: Callable[[str, str], bool] = lambda kind, key: False,
) -> None:
    """Conflict: two of them have what only one may have, or one names what is not there, or a number is too large.

    ``elsewhere``: whether there is an object of that kind and key that is not among them.
    """
    objects = list(objects)
    there = {(o.kind, o.key) for o in objects}
    taken: dict[tuple[Any, ...], Object] = {}
    for value in objects:
        for what, _ in _claims(value):
            other = taken.setdefault(what, value)
            if other is not value:
                raise Conflict(f"{_name(value)} and {_name(other)} both have {' '.join(map(str, what))}")
        for kind, key in _needs(value):
            if (kind, key) not in there and not elsewhere(kind, key):
                raise Conflict(f"{_name(value)} needs {kind} {key}, which is not there")
        for pool, number in numbers_of(value):
            if not 0 < number <= limits[pool]:
                raise Conflict(f"{_name(value)} has {pool} number {number}, out of 1 to {limits[pool]}")


def check_changes(model: Model, changes: Sequence[Change], limits: Mapping[str, int] = LIMITS) -> None:
    """Conflict: with these changes, the model would not be one. Costs as much as the changes, not as the model."""
    gone = {(c.before.kind, c.before.key) for c in changes if c.before is not None}
    after = [c.after for c in changes if c.after is not None]
    removed = gone - {(o.kind, o.key) for o in after}
    others = [other for value in after for _, owner in _claims(value) if (other := owner(model)) is not None]
    others += [other for kind, key in removed for other in _dependants(model, kind, key)]
    staying = {(o.kind, o.key): o for o in others if (o.kind, o.key) not in gone}

    def stays(kind: str, key: str) -> bool:
        return (kind, key) not in gone and model.get(kind, key) is not None

    check([*after, *staying.values()], limits, stays)


def _dependants(model: Model, kind: str, key: str) -> Iterator[Object]:
    """What the model has that needs an object."""
    if kind == Tenant.kind:
        yield from model.networks_of(key)
    elif kind == Network.kind:
        yield from model.services_of(key)
        yield from model.endpoints_of(key)
        yield from model.leases_of(key)
    elif kind == Service.kind:
        yield from model.judged(key)


def _claims(value: Object) -> Iterator[tuple[tuple[Any, ...], Callable[[Model], Object | None]]]:
    """What only one object may have, each with who has it in a model."""
    yield ("the name", value.kind, value.key), lambda model: model.get(value.kind, value.key)
    for pool, number in numbers_of(value):
        yield (f"{pool} number", number), partial(Model.by_number, pool=pool, number=number)
    for address in held_by(value):
        network = network_of(value) or ""
        yield ("address", address, "of", network), partial(_holder, network=network, address=address)
    if isinstance(value, Network):
        yield (value.encap, "tag", value.tag), lambda model: model.by_tag(value.encap, value.tag)
    elif isinstance(value, Endpoint):
        yield ("MAC", value.mac, "in", value.network_key), lambda model: model.by_mac(value.network_key, value.mac)
    elif isinstance(value, Service):
        for one in value.published:
            owner = partial(Model.published, port=one.port, protocol=one.protocol)
            yield ("host port", one.port, one.protocol), owner
    elif isinstance(value, Host) and value.switch:
        yield ("switch", f"{value.switch:016x}"), lambda model: model.by_switch(value.switch)


def _holder(model: Model, network: str, address: Address) -> Object | None:
    space = model.space(network)
    return None if space is None else space.holders.get(int(address))


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
