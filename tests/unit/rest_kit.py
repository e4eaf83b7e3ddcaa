"""The REST API in process, on real commands and a store in memory; what the tests of its parts share."""

from __future__ import annotations

import json
from typing import Any

from ryu_apps.liveness import Liveness
from ryu_apps.pipeline.show import Asked
from ryu_apps.pipeline.tables import table_name
from ryu_apps.pipeline.trace import Question
from ryu_apps.rest import Api, HostTracker
from ryu_apps.wsgi import eventlet, webob
from topology.capabilities import Capabilities
from topology.commands import Commands
from topology.model import Endpoint
from topology.snapshot import Model
from topology.sqlite_store import SqliteStore

Json = dict[str, Any]


class Switches:
    """One switch that is connected."""

    def switches(self) -> list[Json]:
        return [{"dpid": "000000000000000a", "connected": True, "ports": []}]

    def settle(self, revision: int) -> bool:
        """There is nothing to wait for."""
        return True

    def refused(self, dpid: int) -> dict[str, int]:
        return {"blue": 7}

    def forged(self, dpid: int) -> dict[str, int]:
        return {}

    def trace(self, question: Question) -> Json:
        sender = question.sender
        return {
            "from": sender.id, "endpointID": sender.id, "tenantName": sender.tenant, "networkName": sender.network,
            "source": str(question.source), "sourcePort": question.source_port, "to": str(question.to), "proto": "tcp",
            "port": question.port, "switch": "000000000000000a", "verdict": "dropped", "outcome": "dropped",
            "steps": [{"table": "admission", "text": "dropped"}], "ends": [{"verdict": "dropped", "share": 1.0}],
            "notes": [],
        }  # fmt: skip

    def flows(self, dpid: int, asked: Asked) -> Json:
        """One, of what was asked for."""
        flow = {
            "table": table_name(asked.table or 0), "priority": 100, "packets": 3, "bytes": 300, "kind": "route",
            "owners": [":".join(asked.owner or ("switch", "")).rstrip(":")], "match": "ip", "actions": "drop",
        }  # fmt: skip
        return {"flows": [flow], "more": 0, "learned": 0}

    def unlinked(self, endpoint: Endpoint) -> bool:
        return endpoint.port_name == "down"

    def without_sctp(self) -> list[str]:
        return ["host h1 (Open vSwitch 3.1.0)"]

    def counters(self, service_key: str) -> Json:
        return {}


class Rest:
    """An API and a client of it."""

    def __init__(self, host_timeout: float = 5.0, alive_period: float = 3.0) -> None:
        self.now = 1000.0
        self.model = Model()
        self.store = SqliteStore(":memory:")
        self.commands = Commands(self.model, self.store, clock=lambda: self.now)
        self.commands.capabilities = Capabilities(without_sctp=Switches().without_sctp)
        self.connected: set[int] = set()
        self.liveness = Liveness(self.model, lambda: self.connected, clock=lambda: self.now)
        self.tracker = HostTracker(self.model, self.liveness)
        self.api = Api(
            self.commands,
            self.tracker,
            Switches(),
            host_timeout=host_timeout,
            alive_period=alive_period,
        )

    def close(self) -> None:
        self.api.close()
        self.store.close()

    def raw(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, str]:
        """Status, content type and text of the answer."""
        request = webob.Request.blank(path, method=method, body=body)
        response = request.get_response(self.api)
        return response.status_int, response.content_type, response.text

    def call(self, method: str, path: str, document: Any = None) -> Any:
        """The document of an answer that must be 200."""
        body = b"" if document is None else json.dumps(document).encode()
        status, kind, text = self.raw(method, f"/api/v1{path}", body)
        assert status == 200, text
        assert kind == "application/json"
        return json.loads(text)

    def refused(self, method: str, path: str, document: Any = None) -> tuple[int, str]:
        """Status and line of an answer that must be a refusal and change nothing."""
        body = b"" if document is None else json.dumps(document).encode()
        before = self.model.revision
        status, kind, text = self.raw(method, f"/api/v1{path}", body)
        assert status != 200, text
        assert kind == "text/plain"
        assert text.endswith("\n") and text.count("\n") == 1, text
        assert self.model.revision == before
        return status, text[:-1]

    def network(self, name: str = "net", subnet: str = "10.1.1.0/24", **fields: Any) -> Json:
        tenant = fields.pop("tenant", "default")
        document: Json = self.call("POST", f"/networks/{tenant}:{name}/", {"subnet": subnet, **fields})
        return document

    def service(self, name: str = "app", network: str = "net", **fields: Any) -> Json:
        fields = {"selectors": ["tier=web"], "ports": ["80:8080:TCP"], **fields}
        document: Json = self.call("POST", f"/serviceLBs/default:{name}/", {"networkName": network, **fields})
        return document

    def endpoint(self, name: str, **fields: Any) -> Json:
        fields = {"tenantName": "default", "networkName": "net", "switch": "a", "portName": "p1", **fields}
        document: Json = self.call("PUT", f"/endpoints/{name}/", fields)
        return document

    def host(self, name: str = "h1", switch: str = "b1") -> Json:
        fields = {"switch": switch, "tunnelAddress": f"192.0.2.{name.removeprefix('h')}", "version": "0.1.0"}
        document: Json = self.call("PUT", f"/hosts/{name}/", fields)
        return document

    def spawn(self, method: str, path: str, document: Any = None) -> Any:
        """The same as `raw`, but at once and beside the test; `wait` gives the answer."""
        thread = eventlet.spawn(self.raw, method, f"/api/v1{path}", json.dumps(document).encode())
        eventlet.sleep(0)
        return thread
