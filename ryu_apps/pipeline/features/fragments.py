"""What comes in several packets.

A new UDP connection to a VIP whose first datagram comes in fragments:

The userspace datapath puts the fragments together in conntrack, then lets them go on one by one, and shows flows no
port of any: only the first one's is told by what conntrack knows of the connection. They meet again in the conntrack
call that commits, and whichever comes last has that call's translation. So all of them have to be sent to the same
provider by the flow itself: no group (Open vSwitch 3.1 loses fragments behind its hash), and one UDP port a VIP. Where
there are several, a connection has to begin with a datagram that fits. A kernel shows flows whole packets instead.

What goes straight to a provider, and its answers (`translate`): fragments have no ports, so a datagram to any port of
it is sent to its hidden address, and all that it sends is looked up. Where a flow sets an IPv4 address in a later
fragment, Open vSwitch 3.1 takes two bytes of the datagram for UDP's checksum, and changes them; conntrack does not, as
it has the whole datagram. So there the hidden address comes and goes in the tenant's second zone, for fragments alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, Outgoing, Translation
from ryu_apps.pipeline.explain import may_be_a_reply
from ryu_apps.pipeline.family import Family, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features import balance
from ryu_apps.pipeline.features.scopes import Scope, scopes
from ryu_apps.pipeline.features.translate import targets, to_provider
from ryu_apps.pipeline.fields import CT_DNAT, CT_INV, CT_RPL, UDP
from ryu_apps.pipeline.inputs import ITS_PLACE, ITS_PROVIDERS, ITS_SERVICES, ITS_VIPS, NETWORK_OF_VIP
from ryu_apps.pipeline.tables import HAIRPIN_ZONES, TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import FIRST, FRAGMENT, LATER, TRACKED, UNTRACKED, Terms, known
from ryu_apps.pipeline.values import Action, Ct, Flow, Match, Nat, SetField, match
from topology.model import HOST_BASE, Endpoint, Service, ServicePort

HOSTS = (int(HOST_BASE), 0xFFFF0000)  # as containers see them
ANSWER = known(CT_RPL)


def shown(service: Service) -> bool:
    """Whether a datagram in fragments finds the service's port, so that another port can be told to be nobody's."""
    return sum(port.protocol == "UDP" for port in service.ports) <= 1


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The first fragment and later ones to one of the providers."""
    for family, vip in each(ctx.vips(service)):
        for scope in scopes(ctx, service, family) if shown(service) else ():
            for port in service.ports if scope.choices else ():
                if port.protocol == "UDP":  # TCP begins with a segment that fits
                    yield from _first_datagram(ctx, service, family, vip, port, scope)


