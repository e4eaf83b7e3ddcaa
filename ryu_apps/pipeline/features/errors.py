"""ICMP errors about translated connections: told to the other end, in its terms.

Conntrack translates them, and Open vSwitch before 3.4 breaks IPv6's while it does: as it changes the outer address, it
updates the checksum of the connection's protocol where an ICMPv6 message has something else (of UDP the MTU of "packet
too big", of TCP the quoted source). Where the outer address is right already, nothing is updated. So an IPv6 error goes
through conntrack twice: looked up, which tells whose it is, and then, with the outer address set, translated.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import HIDDEN_V6, V6, each
from ryu_apps.pipeline.features import translate
from ryu_apps.pipeline.features.balance import known
from ryu_apps.pipeline.fields import CT_REL, CT_RPL, CT_TRK
from ryu_apps.pipeline.tables import TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import Ct, Flow, Move, Nat, match
from topology.model import Endpoint, Service

FROM_CLIENT = (CT_TRK | CT_REL, CT_TRK | CT_REL | CT_RPL)
ICMPV6 = {"eth_type": V6.eth_type, "ip_proto": V6.icmp}


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The second time, for IPv6."""
    # to the provider that was noted
    yield Flow(
        Table.BALANCE,
        Priority.EXACT + 1,
        match(**ICMPV6, ct_state=FROM_CLIENT),
        (Move("ct_label", V6.dst), Ct(TENANT, table=Table.ROUTE, nat=Nat())),
        feature=Feature.TRANSLATE,
    )
    # from the VIP that the client knows; what it sent straight to the provider, it knows as it is
    from_provider = known(CT_REL | CT_RPL)
    yield Flow(
        Table.RESTORE,
        Priority.EXACT,
        match(**ICMPV6, ct_state=from_provider),
        (Move(V6.ct_dst, V6.src), Ct(TENANT, table=Table.DELIVER, nat=Nat())),
        feature=Feature.TRANSLATE,
    )
    yield Flow(
        Table.RESTORE,
        Priority.EXACT + 1,
        match(**ICMPV6, ct_state=from_provider, ct_ipv6_dst=HIDDEN_V6),
        goto=Table.DELIVER,
        feature=Feature.TRANSLATE,
    )


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """From a client of its IPv6 VIP; an IPv4 one is translated like all that comes to the VIP."""
    vip = V6.of(service.vips)
    if vip is not None:
        zone = ctx.zone(service.tenant)
        yield Flow(
            Table.SERVICE,
            Priority.NORMAL + 1,
            match(**ICMPV6 | {TENANT: zone, V6.dst: vip}),
            (Ct(zone, table=Table.BALANCE),),
            feature=Feature.TRANSLATE,
        )


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """From a provider."""
    zone = ctx.zone(endpoint.tenant)
    for family, own in each(endpoint.addresses if translate.targets(ctx, endpoint) else ()):
        sent = {TENANT: zone, "eth_type": family.eth_type, "ip_proto": family.icmp, family.src: own}
        for kind in family.errors:
            yield Flow(
                Table.REPLY,
                Priority.NORMAL,
                match(**sent | {family.icmp_type: kind}, ct_state=translate.UNTRACKED),
                (Ct(zone, table=Table.RESTORE, nat=None if family is V6 else Nat()),),
                feature=Feature.TRANSLATE,
            )
