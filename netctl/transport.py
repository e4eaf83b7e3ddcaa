"""The connections of a client: no proxies, a deadline for each answer, and a dead machine is noticed in seconds."""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from typing import Any

import requests
import requests.adapters
import urllib3
import urllib3.connection

UNHEARD = 4000  # ms without a sign of life from the other machine's kernel until a connection counts as broken
PROBE_AFTER = 2  # s of silence on it until the other machine is asked
# A slow controller's kernel still answers. Without these, a connection to a machine that was switched off, or cut off,
# is believed in for as long as a slow answer may take.
_WATCHED = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 0), PROBE_AFTER),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 0), 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", 0), UNHEARD),
]  # an option that this system does not know has number 0


class Deadline:
    """When a session's answer has to be there. The library's own timeout starts anew with every byte."""

    def __init__(self) -> None:
        self._until = math.inf

    def within(self, seconds: float) -> None:
        """What is read from now on has to be there in so many seconds."""
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then. Raises ``TimeoutError`` after it."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _InTime(io.RawIOBase):
    """The bytes that come in on a socket, until the deadline."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._connection = connection
        self._deadline = deadline
        self._timeout = connection.gettimeout() or math.inf  # for each piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = min(self._deadline.left(), self._timeout)
        if left < math.inf:
            self._connection.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _pools(deadline: Deadline) -> dict[str, Any]:
    """By scheme: pools of connections whose answers keep the deadline."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp: io.BufferedReader = io.BufferedReader(_InTime(self.fp.detach(), sock, deadline))

    class Plain(urllib3.connection.HTTPConnection):
        response_class = Response

    class Secure(urllib3.connection.HTTPSConnection):
        response_class = Response

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        known = [option for option in _WATCHED if option[1]]
        options = [*urllib3.connection.HTTPConnection.default_socket_options, *known]
        super().init_poolmanager(*args, **kwargs, socket_options=options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._deadline)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Redirects are for the caller to judge: the library would read all of the answer, and parse any URL."""


def session(*, insecure: bool = False) -> tuple[requests.Session, Deadline]:
    """A session and its deadline, which is for one answer at a time. ``insecure``: certificates are not checked."""
    made, deadline = _Session(), Deadline()
    made.trust_env = False  # a proxy from the environment must not stand before the controller
    made.verify = not insecure
    made.headers["Accept-Encoding"] = "identity"
    if insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter(deadline))
    return made, deadline
