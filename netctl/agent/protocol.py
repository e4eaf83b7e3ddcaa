"""Fields of Docker's plugin requests: each is there and of its type, or the request is refused by one line."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from typing import Any, TypeVar

from netctl.agent.errors import Malformed, Refusal

Body = Mapping[str, Any]
GENERIC = "com.docker.network.generic"
MAX_SHOWN = 80  # characters of a bad value that are shown
MOST = 4096  # of each kind of thing that calls alone make the agent remember: far more than Docker makes at a time

A = TypeVar("A", bound=IPv4Address | IPv6Address)
S = TypeVar("S", bound=IPv4Network | IPv6Network)
WRITTEN = {
    IPv4Address: "an IPv4 address",
    IPv6Address: "an IPv6 address",
    IPv4Network: "an IPv4 subnet a.b.c.d/len",
    IPv6Network: "an IPv6 subnet x:x::/len",
}


def text(body: Body, name: str, *, required: bool = False) -> str:
    """A string; "" where it may be absent."""
    value = body.get(name)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise Malformed(f"{name}: a string, not {_shown(value)}")
    if required and not body:
        # Docker's second try, after the agent was stopped in the middle of a call, comes without the request.
        raise Malformed("the request is empty: netctl-agent was restarted in the middle of it; do it again")
    if required and not value:
        raise Malformed(f"{name} is missing")
    return value


def mapping(body: Body, name: str) -> Body:
    """An object; empty where it is absent."""
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{name}: an object, not {_shown(value)}")
    return value


def objects(body: Body, name: str) -> list[Body]:
    """A list of objects; empty where it is absent."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Malformed(f"{name}: a list of objects, not {_shown(value)}")
    return value


def flag(body: Body, name: str) -> bool:
    """A truth value, also as Docker writes it in options; false where it is absent."""
    value = body.get(name)
    if value is None or value in ("", "false"):
        return False
    if value == "true":
        return True
    if not isinstance(value, bool):
        raise Malformed(f"{name}: true or false, not {_shown(value)}")
    return value


def address(body: Body, name: str, family: type[A]) -> A | None:
    """An address, with or without a prefix length; None where it is absent."""
    value = text(body, name)
    if not value:
        return None
    try:
        found = ip_interface(value).ip
    except ValueError:
        found = None
    if not isinstance(found, family) or "%" in value:
        raise Refusal(f"{name} {_shown(value)}: not {WRITTEN[family]}")
    return found


def subnet(body: Body, name: str, family: type[S]) -> S | None:
    """A subnet; None where it is absent."""
    value = text(body, name)
    if not value:
        return None
    try:
        found = ip_network(value, strict=False)
    except ValueError:
        found = None
    if not isinstance(found, family) or "%" in value:
        raise Refusal(f"{name} {_shown(value)}: not {WRITTEN[family]}")
    if ip_interface(value).ip != found.network_address:
        raise Refusal(f"{name} {_shown(value)} has host bits set; {found}?")
    return found


def check_room(kept: Sized, what: str) -> None:
    """Refusal: ``kept`` is full. Without a limit, calls could fill the agent's memory."""
    if len(kept) >= MOST:
        raise Refusal(f"netctl-agent remembers {MOST} {what} already: remove some, or restart it")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."
