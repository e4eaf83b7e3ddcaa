"""etcd, as the store and the election use it: several members, one deadline, one kind of error.

What is sent here may arrive twice or after we have given up on it: a request whose answer is lost goes to the
next member. So whatever writes must compare something that its first arrival changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import warnings
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from topology.store import StoreUnavailable, StoreUnusable

with warnings.catch_warnings():
    # a library of etcd3gw's finds eventlet loaded and tells us that its days are counted: known
    warnings.simplefilter("ignore")
    import etcd3gw
    import etcd3gw.exceptions
    import requests

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0  # for one member's answer; then the next is asked
OPERATION_SECONDS = 5.0  # for an answer of any
WHOLE_SECONDS = 20.0  # until a long answer is there as a whole
MAX_ANSWER = 256 << 20  # bytes: a thousand objects of the largest kind
MAX_LINE = 4 << 20  # bytes of one event
DEFAULT_PORT = 2379
BROKEN = "the connection broke"
DEFAULT_PREFIX = "/netctl"
_MEMBER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_NOT_CONNECTED = re.compile("NewConnectionError|NameResolutionError|ConnectTimeoutError")
_SAFE_PREFIX = re.compile(r"/[A-Za-z0-9._/-]*")


class _Session(requests.Session):
    """One whose answers have bounds: in bytes and in time."""

    def __init__(self, like: requests.Session) -> None:
        super().__init__()
        self.verify, self.cert = like.verify, like.cert

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As the library's, but that the body of an answer ends where it has to."""
        if kwargs.get("stream"):
            return super().request(*args, **kwargs)
        response = super().request(*args, **{**kwargs, "stream": True})
        until = time.monotonic() + WHOLE_SECONDS
        parts, size = [], 0
        with contextlib.closing(response):
            for part in response.iter_content(1 << 16):
                size += len(part)
                if size > MAX_ANSWER:
                    raise requests.ConnectionError(f"its answer has more than {MAX_ANSWER} bytes")
                if time.monotonic() > until:
                    raise requests.ConnectionError(f"its answer is not complete within {WHOLE_SECONDS:g} s")
                parts.append(part)
        cast(Any, response)._content = b"".join(parts)
        return response


def _lines(response: requests.Response) -> Iterator[bytes]:
    """The lines of an answer, as they come."""
    rest = b""
    for part in cast(Any, response).iter_content(chunk_size=None):  # its types do not know None
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE:
            return


class EtcdRefused(StoreUnavailable):
    """etcd has understood and says no: what was asked for has not happened."""


class NotSent(StoreUnavailable):
    """No member could be reached: whatever was asked for has not happened."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files: who may vouch for etcd (empty: the public ones), and our own certificate and key."""

    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class EtcdUrl:
    """``etcd://host:port,host:port/prefix``; ``etcds://`` with TLS."""

    members: tuple[tuple[str, int], ...]
    prefix: str
    tls: bool

    def __str__(self) -> str:
        hosts = ",".join(f"{f'[{h}]' if ':' in h else h}:{p}" for h, p in self.members)
        return f"{'etcds' if self.tls else 'etcd'}://{hosts}{self.prefix}"


def parse_url(url: str) -> EtcdUrl:
    """The parts of a store's URL. StoreUnusable: it can't be one."""
    right = "right is etcd://HOST:PORT,HOST:PORT/PREFIX, or etcds:// with TLS"
    parts = urlsplit(url)
    if "@" in parts.netloc:  # not shown: it holds a password
        raise StoreUnusable("store URL: a user or password in it is not supported; use etcds:// with certificates")
    if parts.scheme not in ("etcd", "etcds") or not parts.netloc or parts.query or parts.fragment:
        raise StoreUnusable(f"store {url}: {right}")
    members = []
    for text in parts.netloc.split(","):
        found = _MEMBER.fullmatch(text)
        port = int(found[2] or DEFAULT_PORT) if found else 0
        if found is None or not 0 < port < 65536:
            raise StoreUnusable(f"store {url}: {text or 'an empty name'} is not HOST:PORT; {right}")
        members.append((found[1].strip("[]"), port))
    prefix = parts.path.rstrip("/") or DEFAULT_PREFIX
    if not _SAFE_PREFIX.fullmatch(prefix) or "//" in prefix:
        raise StoreUnusable(f"store {url}: prefix {prefix} may hold letters, digits and . _ - / only")
    return EtcdUrl(tuple(members), prefix, parts.scheme == "etcds")


