"""Single fields: from what a user typed to a value, or one line that names field, value and what is right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from topology.errors import Invalid
from topology.model import Address, Labels, Network, Prefix, Published

NAME_LIMITS = {"tenantName": 64, "networkName": 64, "serviceName": 256, "hostName": 253}
_REQUIRED = {
    "tenantName": "Tenant name required",
    "networkName": "Network name required",
    "serviceName": "Service name required",
    "hostName": "Host name required",
}
# names that `docker run --net=` understands as something else
DOCKER_NETWORKS = frozenset({"bridge", "host", "none", "default"})
RESERVED = {
    IPv4Network("0.0.0.0/8"): "means this host",
    IPv4Network("127.0.0.0/8"): "is loopback",
    IPv4Network("169.254.0.0/16"): "is link-local, and the hosts' own",
    IPv4Network("224.0.0.0/4"): "is multicast",
    IPv4Network("240.0.0.0/5"): "is kept for what comes in by other hosts",
    IPv4Network("249.0.0.0/8"): "is kept for published services",
    IPv4Network("250.0.0.0/7"): "is kept for the containers' hidden addresses",
    IPv4Network("255.255.255.255/32"): "is broadcast",
}
RESERVED6 = {
    IPv6Network("::/8"): "holds loopback and IPv4's addresses",
    IPv6Network("100::/64"): "is kept for the providers' hidden addresses",
    IPv6Network("fe80::/10"): "is link-local",
    IPv6Network("ff00::/8"): "is multicast",
}
# a /48 is what a whole site is given (RFC 6177); a /126 has one address left beside a gateway and a VIP
SHORTEST6, LONGEST6 = 48, 126
# and their highest tag; above vxlan's are the VNIs by which tunnels carry vlan networks
ENCAPS = {"vxlan": 0xFFEFFF, "vlan": 4094}
AUTO_TAGS = {"vxlan": 10_000, "vlan": 4094}
NW_TYPES = ("data", "infra")
PROTOCOLS = ("TCP", "UDP", "SCTP")
PUBLISHABLE = ("TCP", "UDP")
DATAPATH_TYPES = ("netdev", "system")
HEALTHS = ("", "starting", "healthy", "unhealthy")
STATES = ("created", "running", "paused", "draining", "stopped")
ORIGINS = ("agent", "rest", "learned")
ID_LIMIT, TEXT_LIMIT, REASON_LIMIT = 128, 255, 200

A = TypeVar("A", IPv4Address, IPv6Address, Address)

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NETWORK_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"  # Docker Compose's are PROJECT_NAME
_NETWORK_NAME = re.compile(rf"{_NETWORK_LABEL}(?:\.{_NETWORK_LABEL})*")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PATTERNS = {"networkName": _NETWORK_NAME, "hostName": _HOST_NAME}
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SUBNET = re.compile(r"([0-9.]+)(?:-([0-9.]+))?/([0-9]{1,2})")
_SUBNET6 = re.compile(r"([0-9A-Fa-f:.]+)/([0-9]{1,3})")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_DATAPATH = re.compile(r"[0-9a-fA-F]{0,16}")
_PORT = re.compile(r"-?[0-9]{1,9}")

OWN_MACS = "0e:4e:43:"  # what netctl's own MACs begin with; nobody else may have one
ROUTER_MAC = f"{OWN_MACS}00:00:01"  # every gateway and VIP answers ARP with it
SHOWN = 60


def counted(count: int, what: str) -> str:
    """A number of things: ``1 service``, ``2 services``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def show(value: object) -> str:
    """A user's value, fit to stand in one line of an error."""
    text = str(value)
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def name(field: str, value: str) -> str:
    """A tenant's, network's, service's or host's name."""
    limit = NAME_LIMITS[field]
    if not value:
        raise Invalid(_REQUIRED[field])
    if len(value) > limit:
        raise Invalid(f"{field} {show(value)} has {len(value)} characters: at most {limit}")
    if not _PATTERNS.get(field, _NAME).fullmatch(value):
        signs, marks = ("digits, _ and -", "_ or -") if field == "networkName" else ("digits and -", "-")
        raise Invalid(
            f"{field} {show(value)} is invalid: letters, {signs}, in parts joined by dots; "
            f"no part begins or ends with {marks}"
        )
    return value


