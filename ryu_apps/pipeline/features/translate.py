"""The other half of a translated connection: replies, and traffic straight to a provider beside it.

A reply of a provider's service port may belong to a VIP or to a connection straight to the provider; only
conntrack knows. So both kinds are in conntrack: what goes straight to a provider's service port is sent to a
hidden address of the provider inside the switch, a VIP with one provider, and is given the real one back.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Translation, hidden, ip_int
from ryu_apps.pipeline.features.balance import PROTOCOLS, known
from ryu_apps.pipeline.fields import CT_INV, CT_NEW, CT_TRK, ETH_IP, ICMP
from ryu_apps.pipeline.tables import TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import Ct, Flow, Nat, SetField, match
from topology.model import Endpoint

ICMP_ERRORS = (3, 11, 12)  # unreachable (also: fragmentation needed), time exceeded, parameter problem
FRAGMENT = (1, 1)
UNTRACKED, TRACKED = (0, CT_TRK), (CT_TRK, CT_TRK)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For each port that a service uses of this endpoint; nothing for an endpoint that is no provider."""
    targets = _targets(ctx, endpoint)
    if not targets:
        return
    zone = ctx.zone(endpoint.tenant)
    own = ip_int(endpoint.addresses[0])
    tenant = {TENANT: zone, "eth_type": ETH_IP}
    lookup = Ct(zone, table=Table.RESTORE, nat=Nat())
    for protocol, target in targets:
        number, name = PROTOCOLS[protocol]
        port = {"ip_proto": number, f"{name}_dst": target}
        yield Flow(
            Table.SERVICE,
            Priority.NORMAL,
            match(**tenant, **port, ipv4_dst=own),
            (SetField("ipv4_dst", hidden(endpoint)), Ct(zone, table=Table.BALANCE, nat=Nat())),
            feature=Feature.TRANSLATE,
        )
        port = {"ip_proto": number, f"{name}_src": target}
        yield Flow(
            Table.REPLY,
            Priority.NORMAL,
            match(**tenant, **port, ipv4_src=own, ct_state=UNTRACKED),
            (lookup,),
            feature=Feature.TRANSLATE,
        )
        # its answer to itself (hairpin): out of the second zone, so tracked, but not in this one
        yield Flow(
            Table.REPLY,
            Priority.NORMAL,
            match(**tenant, **port, ipv4_src=own, ipv4_dst=own, ct_state=TRACKED),
            (lookup,),
            feature=Feature.HAIRPIN,
        )
    for kind in ICMP_ERRORS:
        yield Flow(
            Table.REPLY,
            Priority.NORMAL,
            match(**tenant, ip_proto=ICMP, icmpv4_type=kind, ipv4_src=own, ct_state=UNTRACKED),
            (lookup,),
            feature=Feature.TRANSLATE,
        )
    # fragments, the first one too, have no ports to match: conntrack puts the packet together
    yield Flow(
        Table.REPLY,
        Priority.NORMAL,
        match(**tenant, ip_frag=FRAGMENT, ipv4_src=own, ct_state=UNTRACKED),
        (lookup,),
        feature=Feature.TRANSLATE,
    )
    yield Flow(
        Table.BALANCE,
        Priority.NORMAL,
        match(**tenant, ct_state=known(CT_NEW), ipv4_dst=hidden(endpoint)),
        (Ct(zone, table=Table.ROUTE, commit=True, nat=Nat(dst=own)),),
        feature=Feature.TRANSLATE,
    )
    # what conntrack makes no sense of goes to the provider as it would without a service: the reset, say, that a client
    # sends for what a socket there remembers of a connection that is gone here: else its port can't be used again
    yield Flow(
        Table.BALANCE,
        Priority.EXACT + 2,
        match(**tenant, ct_state=known(CT_INV), ipv4_dst=hidden(endpoint)),
        (SetField("ipv4_dst", own),),
        goto=Table.ROUTE,
        feature=Feature.TRANSLATE,
    )
    yield Flow(
        Table.RESTORE,
        Priority.NORMAL,
        match(**tenant, ipv4_src=hidden(endpoint)),
        (SetField("ipv4_src", own),),
        goto=Table.DELIVER,
        feature=Feature.TRANSLATE,
    )


def translations_for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Translation]:
    """Connections straight to the endpoint's service ports, while it is alive."""
    if endpoint.alive and ctx.reachable(endpoint):
        zone, own = ctx.zone(endpoint.tenant), ip_int(endpoint.addresses[0])
        for protocol, target in _targets(ctx, endpoint):
            yield Translation(zone, PROTOCOLS[protocol][0], hidden(endpoint), target, own, target)


def _targets(ctx: Context, endpoint: Endpoint) -> list[tuple[str, int]]:
    return sorted({(p.protocol, p.target) for s in ctx.model.selected_by(endpoint) for p in s.ports})
