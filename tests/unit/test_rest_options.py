"""Options of services and endpoints in the REST API: taken, shown where they are not the default, told to agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.rest_kit import Json, Rest

CHECK = {"protocol": "http", "path": "/up", "interval": 9, "timeout": 3, "rise": 1, "fall": 4}
OPTIONS: Json = {"sessionAffinity": 60, "affinityMode": "absolute", "drainTimeout": 0, "healthCheck": CHECK}
DEFAULTS: Json = {"sessionAffinity": 0, "drainTimeout": 30}
APP, INSPECT = "/serviceLBs/default:app/", "/inspect/serviceLBs/default:app/"
PROVIDER: Json = {"labels": {"tier": "web"}}


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest()
    rest.network()
    yield rest
    rest.close()


def options(document: Json) -> Json:
    """The options in a service's document."""
    return {k: v for k, v in document.items() if k in OPTIONS}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({}, {}),
        (DEFAULTS, {}),
        (OPTIONS, OPTIONS),
        ({"sessionAffinity": 60}, {"sessionAffinity": 60, "affinityMode": "idle"}),
        ({"drainTimeout": 0}, {"drainTimeout": 0}),
        (
            {"healthCheck": {"protocol": "tcp"}},
            {"healthCheck": {"protocol": "tcp", "interval": 5, "timeout": 2, "rise": 2, "fall": 3}},
        ),
    ],
)
def test_options_of_a_service(rest: Rest, asked: Json, shown: Json) -> None:
    """Without it, an option is not taken, not shown, or Contiv's clients see fields that they don't know."""
    document = rest.service(**asked)
    assert options(document) == shown
    assert options(rest.call("GET", APP)) == shown
    assert options(rest.call("GET", "/serviceLBs/")[0]) == shown
    assert options(rest.call("GET", INSPECT)["Config"]) == shown
    revision = rest.model.revision
    assert rest.call("PUT", APP, document) == document, "its own answer is taken back"
    assert rest.model.revision == revision


def test_an_option_left_out(rest: Rest) -> None:
    """Without it, an option can't be taken back."""
    rest.service(**OPTIONS)
    assert options(rest.service()) == {}


def test_weight(rest: Rest) -> None:
    """Without it, nobody can see or set why a provider gets more than others."""
    assert "weight" not in rest.endpoint("e1", **PROVIDER)
    assert rest.endpoint("e2", portName="p2", **PROVIDER, weight=3)["weight"] == 3
    labels = {**PROVIDER["labels"], "netctl.weight": "5"}
    document = rest.endpoint("e3", portName="p3", labels=labels)
    assert document["weight"] == 5
    assert rest.call("PUT", "/endpoints/e3/", document) == document, "its own answer is taken back"
    rest.service()
    providers = rest.call("GET", INSPECT)["Oper"]["providers"]
    assert [(p["weight"], p["state"]) for p in providers] == [(1, "running"), (3, "running"), (5, "running")]
    assert all("check" not in p for p in providers), "no check, no verdict"
    assert rest.call("GET", "/inspect/endpoints/e2/")["Oper"]["weight"] == 3


def test_verdicts_of_checks(rest: Rest) -> None:
    """Without it, an agent can't bring a provider in, or a user can't see which one is out."""
    rest.service(**OPTIONS)
    rest.endpoint("e1", **PROVIDER)
    rest.endpoint("e2", portName="p2", **PROVIDER)
    assert rest.call("GET", APP)["healthyProviders"] == 0
    document = rest.call("PUT", "/endpoints/e1/checks/", {"default:app": True, "default:gone": True})
    assert document["passed"] == ["default:app"]
    assert rest.call("GET", "/endpoints/e1/") == document
    assert rest.call("GET", "/inspect/endpoints/e1/")["Oper"]["passed"] == ["default:app"]
    assert rest.call("GET", APP)["healthyProviders"] == 1
    providers = rest.call("GET", INSPECT)["Oper"]["providers"]
    assert [p["check"] for p in providers] == ["passing", "failing"]
    revision = rest.model.revision
    rest.call("PUT", "/endpoints/e1/checks", {"default:app": True})
    assert rest.model.revision == revision, "told again"
    assert "passed" not in rest.call("PUT", "/endpoints/e1/checks/", {"default:app": False})


def test_verdicts_are_no_part_of_an_endpoint(rest: Rest) -> None:
    """Without it, whoever sends a document back decides about a provider's health, or clears it."""
    rest.service(**OPTIONS)
    document = rest.endpoint("e1", **PROVIDER)
    assert "passed" not in rest.call("PUT", "/endpoints/e1/", document | {"passed": ["default:app"]})
    passing = rest.call("PUT", "/endpoints/e1/checks/", {"default:app": True})
    assert rest.call("PUT", "/endpoints/e1/", document) == passing


def lines(rest: Rest, query: str = "") -> list[Any]:
    """What the change stream has by now, as (kind, key, object)."""
    stream = rest.api._feed.open(int(query) if query else None)
    try:
        text = next(stream).decode()
    finally:
        stream.close()
    found = [json.loads(line) for line in text.splitlines()]
    return [(line["kind"], line.get("key"), line.get("object")) for line in found]


def test_agents_learn_of_checks(rest: Rest) -> None:
    """Without it, a check is asked for and nobody runs it: the service has no provider for ever."""
    rest.service("plain")
    rest.service(healthCheck=CHECK)
    opening = {key: document for kind, key, document in lines(rest) if kind == "service"}
    assert list(opening) == ["default:app"], "those that agents have something to do for"
    assert (opening["default:app"]["healthCheck"], opening["default:app"]["selectors"]) == (CHECK, ["tier=web"])
    revision = rest.model.revision
    rest.service("plain", healthCheck={"protocol": "tcp"})
    rest.service()
    rest.call("DELETE", "/serviceLBs/default:plain/")
    changes = [(key, document) for kind, key, document in lines(rest, str(revision)) if kind == "service"]
    told = [(key, document and document.get("healthCheck")) for key, document in changes]
    check = {"protocol": "tcp", "interval": 5, "timeout": 2, "rise": 2, "fall": 3}
    assert told == [("default:plain", check), ("default:app", None), ("default:plain", None)]
