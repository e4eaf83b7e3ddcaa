"""The REST API as one WSGI application: who may ask, who answers, and when the answer is given."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ryu_apps.rest import auth, forward
from ryu_apps.rest.agents import AgentApi, parse_revision
from ryu_apps.rest.contiv import Contiv
from ryu_apps.rest.hosts import HostTracker
from ryu_apps.rest.networks import HOST_TIMEOUT, NetworkDoor, Networks
from ryu_apps.rest.openapi import description
from ryu_apps.rest.services import Away, Services
from ryu_apps.rest.stream import ALIVE_PERIOD, ChangeFeed
from ryu_apps.rest.switches import Switches, SwitchView
from ryu_apps.rest.tenants import Tenants
from ryu_apps.wsgi import (
    Application,
    Request,
    Response,
    Route,
    Router,
    application,
    headers_of,
    json_response,
)
from topology import __version__
from topology.answers import ControllerDoc, InfoDoc, SettledDoc, VersionDoc
from topology.commands import Commands
from topology.contract import Document
from topology.errors import Unavailable
from topology.model import Endpoint
from topology.providers import HOST_DOWN, PORT_DOWN
from topology.store import StoreUnavailable, StoreUnusable

log = logging.getLogger(__name__)

ROOT = "/api/v1"


class Collection(Protocol):
    """The handlers of one kind of object."""

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""


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
        self._feed = ChangeFeed(commands.model, commands.changes_since, alive_period)
        commands.subscribe(self._feed.publish)
        self._routes = self._table(
            Tenants(commands),
            Networks(commands, NetworkDoor(commands, tracker, host_timeout)),
            Services(commands, switches, self._away, self._to_leader),
            Switches(commands.model, switches),
            AgentApi(commands, tracker, self._feed, self._leads, control_plane),
            Contiv(commands.model),
        )
        self._router = Router(self._routes)
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
        route, values = self._router.find(request)
        if route.leader:
            try:
                if leader := self._leader_url():
                    return self._forward(request, leader)
            except Unavailable:
                if not route.stored:
                    raise
        if forward.is_hosts_stream(request) and (leader := self._leader_url()):
            return forward.redirect(request, leader)
        answer = route.handler(request, **values)
        if request.method != "GET" and route.settles:
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

    def _to_leader(self, request: Request, body: bytes) -> Response | None:
        """What the leader answers; None: we lead."""
        leader = self._leader_url()
        return self._forward(request, leader, body) if leader else None

    def _away(self) -> Away | None:
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
        """Wait, not long, until the switches carry out a revision; for the other controllers."""
        revision = parse_revision(key)
        if self._leader_url():
            raise Unavailable(forward.NOBODY)  # whoever asks takes us for the leader
        self._commands.catch_up(revision)
        return {"revision": revision, "settled": self._switches.settle(revision)}

    # the routes

    def _table(self, *collections: Collection) -> dict[str, dict[str, Route]]:
        table = {
            "/info": {"GET": Route(self._info, InfoDoc, leader=True, stored=True)},
            "/openapi.json": {"GET": Route(self._openapi, dict[str, Any])},
            "/controllers": {"GET": Route(self._list_controllers, list[ControllerDoc])},
            "/settled/{key}": {"GET": Route(self._settled, SettledDoc, refuses=(400, 503))},
        }
        for collection in collections:
            table |= collection.routes()
        unversioned = {"/version": {"GET": Route(self._version, VersionDoc)}, "/info": table.pop("/info")}
        return unversioned | {ROOT + path: methods for path, methods in table.items()}

    def _openapi(self, request: Request) -> Document:
        """This description of the API."""
        return description(self._routes, __version__)

    def _list_controllers(self, request: Request) -> list[Document]:
        """The controllers that share the store."""
        known = self._controllers().items()
        return [{"url": url, "leads": leads, "open": auth.is_open(url, self._listener)} for url, leads in known]

    def _version(self, request: Request) -> Document:
        """The controller's version, as Contiv tells it."""
        return {"GitCommit": "", "Version": __version__, "BuildTime": ""}

    def _info(self, request: Request) -> Document:
        """How much there is of everything."""
        model = self._model
        known = {"switches": len(self._switches.switches())} if self._leads() else {}
        return {
            "version": __version__,
            "revision": model.revision,
            "tenants": len(model.tenants),
            "networks": len(model.networks),
            "services": len(model.services),
            "endpoints": len(model.endpoints),
            "hosts": len(model.hosts),
            **known,
        }
