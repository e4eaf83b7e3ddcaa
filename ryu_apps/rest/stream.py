"""The change stream: every change of the model as a line of JSON, to be followed and resumed by revision.

The ``revision`` of a line is what its reader has once it has read it: all lines of a transaction but the last
carry the revision before, so that a reader that is cut off between them and resumes gets all of them again.
The lines of the opening picture are complete only with the ``sync`` line behind them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ryu_apps.rest.documents import agent_service_document, host_document
from ryu_apps.wsgi import defer, new_event
from topology.contract import Document, document_of
from topology.documents import StreamNetworkDoc, StreamTenantDoc
from topology.errors import NetctlError, Unavailable
from topology.model import Commit, Endpoint, Host, Lease, Network, Object, Service, Tenant
from topology.reports import EndpointDoc
from topology.snapshot import Model

ALIVE_PERIOD = 3.0  # s
QUEUE_LIMIT = 10_000  # lines that a reader may be behind,
QUEUE_BYTES = 8 << 20  # and bytes
OF_A_HOST = 4  # streams of one host at once: it needs one, and another while the first is not known to be broken
OF_OTHERS = 100  # streams of all who are no hosts
ENCODED, ENCODED_LINES = 1000, 100  # commits whose lines are kept for those who resume, if they are no more than that
CHUNK = 1 << 16  # bytes sent at once, about

History = Callable[[int], list[Commit] | None]
"""The commits after a revision; None: too old, or in the future. A store's ``changes_since``."""


class Gone(NetctlError):
    """The stream can't be resumed there."""

    status = 410


