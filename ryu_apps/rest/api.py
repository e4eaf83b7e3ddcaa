"""The REST API: which path does what, and Contiv's collections."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from ryu_apps.pipeline.trace import Question
from ryu_apps.rest import auth, forward, schemas
from ryu_apps.rest import documents as docs
from ryu_apps.rest.agents import AgentApi, parse_revision
from ryu_apps.rest.decode import parse_object
from ryu_apps.rest.documents import Document
from ryu_apps.rest.hosts import HostTracker
from ryu_apps.rest.inspect import inspect_endpoint, inspect_network, inspect_service, inspect_tenant
from ryu_apps.rest.networks import HOST_TIMEOUT, NetworkDoor
from ryu_apps.rest.stream import ALIVE_PERIOD, ChangeFeed
from ryu_apps.rest.trace import question
from ryu_apps.wsgi import (
    Application,
    Handler,
    Request,
    Response,
    Router,
    application,
    headers_of,
    json_response,
    query,
    read_body,
)
from topology.commands import Commands
from topology.errors import Invalid, NetctlError, NotFound, Unavailable
from topology.model import Endpoint, Network, Service, Tenant
from topology.observed import SCTP_NEEDS
from topology.providers import HOST_DOWN, PORT_DOWN
from topology.store import StoreUnavailable, StoreUnusable
from topology.validate import show

log = logging.getLogger(__name__)

VERSION = "0.1.0"
ROOT = "/api/v1"

T = TypeVar("T")

NOT_YET = ("endpointGroups", "policys", "rules", "netprofiles", "extContractsGroups", "appProfiles", "Bgps")
"""Collections of Contiv's that are always empty here."""

GLOBAL: Document = {
    "key": "global",
    "arpMode": "proxy",
    "fwdMode": "routing",
    "name": "global",
    "networkInfraType": "default",
    "pvtSubnet": "",
    "vlans": "1-4094",
    "vxlans": "1-10000",
}


class NotImplementedHere(NetctlError):
    """Contiv has it, this version has not."""

    status = 501


class SwitchView(Protocol):
    """What the API shows of the switches."""

    def switches(self) -> list[dict[str, Any]]:
        """A document a switch: dpid, connected, ports, flows, groups, errors."""

    def counters(self, service_key: str) -> dict[str, Any]:
        """What the switches have counted for a service; empty when nothing is known."""

    def forged(self, dpid: int) -> dict[str, int]:
        """Packets of forged senders that a switch has dropped, by port; empty when nothing is known."""

    def refused(self, dpid: int) -> dict[str, int]:
        """Packets of connections that the limit of a tenant has refused, by tenant; empty when nothing is known."""

    def trace(self, question: Question) -> dict[str, Any]:
        """Why a connection goes where it goes; refused where its switch is not connected."""

    def unlinked(self, endpoint: Endpoint) -> bool:
        """Whether its switch is connected, and its port there is down or missing."""

    def without_sctp(self) -> list[str]:
        """The connected switches whose conntrack does not know SCTP's ports, each in a few words."""

    def settle(self, revision: int) -> bool:
        """Wait, not long, until the connected switches carry out the model of this revision; whether they do."""


