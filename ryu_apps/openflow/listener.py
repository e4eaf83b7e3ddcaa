"""Takes the connections of switches, in place of the library's own loop, which ends with the first error of accept().

At most `ofp-max-connections` at a time, and fewer where the process may not open so many descriptors: REST and the
store need theirs. Of those that have not said who they are, `MOST_STRANGERS` are kept: the oldest has to go for a new
one, as a switch is done with that in milliseconds.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from ryu_apps import framework
from ryu_apps.framework import hub
from ryu_apps.openflow.complaints import COMPLAINTS
from ryu_apps.openflow.connection import Connection

MOST_CONNECTIONS = 1024
MOST_STRANGERS = 128
BACKLOG = 128
RETRY_SECONDS = 0.2  # between two tries where the system has nothing left to take a connection with
_OURS = "OpenFlow listener"
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PEERS_FAULT = frozenset({
    errno.ECONNABORTED, errno.ECONNRESET, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH,
    errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ETIMEDOUT, errno.EINTR,
})  # fmt: skip
"""Errors of accept() that are about one connection (accept(2)): the next one may be taken."""


class Listener:
    """The connections there are."""

    def __init__(self, most: int, tls: ssl.SSLContext | None = None) -> None:
        """``most``: connections at a time."""
        self._most = most
        self._tls = tls
        self._connections: dict[Connection, None] = {}  # in the order in which they came

    def run(self, host: str, port: int) -> None:
        """Until it is killed: for a greenthread of its own."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # not shared: of two controllers on one port, each would get half of the switches
        server = framework.eventlet.listen((host, port), family, backlog=BACKLOG, reuse_port=False)
        while True:
            try:
                sock, address = server.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    COMPLAINTS.say(logging.ERROR, _OURS, f"can't take a connection: {error.strerror}; tries again")
                    self._make_room("its place is needed")
                    hub.sleep(RETRY_SECONDS)
                elif error.errno not in _PEERS_FAULT:
                    raise
                continue
            connection = self.admit(sock, address)
            if connection is not None:
                framework.spawn(self.serve, connection)

    def admit(self, sock: Any, address: tuple[Any, ...]) -> Connection | None:
        """Count a connection, which is to be served then; None: it was ended, as there are too many."""
        if len(self._connections) >= self._most and not self._make_room("there are too many connections"):
            COMPLAINTS.say(logging.ERROR, _OURS, f"{self._most} switches are connected: {address[0]} is not let in")
            sock.close()
            return None
        if sum(1 for _ in self._strangers()) >= MOST_STRANGERS:
            self._make_room(f"so have {MOST_STRANGERS - 1} others not")
        try:
            connection = Connection(sock, address, self._tls)
        except OSError:  # it has gone
            sock.close()
            return None
        self._connections[connection] = None
        return connection

    def serve(self, connection: Connection) -> None:
        """Serve a connection until it ends."""
        try:
            connection.serve()
        finally:
            del self._connections[connection]

    def _strangers(self) -> Iterator[Connection]:
        return (c for c in self._connections if c.id is None and c.is_active)

    def _make_room(self, why: str) -> bool:
        """End the oldest of those that have not said who they are; whether there was one."""
        oldest = next(self._strangers(), None)
        if oldest is not None:
            oldest.end(f"it has not said which switch it is, and {why}")
        return oldest is not None


def affordable(wanted: int) -> int:
    """So many connections as are wanted, but at most half of the descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(1, soft // 2))


def _tls(conf: Any) -> ssl.SSLContext | None:
    if conf.ctl_privkey is None or conf.ctl_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(conf.ctl_cert, conf.ctl_privkey)
    if conf.ca_certs is not None:
        context.load_verify_locations(conf.ca_certs)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def install() -> None:
    """Make the framework take and serve connections with this."""
    made: list[Listener] = []  # when the first one is served: the options are read by then

    def listener() -> Listener:
        if not made:
            conf = framework.CONF
            most = affordable(int(getattr(conf, "ofp_max_connections", MOST_CONNECTIONS)))
            made.append(Listener(most, _tls(conf)))
        return made[0]

    def server_loop(_: Any, tcp_port: int, tls_port: int | None) -> None:
        conf = framework.CONF
        one = listener()
        one.run(conf.ofp_listen_host, tcp_port if _tls(conf) is None else tls_port or _TLS_PORT)

    def connected(sock: Any, address: tuple[Any, ...]) -> None:
        connection = listener().admit(sock, address)
        if connection is not None:
            listener().serve(connection)

    controller = framework.load("controller.controller")
    controller.OpenFlowController.server_loop = server_loop
    controller.datapath_connection_factory = connected


_TLS_PORT = 6653