class Stream:
    """The lines for one reader. Ends when the reader is too slow or gone, or the server stops."""

    def __init__(self, feed: ChangeFeed, alive_period: float, host: str = "") -> None:
        self._feed = feed
        self.host = host
        self._bytes = 0  # of the lines
        self._opening: deque[bytes] = deque()
        self._lines: deque[bytes] = deque()
        self._alive_period = alive_period
        self._wake: Callable[[], None] | None = None
        self._at_close: list[Callable[[], None]] = []
        self.ended = False

    def start(self, opening: Iterable[bytes]) -> None:
        """The lines that come first; they don't count against the limit."""
        self._opening.extend(opening)

    def at_close(self, call: Callable[[], None]) -> None:
        """Something to do when the stream is closed."""
        self._at_close.append(call)

    def put(self, lines: list[bytes]) -> None:
        """Lines to send; over the limit, the stream ends: its reader resumes where it is."""
        size = sum(map(len, lines))
        # one commit may be larger by itself: who is not behind gets it
        if self._lines and (len(self._lines) + len(lines) > QUEUE_LIMIT or self._bytes + size > QUEUE_BYTES):
            self.give_up()
            return
        self._bytes += size
        self._lines.extend(lines)
        self._notify()

    def give_up(self) -> None:
        """End it in the middle of something else: closing it lets other greenthreads run, and has to wait."""
        self.end()
        defer(self.close)

    def end(self) -> None:
        """No more lines, not even those that wait; the server closes the stream after that."""
        self.ended = True
        self._opening.clear()
        self._lines.clear()
        self._bytes = 0
        self._feed.leave(self)
        self._notify()

    def close(self) -> None:
        """End it and let go of everything; the server calls it at the end of the response."""
        self.end()
        calls, self._at_close = self._at_close, []
        for call in calls:
            call()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not (self.ended or self._opening or self._lines):
            event = new_event()
            self._wake = event.send
            event.wait(self._alive_period)
            self._wake = None
        if self.ended:
            raise StopIteration
        return self._chunk() or self._feed.alive_line()

    def _chunk(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        for source in (self._opening, self._lines):
            while source and size < CHUNK:
                parts.append(source.popleft())
                size += len(parts[-1])
                if source is self._lines:
                    self._bytes -= len(parts[-1])
        return b"".join(parts)

    def _notify(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()


@dataclass(frozen=True, slots=True)
class _Line:
    kind: str
    key: str
    document: Document | None

    def encode(self, revision: int) -> bytes:
        return _encode({"revision": revision, "kind": self.kind, "key": self.key, "object": self.document})


class ChangeFeed:
    """Turns commits into lines, once each, for all streams."""

    def __init__(self, model: Model, history: History, alive_period: float = ALIVE_PERIOD) -> None:
        self._model = model
        self._history = history
        self._alive_period = alive_period
        self._streams: dict[Stream, None] = {}  # the oldest first
        self._of_picture: tuple[int, list[bytes]] = (-1, [])  # the revision, and what those who begin there are sent
        self._encoded: dict[int, list[bytes]] = {}  # lines by revision: all who resume share them
        self._published = model.revision
        self._closed = False

    def publish(self, commit: Commit) -> None:
        """A commit has happened; to be called for each, in order."""
        before, self._published = self._published, commit.revision
        if commit.revision != before + 1:
            # several at once, of which not each is known any more: who was in the middle of one can't be led through
            self.end_all()
        elif self._streams:
            lines = self._lines_of(commit)
            for stream in list(self._streams):
                stream.put(lines)

    def open(self, since: int | None, host: str = "") -> Stream:
        """A stream: the present and what follows, or what follows a revision; Gone when that is not known.

        ``host``: the host that reads it, if it is one of the model's: there is always room for those.
        """
        stream = Stream(self, self._alive_period, host)
        same = [s for s in self._streams if s.host == host]
        if not host and len(same) >= OF_OTHERS:
            raise Unavailable(f"{len(same)} clients that are no hosts follow the changes already: no more than that")
        if host and len(same) >= OF_A_HOST:
            same[0].give_up()
        self._streams[stream] = None
        try:
            stream.start(self._picture() if since is None else self._missed(since))
        except BaseException:
            self.leave(stream)
            raise
        if self._closed:
            stream.end()
        return stream

    def leave(self, stream: Stream) -> None:
        """The stream gets no more lines."""
        self._streams.pop(stream, None)

    def close(self) -> None:
        """Ends all streams, and those still to come at once."""
        self._closed = True
        self.end_all()

    def end_all(self) -> None:
        """Ends all streams that there are."""
        for stream in list(self._streams):
            stream.end()

    def alive_line(self) -> bytes:
        """Says that nothing has happened."""
        return _encode({"revision": self._model.revision, "kind": "alive"})

    def _picture(self) -> list[bytes]:
        revision = self._model.revision
        if self._of_picture[0] == revision:
            return self._of_picture[1]
        # of the services, those that agents have to do something for: the others may be very many
        services = [s for s in self._model.services.values() if s.check is not None or s.published]
        model = self._model
        objects: list[Object] = [*model.tenants.values(), *model.networks.values(), *services, *model.hosts.values()]
        lines = [_Line(o.kind, o.key, _document(o)).encode(revision) for o in objects]
        self._of_picture = (revision, [*lines, self._sync_line(revision)])
        return self._of_picture[1]

    def _lines_of(self, commit: Commit) -> list[bytes]:
        found = self._encoded.get(commit.revision)
        if found is None:
            found = _commit_lines(commit)
            if len(found) <= ENCODED_LINES:
                self._encoded[commit.revision] = found
            if len(self._encoded) > ENCODED:
                del self._encoded[next(iter(self._encoded))]
        return found

    def _missed(self, since: int) -> list[bytes]:
        # the stream is open already: what is committed while the history is read is in its queue
        revision = self._model.revision
        commits = self._history(since) if since <= revision else None
        if commits is None:
            raise Gone(f"since {since}: not known here (any more); follow without it for a new start")
        lines = [line for c in commits if c.revision <= revision for line in self._lines_of(c)]
        return [*lines, self._sync_line(revision)]

    @staticmethod
    def _sync_line(revision: int) -> bytes:
        return _encode({"revision": revision, "kind": "sync"})


def _commit_lines(commit: Commit) -> list[bytes]:
    changes = [c for c in commit.changes if c.kind != Lease.kind]
    # networks last: who follows nothing else has the whole revision with theirs
    changes.sort(key=lambda c: c.kind == Network.kind)
    lines = [_Line(c.kind, c.key, None if c.after is None else _document(c.after)) for c in changes]
    last = len(lines) - 1
    return [line.encode(commit.revision - (i < last)) for i, line in enumerate(lines)]


def _document(value: Object) -> Document:
    if isinstance(value, Network):
        return document_of(StreamNetworkDoc, value)
    if isinstance(value, Service):
        return agent_service_document(value)
    if isinstance(value, Endpoint):
        return document_of(EndpointDoc, value)
    if isinstance(value, Tenant):
        return document_of(StreamTenantDoc, value)
    assert isinstance(value, Host), f"no document for a {value.kind}"
    return host_document(value)


def _encode(line: Document) -> bytes:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
