"""The documents that only answers have: switches, traces, counters, controllers, the change stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

from topology.contract import field
from topology.documents import (
    NetworkDoc,
    ServiceDoc,
    StreamNetworkDoc,
    StreamServiceDoc,
    StreamTenantDoc,
    TenantDoc,
)
from topology.reports import EndpointDoc, HostDoc


class PortDoc(TypedDict, total=False):
    """A port of a switch."""

    name: str
    number: int
    up: bool
    forged: Annotated[int, field("Packets dropped because their sender was forged; absent: unknown.")]


class LinkDoc(TypedDict, total=False):
    """A link to another switch."""

    port: str
    switch: Annotated[str, field("At the other end: datapath id.")]
    peer: Annotated[str, field("Its port there: name, or number while that switch is away.")]


class SwitchDoc(TypedDict, total=False):
    """A switch."""

    dpid: Annotated[str, field("Datapath id, 16 hexadecimal digits.")]
    connected: bool
    settled: Annotated[bool, field("Whether it has applied the whole model.")]
    ports: list[PortDoc]
    links: list[LinkDoc]
    flows: int
    groups: int
    flowMods: Annotated[int, field("Flow mods sent since the switch connected.")]
    groupMods: Annotated[int, field("Group mods sent since the switch connected.")]
    brokenPackets: Annotated[int, field("Malformed packets that it has sent to the controller since it connected.")]
    forgedPackets: Annotated[int, field("Packets with a forged sender that it has sent to the controller.")]
    refusedByLimit: Annotated[dict[str, int], field("Packets of connections over their tenant's limit, by tenant.")]
    errors: Annotated[dict[str, str], field("What it refused or lacks, by subject.")]


class FlowDoc(TypedDict):
    """A flow in a switch."""

    table: str
    priority: int
    packets: int
    bytes: int
    kind: Annotated[str, field("What it is for.")]
    owners: Annotated[list[str], field("Whose it is: switch, or network, endpoint or service and its key.")]
    match: Annotated[str, field("With names for registers, ports and numbers; empty: it is about to be replaced.")]
    actions: str


class FlowsDoc(TypedDict):
    """Flows of a switch, by table and priority."""

    flows: list[FlowDoc]
    more: Annotated[int, field("How many are left out, where there are more than one answer holds.")]
    learned: Annotated[int, field("Clients that session affinity has learned, in the table sticky.")]


class LeaseDoc(TypedDict):
    """An address granted to a host."""

    key: Annotated[str, field("Tenant:network:address.")]
    ipAddress: Annotated[str, field("With its prefix length: 10.1.1.1/24, fd00:1::1/64.", format="interface")]


class StepDoc(TypedDict):
    """What happened to a packet in one table."""

    table: str
    text: str


ReplyDoc = TypedDict(
    "ReplyDoc",
    {
        "verdict": Annotated[str, field("Delivered | lost | unknown.")],
        "text": str,
        "steps": list[StepDoc],
        "from": NotRequired[Annotated[str, field("Who replies; absent: that is not known.")]],
    },
)
"""What becomes of the reply."""


class EndDoc(TypedDict, total=False):
    """One way that a connection may end."""

    verdict: Annotated[str, field("Delivered | lost (the reply is) | answered | refused | dropped | asked | sent.")]
    text: str
    share: Annotated[float, field("Of the new connections.")]
    endpointID: Annotated[str, field("Whom it is delivered to.")]
    provider: Annotated[str, field("Who was chosen: its endpoint id.")]
    reply: Annotated[ReplyDoc, field("To what is delivered, lost or sent.")]


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
    open: Annotated[
        bool, field("Whether anybody who reaches it can use it: it listens beyond loopback, without authentication.")
    ]


class VersionDoc(TypedDict, total=False):
    """The version of the controller."""

    Version: str
    GitCommit: str
    BuildTime: str


class SubnetDoc(TypedDict):
    """A subnet that is free."""

    subnet: Annotated[str, field("The subnet.", format="subnet")]


class RevisionDoc(TypedDict):
    """The revision that something was done with."""

    revision: int


class InfoDoc(TypedDict, total=False):
    """Numbers of objects."""

    version: str
    revision: int
    tenants: int
    networks: int
    services: int
    endpoints: int
    hosts: int
    switches: Annotated[int, field("Absent: no leading controller answers.")]


class SettledDoc(TypedDict):
    """Whether the switches carry out a revision."""

    revision: int
    settled: bool


class GlobalDoc(TypedDict, total=False):
    """Contiv's global settings."""

    key: str
    name: str
    arpMode: str
    fwdMode: str
    networkInfraType: str
    pvtSubnet: str
    vlans: str
    vxlans: str


class GlobalOperDoc(TypedDict, total=False):
    """Numbers of objects, in Contiv's words."""

    numNetworks: int


class TenantOperDoc(TypedDict, total=False):
    """Numbers of a tenant's objects."""

    totalEndpoints: int
    totalNetworks: int
    totalServicelbs: int


