"""Which owners are to be compiled again after a change: those that look at it, as their features declare.

An input that no feature declares recompiles everything: a new kind of object costs time before it costs packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ryu_apps.pipeline.catalog import FEATURES
from ryu_apps.pipeline.context import SWITCH, Owner
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.inputs import Dependency, Input, Seen
from ryu_apps.pipeline.ways import group_of
from topology.model import Change, Endpoint, Host, Lease, Network, Object, Service, Tenant
from topology.paths import Paths
from topology.reach import TUNNEL_PORT
from topology.snapshot import Model

OWNERS = (Network, Endpoint, Service)
"""Objects with programs of their own."""
UNSEEN: tuple[type[Object], ...] = (Tenant, Lease)
"""No program depends on them: a tenant's number stays as it is for as long as it has anything."""


def owners(model: Model) -> Iterator[Owner]:
    """All owners that there are."""
    yield SWITCH
    for found in (model.networks, model.endpoints, model.services):
        for value in found.values():
            yield value.kind, value.key


class Dependents:
    """Follows what ``features`` declare."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self._declared: dict[Input, list[Dependency]] = {kind: [] for kind in UNSEEN}
        for dependency in dict.fromkeys(d for feature in features for d in feature.looks_at):
            self._declared.setdefault(dependency.on, []).append(dependency)

    def of(self, model: Model, changed: Input, value: Object | None = None) -> set[Owner]:
        """The owners that look at an input; ``value``: the object that it is about, before or after the change."""
        declared = self._declared.get(changed)
        if declared is None:
            return set(owners(model))
        return {owner for dependency in declared for owner in dependency.owners(model, value)}

    def of_changes(self, model: Model, changes: Iterable[Change]) -> set[Owner]:
        """Of a commit; ``model`` has its changes already."""
        found: set[Owner] = set()
        for change in changes:
            if _is_verdict(change):
                continue
            for value in (change.before, change.after):
                if value is None:
                    continue
                found |= self.of(model, type(value), value)
                if isinstance(value, OWNERS):
                    found.add((value.kind, value.key))
                if isinstance(value, Host):
                    found |= self.of_places(model, _endpoints_at(model, value))
        return found

    def of_places(self, model: Model, endpoints: Iterable[Endpoint]) -> set[Owner]:
        """Of where these endpoints are."""
        return {owner for endpoint in endpoints for owner in self.of(model, Seen.PLACE, endpoint)}

    def of_moves(self, model: Model, endpoints: Iterable[Endpoint]) -> set[Owner]:
        """Of whether these endpoints, which have moved, are sent to yet."""
        return {owner for endpoint in endpoints for owner in self.of(model, Seen.MOVING, endpoint)}

    def of_ports(self, model: Model, names: Iterable[str]) -> set[Owner]:
        """Of the switch's ports of these names, which came, went or have another number."""
        if TUNNEL_PORT in names:  # all that is elsewhere is reached by it
            return set(owners(model))
        return self.of(model, Seen.PORTS) if names else set()

    def of_paths(self, model: Model, dpid: int, old: Paths, new: Paths) -> set[Owner]:
        """Of the paths of the switch ``dpid``."""
        if old.of(dpid) == new.of(dpid):
            return set()
        found = self.of(model, Seen.PATHS)
        before, after = old.hops.get(dpid, {}), new.hops.get(dpid, {})
        for other in before.keys() | after.keys():
            there = other in before, other in after
            if all(there) and group_of(other, before) == group_of(other, after):
                continue  # its group's business
            found |= self.of_places(model, model.endpoints_of_switch(other))
        return found


def _is_verdict(change: Change) -> bool:
    """Whether it only says that a host is dead, or is no longer: what is compiled has that from who judges."""
    before, after = change.before, change.after
    return isinstance(before, Host) and isinstance(after, Host) and replace(before, dead=after.dead) == after


def _endpoints_at(model: Model, host: Host) -> Iterator[Endpoint]:
    """The agent's, and those that were registered at its switch by hand."""
    yield from model.endpoints_of_host(host.name)
    yield from model.endpoints_of_switch(host.switch)


DEPENDENTS = Dependents(FEATURES)
