"""Docker's events → containers' labels, names, states and health → endpoint documents."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from netctl.agent.docker_answers import MAX_NAME
from netctl.agent.docker_api import Docker, DockerGone, DockerRefused, signal_number
from netctl.agent.draining import Draining
from netctl.agent.emptied import emptied, sees_processes_of
from netctl.agent.listing import Listing, endpoints_of, unsure
from netctl.agent.memory import Memory
from netctl.agent.networks import Networks
from netctl.agent.ports import Ports
from netctl.agent.registry import Registry
from netctl.agent.state import Container, LocalEndpoint, State
from netctl.agent.sync import Synchroniser
from netctl.agent.ways import STARTED, Ways

LOG = logging.getLogger(__name__)
BACKOFF = (0.2, 0.5, 1.0, 2.0)  # s between tries of Docker; the last one for ever

# The event says it before Docker's listing does, as with a container's name and health.
STATE_OF = {"start": "running", "pause": "paused", "unpause": "running", "die": "stopped"}
HEALTH_EVENT = "health_status"
AUDIT = 5.0  # s between two looks for endpoints that may be left over
LOOK = frozenset({*STATE_OF, "stop", "kill", "rename", "update", "restart"})
FRESH = frozenset({"start", "die"})  # an earlier stop signal counts no more


class Follower:
    """Follows Docker: all there is at the start and after every interruption, then each event."""

    def __init__(
        self,
        *,
        state: State,
        docker: Docker,
        sync: Synchroniser,
        registry: Registry,
        networks: Networks,
        ports: Ports,
        memory: Memory,
        ways: Ways,
    ) -> None:
        self._state = state
        self._docker = docker
        self._sync = sync
        self._registry = registry
        self._networks = networks
        self._ports = ports
        self._memory = memory
        self._ways = ways
        self._draining = Draining(state, docker, self._note)
        self._stop = threading.Event()
        self._well: bool | None = None
        self._lock = threading.Lock()  # a listing or an event: an older listing must not replace what an event said
        self._confirmed: frozenset[str] = frozenset()  # endpoints that look left over, and that Docker still lists
        self._threads = [
            threading.Thread(target=self._run, name="docker-events", daemon=True),
            threading.Thread(target=self._audit, name="docker-audit", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        self._draining.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()
        self._draining.stop()

    def _run(self) -> None:
        tries = 0
        while not self._stop.is_set():
            self._state.pulse.within()
            try:
                # First the events, then the listing: what happens meanwhile is not missed.
                events = self._docker.events()
                with self._lock:
                    self._list(catch_up=True)
                self._found()
                tries = 0
                self._state.pulse.rest()
                for event in events:
                    self._state.pulse.within()
                    with self._lock:
                        self._event(event)
                    self._state.pulse.rest()
                    if self._stop.is_set():
                        return
            except (DockerGone, DockerRefused) as error:
                if self._well is not False:
                    LOG.warning("%s", error)
                self._well = False
            self._stop.wait(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1

    def _found(self) -> None:
        if not self._well:
            LOG.info("following Docker's events at %s", self._docker.url)
        self._well = True
        self._networks.docker_is_back()
        self._ports.look()
        self._sync.resync()

    # All there is

    def _list(self, *, catch_up: bool = False) -> None:
        """``catch_up``: there may be stop signals that nobody here has heard of."""
        listing = Listing(self._state, self._docker.driver)
        listing.networks(self._docker.networks())
        containers = {c.id: c for c in self._docker.containers()}
        for container_id in self._dead(listing.endpoints.values(), containers):
            containers[container_id] = replace(containers[container_id], state="stopped")
        if catch_up:
            self._draining.catch_up({c.id for c in containers.values() if c.state in STARTED})
        self._confirmed = listing.apply({c: self._draining.seen(found) for c, found in containers.items()})
        self._ways.look_at_all()  # before the controller is told of what runs
        self._state.update(listed=True)
        self._memory.save()
        self._say_labels()

    def _dead(self, endpoints: Collection[LocalEndpoint], containers: Mapping[str, Container]) -> set[str]:
        """Containers that Docker lists as running, and that have no process any more."""
        running = {e.id: e.container_id for e in endpoints if _listed_as_running(containers.get(e.container_id))}
        if not running or not sees_processes_of(self._docker.url):
            return set()
        try:
            found = emptied(running)
        except (OSError, NetlinkError) as error:
            LOG.warning("whether containers have processes is not known: %s", error)
            return set()
        dead = {running[endpoint_id] for endpoint_id in found}
        for container_id in dead:
            LOG.warning("container %s is dead, Docker has not noticed yet", container_id[:12])
        return dead

    def _audit(self) -> None:
        """Docker forgets an endpoint although its call to remove it failed, or was never made: list again then."""
        while not self._stop.wait(AUDIT):
            left = unsure(self._state)
            if not self._well or left <= self._confirmed:
                continue
            try:
                with self._lock:
                    self._list()
            except (DockerGone, DockerRefused):
                continue  # there will be a listing when it is back
            self._ports.look()
            self._sync.resync()

    # One event

    def _event(self, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        action, actor_id = str(event.get("Action") or ""), str(actor.get("ID") or "")
        try:
            if event.get("Type") == "network":
                container_id = str(attributes.get("container") or "")
                if attributes.get("type") == self._docker.driver:
                    self._network_event(action, actor_id, container_id)
                elif action in ("connect", "disconnect") and self._runs(container_id):
                    self._ways.ask(container_id)
            elif event.get("Type") == "container":
                number = signal_number(str(attributes.get("signal") or ""))
                self._container_event(action, actor_id, number, str(attributes.get("name") or "")[:MAX_NAME])
        except DockerRefused as error:
            if error.status != 404:  # gone since the event
                LOG.error("event %s of %s: %s", action, actor_id[:12], error)

    def _network_event(self, action: str, network_id: str, container_id: str) -> None:
        if action == "create":
            self._registry.register(network_id)
        elif action == "destroy":
            self._registry.destroyed(network_id)
            self._memory.save()
        elif action == "connect":
            for endpoint in endpoints_of(self._docker.network(network_id)):
                if endpoint.container_id == container_id and self._state.link(endpoint.id, container_id):
                    self._look(container_id)
                    self._sync.endpoint(endpoint.id)
        elif action == "disconnect":
            self._ways.forget()
            if self._runs(container_id):
                for endpoint_id in self._ways.look(container_id):
                    self._sync.endpoint(endpoint_id)

    def _container_event(self, action: str, container_id: str, number: int, name: str) -> None:
        what, _, detail = action.partition(":")
        if what == "kill" and self._state.endpoints_of(container_id):
            self._draining.signalled(container_id, number)
        elif what in FRESH:
            self._draining.ended(container_id)
        if what == "destroy":
            self._state.drop_container(container_id)
        elif what == HEALTH_EVENT:
            self._look(container_id, health=detail.strip(), name=name)
        elif what in LOOK:
            self._look(container_id, state=STATE_OF.get(what, ""), name=name)

    def _look(self, container_id: str, state: str = "", health: str = "", name: str = "") -> None:
        """What is given is what an event said; the rest is what Docker lists, which may be older."""
        if not self._state.endpoints_of(container_id):
            self._state.drop_container(container_id)
            return
        found = self._docker.containers(container_id)
        if not found:
            return
        container = found[0]
        if state:
            container = replace(container, state=state)
        if health:
            container = replace(container, health=health)
        if name:
            container = replace(container, name=name)
        changed = self._ways.look(container_id) if container.state in STARTED else set()
        self._note(self._draining.seen(container), changed)

    def _note(self, container: Container, changed: Collection[str] = ()) -> None:
        for endpoint_id in {*changed, *self._state.set_container(container)}:
            self._sync.endpoint(endpoint_id)
        self._say_labels()

    def _say_labels(self) -> None:
        """Labels that are left out select nothing: their user has to know."""
        if self._state.troubles.say("labels", self._state.large_labels()):
            self._networks.troubles_changed()

    def _runs(self, container_id: str) -> bool:
        """Whether it is one of ours that runs."""
        container = self._state.containers.get(container_id)
        return container is not None and container.state in STARTED


def _listed_as_running(container: Container | None) -> bool:
    return container is not None and container.state in STARTED
