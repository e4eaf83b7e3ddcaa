"""What a controller answers of real switches is as its own description says, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.kit.private_ovs import Private
from tests.kit.weave import Weave, weave
from topology.answers import ControllerDoc, LinkDoc, PortDoc, SwitchDoc, TraceDoc
from topology.contract import declared
from topology.reports import HostDoc

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
ROOT = "/api/v1"
KEYS = {
    "tenants": "default", "networks": "default:web", "serviceLBs": "default:app", "endpoints": "w1", "hosts": "h1",
    "globals": "global", "settled": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def two(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weave]:
    """Two switches with a link, the first one a host's, and a service over them."""
    with weave(tmp_path_factory.mktemp("two"), instance, ["s1", "s2"], [("s1", "s2")]) as it:
        it.network("web", "10.1.1.0/24", "10.1.1.254")
        it.host("w1", "s1", "web", "10.1.1.1", {"tier": "web"})
        it.host("w2", "s2", "web", "10.1.1.2", {"tier": "web"})
        it.service("app", "web", ["8080:80:TCP"], ["tier=web"])
        yield it


def test_answers_are_as_described(two: Weave) -> None:
    """Programs made from the description would fail on a real controller's answers."""
    register(two)
    schema = schemathesis.openapi.from_url(f"{two.control.url}{ROOT}/openapi.json")
    asked = set()
    for path in schema.raw_schema["paths"]:
        collection = path.removeprefix(ROOT).removeprefix("/inspect").split("/")[1]
        key = {**KEYS, "switches": two.dpids["s1"]}.get(collection)
        if path == f"{ROOT}/changes" or ("{key}" in path and key is None):
            continue  # without an end, or Contiv's that are never there
        query = {"from": "w1", "to": "10.1.1.2", "port": "80"} if path == f"{ROOT}/trace" else {}
        for method in {"GET"} & {method.upper() for method in schema[path]}:
            case = schema[path][method].Case(path_parameters={"key": key} if "{key}" in path else {}, query=query)
            assert case.call_and_validate(checks=CHECKS).status_code == 200
            asked.add(path.removeprefix(ROOT))
    assert {"/switches", "/switches/{key}", "/hosts/{key}", "/inspect/serviceLBs/{key}", "/trace"} <= asked


def register(two: Weave) -> dict[str, Any]:
    """What the first switch's agent would say of its host; the answer."""
    rest = two.control.client
    answer = rest.put_host(
        {
            "hostName": "h1", "switch": two.dpids["s1"], "tunnelAddress": "192.0.2.1", "version": "1", "mtu": 1450,
            "datapathType": "netdev",
        }
    )  # fmt: skip
    rest.applied("h1", 1, {"default:web": "no such thing"})
    return dict(answer)


def test_a_switch_has_every_field(two: Weave) -> None:
    """Users would look for a field of the description in vain, or see one that it does not explain."""
    (listed, _), one = two.control.client.switches(), two.control.client.switch(two.dpids["s1"])
    fields = set(declared(SwitchDoc))
    assert set(listed) == fields - {"refusedByLimit"}, "no tenant is over its limit"
    assert set(one) == set(listed)
    assert {name for link in one["links"] for name in link} == set(declared(LinkDoc))
    assert {name for port in one["ports"] for name in port} == set(declared(PortDoc))


def test_a_host_has_every_field(two: Weave) -> None:
    """The same of hosts."""
    rest = two.control.client
    registered = register(two)
    rest.drain_host("h1")
    found = rest.host("h1")
    rest.undrain_host("h1")
    assert set(found) | set(registered) == set(declared(HostDoc))
    assert rest.hosts()[0].keys() | {"draining"} == found.keys()


def test_a_controller_has_every_field(two: Weave) -> None:
    """The same of controllers."""
    (found,) = two.control.client.controllers()
    assert set(found) == set(declared(ControllerDoc))


def test_a_trace_has_every_field(two: Weave) -> None:
    """The same of traces."""
    found = two.control.client.trace({"from": "w1", "to": "10.1.1.2", "port": "80", "sourcePort": "1024"})
    assert set(found) == set(declared(TraceDoc))
