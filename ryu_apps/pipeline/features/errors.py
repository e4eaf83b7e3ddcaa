"""ICMP errors of a provider about its connections: translated, so that the client's kernel knows what is meant.

Conntrack does it, the quoted packet too. But what went straight to the provider it would translate to the hidden
address, and no flow can set what is quoted. And as Open vSwitch 3.1's changes an IPv6 error's outer address, it updates
the checksum of the connection's own protocol, where an ICMPv6 message has something else: the MTU of "packet too big"
(UDP), or the quoted source (TCP). Where the outer address is right already, nothing is updated. So an error goes
through conntrack twice: looked up, which says whose it is; then, from the VIP that it is about, translated. What is
about a connection straight to the provider is right as it is, but where conntrack has moved its source port.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.explain import may_be_a_reply
from ryu_apps.pipeline.family import Family, each
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.features.translate import targets
from ryu_apps.pipeline.fields import CT_RPL
from ryu_apps.pipeline.inputs import ITS_SERVICES
from ryu_apps.pipeline.tables import TENANT, FlowKind, Priority, Table
from ryu_apps.pipeline.terms import TRACKED, UNTRACKED, known
from ryu_apps.pipeline.values import Ct, Flow, Move, Nat, match
from topology.model import Endpoint

RELATED = known(CT_RPL)  # of ICMP, that is all that conntrack may know of where a provider sends


def kinds(family: Family) -> Iterator[dict[str, int]]:
    """The terms that an error's packets meet."""
    for kind in family.errors:
        yield {"ip_proto": family.icmp, family.icmp_type: kind}


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For a provider."""
    zone = ctx.zone(endpoint.tenant)
    for family, own in each(endpoint.addresses if targets(ctx, endpoint) else ()):
        sent = {TENANT: zone, "eth_type": family.eth_type, family.src: own}
        for kind in kinds(family):
            yield Flow(
                Table.REPLY,
                Priority.NORMAL,
                match(**sent | kind, ct_state=UNTRACKED),
                (Ct(zone, table=Table.MEND),),
                kind=FlowKind.ERRORS,
            )
        # about its connection to itself: out of the second zone
        yield Flow(
            Table.REPLY,
            Priority.NORMAL,
            match(**sent | {family.dst: own, "ip_proto": family.icmp}, ct_state=TRACKED),
            (Ct(zone, table=Table.MEND),),
            kind=FlowKind.ERRORS,
        )
        yield Flow(
            Table.MEND,
            Priority.NORMAL,
            match(**sent | {"ip_proto": family.icmp}, ct_state=RELATED),
            (Move(family.ct_dst, family.src), Ct(zone, table=Table.DELIVER, nat=Nat())),
            kind=FlowKind.ERRORS,
        )
        # what went straight to the provider, its client knows as the provider does
        yield Flow(
            Table.MEND,
            Priority.EXACT,
            match(**sent | {"ip_proto": family.icmp, family.ct_dst: family.hidden_of(endpoint)}, ct_state=RELATED),
            goto=Table.DELIVER,
            kind=FlowKind.ERRORS,
        )


FEATURE = Feature(
    "errors",
    (FlowKind.ERRORS,),
    looks_at=(*ITS_SERVICES,),
    endpoint=for_endpoint,
    words={
        (FlowKind.ERRORS, Table.REPLY): may_be_a_reply,
    },
)
