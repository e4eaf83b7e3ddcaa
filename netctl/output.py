"""What a user reads on standard output: lines, tables, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GAP = "  "


def say(line: str) -> None:
    """One line."""
    sys.stdout.write(clean(line) + "\n")


def say_json(value: object) -> None:
    """JSON with two-space indents."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns under their names and a rule, as scripts that skip two lines expect them."""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    lines = [list(columns), ["-" * len(name) for name in columns], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(GAP.join(padded).rstrip() + "\n")


def clean(text: str) -> str:
    """The text on one line, and nothing in it that a terminal would obey: labels are anybody's to choose."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_empty(doc: Mapping[str, Any]) -> dict[str, Any]:
    """A document without its empty fields. A number is never empty; a label's value may be."""
    return {field: value for field, value in doc.items() if value not in (None, "", [], {})}
