"""Docker's networks → the model: those that a user makes and removes with `docker network`.

Docker tells a driver no name, so the network is remembered as pending and registered on Docker's event.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from ipaddress import IPv4Address, IPv4Network

from netctl.agent.docker_api import Docker, network_of, unused_subnet
from netctl.agent.errors import AgentError, Refusal
from netctl.agent.memory import Memory
from netctl.agent.state import LocalNetwork, Pending, State, agree, subnets_of
from netctl.agent.sync import Synchroniser
from netctl.client import Client, NoConnection, Refused
from topology.documents import NetworkDoc, StreamNetworkDoc

LOG = logging.getLogger(__name__)
WITHDRAWAL_TIMEOUT = 20.0  # s: longer than the controller takes to answer
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
        self._withdrawing: Counter[str] = Counter()  # withdrawals under way, by key
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

    def report(self, network_id: str) -> None:
        """Tell the controller what a network of the model is in Docker: internal, or with Docker's own IPAM driver."""
        self._jobs.put(lambda client: self._report(client, network_id))

    def destroyed(self, network_id: str) -> None:
        """Docker has removed a network; where a user did that, it leaves the model.

        The model may keep it, as a service or another host needs it. Its user may then make it again (`docker-compose
        down` and `up`), so Docker gets back what the agent made, but not what a user made. One whose user named no
        subnet Docker gets back as it was: made again it would have another subnet."""
        with self._state.changed:
            network = self._state.drop_network(network_id)
            if network_id in self._own:
                self._own.discard(network_id)
                return
            if network is None or not network.network or self._state.networks_of(network.key):
                return
            if self._state.followed and network.key not in self._state.model:
                return
            if network.picked:
                self._state.forms[network.key] = network
            elif not network.by_agent:
                self._state.left.add(network.key)
        self._withdraw_soon(network.key)

    def withdraw_left(self, tenant: str = "") -> None:
        """Try again to withdraw what the users of this host's Docker have removed. ``tenant``: only its networks."""
        with self._state.changed:
            left = [key for key in self._state.left if not tenant or key.partition(":")[0] == tenant]
            for key in left:
                if self._state.stands(key) or key not in self._state.model:
                    self._state.left.discard(key)
        for key in left:
            if key in self._state.left:
                self._withdraw_soon(key)

    def _withdraw_soon(self, key: str) -> None:
        with self._state.changed:
            self._withdrawing[key] += 1
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
        network = replace(
            network,
            name=named.name,
            network=named.network,
            ip_range=network.ip_range or named.ip_range,
            by_agent=named.by_agent,
            picked=network.picked or named.key in self._state.forms,
            made=named.made,
        )
        # One of the same name may just have been removed: what the model has then counts, not what it had.
        self._state.wait(lambda: not self._withdrawing[network.key], WITHDRAWAL_TIMEOUT)
        with self._state.changed:
            if network_id not in self._state.networks:
                return
            self._state.set_network(network)
            modelled = self._state.model.get(network.key)
            if modelled is not None and _same(network, modelled):
                self._state.pending.pop(network_id, None)
                self._known(network)
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
        self._known(network)

    def _known(self, network: LocalNetwork) -> None:
        """The model has a network of Docker's."""
        with self._state.changed:
            self._state.left.discard(network.key)
            self._state.forms.pop(network.key, None)
            self._state.changed.notify_all()
        self._memory.save()
        if network.reserved:
            self._sync.reserve(network.tenant, network.network, network.reserved)

    def _report(self, client: Client, network_id: str) -> None:
        network = self._state.networks.get(network_id)
        if network is None:
            return
        try:
            client.put_network(document(network))
        except NoConnection as error:
            LOG.warning("network %s is not reported yet: %s", network.key, error)
        except Refused as error:
            LOG.error("network %s is another in Docker than in the model: %s", network.key, error)
        else:
            LOG.info("network %s: reported as Docker has it", network.key)

    def _withdraw(self, client: Client, key: str) -> None:
        try:
            refused = None if self._state.stands(key) else self._refused(client, key)
        except NoConnection as error:
            LOG.warning("network %s is not withdrawn: %s", key, error)
            refused = None  # again when the change stream is back
        finally:
            with self._state.changed:
                self._withdrawing[key] -= 1
                self._state.changed.notify_all()
        if refused and key in self._state.left:
            LOG.warning("network %s is no longer in Docker here, but stays in the model: %s", key, refused)
        elif refused:
            LOG.error("network %s is not withdrawn, Docker gets it back: %s", key, refused)
            self.refused_withdrawal()
        self._memory.save()

    def _refused(self, client: Client, key: str) -> Refused | None:
        """Why the model keeps a network; None: it is gone."""
        try:
            client.delete_network(key)
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                return error
        else:
            LOG.info("network %s: withdrawn, its Docker network was removed", key)
        with self._state.changed:
            self._state.model.pop(key, None)  # the change stream says so later
            self._state.left.discard(key)
            self._state.forms.pop(key, None)
        return None


def _same(network: LocalNetwork, modelled: StreamNetworkDoc) -> bool:
    """Whether the model has a network just so."""
    return (
        agree(network.subnets, subnets_of(modelled))
        and network.internal == modelled.get("internal", False)
        and (network.own_ipam or modelled.get("dockerIPAM", False))
    )


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
    if not network.own_ipam:
        found["dockerIPAM"] = True
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