class AddressOperDoc(TypedDict, total=False):
    """An endpoint, beside the one at which its container is reached as a provider."""

    endpointID: str
    network: Annotated[str, field("NETWORK.TENANT.")]
    ipAddress: Annotated[list[str], field("IPv4, then IPv6; empty text for the one that it has not.")]
    noWayBack: Annotated[str, field("Why its address can't answer beyond its own network.")]


class EndpointOperDoc(AddressOperDoc, total=False):
    """What an endpoint is, in Contiv's words."""

    containerID: str
    containerName: str
    homingHost: str
    intfName: Annotated[str, field("Its port of the switch.")]
    labels: Annotated[str, field("As Go prints a map: map[tier:web].")]
    macAddress: str
    serviceName: Annotated[str, field("The services that select it, with commas.")]
    vtepIP: Annotated[str, field("Where tunnels to its host end.")]
    state: str
    health: str
    weight: int
    labelErrors: list[str]
    passed: Annotated[list[str], field("Keys of the services whose active check it passes.")]


class ProviderDoc(EndpointOperDoc, total=False):
    """A provider, as a service's inspection lists it: at the address where it is reached."""

    check: Annotated[str, field("Passing | failing; absent: the service has no active check.")]
    portState: Annotated[str, field("Down, or absent.")]
    hostState: Annotated[str, field("Down | draining | unknown, or absent.")]
    otherAddresses: list[AddressOperDoc]


class NetworkOperDoc(TypedDict, total=False):
    """What a network is."""

    allocatedAddressesCount: int
    allocatedIPAddresses: str
    availableIPAddresses: str
    allocatedIPv6AddressesCount: int
    allocatedIPv6Addresses: str
    availableIPv6Addresses: str
    endpoints: list[EndpointOperDoc]
    numEndpoints: int
    networkTag: Annotated[str, field("NETWORK.TENANT.")]
    pktTag: Annotated[int, field("The tag that it has, asked for or not.")]
    externalPktTag: int
    linkTag: Annotated[int, field("802.1Q tag on links between switches.")]
    status: Annotated[str, field("What it lacks; absent: nothing.")]


class _PortCount(TypedDict):
    port: str
    connections: int
    other: Annotated[int, field("Connections to providers that are gone.")]


class PortCountDoc(_PortCount, total=False):
    """What the switches have counted for a port of a service."""

    providers: Annotated[dict[str, int], field("Connections by endpoint id.")]


class CountersDoc(TypedDict, total=False):
    """What the switches have counted for a service."""

    ports: list[PortCountDoc]
    packets: int
    refused: int
    providers: Annotated[dict[str, int], field("By endpoint id.")]
    unread: Annotated[dict[str, str], field("Line by datapath id.")]
    errors: Annotated[dict[str, str], field("Line by datapath id.")]


class ServiceOperDoc(TypedDict, total=False):
    """What a service is."""

    serviceVip: str
    serviceVip6: str
    numProviders: int
    providers: list[ProviderDoc]
    published: list[str]
    publishedAddress: Annotated[str, field("Where hosts send what comes to its published ports.")]
    counters: CountersDoc


class GlobalInspectDoc(TypedDict, total=False):
    """The global settings, and what there is."""

    Config: GlobalDoc
    Oper: GlobalOperDoc


class TenantInspectDoc(TypedDict, total=False):
    """What was asked of a tenant, and what is."""

    Config: TenantDoc
    Oper: TenantOperDoc


class NetworkInspectDoc(TypedDict, total=False):
    """What was asked of a network, and what is."""

    Config: NetworkDoc
    Oper: NetworkOperDoc


class ServiceInspectDoc(TypedDict, total=False):
    """What was asked of a service, and what is."""

    Config: ServiceDoc
    Oper: ServiceOperDoc


class EndpointInspectDoc(TypedDict, total=False):
    """What an endpoint is."""

    Oper: EndpointOperDoc


INSPECTIONS: Mapping[str, Any] = {
    "globals": GlobalInspectDoc,
    "tenants": TenantInspectDoc,
    "networks": NetworkInspectDoc,
    "serviceLBs": ServiceInspectDoc,
    "endpoints": EndpointInspectDoc,
}
"""What ``inspect`` answers, by collection."""


class _Change(TypedDict):
    revision: int
    kind: Annotated[str, field("Tenant, network, service, endpoint, host, sync, alive.")]


class ChangeDoc(_Change, total=False):
    """One line of the change stream. ``sync`` and ``alive`` have no key and no object."""

    key: str
    object: Annotated[dict[str, Any] | None, field("None: deleted.")]


CHANGES: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "tenant": (StreamTenantDoc, ()),
    "network": (StreamNetworkDoc, ("tenantName", "networkName", "number", "subnet", "dockerName")),
    "service": (StreamServiceDoc, ("tenantName",)),
    "endpoint": (EndpointDoc, ()),
    "host": (HostDoc, ()),
}
"""The objects of the change stream by kind, and the fields that an agent can't do without."""
