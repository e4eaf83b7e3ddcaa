"""Beyond the switch: what passes between the host and its containers, and by the host's way the world.

The bridge's own port (LOCAL) joins them; the host's kernel routes and translates, the switch says what may pass:

- The host reaches the containers of networks with a gateway, and the VIPs of all networks that it has a route to.
  What it begins is noted in the tenant's second conntrack zone; a container may answer, and nothing else.
- From a network with nat, a connection to what no network of the tenant has leaves with its sender's hidden address,
  which no other endpoint has, whatever the tenants' subnets. The kernel gives it the host's own. Networks with natHost
  have hidden addresses in a range of their own: by that the kernel knows whom the host's own ports are open to.
- What comes to a published port of the host, the kernel sends to the service's published address: one more VIP.
  `ingress` sees to providers on other hosts.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Outgoing
from ryu_apps.pipeline.explain import Reader, port_set
from ryu_apps.pipeline.family import V4, Family, destination, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import CT_NEW, CT_RPL, CT_TRK
from ryu_apps.pipeline.inputs import EVERY_HOST, EVERY_NETWORK, HOSTS_OF_NETWORKS, ITS_NETWORK, ITS_PLACE, ITS_VIPS
from ryu_apps.pipeline.tables import (
    HAIRPIN_ZONES,
    HOST_MAC,
    HOST_NETWORK,
    NETWORK,
    NOTED,
    OUTSIDE_NETWORK,
    PORT,
    ROUTER_MAC,
    TENANT,
    FlowKind,
    Priority,
    Table,
)
from ryu_apps.pipeline.terms import UNTRACKED, known
from ryu_apps.pipeline.values import LOCAL, LOCAL_IN_REGISTER, Action, Ct, DecTtl, Flow, Match, Nat, SetField, match
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint, Network, Prefix, Service
from topology.reach import HIDDEN, HIDDEN_BASE, HIDDEN_HOST_BASE, PUBLISHED, reached

# a way out, and published ports, are IPv4's alone
IP = {"eth_type": V4.eth_type}
NO_ANSWER = (CT_TRK, CT_TRK | CT_RPL)
# this host; loopback; link-local; multicast and reserved, the hidden and published addresses among them
NEVER = ((0x00000000, 0xFF000000), (0x7F000000, 0xFF000000), (0xA9FE0000, 0xFFFF0000), (0xE0000000, 0xE0000000))

TO_THE_HOST: tuple[Action, ...] = (
    DecTtl(),
    SetField("eth_src", ROUTER_MAC),
    SetField("eth_dst", HOST_MAC),
    SetField(PORT, LOCAL_IN_REGISTER),
)


def for_switch(ctx: Context) -> Iterator[Flow]:
    """What does not depend on one network or service alone."""
    if not ctx.host_addresses:
        return
    for family, own in each(ctx.host_addresses):
        yield _flow(
            Table.CLASSIFY,
            Priority.NORMAL,
            match(in_port=LOCAL, eth_src=HOST_MAC, eth_type=family.eth_type),
            SetField(NETWORK, HOST_NETWORK),
            goto=Table.ARRIVE,
        )
        yield from _of_the_host(ctx, family, own)
        to_host = {"eth_type": family.eth_type, "eth_dst": ROUTER_MAC, family.dst: own}
        yield _flow(Table.ROUTE, Priority.TELL, match(**to_host), *TO_THE_HOST, goto=Table.REPLY)
    yield from _to_the_world()
    # no answer of a provider's service port, be it that it was asked for in conntrack, or that it can't be one
    port = {PORT: LOCAL_IN_REGISTER}
    yield _flow(Table.REPLY, Priority.FALLBACK, match(**port), goto=Table.LEAVE)
    yield _flow(Table.RESTORE, Priority.FALLBACK, match(**port, ct_state=NO_ANSWER), goto=Table.LEAVE)
    # translated, so it belongs to a connection, also where it does not fit it: see `MISFIT`
    yield _flow(Table.RESTORE, Priority.NORMAL, match(**port | IP, ipv4_src=_masked(PUBLISHED)), goto=Table.DELIVER)
    # out of the second zone: an answer to the host
    yield _flow(Table.DEPART, Priority.EXACT, match(ct_state=known(CT_RPL)), goto=Table.DELIVER)


def _of_the_host(ctx: Context, family: Family, own: int) -> Iterator[Flow]:
    """To all that the host has routes to; and back, from what could answer."""
    kind = {"eth_type": family.eth_type}
    networks = _reached(ctx, family)
    for network, subnet in networks:
        yield _flow(
            Table.ARRIVE,
            Priority.NORMAL,
            match(**kind | {family.src: own}, **{family.dst: _masked(subnet)}),
            SetField(TENANT, ctx.zone(network.tenant)),
            goto=Table.SERVICE,
        )
        if family.gateway(network) is not None and not _has_nat(network, family):
            yield _leave(ctx, network, match(**kind | {NETWORK: network.number, family.dst: own}))
    for tenant in _zones(ctx, networks):
        # straight to a container: noted, so that its answers are known as such
        yield _flow(
            Table.ROUTE,
            Priority.MORE_EXACT,
            match(**kind | {TENANT: tenant, NETWORK: HOST_NETWORK}, ct_state=UNTRACKED),
            Ct(tenant | HAIRPIN_ZONES, table=Table.ROUTE, commit=True, exec=(SetField("ct_mark", NOTED),)),
        )


def _reached(ctx: Context, family: Family) -> list[tuple[Network, Prefix]]:
    """The networks that the host has its routes to."""
    open_ = (n for n in ctx.model.networks.values() if not n.internal)
    subnets = ((n, s) for n in open_ for s in n.subnets if s.version == family.version)
    return reached((n.number, s, (n, s)) for n, s in subnets)


def _zones(ctx: Context, networks: list[tuple[Network, Prefix]]) -> list[int]:
    return sorted({ctx.zone(network.tenant) for network, _ in networks})


def noted(ctx: Context) -> Iterator[tuple[Family, int]]:
    """The tenants whose containers the host reaches straight, in each family."""
    for family, _ in each(ctx.host_addresses):
        yield from ((family, zone) for zone in _zones(ctx, _reached(ctx, family)))


def _to_the_world() -> Iterator[Flow]:
    """What no container has: to the host; what may pass is decided in `reply`, `restore` and `leave`."""
    to_router = IP | {"eth_dst": ROUTER_MAC}
    for number, mask in NEVER:
        yield _flow(Table.ROUTE, Priority.NOWHERE, match(**to_router, ipv4_dst=(number, mask)))
    yield _flow(Table.ROUTE, Priority.FALLBACK, match(**to_router), *TO_THE_HOST, goto=Table.REPLY)
    # out of the second zone, translated
    yield _flow(Table.DEPART, Priority.EXACT, match(**IP, ipv4_src=_masked(HIDDEN)), goto=Table.DELIVER)


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """An address of the network that nobody has is nowhere else. With nat, all of the network may leave."""
    if ctx.host is None:
        return
    tenant = IP | {TENANT: ctx.zone(network.tenant)}
    yield _flow(Table.ROUTE, Priority.REFUSE, match(**tenant, ipv4_dst=_masked(network.subnet)))
    if network.nat:
        yield _leave(ctx, network, match(**IP | {NETWORK: network.number}))


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """In a network with nat: its hidden address out, and back."""
    if not _leaves(ctx, endpoint):
        return
    zone = ctx.zone(endpoint.tenant)
    second = zone | HAIRPIN_ZONES
    hidden = outward(ctx, endpoint)
    yield _flow(
        Table.DEPART,
        Priority.NORMAL,
        match(**IP | {TENANT: zone}, ct_state=known(CT_NEW), ipv4_src=V4.of(endpoint.addresses) or 0),
        Ct(second, table=Table.DELIVER, commit=True, nat=Nat(src=hidden)),
    )
    yield _flow(
        Table.ARRIVE,
        Priority.NORMAL,
        match(**IP, ipv4_dst=hidden),
        SetField(TENANT, zone),
        Ct(second, table=Table.HAIRPIN, nat=Nat()),
    )


def outward(ctx: Context, endpoint: Endpoint) -> int:
    """The address that the host sees it by. It says whether the host's own ports are open to it."""
    base = HIDDEN_HOST_BASE if ctx.network_of(endpoint).nat_host else HIDDEN_BASE
    return int(base) + endpoint.number


