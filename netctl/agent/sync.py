"""What this host tells the controller, in one order, by one thread: leases, endpoints, heartbeat.

While the controller is away nothing is queued up for it: when it is back it is told in one transaction what there is.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from ipaddress import ip_interface
from typing import TypeVar

from netctl.agent.closed import told
from netctl.agent.errors import Refusal
from netctl.agent.state import Address, State, lease_key
from netctl.client import Client, ClientError, NoConnection, Refused
from topology.reports import EndpointDoc, HostDoc

LOG = logging.getLogger(__name__)
T = TypeVar("T")

HEARTBEAT = 3.0  # s
HEARTBEAT_AWAY = 1.0  # s, while the controller does not answer
HEARTBEAT_FIRST = 0.1  # s, until the switch has told its datapath id
ANSWER_TIMEOUT = 6.0  # s for an answer, which waits for the switches: a controller that has none may be frozen
GRANT_TIMEOUT = 15.0  # s that a container's start waits for a controller to restart, or for another to be found
GRANT_RETRY = 0.5  # s


class Synchroniser:
    """The one writer. All of its methods are for any thread."""

    def __init__(self, url: str, state: State, host: Callable[[], HostDoc | None]) -> None:
        self.url = url
        self._state = state
        self._host = host
        self._jobs: queue.Queue[Callable[[Client], None] | None] = queue.Queue()
        self._behind = threading.Event()
        self._behind.set()
        self._connected: bool | None = None
        self._away = ""  # why nothing can be told; says something while not connected
        self.registered = threading.Event()  # set while the controller knows this host and answers
        self._said: set[str] = set()  # refusals already in the log
        self._refusal: Refused | None = None  # of this host, by the controller
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finish what is queued, and end."""
        self._stop.set()
        self._jobs.put(None)
        self._thread.join(timeout)

    # What others ask for

    def grant(self, tenant: str, network: str, address: Address | None, version: int) -> Address:
        """An address for an endpoint to come: that one, or any of that version of IP. Raises `Refusal` with the line
        for the user."""
        deadline = time.monotonic() + GRANT_TIMEOUT
        while True:
            try:
                return self._submit(lambda client: self._grant(client, tenant, network, address, version)).result(
                    max(GRANT_RETRY, deadline - time.monotonic())
                )
            except Refused as error:
                raise Refusal(error.line) from error
            except TimeoutError as error:
                raise Refusal(f"the controller at {self.url} is too slow: no address in {GRANT_TIMEOUT:g} s") from error
            except NoConnection as error:
                if time.monotonic() + GRANT_RETRY > deadline or self._stop.wait(GRANT_RETRY):
                    asked = f"address {address}" if address else f"IPv{version} address"
                    raise Refusal(
                        f"no {asked} in {tenant}:{network}: {self._away}, and this host holds none that it released"
                    ) from error

    def reserve(self, tenant: str, network: str, addresses: Iterable[Address]) -> None:
        """Hold addresses that Docker must never be given."""
        for address in addresses:
            self._submit(partial(self._reserve, tenant, network, address))

    def release(self, tenant: str, network: str, address: Address) -> None:
        """Give an address back."""
        self._submit(lambda client: self._release(client, lease_key(tenant, network, address)))

    def endpoint(self, endpoint_id: str) -> Future[None]:
        """Tell of an endpoint's new state, or of its end."""
        return self._submit(lambda client: self._send(client, endpoint_id))

    def verdict(self, endpoint_id: str) -> None:
        """Tell what the active checks say of an endpoint, when there is nothing else to tell: it may be a flood."""
        with self._state.changed:
            self._state.untold.add(endpoint_id)
        self._jobs.put(lambda client: None)

    def resync(self) -> None:
        """Tell all there is, soon."""
        self._behind.set()
        self._jobs.put(lambda client: None)

    # The thread

    def _submit(self, work: Callable[[Client], T]) -> Future[T]:
        future: Future[T] = Future()

        def job(client: Client) -> None:
            try:
                result = work(client)
            except ClientError as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._jobs.put(job)
        return future

    def _run(self) -> None:
        beat = 0.0
        with Client(self.url, timeout=ANSWER_TIMEOUT) as client:
            while True:
                self._state.pulse.within()
                waiting = bool(self._state.untold) and self._connected and not self._behind.is_set()
                try:
                    job = self._jobs.get(timeout=0.0 if waiting else max(0.0, beat - time.monotonic()))
                except queue.Empty:
                    if waiting:
                        self._tell_verdicts(client)
                else:
                    if job is None:
                        return
                    job(client)
                if time.monotonic() >= beat:
                    self._beat(client)
                    beat = time.monotonic() + (HEARTBEAT if self._connected else HEARTBEAT_AWAY)
                    if self._connected is None and self._refusal is None:
                        beat = time.monotonic() + HEARTBEAT_FIRST
                if self._behind.is_set() and self._connected and self._state.listed:
                    self._tell_all(client)

    def _beat(self, client: Client) -> None:
        document = self._host()
        if document is None:
            return  # no switch yet
        try:
            answer = client.put_host(document)
            if "controlPlane" in answer:  # else the controller does not know yet
                self._state.set_control(told(answer["controlPlane"]))  # first: with the address, the way is open
            self._state.set_host_address(answer.get("hostAddress", ""))
        except NoConnection as error:
            self._lost(error)
        except Refused as error:
            if _passing(error):
                self._lost(error)
                return
            self._say(f"the controller refused this host: {error}")
            self._refusal = error
        else:
            if self._refusal is not None:
                self._refusal = None
                self._behind.set()  # what happened meanwhile was refused as well
            if not self._connected:
                LOG.info("the controller at %s answers", self.url)
                self._connected = True
                self._behind.set()
                self.registered.set()

    def _lost(self, error: NoConnection | Refused) -> None:
        """Nothing can be told now; all is told again when it can."""
        if isinstance(error, NoConnection):
            self._away = f"the controller at {self.url} does not answer: {error.reason}"
        else:
            self._away = f"the controller at {self.url} can do nothing now: {error.line}"
        if self._connected is not False:
            LOG.warning("%s", self._away)
        self._connected = False
        self._behind.set()
        self.registered.clear()

    def _say(self, line: str) -> None:
        """Log a refusal once, until all is told again."""
        if line not in self._said:
            self._said.add(line)
            LOG.error("%s", line)

    def _ask(self, work: Callable[[], T]) -> T:
        if self._connected is False:
            raise NoConnection(self.url, "no answer to the last heartbeat")
        if self._refusal is not None:  # nothing on it would be reached
            raise Refused(self._refusal.status, f"the controller refused host {self._state.host}: {self._refusal}")
        try:
            return work()
        except NoConnection as error:
            self._lost(error)
            raise
        except Refused as error:
            if not _passing(error):
                raise
            self._lost(error)
            raise NoConnection(self.url, error.line) from error

    def _grant(self, client: Client, tenant: str, network: str, address: Address | None, version: int) -> Address:
        asked, host = str(address or ""), self._state.host
        try:
            lease = self._ask(lambda: client.grant_lease(tenant, network, host, asked, version))
        except NoConnection:
            spare = self._state.take_spare(tenant, network, address, version)
            if spare is None:
                raise
            LOG.info("%s of %s:%s is used again without the controller", spare, tenant, network)
            return spare
        granted = ip_interface(lease["ipAddress"]).ip
        self._state.grant(lease_key(tenant, network, granted))
        return granted

    def _reserve(self, tenant: str, network: str, address: Address, client: Client) -> None:
        try:
            self._grant(client, tenant, network, address, address.version)
        except Refused as error:
            self._say(f"address {address} of {tenant}:{network} is not reserved: {error}")

    def _release(self, client: Client, key: str) -> None:
        with self._state.changed:
            granted = self._state.granted.pop(key, None) is not None
        if granted and self._connected is not False:
            try:
                self._ask(lambda: client.release_lease(key))
            except NoConnection:
                pass  # it is a spare one then, below
            except Refused as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    self._say(f"address {key} was not released: {error}")
        if self._connected is False:
            with self._state.changed:
                self._state.spare.add(key)

    def _send(self, client: Client, endpoint_id: str) -> None:
        document = self._state.document(endpoint_id)
        try:
            if document is not None:
                self._ask(lambda: client.put_endpoint(document))
                self._state.use([document])
            else:
                self._ask(lambda: client.delete_endpoint(endpoint_id))
        except NoConnection:
            self._behind.set()
            raise
        except Refused as error:
            if document is None and error.status == HTTPStatus.NOT_FOUND:
                return
            self._say(f"the controller refused endpoint {endpoint_id[:12]}: {error}")
            raise

    def _tell_all(self, client: Client) -> None:
        self._behind.clear()
        documents, leases = self._state.documents(), self._state.leases()
        try:
            try:
                self._ask(lambda: client.sync_endpoints(self._state.host, documents, leases))
            except Refused as error:
                LOG.warning("the controller refused all endpoints at once, each is told alone: %s", error)
                documents = self._tell_each(client, documents, leases)
        except NoConnection:
            self._behind.set()
            return
        except Refused as error:
            self._say(f"the controller refused this host's endpoints: {error}")
            return
        self._state.use(documents)
        with self._state.changed:
            self._state.spare.clear()
            # the controller may have lost or dropped them, or may not have been there for the latest
            self._state.untold |= self._state.verdicts.keys()
        self._said.clear()
        LOG.info("told the controller: %d endpoints", len(documents))

    def _tell_verdicts(self, client: Client) -> None:
        """One endpoint's; what can't be told now is told after the next `_tell_all`."""
        found = self._state.untold_verdicts()
        if found is None:
            return
        endpoint_id, verdicts = found
        try:
            self._ask(lambda: client.set_checks(endpoint_id, verdicts))
        except NoConnection:
            return  # behind by now
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:  # not known to the model (yet): it is told with all endpoints
                self._say(f"the controller refused the checks of endpoint {endpoint_id[:12]}: {error}")

    def _tell_each(self, client: Client, documents: list[EndpointDoc], leases: set[str]) -> list[EndpointDoc]:
        """One endpoint that can't be must not hide the others."""
        accepted = [doc for doc in documents if self._put(client, doc, quiet=True)]
        self._ask(lambda: client.sync_endpoints(self._state.host, accepted, leases))
        # What is gone by now may have stood in the way of these.
        late = [doc for doc in documents if doc not in accepted]
        return accepted + [doc for doc in late if self._put(client, doc, quiet=False)]

    def _put(self, client: Client, document: EndpointDoc, *, quiet: bool) -> bool:
        try:
            self._ask(lambda: client.put_endpoint(document))
        except Refused as error:
            if not quiet:
                self._say(f"the controller refused endpoint {document['endpointID'][:12]}: {error}")
            return False
        return True


def _passing(error: Refused) -> bool:
    """Whether the controller can't now, as its store is away or nobody leads: as if it were away itself."""
    return error.status == HTTPStatus.SERVICE_UNAVAILABLE
