"""A controller and a Docker for the agent's tests: small, in process, and refusing what the real ones refuse."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from netctl.agent import networks, registry, sync
from netctl.agent.docker_api import DockerGone, DockerRefused
from netctl.agent.state import Subnets
from netctl.client import NoConnection, Refused

URL = "http://controller:9999"


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Until ``condition`` holds; after 10 s the test fails, naming ``what``."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, f"waited for {what}"
        time.sleep(0.005)  # between two looks


class FakeController:
    """What all of its `Client`s talk to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.hosts: dict[str, Any] = {}
        self.leases: dict[str, str] = {}
        self.endpoints: dict[str, Any] = {}
        self.networks: dict[str, Any] = {}
        self.applied: list[tuple[int, dict[str, str]]] = []
        self.checks: dict[str, dict[str, bool]] = {}
        self.calls: list[str] = []
        self.refuse: dict[str, str] = {}  # line by call or by endpoint id
        self.read_only = False  # its store can't be written: what changes nothing is done
        self.leaderless = False  # nobody leads: hosts can't register
        self.syncs = 0
        for module in (sync, networks, registry):
            monkeypatch.setattr(module, "Client", lambda url, **_: FakeClient(self))

    def holder(self, tenant: str, network: str, address: str) -> str | None:
        """Who has an address."""
        key = f"{tenant}:{network}:{address}"
        if key in self.leases:
            return key
        for doc in self.endpoints.values():
            if (doc["tenantName"], doc["networkName"]) == (tenant, network) and address in doc["ipAddress"]:
                return str(doc["endpointID"])
        return None


