"""The model's networks → Docker's networks, by the controller's change stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from netctl.agent.docker_api import Docker, DockerGone, DockerRefused
from netctl.agent.engine_watch import ABOUT as DOCKER
from netctl.agent.errors import AgentError
from netctl.agent.registry import Registry
from netctl.agent.state import LocalNetwork, State, agree, subnets_of
from netctl.agent.sync import Synchroniser
from netctl.client import Client, ClientError, NoConnection
from topology.documents import StreamNetworkDoc

LOG = logging.getLogger(__name__)
LISTING_TIMEOUT = 3.0  # s
NO_DOCKER = "Docker has not answered since netctl-agent was started"
BACKOFF = (0.5, 1.0, 2.0, 3.0)  # s between tries of the change stream; the last one for ever
STEADY = 10.0  # s after which a stream that breaks was a good one


class Networks:
    """Keeps Docker's networks of our driver equal to the model's."""

    def __init__(self, url: str, state: State, docker: Docker, sync: Synchroniser, registry: Registry) -> None:
        self._url = url
        self._state = state
        self._docker = docker
        self._sync = sync
        self._registry = registry
        self._lock = threading.Lock()  # one reconciliation at a time
        self.switch_changed: Callable[[], None] = lambda: None  # called when hosts or tenants came or went
        self.network_changed: Callable[[str], None] = lambda key: None  # called when one came, went, or changed
        self.networks_known: Callable[[], None] = lambda: None  # called when all of the model's are known
        self._stop = threading.Event()
        self._revision = 0
        self._errors: Mapping[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="networks", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    # Following

    def _run(self) -> None:
        tries, said = 0, ""
        while not self._stop.is_set():
            self._state.pulse.rest()
            if not self._sync.registered.wait(1.0):
                continue  # the stream is only for hosts that the controller knows
            began, line = time.monotonic(), ""
            try:
                with Client(self._url) as stream, Client(self._url) as client:
                    for _ in self._follow(stream, client):
                        pass
            except NoConnection as error:
                line = f"the change stream is broken: {error.reason}"
            except ClientError as error:
                line = f"the controller refused the change stream: {error}"
            if time.monotonic() > began + STEADY:
                tries, said = 0, ""
            if line not in ("", said):
                LOG.warning("%s", line)
                said = line
            self._stop.wait(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1

    def _follow(self, stream: Client, client: Client) -> Iterator[None]:
        listed: dict[str, StreamNetworkDoc] | None = {}
        pictured: dict[str, dict[str, Any]] = {"service": {}, "tenant": {}, "host": {}}
        for change in stream.changes(host=self._state.host):
            self._state.pulse.within()
            if self._stop.is_set():
                return
            kind, revision = change["kind"], change["revision"]
            if kind == "network":
                document = change["object"]
                if listed is not None:
                    if document is not None:
                        listed[change["key"]] = document  # type: ignore[assignment]
                else:
                    errors = self.apply(change["key"], document)  # type: ignore[arg-type]
                    self._revision = revision  # only now: another part may tell meanwhile how far we are
                    self._tell(client, errors)
            elif kind in pictured:
                if listed is None:
                    self._changed(kind, change["key"], change["object"])
                elif change["object"] is not None:
                    pictured[kind][change["key"]] = change["object"]
                if kind == "host" and change["object"] is None and change["key"] == self._state.host:
                    self._sync.resync()  # somebody had this host forgotten, with all that is on it
            elif kind == "endpoint" and change["key"] in self._state.endpoints:
                self._endpoint_changed(change["key"], change["object"])
            elif kind == "sync" and listed is not None:
                LOG.info("following the controller's changes from revision %d: %d networks", revision, len(listed))
                self._state.set_services(pictured["service"])
                self._state.set_peers(pictured["host"])
                self._state.set_tenants(pictured["tenant"])
                self.switch_changed()
                self._know(listed)
                self.networks_known()
                listed = None
                errors = self.reconcile()
                self._revision = revision
                self._tell(client, errors)
                self._sync.resync()
            self._state.pulse.rest()
            yield

    def _changed(self, kind: str, key: str, document: Any) -> None:
        """A service, tenant or host came, changed or went."""
        if kind == "service":
            self._state.set_service(key, document)
            if document is None:
                self._registry.withdraw_left(key.partition(":")[0])
            return
        if kind == "tenant":
            self._state.set_tenant(key, document)
        else:
            self._state.set_peer(key, document)
        self.switch_changed()

    def _endpoint_changed(self, endpoint_id: str, document: Mapping[str, Any] | None) -> None:
        if document is None:
            self._sync.resync()  # somebody removed what is still here
            return
        passed = document.get("passed", ())
        with self._state.changed:
            verdicts = dict(self._state.verdicts.get(endpoint_id, {}))
        if any(passes != (key in passed) for key, passes in verdicts.items()):
            self._sync.verdict(endpoint_id)  # the controller has forgotten one, or was told otherwise

    def _know(self, documents: dict[str, StreamNetworkDoc]) -> None:
        with self._state.changed:
            self._state.model = documents
            for network in list(self._state.networks.values()):
                if network.key in documents:
                    self._state.pending.pop(network.id, None)
            self._state.update(followed=True)

    # Carrying out

    def apply(self, key: str, document: StreamNetworkDoc | None) -> dict[str, str]:
        """Carry one change out. Returns the errors, by network key."""
        with self._state.changed:
            if document is None:
                self._state.model.pop(key, None)
                self._state.left.discard(key)
            else:
                self._state.model[key] = document
                for network in self._state.networks_of(key):
                    self._state.pending.pop(network.id, None)
            self._state.changed.notify_all()
        self.network_changed(key)  # before the controller is told: its user may use it then
        if not self._docker_listed():
            return {key: self._no_docker()}
        with self._lock:
            try:
                if DOCKER in self._state.troubles.lines():
                    self._docker.ping()  # one that hangs would hold up all that follows
                if document is not None:
                    self._ensure(key, document)
                else:
                    for network in self._registered(key):
                        self._remove(network)
            except AgentError as error:
                LOG.error("network %s: %s", key, error)
                return {key: str(error)}
        return {}

    def docker_is_back(self) -> None:
        """Carry out what could not be while Docker was away, and say so."""
        errors = self.reconcile()
        if self._state.followed:
            try:
                with Client(self._url) as client:
                    self._tell(client, errors)
            except ClientError as error:
                LOG.warning("the controller was not told that Docker is back: %s", error)

    def troubles_changed(self) -> None:
        """What is wrong between this host and its containers is something else now: say so."""
        try:
            with Client(self._url) as client:
                self._tell(client, self._errors)
        except ClientError as error:
            LOG.warning("the controller was not told what is wrong here: %s", error)

    def _tell(self, client: Client, errors: Mapping[str, str]) -> None:
        """How far this host is; ``errors``: by network key."""
        self._errors = errors
        client.applied(self._state.host, self._revision, {**self._state.troubles.lines(), **errors})

    def reconcile(self) -> dict[str, str]:
        """Make Docker have what the model has, and no more. Returns the errors, by network key."""
        errors: dict[str, str] = {}
        if not self._docker_listed():
            return dict.fromkeys(self._state.model, self._no_docker())
        with self._lock:
            with self._state.changed:
                if not self._state.followed:
                    return {}
                wanted = dict(self._state.model)
                surplus = [n for n in self._state.networks.values() if n.network and n.key not in wanted]
            self._registry.withdraw_left()
            for network in surplus:
                try:
                    self._surplus(network)
                except AgentError as error:
                    LOG.error("network %s: %s", network.key, error)
            for key in wanted:
                document = self._state.model.get(key)
                if document is None:
                    continue  # it has gone while others were made
                try:
                    self._ensure(key, document)
                except AgentError as error:
                    LOG.error("network %s: %s", key, error)
                    errors[key] = str(error)
        return errors

    def _no_docker(self) -> str:
        return self._state.troubles.lines().get(DOCKER, NO_DOCKER)

    def _docker_listed(self) -> bool:
        """Whether Docker's networks are known; just after the agent's start that takes a moment."""
        return self._state.wait(lambda: self._state.listed, LISTING_TIMEOUT)

    def _ensure(self, key: str, document: StreamNetworkDoc) -> None:
        wanted, internal = subnets_of(document), document.get("internal", False)
        right = 0
        for network in self._registered(key):
            if agree(network.subnets, wanted) and network.internal >= internal:
                right += 1
                if network.subnets != wanted:  # a gateway that our IPAM driver chose: Docker does not list it
                    self._state.set_network(replace(network, gateway=wanted.gateway, gateway6=wanted.gateway6))
                by_docker = not network.own_ipam and not document.get("dockerIPAM", False)
                if (network.internal and not internal) or by_docker:  # registered by an agent that did not report it
                    self._registry.report(network.id)
            else:
                # The network was deleted and made anew while this agent was away.
                self._remove(network)
        if right or key in self._state.left:
            return
        name = document["dockerName"]
        form = self._state.forms.get(key)
        self._state.making = key
        try:
            self._docker.create_network(
                form.name if form else name,
                document["tenantName"],
                document["networkName"],
                wanted,
                internal=internal,
                made=form.made if form else None,
            )
        except DockerRefused as error:
            if "already exists" in str(error):
                raise DockerRefused(f'Docker has another network called "{name}"', error.status) from error
            raise
        finally:
            self._state.making = ""
        LOG.info("network %s: made Docker network %s", key, name)

    def _registered(self, key: str) -> list[LocalNetwork]:
        """The Docker networks for one of the model, without those that the model does not have yet, or refuses."""
        with self._state.changed:
            return [n for n in self._state.networks_of(key) if n.id not in self._state.pending]

    def _surplus(self, network: LocalNetwork) -> None:
        with self._state.changed:
            pending = self._state.pending.get(network.id)
            used = any(e.network_id == network.id for e in self._state.endpoints.values())
        if pending is not None:
            if not pending.refusal:
                self._registry.register(network.id)
        elif used:
            LOG.warning("network %s is in use here and not in the model: it is put back", network.key)
            self._registry.register(network.id)
        else:
            self._remove(network)

    def _remove(self, network: LocalNetwork) -> None:
        self._registry.removing(network.id)
        try:
            self._docker.remove_network(network.id)
        except (DockerGone, DockerRefused):
            self._registry.not_removed(network.id)
            raise
        self._state.drop_network(network.id)
        LOG.info("network %s: removed Docker network %s", network.key, network.name)

