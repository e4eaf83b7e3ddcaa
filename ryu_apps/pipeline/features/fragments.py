"""A new UDP connection whose first datagram comes in fragments.

The userspace datapath puts the fragments together in conntrack, then lets them go on one by one, and shows flows no
port of any: only the first one's is told by what conntrack knows of the connection. They meet again in the conntrack
call that commits, and whichever comes last has that call's translation. So all of them have to be sent to the same
provider by the flow itself: no group (Open vSwitch 3.1 loses fragments behind its hash), and one UDP port a VIP. Where
there are several, a connection has to begin with a datagram that fits. A kernel shows flows whole packets instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import each
from ryu_apps.pipeline.features import balance
from ryu_apps.pipeline.fields import UDP
from ryu_apps.pipeline.tables import Feature, Priority, Table
from ryu_apps.pipeline.values import Flow, match
from topology.model import Service

FIRST, LATER = (1, 3), (3, 3)


def shown(service: Service) -> bool:
    """Whether a datagram in fragments finds the service's port, so that another port can be told to be nobody's."""
    return sum(port.protocol == "UDP" for port in service.ports) <= 1


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The first fragment and later ones to one of the providers."""
    for family, vip in each(ctx.vips(service)):
        providers = balance.selectable(ctx, service, family)
        for port in service.ports if providers and shown(service) else ():
            if port.protocol != "UDP":
                continue  # TCP begins with a segment that fits
            wanted = balance.new_connection(ctx, service, family, vip, port)
            del wanted["udp_dst"]
            provider = providers[port.number % len(providers)]
            later = {"ip_frag": LATER} | ({} if family.later is None else {"ip_proto": family.later})
            for more in ({"ip_frag": FIRST, "ct_nw_proto": UDP, "ct_tp_dst": port.port}, later):
                # a first one to another port goes elsewhere; the later ones wait for it in vain, and are dropped
                yield Flow(
                    Table.BALANCE,
                    Priority.NORMAL,
                    match(**wanted | more),
                    (balance.translate_to(ctx, family, provider, port),),
                    feature=Feature.BALANCE,
                )
