"""The JSON documents of the REST API, by the names of Contiv's API. A field that is empty may be left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from typing import Annotated, Any, Literal, NotRequired, TypedDict

_PORT = re.compile(r"([0-9]{1,5}):([0-9]{1,5})(:(TCP|UDP|SCTP))?")
_PATH = re.compile(r"(/[!-~]*)?")


def _subnet(text: str) -> None:
    """``a.b.c.d[-e.f.g.h]/len``"""
    addresses, _, length = text.partition("/")
    first, _, last = addresses.partition("-")
    IPv4Network(f"{first}/{length}", strict=False)
    IPv4Address(last or first)


def _path(text: str) -> None:
    if not _PATH.fullmatch(text):
        raise ValueError


def _port(text: str) -> None:
    found = _PORT.fullmatch(text)
    if found is None or not all(0 < int(number) < 1 << 16 for number in found.groups()[:2]):
        raise ValueError


def _between(least: int, most: int) -> Callable[[int], None]:
    def holds(number: int) -> None:
        if not least <= number <= most:
            raise ValueError

    return holds


# What a text or number has to be, which `netctl.reading` checks: its words, and what raises ValueError
IPv4Text = Annotated[str, "an IPv4 address", lambda text: text and IPv4Address(text)]
IPv6Text = Annotated[str, "an IPv6 address", lambda text: text and IPv6Address(text)]
InterfaceText = Annotated[str, "an address with its prefix length", ip_interface]
SubnetText = Annotated[str, "an IPv4 subnet a.b.c.d/len", _subnet]
Subnet6Text = Annotated[str, "an IPv6 subnet x:x::/len", lambda text: text and IPv6Network(text)]
PortText = Annotated[str, "a port as in 80:8080:TCP", _port]
PathText = Annotated[str, "a path as in /healthz", _path]
Seconds = Annotated[int, "from 1 to 86400", _between(1, 86400)]
Times = Annotated[int, "from 1 to 1000", _between(1, 1000)]


class TenantDoc(TypedDict, total=False):
    """A tenant."""

    key: str
    tenantName: str
    defaultNetwork: str


class StreamTenantDoc(TenantDoc, total=False):
    """A tenant in the change stream."""

    number: int  # its conntrack zone


class NetworkDoc(TypedDict, total=False):
    """A network, as asked for."""

    key: str
    tenantName: str
    networkName: str
    nwType: str  # data | infra
    encap: str  # vxlan | vlan
    pktTag: int
    subnet: SubnetText  # a.b.c.d[-e.f.g.h]/len
    gateway: IPv4Text
    ipv6Subnet: Subnet6Text
    ipv6Gateway: IPv6Text
    nat: bool  # its containers reach what their host reaches
    natHost: bool  # and their host's own ports
    internal: bool  # closed in both directions
    dockerIPAM: bool  # Docker's own IPAM driver gives its containers their addresses
    cfgdTag: str


class StreamNetworkDoc(NetworkDoc, total=False):
    """A network in the change stream: with what an agent needs to make its Docker network."""

    number: int
    dockerName: str


class HealthCheckDoc(TypedDict, total=False):
    """An active check of a service's providers."""

    protocol: str  # tcp | http
    path: PathText  # http only
    interval: Seconds
    timeout: Seconds
    rise: Times  # passes in a row
    fall: Times  # failures in a row


class ServiceDoc(TypedDict, total=False):
    """A service, as asked for; in lists also what it is, from ``serviceVip`` on."""

    key: str
    tenantName: str
    serviceName: str
    networkName: str
    ipAddress: str  # VIP that was asked for
    ipv6Address: str  # the same, of IPv6
    selectors: list[str]  # key=value
    ports: list[PortText]  # port:target:protocol
    publish: list[PortText]  # host port:port:protocol
    sessionAffinity: int  # s
    affinityMode: str  # idle | absolute
    drainTimeout: int  # s; absent: 30
    healthCheck: HealthCheckDoc
    serviceVip: str
    serviceVip6: str  # absent: its network has no IPv6
    numProviders: int
    healthyProviders: int  # absent: not known, as no leading controller answers
    noWayBack: list[str]  # why providers are not healthy that could not answer: line by reason
    labelErrors: list[str]  # what is wrong with labels of its providers that are for netctl


class StreamServiceDoc(ServiceDoc, total=False):
    """A service in the change stream: with what agents need to publish it."""

    publishedAddress: IPv4Text  # absent: no port is published


class EndpointDoc(TypedDict, total=False):
    """One attachment of a container or bare host to a network."""

    key: str
    endpointID: str
    tenantName: str
    networkName: str
    ipAddress: list[str]  # IPv4, then IPv6
    macAddress: str
    homingHost: str
    switch: str  # datapath id, 16 hexadecimal digits
    portName: str
    labels: dict[str, str]
    containerID: str
    containerName: str
    health: str  # "" | starting | healthy | unhealthy
    state: str  # created | running | paused | draining | stopped
    origin: str  # agent | rest | learned
    weight: int  # 1..100; absent: 1, or what the label netctl.weight says
    labelErrors: list[str]  # what is wrong with those of its labels that are for netctl
    noWayBack: str  # why its address can't answer beyond its own network; absent: it can
    primary: bool  # of its container's addresses, the one that the container's kernel takes as source
    passed: list[str]  # keys of the services whose active check it passes