def network_name(value: str) -> str:
    """The name of a network to be made: Docker's own are taken."""
    name("networkName", value)
    if value in DOCKER_NETWORKS:
        names = ", ".join(sorted(DOCKER_NETWORKS))
        raise Invalid(f"networkName {value} is reserved by Docker ({names}): take another name")
    return value


def address(field: str, value: str | IPv4Address) -> IPv4Address:
    """An IPv4 address in dotted form."""
    if isinstance(value, IPv4Address):
        return value
    try:
        return IPv4Address(value)
    except AddressValueError as error:
        raise Invalid(f"{field} {show(value)} is not an IPv4 address such as 10.1.1.5") from error


def address6(field: str, value: str | IPv6Address) -> IPv6Address:
    """An IPv6 address in any of its written forms, without a zone."""
    if isinstance(value, IPv6Address):
        return value
    try:
        found = IPv6Address(value)
    except AddressValueError as error:
        raise Invalid(f"{field} {show(value)} is not an IPv6 address such as fd00:1::5") from error
    if found.scope_id is not None:
        raise Invalid(f"{field} {show(value)} has a zone: right is {show(value.partition('%')[0])}")
    return found


def any_address(field: str, value: str | Address) -> Address:
    """An address of either family."""
    if isinstance(value, IPv6Address) or (isinstance(value, str) and ":" in value):
        return address6(field, value)
    return address(field, value)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet and, within it, the range that is handed out."""

    subnet: IPv4Network
    first: IPv4Address
    last: IPv4Address

    def __str__(self) -> str:
        low, high = usable(self.subnet)
        if (self.first, self.last) == (low, high):
            return str(self.subnet)
        return f"{self.first}-{self.last}/{self.subnet.prefixlen}"


def subnet_text(network: Network) -> str:
    """A network's subnet as a user types it, with its range if it has one."""
    return str(Subnet(network.subnet, network.first, network.last))


