"""How a REST document is declared (`documents`), and what follows from it: checking, filling, reading, showing.

A document is a `TypedDict`. Each field says once what it is: its type, bounds, default, unit and words for the user.
msgspec checks types and bounds, and makes the JSON Schema of OpenAPI.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from types import UnionType
from typing import (
    Any,
    NamedTuple,
    NotRequired,
    Required,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
from msgspec import Meta

from topology.errors import BadRequest, Invalid
from topology.text import one_line
from topology.validate import show

Document = dict[str, Any]
D = TypeVar("D")
LEAST, MOST = -(1 << 63), (1 << 63) - 1  # of a number without other bounds
SHOWN = 60  # characters of a wrong value
_PATH = re.compile(r" - at `\$(.*)`$")
_PORT = re.compile(r"([0-9]{1,5}):([0-9]{1,5})(:(TCP|UDP|SCTP))?")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


@dataclass(frozen=True, slots=True)
class Field:
    """What a field declares beside its type.

    ``default``: what a request that leaves it out asks for; None: nothing, and the command knows what to do then.
    ``absent``: that in words, for the help. ``of``: where an object of the model has it: an attribute, or a function
    of the object. ``omit``: the value with which an answer leaves it out, beside empty ones. ``read_only``: clients
    send it back with a change, and it is not read. ``flags`` and ``metavar``: how the command line spells it.
    """

    text: str = ""
    default: Any = None
    absent: str = ""
    unit: str = ""
    low: int | None = None
    high: int | None = None
    format: str = ""
    choices: tuple[str, ...] = ()
    of: str | Callable[[Any], Any] = ""
    omit: Any = None
    read_only: bool = False
    flags: tuple[str, ...] = ()
    metavar: str = ""
    group: str = ""


def field(text: str, **more: Any) -> Meta:
    """A field's declaration, for `Annotated`. ``more``: what `Field` takes."""
    found = Field(text, **more)
    schema: dict[str, Any] = {}
    if found.default is not None:
        schema["default"] = found.default
    if found.read_only:
        schema["readOnly"] = True
    if found.format:
        schema["format"] = found.format
    if found.unit:
        schema["x-unit"] = found.unit
    if found.choices:
        schema["enum"] = list(found.choices)
    return Meta(
        description=text,
        ge=found.low,
        le=found.high,
        extra_json_schema=schema or None,
        extra={"field": found},
    )


def told(text: str, **more: Any) -> Meta:
    """The same for a field that only answers have."""
    return field(text, read_only=True, **more)


class Declared(NamedTuple):
    """One field of a document, taken apart."""

    name: str
    kind: Any  # the type without its declaration
    field: Field


@cache
def declared(kind: Any) -> Mapping[str, Declared]:
    """The fields of a document, by name, in their order."""
    found = {}
    for name, whole in get_type_hints(kind, include_extras=True).items():
        hint = get_args(whole)[0] if get_origin(whole) in {NotRequired, Required} else whole
        metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Meta)]
        said = next((m.extra["field"] for m in metas if m.extra), Field())
        found[name] = Declared(name, getattr(hint, "__origin__", hint) if metas else hint, said)
    return found


# requests