class HostDoc(TypedDict, total=False):
    """A Docker host with an agent."""

    key: str
    hostName: str
    switch: str  # datapath id, 16 hexadecimal digits
    tunnelAddress: IPv4Text
    version: str
    datapathType: str  # of its bridge: netdev (userspace) or system (kernel)
    mtu: int  # of its containers
    hostAddress: IPv4Text  # as its own containers see it
    controlPlane: list[str]  # in the answer to its agent: listeners that containers never reach, tcp:ADDRESS:PORT
    draining: bool  # absent: no
    state: str  # up | degraded | down | draining; unknown: no leading controller answers
    since: str  # of the state: UTC, ISO 8601
    reason: str
    connected: bool  # the agent's change stream
    lastHeartbeat: float  # s ago
    appliedRevision: int  # up to here it has carried out what the controller says
    errors: dict[str, str]  # line by network key, or by what else it is about: "publish 80/TCP", "Open vSwitch"


class SwitchDoc(TypedDict, total=False):
    """A switch, as it is seen."""

    dpid: str
    connected: bool
    ports: list[Any]
    links: list[Any]  # each by its port, and the switch and its port at the other end
    flows: int
    groups: int
    brokenPackets: int  # to the controller, since the switch connected
    forgedPackets: int
    refusedByLimit: dict[str, int]  # packets of connections over their tenant's limit, by tenant
    errors: dict[str, str]  # line by owner


class LeaseDoc(TypedDict):
    """An address granted to a host."""

    key: str  # tenant:network:address
    ipAddress: InterfaceText  # with its prefix length: 10.1.1.1/24, fd00:1::1/64


class StepDoc(TypedDict):
    """What happened to a packet in one table."""

    table: str
    text: str


ReplyDoc = TypedDict(
    "ReplyDoc",
    {
        "verdict": str,  # delivered | lost | unknown
        "text": str,
        "steps": list[StepDoc],
        "from": NotRequired[str],  # who replies; absent: that is not known
    },
)
"""What becomes of the reply."""


class EndDoc(TypedDict, total=False):
    """One way that a connection may end."""

    verdict: str  # delivered | lost (the reply is) | answered | refused | dropped | asked | sent
    text: str
    share: float  # of the new connections
    endpointID: str  # whom it is delivered to
    provider: str  # who was chosen: its endpoint id
    reply: ReplyDoc  # to what is delivered, lost or sent


# "from" is a word of the language's own
TraceDoc = TypedDict(
    "TraceDoc",
    {
        "from": str,
        "endpointID": NotRequired[str],
        "tenantName": str,
        "networkName": str,
        "source": str,
        "sourcePort": NotRequired[int],
        "to": str,
        "proto": str,
        "port": int,
        "switch": str,
        "steps": list[StepDoc],
        "verdict": str,
        "outcome": str,
        "ends": list[EndDoc],
        "notes": list[str],
    },
)
"""Why a connection goes where it goes."""


class ControllerDoc(TypedDict, total=False):
    """One of the controllers that share a store."""

    url: str
    leads: bool
    open: bool  # whoever reaches it can use it: it is not on the loopback device, and has no authentication


class VersionDoc(TypedDict, total=False):
    """What the controller is built of."""

    Version: str
    GitCommit: str
    BuildTime: str


class SubnetDoc(TypedDict):
    """A subnet that is free."""

    subnet: SubnetText


class RevisionDoc(TypedDict):
    """The revision that something was done with."""

    revision: int


class InspectDoc(TypedDict, total=False):
    """What was asked, and what is."""

    Config: dict[str, Any]
    Oper: dict[str, Any]


class PortCountDoc(TypedDict):
    """What the switches have counted for a port of a service."""

    port: str
    connections: int
    other: int


class CountersDoc(TypedDict, total=False):
    """What the switches have counted for a service."""

    ports: list[PortCountDoc]
    packets: int
    refused: int
    providers: dict[str, int]  # by endpoint id
    unread: dict[str, str]  # line by datapath id
    errors: dict[str, str]  # line by datapath id


class ProviderDoc(TypedDict, total=False):
    """A provider, as a service's inspection lists it."""

    endpointID: str
    containerName: str
    ipAddress: list[str]
    state: str
    health: str
    check: str
    weight: int


class ServiceOperDoc(TypedDict, total=False):
    """What a service is."""

    serviceVip: str
    serviceVip6: str
    counters: CountersDoc
    providers: list[ProviderDoc]


class ServiceInspectDoc(TypedDict, total=False):
    """What was asked of a service, and what is."""

    Config: dict[str, Any]
    Oper: ServiceOperDoc


class _Change(TypedDict):
    revision: int
    kind: Literal["tenant", "network", "service", "endpoint", "host", "sync", "alive"]


class ChangeDoc(_Change, total=False):
    """One line of the change stream. ``sync`` and ``alive`` have no key and no object."""

    key: str
    object: Mapping[str, Any] | None  # None: deleted


CHANGES: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "tenant": (StreamTenantDoc, ()),
    "network": (StreamNetworkDoc, ("tenantName", "networkName", "number", "subnet", "dockerName")),
    "service": (StreamServiceDoc, ("tenantName",)),
    "endpoint": (EndpointDoc, ()),
    "host": (HostDoc, ()),
}
"""The objects of the change stream by kind, and the fields that an agent can't do without."""
