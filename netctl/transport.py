"""The connections of a client: no proxies, and a controller's machine that is gone is noticed in seconds."""

from __future__ import annotations

import socket
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


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        known = [option for option in _WATCHED if option[1]]
        options = [*urllib3.connection.HTTPConnection.default_socket_options, *known]
        super().init_poolmanager(*args, **kwargs, socket_options=options)


def session(*, insecure: bool = False) -> requests.Session:
    """A session; ``insecure``: certificates are not checked."""
    made = requests.Session()
    made.trust_env = False  # a proxy from the environment must not stand before the controller
    made.verify = not insecure
    if insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter())
    return made
