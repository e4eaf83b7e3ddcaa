"""What is no head of a request, read from bytes alone."""

from __future__ import annotations

import http.client
import io
from email.message import Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from topology import heads


def head(*lines: tuple[str, str]) -> Message:
    found = Message()
    for name, value in lines:
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((), None),
        ((("Content-Length", " 5 "),), None),
        ((("Transfer-Encoding", "Chunked"),), None),
        ((("Content-Length", "5"), ("Content-Length", "5")), "Content-Length is given 2 times"),
        ((("Content-Length", "٣"),), "must be a number of bytes"),
        ((("Content-Length", "1" * 17),), "must be a number of bytes"),
        ((("Transfer-Encoding", "gzip"),), "must be chunked, or left out"),
        ((("Content-Length", "5"), ("Transfer-Encoding", "chunked")), "not allowed together"),
    ],
)
def test_heads(lines: tuple[tuple[str, str], ...], why: str | None) -> None:
    """What follows a request would be taken for another one."""
    found = heads.wrong_length(head(*lines))
    assert (found is None) if why is None else (why in (found or ""))


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (b"GET / HTTP/1.1\r\n", True), (b"OPTIONS * HTTP/1.0\n", True), (b"POST /Plugin.Activate HTTP/1.1\r\n", True),
        (b"GET /\xc3\xa4 HTTP/1.1\r\n", True), (b"GET / HTTP/1.1", False), (b"GET\xa0/ HTTP/1.1\r\n", False),
        (b"GET / HTTP/1.1 \r\n", False), (b"GET /\r HTTP/1.1\r\n", False), (b"GET / HTTP/11\r\n", False),
        (b"\n", False),
    ],
)  # fmt: skip
def test_request_lines(line: bytes, right: bool) -> None:
    """Clients would be refused, or somebody's request be read in two ways."""
    assert (heads.wrong_line(line) is None) is right


@given(st.lists(st.binary(max_size=30), max_size=6))
@example([b"A: b", b" c", b"D: e"])
@example([b"A: b\rC: d"])
@example([b"A : b", b"C: d"])
def test_whatever_headers_there_are(lines: list[bytes]) -> None:
    """Others would see a header that the parser does not, or the other way round."""
    raw = b"\r\n".join([*lines, b"", b""])
    read = heads.Lines(io.BytesIO(raw))
    found = http.client.parse_headers(read)  # type: ignore[arg-type]  # of a head, only lines are read
    if heads.wrong(found, read.broken) is not None:
        return
    # the same without Python's parser
    expected = [line.removesuffix(b"\r") for line in raw.split(b"\n")]
    expected = expected[: expected.index(b"")]
    assert [name.encode("latin-1") for name in found] == [line.partition(b":")[0] for line in expected]
    values = [str(value).encode("latin-1") for value in found.values()]
    assert values == [line.partition(b":")[2].lstrip(b" \t") for line in expected]
