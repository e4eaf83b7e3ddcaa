"""Where the control plane listens, as far as this controller knows: the hosts' agents close it to containers.

A controller knows of its own REST and OpenFlow. With etcd, controllers tell each other of theirs, and etcd of its
members.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from topology.control import MAX_LISTENERS, Listener, of_url
from topology.store import StoreUnavailable

if TYPE_CHECKING:
    from topology.announced import Announced

LOG = logging.getLogger(__name__)
INTERVAL = 3.0  # s between two looks: as often as agents ask
WILDCARDS = ("", "0.0.0.0", "::")
ADDRESSES = Path("/proc/net/fib_trie")
_LOCAL = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


class ControlPlane:
    """What is known. `run` is for a greenthread of its own."""

    def __init__(
        self, rest: tuple[str, int], openflow: tuple[str, int], rest_url: str, announced: Announced | None = None
    ) -> None:
        """``rest`` and ``openflow``: host and port of each. ``announced``: where controllers tell each other."""
        self._places = (rest, openflow)
        self._rest_url = rest_url
        self._announced = announced
        self._known: list[str] = []
        self._complete = announced is None  # whether etcd has told of the others once

    def known(self) -> list[str]:
        """The listeners, as text; nothing before the others' are known: agents then keep what they were told."""
        return self._known if self._complete else []

    def run(self, sleep: Callable[[float], object]) -> None:
        """Look again, for ever."""
        while True:
            sleep(INTERVAL)
            self.step()

    def step(self) -> None:
        """Look. While etcd does not answer, what was known stays known."""
        own = {str(listener) for listener in self._own()}
        others: Iterable[str] = self._known
        if self._announced is not None:
            try:
                others = self._announced.step(own)
                self._complete = True
            except StoreUnavailable as error:
                LOG.debug("listeners: %s", error)
        else:
            others = ()
        found = sorted({*own, *others})
        if len(found) > MAX_LISTENERS:
            LOG.error("%d listeners of the control plane: agents are told of %d", len(found), MAX_LISTENERS)
        if found != self._known:
            LOG.info("containers must not reach %s", ", ".join(found))
        self._known = found[:MAX_LISTENERS]

    def _own(self) -> Iterator[Listener]:
        for host, port in self._places:
            for address in machine_addresses() if host in WILDCARDS else [host]:
                yield Listener("tcp", address, port)
        url = of_url(self._rest_url)
        if url is not None:
            yield url


def machine_addresses(file: Path = ADDRESSES) -> list[str]:
    """This machine's IPv4 addresses, where a listener on all of them is reached; IPv6 leads no container here."""
    try:
        found = {IPv4Address(text) for text in _LOCAL.findall(file.read_text())}
    except OSError as error:
        LOG.error("%s can't be read (%s): the addresses of this controller are not known", file, error.strerror)
        return ["127.0.0.1"]
    return [str(address) for address in sorted(found)]
