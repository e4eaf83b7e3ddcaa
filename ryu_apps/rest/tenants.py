"""``/tenants``."""

from __future__ import annotations

from ryu_apps.rest import documents as docs
from ryu_apps.rest.decode import parse_object
from ryu_apps.rest.inspect import inspect_tenant
from ryu_apps.wsgi import Request, Route, found, methods, read_body
from topology import contract
from topology.answers import TenantInspectDoc
from topology.commands import Commands
from topology.contract import Document
from topology.documents import TenantDoc
from topology.model import Tenant


class Tenants:
    """The handlers."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._model = commands.model

    def routes(self) -> dict[str, dict[str, Route]]:
        """By path."""
        put = Route(self.put, TenantDoc, TenantDoc, (409, 422))
        get, delete = Route(self.get, TenantDoc, refuses=(404,)), Route(self.delete, str, refuses=(404, 409))
        return {
            "/tenants": {"GET": Route(self.all, list[TenantDoc])},
            "/tenants/{key}": methods(get, put, delete),
            "/inspect/tenants/{key}": {"GET": Route(self.inspect, TenantInspectDoc, refuses=(404,))},
        }

    def all(self, request: Request) -> list[Document]:
        """All tenants."""
        return [docs.tenant_document(t, self._model) for t in self._model.tenants.values()]

    def get(self, request: Request, key: str) -> Document:
        """One tenant."""
        return docs.tenant_document(self._tenant(key), self._model)

    def put(self, request: Request, key: str) -> Document:
        """Create a tenant."""
        contract.check(TenantDoc, docs.take_path(parse_object(read_body(request)), ("tenantName",), key))
        # defaultNetwork is Contiv's for containers without --net; taken, and without effect there as well
        return docs.tenant_document(self._commands.put_tenant(key), self._model)

    def delete(self, request: Request, key: str) -> str:
        """Delete a tenant that has no network."""
        self._commands.delete_tenant(key)
        return key

    def inspect(self, request: Request, key: str) -> Document:
        """A tenant and how much it has."""
        return inspect_tenant(self._tenant(key), self._model)

    def _tenant(self, key: str) -> Tenant:
        return found(self._model.tenants.get(key), f"Tenant {key}")
