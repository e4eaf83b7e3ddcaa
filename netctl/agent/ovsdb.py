"""Transactions with Open vSwitch's database: one request, one answer, a deadline.

No copy of the database is kept: each answer is the server's truth, and a restarted server is met by the next request,
which opens a new connection.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netctl.agent.errors import SwitchError

# The library imports eventlet where there is one, without any use here: that would be half of the agent's start.
_EVENTLET = sys.modules.get("eventlet")
sys.modules["eventlet"] = None  # type: ignore[assignment] # "not installed"
try:
    import ovs.jsonrpc  # type: ignore[import-untyped]
    import ovs.poller  # type: ignore[import-untyped]
    import ovs.stream  # type: ignore[import-untyped]
finally:
    del sys.modules["eventlet"]
    if _EVENTLET is not None:
        sys.modules["eventlet"] = _EVENTLET

Operation = Mapping[str, Any]
DATABASE = "Open_vSwitch"
TIMEOUT = 5.0  # s
_NOTHING = (0, errno.EAGAIN)  # how a connection says that it is well and has no more messages


class Ovsdb:
    """A connection to an ovsdb-server, opened when it is needed. For several threads."""

    def __init__(self, remote: str, timeout: float = TIMEOUT) -> None:
        self.remote = remote
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: Any = None

    def transact(self, operations: Sequence[Operation]) -> list[dict[str, Any]]:
        """The results of the operations, done all or none. Raises `SwitchError`."""
        with self._lock:
            if self._connection is not None and self._connection.recv()[0] not in _NOTHING:
                self.close()  # the server has gone since the last time
            deadline = time.monotonic() + self._timeout
            try:
                return self._checked(operations, self._ask(operations, deadline))
            except SwitchError:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, deadline: float) -> Any:
        if self._connection is None:
            wait = int(max(0.0, deadline - time.monotonic()) * 1000)
            try:
                error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(self.remote), wait)
            except ValueError as reason:
                raise SwitchError(f"{self.remote!r} is not a database of Open vSwitch: {reason}") from None
            if error:
                raise self._gone(error)
            self._connection = ovs.jsonrpc.Connection(stream)
        return self._connection

    def _gone(self, error: int) -> SwitchError:
        reason = os.strerror(error) if error > 0 else "the connection ended"
        return SwitchError(f"Open vSwitch does not answer at {self.remote}: {reason}")

    def _ask(self, operations: Sequence[Operation], deadline: float) -> Any:
        connection = self._open(deadline)
        request = ovs.jsonrpc.Message.create_request("transact", [DATABASE, *operations])
        error = connection.send(request)
        if error:
            raise self._gone(error)
        while True:
            connection.run()
            error, message = connection.recv()
            if error not in _NOTHING:
                raise self._gone(error)
            if message is None:
                self._wait(connection, deadline)
            elif message.method == "echo":
                connection.send(ovs.jsonrpc.Message.create_reply(message.params, message.id))
            elif message.id == request.id:
                if message.error:
                    raise SwitchError(f"Open vSwitch refused: {_line(message.error)}")
                return message.result

    def _wait(self, connection: Any, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise SwitchError(f"Open vSwitch does not answer at {self.remote}: no answer in {self._timeout:g} s")
        poller = ovs.poller.Poller()
        connection.wait(poller)
        connection.recv_wait(poller)
        poller.timer_wait(int(left * 1000) + 1)
        poller.block()

    def _checked(self, operations: Sequence[Operation], results: Any) -> list[dict[str, Any]]:
        if not isinstance(results, list):
            raise SwitchError(f"Open vSwitch answered {results!r}")
        for result in results:
            # A failed operation has an error; the ones after it are null.
            if isinstance(result, dict) and result.get("error"):
                raise SwitchError(f"Open vSwitch refused: {_line(result)}")
        return results[: len(operations)]


def _line(error: Any) -> str:
    if isinstance(error, dict):
        return " ".join(f"{error.get('error', '')}: {error.get('details', '')}".split()).rstrip(": ")
    return str(error)


# The notation of RFC 7047 for values that are not plain JSON.


def omap(values: Mapping[Any, Any]) -> list[Any]:
    """A map column's value."""
    return ["map", [[key, value] for key, value in sorted(values.items())]]


def oset(values: Sequence[Any]) -> list[Any]:
    """A set column's value."""
    return ["set", list(values)]


def from_map(value: Any) -> dict[str, str]:
    """A map column's value as a dictionary."""
    return {str(key): str(item) for key, item in value[1]}


def rows_of(value: Any) -> dict[Any, Any]:
    """A map column's value as a dictionary, keys and values as they are: a row's is ["uuid", "…"]."""
    return dict(value[1])


def members(value: Any) -> Iterator[Any]:
    """What is in a set column: a set of one is written as its only member."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "set":
        yield from value[1]
    else:
        yield value


def by_name(table: str, name: str, columns: Sequence[str]) -> Operation:
    """Select the row of that name."""
    return {"op": "select", "table": table, "where": [["name", "==", name]], "columns": list(columns)}
