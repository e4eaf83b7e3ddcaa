"""Requests to the REST API that are nearly right: ``python -m tests.fuzz.rest --count 20000``.

With ``--connect HOST:PORT --seconds 600`` they go to a running controller instead. Each is answered as the API answers,
by JSON or by one line of text, and never with status 500; or its connection ends. What is there at the start, and
whatever has a ``--spare`` in its name, is left alone. Everything follows from ``--seed``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from tests.fuzz.command import Fault, Target, command, exchange
from tests.fuzz.rest_requests import FURNITURE, ROOT, ROUTES, TENANTS, Asked, Route, asked, raw

SLOWEST = 2.0  # s for one request, on a machine with much else to do
PATIENCE = 60.0  # s for an answer of a controller with much else to do; a network waits 15 s for its hosts
THREADS = 4
ENOUGH = 5  # faults of a thread: more tell nothing new
HELD = 20  # half requests that a thread leaves open
SWEEP = 200  # requests of a thread between two removals of what they made
STATUSES = frozenset({200, 307, 400, 403, 404, 405, 409, 410, 413, 414, 422, 429, 431, 501, 503, 505})
LONGEST_LINE = 1001
LONGEST_HEAD = 1 << 16


def judge(request: object, status: int, kind: str, body: bytes, *, bodyless: bool = False) -> str:
    """What became of a request. Fault: an answer that the API never gives."""
    wrong = ""
    if status not in STATUSES:
        wrong = "its status"
    elif bodyless or status == 307:
        wrong = "its body" if body else ""
    elif status == 200:
        with contextlib.suppress(ValueError):
            json.loads(body)
            return "200"
        wrong = "its body is no JSON"
    elif not kind.startswith("text/plain"):
        wrong = f"its type {kind!r}"
    else:
        line = body.decode(errors="replace")
        one = line.endswith("\n") and line[:-1].isprintable() and 1 < len(line) <= LONGEST_LINE
        wrong = "" if one and "Traceback" not in line else "its line"
    if wrong:
        raise Fault(f"{request!r:.2000} was answered by {status} {kind} {body[:2000]!r}: {wrong}")
    return str(status)


# to a running controller


@dataclass
class _Spared:
    """What is left alone: what has one of these in it, in whatever way it is spelled."""

    names: list[bytes] = field(default_factory=list)

    def touched(self, raw_request: bytes) -> bool:
        """Whether a request may be about one of them."""
        shown = unquote_to_bytes(raw_request) + raw_request
        return any(name in shown for name in self.names)


class _Session:
    """One thread's requests, one after the other."""

    def __init__(self, target: Target, seed: int, routes: Sequence[Route], spared: _Spared) -> None:
        self._target, self._rng, self._routes, self._spared = target, random.Random(seed), routes, spared
        self._held: list[socket.socket] = []
        self.became = Counter[str]()
        self.faults: list[str] = []

    def run(self, until: float) -> None:
        """Until then, or there are enough faults."""
        count = 0
        try:
            while time.monotonic() < until and len(self.faults) < ENOUGH:
                count += 1
                try:
                    self.became[self._one()] += 1
                    if count % SWEEP == 1:
                        sweep(self._target, self._spared.names)
                        furnish(self._target)
                except (Fault, OSError) as fault:
                    self.faults.append(f"{type(fault).__name__}: {fault}")
        finally:
            for held in self._held:
                held.close()

    def _one(self) -> str:
        if self._rng.random() < 0.6:
            request = asked(self._rng, self._routes)
            content = request.raw
            if self._spared.touched(content) and request.method not in ("GET", "HEAD"):
                return "spared"
            return self._ask(content, stream=request.stream)
        content = raw(self._rng, self._routes)
        if self._spared.touched(content):
            return "spared"
        if self._rng.random() < 0.1:
            return self._half(content)
        return self._ask(content, stream=b"/changes" in content)

    def _half(self, content: bytes) -> str:
        """Its beginning, and some bytes later now and then, on a connection that stays."""
        made = self._target.connect()
        self._held.append(made)
        for one in self._held:
            with contextlib.suppress(OSError):
                one.send(
                    content[: self._rng.randrange(len(content) + 1)] if one is made else b"\r", socket.MSG_DONTWAIT
                )
        if len(self._held) > HELD:
            self._held.pop(self._rng.randrange(len(self._held))).close()
        return "left open"

    def _ask(self, content: bytes, *, stream: bool) -> str:
        with self._target.connect() as connection:
            try:
                said, reset = exchange(connection, content, 0.2 if stream else PATIENCE)
            except TimeoutError:
                if stream:
                    return "stream"
                raise Fault(f"{content[:2000]!r} was not answered within {PATIENCE} s") from None
        return answers(content, said, whole=not reset) if said or not reset else "reset"