class FakeClient:
    """The part of `netctl.client.Client` that the agent's parts under test use."""

    def __init__(self, controller: FakeController) -> None:
        self.c = controller

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def called(self, name: str) -> None:
        if self.c.away:
            raise NoConnection(URL, "Connection refused")
        self.c.calls.append(name)
        if name in self.c.refuse:
            raise Refused(409, self.c.refuse[name])
        if self.c.read_only and name != "put_host":
            raise Refused(503, "store etcd://e:2379/netctl can't be reached: Connection refused")
        if self.c.leaderless and name == "put_host":
            raise Refused(503, "no controller leads at the moment: try again in a few seconds")

    def put_host(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        self.called("put_host")
        self.c.hosts[doc["hostName"]] = doc
        return {**doc, "hostAddress": "169.254.0.1"}

    def grant_lease(self, tenant: str, network: str, host: str, address: str = "", family: int = 4) -> dict[str, str]:
        self.called("grant_lease")
        if not address:
            free = (f"fd01::{n:x}" if family == 6 else f"10.1.1.{n}" for n in itertools.count(1))
            address = next(a for a in free if self.c.holder(tenant, network, a) is None)
        elif holder := self.c.holder(tenant, network, address):
            raise Refused(409, f"ipAddress {address} is taken: it is {holder}")
        self.c.leases[f"{tenant}:{network}:{address}"] = host
        return {"key": f"{tenant}:{network}:{address}", "ipAddress": f"{address}/{64 if ':' in address else 24}"}

    def release_lease(self, key: str) -> None:
        self.called("release_lease")
        if self.c.leases.pop(key, None) is None:
            raise Refused(404, f"lease {key} not found")

    def put_endpoint(self, doc: Mapping[str, Any]) -> None:
        self.called("put_endpoint")
        if doc["endpointID"] in self.c.refuse:
            raise Refused(409, self.c.refuse[doc["endpointID"]])
        for address in doc["ipAddress"]:
            holder = self.c.holder(doc["tenantName"], doc["networkName"], address)
            if holder not in (None, doc["endpointID"], f"{doc['tenantName']}:{doc['networkName']}:{address}"):
                raise Refused(409, f"ipAddress {address} is taken: it is {holder}")
            self.c.leases.pop(f"{doc['tenantName']}:{doc['networkName']}:{address}", None)
        self.c.endpoints[doc["endpointID"]] = doc

    def delete_endpoint(self, endpoint_id: str) -> None:
        self.called("delete_endpoint")
        if self.c.endpoints.pop(endpoint_id, None) is None:
            raise Refused(404, f"Endpoint {endpoint_id} not found")

    def set_checks(self, endpoint_id: str, verdicts: Mapping[str, bool]) -> None:
        self.called("set_checks")
        if endpoint_id not in self.c.endpoints:
            raise Refused(404, f"Endpoint {endpoint_id} not found")
        self.c.checks[endpoint_id] = dict(verdicts)

    def sync_endpoints(self, host: str, endpoints: Iterable[Mapping[str, Any]], keep: Iterable[str] = ()) -> int:
        self.called("sync_endpoints")
        docs = {doc["endpointID"]: doc for doc in endpoints}
        for endpoint_id in docs.keys() & self.c.refuse.keys():
            raise Refused(409, self.c.refuse[endpoint_id])
        self.c.endpoints = docs
        self.c.leases = {k: h for k, h in self.c.leases.items() if k in set(keep)}
        self.c.syncs += 1
        return 1

    def put_network(self, doc: Mapping[str, Any]) -> None:
        self.called("put_network")
        self.c.networks[f"{doc['tenantName']}:{doc['networkName']}"] = doc

    def delete_network(self, key: str) -> None:
        self.called("delete_network")
        if self.c.networks.pop(key, None) is None:
            raise Refused(404, f"Network {key} not found")

    def applied(self, host: str, revision: int, errors: Mapping[str, str] | None = None) -> None:
        self.called("applied")
        self.c.applied.append((revision, dict(errors or {})))


class FakeDocker:
    """Docker's networks. ``away``: no answer; ``busy``: ids with active endpoints."""

    url = "unix:///docker.sock"
    driver = "netctl"

    def __init__(self) -> None:
        self.away = False
        self.busy: set[str] = set()
        self.items: dict[str, dict[str, Any]] = {}
        self.made: Callable[[dict[str, Any]], None] = lambda item: None
        self._numbers = itertools.count(1)

    def _answer(self) -> None:
        if self.away:
            raise DockerGone("Docker does not answer")

    def ping(self) -> None:
        self._answer()

    def network(self, network_id: str) -> dict[str, Any]:
        self._answer()
        if network_id not in self.items:
            raise DockerRefused("network not found", 404)
        return self.items[network_id]

    def user_network(self, name: str, subnet: str, driver: str = "netctl", **options: str) -> dict[str, Any]:
        """One that a user has made."""
        item = {
            "Id": f"{next(self._numbers):064x}",
            "Name": name,
            "Driver": driver,
            "Options": options,
            "IPAM": {"Driver": driver, "Options": {}, "Config": [{"Subnet": subnet}]},
        }
        self.items[str(item["Id"])] = item
        return item

    def create_network(
        self,
        name: str,
        tenant: str,
        network: str,
        subnets: Subnets,
        *,
        internal: bool,
        made: Mapping[str, Any] | None = None,
    ) -> None:
        self._answer()
        if any(item["Name"] == name for item in self.items.values()):
            raise DockerRefused(f"network with name {name} already exists", 409)
        item = self.user_network(name, str(subnets.subnet), tenant=tenant, network=network)
        item["IPAM"]["Options"] = dict(item["Options"])
        if made is not None:
            item |= {"Options": made["options"], "Labels": made["labels"]}
            item["IPAM"] |= {"Driver": made["ipam"], "Options": made["ipamOptions"]}
        item["Internal"] = internal
        pools = item["IPAM"]["Config"]
        if subnets.gateway:
            pools[0]["Gateway"] = str(subnets.gateway)
        if subnets.subnet6:
            item["EnableIPv6"] = True
            pools.append({"Subnet": str(subnets.subnet6)})
            if subnets.gateway6:
                pools[1]["Gateway"] = str(subnets.gateway6)
        self.made(item)

    def remove_network(self, network_id: str) -> None:
        self._answer()
        if network_id in self.busy:
            raise DockerRefused("network has active endpoints", 403)
        self.items.pop(network_id, None)