def usable(subnet: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """First and last address between network and broadcast address."""
    return subnet.network_address + 1, subnet.broadcast_address - 1


def subnet(value: str) -> Subnet:
    """``a.b.c.d[-e.f.g.h]/len``."""
    if not value:
        raise Invalid("subnet required, such as 10.1.1.0/24 or 10.1.1.10-10.1.1.20/24")
    match = _SUBNET.fullmatch(value)
    if match is None or int(match[3]) > 32:
        raise Invalid(f"subnet {show(value)} is invalid: right is 10.1.1.0/24 or 10.1.1.10-10.1.1.20/24")
    first, length = address("subnet", match[1]), int(match[3])
    net = IPv4Network((int(first) & ~((1 << (32 - length)) - 1), length))
    if length > 30:
        raise Invalid(f"subnet {value} is too small: /30 is the smallest with addresses to give")
    for space, why in RESERVED.items():
        if net.overlaps(space):
            raise Invalid(f"subnet {value} overlaps {space}, which {why}: take another")
    low, high = usable(net)
    if match[2] is None:
        if first != net.network_address:
            raise Invalid(f"subnet {value} has host bits set: right is {net}")
        return Subnet(net, low, high)
    last = address("subnet", match[2])
    if last not in net:
        raise Invalid(f"subnet {value}: {first} and {last} are not in one /{length}")
    if first > last:
        raise Invalid(f"subnet {value}: the range ends before it begins")
    if first < low or last > high:
        raise Invalid(f"subnet {value}: the range must lie within {low}-{high}")
    return Subnet(net, first, last)


def subnet6(value: str) -> IPv6Network:
    """``address/len``."""
    match = _SUBNET6.fullmatch(value)
    if match is None or int(match[2]) > 128:
        raise Invalid(f"ipv6Subnet {show(value)} is invalid: right is fd00:1::/64")
    first, length = address6("ipv6Subnet", match[1]), int(match[2])
    if not SHORTEST6 <= length <= LONGEST6:
        raise Invalid(f"ipv6Subnet {value}: /{length} is out of range: right is /{SHORTEST6} to /{LONGEST6}")
    net = IPv6Network((int(first) >> 128 - length << 128 - length, length))
    for space, why in RESERVED6.items():
        if net.overlaps(space):
            raise Invalid(f"ipv6Subnet {value} overlaps {space}, which {why}: take another, such as fd00:1::/64")
    if first != net.network_address:
        raise Invalid(f"ipv6Subnet {value} has host bits set: right is {net}")
    return net


def inside(field: str, value: A, net: Prefix, of: str = "") -> A:
    """An address that something in the subnet can have."""
    low, high = net.network_address + 1, net.broadcast_address - (net.version == 4)
    if value not in net:
        raise Invalid(f"{field} {value} is outside subnet {net}{of}: right is {low} to {high}")
    if not int(low) <= int(value) <= int(high):
        which = "broadcast" if value == net.broadcast_address else "network" if net.version == 4 else "routers' anycast"
        raise Invalid(f"{field} {value} is the {which} address of subnet {net}{of}: right is {low} to {high}")
    return value


def within(field: str, value: A, network: Network) -> A:
    """An address that something in the network can have."""
    for net in network.subnets:
        if net.version == value.version:
            return inside(field, value, net, f" of network {network.key}")
    raise Invalid(f"{field} {value}: network {network.key} has no IPv6; leave it out, or take a network that has")


def family(value: int | None, wanted: Address | None) -> int:
    """The IP version of an address that is wanted, or of any; None: not given."""
    if value not in {None, 4, 6}:
        raise Invalid(f"family {show(value)} is unknown: right is 4 or 6")
    if wanted is None:
        return value or 4
    if value not in {None, wanted.version}:
        raise Invalid(f"family {value} is not that of ipAddress {wanted}: right is {wanted.version}, or none")
    return wanted.version


def choice(field: str, value: str, known: Iterable[str]) -> str:
    """One of a few words."""
    options = list(known)
    if value not in options:
        words = [word or '""' for word in options]
        raise Invalid(f"{field} {show(value)} is unknown: right is {', '.join(words[:-1])} or {words[-1]}")
    return value


def tag(encap: str, value: int) -> int:
    """A VNI or VLAN; 0: automatic."""
    if not 0 <= value <= ENCAPS[encap]:
        raise Invalid(f"pktTag {value} is out of range for {encap}: 1 to {ENCAPS[encap]}, or 0 for automatic")
    return value


def selectors(values: Sequence[str]) -> Labels:
    """``key=value`` each; the value may be empty, and then matches an empty label only."""
    found: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Invalid(f"Invalid selector {show(text)}. selector format is key1=value1")
        unicode_text("selector", text)
        if key in found:
            raise Invalid(
                f"selector {show(key)} is given twice ({show(found[key])}, {show(value)}): once is right"
            )
        found[key] = value
    return tuple(sorted(found.items()))


def ports(values: Sequence[str]) -> list[tuple[int, int, str]]:
    """``port:target:protocol`` each."""
    found: dict[tuple[int, str], str] = {}
    out = []
    for text in values:
        parts = text.split(":")
        if len(parts) != 3 or not all(_PORT.fullmatch(part) for part in parts[:2]):
            raise Invalid(
                "Invalid port mapping. Port format is - Port:TargetPort:Protocol, "
                f"such as 80:8080:TCP, not {show(text)}"
            )
        port, target = _port_number(parts[0], text), _port_number(parts[1], text)
        protocol = _protocol(parts[2], text)
        _once("port", port, protocol, text, found)
        out.append((port, target, protocol))
    return out


def published(values: Sequence[str], offered: Sequence[tuple[int, int, str]]) -> tuple[Published, ...]:
    """``host port:port[:protocol]`` each, the port being one of those that the service offers (as `ports` says)."""
    protocols: dict[int, list[str]] = {}
    for port, _, protocol in offered:
        if protocol not in PUBLISHABLE:
            continue
        protocols.setdefault(port, []).append(protocol)
    found: dict[tuple[int, str], str] = {}
    out = []
    for text in values:
        parts = text.split(":")
        if len(parts) not in {2, 3} or not all(_PORT.fullmatch(part) for part in parts[:2]):
            raise Invalid(
                "Invalid publish. Its format is HostPort:ServicePort[:Protocol], "
                f"such as 80:8080:TCP or 80:8080, not {show(text)}"
            )
        port, target = _port_number(parts[0], text), _port_number(parts[1], text)
        there = protocols.get(target, [])
        if len(parts) == 2 and len(there) > 1:
            raise Invalid(
                f"publish {text} is ambiguous: the service has {target} TCP and {target} UDP; "
                f"right is {text}:TCP or {text}:UDP"
            )
        protocol = _protocol(parts[2], text) if len(parts) == 3 else "".join(there)
        if protocol and protocol not in PUBLISHABLE:
            raise Invalid(f"publish {text}: {protocol} can't be published: right is TCP or UDP")
        if not there or protocol not in there:
            have = ", ".join(f"{port} {protocol}" for port, _, protocol in offered) or "none"
            raise Invalid(f"publish {text}: the service has no port {f'{target} {protocol}'.strip()}; it has {have}")
        _once("publish: host port", port, protocol, text, found)
        out.append(Published(port, target, protocol))
    return tuple(out)


def _port_number(part: str, text: str) -> int:
    if not 1 <= int(part) <= 65535:
        raise Invalid(f"port {part} in {show(text)} is out of range: 1 to 65535")
    return int(part)


def _protocol(part: str, text: str) -> str:
    protocol = part.upper()
    if protocol not in PROTOCOLS:
        raise Invalid(f"protocol {show(part)} in {show(text)} is unknown: right is TCP, UDP or SCTP")
    return protocol


def _once(what: str, port: int, protocol: str, text: str, found: dict[tuple[int, str], str]) -> None:
    if (port, protocol) in found:
        raise Invalid(f"{what} {port} {protocol} is given twice ({found[port, protocol]}, {text}): once is right")
    found[port, protocol] = text


def mac(value: str) -> str:
    """A unicast MAC address, in lower case with colons."""
    text = value.lower().replace("-", ":")
    if not _MAC.fullmatch(text):
        raise Invalid(f"macAddress {show(value)} is invalid: right is 02:42:0a:01:01:05")
    if int(text[:2], 16) & 1:
        raise Invalid(f"macAddress {show(value)} is a group address: the first byte must be even")
    if text == "00:00:00:00:00:00":
        raise Invalid(f"macAddress {value} belongs to nobody: right is 02:42:0a:01:01:05")
    if text.startswith(OWN_MACS):
        raise Invalid(f"macAddress {value} is one of the hosts' and gateways' own: right is 02:42:0a:01:01:05")
    return text


def endpoint_id(value: str) -> str:
    """An endpoint's id: Docker's is 64 hexadecimal digits."""
    if not value:
        raise Invalid("endpointID required")
    if len(value) > ID_LIMIT or not _ID.fullmatch(value):
        raise Invalid(
            f"endpointID {show(value)} is invalid: letters, digits, '.', '_' and '-', at most {ID_LIMIT}"
        )
    return value


def text(field: str, value: str, limit: int = TEXT_LIMIT) -> str:
    """A free text in one line."""
    if len(value) > limit:
        raise Invalid(f"{field} {show(value)} has {len(value)} characters: at most {limit}")
    if not value.isprintable():
        raise Invalid(f"{field} {show(value)} has characters that can't be printed")
    return value


def unicode_text(field: str, value: str) -> str:
    """Any text that can be written as UTF-8; JSON lets half of a surrogate pair through."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{field} {show(value)} is not valid Unicode text") from error
    return value


def labels(values: Mapping[str, str]) -> Labels:
    """A container's labels, as they are: Docker has checked them."""
    for key, value in values.items():
        unicode_text("label", key)
        unicode_text(f"label {show(key)}", value)
    return tuple(sorted(values.items()))


def datapath(value: str) -> int:
    """A datapath id in hexadecimal; empty: 0, which is not known yet."""
    if not _DATAPATH.fullmatch(value):
        raise Invalid(f"switch {show(value)}: must be a datapath id, up to 16 hexadecimal digits")
    return int(value or "0", 16)
