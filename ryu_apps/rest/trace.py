"""``GET /trace``: which connection is meant."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from ryu_apps.pipeline.explain import name
from ryu_apps.pipeline.family import BY_VERSION
from ryu_apps.pipeline.fields import TCP, UDP
from ryu_apps.pipeline.nexthop import on_link
from ryu_apps.pipeline.trace import Question
from ryu_apps.rest.inspect import find_endpoints, the_one
from topology.errors import BadRequest, Invalid, NetctlError, NotFound
from topology.model import Address, Endpoint
from topology.snapshot import Model

MOST = 65535


def question(parameter: Callable[[str], str | None], model: Model) -> Question:
    """The connection that the query's parameters describe: ``from, to, proto, port, sourcePort, source``."""
    values = {field: parameter(field) or "" for field in ("from", "to", "proto", "port", "sourcePort", "source")}
    for field in ("from", "to"):
        if not values[field]:
            raise BadRequest(f"{field}: missing, {'an endpoint or container' if field == 'from' else 'an address'}")
    part = values["from"].removeprefix("/")
    found = find_endpoints(part, model)
    if not found:
        raise _unknown(part, model)
    to = _address("to", values["to"])
    stated = _address("source", values["source"]) if values["source"] else None
    sender = the_one(part, _interface(found, stated, to, model))
    source = stated or _own(sender, to)
    if source.version != to.version:
        raise Invalid(f"source {source}: must be IPv{to.version}, as {to} is")
    if to in sender.addresses:
        raise Invalid(f"to {to}: {name(sender)}'s own address, such packets do not leave it")
    if to.is_loopback or to.is_unspecified:
        raise Invalid(f"to {to}: {name(sender)}'s own loopback, such packets do not leave it")
    port, source_port = _port("port", values["port"]), _port("sourcePort", values["sourcePort"])
    proto = values["proto"].lower() or ("tcp" if port else "icmp")
    protocols = {"tcp": TCP, "udp": UDP, "icmp": BY_VERSION[to.version].icmp}
    if proto not in protocols:
        raise Invalid(f"proto {values['proto']}: must be tcp, udp or icmp")
    if proto == "icmp" and (port or source_port):
        raise Invalid(f"{'port' if port else 'sourcePort'}: icmp has none")
    if proto != "icmp" and not port:
        raise Invalid(f"port: missing, {proto} needs one")
    return Question(sender, source, to, protocols[proto], port, source_port)


def _unknown(part: str, model: Model) -> NetctlError:
    if part in model.hosts:
        return Invalid(
            f"from {part}: a host, and a trace begins at a container or endpoint; "
            "on the host itself try the address with nc, curl or ping"
        )
    return NotFound(
        f"from {part}: no container or endpoint of this name or id is in a network of netctl; a container in other "
        f"networks alone, such as Docker's bridge, reaches none of netctl's: docker network connect NETWORK {part}"
    )


def _address(field: str, text: str) -> Address:
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or (isinstance(found, IPv6Address) and found.scope_id is not None):
        raise Invalid(f"{field} {text}: must be an IPv4 or IPv6 address")
    return found


def _interface(found: list[Endpoint], source: Address | None, to: Address, model: Model) -> list[Endpoint]:
    """Of one container's endpoints, the one that its kernel sends by: as its agent has set its routes."""
    if len({(e.container_id or e.id, e.host) for e in found}) > 1:
        return found
    tenants = {network.tenant for network in model.networks_around(to)}
    has_address = [e for e in found if any(a.version == to.version for a in e.addresses)]
    primary = [e for e in has_address if e.primary]
    return (
        [e for e in found if source in e.addresses]
        or [e for e in has_address if on_link(model.networks[e.network_key], to)]
        or [e for e in primary if e.tenant in tenants]
        or primary
        or found
    )


def _own(sender: Endpoint, to: Address) -> Address:
    for address in sender.addresses:
        if address.version == to.version:
            return address
    raise Invalid(f"to {to}: {sender.id} has no IPv{to.version} address to send from")


def _port(field: str, text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MOST):
        raise Invalid(f"{field} {text}: must be 1 to {MOST}")
    return int(text)
