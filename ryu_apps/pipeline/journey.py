"""A packet's way from switch to switch, through what is compiled for each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from ryu_apps.pipeline.across import arrival
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.conntrack import Conntrack
from ryu_apps.pipeline.context import Context, Owner
from ryu_apps.pipeline.explain import Reader, port_names
from ryu_apps.pipeline.packet import Packet
from ryu_apps.pipeline.walk import Walk, Walker
from topology.model import Endpoint


class Place(NamedTuple):
    """A switch that a packet may come to. ``down``: its ports that are down."""

    context: Context
    down: Collection[int] = ()


Places = Mapping[int, Place]
"""By datapath id."""


class Leg(NamedTuple):
    """What became of a packet at one switch."""

    context: Context
    walk: Walk


class Journeys:
    """Walks packets through the switches in ``places``, each compiled when the first packet comes to it.

    ``owners``: whose flows the packets may meet at a switch. ``known``: walkers that are there already.
    """

    def __init__(
        self, places: Places, owners: Callable[[Context], Iterable[Owner]], known: Mapping[int, Walker]
    ) -> None:
        self._contexts = {dpid: place.context for dpid, place in places.items()}
        self._places = places
        self._owners = owners
        self._walkers = dict(known)
        self._names: dict[int, dict[int, str]] = {}

    def send(self, dpid: int, in_port: int, packet: Packet) -> list[Leg]:
        """A packet enters a switch; its legs, as long as it is one packet and its next switch is known."""
        legs = [Leg(self._contexts[dpid], self.walker(dpid).send(in_port, packet))]
        while len(legs) <= len(self._places) and len(sent := legs[-1].walk.sent) == 1:
            there = arrival(legs[-1].context, sent[0], self._contexts)
            if there is None:
                break
            walk = self.walker(there.dpid).send(there.in_port, there.packet)
            legs.append(Leg(self._contexts[there.dpid], walk))
        return legs

    def words(self, ctx: Context, sender: Endpoint, *, reply: bool = False) -> Reader:
        """What is said of a packet of this sender at a switch is made of this."""
        if ctx.dpid not in self._names:
            self._names[ctx.dpid] = port_names(ctx)
        return Reader(ctx, sender, self._names[ctx.dpid], is_reply=reply)

    def forget(self) -> None:
        """No switch tracks any connection."""
        for walker in self._walkers.values():
            walker.tracked = Conntrack()

    def walker(self, dpid: int) -> Walker:
        """The switch itself."""
        if dpid not in self._walkers:
            ctx, down = self._places[dpid]
            programs = [compile_owner(ctx, owner) for owner in self._owners(ctx)]
            groups = {group.id: group for program in programs for group in program.groups}
            self._walkers[dpid] = Walker((flow for program in programs for flow in program.flows), groups, down)
        return self._walkers[dpid]
