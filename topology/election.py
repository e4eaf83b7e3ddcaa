"""Who of several controllers leads: one at a time, by a lease in etcd.

Under the store's prefix, ``controllers/URL`` is there for each that stands and goes with its lease; ``leader`` is
{"name", "url", "generation"} and goes with its holder's; ``generation`` is the number of the last leader. It grows with
each, and goes to the switches, which refuse an older one's writes. It is at least the seconds since 1970, so that it
also grows over an etcd that was made anew.

Two that say they are at one URL would be taken for one by the others: the second one does not stand.

Who leads knows until when: etcd keeps his lease for that long after it was renewed. Past it he does not lead, whatever
he has heard. The clock goes on while a process, or its machine, sleeps.
"""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from topology.etcd import Etcd, after_all, b64, put, range_in, read
from topology.store import StoreUnavailable

LOG = logging.getLogger(__name__)

LEASE_SECONDS = 3
RENEW_SECONDS = 0.8
PAUSE_SECONDS = 0.1  # before etcd is asked again that does not answer
MARGIN_SECONDS = 0.3  # before the lease ends: what is on its way then is still the leader's
GENERATION_DIGITS = 18  # OpenFlow's has 64 bits
ANSWER_SECONDS = 0.7  # for one member's answer: another has to be asked in time


def boot_clock() -> float:
    """Seconds, of which none is left out, not even those that the machine has slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Leader:
    """The leading controller, and where its REST API is."""

    name: str
    url: str
    generation: int


class _Broken(Exception):
    """Somebody else has put into one of our keys what makes no sense."""


def _is_generation(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 64


class Election:
    """One candidate. ``changed`` is called by `run` when we lead or do no longer, another leads, or has our URL."""

    def __init__(
        self,
        etcd: Etcd,
        name: str,
        url: str,
        changed: Callable[[], None],
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._etcd = etcd.impatient(ANSWER_SECONDS)
        self._key, self._counter = f"{etcd.prefix}/leader", f"{etcd.prefix}/generation"
        self._controllers = f"{etcd.prefix}/controllers/"
        self._name, self._url = name, url
        self._changed = changed
        self._clock = clock
        self._lease = 0
        self._until = 0.0  # the lease holds at least so long
        self._mine = 0  # the generation in which the leader's key is ours; 0: it is not
        self._told: tuple[int, Leader | None, bool] = (0, None, False)
        self._displaced = 0.0  # since when another has our URL; 0: nobody has
        self._line = ""  # what is wrong, as said last
        self.leader: Leader | None = None
        """As last seen; None: there is none, or etcd does not say."""
        self.standing: tuple[str, ...] = ()
        """URLs of all that stand, as last seen; empty: etcd does not say."""

    @property
    def generation(self) -> int:
        """The generation that we lead in; 0: we don't."""
        return self._mine if self._clock() < self._until else 0

    @property
    def doubled(self) -> bool:
        """Whether another controller has our URL: not we ourselves, before we were started again."""
        return bool(self._displaced) and self._clock() > self._displaced + 2 * LEASE_SECONDS

    def run(self, sleep: Callable[[float], object]) -> None:
        """Stand for ever."""
        while True:
            self.step()
            for _ in self._etcd.watch(self._key, RENEW_SECONDS):
                self.step()
            sleep(PAUSE_SECONDS)

    def step(self) -> None:
        """Renew the lease; lead if nobody does."""
        try:
            self._renew()
            self._stand()
            self._line = ""
        except StoreUnavailable as error:
            LOG.debug("election: %s", error)
            self.leader = self.leader if self.generation else None
            self.standing = ()
        except _Broken as error:
            if self._line != str(error):
                LOG.error("%s: nobody can lead until it is deleted", error)
            self._line = str(error)
            self.leader, self.standing = None, ()
        now = (self.generation, self.leader, self.doubled)
        if now != self._told:
            self._told = now
            self._changed()

    def resign(self) -> None:
        """Let another lead at once, where etcd can be told."""
        lease, self._lease, self._mine = self._lease, 0, 0
        try:
            if lease:
                self._etcd.post("/lease/revoke", {"ID": lease})
        except StoreUnavailable as error:
            LOG.info("election: %s; our lease ends by itself", error)
        self._etcd.close()

    def _renew(self) -> None:
        asked = self._clock()
        if self._lease:
            kept = self._etcd.post("/lease/keepalive", {"ID": self._lease})
            with self._etcd.understood():
                left = int(kept.get("result", {}).get("TTL", 0))
            if left <= 0:  # it has ended, and the key with it
                self._lease, self._mine = 0, 0
        if not self._lease:
            granted = self._etcd.post("/lease/grant", {"TTL": LEASE_SECONDS, "ID": 0})
            with self._etcd.understood():
                self._lease = int(granted["ID"])
        self._until = asked + LEASE_SECONDS - MARGIN_SECONDS

    def _stand(self) -> None:
        placed, counter, found = self._look()
        self._displaced = 0.0 if placed else self._displaced or self._clock()
        if found:
            self.leader = self._read_leader(found[0])
            # by the lease, not the name: after an answer that was lost, we learn here that we lead
            self._mine = self.leader.generation if int(found[0].get("lease", 0)) == self._lease else 0
            return
        self._mine, self.leader = 0, None
        if not placed:
            return
        generation = max(self._read_counter(counter[0]) + 1 if counter else 0, int(time.time()))
        leader = Leader(self._name, self._url, generation)
        compare = [
            {"key": b64(self._key), "target": "CREATE", "create_revision": 0},
            {"key": b64(self._counter), "target": "MOD", "mod_revision": counter[0]["mod_revision"] if counter else 0},
        ]
        value = json.dumps(asdict(leader))
        won, _, _ = self._etcd.txn(compare, [put(self._key, value, self._lease), put(self._counter, str(generation))])
        if won:
            self.leader, self._mine = leader, generation

    def _read_leader(self, kv: dict[str, Any]) -> Leader:
        try:
            found = Leader(**json.loads(b64decode(kv["value"])))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _Broken(f"{self._key} can't be read: right is a leader's name, url and generation") from error
        if not all(type(text) is str for text in (found.name, found.url)) or not _is_generation(found.generation):
            raise _Broken(f"{self._key} can't be read: right is a leader's name, url and generation")
        return found

    def _read_counter(self, kv: dict[str, Any]) -> int:
        text = b64decode(kv.get("value", ""))
        if not text.isdigit() or len(text) > GENERATION_DIGITS:
            raise _Broken(f"{self._counter} can't be read: right is the last leader's generation")
        return int(text)

    def _look(self) -> tuple[bool, list[dict[str, Any]], list[dict[str, Any]]]:
        """Take our place if it is free. Whether we have it; the counter and the leader's key, if they are there."""
        own = f"{self._controllers}{self._url}"
        reads = [
            read(self._controllers, after_all(self._controllers)),
            read(self._counter),
            read(self._key),
        ]
        free = {"key": b64(own), "target": "CREATE", "create_revision": 0}
        _, answers, _ = self._etcd.txn([free], [put(own, self._name, self._lease), *reads], reads)
        with self._etcd.understood():
            places, counter, found = (range_in(answer).get("kvs", []) for answer in answers[-len(reads) :])
            leases = {b64decode(kv["key"]).decode(errors="replace"): int(kv.get("lease", 0)) for kv in places}
        self.standing = tuple(sorted(key.removeprefix(self._controllers) for key in leases))
        return leases.get(own) == self._lease, counter, found
