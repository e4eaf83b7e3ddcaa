"""Where a request's body ends, read from bytes alone."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryu_apps import incoming
from ryu_apps.incoming import Input
from ryu_apps.wsgi import eventlet

Chunk = eventlet.wsgi.ChunkReadError


def body(content: bytes, **more: Any) -> Input:
    return Input(io.BytesIO(content), None, None, chunked_input=True, **more)


def whole(content: bytes, size: int = 1000) -> bytes:
    source, found = body(content), b""
    while part := source.read(size):
        found += part
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_chunks(size: int) -> None:
    """A client that sends its body in chunks could not make a network."""
    assert whole(b"3\r\nabc\r\n0002;x=y\r\nde\r\nA \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    size) == b"abcde0123456789"
    assert whole(b"1\nx\n0\n\n", size) == b"x"
    assert whole(b"1\r\nx\r\n" * 200 + b"0\r\n\r\n", size) == b"x" * 200


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"-1\r\n", Chunk), (b"\r\n", Chunk), (b"0x1\r\nx\r\n", Chunk), (b"1_0\r\n", Chunk), (b";x\r\n", Chunk),
        (b"1" * 17 + b"\r\n", Chunk), (b"1" * 300, Chunk), (b"1;" + b"x" * 300 + b"\r\n", Chunk),
    (b"2\r\nabc\r\n", Chunk),
        (b"0\r\n" + b"a: b\r\n" * 2000 + b"\r\n", Chunk), (b"0\r\n" + b"a" * 9000, Chunk),
        (b"", OSError), (b"5\r\nab", OSError), (b"5", OSError), (b"2\r\nab", OSError), (b"0\r\na: b", OSError),
    ],
)  # fmt: skip
def test_chunks_that_are_none(content: bytes, error: type[Exception]) -> None:
    """They would be read for ever, fill the memory, or be taken for something else."""
    source = body(content)
    with pytest.raises(error):
        while source.read(1000):
            pass
    with pytest.raises(OSError, match="malformed, or broken off"):
        source.read(1)


@given(st.binary(max_size=400))
def test_any_chunks(content: bytes) -> None:
    """The same for whatever there may be."""
    source = body(content)
    try:
        while source.read(7):
            pass
    except (Chunk, OSError):
        assert source.broken


def test_who_waits_to_go_on_is_told() -> None:
    """curl waits a second before each large body."""
    out = io.BytesIO()
    source = body(b"1\r\nx\r\n0\r\n\r\n", wfile=out, wfile_line=b"HTTP/1.1 100 Continue\r\n")
    assert source.read(10) == b"x"
    assert out.getvalue() == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_what_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends without an end would keep its connection, and us busy."""
    monkeypatch.setattr(incoming, "MAX_DISCARDED", 100)
    body(b"3\r\nabc\r\n0\r\n\r\n").discard()
    with pytest.raises(OSError, match="too large"):
        body(b"ff\r\n" + b"x" * 255 + b"\r\n0\r\n\r\n").discard(50)
