"""``/switches`` and ``/trace``: what the switches do."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from ryu_apps.pipeline.context import SWITCH, Owner
from ryu_apps.pipeline.show import Asked
from ryu_apps.pipeline.tables import Table, table_name
from ryu_apps.pipeline.trace import Question
from ryu_apps.rest.inspect import find_endpoints, the_one
from ryu_apps.rest.trace import question
from ryu_apps.wsgi import Request, Route, found, query
from topology import validate
from topology.answers import FlowsDoc, SwitchDoc, TraceDoc
from topology.contract import Document
from topology.errors import Invalid
from topology.model import Endpoint, Network, Service
from topology.reports import hex_dpid
from topology.snapshot import Model


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

    def flows(self, dpid: int, asked: Asked) -> dict[str, Any]:
        """The document of a switch's flows; refused where it is not connected."""

    def unlinked(self, endpoint: Endpoint) -> bool:
        """Whether its switch is connected, and its port there is down or missing."""

    def settle(self, revision: int) -> bool:
        """Wait, not long, until the connected switches carry out the model of this revision; whether they do."""


class Switches:
    """The handlers."""

    def __init__(self, model: Model, switches: SwitchView) -> None:
        self._model = model
        self._switches = switches

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        unknown = (400, 404, 409, 422, 503)
        chosen = ("table", "owner")
        asked = ("from", "to", "proto", "port", "sourcePort", "source")
        return {
            "/switches": {"GET": Route(self.all, list[SwitchDoc], refuses=(503,), leader=True)},
            "/switches/{key}": {"GET": Route(self.get, SwitchDoc, refuses=(404, 422, 503), leader=True)},
            "/switches/{key}/flows": {
                "GET": Route(self.flows, FlowsDoc, refuses=unknown, query=chosen, leader=True)
            },
            "/trace": {"GET": Route(self.trace, TraceDoc, refuses=unknown, query=asked, leader=True)},
        }

    def all(self, request: Request) -> list[Document]:
        """The connected switches."""
        return self._switches.switches()

    def get(self, request: Request, key: str) -> Document:
        """One switch, by its datapath id, with what it has refused and dropped."""
        wanted = hex_dpid(validate.datapath(key))
        document = found(next((s for s in self._switches.switches() if s["dpid"] == wanted), None), f"Switch {key}")
        forged = self._switches.forged(int(wanted, 16))
        known = ({"forged": forged[p["name"]]} if p["name"] in forged else {} for p in document["ports"])
        document["ports"] = [port | more for port, more in zip(document["ports"], known, strict=True)]
        if refused := self._switches.refused(int(wanted, 16)):
            document["refusedByLimit"] = refused
        return document

    def flows(self, request: Request, key: str) -> Document:
        """The flows of a switch, with names; ``table`` and ``owner`` choose some."""
        dpid = validate.datapath(key)
        found(next((s for s in self._switches.switches() if s["dpid"] == hex_dpid(dpid)), None), f"Switch {key}")
        asked = Asked(_table(query(request, "table")), _owner(query(request, "owner"), self._model))
        return self._switches.flows(dpid, asked)

    def trace(self, request: Request) -> Document:
        """Why a connection goes where it goes, and its reply comes back."""
        return self._switches.trace(question(partial(query, request), self._model))


def _table(text: str | None) -> Table | None:
    if not text:
        return None
    names = {table_name(table): table for table in Table}
    if text.lower() not in names:
        raise Invalid(f"table {text}: must be one of {', '.join(names)}")
    return names[text.lower()]


def _owner(text: str | None, model: Model) -> Owner | None:
    """``switch``, or a kind and a key; an endpoint also by its container's name."""
    if not text:
        return None
    if text == SWITCH[0]:
        return SWITCH
    kind, _, key = text.partition(":")
    if kind not in (Network.kind, Service.kind, Endpoint.kind) or not key:
        raise Invalid(
            f"owner {text}: must be switch, network:TENANT:NETWORK, service:TENANT:SERVICE or endpoint:NAME"
        )
    if kind == Endpoint.kind and model.get(kind, key) is None:
        key = the_one(key, find_endpoints(key, model)).id
    found(model.get(kind, key), f"{kind.capitalize()} {key}")
    return kind, key
