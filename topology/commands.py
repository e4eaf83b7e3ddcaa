"""The only door through which the model is written. Each method is one transaction.

Check everything, work out the changes, store them, apply them to the model, tell the subscribers. A refusal
raises one of `topology.errors` and leaves model, store and numbers as they were. A command that changes
nothing makes no revision.

There may be others that write to the same store. A command that they have forestalled, or that is refused by what
we know, is done again with what they have written. Who calls while another's command waits for the store has to wait.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_address
from typing import Any, TypeVar

from topology import consistent, validate, write_endpoint, write_host, write_network, write_service
from topology.allocate import NumberPool, number_pools
from topology.capabilities import Capabilities
from topology.documents import DEFAULT_TENANT, NetworkDoc, ServiceDoc
from topology.draft import Draft, follow
from topology.errors import Conflict, NetctlError
from topology.indexes import POOLS
from topology.model import Address, Change, Commit, Endpoint, Host, Lease, Network, Object, Service, Tenant
from topology.reports import EndpointDoc, HostDoc
from topology.seen import Seen
from topology.snapshot import Model
from topology.store import StaleRevision, Store, StoreUnavailable, StoreUnusable

T = TypeVar("T")
AnyForm = str | Address

PICKED_SECONDS = 60.0  # a subnet offered is not offered again before this: its network may be on its way
ATTEMPTS = 30  # at a command that others forestall
TURN_SECONDS = 5.0  # that a command waits for those before it
RECENT = 1000  # commits kept in memory, for readers that were away for a moment


class Commands:
    """Loads the store into ``model``, makes tenant `default` if need be, and takes commands from then on."""

    def __init__(self, model: Model, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.model = model
        self.store = store
        self.capabilities = Capabilities()
        """Of the machines, as far as they are known."""
        self._clock = clock
        self._subscribers: list[Callable[[Commit], None]] = []
        self._to_tell: deque[Commit] = deque()
        self._telling = False
        self._turn = threading.RLock()
        self._recent: deque[Commit] = deque(maxlen=RECENT)
        self._picked: dict[tuple[str, IPv4Network], float] = {}
        revision, objects, meta = self._load()
        model.load(revision, objects)
        self._pools = self._number_pools(meta)
        self.put_tenant(DEFAULT_TENANT)
        self._run(write_network.give_vlans)
        self._run(write_service.give_port_numbers)

    def subscribe(self, callback: Callable[[Commit], None]) -> None:
        """Call back after each commit, in order of revisions. What a callback raises is not caught."""
        self._subscribers.append(callback)

    def catch_up(self, wanted: int | None = None) -> bool:
        """Take over what others have written; whether there was anything. Asks only if behind ``wanted``."""
        with self._my_turn():
            if wanted is not None and wanted <= self.model.revision:
                return False
            commits = self.store.changes_since(self.model.revision)
            if commits is None:
                self._take_over_all()
                return True
            for commit in commits:
                if commit.revision <= self.model.revision:
                    continue  # a subscriber has written, and so caught up, meanwhile
                if not self._follows(commit):
                    self._take_over_all()  # as it is by now, it may be a model that can be
                    break
                self._take_over(commit)
            return bool(commits)

    def changes_since(self, revision: int) -> list[Commit] | None:
        """The commits after a revision; None: too old, or in the future."""
        if revision == self.model.revision:
            return []
        if self._recent and self._recent[0].revision <= revision + 1 <= self.model.revision:
            return [c for c in self._recent if c.revision > revision]
        return self.store.changes_since(revision)

    def put_tenant(self, name: str) -> Tenant:
        """Make a tenant if there is none of this name."""
        return self._run(lambda draft: write_network.put_tenant(draft, name))

    def delete_tenant(self, name: str) -> Tenant:
        """Delete a tenant without networks; returns what it was."""
        return self._run(lambda draft: write_network.delete_tenant(draft, name))

    def put_network(self, document: NetworkDoc) -> Network:
        """Make a network. One that exists can't be changed, only named again with the same values."""
        return self._run(lambda draft: write_network.put_network(draft, document))

    def check_network(self, document: NetworkDoc) -> None:
        """Raise what `put_network` would raise; change nothing."""
        self._run(lambda _: write_network.put_network(self._draft(), document))

    def delete_network(self, key: str) -> Network:
        """Delete a network without services and active endpoints; returns what it was."""
        return self._run(lambda draft: write_network.delete_network(draft, key))

    def pick_subnet(self, tenant: str) -> IPv4Network:
        """A free /24 of 10.224.0.0/12; not one offered within the last minute, if there is another."""
        now = self._clock()
        self._picked = {k: t for k, t in self._picked.items() if 0 <= now - t < PICKED_SECONDS}
        avoid = [net for owner, net in self._picked if owner == tenant]
        found = self._run(lambda draft: write_network.pick_subnet(draft, tenant, avoid))
        self._picked[tenant, found] = now
        return found

    def put_service(self, document: ServiceDoc) -> Service:
        """Make or change a service. Its VIP stays if none is asked for and its network stays."""
        return self._run(lambda draft: write_service.put_service(draft, document))

    def delete_service(self, key: str) -> Service:
        """Delete a service; returns what it was."""
        return self._run(lambda draft: write_service.delete_service(draft, key))

    def put_host(self, document: HostDoc) -> Host:
        """Register a host, or change what is known of it."""
        return self._run(lambda draft: write_host.put_host(draft, document))

    def drain_host(self, name: str, draining: bool) -> Host:
        """Have the providers on a host get no new connections, or have them get some again."""
        return self._run(lambda draft: write_host.drain_host(draft, name, draining))

    def set_dead(self, names: Collection[str]) -> None:
        """These hosts are dead, as the leading controller has judged, and no others."""
        self._run(lambda draft: write_host.set_dead(draft, names))

    def delete_host(self, name: str) -> Host:
        """Delete a host with its endpoints and the addresses granted to it; returns what it was."""
        return self._run(lambda draft: write_host.delete_host(draft, name))

    def grant(
        self, tenant: str, network: str, address: AnyForm | None, host: str, family: int | None = None
    ) -> Lease:
        """Set an address aside for an endpoint to come; None or "": the lowest free one of the family, 4 or 6.

        No family: the address's, or 4.
        """
        validate.name("hostName", host)
        wanted = validate.any_address("ipAddress", address) if address else None
        version = validate.family(family, wanted)
        return self._run(
            lambda draft: write_endpoint.grant(draft, draft.network(tenant, network), wanted, host, version)
        )

    def release(self, tenant: str, network: str, address: AnyForm) -> Lease | None:
        """Give a granted address back. None: it wasn't granted, or an endpoint has it by now."""
        wanted = validate.any_address("ipAddress", address)
        return self._run(
            lambda draft: write_endpoint.release(draft, draft.network(tenant, network), wanted)
        )

    def put_endpoint(self, document: EndpointDoc) -> Endpoint:
        """Make or change an endpoint. Addresses and MAC stay where none are asked for."""
        return self._run(lambda draft: write_endpoint.put_endpoint(draft, document))

    def delete_endpoint(self, key: str) -> Endpoint:
        """Delete an endpoint by its id; returns what it was."""
        return self._run(lambda draft: write_endpoint.delete_endpoint(draft, key))

    def set_passed(self, endpoint_id: str, service_key: str, passed: bool) -> Endpoint:
        """Note whether an endpoint passes a service's active check."""
        return self.set_checks(endpoint_id, {service_key: passed})

    def set_checks(self, endpoint_id: str, verdicts: Mapping[str, bool]) -> Endpoint:
        """Note for several services, by key, whether an endpoint passes their active checks."""
        return self._run(lambda draft: write_endpoint.set_passed(draft, endpoint_id, verdicts))

    def drained(self, endpoint_id: str, service_key: str) -> Endpoint:
        """Note that a service's drain time is over for a draining endpoint."""
        return self._run(lambda draft: write_endpoint.drained(draft, endpoint_id, service_key))

    def sync_endpoints(
        self, host: str, documents: Sequence[EndpointDoc], keep_leases: Collection[str] = ()
    ) -> list[Endpoint]:
        """Make the agent's endpoints on a host exactly these, all or none.

        Addresses granted to the host go back unless an endpoint has them or ``keep_leases`` holds their key.
        """
        return self._run(lambda draft: write_endpoint.sync_endpoints(draft, host, documents, keep_leases))

    def learn(  # noqa: PLR0917 - where, who, at which port: all plain
        self, tenant: str, network: str, mac: str, address: AnyForm, switch: int, port_name: str, port_mac: str = ""
    ) -> Endpoint | None:
        """Note a host seen on the wire, or that it moved. None: somebody else has its address or MAC."""
        seen = Seen(f"{tenant}:{network}", mac, ip_address(address), switch, port_name, port_mac)
        return self.learn_all([seen])[0]

    def learn_all(self, seen: Sequence[Seen]) -> list[Endpoint | None]:
        """Note hosts seen on the wire, in one commit. None for one whose address or MAC somebody else has."""
        return self._run(lambda draft: [write_endpoint.learn(draft, host) for host in seen])

    def _draft(self) -> Draft:
        return Draft(self.model, self._pools, self._clock(), self.capabilities)

    def _run(self, work: Callable[[Draft], T]) -> T:
        with self._my_turn():
            for _ in range(ATTEMPTS):
                draft = self._draft()
                try:
                    result = work(draft)
                except NetctlError:
                    if self._others_wrote():
                        continue
                    raise
                changes = draft.changes()
                if not changes:
                    return result
                try:
                    revision = self.store.commit(self.model.revision, changes, draft.meta(changes))
                except StaleRevision:
                    self.catch_up()
                    continue
                draft.committed(changes)
                self._apply(Commit(revision, changes))
                return result
        raise StoreUnavailable(f"others have written to the store {ATTEMPTS} times just before us: try again")

    def _others_wrote(self) -> bool:
        with contextlib.suppress(StoreUnavailable):  # then what we know has to do
            return self.catch_up()
        return False

    def _follows(self, commit: Commit) -> bool:
        """Whether it is the next step of the history that we have seen, and leads to a model that can be."""
        if any(self.model.get(c.kind, c.key) != c.before for c in commit.changes):
            return False
        try:
            consistent.check_changes(self.model, commit.changes, consistent.EARLIER_LIMITS)
        except Conflict:
            return False
        return True

    def _take_over(self, commit: Commit) -> None:
        follow(self._pools, commit.changes)
        self._apply(commit)

    def _take_over_all(self) -> None:
        """The log doesn't reach back to us: take over the whole store, as one commit."""
        revision, objects, meta = self._load()
        if revision <= self.model.revision:
            raise StoreUnusable(
                f"the store is at revision {revision} and was at {self.model.revision} before: "
                "something else was put in its place"
            )
        after = {(o.kind, o.key): o for o in objects}
        changes = [Change(o, after.get((o.kind, o.key))) for o in self.model.objects()]
        changes += [Change(None, o) for (kind, key), o in after.items() if self.model.get(kind, key) is None]
        commit = Commit(revision, tuple(c for c in changes if c.before != c.after))
        self.model.apply(commit)
        self._pools = self._number_pools(meta)
        self._recent.clear()
        self._tell(commit)

    def _load(self) -> tuple[int, list[Object], dict[str, Any]]:
        """All that the store holds, if it is a model that can be."""
        revision, objects, meta = self.store.load()
        try:
            consistent.check(objects, consistent.EARLIER_LIMITS)
        except Conflict as error:
            raise StoreUnusable(f"the store holds what can't be: {error}") from error
        return revision, objects, meta

    def _number_pools(self, meta: Mapping[str, Any]) -> dict[str, NumberPool]:
        try:
            return number_pools(meta, {pool: self.model.used_numbers(pool) for pool in POOLS})
        except ValueError as error:
            raise StoreUnusable(f"the store holds what can't be: {error}") from error

    def _apply(self, commit: Commit) -> None:
        self.model.apply(commit)
        self._recent.append(commit)
        self._tell(commit)

    @contextlib.contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=TURN_SECONDS):
            raise StoreUnavailable("the store is slow, and other changes wait for it: try again later")
        try:
            yield
        finally:
            self._turn.release()

    def _tell(self, commit: Commit) -> None:
        # a subscriber may itself write; the others still hear of this commit first
        self._to_tell.append(commit)
        if self._telling:
            return
        self._telling = True
        try:
            while self._to_tell:
                commit = self._to_tell.popleft()
                for callback in tuple(self._subscribers):
                    callback(commit)
        finally:
            self._telling = False
