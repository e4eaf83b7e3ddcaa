"""What containers never reach: the control plane's listeners, as this host's own options and the controller tell them.

A name is looked up by a thread of its own, again every minute: what it led to last counts until it leads elsewhere.
While the name service has not answered yet, the port is closed to containers wherever it may be. A name that it never
knew closes nothing (the port may be 443, the world's), and is reported.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address

from netctl.agent.kernel_rules import Closed
from netctl.agent.options import Options
from netctl.agent.state import Address, State
from topology.control import MAX_LISTENERS, Listener, of_url, parse, tunnel

LOG = logging.getLogger(__name__)
INTERVAL = 60.0  # s between two look-ups of a name
RETRY = 5.0  # s, where the last one gave nothing
ANYWHERE = IPv4Network("0.0.0.0/0")
NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)
UNKNOWN_NAME = "this host's name service does not know {name}: containers are not kept from it; name it by an address"


def of_options(options: Options) -> tuple[Listener, ...]:
    """The listeners that this agent is told of by its own options."""
    targets = (*options.controller, options.ovsdb, options.docker)
    urls = [*options.netmaster.split(","), *(t.replace("ssl:", "tcp:", 1) for t in targets)]
    found = (of_url(url if "://" in url else url.replace(":", "://", 1)) for url in urls)
    own = [tunnel(IPv4Address(options.tunnel_address))] if options.tunnel_address else []
    return tuple(sorted({*own, *filter(None, found)}))


def told(listeners: object) -> tuple[Listener, ...]:
    """The listeners that a controller tells. What is none of them is left out, with a line in the log."""
    out: set[Listener] = set()
    lines = listeners if isinstance(listeners, list) else []
    if len(lines) > MAX_LISTENERS:
        LOG.error("the controller tells %d listeners of the control plane: more than %d", len(lines), MAX_LISTENERS)
    for text in lines[:MAX_LISTENERS]:
        try:
            out.add(parse(text if isinstance(text, str) else repr(text)))
        except ValueError as error:
            LOG.error("the controller's controlPlane: %s", error)
    return tuple(sorted(out))


def listeners(state: State) -> set[Listener]:
    """All that are known."""
    with state.changed:
        return {*state.own_control, *state.control, *(tunnel(address) for address in state.peers.values())}


def closed(state: State) -> Closed:
    """What they are for the kernel. Containers reach nothing outside by IPv6, and nobody's loopback."""
    with state.changed:
        found = listeners(state)
        addresses = dict(state.addresses)
    ports = {(listener.protocol, listener.port) for listener in found}
    elsewhere = {
        (where, listener.protocol, listener.port) for listener in found for where in _where(listener, addresses)
    }
    return Closed(tuple(sorted(ports)), tuple(sorted(elsewhere)))


def _where(listener: Listener, addresses: Mapping[str, tuple[Address, ...]]) -> Iterator[IPv4Network]:
    own = listener.address
    if own is None and listener.host not in addresses:
        yield ANYWHERE
    for address in addresses.get(listener.host, ()) if own is None else (own,):
        if isinstance(address, IPv4Address) and not address.is_loopback:
            yield IPv4Network(address)


def names(found: Iterable[Listener]) -> set[str]:
    """Those that have to be looked up."""
    return {listener.host for listener in found if listener.address is None}


def look_up(name: str) -> tuple[Address, ...] | None:
    """A name's addresses; none: there is no such name. None: the name service does not answer."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return () if error.errno in NO_SUCH_NAME else None
    except (OSError, UnicodeError):
        return None
    addresses = {ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}
    return tuple(sorted(addresses, key=lambda address: (address.version, int(address))))


class Names:
    """Keeps the addresses of the control plane's names in the state."""

    def __init__(
        self,
        state: State,
        report: Callable[[], None] = lambda: None,
        look_up: Callable[[str], tuple[Address, ...] | None] = look_up,
    ) -> None:
        """``report``: called when the lines for the user are others."""
        self._state = state
        self._report = report
        self._look_up = look_up
        self._due: dict[str, float] = {}  # when (monotonic) it is looked up again
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="names", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        with self._state.changed:
            self._stop = True
            self._state.changed.notify_all()

    def _run(self) -> None:
        while not self._stop:
            self._state.pulse.within()
            self.step()
            self._state.wait(lambda: self._stop or not names(listeners(self._state)) <= self._due.keys(), RETRY)

    def step(self) -> None:
        """Look up what is due."""
        wanted = names(listeners(self._state))
        self._due = {name: when for name, when in self._due.items() if name in wanted}
        for name in sorted(wanted):
            if time.monotonic() < self._due.get(name, 0.0):
                continue
            self._state.pulse.within()
            found = self._look_up(name)
            self._due[name] = time.monotonic() + (INTERVAL if found else RETRY)
            if found or (found == () and name not in self._state.addresses):
                self._state.set_addresses(name, found)
        unknown = [name for name in sorted(wanted) if self._state.addresses.get(name) == ()]
        lines = {f"control plane {name}": UNKNOWN_NAME.format(name=name) for name in unknown}
        if self._state.troubles.say("control plane", lines):
            self._report()
