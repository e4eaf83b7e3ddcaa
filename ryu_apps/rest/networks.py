"""``/networks``. They come and go together with the Docker networks on the hosts: the caller hears when all is done."""

from __future__ import annotations

import logging
from typing import cast

from ryu_apps.rest import documents as docs
from ryu_apps.rest.decode import parse_object
from ryu_apps.rest.hosts import HostTracker, Outcome
from ryu_apps.rest.inspect import inspect_network
from ryu_apps.wsgi import Request, Route, found, methods, query, read_body
from topology.answers import NetworkInspectDoc
from topology.commands import Commands
from topology.contract import Document
from topology.documents import NetworkDoc
from topology.errors import Conflict, NetctlError, Unavailable
from topology.model import Commit, Network

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

    def put(self, document: NetworkDoc) -> Network:
        """The network, made on every connected host."""
        key = f"{document['tenantName']}:{document['networkName']}"
        before = self._model.networks.get(key)
        network = self._commands.put_network(document)
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


class Networks:
    """The handlers."""

    def __init__(self, commands: Commands, door: NetworkDoor) -> None:
        self._commands = commands
        self._model = commands.model
        self._door = door

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        put = Route(self.put, NetworkDoc, NetworkDoc, (404, 409, 422), query=("dryRun",), leader=True)
        get = Route(self.get, NetworkDoc, refuses=(404,))
        delete = Route(self.delete, str, refuses=(404, 409), leader=True)
        return {
            "/networks": {"GET": Route(self.all, list[NetworkDoc])},
            "/networks/{key}": methods(get, put, delete),
            "/inspect/networks/{key}": {"GET": Route(self.inspect, NetworkInspectDoc, refuses=(404,))},
        }

    def all(self, request: Request) -> list[Document]:
        """All networks."""
        return [docs.network_document(n, self._model) for n in self._model.networks.values()]

    def get(self, request: Request, key: str) -> Document:
        """One network."""
        return docs.network_document(self._network(key), self._model)

    def put(self, request: Request, key: str) -> Document:
        """Create a network; with ``dryRun``, only say whether it could be."""
        parts = ("tenantName", "networkName")
        document = cast(NetworkDoc, docs.take_path(parse_object(read_body(request)), parts, key))
        if query(request, "dryRun") in ("1", "true"):
            self._commands.check_network(document)
            return {"key": key, "tenantName": document["tenantName"], "networkName": document["networkName"]}
        return docs.network_document(self._door.put(document), self._model)

    def delete(self, request: Request, key: str) -> str:
        """Delete a network that nothing is in."""
        self._door.delete(key)
        return key

    def inspect(self, request: Request, key: str) -> Document:
        """A network, its addresses and its endpoints."""
        return inspect_network(self._network(key), self._model)

    def _network(self, key: str) -> Network:
        return found(self._model.networks.get(key), f"Network {key}")
