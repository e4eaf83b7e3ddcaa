"""What the hosts' agents call: hosts, their endpoints, progress, leases, subnets, the change stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from ryu_apps.rest import documents as docs
from ryu_apps.rest.bulk import read_object
from ryu_apps.rest.decode import check_truths, parse_object
from ryu_apps.rest.hosts import HostTracker
from ryu_apps.rest.inspect import inspect_endpoint
from ryu_apps.rest.stream import ChangeFeed
from ryu_apps.wsgi import (
    NDJSON,
    Request,
    Response,
    Route,
    methods,
    on_disconnect,
    query,
    read_body,
    stream_response,
)
from topology import contract
from topology.answers import ChangeDoc, EndpointInspectDoc, LeaseDoc, RevisionDoc, SubnetDoc
from topology.commands import Commands
from topology.contract import Document, document_of, filled
from topology.documents import DEFAULT_TENANT
from topology.errors import BadRequest, Conflict, NotFound
from topology.indexes import ENDPOINTS_OF_HOST
from topology.model import Endpoint, Host
from topology.reports import (
    AppliedDoc,
    EndpointDoc,
    HostDoc,
    HostEndpointsDoc,
    LeaseRequestDoc,
    SubnetRequestDoc,
)
from topology.validate import show

REVISION = re.compile(r"[0-9]{1,18}")


def parse_revision(text: str, what: str = "revision") -> int:
    """A revision out of a path or query."""
    if not REVISION.fullmatch(text):
        raise BadRequest(f"{what}: {text} is not a revision")
    return int(text)


class AgentApi:
    """The handlers for agents."""

    def __init__(
        self,
        commands: Commands,
        tracker: HostTracker,
        feed: ChangeFeed,
        leads: Callable[[], bool] = lambda: True,
        control_plane: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """``leads``: whether we know how hosts are. ``control_plane``: listeners that containers must not reach."""
        self._control_plane = control_plane
        self._leads = leads
        self._commands = commands
        self._model = commands.model
        self._tracker = tracker
        self._feed = feed

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        missing, wrong = (404,), (404, 409, 422)
        get = Route(self.get_host, HostDoc, refuses=missing, leader=True, stored=True)
        # a heartbeat that waits for another's change arrives too late: its host would be taken for dead
        put = Route(self.put_host, HostDoc, HostDoc, (409, 422), settles=False, leader=True)
        applied = Route(self.put_applied, HostDoc, AppliedDoc, (404, 422), settles=False, leader=True)
        delete = Route(self.delete_host, str, refuses=(404, 409), leader=True)
        drain = Route(self.drain_host, HostDoc, refuses=missing, leader=True)
        undrain = Route(self.undrain_host, HostDoc, refuses=missing, leader=True)
        get_endpoint = Route(self.get_endpoint, EndpointDoc, refuses=missing)
        put_endpoint = Route(self.put_endpoint, EndpointDoc, EndpointDoc, wrong)
        delete_endpoint = Route(self.delete_endpoint, str, refuses=missing)
        inspect = Route(self.inspect_endpoint, EndpointInspectDoc, refuses=(404, 409))
        changes = Route(self.changes, ChangeDoc, None, (307, 400, 410, 503), ("since", "host"), NDJSON)
        return {
            "/hosts": {"GET": Route(self.list_hosts, list[HostDoc], leader=True, stored=True)},
            "/hosts/{key}": methods(get, put, delete),
            "/hosts/{key}/drain": {"PUT": drain, "DELETE": undrain},
            "/hosts/{key}/endpoints": {"PUT": Route(self.put_host_endpoints, RevisionDoc, HostEndpointsDoc, wrong)},
            "/hosts/{key}/applied": {"PUT": applied},
            "/endpoints": {"GET": Route(self.list_endpoints, list[EndpointDoc])},
            "/endpoints/{key}": methods(get_endpoint, put_endpoint, delete_endpoint),
            "/endpoints/{key}/checks": {"PUT": Route(self.put_checks, EndpointDoc, dict[str, bool], missing)},
            "/inspect/endpoints/{key}": {"GET": inspect},
            "/leases": {"POST": Route(self.post_lease, LeaseDoc, LeaseRequestDoc, wrong)},
            "/leases/{key}": {"DELETE": Route(self.delete_lease, str, refuses=(400, 404, 422))},
            "/subnets": {"POST": Route(self.post_subnet, SubnetDoc, SubnetRequestDoc, wrong)},
            "/changes": {"GET": changes},
        }

    # hosts

    def list_hosts(self, request: Request) -> list[Document]:
        """All hosts."""
        return [self._host(h) for h in self._model.hosts.values()]

    def get_host(self, request: Request, key: str) -> Document:
        """One host."""
        return self._host(self._find_host(key))

    def put_host(self, request: Request, key: str) -> Document:
        """Registers a host; again every few seconds, it is the agent's heartbeat."""
        document = contract.check(HostDoc, docs.take_path(parse_object(read_body(request)), ("hostName",), key))
        self._hear(key)
        host = self._commands.put_host(document)
        self._tracker.beat(key, document["mtu"])
        return self._host(host) | filled({"controlPlane": list(self._control_plane())})

    def drain_host(self, request: Request, key: str) -> Document:
        """Its providers get no new connections."""
        return self._host(self._commands.drain_host(key, True))

    def undrain_host(self, request: Request, key: str) -> Document:
        """Its providers get new connections again."""
        return self._host(self._commands.drain_host(key, False))

    def delete_host(self, request: Request, key: str) -> str:
        """A host is no more. Not one that lives: its agent would register it again, and its containers are there."""
        host = self._model.hosts.get(key)
        if host is not None and not self._tracker.liveness.agent_silent(key):
            left = self._model.count(ENDPOINTS_OF_HOST, key)
            if not host.draining:
                raise Conflict(
                    f"host {key} is up: its agent would register it again; first end its netctl-agent, "
                    f"or netctl host drain {key} and remove its containers"
                )
            if left:
                many, them = ("a container is", "it") if left == 1 else (f"{left} containers are", "them")
                raise Conflict(f"host {key} is up and {many} on it: first remove {them}, or end its netctl-agent")
        self._commands.delete_host(key)
        self._tracker.forget(key)
        return key

    def put_host_endpoints(self, request: Request, key: str) -> Document:
        """Exactly these endpoints are on the host."""
        self._find_host(key)
        self._hear(key)
        found = read_object(request, {"endpoints": partial(_reported, key), "keepLeases": lambda _, lease: lease})
        document = contract.check(HostEndpointsDoc, found)
        if "endpoints" not in document:
            raise BadRequest("endpoints: missing, must be the list of all endpoints on the host")
        self._commands.sync_endpoints(key, document["endpoints"], set(document["keepLeases"]))
        return {"revision": self._model.revision}

    def put_applied(self, request: Request, key: str) -> Document:
        """The host has carried out all changes up to a revision, but for the errors."""
        document = contract.check(AppliedDoc, read_object(request, {"errors": lambda _, error: error}))
        self._hear(key)
        revision = document.get("revision")
        if revision is None:
            raise BadRequest("revision: missing")
        self._commands.catch_up(revision)
        host = self._find_host(key)
        if revision > self._model.revision:
            raise BadRequest(f"revision: {revision} is in the future, now is {self._model.revision}")
        self._tracker.applied(key, revision, document["errors"])
        return self._host(host)

    # endpoints

    def list_endpoints(self, request: Request) -> list[Document]:
        """All endpoints."""
        return [document_of(EndpointDoc, e) for e in self._model.endpoints.values()]

    def get_endpoint(self, request: Request, key: str) -> Document:
        """One endpoint, by its whole id."""
        endpoint = self._model.endpoints.get(key)
        if not isinstance(endpoint, Endpoint):
            raise NotFound(f"endpoint {key} not found")
        return document_of(EndpointDoc, endpoint)

    def put_endpoint(self, request: Request, key: str) -> Document:
        """Creates or updates an endpoint."""
        document = docs.take_path(parse_object(read_body(request)), ("endpointID",), key)
        return document_of(EndpointDoc, self._commands.put_endpoint(cast(EndpointDoc, document)))

    def delete_endpoint(self, request: Request, key: str) -> str:
        """Deletes an endpoint."""
        self._commands.delete_endpoint(key)
        return key

    def inspect_endpoint(self, request: Request, key: str) -> Document:
        """The one endpoint whose id, container id or container name has this part."""
        return inspect_endpoint(key, self._model)

    def put_checks(self, request: Request, key: str) -> Document:
        """What services' active checks say of an endpoint, by the services' keys."""
        verdicts = parse_object(read_body(request))
        check_truths(verdicts)
        if (endpoint := self._model.endpoints.get(key)) is not None:
            self._hear(endpoint.host)
        return document_of(EndpointDoc, self._commands.set_checks(key, verdicts))

    # addresses

    def post_lease(self, request: Request) -> Document:
        """An address for an endpoint to come."""
        wish = contract.check(LeaseRequestDoc, parse_object(read_body(request)))
        self._hear(wish["hostName"])
        lease = self._commands.grant(
            wish["tenantName"], wish["networkName"], wish["ipAddress"] or None, wish["hostName"], wish.get("family")
        )
        subnets = {s.version: s for s in self._model.networks[lease.network_key].subnets}
        return {"ipAddress": f"{lease.address}/{subnets[lease.address.version].prefixlen}", "key": lease.key}

    def delete_lease(self, request: Request, key: str) -> str:
        """An address that is not needed any more."""
        self._commands.release(*docs.take_path({}, ("tenantName", "networkName", "ipAddress"), key).values())
        return key

    def post_subnet(self, request: Request) -> Document:
        """A subnet that is free in the tenant."""
        wish = contract.check(SubnetRequestDoc, parse_object(read_body(request)))
        return {"subnet": str(self._commands.pick_subnet(wish["tenantName"] or DEFAULT_TENANT))}

    # changes

    def changes(self, request: Request) -> Response:
        """The change stream; with ``host``, that host is connected for as long."""
        if request.method == "HEAD":
            raise BadRequest("the change stream has no end: HEAD can't be answered")
        asked = query(request, "since")
        since = None if asked is None else parse_revision(asked, "since")
        if since is not None:
            self._commands.catch_up(since)  # another controller may have told of more than we know yet
        host = query(request, "host") or ""
        stream = self._feed.open(since, host if host in self._model.hosts else "")
        if host:
            self._tracker.connect(host)
            stream.at_close(lambda: self._tracker.disconnect(host))
        stream.at_close(on_disconnect(request, stream.end))
        return stream_response(request, stream)

    def _hear(self, host: str) -> None:
        """Its agent asks for something, so it lives: its one thread sends no heartbeat until that is answered."""
        if host in self._model.hosts:
            self._tracker.liveness.beat(host)

    def _find_host(self, key: str) -> Host:
        host = self._model.hosts.get(key)
        if host is None:
            raise NotFound(f"host {key} not found: its agent registers it")
        return host

    def _host(self, host: Host) -> Document:
        if not self._leads():
            return docs.host_document(host) | docs.UNKNOWN
        return docs.host_document(host, self._tracker.state(host))


def _reported(host: str, number: int, document: Any) -> EndpointDoc:
    """One endpoint of a host's list."""
    if not isinstance(document, dict):
        raise BadRequest("endpoints: a list is not a list of objects")
    where = f"endpoints[{number}]: "
    wish = contract.check(EndpointDoc, document, where)
    if not wish.get("endpointID"):
        raise BadRequest(f"{where}endpointID: missing")
    if wish["homingHost"] not in {"", host}:
        raise BadRequest(f"homingHost: {show(wish['homingHost'])} in the body, but {host} in the path")
    return wish
