"""What controllers that share an etcd tell each other of their listeners, and what etcd tells of its members.

Under the store's prefix, ``listeners/URL`` is a list of listeners. It outlives its controller by a day: an agent that
has forgotten a controller that is away would let containers reach it when it is back.
"""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from topology.control import Listener, of_url, parse
from topology.etcd import Etcd, after_all, b64, put, range_in, read

LOG = logging.getLogger(__name__)
LEASE_SECONDS = 86400
RENEW_SECONDS = 600.0
ANSWER_SECONDS = 0.7  # for one member's answer


class Announced:
    """One controller's place there. StoreUnavailable: etcd does not answer."""

    def __init__(self, etcd: Etcd, url: str) -> None:
        self._etcd = etcd.impatient(ANSWER_SECONDS)
        self._members = [Listener("tcp", host, port) for host, port in etcd.url.members]
        self._all = f"{etcd.prefix}/listeners/"
        self._key = f"{self._all}{url}"
        self._lease = 0
        self._due = 0.0  # when (monotonic) the lease is renewed

    def step(self, own: Iterable[str]) -> set[str]:
        """Tell of our own. Returns those of all controllers and of etcd."""
        self._renew()
        text = json.dumps(sorted(own))
        same: list[Mapping[str, Any]] = [
            {"key": b64(self._key), "target": "VALUE", "value": b64(text)},
            {"key": b64(self._key), "target": "LEASE", "lease": self._lease},
        ]
        reads = [read(self._all, after_all(self._all))]
        _, answers, _ = self._etcd.txn(same, reads, [put(self._key, text, self._lease), *reads])
        found = {str(member) for member in self._members}
        for kv in range_in(answers[-1]).get("kvs", ()):
            found.update(_listeners(b64decode(kv["key"]).decode(errors="replace"), b64decode(kv.get("value", ""))))
        return found | set(self._told_by_etcd())

    def _renew(self) -> None:
        if self._lease and time.monotonic() < self._due:
            return
        if self._lease:
            kept = self._etcd.post("/lease/keepalive", {"ID": self._lease}).get("result", {})
            if int(kept.get("TTL", 0)) <= 0:
                self._lease = 0
        if not self._lease:
            self._lease = int(self._etcd.post("/lease/grant", {"TTL": LEASE_SECONDS, "ID": 0})["ID"])
        self._due = time.monotonic() + RENEW_SECONDS

    def _told_by_etcd(self) -> Iterator[str]:
        for member in self._etcd.post("/cluster/member/list", {}).get("members", ()):
            for url in (*member.get("clientURLs", ()), *member.get("peerURLs", ())):
                listener = of_url(str(url))
                if listener is not None:
                    yield str(listener)


def _listeners(key: str, value: bytes) -> Iterator[str]:
    """Those in one controller's list. What is none of them is left out."""
    try:
        listed: Any = json.loads(value)
    except ValueError:
        listed = None
    if not isinstance(listed, list):
        LOG.error("etcd's %s is not a list of listeners", key)
        return
    for text in listed:
        try:
            yield str(parse(str(text)))
        except ValueError as error:
            LOG.error("etcd's %s: %s", key, error)
