"""A small model on one switch, used by the packet tables: two tenants that look alike, networks, services.

    port 1 c1   20.1.1.1   clients            port 6 c9  20.1.1.1  clients   (tenant blue)
    port 2 w1   10.1.1.1   web, tier=web      port 7 w9  10.1.1.1  web       (tenant blue), tier=web
    port 3 w2   10.1.1.2   web, tier=web      port 8 x1  30.1.1.1  island (no gateway)
    port 4 o1   10.1.1.3   web
    services in both tenants: app-svc, VIP 100.1.1.1, 8080:80:TCP and 5353:53:UDP, tier=web

`dual` is the same with IPv6 beside IPv4, but for the island; addresses are those of `tests.kit.wide`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Program
from ryu_apps.pipeline.dependents import owners
from tests.kit.wide import wide
from topology.model import Endpoint, Network, Object, Service, ServicePort, Tenant
from topology.snapshot import Model

DPID = 1
WEB = (("tier", "web"),)
PORTS = {f"p{n}": n for n in range(1, 9)}


def ip(text: str) -> int:
    """An address as its bits."""
    return int(ip_address(text))


def mac(port: int) -> int:
    """The MAC of the endpoint at a port."""
    return 0x020000000000 + port


def mac_text(port: int) -> str:
    """The same in text."""
    return mac(port).to_bytes(6, "big").hex(":")


def network(tenant: str, name: str, number: int, subnet: str, gateway: str | None) -> Network:
    """A network of the world."""
    net = IPv4Network(subnet)
    return Network(
        tenant, name, number, net, net[1], net[-2], IPv4Address(gateway) if gateway else None, tag=number
    )


def endpoint(name: str, tenant: str, net: str, port: int, address: str, **more: object) -> Endpoint:
    """An endpoint of the world, at port p<port>."""
    values: dict[str, object] = {"switch": DPID, "port_name": f"p{port}", **more}
    return Endpoint(name, tenant, net, port, (IPv4Address(address),), mac_text(port), **values)  # type: ignore[arg-type]


def service(tenant: str, number: int, ports: tuple[ServicePort, ...]) -> Service:
    """app-svc of a tenant."""
    return Service(tenant, "app-svc", number, "services", (IPv4Address("100.1.1.1"),), ports, WEB)


def objects() -> list[Object]:
    """All of the world."""
    out: list[Object] = [Tenant("default", 1), Tenant("blue", 2)]
    for n, tenant in enumerate(("default", "blue")):
        out += [
            network(tenant, "services", 1 + 10 * n, "100.1.1.0/24", None),
            network(tenant, "web", 2 + 10 * n, "10.1.1.0/24", "10.1.1.254"),
            network(tenant, "clients", 3 + 10 * n, "20.1.1.0/24", "20.1.1.254"),
            service(
                tenant,
                1 + n,
                (ServicePort(8080, 80, "TCP", 1 + 10 * n), ServicePort(5353, 53, "UDP", 2 + 10 * n)),
            ),
        ]
    out.append(network("default", "island", 4, "30.1.1.0/24", None))
    out += [
        endpoint("c1", "default", "clients", 1, "20.1.1.1"),
        endpoint("w1", "default", "web", 2, "10.1.1.1", labels=WEB),
        endpoint("w2", "default", "web", 3, "10.1.1.2", labels=WEB),
        endpoint("o1", "default", "web", 4, "10.1.1.3"),
        endpoint("c9", "blue", "clients", 6, "20.1.1.1"),
        endpoint("w9", "blue", "web", 7, "10.1.1.1", labels=WEB),
        endpoint("x1", "default", "island", 8, "30.1.1.1"),
    ]
    return out


def dual() -> list[Object]:
    """The world with IPv6."""
    return [with_ipv6(value) for value in objects()]


def with_ipv6(value: Object) -> Object:
    """The same with IPv6 beside IPv4."""
    if isinstance(value, Network) and value.name != "island":
        gateway = wide(str(value.gateway or ""))
        return replace(
            value, subnet6=IPv6Network(wide(str(value.subnet))), gateway6=IPv6Address(gateway) if gateway else None
        )
    if isinstance(value, Service):
        return replace(value, vips=(*value.vips, IPv6Address(wide(str(value.vips[0])))))
    if isinstance(value, Endpoint) and value.network != "island":
        return replace(value, addresses=(*value.addresses, IPv6Address(wide(str(value.addresses[0])))))
    return value


def model(extra: tuple[Object, ...] = (), without: tuple[str, ...] = ()) -> Model:
    """The world as a model, with more objects or without some (by key)."""
    return model_of([o for o in (*objects(), *extra) if o.key not in without])


def model_of(everything: Iterable[Object]) -> Model:
    """A model of these objects."""
    out = Model()
    out.load(1, everything)
    return out


def program(of: Model, ports: dict[str, int] | None = None, *, sctp: bool = False) -> Program:
    """Everything that the model wants on the switch."""
    context = Context(of, DPID, PORTS if ports is None else ports, sctp)
    parts = [compile_owner(context, owner) for owner in owners(of)]
    return Program(tuple(f for p in parts for f in p.flows), tuple(g for p in parts for g in p.groups))
