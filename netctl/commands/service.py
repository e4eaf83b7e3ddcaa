"""``netctl service``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import click

from netctl.client import key_of
from netctl.commands.base import (
    Listing,
    Target,
    flag,
    list_flags,
    name_argument,
    noun,
    number_flag,
    of_tenant,
    pass_target,
    tenant_flag,
)
from netctl.documents import HealthCheckDoc, ServiceDoc
from netctl.output import say, say_json

AFFINITY = "Session affinity: a client stays with its provider"
CHECKS = "Active checks: every provider is tried by its host"

service = noun(
    "service",
    "Services: an address and ports, in front of the containers whose labels match.",
    counters="stats",
)


def _row(doc: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        doc.get("serviceName", ""),
        doc.get("tenantName", ""),
        doc.get("networkName", ""),
        ",".join(doc[field] for field in ("serviceVip", "serviceVip6") if doc.get(field)),
        ",".join(doc.get("ports", [])),
        _providers(doc),
        f"[{' '.join(doc.get('selectors', []))}]",
        ",".join(doc.get("publish", [])),
    )


def _providers(doc: Mapping[str, Any]) -> str:
    counted = f"{doc.get('healthyProviders', '?')}/{doc.get('numProviders', 0)}"
    reasons = doc.get("noWayBack", [])
    counted += f", no way back: {', '.join(reasons)}" if reasons else ""
    return ", ".join([counted, *doc.get("labelErrors", [])])


LISTING = Listing(
    order=("tenantName", "serviceName"),
    columns=("ServiceName", "Tenant", "Network", "VIP", "Ports", "Providers", "Selectors", "Published"),
    row=_row,
)


@service.command()
@name_argument("Service name")
@tenant_flag
@flag("--network", "-s", metavar="NETWORK", text="Network to take its address from.", absent="required")
@flag(
    "--selector",
    "-l",
    metavar="KEY=VALUE",
    text="Label that containers must have to be its providers; repeat for more.",
    absent="required",
    multiple=True,
)
@flag(
    "--port",
    "-p",
    metavar="SERVICE:PROVIDER:PROTO",
    text="Its port, its providers' port, TCP, UDP or SCTP: 80:8080:TCP; repeat for more.",
    absent="required",
    multiple=True,
)
@flag(
    "--preferred-ip",
    "-ip",
    metavar="A.B.C.D",
    text="Its address (VIP).",
    absent="default: the lowest free one",
)
@flag(
    "--preferred-ipv6",
    "-ip6",
    metavar="ADDRESS",
    text="Its IPv6 address (VIP).",
    absent="default: the lowest free one, if any",
)
@flag(
    "--publish",
    metavar="HOST:SERVICE[:PROTO]",
    text="Port of every host that leads to one of its ports: 80:8080:TCP; repeat for more.",
    absent="default: none",
    multiple=True,
)
@number_flag(
    "--drain-timeout",
    metavar="SECONDS",
    text="How long open connections of a provider that is being stopped may still take, 0 to 3600.",
    absent="default: 30",
)
@number_flag(
    "--session-affinity",
    metavar="SECONDS",
    text="How long it stays, 1 to 65535.",
    absent="default: 0, it doesn't",
    group=AFFINITY,
)
@flag(
    "--affinity-mode",
    metavar="idle|absolute",
    text="Since its last packet (idle) or since its first (absolute).",
    absent="default: idle",
    group=AFFINITY,
)
@flag(
    "--check",
    metavar="tcp|http",
    text="A provider is in while it takes a connection (tcp) or answers a GET with 200 to 399 (http).",
    absent="default: none",
    group=CHECKS,
)
@flag("--check-path", metavar="/PATH", text="What http asks for.", absent="default: /", group=CHECKS)
@number_flag(
    "--check-interval",
    metavar="SECONDS",
    text="From one try to the next, 2 to 3600.",
    absent="default: 5",
    group=CHECKS,
)
@number_flag(
    "--check-timeout",
    metavar="SECONDS",
    text="How long a try may take, less than the interval.",
    absent="default: 2",
    group=CHECKS,
)
@number_flag(
    "--check-rise",
    metavar="N",
    text="Passes in a row that bring a provider in, 1 to 100.",
    absent="default: 2",
    group=CHECKS,
)
@number_flag(
    "--check-fall",
    metavar="N",
    text="Failures in a row that take it out, 1 to 100.",
    absent="default: 3",
    group=CHECKS,
)
@pass_target
def create(
    target: Target,
    /,
    *,
    name: str,
    tenant: str,
    network: str,
    selector: tuple[str, ...],
    port: tuple[str, ...],
    preferred_ip: str,
    preferred_ipv6: str,
    publish: tuple[str, ...],
    drain_timeout: int | None,
    session_affinity: int | None,
    affinity_mode: str,
    check: str,
    **checking: Any,
) -> None:
    """Create a service, or change one: it becomes exactly what the flags say.

    \b
    netctl service create web --network services --port 80:8080:TCP \\
        --selector tier=web --selector release=stable
    """
    doc: ServiceDoc = {
        "tenantName": tenant,
        "serviceName": name,
        "networkName": network,
        "selectors": list(selector),
        "ports": list(port),
    }
    if preferred_ip:
        doc["ipAddress"] = preferred_ip
    if preferred_ipv6:
        doc["ipv6Address"] = preferred_ipv6
    if publish:
        doc["publish"] = list(publish)
    if drain_timeout is not None:
        doc["drainTimeout"] = drain_timeout
    if session_affinity is not None:
        doc["sessionAffinity"] = session_affinity
    if affinity_mode:
        doc["affinityMode"] = affinity_mode
    health_check = _health_check(check, checking)
    if health_check is not None:
        doc["healthCheck"] = health_check
    with target.connect() as client:
        client.put_service(doc)
    say(f"Creating ServiceLB {key_of(tenant, name)}")


def _health_check(protocol: str, options: Mapping[str, Any]) -> HealthCheckDoc | None:
    """The check that the flags ask for; ``options`` are the values of the flags ``--check-…`` by name."""
    given = {
        name.removeprefix("check_"): value for name, value in options.items() if value not in (None, "")
    }
    if given and not protocol:
        raise click.UsageError(f"--check-{next(iter(given))} needs --check tcp or --check http")
    return cast(HealthCheckDoc, {"protocol": protocol, **given}) if protocol else None


@service.command()
@list_flags
@pass_target
def ls(target: Target, tenant: str, every: bool, as_json: bool, quiet: bool) -> None:
    """List services; Providers: healthy/all."""
    with target.connect() as client:
        docs = of_tenant(client, client.services(), tenant, every)
    LISTING.show(docs, as_json=as_json, quiet=quiet)


@service.command()
@name_argument("Service name")
@tenant_flag
@pass_target
def inspect(target: Target, name: str, tenant: str) -> None:
    """Show all about a service, as JSON: its address and providers too."""
    with target.connect() as client:
        say_json(client.inspect("serviceLBs", key_of(tenant, name)))


@service.command()
@name_argument("Service name")
@tenant_flag
@pass_target
def rm(target: Target, name: str, tenant: str) -> None:
    """Remove a service."""
    with target.connect() as client:
        client.delete_service(key_of(tenant, name))
    say(f"Deleting ServiceLB {key_of(tenant, name)}")
