"""What the agent asks of Docker Engine: networks, containers, events. One connection a thread."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeVar

import docker  # type: ignore[import-untyped]
import docker.errors  # type: ignore[import-untyped]
import requests
from docker.types import IPAMConfig, IPAMPool  # type: ignore[import-untyped]

from netctl.agent.docker_answers import (
    MAX_NAME,
    InspectedContainer,
    InspectedNetwork,
    ListedContainer,
    StrangeAnswer,
    bound,
    checked,
    events_of,
    fitting,
)
from netctl.agent.errors import AgentError, Refusal
from netctl.agent.protocol import Body, S, address, mapping, objects, text
from netctl.agent.protocol import subnet as subnet_in
from netctl.agent.state import DEFAULT_TENANT, Address, Container, LocalNetwork, Subnet, Subnets, model_name

T = TypeVar("T")
TIMEOUT = 60  # s: making a network waits for our own plugin
PING_TIMEOUT = 3  # s: a daemon that needs longer hangs
PATHS = 2  # of a thread, to which connections are kept: the library keeps one for each that was asked for last
STOP_TIMEOUT = 10  # s: Docker's own default between the stop signal and SIGKILL
AUXILIARY = "AuxiliaryAddresses"
STATES = {"created": "created", "running": "running", "paused": "paused", "restarting": "stopped"}

_SIGNAL = re.compile(r"(?:SIG)?([A-Z0-9]+)([+-][0-9]{1,2})?", re.ASCII)


class DockerGone(AgentError):
    """Docker Engine does not answer."""


class DockerRefused(AgentError):
    """Docker Engine said no; ``status`` is its HTTP status."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True, slots=True)
class Inside:
    """Where a container's network namespace is, and what other drivers have put in."""

    path: str
    pid: int  # 0: it doesn't run
    others: Mapping[Address, Address | None]  # their addresses, and the gateways that lead outside


