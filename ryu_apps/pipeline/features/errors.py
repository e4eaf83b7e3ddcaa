"""ICMP errors of a provider about its connections: translated, so that the client's kernel knows what is meant.

Conntrack does it, but for what went straight to the provider: that would quote the hidden address, and its client knows
it as the provider does. So an error is only looked up, which says whose it is, and translated then if need be.

As Open vSwitch 3.1's conntrack changes an IPv6 error's outer address, it updates the checksum of the connection's own
protocol, where an ICMPv6 message has something else: the MTU of "packet too big" (UDP), or the quoted source (TCP).
Where the outer address is right already, nothing is updated: so it is made that of the VIP that the error is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import V6, each
from ryu_apps.pipeline.features.balance import known
from ryu_apps.pipeline.features.translate import UNTRACKED, targets
from ryu_apps.pipeline.fields import CT_RPL
from ryu_apps.pipeline.tables import TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import Ct, Flow, Move, Nat, match
from topology.model import Endpoint


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """For a provider."""
    zone = ctx.zone(endpoint.tenant)
    for family, own in each(endpoint.addresses if targets(ctx, endpoint) else ()):
        sent = {TENANT: zone, "eth_type": family.eth_type, "ip_proto": family.icmp, family.src: own}
        for kind in family.errors:
            yield Flow(
                Table.REPLY,
                Priority.NORMAL,
                match(**sent | {family.icmp_type: kind}, ct_state=UNTRACKED),
                (Ct(zone, table=Table.MEND),),
                feature=Feature.TRANSLATE,
            )
        related = known(CT_RPL)  # of ICMP, that is all that conntrack may know of here
        mended = (Move(V6.ct_dst, V6.src),) if family is V6 else ()
        yield Flow(
            Table.MEND,
            Priority.NORMAL,
            match(**sent, ct_state=related),
            (*mended, Ct(zone, table=Table.RESTORE, nat=Nat())),
            feature=Feature.TRANSLATE,
        )
        # what went straight to the provider
        yield Flow(
            Table.MEND,
            Priority.EXACT,
            match(**sent | {family.ct_dst: family.hidden_of(endpoint)}, ct_state=related),
            goto=Table.DELIVER,
            feature=Feature.TRANSLATE,
        )
