"""The documents of tenants, networks and services, by the names of Contiv's API: what each holds, stated once.

Checking, defaults, the flags and help of `netctl`, and OpenAPI follow from these declarations (`contract`). Those of
hosts and endpoints are in `reports`; what only answers say of the network is in `answers`.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from topology.contract import field, told
from topology.model import DEFAULT_DRAIN, Check, Service
from topology.options import (
    AFFINITY_MODES,
    CHECK_PROTOCOLS,
    MAX_AFFINITY,
    MAX_COUNT,
    MAX_DRAIN,
    MAX_INTERVAL,
    MIN_INTERVAL,
)
from topology.validate import ENCAPS, NW_TYPES, subnet_text

DEFAULT_TENANT = "default"
AFFINITY = "Session affinity: a client stays with its provider"
CHECKS = "Active checks: every provider is tried by its host"

Key = Annotated[str, field("TENANT:NAME, or the name alone where there is no tenant.", of="key")]
Links = Annotated[Any, told("References to other objects, as Contiv has them.")]
_Linked = TypedDict("_Linked", {"link-sets": Links, "links": Links}, total=False)  # no name of the language's
TenantName = Annotated[str, field("Tenant that it belongs to.", of="tenant")]


class TenantDoc(_Linked, total=False):
    """A tenant."""

    key: Key
    tenantName: Annotated[str, field("Its name.", of="name")]
    defaultNetwork: Annotated[str, field("Contiv's network for containers without one; has no effect.")]


class StreamTenantDoc(TenantDoc, total=False):
    """A tenant in the change stream."""

    number: Annotated[int, told("Its conntrack zone.", of="number")]


class NetworkDoc(_Linked, total=False):
    """A network, as asked for."""

    key: Key
    tenantName: TenantName
    networkName: Annotated[str, field("Its name.", of="name")]
    subnet: Annotated[
        str,
        field(
            "IPv4 subnet; of a range, only its addresses are handed out.",
            default="",
            format="subnet",
            of=subnet_text,
            flags=("--subnet", "-s"),
            metavar="A.B.C.D[-E.F.G.H]/LEN",
            absent="required",
        ),
    ]
    gateway: Annotated[
        str,
        field(
            "Address of the way to the tenant's other networks.",
            default="",
            format="ipv4",
            of="gateway",
            flags=("--gateway", "-g"),
            metavar="A.B.C.D",
            absent="default: none",
        ),
    ]
    ipv6Subnet: Annotated[
        str,
        field(
            "IPv6 subnet beside the IPv4 one, /48 to /126: fd00:1::/64.",
            default="",
            format="subnet6",
            of="subnet6",
            flags=("--subnetv6", "-s6"),
            metavar="ADDRESS/LEN",
            absent="default: none",
        ),
    ]
    ipv6Gateway: Annotated[
        str,
        field(
            "IPv6 address of that way: fd00:1::1.",
            default="",
            format="ipv6",
            of="gateway6",
            flags=("--gatewayv6", "-g6"),
            metavar="ADDRESS",
            absent="default: none",
        ),
    ]
    nat: Annotated[
        bool,
        field(
            "Let containers reach what their host reaches, by IPv4; needs --gateway.",
            default=False,
            of="nat",
            flags=("--nat",),
            absent="default: off",
        ),
    ]
    natHost: Annotated[
        bool,
        field(
            "Let them reach their host's own ports as well, but never those of netctl; needs --nat.",
            default=False,
            of="nat_host",
            flags=("--nat-host",),
            absent="default: off, published ports only",
        ),
    ]
    internal: Annotated[
        bool,
        field(
            "Close it in both directions: its containers and VIPs are for this network alone.",
            default=False,
            of="internal",
            flags=("--internal",),
            absent="default: off",
        ),
    ]
    encap: Annotated[
        str,
        field(
            "Encapsulation between hosts.",
            default="vxlan",
            choices=tuple(ENCAPS),
            of="encap",
            flags=("--encap", "-e"),
        ),
    ]
    pktTag: Annotated[
        int,
        field(
            "VXLAN network identifier or VLAN number.",
            default=0,
            of="requested_tag",
            flags=("--pkt-tag", "-p"),
            metavar="N",
            absent="default: the lowest free one",
        ),
    ]
    nwType: Annotated[
        str,
        field(
            "For containers (data) or for the hosts themselves (infra).",
            default="data",
            choices=NW_TYPES,
            of="nw_type",
            flags=("--nw-type", "-n"),
        ),
    ]
    cfgdTag: Annotated[
        str,
        field(
            "A mark of your own.",
            default="",
            of="cfgd_tag",
            flags=("--nw-tag", "-tag"),
            metavar="TAG",
            absent="default: none",
        ),
    ]
    dockerIPAM: Annotated[
        bool, field("Docker's own IPAM driver gives its containers their addresses.", default=False, of="docker_ipam")
    ]


class StreamNetworkDoc(NetworkDoc, total=False):
    """A network in the change stream: with what an agent needs to make its Docker network."""

    number: Annotated[int, told("Its number in the pipeline's registers.", of="number")]
    dockerName: Annotated[str, told("Name of the Docker network that stands for it.", of="docker_name")]


class HealthCheckDoc(TypedDict, total=False):
    """A health check."""

    protocol: Annotated[
        str,
        field(
            "A provider is in while it takes a connection (tcp) or answers a GET with 200 to 399 (http).",
            choices=CHECK_PROTOCOLS,
            of="protocol",
            flags=("--check",),
            absent="default: none",
            group=CHECKS,
        ),
    ]
    path: Annotated[
        str,
        field(
            "What http asks for.",
            format="path",
            of="path",
            flags=("--check-path",),
            metavar="/PATH",
            absent="default: /",
            group=CHECKS,
        ),
    ]
    interval: Annotated[
        int,
        field(
            "From one try to the next.",
            default=Check().interval,
            low=MIN_INTERVAL,
            high=MAX_INTERVAL,
            unit="seconds",
            of="interval",
            flags=("--check-interval",),
            group=CHECKS,
        ),
    ]
    timeout: Annotated[
        int,
        field(
            "How long a try may take, less than the interval.",
            unit="seconds",
            of="timeout",
            flags=("--check-timeout",),
            absent=f"default: {Check().timeout}",
            group=CHECKS,
        ),
    ]
    rise: Annotated[
        int,
        field(
            "Passes in a row that bring a provider in.",
            default=Check().rise,
            low=1,
            high=MAX_COUNT,
            of="rise",
            flags=("--check-rise",),
            metavar="N",
            group=CHECKS,
        ),
    ]
    fall: Annotated[
        int,
        field(
            "Failures in a row that take it out.",
            default=Check().fall,
            low=1,
            high=MAX_COUNT,
            of="fall",
            flags=("--check-fall",),
            metavar="N",
            group=CHECKS,
        ),
    ]


def _selectors(service: Service) -> list[str]:
    return [f"{key}={value}" for key, value in service.selectors]


def _affinity_mode(service: Service) -> str:
    return service.affinity_mode if service.affinity else ""


class ServiceDoc(_Linked, total=False):
    """A service, as asked for; in lists also what it is, from ``serviceVip`` on."""

    key: Key
    tenantName: TenantName
    serviceName: Annotated[str, field("Its name.", of="name")]
    networkName: Annotated[
        str,
        field(
            "Network to take its address from.",
            default="",
            of="network",
            flags=("--network", "-s"),
            metavar="NETWORK",
            absent="required",
        ),
    ]
    selectors: Annotated[
        list[str],
        field(
            "Label that containers must have to be its providers; repeat for more.",
            default=[],
            of=_selectors,
            flags=("--selector", "-l"),
            metavar="KEY=VALUE",
            absent="required",
        ),
    ]
    ports: Annotated[
        list[str],
        field(
            "Its port, its providers' port, TCP, UDP or SCTP: 80:8080:TCP; repeat for more.",
            default=[],
            format="port",
            of="ports",
            flags=("--port", "-p"),
            metavar="SERVICE:PROVIDER:PROTO",
            absent="required",
        ),
    ]
    ipAddress: Annotated[
        str,
        field(
            "Its address (VIP).",
            default="",
            format="ipv4",
            of="requested_vip",
            flags=("--preferred-ip", "-ip"),
            metavar="A.B.C.D",
            absent="default: the lowest free one",
        ),
    ]
    ipv6Address: Annotated[
        str,
        field(
            "Its IPv6 address (VIP).",
            default="",
            format="ipv6",
            of="requested_vip6",
            flags=("--preferred-ipv6", "-ip6"),
            metavar="ADDRESS",
            absent="default: the lowest free one, if any",
        ),
    ]
    publish: Annotated[
        list[str],
        field(
            "Port of every host that leads to one of its ports: 80:8080:TCP; repeat for more.",
            default=[],
            format="port",
            of="published",
            flags=("--publish",),
            metavar="HOST:SERVICE[:PROTO]",
            absent="default: none",
        ),
    ]
    drainTimeout: Annotated[
        int,
        field(
            "How long open connections of a provider that is being stopped may still take.",
            default=DEFAULT_DRAIN,
            omit=DEFAULT_DRAIN,
            low=0,
            high=MAX_DRAIN,
            unit="seconds",
            of="drain",
            flags=("--drain-timeout",),
        ),
    ]
    sessionAffinity: Annotated[
        int,
        field(
            "How long it stays.",
            default=0,
            absent="default: 0, it doesn't",
            low=0,
            high=MAX_AFFINITY,
            unit="seconds",
            of="affinity",
            flags=("--session-affinity",),
            group=AFFINITY,
        ),
    ]
    affinityMode: Annotated[
        str,
        field(
            "Since its last packet (idle) or since its first (absolute).",
            choices=AFFINITY_MODES,
            of=_affinity_mode,
            flags=("--affinity-mode",),
            absent="default: idle",
            group=AFFINITY,
        ),
    ]
    healthCheck: Annotated[HealthCheckDoc, field("How its providers are tried.", of="check")]
    serviceVip: Annotated[str, told("Its VIP.")]
    serviceVip6: Annotated[str, told("Its IPv6 VIP; absent: its network has no IPv6.")]
    numProviders: Annotated[int, told("How many containers its selectors select.")]
    healthyProviders: Annotated[int, told("How many of them serve; absent: no leading controller answers.")]
    noWayBack: Annotated[list[str], told("Why providers are not healthy that could not answer: a line each.")]
    labelErrors: Annotated[list[str], told("What is wrong with labels of its providers that are for netctl.")]


class StreamServiceDoc(ServiceDoc, total=False):
    """A service in the change stream: with what agents need to publish it."""

    publishedAddress: Annotated[str, told("Where hosts send what comes to its published ports.", format="ipv4")]
