"""A published port of one host, a provider on another: the answer goes back by the host that its client came in by.

    client ─► host a ═(tunnel)═► host b ─► provider     balanced and translated at a, noted at b
    client ◄─ host a ◄═(tunnel)═ host b ◄─ provider     looked up at b, translated back at a

The provider sees the client's own address, so its answer does not say where to. What a sends on from outside has a MAC
that says so, with a's number in it. At b it goes through conntrack, which notes that number with the connection: it is
sent to an address that stands for the provider and the host that it came in by, and translated from there, as what
goes straight to a provider is (`translate`). So a client that has one source port to two hosts gets two connections
(the addresses are of eight kinds, by the low bits of a host's number; between two hosts of one kind the later wins).
Each packet notes it anew: a connection that b has forgotten, or that comes in by another host now, is found by its next
packet. Errors are not translated at b, for they are about what a has sent; nor are fragments: what sets an address in
one spoils two bytes of a datagram (Open vSwitch takes them for UDP's checksum). Those are noted as they are, in the
tenant's second zone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ryu_apps.pipeline.context import Context, Translation, mac_int
from ryu_apps.pipeline.family import V4
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import CT_INV
from ryu_apps.pipeline.inputs import (
    EVERY_HOST,
    HOSTS_OF_NETWORKS,
    ITS_ENDPOINTS,
    ITS_NETWORK,
    ITS_PLACE,
    ITS_SERVICES,
    PATHS_OF_NETWORKS,
    PUBLISHED_BY_IT,
    PUBLISHED_IN_IT,
)
from ryu_apps.pipeline.tables import (
    HAIRPIN_ZONES,
    INGRESS_BIT,
    INGRESS_MAC,
    INGRESS_MACS,
    NETWORK,
    OUTSIDE_NETWORK,
    PORT,
    ROUTER_MAC,
    TENANT,
    FlowKind,
    Priority,
    Table,
)
from ryu_apps.pipeline.terms import FRAGMENT, PROTOCOLS, UNTRACKED, Terms, known
from ryu_apps.pipeline.values import (
    LOCAL_IN_REGISTER,
    Action,
    Ct,
    DecTtl,
    Flow,
    Match,
    Move,
    Nat,
    SetField,
    match,
)
from ryu_apps.pipeline.ways import vni
from topology.model import Endpoint, Network
from topology.reach import INGRESS, TUNNEL_PORT

IP: Terms = {"eth_type": V4.eth_type}
KIND_BITS = 3  # of a host's number, in an ingress address; with an endpoint's 24 they fill it
KINDS = (1 << KIND_BITS) - 1
FROM_HOST: Terms = IP | {"eth_src": INGRESS_MACS}
MARKED = (INGRESS_BIT, INGRESS_BIT)
TO_HOST: Terms = {PORT: LOCAL_IN_REGISTER}
_MARK = (Move("eth_src", "ct_mark", bits=16),)


def ingress_address(endpoint: Endpoint) -> int:
    """The first of the addresses that stand for a provider."""
    return int(INGRESS.network_address) + (endpoint.number << KIND_BITS)


def for_switch(ctx: Context) -> Iterator[Flow]:
    """What came in by another host and is no packet to a service's port, an error say: on to the provider."""
    if _tunnel(ctx) is not None:
        yield _flow(Table.ARRIVE, Priority.FALLBACK, match(**FROM_HOST), goto=Table.ROUTE)


