"""An object with long lists or maps in it, read one element at a time; limited by their number and by the size of each.

A body that fits the common limit is read as any other. Of longer ones there is one at a time, and no more of its text
in memory than one element takes: what is kept is what the elements are made into.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from ryu_apps import wsgi
from ryu_apps.rest.decode import HOOKS, not_json, parse_object, refuse_surrogates, refuse_twice
from ryu_apps.wsgi import Request, body_parts, eventlet, keep
from topology.errors import BadRequest, TooLarge, Unavailable

MOST = 1 << 16  # elements of a list or map: Open vSwitch numbers its ports with 16 bits
LARGEST = 1 << 18  # characters of an element, or of another field
MOST_BYTES = 1 << 28  # of the whole body, whatever is in it

Make = Callable[[int, Any], Any]
"""What an element of a list, with its place in it, is made into."""

_DECODER = json.JSONDecoder(**HOOKS)
_SPACE = " \t\n\r"
_OF_NUMBERS = "0123456789+-.eE"
_turn = eventlet.semaphore.Semaphore(1)


def read_object(request: Request, each: Mapping[str, Make]) -> dict[str, Any]:
    """The JSON object that a body is; the elements of the lists in the fields ``each`` are made into something.

    A map of strings may be long, too; its values stay what they are.
    """
    parts = body_parts(request)
    first: list[bytes] = []
    size = 0
    for part in parts:
        first.append(part)
        size += len(part)
        keep(request, len(part))
        if size > wsgi.MAX_BODY:
            return _read_long(chain(first, parts), each)
    document = parse_object(b"".join(first))
    for name, make in each.items():
        if isinstance(document.get(name), list | dict):
            _count(name, len(document[name]))
        if isinstance(document.get(name), list):
            document[name] = [make(number, element) for number, element in enumerate(document[name])]
    return document


def _read_long(parts: Iterator[bytes], each: Mapping[str, Make]) -> dict[str, Any]:
    if not _turn.acquire(timeout=wsgi.BODY_TIMEOUT):
        raise Unavailable("other long lists are being read: try again later")
    try:
        return _Reader(parts).object(each)
    finally:
        _turn.release()


def _count(name: str, number: int) -> None:
    if number > MOST:
        raise TooLarge(f"{name}: more than {MOST} of them")


class _Reader:
    """Text that comes in parts, and the values in it."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._bytes = 0

    def object(self, each: Mapping[str, Make]) -> dict[str, Any]:
        """The whole body."""

        def value(name: str) -> Any:
            if name in each and self._peek() == "[":
                return list(self._elements(name, each[name]))
            if name in each and self._peek() == "{":
                return self._fields(name, self._value)
            return self._value(name)

        document = self._fields("body", value)
        if self._peek():
            raise not_json("there is more after the object")
        return document

    def _fields(self, where: str, value: Callable[[str], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._take("{")
        if self._peek() != "}":
            while True:
                name = self._value("a field's name")
                if not isinstance(name, str):
                    raise not_json("a field's name is no string")
                refuse_twice(name, found)
                _count(where, len(found) + 1)
                self._take(":")
                found[name] = value(name)
                if self._peek() != ",":
                    break
                self._take(",")
        self._take("}")
        return found

    def _elements(self, name: str, make: Make) -> Iterator[Any]:
        self._take("[")
        if self._peek() != "]":
            number = 0
            while True:
                _count(name, number + 1)
                yield make(number, self._value(f"{name}[{number}]"))
                number += 1
                if self._peek() != ",":
                    break
                self._take(",")
        self._take("]")

    def _value(self, what: str) -> Any:
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise BadRequest("body: not JSON that can be read: nested too deeply") from None
            except ValueError as error:
                # cut off, or wrong: what comes next tells
                if len(self._text) - self._at > LARGEST:
                    raise TooLarge(f"{what}: more than {LARGEST} characters, or not JSON") from None
                if not self._more():
                    raise not_json(str(error)) from None
                continue
            if end - self._at > LARGEST:
                raise TooLarge(f"{what}: more than {LARGEST} characters")
            # a number, or what looks like the beginning of one, may go on
            if self._text[end : end + 1] in _OF_NUMBERS and self._more():
                continue
            if "\\u" in self._text[self._at : end]:
                refuse_surrogates(value)
            self._at = end
            return value

    def _peek(self) -> str:
        """The next character that is no space; empty: there is none."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, wanted: str) -> None:
        found = self._peek()
        if found != wanted:
            raise not_json(f"{wanted} is missing, there is {found or 'nothing'}")
        self._at += 1

    def _more(self) -> bool:
        """Read on; whether there was anything."""
        part = next(self._parts, b"")
        self._bytes += len(part)
        if self._bytes > MOST_BYTES:
            raise TooLarge(f"body: more than {MOST_BYTES} bytes")
        try:
            text = self._decode.decode(part, final=not part)
        except UnicodeDecodeError:
            raise BadRequest("body: not UTF-8") from None
        self._text, self._at = self._text[self._at :] + text, 0
        eventlet.sleep(0)  # others have their turn
        return bool(part)
