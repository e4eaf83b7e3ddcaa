"""One exchange with a controller: a request, and an answer that is bounded in size, time and depth, and type-checked.

What answers may be no controller at all.

ClientError
├── NoConnection       exit 2   no answer, or one cut off
└── Refused            exit 3   the controller said no; knows the HTTP status
    └── Gone                    410: the revision asked for is no longer (or not yet) in the change log
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from netctl import reading
from netctl.urls import checked_url, not_sent, reason
from topology.answers import CHANGES, ChangeDoc
from topology.contract import expect
from topology.text import one_line

if TYPE_CHECKING:
    import requests

API = "/api/v1"
CONNECT_TIMEOUT = 3.0  # s
READ_TIMEOUT = 10.0  # s
STREAM_TIMEOUT = 10.0  # s: the stream has a line at least every 3 s
BODY_TIME = 20.0  # s for all of an answer, once its head is there
MAX_ANSWER = 64 << 20  # bytes: a hundred thousand endpoints
MAX_REFUSAL = 1 << 16  # bytes of a refusal that are read; its first line is shown
MAX_CHANGE = 8 << 20  # bytes of a line of the change stream
MAX_PICTURE = 128 << 20  # bytes of all lines before `sync`
MAX_REDIRECTS = 2  # of the change stream
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class ClientError(Exception):
    """Base of what a call can end in; ``str(error)`` is one line for the user."""

    def __init__(self, line: str) -> None:
        super().__init__(one_line(line))


class NoConnection(ClientError):
    """The controller did not answer, or the connection broke before the answer was whole."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no connection to {url}: {reason}")
        self.url = url
        self.reason = reason


class Refused(ClientError):
    """The controller answered, and said no."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = str(self)


class Gone(Refused):
    """The changes since that revision can't be had: start afresh, without ``since``."""


