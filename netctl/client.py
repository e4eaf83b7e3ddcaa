"""A typed client of the controller's REST API, for the command line and the agent.

ClientError
├── NoConnection       exit 2   no answer, or one cut off
└── Refused            exit 3   the controller said no; knows the HTTP status
    └── Gone                    410: the revision asked for is no longer (or not yet) in the change log
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote

from netctl.documents import (
    ChangeDoc,
    ControllerDoc,
    EndpointDoc,
    HostDoc,
    LeaseDoc,
    NetworkDoc,
    ServiceDoc,
    SwitchDoc,
    TenantDoc,
    TraceDoc,
    VersionDoc,
)
from netctl.urls import checked_url, not_sent, reason

if TYPE_CHECKING:
    import requests

DEFAULT_URL = "http://127.0.0.1:9999"
API = "/api/v1"
CONNECT_TIMEOUT = 3.0  # s
READ_TIMEOUT = 10.0  # s
NETWORK_TIMEOUT = 30.0  # s: making or removing a network waits up to 15 s for every host
SYNC_TIMEOUT = 0.005  # s more for each endpoint of a host's list: ten times what it takes
STREAM_TIMEOUT = 10.0  # s: the stream has a line at least every 3 s
MAX_LINE = 500  # characters of a refusal that are shown


class ClientError(Exception):
    """Base of what a call can end in; ``str(error)`` is one line for the user."""


class NoConnection(ClientError):
    """The controller did not answer, or the connection broke before the answer was whole."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no connection to {url}: {reason}")
        self.url = url
        self.reason = reason


class Refused(ClientError):
    """The controller answered, and said no."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class Gone(Refused):
    """The changes since that revision can't be had: start afresh, without ``since``."""


def key_of(tenant: str, *names: str) -> str:
    """The key of an object of a tenant."""
    return ":".join((tenant, *names))


