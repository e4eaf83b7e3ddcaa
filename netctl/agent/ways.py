"""The way back: each container of ours answers from the address that it was asked at, and reaches its tenants.

`wayback` says what a container's namespace should have, `nsroutes` writes it; here is when, and for whom:

- as soon as an interface of the container is up, which is before its process runs: the switch's end tells the kernel
- at Docker's events, before the controller is told that the container runs; at the agent's start
- when a network of its tenants comes or goes

Docker is asked only for what the namespace doesn't tell: other drivers' gateways; after the agent's restart also where
the namespace is. That is done by a thread of its own, as Docker may make its caller wait for a container's start.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from netctl.agent.carrier import carriers
from netctl.agent.docker_api import Docker, DockerGone, DockerRefused
from netctl.agent.errors import Malformed, Refusal
from netctl.agent.nsroutes import Namespace, NetlinkError, opened
from netctl.agent.protocol import check_room
from netctl.agent.state import Address, LocalNetwork, State, Way, subnets_of
from netctl.agent.veth import host_end
from netctl.agent.wayback import Attachment, Facts, Net, Wish, overlap, unknown_addresses, wanted
from topology.documents import StreamNetworkDoc

LOG = logging.getLogger(__name__)
STARTED = frozenset({"running", "draining", "paused"})
EXITED = (errno.ENOENT, errno.ESRCH)
GONE = (errno.ENODEV, errno.ENETDOWN, errno.ESRCH, errno.ENOENT)  # what goes with an interface
PART = "ways"  # of this host's troubles
MAX_PATH = 4096  # of a namespace's file


class _NotThere(Exception):
    """The namespace has none of the container's interfaces (yet), or is another's by now."""


@dataclass(slots=True)
class _Sandbox:
    """What is known of a container's namespace."""

    pid: int = 0  # of a process in it
    others: Mapping[Address, Address | None] | None = None  # other drivers' addresses and gateways, if Docker was asked
    spread: frozenset[str] = frozenset()  # tenants to all of whose networks it has routes
    several: bool = False  # whether it has more than one network
    unknown: bool = False  # whether it has addresses that Docker was not asked about
    troubles: Mapping[str, str] | None = None
    facts: Facts | None = None  # what it had after the last look


class _Look(NamedTuple):
    """What came of one look."""

    facts: Facts
    wish: Wish
    failure: str


