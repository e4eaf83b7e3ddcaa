"""The control plane's listeners: REST, OpenFlow, etcd and tunnels. Containers never reach them.

Each controller says which it knows of (`ryu_apps.listeners`); hosts' agents close them (`netctl.agent.closed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

from topology.model import Address

PROTOCOLS = ("tcp", "udp")
TUNNEL_PORT_NUMBER = 4789  # VXLAN (RFC 7348)
MAX_LISTENERS = 4096  # that a controller tells, or an agent believes
_LISTENER = re.compile(r"(tcp|udp):(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A port that the control plane listens on. ``host``: an address, or a name that leads to one."""

    protocol: str  # tcp | udp
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}:{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """Its address; None: ``host`` is a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


def parse(text: str) -> Listener:
    """What `str` made of a listener. ``ValueError``, with one line: it is none."""
    found = _LISTENER.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{text[:80]!r} is not a listener: tcp:ADDRESS:PORT or udp:ADDRESS:PORT, IPv6 in brackets")
    return Listener(found[1], found[2].strip("[]"), int(found[3]))


def of_url(url: str) -> Listener | None:
    """Where a URL leads, be it http:, https: or tcp:; None: it has no host, or no port."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return Listener("tcp", parts.hostname, port) if parts.hostname and port else None


def ports_of(listeners: Iterable[str]) -> dict[tuple[int, str], str]:
    """Whose a port of the control plane is, by (port, TCP or UDP); the tunnels' is among them."""
    found = {(TUNNEL_PORT_NUMBER, "UDP"): "the hosts' tunnels"}
    for text in listeners:
        protocol, port = text.partition(":")[0], text.rpartition(":")[2]
        found[int(port), protocol.upper()] = f"the control plane ({text})"
    return found


def tunnel(address: IPv4Address) -> Listener:
    """Where a host takes what other hosts send to its containers."""
    return Listener("udp", str(address), TUNNEL_PORT_NUMBER)
