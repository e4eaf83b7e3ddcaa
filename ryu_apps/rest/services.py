"""``/serviceLBs``."""

from __future__ import annotations

from collections.abc import Callable

from ryu_apps.rest import documents as docs
from ryu_apps.rest.decode import parse_object
from ryu_apps.rest.inspect import inspect_service
from ryu_apps.rest.switches import SwitchView
from ryu_apps.wsgi import Request, Response, Route, found, methods, read_body
from topology import contract
from topology.answers import ServiceInspectDoc
from topology.commands import Commands
from topology.contract import Document, filled
from topology.documents import ServiceDoc
from topology.model import Endpoint, Service

Away = Callable[[Endpoint], str]
"""Why an endpoint can't be reached where it is; empty: it can."""


class Services:
    """The handlers.

    ``away``: gives None where only the leader knows. ``to_leader``: what the leader answers; None: we lead.
    """

    def __init__(
        self,
        commands: Commands,
        switches: SwitchView,
        away: Callable[[], Away | None],
        to_leader: Callable[[Request, bytes], Response | None],
    ) -> None:
        self._commands = commands
        self._model = commands.model
        self._switches = switches
        self._away = away
        self._to_leader = to_leader

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        put = Route(self.put, ServiceDoc, ServiceDoc, (404, 409, 422))
        get = Route(self.get, ServiceDoc, refuses=(404,), leader=True, stored=True)
        delete = Route(self.delete, str, refuses=(404,))
        inspect = Route(self.inspect, ServiceInspectDoc, refuses=(404,), leader=True, stored=True)
        return {
            "/serviceLBs": {"GET": Route(self.all, list[ServiceDoc], leader=True, stored=True)},
            "/serviceLBs/{key}": methods(get, put, delete),
            "/inspect/serviceLBs/{key}": {"GET": inspect},
        }

    def all(self, request: Request) -> list[Document]:
        """All services."""
        return [docs.listed_service_document(s, self._model, self._away()) for s in self._model.services.values()]

    def get(self, request: Request, key: str) -> Document:
        """One service."""
        return docs.listed_service_document(self._service(key), self._model, self._away())

    def put(self, request: Request, key: str) -> Document | Response:
        """Create a service, or change one: it becomes exactly what the document says."""
        body = read_body(request)
        document = contract.check(ServiceDoc, docs.take_path(parse_object(body), ("tenantName", "serviceName"), key))
        # whether the switches know SCTP's ports, the leader sees
        sctp = any(text.upper().endswith(":SCTP") for text in document["ports"])
        if sctp and (answer := self._to_leader(request, body)) is not None:
            return answer
        return docs.listed_service_document(self._commands.put_service(document), self._model, self._away())

    def delete(self, request: Request, key: str) -> str:
        """Delete a service."""
        self._commands.delete_service(key)
        return key

    def inspect(self, request: Request, key: str) -> Document:
        """A service, its VIPs, its providers and what the switches have counted for it."""
        document = inspect_service(self._service(key), self._model, self._away())
        document["Oper"] |= filled({"counters": self._switches.counters(key)})
        return document

    def _service(self, key: str) -> Service:
        return found(self._model.services.get(key), f"Service {key}")
