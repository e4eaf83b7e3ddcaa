"""JSON from outside: bounded in depth, and of the types that a document declares. Else ``ValueError`` with one line.

The caller bounds the size, before the bytes are read.
"""

from __future__ import annotations

import json
import math
import sys
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from topology.text import one_line

MOST_DEPTH = 32  # of objects and lists within each other
MOST_SHOWN = 80  # characters of a wrong value
INTEGERS = range(-(1 << 63), 1 << 64)
NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def load(content: bytes) -> Any:
    """The value that the bytes are in JSON."""
    try:
        value = json.loads(content, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"more than {MOST_DEPTH} levels deep") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except ValueError as error:  # JSONDecodeError, or a number of too many digits
        raise ValueError(f"not JSON: {one_line(str(error), MOST_SHOWN)}") from None
    if _deeper(value, MOST_DEPTH):
        raise ValueError(f"more than {MOST_DEPTH} levels deep")
    if b"\\u" in content:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a \\u escape stands for half of a character") from None
    return value


def check(value: object, kind: Any, where: str = "", needed: Iterable[str] = ()) -> None:
    """The value is of a type: a `TypedDict`, whose unknown fields are let pass, or what its fields are made of.

    ``needed``: fields that have to be there, beside those that the type requires.

    Raises ``ValueError`` that names the first field that is missing or of another type.
    """
    if kind is Any or kind is object:
        return
    origin = get_origin(kind)
    if is_typeddict(kind):
        fields = _entries(value, where, "an object")
        required, hints = _declared(kind)
        for name in (*required, *needed):
            if name not in fields:
                raise ValueError(f"{_under(where, name)} is missing")
        for name, entry in fields.items():
            if name in hints:
                check(entry, hints[name], _under(where, name))
    elif origin is NotRequired:
        check(value, get_args(kind)[0], where)
    elif origin is Annotated:
        plain, words, holds = get_args(kind)
        check(value, plain, where)
        try:
            holds(value)
        except ValueError:
            raise _wrong(value, where, words) from None
    elif origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return
        (only,) = (one for one in get_args(kind) if one is not type(None))
        check(value, only, where)
    elif origin is Literal:
        check(value, str, where)  # a later version may have more of them
    elif origin is list:
        if not isinstance(value, list):
            raise _wrong(value, where, "a list")
        for number, entry in enumerate(value):
            check(entry, get_args(kind)[0], f"{where}[{number}]")
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        for name, entry in _entries(value, where, "an object").items():
            check(entry, get_args(kind)[1], _under(where, name))
    else:
        _check_plain(value, kind, where)


def _check_plain(value: object, kind: type, where: str) -> None:
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (kind is not bool and isinstance(value, bool)):
        raise _wrong(value, where, NAMES[kind])
    if isinstance(value, int) and value not in INTEGERS:
        raise _wrong(value, where, f"{NAMES[kind]} of 64 bits")


@cache
def _declared(kind: Any) -> tuple[frozenset[str], dict[str, Any]]:
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]), include_extras=True)
    return kind.__required_keys__, hints


def _entries(value: object, where: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, where, name)
    return value


def _wrong(value: object, where: str, wanted: str) -> ValueError:
    return ValueError(f"{where}{': ' if where else ''}{wanted}, not {shown(value)}")


def shown(value: object) -> str:
    """A wrong value, as a line shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and value not in INTEGERS:
        return "one of many digits"
    return one_line(json.dumps(value, ensure_ascii=False), MOST_SHOWN)


def _under(where: str, name: str) -> str:
    name = one_line(name, MOST_SHOWN)
    return f"{where}.{name}" if where else name


def _deeper(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            entry
            for one in level
            if isinstance(one, dict | list)
            for entry in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number too large")
    return value
