"""Collections of Contiv's that hold nothing here, and its global settings: read by its clients, never written."""

from __future__ import annotations

from typing import Any, Never

from ryu_apps.wsgi import Handler, Request, Route
from topology.answers import GlobalDoc, GlobalInspectDoc
from topology.contract import Document, filled
from topology.errors import NetctlError, NotFound
from topology.snapshot import Model

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


class Contiv:
    """The handlers."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        table = {
            "/globals": {"GET": Route(self.list_globals, list[GlobalDoc])},
            "/globals/{key}": {"GET": Route(self.get_global, GlobalDoc, refuses=(404,)), **_read_only("globals")},
            "/inspect/globals/{key}": {"GET": Route(self.inspect_global, GlobalInspectDoc, refuses=(404,))},
        }
        for name in NOT_YET:
            missing = Route(_missing(name), Never, refuses=(404,))
            table[f"/{name}"] = {"GET": Route(_none, list[dict[str, Any]])}
            table[f"/{name}/{{key}}"] = {"GET": missing, **_read_only(name)}
            table[f"/inspect/{name}/{{key}}"] = {"GET": missing}
        return table

    def list_globals(self, request: Request) -> list[Document]:
        """Contiv's global settings."""
        return [filled(GLOBAL)]

    def get_global(self, request: Request, key: str) -> Document:
        """Contiv's global settings, by their one key: global."""
        if key != "global":
            raise NotFound(f"Global {key} not found: there is one, global")
        return filled(GLOBAL)

    def inspect_global(self, request: Request, key: str) -> Document:
        """Contiv's global settings, and how many networks there are."""
        config = self.get_global(request, key)
        return {"Config": config, "Oper": filled({"numNetworks": len(self._model.networks)})}


def _none(request: Request) -> list[Document]:
    """None: this version has no such objects."""
    return []


def _read_only(name: str) -> dict[str, Route]:
    def handler(request: Request, key: str) -> Document:
        """Not supported."""
        raise NotImplementedHere(f"{name} can't be written: not supported yet")

    return dict.fromkeys(("POST", "PUT", "DELETE"), Route(handler, Never, refuses=(501,)))


def _missing(name: str) -> Handler:
    def handler(request: Request, key: str) -> Document:
        """There is none."""
        raise NotFound(f"{name} {key} not found")

    return handler
