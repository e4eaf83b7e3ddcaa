"""What may ask the controller: each flow by a meter of the whole switch, what a tenant causes by its own before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ryu_apps.openflow.connection import PACKETS_PER_SECOND
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.dependents import owners
from ryu_apps.pipeline.tables import FORGOTTEN_METERS, METERS, NETWORK, REASON, REFUSE_METERS, TENANT, FlowKind, Table
from ryu_apps.pipeline.values import CONTROLLER, Flow, Output, SetField, terms
from tests.kit.several import PORTS_OF, A, on_hosts
from tests.kit.world import DPID, PORTS, dual, model_of

CAUSED = {
    FlowKind.REFUSE: REFUSE_METERS,
    FlowKind.UNREACHABLE: REFUSE_METERS,
    FlowKind.CLOSED: REFUSE_METERS,
    FlowKind.SEEK: REFUSE_METERS,
    FlowKind.FORGOTTEN: FORGOTTEN_METERS,
}
"""By a tenant: the meters of its own."""


def flows(*, host: bool) -> list[Flow]:
    """Of a host's switch, or of one without an agent."""
    model = model_of(on_hosts(dual=True) if host else [replace(o) for o in dual()])
    context = Context(model, A, PORTS_OF[A]) if host else Context(model, DPID, PORTS)
    return [flow for owner in owners(model) for flow in compile_owner(context, owner).flows]


@pytest.mark.parametrize("host", [True, False], ids=["of a host", "without an agent"])
def test_all_that_asks_the_controller_is_within_what_it_takes(host: bool) -> None:
    """Tenants together could send more than is taken of a switch: what is dropped then may be a link's frame."""
    rates = {meter.id: meter.rate for meter in METERS}
    asking = [flow for flow in flows(host=host) if any(_to_controller(action) for action in flow.actions)]
    assert asking
    assert {flow.meter for flow in asking} <= rates.keys(), "each has a meter that is one for the whole switch"
    assert sum(rates.values()) <= PACKETS_PER_SECOND


@pytest.mark.parametrize("host", [True, False], ids=["of a host", "without an agent"])
def test_what_a_tenant_causes_has_its_own_meter_first(host: bool) -> None:
    """One tenant that scans unused addresses, say, would keep the other tenants from being answered."""
    found = set()
    for flow in flows(host=host):
        tells = flow.table != Table.TELL and any(isinstance(a, SetField) and a.field == REASON for a in flow.actions)
        if flow.kind in CAUSED and tells:
            found.add(flow.kind)
            assert flow.meter ^ CAUSED[FlowKind(flow.kind)] in tenants_of(flow)
            assert flow.goto == Table.TELL
    assert found == set(CAUSED) - {FlowKind.SEEK if host else FlowKind.UNREACHABLE}


def tenants_of(flow: Flow) -> set[int]:
    """Whose packets it meets: by a register of the tenant, of its network, or of a container's port."""
    model = model_of(on_hosts(dual=True))
    what = terms(flow.match)
    if TENANT in what:
        return {what[TENANT]}
    networks = [n for n in model.networks.values() if n.number == what.get(NETWORK)]
    ends = [e for e in model.endpoints.values() if mac_int(e.mac) == what.get("eth_dst")]
    networks += [model.networks[e.network_key] for e in ends]
    return {model.tenants[n.tenant].number for n in networks}


def _to_controller(action: object) -> bool:
    return isinstance(action, Output) and action.port == CONTROLLER
