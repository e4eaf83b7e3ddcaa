"""A new UDP connection whose first datagram comes in fragments.

The userspace datapath puts the fragments together in conntrack, then lets them go on one by one, and shows flows no
port of any. Only the first one has the port in what conntrack says of its connection. All have to be sent to the one
group: they meet again in the conntrack call of its bucket, and whichever comes last has that call's translation. So a
later fragment must not be sent to another port's group, and this works for a VIP with one UDP port; where there are
several, a connection has to begin with a datagram that fits. A kernel shows flows whole packets: no matter there.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.features import balance
from ryu_apps.pipeline.fields import UDP
from ryu_apps.pipeline.tables import Feature, Table
from ryu_apps.pipeline.values import Action, Flow, Move, SetField, match, terms
from topology.model import Service

FIRST, LATER = (1, 3), (3, 3)


def for_service(ctx: Context, service: Service) -> Iterator[Flow]:
    """The flow of the service's only UDP port once more, for the first fragment and for later ones."""
    if sum(port.protocol == "UDP" for port in service.ports) != 1:
        return
    for flow in balance.for_service(ctx, service):
        wanted = terms(flow.match)
        port = wanted.pop("udp_dst", None)
        if flow.table != Table.BALANCE or port is None:
            continue
        if wanted.pop("udp_src", (0, 0))[0]:
            continue  # of a port's several groups, one takes them all
        actions = tuple(map(_without_port, flow.actions))
        for more in ({"ip_frag": FIRST, "ct_nw_proto": UDP, "ct_tp_dst": port}, {"ip_frag": LATER}):
            # were the first one to go elsewhere, the later ones would wait for it in vain, and be dropped
            yield Flow(
                flow.table, flow.priority, match(**wanted, **more), actions, flow.goto, feature=Feature.BALANCE
            )


def _without_port(action: Action) -> Action:
    """A fragment has no port to spread by: all that a client sends so goes to one provider."""
    return SetField(action.dst, 0) if isinstance(action, Move) and action.src == "udp_src" else action
