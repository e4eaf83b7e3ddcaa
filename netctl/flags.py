"""Flags as Contiv's users type them: one dash or two, ``=`` or a space. ``-ip ADDRESS``, ``--ip=ADDRESS``.

Click reads only some of these forms, and takes a mistyped ``-tennant`` for ``-t ennant``. So what was typed
is first rewritten to the one form that is the same to everybody: ``--long-name=value``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import click


def rewritten(args: Sequence[str], params: Iterable[click.Parameter], *, anywhere: bool) -> list[str]:
    """The arguments, flags in their long form. Not ``anywhere``: only flags before the first argument are."""
    known = {
        name.lstrip("-"): option
        for option in params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    result: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if arg == "--" or not arg.startswith("-") or arg == "-":
            result.append(arg)
            if arg == "--" or not anywhere:
                return result + rest
            continue
        typed, equals, value = arg.partition("=")
        name = typed.removeprefix("-").removeprefix("-")
        option = known.get(name)
        if option is not None and not option.is_flag:
            if not equals:
                if not rest:
                    raise click.UsageError(f"flag {typed} needs a value")
                value = rest.pop(0)
            result.append(f"{_long(option)}={value}")
        elif option is not None:
            if equals:
                raise click.UsageError(f"flag {typed} takes no value")
            result.append(_long(option))
        elif not equals and not arg.startswith("--") and all(c in known and known[c].is_flag for c in name):
            result.extend(_long(known[c]) for c in name)  # -aq
        else:
            raise click.UsageError(f"unknown flag {typed}{_suggestion(name, known)}")
    return result


def _long(option: click.Option) -> str:
    return max(option.opts, key=lambda name: (name.startswith("--"), len(name)))


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [k for k in known if len(k) > 1], n=1)
    return f"; did you mean --{near[0]}?" if near else ""
