"""Connections that ended while a switch was away from its controller: they still have to be flushed.

A change flushes the connections that it ends, but only in the switches that are connected, and only if the controller
lives long enough. So when a switch connects, this module reads the changes of late from the store's log and names all
connections that they can have ended. Naming too many costs little: the flusher leaves alone what is wanted now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


def missed(model: Model, commits: Iterable[Commit], seen: Context) -> frozenset[Entries]:
    """The connections that a switch may still track although they ended: by these commits, or because a host died or a
    port went down. ``seen``: the model as seen from the switch.
    """
    before = [change.before for commit in commits for change in commit.changes if change.before is not None]
    versions = _versions([*before, *_lost(model, seen)])
    around: dict[Key, Object] = {}
    for value in before:
        if not isinstance(value, Endpoint | Service):
            around.setdefault(_key(value), value)
    found: set[Entries] = set()
    for layer in range(max(map(len, versions.values()), default=0)):
        changed = [known[min(layer, len(known) - 1)] for known in versions.values()]
        then = _as_it_was(model, changed, around)
        ports = dict.fromkeys((TUNNEL_PORT, *(endpoint.port_name for endpoint in then.endpoints.values())), 1)
        # without what switches say of their ports: the connections were made while these were up
        ctx = replace(seen, model=then, ports=ports, dead=frozenset(), moving=frozenset(), switches={})
        concerned: list[Object] = [*then.endpoints.values(), *then.services.values()]
        for value in concerned:
            found.update(compiler.connections(ctx, _key(value)))
    return frozenset(found)


def _lost(model: Model, seen: Context) -> Iterator[Endpoint]:
    """Endpoints of the model that no packet reaches now: their host is dead, or their port is down or gone."""
    for host in seen.dead:
        yield from model.endpoints_of_host(host)
    for dpid, switch in seen.switches.items():
        yield from (endpoint for endpoint in model.endpoints_on(dpid) if not switch.has_link(endpoint.port_name))


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
    """A model of the changed objects and of what they have to do with. ``around``: what other objects were before."""
    objects: dict[Key, Serving] = {_key(value): value for value in changed}
    for value in list(objects.values()):
        near: Iterable[Serving] = model.selected_by(value) if isinstance(value, Endpoint) else model.providers(value)
        for one in near:
            objects.setdefault(_key(one), _serving(one))
    places: dict[Key, Object] = {_key(host): host for host in model.hosts.values()}
    there = []
    for one in objects.values():
        names = (("tenant", one.tenant), ("network", one.network_key))
        found = {name: around.get(name) or model.get(*name) for name in names}
        if all(found.values()):
            there.append(one)
            places |= {name: place for name, place in found.items() if place is not None}
    places |= {name: value for name, value in around.items() if name[0] == Host.kind}
    made = Model()
    made.load(model.revision, [*map(_in_service, places.values()), *there])
    return made


def _in_service(place: Object) -> Object:
    return replace(place, draining_since=0.0) if isinstance(place, Host) else place