class Ways:
    """Keeps the routes of this host's containers. ``tell``: called with an endpoint whose document is another now."""

    def __init__(self, state: State, docker: Docker, tell: Callable[[str], object], report: Callable[[], None]) -> None:
        self._state = state
        self._docker = docker
        self._tell = tell
        self._report = report
        self.docker_process: Callable[[], int] = lambda: 0  # whose view of the file system its paths are for
        self._lock = threading.Lock()  # one at work in a namespace
        self._known: dict[str, _Sandbox] = {}  # by the namespace's path
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._work, name="ways", daemon=True),
            threading.Thread(target=self._watch, name="carriers", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End soon. Routes stay."""
        self._jobs.put(None)

    # What others say

    def joined(self, endpoint_id: str, path: str) -> None:
        """Docker is about to put an endpoint into the namespace of that path. `Refusal`: it can't be."""
        if len(path) > MAX_PATH or not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise Malformed(f"SandboxKey {path[:80]!r}: not the absolute path of a network namespace")
        with self._state.changed:
            there = {endpoint_id, *(e for e, p in self._state.sandboxes.items() if p == path)}
            networks = [n for e in there if (n := self._network(e)) is not None]
            tenants = {n.tenant for n in networks}
            local = [net for network in networks for net in _local(network)]
            found = overlap([*self._modelled(tenants), *local], tenants) if len(tenants) > 1 else None
            if found is not None:
                one, other = found
                raise Refusal(
                    f"network {one.key} ({one.subnet}) overlaps network {other.key} ({other.subnet}):"
                    " a container can't be in both tenants"
                )
            if endpoint_id not in self._state.sandboxes:
                others = self._state.sandboxes.keys() - self._state.endpoints.keys()
                check_room(others, "endpoints that it did not make")
            self._state.sandboxes[endpoint_id] = path
        if path in self._known:  # it runs: what it begins is not to go another way while Docker moves the default route
            self._told(self._look(path) or ())

    def look(self, container_id: str) -> set[str]:
        """Make a container's routes right, as far as that takes no word of Docker's; the rest is done soon.

        Returns the endpoints whose documents differ by that.
        """
        changed: set[str] = set()
        paths = self._paths_of(container_id)
        for path in paths:
            changed |= self._look(path) or set()
        if not paths or any(self._asking(path) for path in paths):
            self.ask(container_id)
        return changed

    def ask(self, container_id: str) -> None:
        """The same, when Docker has been asked about the container."""
        self._jobs.put(lambda: self._told(self._asked(container_id)))

    def files(self, endpoint_id: str) -> list[str]:
        """What the namespace that an endpoint is in may be opened by, the best one first; empty: it is not known."""
        path = self._state.sandboxes.get(endpoint_id, "")
        return list(self._files(path, self._known.get(path, _Sandbox()).pid)) if path else []

    def forget(self) -> None:
        """Endpoints have gone: forget the namespaces that none is in."""
        with self._lock:
            with self._state.changed:
                paths = set(self._state.sandboxes.values())
            for path in [path for path in self._known if path not in paths]:
                del self._known[path]
        self._say()

    def look_at_all(self) -> None:
        """Make all running containers' routes right. Asks Docker."""
        self.forget()
        with self._state.changed:
            running = [c.id for c in self._state.containers.values() if c.state in STARTED]
        for container_id in running:
            paths = self._paths_of(container_id)
            for path in paths:
                self._look(path)
            if not paths or any(self._asking(path) for path in paths):
                self._asked(container_id)

    def network_changed(self, key: str) -> None:
        """A network of the model is new, or another than before, or gone."""
        tenant = key.partition(":")[0]
        with self._state.changed:
            in_it = {p for e, p in self._state.sandboxes.items() if (n := self._network(e)) and n.key == key}
            concerned = in_it | {path for path, known in list(self._known.items()) if tenant in known.spread}
        for path in concerned:
            self._told(self._look(path, read=False) or ())

    def networks_known(self) -> None:
        """The model's networks are known."""
        for path in [path for path, known in list(self._known.items()) if known.several]:
            self._told(self._look(path) or ())

    # Threads

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _watch(self) -> None:
        """An interface that comes up in a container: its routes have to be right before its process runs."""
        for name in carriers():
            with self._state.changed:
                sandboxes = self._state.sandboxes.items()
                path = next((p for e, p in sandboxes if host_end(e) == name and e not in self._state.ways), "")
            if path:
                self._told(self._look(path) or ())

    def _told(self, endpoints: Iterable[str]) -> None:
        for endpoint_id in endpoints:
            endpoint = self._state.endpoints.get(endpoint_id)
            if endpoint is not None and endpoint.container_id:  # else the controller is told when its container runs
                self._tell(endpoint_id)

    # One container

    def _asked(self, container_id: str) -> set[str]:
        if not self._state.endpoints_of(container_id):
            return set()
        try:
            inside = self._docker.inside(container_id)
        except DockerGone as error:
            LOG.debug("container %s: %s", container_id[:12], error)
            return set()  # all are looked at when Docker is back
        except DockerRefused as error:
            if error.status != 404:
                LOG.error("container %s: %s", container_id[:12], error)
            return set()
        if not inside.pid or not inside.path:
            return set()  # it has ended
        with self._state.changed:
            for endpoint_id in self._state.endpoints_of(container_id):
                self._state.sandboxes[endpoint_id] = inside.path
        known = self._known.setdefault(inside.path, _Sandbox())
        known.pid, known.others = inside.pid, inside.others
        changed = self._look(inside.path)
        if changed is None:
            changed = self._unreachable(inside.path, inside.pid)
        return changed

    def _asking(self, path: str) -> bool:
        """Whether Docker has to be asked."""
        known = self._known.get(path)
        return known is None or known.unknown

    def _look(self, path: str, *, read: bool = True) -> set[str] | None:
        """Make the routes in a namespace right. Returns endpoints whose documents differ by that; None: can't enter.

        Without ``read`` it is taken to be as the last look left it: many containers may be concerned at once.
        """
        with self._lock:
            attachments = self._attachments(path)
            if not attachments:
                return set()
            known = self._known.get(path) or _Sandbox()
            for file in self._files(path, known.pid):
                try:
                    with opened(file) as namespace:
                        look = self._make(namespace, attachments, known, read=read)
                except (OSError, NetlinkError, _NotThere) as error:
                    LOG.debug("%s: %s", file, error)
                else:
                    self._known[path] = known
                    return self._learn(look, attachments, known)
        return None

    def _files(self, path: str, pid: int) -> Iterator[str]:
        """What the namespace may be opened by. Docker may have a view of the file system of its own; on the way there,
        a symbolic link (/var/run) would lead back into ours."""
        if docker := self.docker_process():
            yield f"/proc/{docker}/root{os.path.realpath(path)}"
        yield path
        if pid:
            yield f"/proc/{pid}/ns/net"

    def _make(self, namespace: Namespace, attachments: list[Attachment], known: _Sandbox, *, read: bool) -> _Look:
        """Twice where it fails once: an interface may have gone while it was looked at."""
        networks = self._networks_of(attachments)
        for tries in range(2):
            if read or tries or known.facts is None or not namespace.has(known.facts):
                facts = namespace.read()
            else:
                facts = known.facts
            known.facts = None
            if not _present(facts, attachments):
                raise _NotThere("none of the container's interfaces is there")
            wish = wanted(facts, attachments, known.others or {}, networks)
            try:
                namespace.carry_out(facts, wish)
            except NetlinkError as error:
                if tries and error.code in GONE:
                    raise _NotThere("its interfaces are going") from error
                if tries:
                    return _Look(facts, wish, f"the kernel refused its routes: {error.args[-1]}")
            else:
                known.facts = replace(facts, routes=wish.routes, rules=wish.rules)
                break
        return _Look(facts, wish, "")

    def _learn(self, look: _Look, attachments: list[Attachment], known: _Sandbox) -> set[str]:
        unknown = unknown_addresses(look.facts, attachments)
        known.spread = look.wish.spread
        known.several = len(attachments) > 1 or bool(unknown)
        known.unknown = not unknown <= (known.others or {}).keys()
        known.troubles = look.wish.troubles
        if look.failure:
            LOG.error("%s: %s", ", ".join(a.endpoint_id[:12] for a in attachments), look.failure)
        self._say()
        present = _present(look.facts, attachments)
        return self._state.set_ways({e: Way(e in look.wish.primary, look.failure) for e in present})

    def _unreachable(self, path: str, pid: int) -> set[str]:
        """A running container whose namespace can't be entered."""
        try:
            with opened(f"/proc/{pid}/ns/net"):
                return set()  # its interfaces are not there yet, or not any more
        except NetlinkError as error:
            reason = str(error.args[-1])
        except OSError as error:
            if error.errno in EXITED:
                return set()
            reason = error.strerror or str(error)
        line = f"its network namespace can't be entered: {reason}"
        LOG.error("%s: %s", path, line)
        return self._state.set_ways({a.endpoint_id: Way(False, line) for a in self._attachments(path)})

    def _say(self) -> None:
        lines = {about: line for s in list(self._known.values()) for about, line in (s.troubles or {}).items()}
        if self._state.troubles.say(PART, lines):
            self._jobs.put(self._report)

    # The state

    def _paths_of(self, container_id: str) -> set[str]:
        with self._state.changed:
            endpoints = self._state.endpoints_of(container_id)
            found = {path for e in endpoints if (path := self._state.sandboxes.get(e))}
            return found if all(e in self._state.sandboxes for e in endpoints) else set()

    def _network(self, endpoint_id: str) -> LocalNetwork | None:
        endpoint = self._state.endpoints.get(endpoint_id)
        return self._state.networks.get(endpoint.network_id) if endpoint else None

    def _attachments(self, path: str) -> list[Attachment]:
        with self._state.changed:
            found = []
            for endpoint_id in [e for e, p in self._state.sandboxes.items() if p == path]:
                endpoint, network = self._state.endpoints.get(endpoint_id), self._network(endpoint_id)
                if endpoint is None or network is None:
                    continue
                document = self._state.model.get(network.key)
                gateways = (network.gateway, network.gateway6)
                found.append(
                    Attachment(
                        endpoint_id=endpoint_id,
                        tenant=network.tenant,
                        network=network.network,
                        number=document["number"] if document else 0,
                        mac=endpoint.mac,
                        addresses=endpoint.addresses,
                        gateways={} if network.internal else {g.version: g for g in gateways if g is not None},
                        nat=bool(document and document.get("nat")),
                        primary=self._state.ways.get(endpoint_id, Way()).primary,
                    )
                )
            return found

    def _networks_of(self, attachments: Iterable[Attachment]) -> list[Net] | None:
        with self._state.changed:
            return self._modelled({a.tenant for a in attachments}) if self._state.followed else None

    def _modelled(self, tenants: Iterable[str]) -> list[Net]:
        of = set(tenants)
        return [net for key, doc in self._state.model.items() if doc["tenantName"] in of for net in _nets(key, doc)]


def _nets(key: str, document: StreamNetworkDoc) -> Iterator[Net]:
    subnets = subnets_of(document)
    for subnet in (subnets.subnet, subnets.subnet6):
        if subnet is not None:
            yield Net(document["number"], key, document["tenantName"], subnet)


def _local(network: LocalNetwork) -> Iterator[Net]:
    for subnet in (network.subnet, network.subnet6):
        if subnet is not None:
            yield Net(0, network.key, network.tenant, subnet)


def _present(facts: Facts, attachments: Iterable[Attachment]) -> list[str]:
    """Those whose interface is in the namespace."""
    there = {(device.mac, address.ip) for device in facts.devices for address in device.addresses}
    return [a.endpoint_id for a in attachments if any((a.mac, address) in there for address in a.addresses)]
