"""Who is compiled again is what the features declare. If these fail, a switch keeps flows for what is no more."""

from __future__ import annotations

import importlib
import pkgutil

from ryu_apps.pipeline import catalog, features
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.dependents import DEPENDENTS, Dependents, owners
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import refuse
from ryu_apps.pipeline.inputs import Seen
from ryu_apps.pipeline.tables import FlowKind
from tests.kit import world
from topology.model import KINDS, Change, Endpoint, Lease, Network, Service, Tenant

TOLD_FOR_OTHERS = {"refuse": refuse.ASKED}
"""Of what features have a tenant's meter let pass, one sends it on to the controller."""


def test_every_feature_is_in_the_catalog() -> None:
    """A feature would be written, tested by itself, and never be in a switch."""
    names = [module.name for module in pkgutil.iter_modules(features.__path__)]
    modules = [importlib.import_module(f"{features.__name__}.{name}") for name in names]
    found = {module.FEATURE.name: module.FEATURE for module in modules if hasattr(module, "FEATURE")}
    assert found == {feature.name: feature for feature in catalog.FEATURES}
    assert len(found) == len(catalog.FEATURES)
    for module in modules:
        if hasattr(module, "FEATURE"):
            assert module.FEATURE.name == module.__name__.rpartition(".")[2], "it is found by its name"


def test_what_nobody_declares_recompiles_everything() -> None:
    """A new kind of object would change nothing in the switches."""
    model, everything = world.model(), set(owners(world.model()))
    none = Dependents([Feature("none", ())])
    for changed in (Network, Endpoint, Service, *Seen):
        assert none.of(model, changed, None) == everything, changed
    assert none.of(model, Tenant, None) == none.of(model, Lease, None) == set()


def test_every_input_is_declared() -> None:
    """Each change of one kind of object would cost a compile of everything."""
    model = world.model()
    declared = {d.on for feature in catalog.FEATURES for d in feature.looks_at} | {Tenant, Lease}
    assert declared == {*KINDS.values(), *Seen}
    endpoint = model.endpoints["w1"]
    assert DEPENDENTS.of_changes(model, [Change(endpoint, endpoint)]) == {
        ("endpoint", "w1"), ("network", "default:web"), ("service", "default:app-svc"),
    }  # fmt: skip


def test_a_cookie_names_its_feature() -> None:
    """Whoever looks up a flow's cookie would read the wrong file; counters would add up another feature's packets."""
    owners_of = [kind for feature in catalog.FEATURES for kind in feature.kinds]
    assert sorted(owners_of) == sorted(FlowKind)
    model = world.model_of(world.dual())
    context = Context(model, world.DPID, world.PORTS)
    for feature in catalog.FEATURES:
        flows = [
            *feature.switch(context),
            *(flow for network in model.networks.values() for flow in feature.network(context, network)),
            *(flow for endpoint in model.endpoints.values() for flow in feature.endpoint(context, endpoint)),
            *(flow for service in model.services.values() for flow in feature.service(context, service)),
        ]
        assert {FlowKind(flow.kind) for flow in flows} <= {*feature.kinds, *TOLD_FOR_OTHERS.get(feature.name, ())}
        assert {kind for kind, _ in feature.words} <= set(feature.kinds)


def test_one_feature_has_the_words_for_a_flow() -> None:
    """A trace would say of a packet what another feature means."""
    said = [place for feature in catalog.FEATURES for place in feature.words]
    assert len(said) == len(set(said))


def test_names_say_what_is_looked_at() -> None:
    """Two dependencies of one name would be told apart by nobody."""
    declared = dict.fromkeys(d for feature in catalog.FEATURES for d in feature.looks_at)
    assert len({(d.name, d.on) for d in declared}) == len(declared)
