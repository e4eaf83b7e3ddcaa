"""What may have ended while a switch was away: if it is not named, its clients keep sending to nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ryu_apps.flush import Entries
from ryu_apps.missed import missed
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import Context, Translation
from ryu_apps.pipeline.dependents import owners
from tests.kit.packets import W1
from tests.kit.several import PORTS_OF, W3, A, on_hosts
from tests.kit.world import model_of
from topology.model import Change, Commit, Endpoint, Object, Tenant
from topology.snapshot import Model

DEFAULT = ("tenant", "default")


def all_of(model: Model) -> set[Entries]:
    """All connections that the first switch may track, while everything is there."""
    seen = Context(model, A, PORTS_OF[A])
    return {entry for owner in owners(model) for entry in compiler.connections(seen, owner)}


def to(address: int, found: frozenset[Entries] | set[Entries]) -> set[Entries]:
    """Those that a provider has."""
    return {one for one in found if isinstance(one, Translation) and one.to == address}


def test_a_host_that_has_died() -> None:
    """Clients of its providers on the other hosts would send to it for good."""
    model = model_of(on_hosts())
    wanted = to(W3, all_of(model))
    assert wanted
    found = missed(model, (), Context(model, A, PORTS_OF[A], dead=frozenset("b")))
    assert wanted <= found
    assert not to(W1, found), "a host that lives has lost nothing"


def test_a_tenant_that_was_made_again() -> None:
    """Its connections are in the zone of its old number, which the next tenant may get."""
    everything = on_hosts()
    model = model_of(everything)
    old = cast(Tenant, model.get(*DEFAULT))
    wanted = {one for one in to(W1, all_of(model)) if one.zone == old.number}
    assert wanted
    gone = [o for o in everything if o.key == "default" or getattr(o, "tenant", "") == "default"]
    deleted = Commit(2, tuple(Change(o, None) for o in gone))
    new = replace(old, number=old.number + 1000)
    made = Commit(3, (Change(None, new),))
    now = model_of([o for o in everything if o not in gone] + [new])
    assert wanted <= missed(now, (deleted, made), Context(now, A, PORTS_OF[A]))


def test_each_version_of_a_provider() -> None:
    """Of one that has moved from address to address, the connections to all but the first would stay."""
    everything = on_hosts()
    model = model_of(everything)
    before = cast(Endpoint, model.get("endpoint", "w1"))
    addresses = [cast(Endpoint, model.get("endpoint", name)).addresses for name in ("w1", "o1")]
    versions: list[Object] = [replace(before, addresses=one) for one in addresses]
    commits = [Commit(2, (Change(versions[0], versions[1]),)), Commit(3, (Change(versions[1], None),))]
    now = model_of([o for o in everything if o.key not in ("w1", "o1")])
    found = missed(now, commits, Context(now, A, PORTS_OF[A]))
    for (address,) in addresses:
        assert to(int(address), found)


def test_nothing_has_changed() -> None:
    """Each start of a controller would read all of conntrack for nothing."""
    model = model_of(on_hosts())
    assert missed(model, (), Context(model, A, PORTS_OF[A])) == frozenset()