def answers(content: bytes, said: bytes, *, whole: bool) -> str:
    """What became of requests, by all that came back. Fault: one of the answers is not the API's."""
    became = "ended"
    heads = b"HEAD " in content  # then some answers have no body, and which is not told by the answers alone
    while said:
        head, end, rest = said.partition(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None or not end:
            if whole or len(said) > LONGEST_HEAD:
                raise Fault(f"{content[:2000]!r} was answered by {said[:2000]!r}")
            break
        status, said = int(found[1]), rest
        if status == 100:
            continue
        if _STREAM.search(head):
            return "stream"
        size = int(_LENGTH.search(head)[1]) if _LENGTH.search(head) else 0  # type: ignore[index]
        if heads and (not rest or rest.startswith(b"HTTP/1.1 ")):
            became = judge(content, status, "", b"", bodyless=True)
            continue
        if len(rest) < size and not whole:
            break
        kind = _TYPE.search(head)
        became = judge(content, status, kind[1].decode("latin-1") if kind else "", rest[:size])
        said = rest[size:]
    return became


_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |$)")
_LENGTH = re.compile(rb"(?im)^content-length: *([0-9]+)\r?$")
_STREAM = re.compile(rb"(?im)^content-type: *application/x-ndjson")
_TYPE = re.compile(rb"(?im)^content-type: *([^\r]*)")


def connect(target: Target, seconds: float, seed: int, spare: Iterable[str] = ()) -> Counter[str]:
    """To a controller that runs: what became of the requests."""
    until, routes = time.monotonic() + seconds, ROUTES
    spared = _Spared([name.encode() for name in spare] + [key.encode() for key in keys(target) if key not in TENANTS])
    sessions = [_Session(target, seed * THREADS + n, routes, spared) for n in range(THREADS)]
    threads = [threading.Thread(target=session.run, args=(until,), daemon=True) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sweep(target, spared.names)
    if faults := [line for session in sessions for line in session.faults]:
        raise Fault("\n".join(faults))
    return sum((session.became for session in sessions), Counter[str]())


def keys(target: Target) -> list[str]:
    """Of all that there is."""
    return [doc["key"] for kind in _KINDS for doc in _list(target, kind)]


_KINDS = ("serviceLBs", "endpoints", "networks", "hosts", "tenants")  # in the order in which they can be removed


def _keys(target: Target, kind: str) -> list[str]:
    return [doc["key"] for doc in _list(target, kind) if doc.get("origin") != "agent"]


def _list(target: Target, kind: str) -> list[dict[str, Any]]:
    status, found = _call(target, "GET", f"{ROOT}/{kind}/")
    return found if status == 200 else []


def _call(target: Target, method: str, path: str, document: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.sock = target.connect()
        connection.request(method, path, None if document is None else json.dumps(document))
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.status == 200 else content


def sweep(target: Target, names: Iterable[bytes]) -> None:
    """Remove what was made: else it would become more and more."""
    spared = [*names]
    with contextlib.suppress(OSError, http.client.HTTPException):  # it is done again
        for kind in _KINDS:
            for key in _keys(target, kind):
                if key != "default" and not any(name in key.encode() for name in spared):
                    _call(target, "DELETE", f"{ROOT}/{kind}/{quote(key, safe=':')}/")


def furnish(target: Target) -> None:
    """Make what requests can be about."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        for path, document in FURNITURE:
            _call(target, "PUT", ROOT + path, document)


def run(count: int, seed: int) -> Counter[str]:
    """So many requests to an API without a server; what became of them."""
    from tests.unit.rest_kit import Rest, webob

    rest, rng, became = Rest(host_timeout=0.01), random.Random(seed), Counter[str]()
    try:
        for number in range(count):
            if number % SWEEP == 0:
                for path, document in FURNITURE:
                    rest.raw("PUT", ROOT + path, json.dumps(document).encode())
            request = asked(rng, ROUTES)
            if request.stream:
                continue
            try:
                made = webob.Request.blank(
                    request.path, method=request.method, body=request.body, headers=_fitting(request)
                )
            except (ValueError, TypeError, KeyError, UnicodeError):
                became["not made"] += 1  # the server's affair
                continue
            began = time.process_time()
            answer = made.get_response(rest.api)
            became[
                judge(
                    request,
                    answer.status_int,
                    answer.content_type or "",
                    answer.body,
                    bodyless=request.method == "HEAD",
                )
            ] += 1
            if time.process_time() - began > SLOWEST:
                raise Fault(f"took too long: {request!r:.2000}")
    finally:
        rest.close()
    return became


def _fitting(request: Asked) -> dict[str, str]:
    framing = ("Content-Length", "Transfer-Encoding")
    return {name: value for name, value in request.headers if name not in framing} | {"Host": "localhost"}


if __name__ == "__main__":
    raise SystemExit(command("rest", __doc__, run, connect))