class Etcd:
    """A connection to whichever member answers. Errors: StoreUnavailable, or EtcdRefused."""

    def __init__(self, url: EtcdUrl, tls: Tls | None = None, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.url = url
        self.prefix = url.prefix
        self._tls = tls
        files = tls or Tls()
        for file in (files.ca, files.cert, files.key):
            if file and not os.access(file, os.R_OK):
                raise StoreUnusable(f"store {url}: {file} can't be read")
        if bool(files.cert) != bool(files.key):
            raise StoreUnusable(f"store {url}: a certificate and its key go together")
        patience: Any = (min(CONNECT_SECONDS, answer_seconds), answer_seconds)  # to requests, which takes the pair
        self._clients = [
            etcd3gw.Etcd3Client(
                host=host,
                port=port,
                protocol="https" if url.tls else "http",
                ca_cert=files.ca or None,
                cert_cert=files.cert or None,
                cert_key=files.key or None,
                timeout=patience,
                api_path="/v3/",
            )
            for host, port in url.members
        ]
        for client in self._clients:
            session = client.session = _Session(client.session)
            session.trust_env = False  # neither a proxy nor other certificates out of the environment
        self._at = 0

    @contextlib.contextmanager
    def understood(self) -> Iterator[None]:
        """Around what takes an answer to pieces: StoreUnavailable where it is not made as etcd's are."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise StoreUnavailable(f"store {self.url}: an answer makes no sense, is that an etcd?") from error

    def impatient(self, answer_seconds: float) -> Etcd:
        """Another connection to the same members."""
        return Etcd(self.url, self._tls, answer_seconds)

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients:
            client.session.close()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the first member that has one, beginning with the one that had the last."""
        until = time.monotonic() + OPERATION_SECONDS
        sent = False
        line = ""
        for _ in self._clients:
            client = self._clients[self._at]
            try:
                answer: Any = client.post(client.get_url(path), json=body)
                if not isinstance(answer, dict):
                    raise ValueError("its answer makes no sense")
                return answer
            except (etcd3gw.exceptions.Etcd3Exception, requests.RequestException, ValueError) as error:
                line = _line(error)
                if self.url.tls and line == BROKEN:  # or its answer to what it did not understand came too late
                    line += "; etcds:// is for an etcd that speaks TLS"
                if _is_final(error):
                    raise EtcdRefused(f"store {self.url} refuses: {line}") from error
                sent = sent or not _NOT_CONNECTED.search(_told(error))
            self._at = (self._at + 1) % len(self._clients)
            if time.monotonic() >= until:
                break
        raise (StoreUnavailable if sent else NotSent)(f"store {self.url} can't be reached: {line}")

    def watch(self, key: str, silence: float) -> Iterator[bytes | None]:
        """None when it has begun, then the value at each change (b"": deleted); ends after silence, or an error."""
        client = self._clients[self._at]
        body = {"create_request": {"key": b64(key)}}
        try:
            with contextlib.closing(
                client.session.post(
                    client.get_url("/watch"), json=body, stream=True, timeout=(CONNECT_SECONDS, silence)
                )
            ) as response:
                for line in _lines(response):
                    with self.understood():
                        result = json.loads(line).get("result", {}) if line.strip() else {}
                        created, events = bool(result.get("created")), list(result.get("events", ()))
                        values = [b64decode(event["kv"].get("value", "")) for event in events]
                    if created:
                        yield None
                    yield from values
        except (requests.RequestException, StoreUnavailable):
            return  # silence as well: whoever watches looks for himself then, and is told what is wrong

    def txn(
        self,
        compare: Sequence[Mapping[str, Any]],
        success: Sequence[Mapping[str, Any]],
        failure: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[bool, list[dict[str, Any]], int]:
        """Whether all comparisons held, the answers to the operations done, and etcd's own revision after it."""
        answer = self.post("/kv/txn", {"compare": list(compare), "success": list(success), "failure": list(failure)})
        with self.understood():
            answers = answer.get("responses", [])
            return bool(answer.get("succeeded")), [dict(a) for a in answers], int(answer["header"]["revision"])

    def get(self, key: str) -> tuple[bytes | None, int]:
        """A value (None: there is none) and etcd's own revision when it was read."""
        answer = self.post("/kv/range", {"key": b64(key)})
        with self.understood():
            return value_of(answer), int(answer["header"]["revision"])

    def pages(self, start: str, end: str, revision: int, limit: int) -> Iterator[tuple[str, bytes]]:
        """All keys and values from ``start`` up to ``end``, as of one revision of etcd's own, a page at a time."""
        at = start.encode()
        while True:
            body = {"key": b64(at), "range_end": b64(end), "revision": revision, "limit": limit}
            answer = self.post("/kv/range", body)
            with self.understood():
                found = [(b64decode(kv["key"]), b64decode(kv.get("value", ""))) for kv in answer.get("kvs", ())]
                named = [(key.decode(), value) for key, value in found]
            yield from named
            if not answer.get("more") or not found:
                return
            at = found[-1][0]
            at += b"\0"


def b64(text: str | bytes) -> str:
    """As the gateway wants keys and values."""
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def value_of(answer: Mapping[str, Any]) -> bytes | None:
    """The value in the answer to a read of one key."""
    for kv in answer.get("kvs", ()):
        return b64decode(kv.get("value", ""))
    return None


def put(key: str, value: str, lease: int = 0) -> dict[str, Any]:
    """An operation of a transaction."""
    body: dict[str, Any] = {"key": b64(key), "value": b64(value)}
    return {"request_put": body | ({"lease": lease} if lease else {})}


def delete(key: str, end: str = "") -> dict[str, Any]:
    """An operation of a transaction: one key, or all from it up to ``end``."""
    return {"request_delete_range": {"key": b64(key)} | ({"range_end": b64(end)} if end else {})}


def read(key: str, end: str = "") -> dict[str, Any]:
    """An operation of a transaction: one key, or all from it up to ``end``."""
    return {"request_range": {"key": b64(key)} | ({"range_end": b64(end)} if end else {})}


def range_in(response: Mapping[str, Any]) -> dict[str, Any]:
    """What a `read` in a transaction was answered."""
    found: dict[str, Any] = response["response_range"]
    return found


def after_all(prefix: str) -> str:
    """The end of the range of all keys that begin with ``prefix``."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _told(error: Exception) -> str:
    """All that etcd3gw has kept of what happened: etcd's own words, or those of the library below."""
    return str(getattr(error, "detail_text", None) or error)


def _is_final(error: Exception) -> bool:
    """Whether etcd itself says that this request can't be: no other member would do it either."""
    # the exceptions with a name of their own are lost connections and answers 408, 412 and 5xx
    return type(error) is etcd3gw.exceptions.Etcd3Exception


def _line(error: Exception) -> str:
    """What has happened, in a few words."""
    told = _told(error)
    with contextlib.suppress(ValueError, AttributeError):
        told = json.loads(told).get("message") or told
    if _NOT_CONNECTED.search(told):
        found = re.search(r"\[Errno ([^\]]*)\] ([^'\")]*)", told)
        if found is None:
            return "no connection"
        return os.strerror(int(found[1])) if found[1].isdigit() else found[2].strip()  # eventlet gives but a name
    if isinstance(error, etcd3gw.exceptions.ConnectionTimeoutError) or "timed out" in told:
        return "it does not answer in time"
    if "SSL" in told or "certificate" in told:
        found = re.search(r"\[SSL[^\]]*\] ([^(\"']*)", told)
        return f"TLS: {found[1].strip() if found else told[:120]}"
    if told.startswith("its answer "):
        return told
    if "Connection" in told or "RemoteDisconnected" in told:
        return BROKEN
    return " ".join(told.split())[:200]
