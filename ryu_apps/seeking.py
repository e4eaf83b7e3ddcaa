"""Silent hosts on switches without an agent: the gateway looks for them by ARP, as a router does.

A packet to an address that nobody has is kept while the gateway of its network asks for the address, three times, a
second apart, at every port where an unknown host may be. A packet of an unknown host is kept while that host is asked
for at its own port. Kept packets go through the pipeline again as soon as the model has the address, whoever put it
there. Without an answer their senders get host unreachable (RFC 1812, 4.3.3.1).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ryu_apps import answers
from ryu_apps.framework import hub
from ryu_apps.learning import BrokenPacketError, Sought, question
from topology.model import Commit, Endpoint, Network
from topology.paths import End
from topology.snapshot import Model

ROUNDS = 3  # questions for one address, as Linux asks
INTERVAL = 1.0  # seconds between two of them
STEP = 0.1  # seconds between two looks at what is due
MOST = 1024  # addresses that are looked for at a time
MOST_KEPT = 3  # packets kept for one address; the last ones
MOST_BYTES = 4 << 20  # of all packets that are kept


_Key = tuple[str, IPv4Address]  # of the network, and the address


@dataclass(frozen=True, slots=True)
class Kept:
    """A packet that waits: where it came in, and the number of the network whose gateway answers for it; 0: nobody."""

    end: End
    network: int
    frame: bytes


@dataclass(slots=True)
class _Search:
    """One address that is looked for."""

    due: float
    ports: set[End] = field(default_factory=set)  # besides those of ``everywhere``
    everywhere: bool = False
    rounds: int = 0
    kept: list[Kept] = field(default_factory=list)


class Seeker:
    """Asks, keeps packets, and gives up. `run` is for a greenthread of its own.

    ``edges`` lists the ports where an unknown host may be; ``ask`` sends a frame out of ports; ``release`` sends kept
    packets through their switch's pipeline again; ``refuse`` sends an answer back out of the port where a packet came
    in.
    """

    def __init__(  # noqa: PLR0917 - wired once
        self,
        model: Model,
        edges: Callable[[], Iterable[End]],
        ask: Callable[[Iterable[End], bytes], None],
        release: Callable[[Sequence[Kept]], None],
        refuse: Callable[[End, bytes], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._edges = edges
        self._ask = ask
        self._release = release
        self._refuse = refuse
        self._clock = clock
        self._searches: dict[_Key, _Search] = {}
        self._bytes = 0
        self._wake = hub.Event()

    def run(self) -> None:
        """Until it is killed."""
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._searches:
                hub.sleep(STEP)
                self.tick()

    def look_for(self, sought: Sought, kept: Kept) -> None:
        """Keep the packet and look for who it is about, unless there is too much to look for already."""
        key = sought.network.key, sought.address
        search = self._searches.get(key)
        if search is None:
            if len(self._searches) >= MOST:
                return
            search = self._searches[key] = _Search(self._clock())
        if sought.port is None:
            search.everywhere = True
        else:
            search.ports.add(sought.port)
        if self._bytes + len(kept.frame) <= MOST_BYTES:
            search.kept.append(kept)
            self._bytes += len(kept.frame)
            for dropped in search.kept[:-MOST_KEPT]:
                search.kept.remove(dropped)
                self._bytes -= len(dropped.frame)
        self._advance(key, search)
        self._wake.set()

    def tick(self) -> None:
        """Ask for what is due; give up what was asked for often enough."""
        for key, search in list(self._searches.items()):
            self._advance(key, search)

    def _advance(self, key: _Key, search: _Search) -> None:
        now = self._clock()
        if search.due > now:
            return
        network = self._model.networks.get(key[0])
        if network is None or search.rounds == ROUNDS:
            self._give_up(self._end(key))
            return
        search.rounds += 1
        search.due = now + INTERVAL
        self._ask(self._ports(search), question(network, key[1]))

    def committed(self, commit: Commit) -> None:
        """The model changed: who was looked for may be there."""
        for change in commit.changes if self._searches else ():
            if isinstance(change.after, Endpoint):
                for address in change.after.addresses:
                    if isinstance(address, IPv4Address):
                        self._release(self._end((change.after.network_key, address)))

    def _ports(self, search: _Search) -> list[End]:
        ports = set(search.ports)
        if search.everywhere:
            ports.update(self._edges())
        return sorted(ports)

    def _end(self, key: _Key) -> list[Kept]:
        """The search is over; what was kept for it."""
        search = self._searches.pop(key, None)
        found = [] if search is None else search.kept
        self._bytes -= sum(len(kept.frame) for kept in found)
        return found

    def _give_up(self, found: list[Kept]) -> None:
        """Tell the senders, where the packet is whole and its sender known."""
        for kept in found:
            network = self._model.by_number("network", kept.network)
            if isinstance(network, Network):
                with contextlib.suppress(BrokenPacketError):
                    answer = answers.report(kept.frame, answers.HOST_UNREACHABLE, network.gateway)
                    if answer is not None:
                        self._refuse(kept.end, answer)
