"""The API answers as its own description says: every operation, with what is right and with what is wrong."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.rest_kit import Rest

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
REST = Rest()
SCHEMA = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", REST.api)
EVERYTHING = SCHEMA.exclude(path="/api/v1/changes")  # its answer has no end


@EVERYTHING.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_as_described(case: Case[Any]) -> None:
    """Clients that are made from the description would fail on an answer that it does not have."""
    case.call_and_validate(checks=CHECKS)
