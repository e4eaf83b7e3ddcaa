"""Docker's networks → the model: those that a user makes and removes with `docker network`.

Docker tells a driver no name, so the network is remembered as pending and registered on Docker's event.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from netctl.agent.docker_api import Docker, network_of, unused_subnet
from netctl.agent.errors import AgentError, Refusal
from netctl.agent.memory import Memory
from netctl.agent.state import LocalNetwork, Pending, State
from netctl.agent.sync import Synchroniser
from netctl.client import Client, NoConnection, Refused
from netctl.documents import NetworkDoc

LOG = logging.getLogger(__name__)
THREADS = 2  # registering waits until every host has the network; one that is slow must not hold up the next


class Registry:
    """Registers and withdraws networks, in threads of its own."""

    def __init__(self, url: str, state: State, docker: Docker, sync: Synchroniser, memory: Memory) -> None:
        self._url = url
        self._state = state
        self._docker = docker
        self._sync = sync
        self._memory = memory
        self._jobs: queue.Queue[Callable[[Client], None]] = queue.Queue()
        self._own: set[str] = set()  # Docker networks that the agent itself is removing
        self.refused_withdrawal: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Begin."""
        for number in range(THREADS):
            threading.Thread(target=self._run, name=f"registry-{number}", daemon=True).start()

    def _run(self) -> None:
        with Client(self._url) as client:
            while True:
                self._jobs.get()(client)

    # Said by others

    def removing(self, network_id: str) -> None:
        """The agent is about to remove this one: its end says nothing about the model."""
        with self._state.changed:
            self._own.add(network_id)

    def not_removed(self, network_id: str) -> None:
        """It could not be removed after all."""
        with self._state.changed:
            self._own.discard(network_id)

    def register(self, network_id: str) -> None:
        """Put a network into the model."""
        self._jobs.put(lambda client: self._register(client, network_id))

    def close(self, network_id: str) -> None:
        """Tell the controller that a network of the model is internal in Docker."""
        self._jobs.put(lambda client: self._close(client, network_id))

    def destroyed(self, network_id: str) -> None:
        """Docker has removed a network; where a user did that, it leaves the model."""
        with self._state.changed:
            network = self._state.drop_network(network_id)
            if network_id in self._own:
                self._own.discard(network_id)
                return
            if network is None or not network.network or self._state.networks_of(network.key):
                return
            if self._state.followed and network.key not in self._state.model:
                return
        key = network.key
        self._jobs.put(lambda client: self._withdraw(client, key))

    # Done by the threads

    def _register(self, client: Client, network_id: str) -> None:
        network = self._state.networks.get(network_id)
        if network is None:
            return
        try:
            item = self._docker.network(network_id)
            named = network_of(item, self._docker.driver)
        except AgentError as error:
            LOG.error("network %s: %s", network_id[:12], error)
            return
        if named is None:
            return
        if subnet := unused_subnet(item):
            LOG.warning("network %s: subnet %s is not used: Docker was not told --ipv6", named.key, subnet)
        network = replace(network, name=named.name, network=named.network, ip_range=network.ip_range or named.ip_range)
        with self._state.changed:
            if network_id not in self._state.networks:
                return
            self._state.set_network(network)
            if network.key in self._state.model:
                self._state.pending.pop(network_id, None)
                self._memory.save()
                return
            self._state.pending[network_id] = Pending()
        try:
            client.put_network(document(network))
        except NoConnection as error:
            LOG.warning("network %s is not registered yet: %s", network.key, error)
            return  # again when the change stream is back
        except Refused as error:
            LOG.error("Docker network %s is not in the model: %s", network.name, error)
            with self._state.changed:
                if network_id in self._state.pending:
                    self._state.pending[network_id] = Pending(str(error))
                    self._state.changed.notify_all()
            return
        LOG.info("network %s: registered Docker network %s", network.key, network.name)
        self._memory.save()
        if network.reserved:
            self._sync.reserve(network.tenant, network.network, network.reserved)

    def _close(self, client: Client, network_id: str) -> None:
        network = self._state.networks.get(network_id)
        if network is None:
            return
        try:
            client.put_network(document(network))
        except NoConnection as error:
            LOG.warning("network %s is not reported as internal yet: %s", network.key, error)
        except Refused as error:
            LOG.error("network %s is internal in Docker, but not in the model: %s", network.key, error)
        else:
            LOG.info("network %s: reported as internal", network.key)

    def _withdraw(self, client: Client, key: str) -> None:
        try:
            client.delete_network(key)
            LOG.info("network %s: withdrawn, its Docker network was removed", key)
        except NoConnection as error:
            LOG.warning("network %s is not withdrawn: %s", key, error)
        except Refused as error:
            if error.status != 404:
                LOG.error("network %s is not withdrawn, Docker gets it back: %s", key, error)
                self.refused_withdrawal()


def document(network: LocalNetwork, name: str = "") -> NetworkDoc:
    """What the controller is asked for."""
    found: NetworkDoc = {
        "tenantName": network.tenant,
        "networkName": network.network or name,
        "subnet": ranged(network.subnet, network.ip_range),
        "gateway": str(network.gateway or ""),
    }
    if network.subnet6 is not None:
        found["ipv6Subnet"] = str(network.subnet6)
        found["ipv6Gateway"] = str(network.gateway6 or "")
    if network.internal:
        found["internal"] = True
    return found


def ranged(subnet: IPv4Network, ip_range: IPv4Network | None) -> str:
    """A subnet bounded to a range, as the REST API writes it."""
    if ip_range is None:
        return str(subnet)
    if not ip_range.subnet_of(subnet):
        raise Refusal(f"the range {ip_range} is not within the subnet {subnet}")
    first = max(ip_range.network_address, subnet.network_address + 1)
    last = min(ip_range.broadcast_address, subnet.broadcast_address - 1)
    return f"{IPv4Address(first)}-{IPv4Address(last)}/{subnet.prefixlen}"