class Api:
    """The whole API as a WSGI application. It follows the commands' commits from the moment it is made."""

    def __init__(
        self,
        commands: Commands,
        tracker: HostTracker,
        switches: SwitchView,
        *,
        host_timeout: float = HOST_TIMEOUT,
        alive_period: float = ALIVE_PERIOD,
        leader_url: Callable[[], str] = lambda: "",
        controllers: Callable[[], Mapping[str, bool]] = dict,
        listener: auth.Listener = auth.Listener(),  # noqa: B008 - immutable
        control_plane: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """``leader_url``: where the REST of the leading controller is; empty: it is this one. ``controllers``: the
        URLs of all, and whether each leads. ``listener``: where the API is served. ``control_plane``: listeners that
        containers must not reach.
        """
        self._listener = listener
        self._leader_url = leader_url
        self._controllers = controllers
        self._commands = commands
        self._model = commands.model
        self._switches = switches
        self._tracker = tracker
        self._networks = NetworkDoor(commands, tracker, host_timeout)
        self._feed = ChangeFeed(commands.model, commands.changes_since, alive_period)
        commands.subscribe(self._feed.publish)
        self._router = Router(self._table(AgentApi(commands, tracker, self._feed, self._leads, control_plane)))
        self._application: Application = application(self._handle)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._application(environ, start_response)

    def close(self) -> None:
        """Ends the change streams, before the server stops."""
        self._feed.close()

    def end_streams(self) -> None:
        """End all change streams; their readers come back, or go to another controller."""
        self._feed.end_all()

    def _handle(self, request: Request) -> Response:
        if line := auth.refusal(str(request.method), headers_of(request), self._listener):
            raise auth.Forbidden(line)
        handler, values = self._router.find(request)
        if forward.is_leaders(request):
            try:
                if leader := self._leader_url():
                    return self._forward(request, leader)
            except Unavailable:
                if not forward.is_partly_leaders(request):
                    raise
        if forward.is_hosts_stream(request) and (leader := self._leader_url()):
            return forward.redirect(request, leader)
        answer = handler(request, **values)
        if request.method != "GET":
            # whoever gets our 200 may send packets at once
            self._settle()
        return json_response(answer) if isinstance(answer, dict | list | str) else answer

    def _forward(self, request: Request, leader: str, body: bytes | None = None) -> Response:
        there = forward.forward(request, leader, body)
        if request.method != "GET":
            with contextlib.suppress(StoreUnavailable, StoreUnusable):  # whoever asks us next sees what was done there
                self._commands.catch_up()
        return there

    def _leads(self) -> bool:
        """Whether we know what only the leader knows."""
        try:
            return not self._leader_url()
        except Unavailable:
            return False

    @property
    def _away(self) -> Callable[[Endpoint], str] | None:
        """Tells why an endpoint can't be reached where it is. None: only the leader hears of hosts and switches."""
        return self._whether_away if self._leads() else None

    def _whether_away(self, endpoint: Endpoint) -> str:
        if endpoint.host and self._tracker.down(endpoint.host):
            return HOST_DOWN
        return PORT_DOWN if self._switches.unlinked(endpoint) else ""

    def _settle(self) -> None:
        try:
            leader = self._leader_url()
        except Unavailable as error:
            log.warning("revision %d is stored; %s", self._model.revision, error)
            return
        if leader:
            forward.settled(leader, self._model.revision)
        else:
            self._switches.settle(self._model.revision)

    def _settled(self, request: Request, key: str) -> Document:
        revision = parse_revision(key)
        if self._leader_url():
            raise Unavailable(forward.NOBODY)  # whoever asks takes us for the leader
        self._commands.catch_up(revision)
        return {"revision": revision, "settled": self._switches.settle(revision)}

    def _table(self, agents: AgentApi) -> dict[str, dict[str, Handler]]:
        put_network, put_service, put_tenant = self._put_network, self._put_service, self._put_tenant
        table: dict[str, dict[str, Handler]] = {
            "/version": {"GET": self._version},
            "/info": {"GET": self._info},
            "/tenants": {"GET": self._list_tenants},
            "/tenants/{key}": {
                "GET": self._get_tenant,
                "POST": put_tenant,
                "PUT": put_tenant,
                "DELETE": self._delete_tenant,
            },
            "/networks": {"GET": self._list_networks},
            "/networks/{key}": {
                "GET": self._get_network,
                "POST": put_network,
                "PUT": put_network,
                "DELETE": self._delete_network,
            },
            "/serviceLBs": {"GET": self._list_services},
            "/serviceLBs/{key}": {
                "GET": self._get_service,
                "POST": put_service,
                "PUT": put_service,
                "DELETE": self._delete_service,
            },
            "/inspect/tenants/{key}": {"GET": self._inspect_tenant},
            "/inspect/networks/{key}": {"GET": self._inspect_network},
            "/inspect/serviceLBs/{key}": {"GET": self._inspect_service},
            "/inspect/endpoints/{key}": {"GET": self._inspect_endpoint},
            "/inspect/globals/{key}": {"GET": self._inspect_global},
            "/globals": {"GET": lambda _: [docs.filled(GLOBAL)]},
            "/globals/{key}": {
                "GET": self._get_global,
                **dict.fromkeys(("POST", "PUT", "DELETE"), _refuse("globals")),
            },
            "/controllers": {"GET": self._list_controllers},
            "/switches": {"GET": lambda _: self._switches.switches()},
            "/trace": {"GET": self._trace},
            "/settled/{key}": {"GET": self._settled},
            "/switches/{key}": {"GET": self._get_switch},
            "/endpoints": {"GET": agents.list_endpoints},
            "/endpoints/{key}": {
                "GET": agents.get_endpoint,
                "POST": agents.put_endpoint,
                "PUT": agents.put_endpoint,
                "DELETE": agents.delete_endpoint,
            },
            "/endpoints/{key}/checks": {"PUT": agents.put_checks},
            "/hosts": {"GET": agents.list_hosts},
            "/hosts/{key}": {
                "GET": agents.get_host,
                "POST": agents.put_host,
                "PUT": agents.put_host,
                "DELETE": agents.delete_host,
            },
            "/hosts/{key}/drain": {"PUT": agents.drain_host, "DELETE": agents.undrain_host},
            "/hosts/{key}/endpoints": {"PUT": agents.put_host_endpoints},
            "/hosts/{key}/applied": {"PUT": agents.put_applied},
            "/leases": {"POST": agents.post_lease},
            "/leases/{key}": {"DELETE": agents.delete_lease},
            "/subnets": {"POST": agents.post_subnet},
            "/changes": {"GET": agents.changes},
        }
        for name in NOT_YET:
            table[f"/{name}"] = {"GET": lambda _: []}
            writes = dict.fromkeys(("POST", "PUT", "DELETE"), _refuse(name))
            table[f"/{name}/{{key}}"] = {"GET": _missing(name), **writes}
            table[f"/inspect/{name}/{{key}}"] = {"GET": _missing(name)}
        unversioned = ("/version", "/info")
        return {(path if path in unversioned else ROOT + path): methods for path, methods in table.items()}

    # tenants

    def _list_tenants(self, request: Request) -> list[Document]:
        return [docs.tenant_document(t, self._model) for t in self._model.tenants.values()]

    def _get_tenant(self, request: Request, key: str) -> Document:
        return docs.tenant_document(self._tenant(key), self._model)

    def _put_tenant(self, request: Request, key: str) -> Document:
        document = parse_object(read_body(request))
        schemas.TENANT.check(document)
        docs.take_path(document, ("tenantName",), key)
        # defaultNetwork is Contiv's for containers without --net; taken, and without effect there as well
        return docs.tenant_document(self._commands.put_tenant(key), self._model)

    def _delete_tenant(self, request: Request, key: str) -> str:
        self._commands.delete_tenant(key)
        return key

    def _inspect_tenant(self, request: Request, key: str) -> Document:
        return inspect_tenant(self._tenant(key), self._model)

    def _tenant(self, key: str) -> Tenant:
        return _found(self._model.tenants.get(key), f"Tenant {key}")

    # networks

    def _list_networks(self, request: Request) -> list[Document]:
        return [docs.network_document(n, self._model) for n in self._model.networks.values()]

    def _get_network(self, request: Request, key: str) -> Document:
        return docs.network_document(self._network(key), self._model)

    def _put_network(self, request: Request, key: str) -> Document:
        spec = docs.network_spec(parse_object(read_body(request)), key)
        if query(request, "dryRun") in ("1", "true"):
            self._commands.check_network(spec)
            return docs.filled({"key": key, "tenantName": spec.tenant, "networkName": spec.name})
        return docs.network_document(self._networks.put(spec), self._model)

    def _delete_network(self, request: Request, key: str) -> str:
        self._networks.delete(key)
        return key

    def _inspect_network(self, request: Request, key: str) -> Document:
        return inspect_network(self._network(key), self._model)

    def _network(self, key: str) -> Network:
        return _found(self._model.networks.get(key), f"Network {key}")

    # services

    def _list_services(self, request: Request) -> list[Document]:
        return [docs.listed_service_document(s, self._model, self._away) for s in self._model.services.values()]

    def _get_service(self, request: Request, key: str) -> Document:
        return docs.listed_service_document(self._service(key), self._model, self._away)

    def _put_service(self, request: Request, key: str) -> Document | Response:
        body = read_body(request)
        spec = docs.service_spec(parse_object(body), key)
        if asked := [text for text in spec.ports if text.upper().endswith(":SCTP")]:
            if leader := self._leader_url():
                return self._forward(request, leader, body)
            self._refuse_sctp(asked)
        return docs.listed_service_document(self._commands.put_service(spec), self._model, self._away)

    def _refuse_sctp(self, asked: list[str]) -> None:
        """Where a switch could not carry it out. One that connects later leaves the port out, and says so."""
        unable = self._switches.without_sctp()
        if unable:
            raise Invalid(
                f"protocol SCTP in {show(asked[0])} is refused: the conntrack of {unable[0]} "
                f"does not know SCTP's ports, {SCTP_NEEDS}; right is TCP or UDP"
            )

    def _delete_service(self, request: Request, key: str) -> str:
        self._commands.delete_service(key)
        return key

    def _inspect_service(self, request: Request, key: str) -> Document:
        document = inspect_service(self._service(key), self._model, self._away)
        document["Oper"] |= docs.filled({"counters": self._switches.counters(key)})
        return document

    def _service(self, key: str) -> Service:
        return _found(self._model.services.get(key), f"Service {key}")

    # the rest

    def _inspect_endpoint(self, request: Request, key: str) -> Document:
        return inspect_endpoint(key, self._model)

    def _get_global(self, request: Request, key: str) -> Document:
        if key != "global":
            raise NotFound(f"Global {key} not found: there is one, global")
        return docs.filled(GLOBAL)

    def _inspect_global(self, request: Request, key: str) -> Document:
        config = self._get_global(request, key)
        return {"Config": config, "Oper": docs.filled({"numNetworks": len(self._model.networks)})}

    def _get_switch(self, request: Request, key: str) -> Document:
        wanted = docs.hex_dpid(docs.dpid(key))
        found = (s for s in self._switches.switches() if s["dpid"] == wanted)
        document = _found(next(found, None), f"Switch {key}")
        forged = self._switches.forged(int(wanted, 16))
        known = ({"forged": forged[p["name"]]} if p["name"] in forged else {} for p in document["ports"])
        document["ports"] = [port | more for port, more in zip(document["ports"], known, strict=True)]
        if refused := self._switches.refused(int(wanted, 16)):
            document["refusedByLimit"] = refused
        return document

    def _trace(self, request: Request) -> Document:
        return self._switches.trace(question(partial(query, request), self._model))

    def _list_controllers(self, request: Request) -> list[Document]:
        known = self._controllers().items()
        return [{"url": url, "leads": leads, "open": auth.is_open(url, self._listener)} for url, leads in known]

    def _version(self, request: Request) -> Document:
        return {"GitCommit": "", "Version": VERSION, "BuildTime": ""}

    def _info(self, request: Request) -> Document:
        model = self._model
        known = {"switches": len(self._switches.switches())} if self._leads() else {}
        return {
            "version": VERSION,
            "revision": model.revision,
            "tenants": len(model.tenants),
            "networks": len(model.networks),
            "services": len(model.services),
            "endpoints": len(model.endpoints),
            "hosts": len(model.hosts),
            **known,
        }


def _found(value: T | None, what: str) -> T:
    if value is None:
        raise NotFound(f"{what} not found")
    return value


def _refuse(name: str) -> Handler:
    def handler(request: Request, key: str) -> Document:
        raise NotImplementedHere(f"{name} can't be written: not supported yet")

    return handler


def _missing(name: str) -> Handler:
    def handler(request: Request, key: str) -> Document:
        raise NotFound(f"{name} {key} not found")

    return handler
