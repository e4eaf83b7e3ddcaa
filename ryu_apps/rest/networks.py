"""Networks come and go together with the Docker networks on the hosts: the caller hears when all is done."""

from __future__ import annotations

import logging

from ryu_apps.rest.hosts import HostTracker, Outcome
from topology.commands import Commands
from topology.errors import Conflict, NetctlError, Unavailable
from topology.model import Commit, Network
from topology.specs import NetworkSpec

log = logging.getLogger(__name__)

HOST_TIMEOUT = 15.0  # s until every host must have made a network


class NetworkDoor:
    """Creates and deletes networks and waits for the hosts; a network that a host can't make is undone."""

    def __init__(self, commands: Commands, tracker: HostTracker, timeout: float = HOST_TIMEOUT) -> None:
        self._commands = commands
        self._model = commands.model
        self._tracker = tracker
        self._timeout = timeout
        self._creating: dict[str, int] = {}  # by key: the revision that is waited for
        self._revisions: dict[str, int] = {}  # by key: the revision of a change that is just being made
        commands.subscribe(self._note)

    def put(self, spec: NetworkSpec) -> Network:
        """The network, made on every connected host."""
        key = f"{spec.tenant}:{spec.name}"
        before = self._model.networks.get(key)
        network = self._commands.put_network(spec)
        revision = None if network == before else self._revisions.pop(key, None)
        if revision is None:
            # not made by this call, but perhaps by one while we were at it: who still waits for the hosts and we get
            # the same answer
            if key in self._creating:
                self._refuse(key, self._tracker.wait(self._creating[key], key, self._timeout))
            return network
        self._creating[key] = revision
        try:
            outcome = self._tracker.wait(revision, key, self._timeout)
        finally:
            if self._creating.get(key) == revision:
                del self._creating[key]
        if (outcome.failed or outcome.late) and before is None:
            self._undo(network)
        self._refuse(key, outcome)
        return network

    def delete(self, key: str) -> None:
        """Deletes it and waits for the hosts; what goes wrong there stands in the hosts' documents."""
        self._commands.delete_network(key)
        outcome = self._tracker.wait(self._revisions.pop(key), key, self._timeout)
        for host, line in outcome.failed:
            log.warning("host %s could not remove network %s: %s", host, key, line)
        for host in outcome.late:
            log.warning("host %s did not remove network %s within %g s", host, key, self._timeout)

    def _note(self, commit: Commit) -> None:
        self._revisions.update({c.key: commit.revision for c in commit.changes if c.kind == Network.kind})

    def _undo(self, network: Network) -> None:
        if self._model.networks.get(network.key) != network:
            return  # somebody else has deleted it meanwhile
        try:
            self._commands.delete_network(network.key)
            del self._revisions[network.key]
        except NetctlError as error:
            raise Conflict(f"network {network.key} failed on a host, but can't be undone: {error}") from error

    def _refuse(self, key: str, outcome: Outcome) -> None:
        for host, line in outcome.failed:
            raise Conflict(f"host {host}: {line}")
        if outcome.late:
            hosts = ("host " if len(outcome.late) == 1 else "hosts ") + ", ".join(outcome.late)
            raise Unavailable(
                f"{hosts} did not make network {key} within {self._timeout:g} s; nothing was created"
            )
