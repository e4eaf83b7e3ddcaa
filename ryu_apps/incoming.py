"""A request's body, as its chunks tell it: eventlet reads them without a limit.

Whoever reads a body reads it in parts and counts them. What is bounded here is what carries no byte of it: the lines
between its chunks, and the turns that other greenthreads wait for meanwhile.
"""

from __future__ import annotations

import warnings
from typing import Any

from topology.heads import MAX_DIGITS

with warnings.catch_warnings():
    # eventlet announces its end of life: known
    warnings.simplefilter("ignore")
    import eventlet  # type: ignore[import-untyped]
    import eventlet.wsgi  # type: ignore[import-untyped]

MAX_CHUNK_LINE = 256  # bytes of the line before a chunk, with extensions that nobody reads
MAX_TRAILERS = 8 << 10  # bytes of the headers after the last chunk
CHUNKS_A_TURN = 64  # chunks until others have their turn: a client may keep us supplied without a pause

DISCARD_TIMEOUT = 5.0  # s, and
MAX_DISCARDED = 4 << 20  # bytes of a body that nobody reads, before the connection is ended instead

_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")


class Input(eventlet.wsgi.Input):  # type: ignore[misc]
    """The body of a request."""

    broken = False
    _chunks = 0

    def discard(self, buffer_size: int = 1 << 16) -> None:
        """What is left of a body after its answer, if it is little and comes soon. OSError: it is not."""
        left = MAX_DISCARDED
        with eventlet.Timeout(DISCARD_TIMEOUT, TimeoutError()):
            while part := self.read(buffer_size):
                left -= len(part)
                if left < 0:
                    raise OSError("the rest of the body is too large")

    def _chunked_read(self, rfile: Any, length: int | None = None, use_readline: bool = False) -> bytes:
        """So many bytes of a chunked body, fewer at its end. ChunkReadError: it is malformed; OSError: broken off."""
        assert length is not None and length >= 0 and not use_readline, "a body is read in parts"
        if self.broken:
            raise OSError("the body is malformed, or broken off")
        if self.should_send_hundred_continue:
            self.send_hundred_continue_response()
            self.is_hundred_continue_response_sent = True
        parts = []
        self.broken = True  # unless all of this read goes well
        while length and self.chunk_length:
            if self.position >= self.chunk_length:
                self._next_chunk(rfile)
                continue
            part = rfile.read(min(length, self.chunk_length - self.position))
            if not part:
                raise OSError("the connection ended within a chunk")
            parts.append(part)
            length -= len(part)
            self.position += len(part)
            if self.position == self.chunk_length and _line(rfile, 2).strip(b"\r\n"):
                raise eventlet.wsgi.ChunkReadError("a chunk is longer than its size")
        self.broken = False
        return b"".join(parts)

    def _next_chunk(self, rfile: Any) -> None:
        self._chunks += 1
        if self._chunks % CHUNKS_A_TURN == 0:
            eventlet.sleep(0)
        size = _line(rfile, MAX_CHUNK_LINE).partition(b";")[0].strip()
        if not 0 < len(size) <= MAX_DIGITS or not _HEXADECIMAL.issuperset(size):
            raise eventlet.wsgi.ChunkReadError("a chunk without its size")
        self.chunk_length, self.position = int(size, 16), 0
        if not self.chunk_length:
            left = MAX_TRAILERS
            while (line := _line(rfile, left)).strip(b"\r\n"):
                left -= len(line)


def _line(rfile: Any, most: int) -> bytes:
    """A whole line, with its end."""
    line: bytes = rfile.readline(most)
    if not line.endswith(b"\n"):
        if len(line) < most:
            raise OSError("the connection ended within a line")
        raise eventlet.wsgi.ChunkReadError(f"a line of more than {most} bytes")
    return line
