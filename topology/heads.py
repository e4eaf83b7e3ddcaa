"""Checks of an HTTP request's head (RFC 9112) that Python's parser leaves out.

The parser also splits the request line at a no-break space. It takes a lone CR for the end of a header, and a line that
is no header for the end of the head. A proxy in front would then see a different request.
"""

from __future__ import annotations

import re
from email.message import Message
from typing import Any

MAX_DIGITS = 16  # of Content-Length, and of a chunk's size

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_REQUEST_LINE = re.compile(rf"{_TOKEN} [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]\r?\n".encode())
_NAME = re.compile(_TOKEN)
_FORM = "must be NAME: VALUE in one line, without a space before the colon"
_BLANK = " \t"  # Python's `strip` and `int` take more characters for white space


def wrong_line(line: bytes) -> str | None:
    """What is wrong with a request line, in one line; None: nothing."""
    if _REQUEST_LINE.fullmatch(line):
        return None
    shown = line[:80].decode("latin-1").rstrip("\r\n")
    return f"request line {shown!r}: must be METHOD TARGET HTTP/1.1, with one space between"


class Lines:
    """A file of which a head is read; `broken` is the first line with a lone CR in it."""

    def __init__(self, rfile: Any) -> None:
        self._rfile = rfile
        self.broken = b""

    def readline(self, size: int = -1) -> bytes:
        """As of a file."""
        line: bytes = self._rfile.readline(size)
        if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r") and not self.broken:
            self.broken = line
        return line


def wrong(headers: Message, broken: bytes) -> str | None:
    """What is wrong with the headers, in one line; None: nothing. ``broken``: see `Lines`."""
    return _wrong_form(headers, broken) or wrong_length(headers)


def _wrong_form(headers: Message, broken: bytes) -> str | None:
    if broken:
        return f"header {broken[:80].decode('latin-1').rstrip()!r}: {_FORM}"
    if headers.defects or headers.get_payload():  # Python takes such a line for the end of the head
        return f"header {str(headers.get_payload()).partition(chr(10))[0][:80].strip()!r}: {_FORM}"
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or "\n" in value or "\r" in value:
            return f"header {name[:80]!r}: {_FORM}"
    return None


def wrong_length(headers: Message) -> str | None:
    """Why it is not clear where the request ends, in one line; None: it is."""
    lengths, codings = headers.get_all("content-length", []), headers.get_all("transfer-encoding", [])
    if lengths and codings:
        return "Content-Length and Transfer-Encoding are not allowed together"
    for name, values in (("Content-Length", lengths), ("Transfer-Encoding", codings)):
        if len(values) > 1:
            return f"{name} is given {len(values)} times"
    for length in (value.strip(_BLANK) for value in lengths):
        if not (length.isascii() and length.isdigit() and len(length) <= MAX_DIGITS):
            return f"Content-Length {length[:80]!r}: must be a number of bytes"
    for coding in (value.strip(_BLANK) for value in codings):
        if coding.lower() != "chunked":
            return f"Transfer-Encoding {coding[:80]!r}: must be chunked, or left out"
    return None
