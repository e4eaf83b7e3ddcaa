"""JSON from outside, bounded in depth. Else ``ValueError`` with one line.

The caller bounds the size, before the bytes are read.
"""

from __future__ import annotations

import json
import math
from typing import Any

from topology.text import one_line

MOST_DEPTH = 32  # of objects and lists within each other
MOST_SHOWN = 80  # characters of a wrong value
INTEGERS = range(-(1 << 63), 1 << 64)


def load(content: bytes) -> Any:
    """The value that the bytes are in JSON."""
    try:
        value = json.loads(content, parse_constant=_no_constant, parse_float=_finite, parse_int=_of_64_bits)
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


def _of_64_bits(text: str) -> int:
    value = int(text)
    if value not in INTEGERS:
        raise ValueError(f"{text[:MOST_SHOWN]} is not a whole number of 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number too large")
    return value
