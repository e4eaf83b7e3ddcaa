"""From a body to a checked JSON object: syntax, known fields, types. Values are the write door's affair."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ryu_apps.wsgi import one_line
from topology.contract import shown
from topology.errors import BadRequest


def check_truths(document: Mapping[str, Any]) -> None:
    """BadRequest for the first field that is neither true nor false; their names are the client's to choose."""
    for name, value in document.items():
        if not isinstance(value, bool):
            raise BadRequest(f"{one_line(name, 60)}: {shown(value)} is not true or false")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; BadRequest for everything else."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"body: not UTF-8 (byte {error.start})") from None
    if not text.strip():
        raise BadRequest("body: empty, must be a JSON object")
    try:
        document = json.loads(text, **HOOKS)
    except RecursionError:
        raise BadRequest("body: not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, or a number of too many digits
        raise not_json(str(error)) from None
    if not isinstance(document, dict):
        raise BadRequest(f"body: must be a JSON object, is {shown(document)}")
    if "\\u" in text:
        refuse_surrogates(document)
    return document


def not_json(why: str) -> BadRequest:
    """What to say of a body that is no JSON."""
    return BadRequest(f"body: not JSON: {one_line(why, 200)}")


def refuse_twice(name: str, document: Mapping[str, Any]) -> None:
    """BadRequest where the document has a field of this name already."""
    if name in document:
        raise BadRequest(f"body: field {shown(name)} is there twice")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadRequest(f"body: field {shown(twice)} is there twice")
    return document


def _no_constant(name: str) -> Any:
    raise BadRequest(f"body: not JSON: {name}")


HOOKS: dict[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _no_constant}
"""How the library's decoder is made strict."""


def refuse_surrogates(value: Any) -> None:
    """JSON can spell half a character, which then can't be stored or printed: BadRequest."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise BadRequest("body: a \\u escape stands alone that is half of a character") from None