def for_network(ctx: Context, network: Network) -> Iterator[Flow]:
    """Where providers of published services are: what comes in by other hosts, and the ways back to them."""
    port = _tunnel(ctx)
    if port is None or not _has_providers_here(ctx, network):
        return
    yield _flow(
        Table.CLASSIFY,
        Priority.SPECIFIC,
        match(in_port=port, tunnel_id=vni(network), **FROM_HOST),
        SetField(TENANT, ctx.zone(network.tenant)),
        SetField(NETWORK, network.number),
        goto=Table.ARRIVE,
    )
    back = TO_HOST | {NETWORK: network.number}
    for host in sorted(ctx.model.hosts.values(), key=lambda h: h.name):
        way = ctx.way(host.switch)
        if way is not None and host.number:
            marked = match(**back, ct_mark=INGRESS_BIT | host.number)
            yield _flow(
                Table.DELIVER, Priority.EXACT, marked, SetField("eth_dst", ROUTER_MAC), *way.actions(network)
            )
    # what was noted as it is
    second = Ct(ctx.zone(network.tenant) | HAIRPIN_ZONES, table=Table.DEPART, nat=Nat())
    yield _flow(Table.LEAVE, Priority.REFUSE, match(**IP, **{NETWORK: network.number}), second)
    # by a host that is gone: its client's answer is not this host's to give
    yield _flow(Table.DELIVER, Priority.REFUSE_FIRST, match(**back, ct_mark=MARKED))


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For a provider of a published service: at its own host, or at those that it is reached from."""
    own, ports = V4.of(endpoint.addresses), _ports(ctx, endpoint)
    if own is None or not ports or _tunnel(ctx) is None:
        return
    if ctx.port_of(endpoint) is not None:
        yield from _in(ctx, endpoint, own, ports)
        yield from _back(ctx, endpoint, own)
    else:
        yield from _on(ctx, endpoint, own)


def noted(ctx: Context, endpoint: Endpoint) -> int | None:
    """The address of a provider here that clients reach by other hosts; None: it is no such provider."""
    if _tunnel(ctx) is None or ctx.port_of(endpoint) is None or not _ports(ctx, endpoint):
        return None
    return V4.of(endpoint.addresses)


def _on(ctx: Context, endpoint: Endpoint, own: int) -> Iterator[Flow]:
    """Routed here, from outside, to a provider elsewhere: as `route` does, with the MAC that says so."""
    send, host = ctx.onward(endpoint), ctx.host
    if send and host is not None and V4.gateway(ctx.network_of(endpoint)) is not None:
        came = IP | {TENANT: ctx.zone(endpoint.tenant), NETWORK: OUTSIDE_NETWORK}
        yield _flow(
            Table.ROUTE,
            Priority.SPECIFIC,
            match(**came, eth_dst=ROUTER_MAC, ipv4_dst=own),
            DecTtl(),
            SetField("eth_src", INGRESS_MAC + host.number),
            SetField("eth_dst", mac_int(endpoint.mac)),
            *send,
        )


def _in(ctx: Context, endpoint: Endpoint, own: int, ports: list[tuple[str, int]]) -> Iterator[Flow]:
    """Noted, whatever conntrack knows of it, and translated."""
    zone, address = ctx.zone(endpoint.tenant), ingress_address(endpoint)
    note = (
        SetField("ipv4_dst", address),
        Move("eth_src", "ipv4_dst", bits=KIND_BITS),
        Ct(zone, table=Table.BALANCE, commit=True, nat=Nat(dst=own), exec=_MARK),
    )
    to_own = FROM_HOST | {TENANT: zone, "ipv4_dst": own}
    for protocol, target in ports:
        number, name = PROTOCOLS[protocol]
        what = match(**to_own | {"ip_proto": number, f"{name}_dst": target})
        yield _flow(Table.ARRIVE, Priority.NORMAL, what, *note)
    as_it_is = Ct(zone | HAIRPIN_ZONES, table=Table.ROUTE, commit=True, exec=_MARK)
    yield _flow(Table.ARRIVE, Priority.NORMAL, match(**to_own, ip_frag=FRAGMENT), as_it_is)
    # what conntrack makes no sense of is for the provider to judge: see `translate`
    yield _flow(
        Table.BALANCE,
        Priority.MOST_EXACT,
        match(**IP, **{TENANT: zone}, ipv4_dst=any_kind(address), ct_state=known(CT_INV)),
        SetField("ipv4_dst", own),
        goto=Table.ROUTE,
    )


def _back(ctx: Context, endpoint: Endpoint, own: int) -> Iterator[Flow]:
    """Its answers get its own address back, its errors and fragments keep it; `deliver` has the way."""
    zone, address = ctx.zone(endpoint.tenant), ingress_address(endpoint)
    tenant = IP | {TENANT: zone}
    yield _flow(
        Table.RESTORE,
        Priority.NORMAL,
        match(**tenant, ipv4_src=any_kind(address)),
        SetField("ipv4_src", own),
        goto=Table.DELIVER,
    )
    sent = tenant | {"ipv4_src": own}
    fragments = match(**sent | TO_HOST, ip_frag=FRAGMENT, ct_state=UNTRACKED)
    yield _flow(Table.REPLY, Priority.EXACT, fragments, Ct(zone, table=Table.MEND))
    yield _flow(Table.MEND, Priority.EXACT, match(**sent, ct_mark=MARKED), goto=Table.DELIVER)


def translations_for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Translation]:
    """Connections from outside by other hosts, while it is alive and a published service lets it have them."""
    own = V4.of(endpoint.addresses)
    if own is None or not endpoint.alive or _tunnel(ctx) is None or ctx.port_of(endpoint) is None:
        return
    zone, address = ctx.zone(endpoint.tenant), ingress_address(endpoint)
    others = (host for host in ctx.model.hosts.values() if host.switch != ctx.dpid and host.number)
    kinds = sorted({host.number & KINDS for host in others})
    for protocol, target in _ports(ctx, endpoint, but=endpoint.drained):
        number = PROTOCOLS[protocol][0]
        yield Translation(zone | HAIRPIN_ZONES, number, own, target, own, target)
        for kind in kinds:
            yield Translation(zone, number, address + kind, target, own, target)


def _ports(ctx: Context, endpoint: Endpoint, but: Collection[str] = ()) -> list[tuple[str, int]]:
    """The ports of the endpoint that ports of the hosts lead to; ``but``: keys of services that do not count."""
    return sorted(
        {
            (port.protocol, port.target)
            for service in ctx.model.selected_by(endpoint)
            if service.published and service.key not in but
            for port in ctx.ports_of(service)
            if any((p.target, p.protocol) == (port.port, port.protocol) for p in service.published)
        }
    )


def _has_providers_here(ctx: Context, network: Network) -> bool:
    services = (s for s in ctx.model.published_services() if s.tenant == network.tenant)
    providers = (p for service in services for p in ctx.model.providers(service))
    return any(p.network_key == network.key and ctx.port_of(p) is not None for p in providers)


def _tunnel(ctx: Context) -> int | None:
    """The port by which other hosts are reached; None: there are none, or this switch is no host's."""
    return None if ctx.host is None else ctx.ports.get(TUNNEL_PORT)


def any_kind(address: int) -> tuple[int, int]:
    """Of whatever hosts a provider was reached by."""
    return address, 0xFFFFFFFF & ~KINDS


def _flow(table: Table, priority: int, what: Match, *actions: Action, goto: Table | None = None) -> Flow:
    return Flow(table, priority, what, actions, goto=goto, kind=FlowKind.INGRESS)


FEATURE = Feature(
    "ingress",
    (FlowKind.INGRESS,),
    looks_at=(
        *EVERY_HOST, *HOSTS_OF_NETWORKS, *ITS_ENDPOINTS, *ITS_NETWORK, *ITS_PLACE, *ITS_SERVICES, *PATHS_OF_NETWORKS,
        *PUBLISHED_BY_IT, *PUBLISHED_IN_IT,
    ),
    switch=for_switch,
    network=for_network,
    endpoint=for_endpoint,
    endpoint_connections=translations_for_endpoint,
)
