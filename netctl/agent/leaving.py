"""An endpoint leaves its container: the container's connections end while it still has the interface.

Docker calls Leave, then takes the interface away. From then on nothing from the container reaches its clients, not even
a reset. So before Docker is answered, the switch forwards what the container has sent last. If the container still runs
(`docker network disconnect`), new connections go to other providers before that, open ones get a moment to end, and the
container's own kernel resets the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from netctl.agent.backlog import unread
from netctl.agent.sockdiag import Sockets, sockets
from netctl.agent.state import Address, LocalEndpoint, State
from netctl.agent.sync import Synchroniser
from netctl.agent.veth import host_end
from netctl.client import ClientError

LOG = logging.getLogger(__name__)

TOLD_TIMEOUT = 2.0  # s for the controller and the switches to send new connections elsewhere
GRACE = 1.0  # s for open connections to end
LOOK = 0.05  # s between two looks: the kernel has no event for the end of one container's connections
FORWARD_TIMEOUT = 1.0  # s for the switch to forward what the container has sent
FORWARD_LOOK = 0.005  # s between two looks: the kernel has no event for another program's empty socket
QUIET = 2  # looks without a connection: one may have been on its way when the switch learned of it


class Leaving:
    """``files``: by what the namespace that an endpoint is in may be opened, the best one first."""

    def __init__(self, state: State, sync: Synchroniser, files: Callable[[str], list[str]]) -> None:
        self._state = state
        self._sync = sync
        self._files = files

    def leave(self, endpoint_id: str) -> None:
        """Returns when Docker may take the interface."""
        endpoint = self._state.endpoints.get(endpoint_id)
        if endpoint is None:
            return
        self._end_connections(endpoint)
        until = time.monotonic() + FORWARD_TIMEOUT
        while unread(host_end(endpoint_id)) and time.monotonic() < until:
            time.sleep(FORWARD_LOOK)

    def _end_connections(self, endpoint: LocalEndpoint) -> None:
        """Nothing to do for a container that has ended: its kernel has closed its sockets."""
        endpoint_id = endpoint.id
        with ExitStack() as stack:
            found = self._open(endpoint_id, stack)
            if found is None:
                return
            try:
                if found.in_use():
                    self._drain(endpoint_id, endpoint.addresses, found)
            except OSError as error:
                LOG.warning("endpoint %s: its connections are not reset: %s", endpoint_id[:12], error)

    def _open(self, endpoint_id: str, stack: ExitStack) -> Sockets | None:
        for path in self._files(endpoint_id):
            try:
                return stack.enter_context(sockets(path))
            except OSError as error:
                LOG.debug("endpoint %s: %s: %s", endpoint_id[:12], path, error)
        return None

    def _drain(self, endpoint_id: str, addresses: tuple[Address, ...], found: Sockets) -> None:
        self._state.set_disconnecting(endpoint_id, True)
        try:
            self._sync.endpoint(endpoint_id).result(TOLD_TIMEOUT)
        except (ClientError, TimeoutError) as error:
            LOG.warning("endpoint %s: new connections may still reach it: %s", endpoint_id[:12], error)
        until, quiet = time.monotonic() + GRACE, 0
        while quiet < QUIET and time.monotonic() < until:
            time.sleep(LOOK)
            quiet = 0 if found.connections(addresses) else quiet + 1
        left = found.connections(addresses)
        found.reset(left)
        LOG.info("endpoint %s: leaves a running container; connections reset: %d", endpoint_id[:12], len(left))
