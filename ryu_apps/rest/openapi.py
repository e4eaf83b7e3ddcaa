"""The API as OpenAPI 3.1 describes it: made from the routes and the documents that they take and give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Never

import msgspec

from ryu_apps.wsgi import NDJSON, Route
from topology.contract import Document

REFUSALS = {
    307: "Only the leading controller has it: ask there.",
    400: "The request is malformed.",
    403: "It comes from a foreign web page.",
    404: "There is no such object.",
    409: "It contradicts what exists.",
    410: "The changes since that revision can't be had any more.",
    413: "It is larger than the limit that the line names.",
    422: "A field's value can't be right.",
    501: "Contiv has it, this version has not.",
    503: "A part that has to answer did not.",
}
OF_ALL = (403,)
OF_BODIES = (400, 413)
OF_CHANGES = (503,)  # the store or the leading controller may be away
ABOUT = (
    "Networks, tenants and load-balanced services of containers. A refusal is a line of text. Beside those of each "
    "operation: any request may be refused for its head (400, 414, 431), or because too many are answered (503)."
)
SCHEMAS = "#/components/schemas/{name}"


def description(table: Mapping[str, Mapping[str, Route]], version: str) -> Document:
    """The whole document."""
    routes = [route for methods in table.values() for route in methods.values()]
    kinds = [kind for route in routes for kind in (route.takes, route.gives) if kind not in (None, Never)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=SCHEMAS)
    by_kind = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    for schema in components.values():
        schema["additionalProperties"] = False
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "netctl",
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {path: dict(_operations(path, methods, by_kind)) for path, methods in table.items()},
        "components": {"schemas": components},
    }


def _operations(
    path: str, methods: Mapping[str, Route], schemas: Mapping[int, Document]
) -> Iterator[tuple[str, Document]]:
    for method, route in methods.items():
        operation: Document = {
            "operationId": f"{method.lower()}{''.join(part.title() for part in re.findall(r'[A-Za-z0-9]+', path))}",
            "summary": (route.handler.__doc__ or "").strip().partition("\n")[0],
            "parameters": [*_in_path(path), *_in_query(route)],
            "responses": {**_success(route, schemas), **_refusals(method, route)},
        }
        if route.takes is not None:
            content = {"application/json": {"schema": schemas[id(route.takes)]}}
            operation["requestBody"] = {"required": True, "content": content}
        yield method.lower(), operation


def _in_path(path: str) -> list[Document]:
    return [_parameter(name, "path", required=True) for name in re.findall(r"\{(\w+)\}", path)]


def _in_query(route: Route) -> list[Document]:
    return [_parameter(name, "query", required=False) for name in route.query]


def _parameter(name: str, where: str, *, required: bool) -> Document:
    return {"name": name, "in": where, "required": required, "schema": {"type": "string"}}


def _success(route: Route, schemas: Mapping[int, Document]) -> Document:
    if route.gives is Never:
        return {}
    text = "Lines without an end, each such a document." if route.content == NDJSON else "Done."
    return {"200": {"description": text, "content": {route.content: {"schema": schemas[id(route.gives)]}}}}


def _refusals(method: str, route: Route) -> Document:
    found = {*OF_ALL, *route.refuses}
    if route.takes is not None:
        found.update(OF_BODIES)
    if method != "GET" and route.gives is not Never:
        found.update(OF_CHANGES)
    return {str(status): _refusal(status) for status in sorted(found)}


def _refusal(status: int) -> Document:
    text: Document = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"description": REFUSALS[status], **(text if status >= 400 else {})}
