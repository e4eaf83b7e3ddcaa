"""The form in which a store keeps an object: JSON, its fields by name, addresses as strings, tuples as lists.

What comes out of a store is outside input, as a request is: a disk fails, an administrator edits, another program
writes to the same etcd. Nothing is taken that is not of a field's own type.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, get_type_hints

from topology.model import KINDS, Check, Object, Published, ServicePort

LARGEST = 1 << 64
"""No number of the model is beyond it: datapath ids have 64 bits."""


def to_json(value: Object) -> dict[str, Any]:
    """The stored form of an object."""
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def from_json(kind: str, data: Any) -> Object:
    """The object that `to_json` made ``data`` of; one stored by an earlier version gets the defaults of what it lacks.

    ValueError, with one line: it can't be one, or has a field that this version does not know.
    """
    cls = KINDS.get(kind)
    if cls is None:
        raise ValueError(f"{kind!r} is no kind of object")
    found: Object = _built(cls, data)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, IPv4Address | IPv4Network | IPv6Address | IPv6Network):
        return str(value)
    if isinstance(value, ServicePort | Check | Published):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _built(cls: type[Any], data: Any) -> Any:
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    fields = _FIELDS[cls]
    values = {}
    for name, value in data.items():
        if name not in fields:
            raise ValueError(f"field {name[:60]!r} is not known")
        try:
            values[name] = fields[name](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {' '.join(str(error).split())[:200]}") from error
    try:
        return cls(**values)
    except TypeError as error:
        missing = [f.name for f in dataclasses.fields(cls) if f.name not in values and f.default is dataclasses.MISSING]
        raise ValueError(f"field {missing[0]} is missing") from error


def _is(value: Any, kind: type[Any], name: str) -> Any:
    if type(value) is not kind:  # exactly: a truth is a number for Python
        raise ValueError(f"{str(value)[:60]!r} is not {name}")
    return value


def _text(value: Any) -> str:
    found: str = _is(value, str, "a text")
    found.encode()  # ValueError: half a character
    return found


def _number(value: Any) -> int:
    if not -1 < _is(value, int, "a number") < LARGEST:
        raise ValueError(f"{value} is too large, or negative")
    return int(value)


def _truth(value: Any) -> bool:
    return bool(_is(value, bool, "true or false"))


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < LARGEST:
        raise ValueError(f"{str(value)[:60]!r} is not a time")
    return float(value)


def _or_none(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else make(value)


def _of_text(make: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: make(_text(value))


def _all(make: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(make(v) for v in _is(value, list, "a list"))


def _pair(value: Any) -> tuple[str, str]:
    key, text = _is(value, list, "a pair")
    return _text(key), _text(text)


_PLAIN: Mapping[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _number,
    bool: _truth,
    float: _time,
    float | None: _or_none(_time),
}

_FROM: Mapping[str, Callable[[Any], Any]] = {
    "subnet": _of_text(IPv4Network),
    "first": _of_text(IPv4Address),
    "last": _of_text(IPv4Address),
    "address": _of_text(ip_address),
    "gateway": _or_none(_of_text(IPv4Address)),
    "subnet6": _or_none(_of_text(IPv6Network)),
    "gateway6": _or_none(_of_text(IPv6Address)),
    "requested_vip": _or_none(_of_text(IPv4Address)),
    "requested_vip6": _or_none(_of_text(IPv6Address)),
    "tunnel_address": _or_none(_of_text(IPv4Address)),
    "vips": _all(_of_text(ip_address)),
    "addresses": _all(_of_text(ip_address)),
    "labels": _all(_pair),
    "selectors": _all(_pair),
    "passed": _all(_text),
    "drained": _all(_text),
    "check": _or_none(lambda value: _built(Check, value)),
    "ports": _all(lambda value: _built(ServicePort, value)),
    "published": _all(lambda value: _built(Published, value)),
}


def _fields(cls: type[Any]) -> dict[str, Callable[[Any], Any]]:
    hints = get_type_hints(cls)
    return {f.name: _FROM.get(f.name) or _PLAIN[hints[f.name]] for f in dataclasses.fields(cls)}


_FIELDS = {cls: _fields(cls) for cls in (*KINDS.values(), ServicePort, Published, Check)}
"""What makes a field's value of its stored form, by class and name."""