def check(kind: type[D], document: Mapping[str, Any], where: str = "") -> D:
    """What a request asks for: without fields that only answers have, with defaults for what it leaves out.

    Raises `BadRequest` for an unknown field or one of another type, `Invalid` for a value that can't be.
    """
    fields = declared(cast(Hashable, kind))
    for name in document:
        if name not in fields:
            known = ", ".join(f.name for f in fields.values() if not f.field.read_only)
            raise BadRequest(f"{where}unknown field {shown(name)}: {_article(kind)} has {known}")
    asked = {n: _plain(fields[n], v, where) for n, v in document.items() if not fields[n].field.read_only}
    try:
        found = msgspec.convert(asked, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _refusal(kind, asked, str(error), where) from None
    return cast(D, _defaults(kind) | found)  # type: ignore[operator]


def _defaults(kind: Any) -> Document:
    return {n: copy(f.field.default) for n, f in declared(kind).items() if f.field.default is not None}


def _plain(one: Declared, value: Any, where: str) -> Any:
    """Documents within this one checked; one of a few words in its own spelling."""
    if is_typeddict(one.kind) and isinstance(value, dict):
        return check(one.kind, value, f"{where}{one.name} ")
    if one.field.choices and isinstance(value, str):
        if value and value.lower() not in one.field.choices:
            raise Invalid(f"{where}{one.name} {show(value)} is unknown: right is {any_of(one.field.choices)}")
        return value.lower() or one.field.default or ""
    return value


def any_of(words: Iterable[str]) -> str:
    """Words for the user: ``a, b or c``."""
    *some, last = [word or '""' for word in words]
    return f"{', '.join(some)} or {last}" if some else last


def _article(kind: Any) -> str:
    """What a document is called: the first words of its docstring."""
    return re.split(r"[,.:]", kind.__doc__ or "")[0].lower()


class _Wrong(NamedTuple):
    """A value that msgspec did not take: where it is, what it is, and what was declared."""

    path: str
    value: Any
    kind: Any
    field: Field


def _find(kind: Any, value: Any, error: str) -> _Wrong:
    found = _PATH.search(error)
    path, said = "", Field()
    for name, index in _STEP.findall(found[1] if found else ""):
        kind = _bare(kind)
        if name:
            one = declared(kind)[name]
            path, kind, said = (f"{path}.{name}" if path else name), one.kind, one.field
            value = value[name] if isinstance(value, Mapping) else value
        elif index == "...":
            kind = get_args(kind)[1]
            key = next(k for k, v in value.items() if not _fits(v, kind))
            path, value = f"{path}.{one_line(key, SHOWN)}", value[key]
        else:
            kind, value = get_args(kind)[0], value[int(index)]
            path = f"{path}[{index}]"
    return _Wrong(path, value, _bare(kind), said)


def _bare(kind: Any) -> Any:
    """The type without None."""
    if get_origin(kind) in {Union, UnionType}:
        return next(one for one in get_args(kind) if one is not type(None))
    return getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _refusal(kind: Any, document: Mapping[str, Any], error: str, where: str) -> BadRequest | Invalid:
    wrong = _find(kind, document, error)
    if _is_number(wrong):
        unit = f" {wrong.field.unit}" if wrong.field.unit else ""
        low = LEAST if wrong.field.low is None else wrong.field.low
        high = MOST if wrong.field.high is None else wrong.field.high
        return Invalid(f"{where}{wrong.path} {shown(wrong.value)} is out of range: {low} to {high}{unit}")
    return BadRequest(f"{where}{wrong.path}: {shown(wrong.value)} is not {words_of(wrong.kind)}")


def words_of(kind: Any) -> str:
    """A type in words."""
    plain = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is list:
        return "a list of strings" if get_args(kind)[0] is str else "a list"
    if get_origin(kind) is dict and get_args(kind)[1] is str:
        return "an object of strings"
    return "an object"


def shown(value: Any) -> str:
    """A wrong value, as a line shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and not LEAST <= value <= MOST:
        return "a number of many digits"
    # not msgspec, which can't encode half of a character
    return one_line(json.dumps(value, ensure_ascii=False), SHOWN)


# answers of other programs


def expect(kind: Any, value: Any, where: str = "", needed: Iterable[str] = ()) -> None:
    """Check that an answer of another program has a document's type, or is a list of such documents. Unknown fields
    pass: the other program may be newer.

    ``needed``: fields that have to be there. Raises ``ValueError`` that names the first wrong or missing one.
    """
    try:
        found = msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(_line(kind, value, str(error), where)) from None
    for name in needed:
        if name not in value:
            raise ValueError(f"{_under(where, name)} is missing")
    _check_formats(found, kind, where)


def _line(kind: Any, value: Any, error: str, where: str) -> str:
    wrong = _find(kind, value, error)
    path = _under(where, wrong.path) if wrong.path else where
    if "missing required field" in error:
        return f"{_under(path, error.split('`')[1])} is missing"
    if _is_number(wrong):
        return f"{path}: from {wrong.field.low} to {wrong.field.high}, not {wrong.value}"
    return f"{path}{': ' if path else ''}{words_of(wrong.kind)}, not {shown(wrong.value)}"


def _under(where: str, name: str) -> str:
    return f"{where}.{one_line(name, SHOWN)}" if where else one_line(name, SHOWN)


def _is_number(wrong: _Wrong) -> bool:
    return wrong.kind is int and isinstance(wrong.value, int) and not isinstance(wrong.value, bool)


def _check_formats(value: Any, kind: Any, where: str) -> None:
    if get_origin(kind) is list:
        for number, entry in enumerate(value):
            _check_formats(entry, get_args(kind)[0], f"{where}[{number}]")
    elif is_typeddict(kind):
        for name, (one, check_format) in _formats(kind).items():
            if name in value:
                check_format(value[name], f"{where}.{name}" if where else name, one)


@cache
def _formats(kind: Any) -> Mapping[str, tuple[Declared, Callable[[Any, str, Declared], None]]]:
    """The fields of a document in which there is something to check."""
    found: dict[str, tuple[Declared, Callable[[Any, str, Declared], None]]] = {}
    for name, one in declared(kind).items():
        if one.field.format:
            found[name] = (one, _check_format)
        elif is_typeddict(one.kind) or get_origin(one.kind) is list:
            found[name] = (one, lambda value, where, of: _check_formats(value, of.kind, where))
    return found


def _check_format(value: Any, where: str, one: Declared) -> None:
    words, holds = FORMATS[one.field.format]
    several = isinstance(value, list)
    for number, text in enumerate(value if several else [value]):
        try:
            if text:
                holds(text)
        except ValueError:
            raise ValueError(f"{where}{f'[{number}]' if several else ''}: {words}, not {shown(text)}") from None


def _subnet(text: str) -> None:
    addresses, _, length = text.partition("/")
    first, _, last = addresses.partition("-")
    IPv4Network(f"{first}/{length}", strict=False)
    IPv4Address(last or first)


def _port(text: str) -> None:
    found = _PORT.fullmatch(text)
    if found is None or not all(0 < int(number) < 1 << 16 for number in found.groups()[:2]):
        raise ValueError


def _path(text: str) -> None:
    if not text.startswith("/") or not text.isprintable() or " " in text:
        raise ValueError


FORMATS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "ipv4": ("an IPv4 address", IPv4Address),
    "ipv6": ("an IPv6 address", IPv6Address),
    "subnet": ("an IPv4 subnet a.b.c.d/len", _subnet),
    "subnet6": ("an IPv6 subnet x:x::/len", IPv6Network),
    "interface": ("an address with its prefix length", ip_interface),
    "port": ("a port as in 80:8080:TCP", _port),
    "path": ("a path as in /healthz", _path),
}
"""Formats of texts in answers: the format in words, and a check that raises ValueError."""


# objects of the model


def document_of(kind: Any, thing: Any) -> Document:
    """The document of an object of the model, without the fields that are empty."""
    found: Document = {}
    for name, of, omit in _getters(kind):
        value = of(thing)
        if (value not in EMPTY) if omit is None else (value != omit):
            found[name] = value
    return found


EMPTY: tuple[Any, ...] = ("", 0, None, [], {})


def filled(document: Document) -> Document:
    """The document without its fields that are empty or zero."""
    return {k: v for k, v in document.items() if v not in EMPTY}


@cache
def _getters(kind: Any) -> tuple[tuple[str, Callable[[Any], Any], Any], ...]:
    found = []
    for name, one in declared(kind).items():
        if of := one.field.of:
            found.append((name, of if callable(of) else _getter(of, one.kind), one.field.omit))
    return tuple(found)


def _getter(attribute: str, kind: Any) -> Callable[[Any], Any]:
    """By the field's type: text of what is no text, a list of texts, a document of its own, or the value as it is."""
    if is_typeddict(kind):
        return lambda thing: None if (part := getattr(thing, attribute)) is None else document_of(kind, part)
    if kind is str:
        return lambda thing: "" if (part := getattr(thing, attribute)) is None else str(part)
    if get_origin(kind) is list:
        return lambda thing: [str(part) for part in getattr(thing, attribute)]
    if get_origin(kind) is dict:
        return lambda thing: dict(getattr(thing, attribute))
    return operator.attrgetter(attribute)