class Client:
    """One connection to one controller, or to whichever of several can be reached: ``http://a:9999,http://b:9999``.

    Not for several threads at once: give each its own. A request goes to the next one only if it has surely not been
    done yet. Every method raises `NoConnection` or `Refused`; ``ValueError`` comes from the constructor alone.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, insecure: bool = False, timeout: float = READ_TIMEOUT
    ) -> None:
        # Imported here: it takes longer than all the rest of `netctl --help`.
        from netctl import transport

        self.url = checked_url(url)
        self._urls = self.url.split(",")
        self._timeout = timeout
        self._session = transport.session(insecure=insecure)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for reuse."""
        self._session.close()

    # Tenants

    def tenants(self) -> list[TenantDoc]:
        """All tenants."""
        return cast(list[TenantDoc], self._list("tenants"))

    def tenant(self, name: str) -> TenantDoc:
        """One tenant."""
        return cast(TenantDoc, self._call("GET", _path("tenants", name)))

    def put_tenant(self, name: str) -> TenantDoc:
        """Make a tenant."""
        return cast(TenantDoc, self._call("PUT", _path("tenants", name), {"tenantName": name}))

    def delete_tenant(self, name: str) -> None:
        """Remove a tenant that has no networks."""
        self._call("DELETE", _path("tenants", name))

    # Networks

    def networks(self) -> list[NetworkDoc]:
        """All networks, of all tenants."""
        return cast(list[NetworkDoc], self._list("networks"))

    def network(self, key: str) -> NetworkDoc:
        """One network."""
        return cast(NetworkDoc, self._call("GET", _path("networks", key)))

    def put_network(self, doc: NetworkDoc) -> NetworkDoc:
        """Make a network; returns when every connected host has it."""
        path = _path("networks", _tenant_key(doc, "networkName"))
        return cast(NetworkDoc, self._call("PUT", path, doc, timeout=NETWORK_TIMEOUT))

    def check_network(self, doc: NetworkDoc) -> None:
        """Be refused as `put_network` would be, and change nothing."""
        path = _path("networks", _tenant_key(doc, "networkName"))
        self._call("POST", path, doc, params={"dryRun": "1"})

    def delete_network(self, key: str) -> None:
        """Remove a network that nothing uses; returns when every connected host has removed it."""
        self._call("DELETE", _path("networks", key), timeout=NETWORK_TIMEOUT)

    def pick_subnet(self, tenant: str) -> str:
        """A subnet that no network of the tenant overlaps: ``a.b.c.d/24``."""
        answer = self._call("POST", _path("subnets"), {"tenantName": tenant})
        return str(answer["subnet"])

    # Services

    def services(self) -> list[ServiceDoc]:
        """All services, of all tenants, each with its VIP and its numbers of providers."""
        return cast(list[ServiceDoc], self._list("serviceLBs"))

    def put_service(self, doc: ServiceDoc) -> ServiceDoc:
        """Make a service, or change one to be exactly this."""
        path = _path("serviceLBs", _tenant_key(doc, "serviceName"))
        return cast(ServiceDoc, self._call("PUT", path, doc))

    def delete_service(self, key: str) -> None:
        """Remove a service."""
        self._call("DELETE", _path("serviceLBs", key))

    # Endpoints

    def endpoints(self) -> list[EndpointDoc]:
        """All endpoints, of all tenants."""
        return cast(list[EndpointDoc], self._list("endpoints"))

    def endpoint(self, endpoint_id: str) -> EndpointDoc:
        """One endpoint, by its whole id."""
        return cast(EndpointDoc, self._call("GET", _path("endpoints", endpoint_id)))

    def put_endpoint(self, doc: EndpointDoc) -> EndpointDoc:
        """Make or change an endpoint; without addresses it is given one."""
        return cast(EndpointDoc, self._call("PUT", _path("endpoints", doc.get("endpointID", "")), doc))

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Remove an endpoint."""
        self._call("DELETE", _path("endpoints", endpoint_id))

    def set_checks(self, endpoint_id: str, verdicts: Mapping[str, bool]) -> EndpointDoc:
        """Say of services, by their keys, whether the endpoint passes their active checks."""
        return cast(EndpointDoc, self._call("PUT", _path("endpoints", endpoint_id, "checks"), dict(verdicts)))

    # Hosts and switches

    def hosts(self) -> list[HostDoc]:
        """All hosts."""
        return cast(list[HostDoc], self._list("hosts"))

    def host(self, name: str) -> HostDoc:
        """One host."""
        return cast(HostDoc, self._call("GET", _path("hosts", name)))

    def put_host(self, doc: HostDoc) -> HostDoc:
        """Register a host; again every 3 s, as its heartbeat."""
        return cast(HostDoc, self._call("PUT", _path("hosts", doc.get("hostName", "")), doc))

    def drain_host(self, name: str) -> HostDoc:
        """Have the providers on a host get no new connections."""
        return cast(HostDoc, self._call("PUT", _path("hosts", name, "drain"), {}))

    def undrain_host(self, name: str) -> None:
        """Have the providers on a host get new connections again."""
        self._call("DELETE", _path("hosts", name, "drain"))

    def delete_host(self, name: str) -> None:
        """Forget a host whose agent has ended, or that is drained and empty, and the endpoints on it."""
        self._call("DELETE", _path("hosts", name))

    def sync_endpoints(
        self, host: str, endpoints: Iterable[EndpointDoc], keep_leases: Iterable[str] = ()
    ) -> int:
        """Say that exactly these endpoints are on the host. Returns the revision that makes it so."""
        listed = list(endpoints)
        body = {"endpoints": listed, "keepLeases": sorted(keep_leases)}
        timeout = self._timeout + SYNC_TIMEOUT * len(listed)
        return int(self._call("PUT", _path("hosts", host, "endpoints"), body, timeout=timeout)["revision"])

    def applied(self, host: str, revision: int, errors: Mapping[str, str] | None = None) -> None:
        """Say that the host has carried out all up to a revision; ``errors``: line by network key."""
        self._call(
            "PUT", _path("hosts", host, "applied"), {"revision": revision, "errors": dict(errors or {})}
        )

    def switches(self) -> list[SwitchDoc]:
        """All switches that have connected."""
        return cast(list[SwitchDoc], self._list("switches"))

    def switch(self, dpid: str) -> SwitchDoc:
        """One switch."""
        return cast(SwitchDoc, self._call("GET", _path("switches", dpid)))

    def controllers(self) -> list[ControllerDoc]:
        """All controllers that share a store with this one."""
        return cast(list[ControllerDoc], self._list("controllers"))

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
        return cast(LeaseDoc, self._call("POST", _path("leases"), body))

    def release_lease(self, key: str) -> None:
        """Give an address back: ``tenant:network:address``."""
        self._call("DELETE", _path("leases", key))

    # All kinds

    def inspect(self, collection: str, key: str) -> dict[str, Any]:
        """What was asked (``Config``) and what is (``Oper``)."""
        return cast(dict[str, Any], self._call("GET", _path("inspect", collection, key)))

    def trace(self, query: Mapping[str, str]) -> TraceDoc:
        """Why a new connection goes where it goes: ``from, to, proto, port, source, sourcePort``."""
        return cast(TraceDoc, self._call("GET", _path("trace"), params=query))

    def version(self) -> VersionDoc:
        """The controller's version."""
        return cast(VersionDoc, self._call("GET", "/version"))

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
        path = _path("changes")
        with closing(self._send("GET", path, params=params, timeout=read_timeout, stream=True)) as response:
            for line in self._lines(response):
                change = self._decoded(response, line)
                if not isinstance(change, dict) or not isinstance(change.get("kind"), str):
                    raise NoConnection(self.url, "the change stream is not a change stream")
                yield cast(ChangeDoc, change)
        raise NoConnection(self.url, "the controller ended the change stream")

    # Transport

    def _lines(self, response: requests.Response) -> Iterator[bytes]:
        import requests

        rest = b""
        try:
            for chunk in response.iter_content(chunk_size=1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line for line in lines if line.strip())
        except requests.RequestException as error:
            raise NoConnection(self.url, reason(error)) from error

    def _list(self, collection: str) -> list[Any]:
        answer = self._call("GET", _path(collection))
        if not isinstance(answer, list):
            raise Refused(HTTPStatus.OK, f"{self.url} is not netctl's controller: {collection} is no list")
        return answer

    def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        response = self._send(method, path, body, params=params, timeout=timeout)
        return self._decoded(response, response.content)

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> requests.Response:
        import requests

        for url in tuple(self._urls):
            try:
                return self._send_to(url, method, path, body, params=params, timeout=timeout, stream=stream)
            except requests.RequestException as error:
                lost = NoConnection(url, reason(error))
                lost.__cause__ = error
                # whoever did not answer is asked last from now on
                self._urls = [u for u in self._urls if u != url] + [url]
                if method != "GET" and not not_sent(error):
                    break
        raise lost

    def _send_to(
        self,
        url: str,
        method: str,
        path: str,
        body: object,
        *,
        params: Mapping[str, str] | None,
        timeout: float | None,
        stream: bool,
    ) -> requests.Response:
        response = self._session.request(
            method,
            url + path,
            data=None if body is None else json.dumps(body),
            headers=None if body is None else {"Content-Type": "application/json"},
            params=params,
            timeout=(CONNECT_TIMEOUT, self._timeout if timeout is None else timeout),
            allow_redirects=stream,  # of several controllers, the change stream of a host is at the one that leads
            stream=stream,
        )
        if response.status_code != HTTPStatus.OK:
            with closing(response):
                line = _first_line(response)
            kind = Gone if response.status_code == HTTPStatus.GONE else Refused
            raise kind(response.status_code, line)
        return response

    def _decoded(self, response: requests.Response, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:  # not JSON, or not UTF-8
            raise Refused(
                response.status_code, f"{self.url} is not netctl's controller: it answered what is not JSON"
            ) from error


def _path(*parts: str) -> str:
    for part in parts:
        # Nothing, "." and ".." would name another resource than the one meant.
        if part in ("", ".", ".."):
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{part!r} can't be a name")
    return "/".join((API, *(quote(part, safe=":") for part in parts), ""))


def _tenant_key(doc: NetworkDoc | ServiceDoc, field: str) -> str:
    fields = cast(Mapping[str, str], doc)
    return key_of(fields.get("tenantName", ""), fields.get(field, ""))


def _first_line(response: requests.Response) -> str:
    """What the controller says about a refusal."""
    lines = response.content.decode("utf-8", "replace").strip().splitlines()
    return (
        lines[0][:MAX_LINE] if lines else f"the controller answered {response.status_code} {response.reason}"
    )