def outgoing(ctx: Context, endpoint: Endpoint) -> Iterator[Outgoing]:
    """The endpoint's connections to the outside, while it is alive."""
    own = V4.of(endpoint.addresses)
    if endpoint.alive and own is not None and _leaves(ctx, endpoint):
        yield Outgoing(ctx.zone(endpoint.tenant) | HAIRPIN_ZONES, own, outward(ctx, endpoint))


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """What the host sends to the published address: as to a VIP. What is not its own came from outside."""
    if not service.published or ctx.host is None or ctx.host.address is None:
        return
    zone = ctx.zone(service.tenant)
    to_service = IP | {"ipv4_dst": int(service.published_address)}
    own = {"ipv4_src": int(ctx.host.address)}
    for priority, more, network in ((Priority.NORMAL, {}, OUTSIDE_NETWORK), (Priority.SPECIFIC, own, HOST_NETWORK)):
        yield _flow(
            Table.ARRIVE,
            priority,
            match(**to_service | more),
            SetField(TENANT, zone),
            SetField(NETWORK, network),
            Ct(zone, table=Table.BALANCE, nat=Nat()),
        )


def _leaves(ctx: Context, endpoint: Endpoint) -> bool:
    return ctx.host is not None and ctx.network_of(endpoint).nat and ctx.port_of(endpoint) is not None


def _has_nat(network: Network, family: Family) -> bool:
    return network.nat and family is V4


def _leave(ctx: Context, network: Network, what: Match) -> Flow:
    second = ctx.zone(network.tenant) | HAIRPIN_ZONES
    return _flow(Table.LEAVE, Priority.NORMAL, what, Ct(second, table=Table.DEPART, nat=Nat()))


def _flow(table: Table, priority: int, what: Match, *actions: Action, goto: Table | None = None) -> Flow:
    return Flow(table, priority, what, actions, goto=goto, kind=FlowKind.OUTSIDE)


def _masked(subnet: Prefix) -> tuple[int, int]:
    return int(subnet.network_address), int(subnet.netmask)


def _to_host(reader: Reader, step: Step) -> str:
    to, port = destination(step.packet), port_set(step)
    if port is None:
        return ""
    whose = "is the host's" if to in reader.ctx.host_addresses else "is outside"
    return f"{to} {whose} → {reader.port(port)}"


FEATURE = Feature(
    "outside",
    (FlowKind.OUTSIDE,),
    looks_at=(*EVERY_HOST, *EVERY_NETWORK, *HOSTS_OF_NETWORKS, *ITS_NETWORK, *ITS_PLACE, *ITS_VIPS),
    switch=for_switch,
    network=for_network,
    endpoint=for_endpoint,
    endpoint_connections=outgoing,
    service=for_service,
    words={
        (FlowKind.OUTSIDE, Table.ROUTE): _to_host,
    },
)
