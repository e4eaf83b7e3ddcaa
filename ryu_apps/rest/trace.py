"""``GET /trace``: which connection is meant."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address

from ryu_apps.pipeline.fields import ICMP, TCP, UDP
from ryu_apps.pipeline.trace import Question
from ryu_apps.rest.inspect import find_endpoint
from topology.errors import BadRequest, Invalid
from topology.snapshot import Model

PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}
MOST = 65535


def question(parameter: Callable[[str], str | None], model: Model) -> Question:
    """The connection that the query's parameters describe: ``from, to, proto, port, sourcePort, source``."""
    values = {name: parameter(name) or "" for name in ("from", "to", "proto", "port", "sourcePort", "source")}
    for name in ("from", "to"):
        if not values[name]:
            raise BadRequest(f"{name}: missing, {'an endpoint or container' if name == 'from' else 'an address'}")
    sender = find_endpoint(values["from"].removeprefix("/"), model)
    source = _address("source", values["source"]) if values["source"] else sender.addresses[0]
    to = _address("to", values["to"])
    if to in sender.addresses:
        raise Invalid(f"to {to}: {sender.id}'s own address, such packets do not leave it")
    port, source_port = _port("port", values["port"]), _port("sourcePort", values["sourcePort"])
    proto = values["proto"].lower() or ("tcp" if port else "icmp")
    if proto not in PROTOCOLS:
        raise Invalid(f"proto {values['proto']}: must be tcp, udp or icmp")
    if proto == "icmp" and (port or source_port):
        raise Invalid(f"{'port' if port else 'sourcePort'}: icmp has none")
    if proto != "icmp" and not port:
        raise Invalid(f"port: missing, {proto} needs one")
    return Question(sender, source, to, PROTOCOLS[proto], port, source_port)


def _address(field: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise Invalid(f"{field} {text}: must be an IPv4 address") from None


def _port(field: str, text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MOST):
        raise Invalid(f"{field} {text}: must be 1 to {MOST}")
    return int(text)
