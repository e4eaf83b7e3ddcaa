"""What a user reads on standard output: lines, tables, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from topology.text import clean, one_line

GAP = "  "
MOST_IN_CELL = 300  # characters


def say(line: str) -> None:
    """One line."""
    sys.stdout.write(clean(line) + "\n")


def say_json(value: object) -> None:
    """JSON with two-space indents. Control characters are escaped as JSON does it, so a script reads the same."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text) + "\n")


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns under their names and a rule, as scripts that skip two lines expect them."""
    cells = [[one_line(str(cell), MOST_IN_CELL) for cell in row] for row in rows]
    lines = [list(columns), ["-" * len(name) for name in columns], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(GAP.join(padded).rstrip() + "\n")


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"


def without_empty(doc: Mapping[str, Any]) -> dict[str, Any]:
    """A document without its empty fields. A number is never empty; a label's value may be."""
    return {field: value for field, value in doc.items() if value not in (None, "", [], {})}
