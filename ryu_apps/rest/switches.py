"""``/switches`` and ``/trace``: what the switches do."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from ryu_apps.pipeline.trace import Question
from ryu_apps.rest.trace import question
from ryu_apps.wsgi import Request, Route, found, query
from topology import validate
from topology.answers import SwitchDoc, TraceDoc
from topology.contract import Document
from topology.model import Endpoint
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

    def unlinked(self, endpoint: Endpoint) -> bool:
        """Whether its switch is connected, and its port there is down or missing."""

    def without_sctp(self) -> list[str]:
        """The connected switches whose conntrack does not know SCTP's ports, each in a few words."""

    def settle(self, revision: int) -> bool:
        """Wait, not long, until the connected switches carry out the model of this revision; whether they do."""


class Switches:
    """The handlers."""

    def __init__(self, model: Model, switches: SwitchView) -> None:
        self._model = model
        self._switches = switches

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        asked = ("from", "to", "proto", "port", "sourcePort", "source")
        return {
            "/switches": {"GET": Route(self.all, list[SwitchDoc], refuses=(503,))},
            "/switches/{key}": {"GET": Route(self.get, SwitchDoc, refuses=(404, 422, 503))},
            "/trace": {"GET": Route(self.trace, TraceDoc, refuses=(400, 404, 409, 422, 503), query=asked)},
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

    def trace(self, request: Request) -> Document:
        """Why a connection goes where it goes, and its reply comes back."""
        return self._switches.trace(question(partial(query, request), self._model))