def _first_datagram(  # noqa: PLR0917 - what for_service has at hand
    ctx: Context, service: Service, family: Family, vip: int, port: ServicePort, scope: Scope
) -> Iterator[Flow]:
    wanted = balance.new_connection(ctx, service, family, vip, port) | scope.terms
    del wanted["udp_dst"]
    later = {"ip_frag": LATER} | ({} if family.later is None else {"ip_proto": family.later})
    for rank, where, endpoint in balance.at_each_network(scope.choices[port.number % len(scope.choices)]):
        for more in ({"ip_frag": FIRST, "ct_nw_proto": UDP, "ct_tp_dst": port.port}, later):
            # a first one to another port goes elsewhere; the later ones wait for it in vain, and are dropped
            yield Flow(
                Table.BALANCE,
                Priority.NORMAL + scope.rank + rank,
                match(**wanted | more | where),
                (balance.translate_to(ctx, family, endpoint, port),),
                kind=FlowKind.FRAGMENTS,
            )


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The host's own datagrams go to a container as they are: `outside` notes them so, in the second zone."""
    for family, host in each(ctx.host_addresses):
        what = match(**{"eth_type": family.eth_type, family.src: host}, ip_frag=FRAGMENT)
        yield _flow(Table.SERVICE, Priority.OWN_FRAGMENT, what, goto=Table.ROUTE)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For a provider: from it, and to it where it has UDP, for TCP begins with a segment that fits."""
    ports = targets(ctx, endpoint)
    zone = ctx.zone(endpoint.tenant)
    for family, own in each(endpoint.addresses if ports else ()):
        hidden = family.hidden_of(endpoint)
        tenant: Terms = {TENANT: zone, "eth_type": family.eth_type}
        sent = tenant | {family.src: own, "ip_frag": FRAGMENT}
        translated = Ct(zone, table=Table.RESTORE, nat=Nat())
        yield _flow(Table.REPLY, Priority.NORMAL, match(**sent, ct_state=UNTRACKED), translated)
        # it may be an answer, to who is a provider too: not for a hidden address
        yield _flow(Table.SERVICE, Priority.OWN_FRAGMENT, match(**sent), goto=Table.ROUTE)
        # its answer to itself: out of the second zone
        to_itself = match(**sent | {family.dst: own}, ct_state=TRACKED)
        yield Flow(Table.REPLY, Priority.NORMAL, to_itself, (translated,), kind=FlowKind.FRAGMENTS)
        if family.spoilt:
            show = Ct(zone | HAIRPIN_ZONES, table=Table.DELIVER, commit=True, nat=Nat(src=own))
            hid = match(**tenant | {family.src: hidden}, ip_frag=FRAGMENT)
            yield _flow(Table.RESTORE, Priority.EXACT, hid, show)
            # what the host has sent as it is, is answered so
            to_host = match(**sent | {family.dst: HOSTS}, ct_state=UNTRACKED)
            yield _flow(Table.REPLY, Priority.EXACT, to_host, Ct(zone, table=Table.MEND))
            straight = match(**sent | {family.ct_dst: hidden}, ct_state=ANSWER)
            yield _flow(Table.MEND, Priority.EXACT, straight, goto=Table.DELIVER)
            yield _flow(Table.MEND, Priority.NORMAL, match(**sent, ct_state=ANSWER), translated)
        if any(protocol == "UDP" for protocol, _ in ports):
            yield from _to(zone, family, own, hidden)


def _to(zone: int, family: Family, own: int, hidden: int) -> Iterator[Flow]:
    tenant: Terms = {TENANT: zone, "eth_type": family.eth_type}
    to_own: Terms = tenant | {family.dst: own}
    lookup = Ct(zone, table=Table.BALANCE, nat=Nat())
    if not family.spoilt:
        # all, for a later one of IPv6 does not say what it is a part of
        yield _flow(
            Table.SERVICE, Priority.FRAGMENT, match(**to_own, ip_frag=FRAGMENT), SetField(family.dst, hidden), lookup
        )
        return
    hide = Ct(zone | HAIRPIN_ZONES, table=Table.HAIRPIN, commit=True, nat=Nat(dst=hidden))
    yield _flow(Table.SERVICE, Priority.FRAGMENT, match(**to_own, ip_proto=UDP, ip_frag=FRAGMENT), hide)
    hid = match(**tenant | {family.dst: hidden}, ct_state=known(CT_DNAT))
    yield _flow(Table.HAIRPIN, Priority.MORE_EXACT, hid, lookup)
    # what can't be put together goes on as it is
    yield _flow(Table.HAIRPIN, Priority.NORMAL, match(**to_own, ct_state=known(CT_INV)), goto=Table.ROUTE)


def translations_for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Translation | Outgoing]:
    """What is hidden in the second zone, by those who ask it and by its answers, while it is alive."""
    if not targets(ctx, endpoint) or not endpoint.alive or not ctx.reachable(endpoint):
        return
    second = ctx.zone(endpoint.tenant) | HAIRPIN_ZONES
    for family, own in each(endpoint.addresses):
        if family.spoilt:
            hidden = family.hidden_of(endpoint)
            yield Translation(second, UDP, own, 0, hidden, 0)
            yield Outgoing(second, hidden, own)


def _flow(table: Table, priority: int, what: Match, *actions: Action, goto: Table | None = None) -> Flow:
    return Flow(table, priority, what, actions, goto=goto, kind=FlowKind.FRAGMENTS)


FEATURE = Feature(
    "fragments",
    (FlowKind.FRAGMENTS,),
    looks_at=(*ITS_PLACE, *ITS_PROVIDERS, *ITS_SERVICES, *ITS_VIPS, *NETWORK_OF_VIP),
    switch=for_switch,
    endpoint=for_endpoint,
    endpoint_connections=translations_for_endpoint,
    service=for_service,
    words={
        (FlowKind.FRAGMENTS, Table.SERVICE): to_provider,
        (FlowKind.FRAGMENTS, Table.HAIRPIN): to_provider,
        (FlowKind.FRAGMENTS, Table.REPLY): may_be_a_reply,
    },
)
