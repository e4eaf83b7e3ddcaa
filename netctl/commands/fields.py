"""The flags of ``create``: made from the fields of a document as `topology.documents` declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, get_origin, is_typeddict

import click

from netctl.commands.base import Flag
from topology.contract import Declared, declared

F = TypeVar("F", bound=Callable[..., Any])


def document_flags(kind: Any) -> Callable[[F], F]:
    """A flag for each field that has one. The command gets their values as keywords, for `asked`."""

    def decorate(command: F) -> F:
        for one in reversed(list(_with_flags(kind))):
            command = _option(one)(command)
        return command

    return decorate


def asked(kind: Any, given: Mapping[str, Any], **more: str) -> Any:
    """The document that the flags ask for: what is not given is left out, for the controller to decide."""
    found: dict[str, Any] = {}
    for name, one in declared(kind).items():
        if is_typeddict(one.kind):
            value = asked(one.kind, given)
        else:
            value = given.get(_keyword(one)) if one.field.flags else None
        if value or (value == 0 and value is not False):
            found[name] = list(value) if isinstance(value, tuple) else value
    return {**found, **more}


def _with_flags(kind: Any) -> Iterator[Declared]:
    for one in declared(kind).values():
        if is_typeddict(one.kind):
            yield from _with_flags(one.kind)
        elif one.field.flags:
            yield one


def _keyword(one: Declared) -> str:
    return one.field.flags[0].removeprefix("--").replace("-", "_")


def _option(one: Declared) -> Callable[[F], F]:
    said = one.field
    text = said.text
    if said.low is not None and said.high is not None:
        text = f"{text.removesuffix('.')}, {said.low} to {said.high}."
    more: dict[str, Any] = {"help": f"{text}  [{said.absent or f'default: {said.default}'}]", "group": said.group}
    if one.kind is bool:
        return click.option(*said.flags, cls=Flag, is_flag=True, **more)
    more["metavar"] = said.metavar or "|".join(said.choices) or said.unit.upper()
    if one.kind is int:
        more |= {"type": int, "default": None}
    elif get_origin(one.kind) is dict:
        more |= {"multiple": True, "callback": _pairs}
    elif get_origin(one.kind) is list:
        more["multiple"] = True
    else:
        more["default"] = said.default or ""
    return click.option(*said.flags, cls=Flag, **more)


def _pairs(_ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    flag = param.opts[0]
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{flag} takes KEY=VALUE, not {pair!r}")
        if found.setdefault(key, value) != value:
            raise click.UsageError(f"{flag} {key} is given twice: {found[key]!r} and {value!r}")
    return found