class Exchange:
    """Requests to one controller, or to whichever of several answers. Not for several threads at once."""

    def __init__(self, url: str, *, insecure: bool, timeout: float) -> None:
        # Imported here: it takes longer than all the rest of `netctl --help`.
        from netctl import transport

        self.url = checked_url(url)
        self._urls = self.url.split(",")
        self._timeout = timeout
        self._session, self._deadline = transport.session(insecure=insecure)

    def close(self) -> None:
        """Close the connections that are kept for reuse."""
        self._session.close()

    def changes(self, params: Mapping[str, str], read_timeout: float) -> Generator[ChangeDoc, None, None]:
        """The lines of the change stream."""
        with closing(self._open_stream(path_of("changes"), params, read_timeout)) as response:
            left: int | None = MAX_PICTURE
            for line in self._lines(response, read_timeout):
                change = self._change(line)
                if change["kind"] == "sync":
                    left = None
                elif left is not None:
                    left -= len(line)
                    if left < 0:
                        raise self._no_stream("its opening picture is without an end")
                yield change
        raise NoConnection(self.url, "the controller ended the change stream")

    def _change(self, line: bytes) -> ChangeDoc:
        """What a line of the change stream says. A kind of a later version is let pass as it is."""
        try:
            change = reading.load(line)
            expect(ChangeDoc, change)
            if change["kind"] in CHANGES:
                for name in ("key", "object"):
                    if name not in change:
                        raise ValueError(f"{name} is missing")
                if change["object"] is not None:
                    kind, needed = CHANGES[change["kind"]]
                    expect(kind, change["object"], "object", needed)
        except ValueError as error:
            raise self._no_stream(str(error)) from error
        return cast(ChangeDoc, change)

    def _no_stream(self, why: str) -> NoConnection:
        return NoConnection(self.url, f"the change stream is not a change stream: {why}")

    def _open_stream(self, path: str, params: Mapping[str, str], timeout: float) -> requests.Response:
        """The change stream: of several controllers, a host's is at the one that leads, which the others name."""
        response, _ = self._send("GET", path, params=params, timeout=timeout, stream=True)
        for _ in range(MAX_REDIRECTS):
            if response.status_code not in REDIRECTS:
                return response
            response.close()
            url = self._redirected(response)
            try:
                response, _ = self._send_to(url, "GET", "", None, params=None, timeout=timeout, stream=True)
            except _request_errors() as error:
                raise NoConnection(url, reason(error)) from error
        if response.status_code in REDIRECTS:
            response.close()
            raise self._no_stream(f"it redirects more than {MAX_REDIRECTS} times")
        return response

    def _redirected(self, response: requests.Response) -> str:
        """Where a controller says that the stream is: the same path and query, at another controller's URL."""
        asked, there = urlsplit(response.request.url or ""), response.headers.get("Location", "")
        try:
            url = urlsplit(there)
            base = checked_url(there[: -len(url.path) - len(url.query) - 1])
            good = url.path.endswith(path_of("changes")) and url.query == asked.query
        except ValueError:
            base, good = "", False
        if not base or not good or "@" in url.netloc or (asked.scheme, url.scheme) == ("https", "http"):
            raise Refused(
                response.status_code, f"{self.url} redirects to {there or 'nowhere'}, which is no controller's stream"
            )
        return there

    def _lines(self, response: requests.Response, timeout: float) -> Iterator[bytes]:
        rest = b""
        self._deadline.within(timeout)
        try:
            for chunk in response.iter_content(chunk_size=1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_CHANGE:
                    raise self._no_stream(f"a line of more than {MAX_CHANGE} bytes")
                for line in lines:
                    if line.strip():
                        yield line
                        self._deadline.within(timeout)
        except _request_errors() as error:
            raise NoConnection(self.url, reason(error)) from error

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
        kind: Any = None,
    ) -> Any:
        """The answer, which is of that kind; None: nothing in it is looked at."""
        response, content = self._send(method, path, body, params=params, timeout=timeout)
        if kind is None:
            return None
        try:
            answer = reading.load(content)
            expect(kind, answer)
        except ValueError as error:
            raise self._no_controller(response.status_code, str(error)) from error
        return answer

    def _no_controller(self, status: int, why: str) -> Refused:
        return Refused(status, f"{self.url} is not netctl's controller: its answer: {why}")

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> tuple[requests.Response, bytes]:
        for url in tuple(self._urls):
            try:
                return self._send_to(url, method, path, body, params=params, timeout=timeout, stream=stream)
            except _request_errors() as error:
                lost = NoConnection(url, reason(error))
                lost.__cause__ = error
                # whoever did not answer is asked last from now on
                self._urls = [u for u in self._urls if u != url] + [url]
                if method != "GET" and not not_sent(error):
                    break
        raise lost

    def _send_to(
        self,
        url: str,
        method: str,
        path: str,
        body: object,
        *,
        params: Mapping[str, str] | None,
        timeout: float | None,
        stream: bool,
    ) -> tuple[requests.Response, bytes]:
        """The answer and, but for a stream, what is in it."""
        wait = self._timeout if timeout is None else timeout
        self._deadline.within(CONNECT_TIMEOUT + wait)
        response = self._session.request(
            method,
            url + path,
            data=None if body is None else json.dumps(body),
            headers=None if body is None else {"Content-Type": "application/json"},
            params=params,
            timeout=(CONNECT_TIMEOUT, wait),
            allow_redirects=False,
            stream=True,
        )
        if stream and (response.status_code == HTTPStatus.OK or response.status_code in REDIRECTS):
            return response, b""
        with closing(response):
            self._deadline.within(BODY_TIME)
            good = response.status_code == HTTPStatus.OK
            content = _content(response, MAX_ANSWER if good else MAX_REFUSAL)
        if response.status_code in REDIRECTS:
            raise Refused(response.status_code, f"{self.url} redirects to another place, which no controller does")
        if not good:
            kind = Gone if response.status_code == HTTPStatus.GONE else Refused
            raise kind(response.status_code, _first_line(response, content))
        if len(content) > MAX_ANSWER:
            raise self._no_controller(response.status_code, f"more than {MAX_ANSWER} bytes")
        return response, content


def _request_errors() -> type[Exception]:
    import requests

    return requests.RequestException


def _content(response: requests.Response, most: int) -> bytes:
    """What is in an answer; of more than ``most`` bytes no more than the first that are too many."""
    pieces, size = [], 0
    for piece in response.iter_content(chunk_size=1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            break
    return b"".join(pieces)


def path_of(*parts: str) -> str:
    """The path of a resource of the API."""
    for part in parts:
        # Nothing, "." and ".." would name another resource than the one meant.
        if part in ("", ".", ".."):
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{part!r} can't be a name")
    return "/".join((API, *(quote(part, safe=":") for part in parts), ""))


def _first_line(response: requests.Response, content: bytes) -> str:
    """What the controller says about a refusal."""
    lines = content.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if lines else f"the controller answered {response.status_code} {response.reason}"
