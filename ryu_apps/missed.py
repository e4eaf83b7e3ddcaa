"""Connections that ended in the model while a switch was away, or its controller: they still have to be flushed.

A change flushes the connections that it ends. A switch that was not connected at that time flushed nothing, and
neither did a controller that was killed just after the change. So when a switch connects, the store's log tells what
has changed lately, and all connections that this can have ended are named here. Naming too many costs little: the
flusher leaves alone what is wanted now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ryu_apps.flush import Entries
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import Context
from topology.model import Commit, Endpoint, Host, Object, Service
from topology.reach import TUNNEL_PORT
from topology.snapshot import Model

LOOK_BACK = 256  # commits before the last one that the switch is known to have carried out

Key = tuple[str, str]  # kind and key of an object
Serving = Endpoint | Service


def missed(model: Model, commits: Iterable[Commit], others: Iterable[Endpoint], seen: Context) -> frozenset[Entries]:
    """What a switch may still track of connections that ended with these commits.

    ``others``: endpoints of the model whose ports are down or gone, as their switches say. ``seen``: the model as seen
    from the switch.
    """
    changes = [change for commit in commits for change in commit.changes]
    before: list[Object] = [change.before for change in changes if change.before is not None]
    versions = _versions([*before, *others])
    around: dict[Key, Object] = {_key(value): value for value in before if not isinstance(value, Endpoint | Service)}
    found: set[Entries] = set()
    for layer in range(max(map(len, versions.values()), default=0)):
        changed = [known[min(layer, len(known) - 1)] for known in versions.values()]
        then = _as_it_was(model, changed, around)
        ports = dict.fromkeys((TUNNEL_PORT, *(endpoint.port_name for endpoint in then.endpoints.values())), 1)
        # no switch says of its ports that they are down: connections were made while they were up
        ctx = replace(seen, model=then, ports=ports, dead=frozenset(), moving=frozenset(), switches={})
        concerned: list[Object] = [*then.endpoints.values(), *then.services.values()]
        for value in concerned:
            found.update(compiler.connections(ctx, _key(value)))
    return frozenset(found)


def _key(value: Object) -> Key:
    return value.kind, value.key


def _versions(before: Iterable[Object]) -> dict[Key, list[Serving]]:
    """What each endpoint and service has been, oldest first."""
    versions: dict[Key, list[Serving]] = {}
    for value in before:
        if isinstance(value, Endpoint | Service):
            known = versions.setdefault(_key(value), [])
            if (version := _serving(value)) not in known:
                known.append(version)
    return versions


def _serving(value: Serving) -> Serving:
    """An object in the state in which it keeps the most connections."""
    if isinstance(value, Service):
        return replace(value, check=None)
    return replace(value, state="running", health="", passed=(), drained=(), draining_since=0.0, no_way_back="")


def _as_it_was(model: Model, changed: Iterable[Serving], around: Mapping[Key, Object]) -> Model:
    """A model of the changed objects and of what they have to do with, with what has gone since from ``around``."""
    objects: dict[Key, Serving] = {_key(value): value for value in changed}
    for value in list(objects.values()):
        near: Iterable[Serving] = model.selected_by(value) if isinstance(value, Endpoint) else model.providers(value)
        for one in near:
            objects.setdefault(_key(one), _serving(one))

    def whole(one: Serving) -> bool:
        names = (("tenant", one.tenant), ("network", one.network_key))
        return all(name in around or model.get(*name) is not None for name in names)

    there = [one for one in objects.values() if whole(one)]
    needed = {("tenant", one.tenant) for one in there} | {("network", one.network_key) for one in there}
    needed |= {("host", host) for host in (*model.hosts, *(key for kind, key in around if kind == "host"))}
    made = Model()
    made.load(model.revision, [*(_first(model.get(*name), around.get(name)) for name in sorted(needed)), *there])
    return made


def _first(now: Object | None, before: Object | None) -> Object:
    found = now if now is not None else before
    assert found is not None
    return replace(found, draining_since=0.0) if isinstance(found, Host) else found
