"""The connections of an HTTP server: how many there may be, and which of them goes when there is no room for another.

A connection either waits for its client (for a request, for the rest of one, for an answer to be taken) or its client
waits for us. Only the former are ended to make room, the one that has waited longest first, and of the address that has
most connections: so a new one always has time for its request, whatever others leave open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SPARE = 10
"""One in so many connections is never in a request: there is always one that can be ended."""


class Connection(list[Any]):
    """What eventlet calls the state of a connection: the client's address, the socket, what it is at."""

    def __init__(self, room: Room, address: Any, socket: Any, state: str) -> None:
        super().__init__([address, socket, state])
        self._room = room
        self.thread: Any = None
        self.peer = str(address[0]) if address else ""
        self.in_request = False
        self.ended = False
        self.held = 0  # bytes that we keep for this client

    __hash__ = object.__hash__  # type: ignore[assignment]  # a list, and yet none is like another

    def __eq__(self, other: object) -> bool:
        return self is other

    def begin(self) -> None:
        """The head of a request is there."""
        self._room.begin(self)

    def finish(self) -> None:
        """The request is answered."""
        self._room.finish(self)

    @contextmanager
    def waiting(self, unsent: int = 0) -> Iterator[None]:
        """In the middle of a request, for as long as it is the client's turn; ``unsent``: bytes that it is to take."""
        self._room.wait(self, unsent)
        try:
            yield
        finally:
            self._room.go_on(self, unsent)

    def received(self, size: int) -> None:
        """A part of a body, which is kept until the request is done."""
        self._room.hold(self, size)


class Room:
    """Of one server."""

    def __init__(self, most: int, most_held: int, end: Callable[[Connection, int], None]) -> None:
        """``most`` connections; ``most_held`` bytes that all clients together may leave with us.

        ``end`` is told how many bytes we held for the connection; it may let others have their turn.
        """
        self.most = most
        self._in_requests = max(1, most - most // SPARE)
        self._of_one_peer = max(1, self._in_requests * 3 // 4)
        self._most_held = most_held
        self._end = end
        self._connections: Counter[str] = Counter()  # by peer
        self._requests: Counter[str] = Counter()
        self._idle: dict[str, dict[Connection, None]] = {}  # by peer, the longest idle first
        self._stalled: dict[Connection, None] = {}  # in a request, and it is the client's turn; the longest first
        self._held = 0

    def enter(self, connection: Connection) -> None:
        """One is accepted, and waits for a request."""
        self._connections[connection.peer] += 1
        self._idle.setdefault(connection.peer, {})[connection] = None

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        connection.ended = True
        self.finish(connection)
        self._forget(connection)
        self._lower(self._connections, connection.peer)

    def begin(self, connection: Connection) -> None:
        """The head of a request is there."""
        self._forget(connection)
        connection.in_request = True
        self._requests[connection.peer] += 1

    def admitted(self, connection: Connection) -> bool:
        """Whether there is room for the request that it has begun; where others stall theirs, one of those goes."""
        while self._crowded(connection.peer):
            victim = next((c for c in self._stalled if c.peer == connection.peer), next(iter(self._stalled), None))
            if victim is None:
                return False
            self._end_one(victim)
        return True

    def finish(self, connection: Connection) -> None:
        """The request is answered: it waits for another."""
        if not connection.in_request:
            return
        connection.in_request = False
        self._lower(self._requests, connection.peer)
        self._held -= connection.held
        connection.held = 0
        self._stalled.pop(connection, None)
        if not connection.ended:
            self._idle.setdefault(connection.peer, {})[connection] = None

    def wait(self, connection: Connection, unsent: int) -> None:
        """It is the client's turn."""
        if connection.ended:
            return
        self._stalled[connection] = None
        self.hold(connection, unsent)

    def go_on(self, connection: Connection, unsent: int) -> None:
        """It is ours again."""
        self._stalled.pop(connection, None)
        taken = min(unsent, connection.held)  # none, where it was ended meanwhile
        connection.held -= taken
        self._held -= taken

    def hold(self, connection: Connection, size: int) -> None:
        """So many bytes more are kept for a client; over the limit, those that others don't take are let go."""
        if connection.ended:
            return
        connection.held += size
        self._held += size
        while self._held > self._most_held:
            other = next((c for c in self._stalled if c is not connection and c.held), None)
            if other is None:
                return
            self._end_one(other)

    def make(self) -> bool:
        """Ends one that waits for its client; whether there was any."""
        peers = Counter({peer: self._connections[peer] for peer in self._idle})
        for connection in self._stalled:
            peers[connection.peer] = self._connections[connection.peer]
        if not peers:
            return False
        peer = max(peers, key=lambda p: peers[p])
        idle = self._idle.get(peer)
        self._end_one(next(iter(idle)) if idle else next(c for c in self._stalled if c.peer == peer))
        return True

    def _crowded(self, peer: str) -> bool:
        return self._requests.total() > self._in_requests or self._requests[peer] > self._of_one_peer

    def _end_one(self, connection: Connection) -> None:
        held = connection.held
        connection.ended = True
        self.finish(connection)
        self._forget(connection)
        self._end(connection, held)

    def _forget(self, connection: Connection) -> None:
        idle = self._idle.get(connection.peer)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[connection.peer]
        self._stalled.pop(connection, None)

    @staticmethod
    def _lower(counter: Counter[str], peer: str) -> None:
        counter[peer] -= 1
        if counter[peer] <= 0:
            del counter[peer]
