"""A typed client of the controller's REST API, for the command line and the agent."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast

from netctl.exchange import READ_TIMEOUT, STREAM_TIMEOUT, ClientError, Exchange, Gone, NoConnection, Refused, path_of
from topology.answers import (
    INSPECTIONS,
    ChangeDoc,
    ControllerDoc,
    FlowsDoc,
    LeaseDoc,
    RevisionDoc,
    SubnetDoc,
    SwitchDoc,
    TraceDoc,
    VersionDoc,
)
from topology.documents import NetworkDoc, ServiceDoc, TenantDoc
from topology.reports import EndpointDoc, HostDoc

__all__ = ["DEFAULT_URL", "Client", "ClientError", "Gone", "NoConnection", "Refused", "key_of"]

DEFAULT_URL = "http://127.0.0.1:9999"
NETWORK_TIMEOUT = 30.0  # s: making or removing a network waits up to 15 s for every host
SYNC_TIMEOUT = 0.005  # s more for each endpoint of a host's list: ten times what it takes


def key_of(tenant: str, *names: str) -> str:
    """The key of an object of a tenant. Raises `Refused` for a name that would be no part of it."""
    return ":".join((tenant, *map(_name, names)))


def _name(name: str) -> str:
    """What may be a part of a key or path; the controller says what else a name must be."""
    if ":" in name:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: a name has no colon; -t TENANT names the tenant")
    if "/" in name:
        line = f"{name}: a name has no slash; what Docker lists as NAME/TENANT is NAME -t TENANT here"
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, line)
    return name


class Client:
    """One connection to one controller, or to whichever of several can be reached: ``http://a:9999,http://b:9999``.

    Not for several threads at once: give each its own. A request goes to the next one only if it has surely not been
    done yet. Every method raises `NoConnection` or `Refused`; ``ValueError`` comes from the constructor alone.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, insecure: bool = False, timeout: float = READ_TIMEOUT
    ) -> None:
        self._exchange = Exchange(url, insecure=insecure, timeout=timeout)
        self.url = self._exchange.url
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for reuse."""
        self._exchange.close()

    # Tenants

    def tenants(self) -> list[TenantDoc]:
        """All tenants."""
        return cast(list[TenantDoc], self._list("tenants", TenantDoc))

    def tenant(self, name: str) -> TenantDoc:
        """One tenant."""
        return cast(TenantDoc, self._call("GET", path_of("tenants", _name(name)), kind=TenantDoc))

    def put_tenant(self, name: str) -> TenantDoc:
        """Make a tenant."""
        return cast(TenantDoc, self._call("PUT", path_of("tenants", _name(name)), {"tenantName": name}, kind=TenantDoc))

    def delete_tenant(self, name: str) -> None:
        """Remove a tenant that has no networks."""
        self._call("DELETE", path_of("tenants", _name(name)))

    # Networks

    def networks(self) -> list[NetworkDoc]:
        """All networks, of all tenants."""
        return cast(list[NetworkDoc], self._list("networks", NetworkDoc))

    def network(self, key: str) -> NetworkDoc:
        """One network."""
        return cast(NetworkDoc, self._call("GET", path_of("networks", key), kind=NetworkDoc))

    def put_network(self, doc: NetworkDoc) -> NetworkDoc:
        """Make a network; returns when every connected host has it."""
        path = path_of("networks", _tenant_key(doc, "networkName"))
        return cast(NetworkDoc, self._call("PUT", path, doc, timeout=NETWORK_TIMEOUT, kind=NetworkDoc))

    def check_network(self, doc: NetworkDoc) -> None:
        """Be refused as `put_network` would be, and change nothing."""
        path = path_of("networks", _tenant_key(doc, "networkName"))
        self._call("POST", path, doc, params={"dryRun": "1"})

    def delete_network(self, key: str) -> None:
        """Remove a network that nothing uses; returns when every connected host has removed it."""
        self._call("DELETE", path_of("networks", key), timeout=NETWORK_TIMEOUT)

    def pick_subnet(self, tenant: str) -> str:
        """A subnet that no network of the tenant overlaps: ``a.b.c.d/24``."""
        answer = self._call("POST", path_of("subnets"), {"tenantName": tenant}, kind=SubnetDoc)
        return str(answer["subnet"])

    # Services

    def services(self) -> list[ServiceDoc]:
        """All services, of all tenants, each with its VIP and its numbers of providers."""
        return cast(list[ServiceDoc], self._list("serviceLBs", ServiceDoc))

    def put_service(self, doc: ServiceDoc) -> ServiceDoc:
        """Make a service, or change one to be exactly this."""
        path = path_of("serviceLBs", _tenant_key(doc, "serviceName"))
        return cast(ServiceDoc, self._call("PUT", path, doc, kind=ServiceDoc))

    def delete_service(self, key: str) -> None:
        """Remove a service."""
        self._call("DELETE", path_of("serviceLBs", key))

    # Endpoints

    def endpoints(self) -> list[EndpointDoc]:
        """All endpoints, of all tenants."""
        return cast(list[EndpointDoc], self._list("endpoints", EndpointDoc))

    def endpoint(self, endpoint_id: str) -> EndpointDoc:
        """One endpoint, by its whole id."""
        return cast(EndpointDoc, self._call("GET", path_of("endpoints", endpoint_id), kind=EndpointDoc))

    def put_endpoint(self, doc: EndpointDoc) -> EndpointDoc:
        """Make or change an endpoint; without addresses it is given one."""
        path = path_of("endpoints", doc.get("endpointID", ""))
        return cast(EndpointDoc, self._call("PUT", path, doc, kind=EndpointDoc))

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Remove an endpoint."""
        self._call("DELETE", path_of("endpoints", endpoint_id))

    def set_checks(self, endpoint_id: str, verdicts: Mapping[str, bool]) -> EndpointDoc:
        """Say of services, by their keys, whether the endpoint passes their active checks."""
        path = path_of("endpoints", endpoint_id, "checks")
        return cast(EndpointDoc, self._call("PUT", path, dict(verdicts), kind=EndpointDoc))

    # Hosts and switches

    def hosts(self) -> list[HostDoc]:
        """All hosts."""
        return cast(list[HostDoc], self._list("hosts", HostDoc))

    def host(self, name: str) -> HostDoc:
        """One host."""
        return cast(HostDoc, self._call("GET", path_of("hosts", name), kind=HostDoc))

    def put_host(self, doc: HostDoc) -> HostDoc:
        """Register a host; again every 3 s, as its heartbeat."""
        return cast(HostDoc, self._call("PUT", path_of("hosts", doc.get("hostName", "")), doc, kind=HostDoc))

    def drain_host(self, name: str) -> HostDoc:
        """Have the providers on a host get no new connections."""
        return cast(HostDoc, self._call("PUT", path_of("hosts", name, "drain"), {}, kind=HostDoc))

    def undrain_host(self, name: str) -> None:
        """Have the providers on a host get new connections again."""
        self._call("DELETE", path_of("hosts", name, "drain"))

    def delete_host(self, name: str) -> None:
        """Forget a host whose agent has ended, or that is drained and empty, and the endpoints on it."""
        self._call("DELETE", path_of("hosts", name))

    def sync_endpoints(
        self, host: str, endpoints: Iterable[EndpointDoc], keep_leases: Iterable[str] = ()
    ) -> int:
        """Say that exactly these endpoints are on the host. Returns the revision that makes it so."""
        listed = list(endpoints)
        body = {"endpoints": listed, "keepLeases": sorted(keep_leases)}
        timeout = self._timeout + SYNC_TIMEOUT * len(listed)
        path = path_of("hosts", host, "endpoints")
        return int(self._call("PUT", path, body, timeout=timeout, kind=RevisionDoc)["revision"])

    def applied(self, host: str, revision: int, errors: Mapping[str, str] | None = None) -> None:
        """Say that the host has carried out all up to a revision; ``errors``: line by network key."""
        self._call(
            "PUT", path_of("hosts", host, "applied"), {"revision": revision, "errors": dict(errors or {})}
        )

    def switches(self) -> list[SwitchDoc]:
        """All switches that have connected."""
        return cast(list[SwitchDoc], self._list("switches", SwitchDoc))

    def switch(self, dpid: str) -> SwitchDoc:
        """One switch."""
        return cast(SwitchDoc, self._call("GET", path_of("switches", dpid), kind=SwitchDoc))

    def controllers(self) -> list[ControllerDoc]:
        """All controllers that share a store with this one."""
        return cast(list[ControllerDoc], self._list("controllers", ControllerDoc))

    # Leases

    def grant_lease(
        self, tenant: str, network: str, host: str, address: str = "", family: int = 4
    ) -> LeaseDoc:
        """Take an address for an endpoint to come: the one named, or any of that version of IP."""
        body: dict[str, object] = {
            "tenantName": tenant,
            "networkName": network,
            "ipAddress": address,
            "hostName": host,
        }
        if family != 4 and not address:
            body |= {"family": family}
        return cast(LeaseDoc, self._call("POST", path_of("leases"), body, kind=LeaseDoc))

    def release_lease(self, key: str) -> None:
        """Give an address back: ``tenant:network:address``."""
        self._call("DELETE", path_of("leases", key))

    # All kinds

    def inspect(self, collection: str, key: str) -> dict[str, Any]:
        """What was asked (``Config``) and what is (``Oper``)."""
        found = self._call("GET", path_of("inspect", collection, key), kind=INSPECTIONS[collection])
        return cast(dict[str, Any], found)

    def flows(self, dpid: str, query: Mapping[str, str]) -> FlowsDoc:
        """The flows of a switch: of one ``table``, of one ``owner``."""
        return cast(FlowsDoc, self._call("GET", path_of("switches", dpid, "flows"), params=query, kind=FlowsDoc))

    def trace(self, query: Mapping[str, str]) -> TraceDoc:
        """Why a new connection goes where it goes: ``from, to, proto, port, source, sourcePort``."""
        return cast(TraceDoc, self._call("GET", path_of("trace"), params=query, kind=TraceDoc))

    def version(self) -> VersionDoc:
        """The controller's version."""
        return cast(VersionDoc, self._call("GET", "/version", kind=VersionDoc))

    def changes(
        self, since: int | None = None, host: str = "", read_timeout: float = STREAM_TIMEOUT
    ) -> Generator[ChangeDoc, None, None]:
        """Follow the model: without ``since`` all, ``sync``, then each change; with it, what came after.

        Also yields the ``alive`` lines, so that a caller gets to look up every few seconds. Never ends by
        itself: raises `NoConnection` when the stream breaks or is silent for ``read_timeout`` seconds, `Gone`
        when the changes after ``since`` can't be had. An open stream with ``host`` makes that host count as
        connected.
        """
        params = {} if since is None else {"since": str(since)}
        if host:
            params["host"] = host
        yield from self._exchange.changes(params, read_timeout)
    # The exchange

    def _list(self, collection: str, kind: Any) -> list[Any]:
        return cast(list[Any], self._call("GET", path_of(collection), kind=list[kind]))

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
        kind: Any = None,
    ) -> Any:
        return self._exchange.call(method, path, body, params=params, timeout=timeout, kind=kind)


def _tenant_key(doc: NetworkDoc | ServiceDoc, field: str) -> str:
    fields = cast(Mapping[str, str], doc)
    return key_of(fields.get("tenantName", ""), fields.get(field, ""))
