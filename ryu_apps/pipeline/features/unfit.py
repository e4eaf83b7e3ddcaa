"""What no container may send, be it its own or forged: tags of VLANs, and IPv6 that hides from the guard what it is.

- A tag would leave the switch with the frame, and mean a VLAN to whoever is beyond.
- Neighbour discovery in fragments (RFC 6980, RFC 7113). To Open vSwitch a fragment has no ICMPv6 type, be it the first
  one, but a hop limit: neighbour discovery has 255 or is ignored (RFC 4861), and has that of its first fragment. A ping
  in fragments has less.
- A first fragment that does not hold all headers up to the message (RFC 7112), and any packet whose headers go on
  beyond its end: nobody can tell what it is. To Open vSwitch its protocol is 0.

Later fragments pass: without the first one they are nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.family import V6
from ryu_apps.pipeline.feature import Feature
from ryu_apps.pipeline.fields import VLAN_PRESENT
from ryu_apps.pipeline.inputs import ITS_PLACE
from ryu_apps.pipeline.tables import FlowKind, Priority, Table
from ryu_apps.pipeline.terms import FIRST
from ryu_apps.pipeline.values import Flow, match
from topology.model import Endpoint

OF_NEIGHBOURS = 255  # hop limit: nobody has forwarded it
HEADERS_DO_NOT_END = 0
UNFIT = (
    match(vlan_vid=(VLAN_PRESENT, VLAN_PRESENT)),
    match(eth_type=V6.eth_type, ip_proto=HEADERS_DO_NOT_END),
    match(eth_type=V6.eth_type, ip_proto=V6.icmp, ip_frag=FIRST, ip_ttl=OF_NEIGHBOURS),
)


def for_switch(ctx: Context) -> Iterator[Flow]:
    """The frames, whoever sends them."""
    for what in UNFIT:
        yield Flow(Table.GUARD, Priority.UNFIT, what, goto=Table.UNFIT, kind=FlowKind.UNFIT)


def for_endpoint(ctx: Context, endpoint: Endpoint) -> Iterator[Flow]:
    """Dropped, and counted with what is forged."""
    port = ctx.port_of(endpoint)
    if port is not None:
        what = match(in_port=port, eth_src=mac_int(endpoint.mac))
        yield Flow(Table.UNFIT, Priority.REFUSE, what, kind=FlowKind.UNFIT)




FEATURE = Feature(
    "unfit",
    (FlowKind.UNFIT,),
    looks_at=(*ITS_PLACE,),
    switch=for_switch,
    endpoint=for_endpoint,
    words={
        (FlowKind.UNFIT, Table.UNFIT): lambda *_: "dropped: no container may send this",
    },
)
