"""Which requests the REST API refuses before it looks at them: the one place where that is decided.

There is no authentication yet. What is refused here are requests that a web page makes in a user's browser: the page's
author has no way to the API, but the browser has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from topology.errors import NetctlError

OWN_NAMES = frozenset({"localhost", "netmaster"})
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
"""Content types that a page can send to another site without asking it first; and so can a page without a type."""

OPEN = "the REST API at %s can be used by whoever reaches it: it is not on loopback, and has no authentication"

_AUTHORITY = re.compile(r"(\[[^\[\]@]*\]|[^:\[\]@/?#\s]+)(?::([0-9]{0,5}))?")
_PORTS = {"http": 80, "https": 443}

Headers = Sequence[tuple[str, str]]
"""Names and values as they came, in their order."""


class Forbidden(NetctlError):
    """The request comes from where none may come from."""

    status = 403


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the API listens, the names that it may be called by, in lower case, and its URL for others."""

    loopback: bool = True
    names: frozenset[str] = OWN_NAMES
    url: str = ""

    @property
    def open(self) -> bool:
        """Whether other machines reach it, and nobody asks who they are."""
        return not self.loopback


def listener(host: str, url: str = "", names: Iterable[str] = ()) -> Listener:
    """``host``: that it listens on; ``url``: where other controllers reach it; ``names``: more that it is called by."""
    named = {urlsplit(url).hostname or "", *(_name(name) for name in names)} - {""}
    return Listener(is_loopback(host), OWN_NAMES | named, url)


def is_open(url: str, at: Listener) -> bool:
    """Whether a controller, as far as we know, can be used by whoever reaches it: ours, or another's by its URL."""
    parts = urlsplit(url)
    return (url == at.url and at.open) or (parts.scheme == "http" and not is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host.lower() == "localhost":
        return True
    literal = _literal(host)
    if literal is None:
        return False
    address = ip_address(literal)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def refusal(method: str, headers: Headers, at: Listener) -> str | None:
    """Why a request is refused, in one line; None: it is not."""
    origins, sites = _values(headers, "origin"), _values(headers, "sec-fetch-site")
    hosts = _values(headers, "host")
    if at.loopback and hosts and (line := _refused_host(hosts, at)):
        return line
    for origin in origins:
        if not _own(origin, hosts, at):
            return f"Origin {origin} is foreign: pages of other sites may not use this API"
    if any(site.lower() == "cross-site" for site in sites):
        return "Sec-Fetch-Site cross-site: pages of other sites may not use this API"
    if (origins or sites) and method not in ("GET", "HEAD"):
        for kind in _values(headers, "content-type"):
            if _essence(kind) in FORM_TYPES:
                return f"Content-Type {kind} is one that forms send: a page has to send application/json"
    return None


def _refused_host(hosts: list[str], at: Listener) -> str | None:
    if len(hosts) > 1:
        return f"Host is given {len(hosts)} times: {', '.join(hosts)}"
    name = _host_of(hosts[0])
    if name is None or not _may_be_called(name, at):
        own = ", ".join(sorted(at.names))
        return f"Host {hosts[0]} is not a name of this API: right is an IP address, {own}, or a --rest-name"
    return None


def _own(origin: str, hosts: list[str], at: Listener) -> bool:
    """Whether an origin is this API itself, as its client calls it."""
    scheme, separator, authority = origin.partition("://")
    port = _PORTS.get(scheme.lower())
    if not separator or port is None or len(hosts) != 1:
        return False
    there, here = _split(authority), _split(hosts[0])
    if there is None or here is None or not _may_be_called(there[0], at):
        return False
    return there[0] == here[0] and (there[1] or port) == (here[1] or port)


def _may_be_called(name: str, at: Listener) -> bool:
    # an address can't be made to lead elsewhere, which a name in the page's author's domain can
    return name in at.names or _literal(name) is not None


def _host_of(authority: str) -> str | None:
    found = _split(authority)
    return None if found is None else found[0]


def _split(authority: str) -> tuple[str, int] | None:
    """Host, in one form, and port (0: none) of HOST:PORT; None: it makes no sense."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    host, port = found[1], int(found[2] or 0)
    if host.startswith("["):
        address = _literal(host[1:-1])
        return (address, port) if address is not None and ":" in address else None
    return _literal(host) or _name(host), port


def _literal(host: str) -> str | None:
    """An IP address in its one form; None: it is none."""
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _name(host: str) -> str:
    return host.lower().removesuffix(".")


def _essence(kind: str) -> str:
    """The type without its parameters."""
    return re.split("[;,]", kind, maxsplit=1)[0].strip().lower()


def _values(headers: Headers, wanted: str) -> list[str]:
    return [value.strip() for name, value in headers if name.lower() == wanted]
