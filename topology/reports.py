"""The documents of hosts and endpoints, which agents or users report. Each field is stated once, as in `documents`."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from topology.contract import field, told
from topology.documents import DEFAULT_TENANT, Key, TenantName
from topology.model import Endpoint, Host
from topology.options import MAX_WEIGHT, label_troubles
from topology.validate import DATAPATH_TYPES, HEALTHS, ORIGINS, STATES


def hex_dpid(value: int) -> str:
    """A datapath id as 16 hexadecimal digits; 0, which is none: empty."""
    return f"{value:016x}" if value else ""


def _labels(endpoint: Endpoint) -> dict[str, str]:
    return dict(endpoint.labels)


def _troubles(endpoint: Endpoint) -> list[str]:
    return label_troubles(endpoint.labels)


def _switch(thing: Endpoint | Host) -> str:
    return hex_dpid(thing.switch)


class EndpointDoc(TypedDict, total=False):
    """An endpoint: one attachment of a container or bare host to a network."""

    key: Key
    endpointID: Annotated[str, field("Docker's endpoint id, or a name of your own.", of="id")]
    tenantName: TenantName
    networkName: Annotated[
        str,
        field(
            "Network that it is in.",
            default="",
            of="network",
            flags=("--network", "-s"),
            metavar="NETWORK",
            absent="required",
        ),
    ]
    ipAddress: Annotated[list[str], field("Its addresses: IPv4, then IPv6.", default=[], of="addresses")]
    macAddress: Annotated[
        str,
        field(
            "Its MAC address, aa:bb:cc:dd:ee:ff.",
            default="",
            of="mac",
            flags=("--mac", "-m"),
            metavar="MAC",
            absent="default: a made-up one",
        ),
    ]
    homingHost: Annotated[str, field("Host whose agent reports it.", default="", of="host")]
    switch: Annotated[
        str,
        field(
            "Its switch: datapath id, hexadecimal.",
            default="",
            of=_switch,
            flags=("--switch", "-w"),
            metavar="DPID",
            absent="required",
        ),
    ]
    portName: Annotated[
        str,
        field(
            "Its port of the switch, by name.",
            default="",
            of="port_name",
            flags=("--port-name", "-p"),
            metavar="PORT",
            absent="required",
        ),
    ]
    labels: Annotated[
        dict[str, str],
        field(
            "Label, for the selectors of services; repeat for more.",
            default={},
            of=_labels,
            flags=("--label", "-l"),
            metavar="KEY=VALUE",
            absent="default: none",
        ),
    ]
    weight: Annotated[
        int,
        field(
            "Its share of a service's new connections beside others'.",
            omit=1,
            low=1,
            high=MAX_WEIGHT,
            of="weight",
            flags=("--weight",),
            metavar="N",
            absent="default: the label netctl.weight, or 1",
        ),
    ]
    containerID: Annotated[str, field("Docker's id of its container.", default="", of="container_id")]
    containerName: Annotated[str, field("Docker's name of its container.", default="", of="container_name")]
    health: Annotated[
        str,
        field(
            "Result of Docker's health check; empty: the container has none.", default="", choices=HEALTHS, of="health"
        ),
    ]
    state: Annotated[str, field("State of its container.", default="running", choices=STATES, of="state")]
    origin: Annotated[str, field("How it became known.", choices=ORIGINS, of="origin")]
    primary: Annotated[
        bool,
        field(
            "Whether the container's kernel uses its address as source by default.",
            default=False,
            of="primary",
        ),
    ]
    noWayBack: Annotated[
        str,
        field("Why its address can't answer beyond its own network; empty: it can.", default="", of="no_way_back"),
    ]
    labelErrors: Annotated[
        list[str], told("What is wrong with its netctl labels.", of=_troubles)
    ]
    passed: Annotated[list[str], told("Keys of the services whose active check it passes.", of="passed")]


class HostDoc(TypedDict, total=False):
    """A host with an agent."""

    key: Key
    hostName: Annotated[str, field("Its name.", of="name")]
    switch: Annotated[str, field("Its switch: datapath id, 16 hexadecimal digits.", default="", of=_switch)]
    tunnelAddress: Annotated[
        str, field("Its tunnel endpoint: an IPv4 address.", default="", format="ipv4", of="tunnel_address")
    ]
    version: Annotated[str, field("Version of its agent.", default="", of="version")]
    datapathType: Annotated[
        str,
        field(
            "Datapath of its bridge: netdev (userspace) or system (kernel).",
            default="",
            choices=DATAPATH_TYPES,
            of="datapath_type",
        ),
    ]
    mtu: Annotated[int, field("MTU of its containers.", default=0, unit="bytes")]
    hostAddress: Annotated[str, told("Address at which its own containers see it.", format="ipv4", of="address")]
    controlPlane: Annotated[list[str], told("Listeners that containers never reach: tcp:ADDRESS:PORT.")]
    draining: Annotated[bool, told("Its providers get no new connections.", of="draining")]
    state: Annotated[str, told("up, degraded, down, draining; unknown: no leading controller answers.")]
    since: Annotated[str, told("When it entered that state: UTC, ISO 8601.")]
    reason: Annotated[str, told("Why it is in that state.")]
    connected: Annotated[bool, told("Whether its agent follows the change stream.")]
    lastHeartbeat: Annotated[float, told("Time since the last heartbeat of its agent.", unit="seconds")]
    appliedRevision: Annotated[int, told("Revision that its agent has applied.")]
    errors: Annotated[dict[str, str], told("What it could not apply, by subject.")]


class HostEndpointsDoc(TypedDict, total=False):
    """A host's state."""

    endpoints: Annotated[list[Any], field("All endpoints on the host.")]
    keepLeases: Annotated[list[str], field("Keys of the leases that it still needs.", default=[])]


class AppliedDoc(TypedDict, total=False):
    """A host's progress."""

    revision: Annotated[int, field("Revision that is applied.", low=0)]
    errors: Annotated[dict[str, str], field("What could not be applied, by subject.", default={})]


class LeaseRequestDoc(TypedDict, total=False):
    """A lease."""

    tenantName: Annotated[str, field("Tenant of the network.", default="")]
    networkName: Annotated[str, field("Network that the address is for.", default="")]
    ipAddress: Annotated[str, field("The address; empty: the lowest free one.", default="")]
    family: Annotated[int, field("IP version of any address: 4 or 6.")]
    hostName: Annotated[str, field("The host that asks.", default="")]


class SubnetRequestDoc(TypedDict, total=False):
    """A request for a subnet."""

    tenantName: Annotated[str, field("Tenant that it is for.", default=DEFAULT_TENANT)]
