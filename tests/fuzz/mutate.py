"""What makes something right nearly right: bytes, and JSON documents. All of it follows from a generator."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LARGEST = 0xFFFF

# bytes


def cut(rng: random.Random, raw: bytes) -> bytes:
    """Its beginning."""
    return raw[: rng.randrange(len(raw) + 1)]


def flipped(rng: random.Random, raw: bytes) -> bytes:
    """With a few other bits."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def inserted(rng: random.Random, raw: bytes) -> bytes:
    """With bytes in it that don't belong there."""
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.randbytes(rng.choice((1, 2, 8, 64))) + raw[at:]


def repeated(rng: random.Random, raw: bytes) -> bytes:
    """With its end several times."""
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + raw[at:] * rng.choice((2, 3, 20))


def shortened(rng: random.Random, raw: bytes) -> bytes:
    """With one of its parts left out."""
    begin, end = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:begin] + raw[end:]


BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (cut, flipped, flipped, inserted, repeated, shortened)


def bent(rng: random.Random, raw: bytes, most: int = 1 << 16) -> bytes:
    """The bytes after one to three such changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        raw = rng.choice(BYTES)(rng, raw)[:most]
    return raw


# JSON

TEXTS = (
    "", " ", "0", "-1", "x" * 300, "x" * 5000, "a\nFAKE LINE", "\x1b]0;owned\x07", "\x00", "\x9b2J", "\u202egnp",
    "\ufeff",
    "é", "İ", "ß" * 70, "😀", "\u0661\u0662", "²", "\ud7ff\ue000", "a:b:c:d", ":", "::", "../../etc/passwd",
    "%s%n", "%00", "/", "//",
    "None", "null", "true", "default", "netctl", "1e9", "0x10", "1_000", "+1", "٣", "9" * 30, "9" * 4400,
    "0.0.0.0", "0.0.0.0/0", "255.255.255.255", "255.255.255.255/32", "255.255.255.254/31", "10.250.0.0/33",
    "10.1.1.0/-1", "010.1.1.1",
    "127.0.0.1", "169.254.0.1", "169.254.0.0/16", "224.0.0.1", "240.0.0.1", "250.0.0.1", "251.0.0.1", "249.0.0.1",
    "::/0", "::1", "::ffff:10.1.1.1", "fe80::1", "fe80::1%eth0", "fe80::%1/64", "ff02::1", "100::1:0:1",
    "fd00::/129",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
    "10.250.0.9-10.250.0.2/24",
    "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "0e:4e:43:00:00:01", "02:42", "80:80:TCP",
    "0:0:UDP", "65536:1:TCP",
    "80:80:", "80:80:SCTP", "1:1:tcp", "-1:-1:TCP", "80:", ":80", "a=b", "=", "a=", "=b", "a=b=c",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 4, 6, 255, 4095, 65535, 65536, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 64, -(1 << 63),
    10**40,
)  # fmt: skip
VALUES = (
    None, True, False, 0.5, -0.0, 1e308, [], {}, [[]], [{}], {"": None}, {"a": "b"}, [None], ["a", "b"], ["a", "a"],
)  # fmt: skip


def value(rng: random.Random) -> Any:
    """One of those that are trouble."""
    kind = rng.randrange(10)
    if kind < 5:
        return rng.choice(TEXTS)
    if kind < 7:
        return rng.choice(NUMBERS)
    if kind < 9:
        return rng.choice(VALUES)
    return deep(rng.choice((5, 30, 33, 60)), rng.random() < 0.5)


def deep(levels: int, objects: bool) -> Any:
    """Lists, or objects, within each other."""
    found: Any = 0
    for _ in range(levels):
        found = {"a": found} if objects else [found]
    return found


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a document, also within others."""
    for name, inner in document.items() if isinstance(document, Mapping) else enumerate(document):
        yield (*path, name)
        if isinstance(inner, Mapping | list):
            yield from places(inner, (*path, name))


def replaced(document: Any, path: tuple[Any, ...], by: object) -> Any:
    """The document with another value in one place."""
    if not path:
        return by
    copy = dict(document) if isinstance(document, Mapping) else list(document)
    copy[path[0]] = replaced(document[path[0]], path[1:], by)
    return copy


def _without(document: Any, path: tuple[Any, ...]) -> Any:
    copy = dict(document) if isinstance(document, Mapping) else list(document)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _without(document[path[0]], path[1:])
    return copy


def _touched(rng: random.Random, document: Any, at: tuple[Any, ...]) -> Any:
    """The value that is there, a little different."""
    for step in at:
        document = document[step]
    if isinstance(document, str):
        characters = bent(rng, document.encode(), 8000).decode(errors="replace")
        return rng.choice((characters, document.upper(), f" {document}", f"{document}\n", document + document))
    if isinstance(document, int) and not isinstance(document, bool):
        return rng.choice((document + 1, document - 1, -document, document * 1000, str(document), float(document)))
    if isinstance(document, list):
        return rng.choice((document * 2, document * 300, [*document, value(rng)], [document]))
    return [document]


def document(rng: random.Random, right: Any) -> Any:
    """A document that is right in most parts."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        found = list(places(right)) if isinstance(right, Mapping | list) else []
        if not found:
            return value(rng)
        at, kind = rng.choice(found), rng.randrange(12)
        if kind < 6:
            right = replaced(right, at, value(rng))
        elif kind < 9:
            right = replaced(right, at, _touched(rng, right, at))
        elif kind < 10:
            right = _without(right, at)
        elif kind < 11 and isinstance(right, Mapping):
            right = {**right, rng.choice(TEXTS): value(rng)}
        else:
            right = rng.choice((right, [right], value(rng)))
    return right


def text(rng: random.Random, right: Any) -> bytes:
    """The text of such a document, which is itself nearly right."""
    raw = json.dumps(document(rng, right), ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    kind = rng.randrange(20)
    if kind == 0:
        return bent(rng, raw)
    if kind == 1:
        return rng.choice(ODD)
    if kind == 2:
        return raw[:-1] + b',"a":1,"a":2}'
    if kind == 3:
        return raw.replace(b'"', rng.choice((b'"\\ud800', b'"\\u0000', b"'", b'"\xff', b'"\xed\xa0\x80')), 1)
    return raw


ODD = (
    b"", b" ", b"\n", b"null", b"[]", b'"x"', b"0", b"{}", b"{} {}", b"\xef\xbb\xbf{}", b"NaN", b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": -' + b"1" * 4299 + b"}", b"[" * 100_000,
    b'{"a":' * 50_000,
    b"[" * 900 + b"]" * 900, b'{"a":' * 400 + b"1" + b"}" * 400, b'{"\\ud800": 1}', b'{"a": "\\udfff"}', b"\x00",
    b"\xff\xfe{\x00}\x00",
    b'{"a":1' + b" " * 200_000 + b"}", b"{" + b",".join(b'"k%d":0' % n for n in range(20_000)) + b"}",
    b'{"a": "' + b"x" * 400_000 + b'"}',
    b'{"endpoints": [' + b"{}," * 70_000 + b"{}]}",
    b'{"errors": {' + b",".join(b'"e%d":""' % n for n in range(20_000)) + b"}}",
)  # fmt: skip