class Docker:
    """Docker Engine at a URL, for several threads."""

    def __init__(self, url: str, driver: str) -> None:
        self.url = url
        self.driver = driver
        self._local = threading.local()

    def _ask(self, work: Callable[[Any], T]) -> T:
        try:
            client = getattr(self._local, "client", None)
            if client is None:
                client = self._local.client = docker.APIClient(base_url=self.url, version="auto", timeout=TIMEOUT)
                if self.url.startswith("unix://"):  # the client's own option for it has no effect
                    adapter = docker.transport.UnixHTTPAdapter(f"http+{self.url}", TIMEOUT, pool_connections=PATHS)
                    client.mount("http+docker://", adapter)
                client.hooks["response"].append(bound)
            return work(client)
        except docker.errors.APIError as error:
            raise DockerRefused(_line(str(error.explanation or error)), error.status_code or 0) from error
        except StrangeAnswer as error:
            self._local.client = None
            raise DockerRefused(str(error), 0) from error
        except RecursionError:
            raise DockerRefused(str(StrangeAnswer("nested too deeply")), 0) from None
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            self._local.client = None
            raise DockerGone(f"Docker does not answer at {self.url}: {_reason(error)}") from error

    def ping(self) -> None:
        """Raises `DockerGone` where Docker does not answer within seconds."""
        try:
            with closing(docker.APIClient(base_url=self.url, version="auto", timeout=PING_TIMEOUT)) as client:
                client.ping()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise DockerGone(f"Docker does not answer at {self.url}: {_reason(error)}") from error

    # Networks

    def networks(self) -> list[dict[str, Any]]:
        """Our driver's networks, each as `network` gives it."""
        filters = {"driver": self.driver}
        listed = self._ask(lambda client: checked(client.networks(filters=filters), list[InspectedNetwork]))
        found = []
        for item in listed:
            try:
                if item.get("Driver") == self.driver:
                    found.append(self.network(item["Id"]))
            except DockerRefused as error:
                if error.status != 404:  # gone since the listing
                    raise
        return found

    def network(self, network_id: str) -> dict[str, Any]:
        """A network, with its endpoints."""
        answer: dict[str, Any] = self._ask(
            lambda client: checked(client.inspect_network(network_id), InspectedNetwork)
        )
        return answer

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
        """Make the Docker network that stands for a network of the model; ``made``: as its user had made it."""
        made = dict(made) if made else {
            "options": {"tenant": tenant, "network": network},
            "labels": {},
            "attachable": None,
            "ipam": self.driver,
            "ipamOptions": {"tenant": tenant, "network": network},
        }
        pools = [_pool(subnets.subnet, subnets.gateway)]
        if subnets.subnet6 is not None:
            pools.append(_pool(subnets.subnet6, subnets.gateway6))
        ipam = IPAMConfig(driver=made["ipam"], pool_configs=pools, options=made["ipamOptions"])
        self._ask(
            lambda client: client.create_network(
                name,
                driver=self.driver,
                options=made["options"],
                labels=made["labels"],
                ipam=ipam,
                check_duplicate=True,
                attachable=made["attachable"],
                enable_ipv6=subnets.subnet6 is not None,
                internal=internal,
            )
        )

    def remove_network(self, network_id: str) -> None:
        """Remove a network; one that is gone already is fine."""
        try:
            self._ask(lambda client: client.remove_network(network_id))
        except DockerRefused as error:
            if error.status != 404:
                raise

    # Containers

    def containers(self, container_id: str = "") -> list[Container]:
        """Containers as Docker's own snapshot has them: unlike `docker inspect` this never waits for one that is
        starting, which may be waiting for our plugin."""
        filters = {"id": container_id} if container_id else {}
        listed = self._ask(lambda client: checked(client.containers(all=True, filters=filters), list[ListedContainer]))
        return [container_of(item) for item in listed]

    def pid(self, container_id: str) -> int:
        """Process id of a container's first process; 0: it doesn't run. Waits for a container that is starting."""
        found = self._inspect(container_id)
        return int((found.get("State") or {}).get("Pid") or 0)

    def inside(self, container_id: str) -> Inside:
        """Waits for a container that is starting, or joining a network."""
        found = self._inspect(container_id)
        settings = found.get("NetworkSettings") or {}
        others: dict[Address, Address | None] = {}
        for entry in (settings.get("Networks") or {}).values():
            network = self.network(str(entry["NetworkID"])) if entry.get("NetworkID") else {}
            if network.get("Driver") == self.driver:
                continue
            others |= gateways_of(entry, internal=bool(network.get("Internal")))
        pid = int((found.get("State") or {}).get("Pid") or 0)
        return Inside(str(settings.get("SandboxKey") or ""), pid, others)

    def stopping(self, container_id: str) -> tuple[int, int]:
        """The number of a container's stop signal, and the seconds that `docker stop` waits for it unless told."""
        config = self._inspect(container_id).get("Config") or {}
        return signal_number(str(config.get("StopSignal") or "")), int(config.get("StopTimeout") or STOP_TIMEOUT)

    def _inspect(self, container_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask(
            lambda client: checked(client.inspect_container(container_id), InspectedContainer)
        )
        return answer

    # Events

    def last_signals(self, seconds: float) -> dict[str, tuple[float, int]]:
        """Containers whose latest event in as many seconds was a signal: its age and number. Docker keeps the last
        256 events."""
        now = time.time()
        stream = self._events(
            {"type": ["container"], "event": ["kill", "die", "start"]},
            since=f"{now - seconds:.6f}",
            until=f"{now:.6f}",
        )
        found: dict[str, tuple[float, int]] = {}
        for event in self._read(stream):
            actor = event.get("Actor") or {}
            container_id = str(actor.get("ID") or "")
            found.pop(container_id, None)
            if event.get("Action") == "kill":
                number = signal_number(str((actor.get("Attributes") or {}).get("signal") or ""))
                found[container_id] = (now - int(event.get("timeNano") or 0) / 1e9, number)
        return found

    def events(self) -> Iterator[dict[str, Any]]:
        """Docker's events of containers and networks, from now on; `DockerGone` when there will be no more."""
        return self._follow(self._events({"type": ["container", "network"]}))

    def _events(self, filters: dict[str, list[str]], **times: str) -> requests.Response:
        """The library's own way of reading them has no bounds."""
        params = {"filters": json.dumps(filters), **times}

        def ask(client: Any) -> requests.Response:
            url = f"{client.base_url}/v{client.api_version}/events"
            response: requests.Response = client.get(url, params=params, stream=True, timeout=None)
            if response.status_code != HTTPStatus.OK:
                with closing(response):
                    raise DockerRefused(f"Docker refuses its events: HTTP status {response.status_code}", 0)
            return response

        return self._ask(ask)

    def _read(self, stream: requests.Response) -> Iterator[dict[str, Any]]:
        with closing(stream):
            try:
                yield from events_of(stream)
            except StrangeAnswer as error:
                raise DockerRefused(str(error), 0) from error
            except (requests.RequestException, OSError, ValueError) as error:
                raise DockerGone(f"Docker's events at {self.url} ended: {_reason(error)}") from error

    def _follow(self, stream: requests.Response) -> Iterator[dict[str, Any]]:
        yield from self._read(stream)
        raise DockerGone(f"Docker's events at {self.url} ended")


def container_of(item: Mapping[str, Any]) -> Container:
    """A container out of Docker's listing. Its health is only in the words of its status."""
    status = str(item.get("Status") or "")
    health = ""
    if status.endswith(")"):
        words = status.rpartition("(")[2].rstrip(")")
        health = {"healthy": "healthy", "unhealthy": "unhealthy", "health: starting": "starting"}.get(words, "")
    names = item.get("Names") or [""]
    labels, left_out = fitting(item.get("Labels") or {})
    return Container(
        id=str(item["Id"]),
        name=str(names[0]).removeprefix("/")[:MAX_NAME],
        labels=labels,
        left_out=left_out,
        state=STATES.get(str(item.get("State")), "stopped"),
        health=health,
    )


def gateways_of(entry: Mapping[str, Any], *, internal: bool) -> dict[Address, Address | None]:
    """A container's addresses in a network, and the gateways, as Docker's inspection has them."""
    found: dict[Address, Address | None] = {}
    try:
        for version in (IPv4Address, IPv6Address):
            name, by = ("IPAddress", "Gateway") if version is IPv4Address else ("GlobalIPv6Address", "IPv6Gateway")
            own = address(entry, name, version)
            if own is not None:
                found[own] = None if internal else address(entry, by, version)
    except Refusal as error:
        raise DockerRefused(f"Docker says of a container: {error}", 0) from error
    return found


def signal_number(name: str) -> int:
    """A signal as Docker writes it: ``15``, ``TERM``, ``SIGTERM``, ``SIGRTMIN+3``. Anything else: SIGTERM."""
    if name.isdecimal() and len(name) < 4:
        return int(name)
    found = _SIGNAL.fullmatch(name.upper())
    known = signal.Signals.__members__.get(f"SIG{found[1]}") if found else None
    return signal.SIGTERM if found is None or known is None else known + int(found[2] or 0)


def network_of(item: Mapping[str, Any], driver: str) -> LocalNetwork | None:
    """A network out of Docker's inspection; None where it can't be one of ours."""
    ipam = item.get("IPAM") or {}
    options = item.get("Options") or {}
    pool_options = ipam.get("Options") or {}
    tenant = options.get("tenant") or pool_options.get("tenant") or DEFAULT_TENANT
    named = options.get("network") or pool_options.get("network")
    try:
        subnet, pool = _pool_of(ipam, IPv4Network)
        # Docker also lists an IPv6 subnet that it makes no use of.
        subnet6, pool6 = _pool_of(ipam, IPv6Network) if item.get("EnableIPv6") else (None, {})
        if subnet is None:
            return None
        gateway, gateway6 = address(pool, "Gateway", IPv4Address), address(pool6, "Gateway", IPv6Address)
        auxiliary = [*mapping(pool, AUXILIARY).values(), *mapping(pool6, AUXILIARY).values()]
        return LocalNetwork(
            id=str(item["Id"]),
            name=str(item["Name"]),
            tenant=tenant,
            network=named or model_name(str(item["Name"]), tenant),
            subnet=subnet,
            gateway=None if gateway == subnet.network_address else gateway,
            own_ipam=ipam.get("Driver") == driver,
            tenant_in_pool=bool(pool_options.get("tenant")),
            ip_range=subnet_in(pool, "IPRange", IPv4Network),
            reserved=tuple(map(ip_address, auxiliary)),
            internal=bool(item.get("Internal")),
            subnet6=subnet6,
            gateway6=None if subnet6 and gateway6 == subnet6.network_address else gateway6,
            by_agent={"tenant", "network"} <= pool_options.keys(),  # as `create_network` names them
            picked=ipam.get("Driver") != driver,  # Docker does not say
            made={
                "options": dict(options),
                "labels": dict(item.get("Labels") or {}),
                "attachable": bool(item.get("Attachable")),
                "ipam": str(ipam.get("Driver") or "default"),
                "ipamOptions": dict(pool_options),
            },
        )
    except (Refusal, ValueError):
        return None


def unused_subnet(item: Mapping[str, Any]) -> str:
    """An IPv6 subnet that was asked for, of a network that Docker gives no IPv6; "": there is none."""
    configs = (item.get("IPAM") or {}).get("Config") or []
    subnets = (str(config.get("Subnet") or "") for config in configs)
    return "" if item.get("EnableIPv6") else next((subnet for subnet in subnets if ":" in subnet), "")


def _pool_of(ipam: Body, family: type[S]) -> tuple[S | None, Body]:
    """The subnet of a family, and what Docker says of it."""
    for pool in objects(ipam, "Config"):
        if (":" in text(pool, "Subnet")) == (family is IPv6Network):
            return subnet_in(pool, "Subnet", family), pool
    return None, {}


def _pool(subnet: Subnet, gateway: Address | None) -> Any:
    return IPAMPool(subnet=str(subnet), gateway=str(gateway) if gateway else None)


def _reason(error: BaseException) -> str:
    """The innermost cause in the system's words: the library's own line is a chain of class names."""
    seen: BaseException | None = error
    reason = ""
    while seen is not None:
        if isinstance(seen, requests.Timeout):
            return "no answer in time"
        for part in (seen, *seen.args):
            if isinstance(part, OSError) and part.strerror:
                reason = part.strerror
        seen = seen.__cause__ or seen.__context__
    return reason or _line(str(error))


def _line(text: str) -> str:
    return " ".join(text.split())
