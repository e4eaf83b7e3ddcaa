"""Whether a reply gets back: from the receiver's kernel through the switches to the client, and where it is lost. Pure.

The receiver's kernel sends it by the interface that has the address that it was asked at: the agent sees to that, or
says why not (`Endpoint.no_way_back`). Without an agent nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ryu_apps.pipeline.context import Context, mac_int
from ryu_apps.pipeline.explain import name, place, shown, where, with_port
from ryu_apps.pipeline.family import destination, of_packet, source
from ryu_apps.pipeline.fields import TCP, TCP_ACK, TCP_SYN, UDP
from ryu_apps.pipeline.journey import Journeys, Leg
from ryu_apps.pipeline.nexthop import next_hop, on_link
from ryu_apps.pipeline.packet import PORTS, Packet, five_tuple
from ryu_apps.pipeline.steps import say
from ryu_apps.pipeline.tables import Table, table_name
from ryu_apps.pipeline.values import CONTROLLER
from topology.model import Address, Endpoint
from topology.providers import no_way_back

TTL = 64
Steps = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """``steps``: (table, what happened there); none where it is not sent, or not known. ``sender``: who replies."""

    verdict: str  # delivered | lost | unknown
    text: str  # begins with the verdict
    steps: Steps = ()
    sender: str = ""


def unknown(why: str, sender: str = "") -> Reply:
    """Nothing can be said of the reply."""
    return Reply("unknown", f"unknown: {why}", sender=sender)


class Replies:
    """Follows what receivers reply to one client."""

    def __init__(self, journeys: Journeys, client: Endpoint) -> None:
        self._journeys = journeys
        self._client = client
        self._containers: dict[tuple[str, str], list[Endpoint]] = {}

    def follow(self, asked: Packet, receiver: Endpoint, arrived: Leg) -> Reply:
        """The reply to the packet ``asked`` of the client, which has just arrived at its receiver."""
        got = arrived.walk.sent[0].packet
        if not receiver.host:
            return unknown("it is not on a host with an agent, so its routes are not known", name(receiver))
        reason = _silent(receiver, got)
        if reason:
            return Reply("lost", f"lost: {reason}", sender=name(receiver))
        if got.get("ip_proto") == UDP and (other := self._replaced(arrived.context, receiver, source(got))) is not None:
            return unknown(
                f"it has several addresses: a UDP server that is bound to all of them replies from {other},"
                f" not from {destination(got)}",
                name(receiver),
            )
        return _Return(self._journeys, self._client, asked, receiver, arrived).run()

    def _replaced(self, ctx: Context, receiver: Endpoint, to: Address) -> Address | None:
        """Another address of the receiver's container, where its kernel takes that as the source of what has none."""
        if not receiver.container_id or on_link(ctx.network_of(receiver), to):
            return None
        if not self._containers:
            for endpoint in ctx.model.endpoints.values():
                self._containers.setdefault((endpoint.container_id, endpoint.tenant), []).append(endpoint)
        siblings = self._containers[receiver.container_id, receiver.tenant]
        near = [e for e in siblings if on_link(ctx.network_of(e), to)]
        chosen = next(iter(near or [e for e in siblings if e.primary]), receiver)
        address = next((a for a in chosen.addresses if a.version == to.version), None)
        return None if chosen == receiver else address


def _silent(receiver: Endpoint, got: Packet) -> str:
    """Why the receiver itself does not reply; empty: it does."""
    if receiver.state == "paused" and got.get("ip_proto") != of_packet(got).icmp:
        # its kernel answers pings, and opens connections that then hang
        return f"{name(receiver)} is paused"
    if receiver.state == "created":
        return f"{name(receiver)} has not started yet"
    return f"{name(receiver)} is stopped" if receiver.state == "stopped" else ""


class _Return:
    def __init__(
        self, journeys: Journeys, client: Endpoint, asked: Packet, receiver: Endpoint, arrived: Leg
    ) -> None:
        self._journeys = journeys
        self._client = client
        self._asked = asked
        self._receiver = receiver
        self._ctx = arrived.context
        self._got = arrived.walk.sent[0].packet
        self._steps: list[tuple[str, str]] = []

    def run(self) -> Reply:
        ctx, receiver = self._ctx, self._receiver
        to, port = source(self._got), ctx.port_of(receiver)
        assert port is not None, "it was delivered there"
        reason = no_way_back(ctx.network_of(receiver), receiver, to.version)
        if reason and not on_link(ctx.network_of(receiver), to):
            return self._lost(reason)
        hop = next_hop(ctx, self._journeys.walker(ctx.dpid), receiver, to)
        if hop.mac is None:
            return self._lost(hop.text)
        self._say(ctx, "neighbour", hop.text)
        return self._arrive(self._journeys.send(ctx.dpid, port, self._packet(hop.mac)))

    def _packet(self, mac: int) -> Packet:
        got = self._got
        family = of_packet(got)
        packet: Packet = {
            "eth_src": mac_int(self._receiver.mac), "eth_dst": mac, "eth_type": family.eth_type,
            "ip_proto": got["ip_proto"], family.src: got[family.dst], family.dst: got[family.src], "ip_ttl": TTL,
        }  # fmt: skip
        if got["ip_proto"] in PORTS:
            src, dst = PORTS[got["ip_proto"]]
            packet |= {src: got[dst], dst: got[src]}
        if got["ip_proto"] == TCP:
            packet["tcp_flags"] = TCP_SYN | TCP_ACK
        if got["ip_proto"] == family.icmp:
            packet |= {family.icmp_type: family.echo_reply, family.icmp_code: 0}
        return packet

    def _arrive(self, legs: list[Leg]) -> Reply:
        for leg in legs:
            words = self._journeys.words(leg.context, self._receiver, reply=True)
            for step in shown(leg.walk):
                self._say(leg.context, table_name(step.flow.table), say(words, step))
        ctx, walk = legs[-1]
        words = self._journeys.words(ctx, self._receiver, reply=True)
        at = "" if ctx.dpid == self._home else f", on {place(ctx, ctx.dpid)}"
        if not walk.sent:
            last = say(words, walk.path[-1])
            if walk.path[-1].flow.table == Table.DELIVER:
                last += ", which is down or where it came from"
            return self._lost(last.removeprefix("dropped: ") + at)
        out = walk.sent[0]
        if out.port == CONTROLLER:
            return self._lost(say(words, shown(walk)[-1]) + at)
        if len(walk.sent) > 1 or ctx.dpid != self._home or out.port != ctx.port_of(self._client):
            ports = ", ".join(dict.fromkeys(words.port(sent.port) for sent in walk.sent))
            text = f"unknown: it leaves {place(ctx, ctx.dpid)} by port {ports}"
            return self._reply("unknown", text)
        seen, wanted = five_tuple(out.packet), five_tuple(self._asked)
        proto, src, sport, dst, dport = wanted
        if seen != (proto, dst, dport, src, sport):
            came, expected = _ends(out.packet)[0], _ends(self._asked)[1]
            return self._lost(f"it reaches {name(self._client)} from {came}, not from {expected}")
        at = f"{name(self._client)} at {where(ctx, self._client)}"
        return self._reply("delivered", f"delivered to {at}, from {_ends(out.packet)[0]}")

    @property
    def _home(self) -> int:
        return self._ctx.switch_of(self._client)

    def _say(self, ctx: Context, table: str, text: str) -> None:
        at = "" if ctx.dpid == self._home else f"on {place(ctx, ctx.dpid)}: "
        self._steps.append((table, at + text))

    def _lost(self, why: str) -> Reply:
        return self._reply("lost", f"lost: {why}")

    def _reply(self, verdict: str, text: str) -> Reply:
        return Reply(verdict, text, tuple(self._steps), name(self._receiver))


def _ends(packet: Packet) -> tuple[str, str]:
    """A packet's source and destination, with their ports."""
    _, _, sport, _, dport = five_tuple(packet)
    return with_port(source(packet), sport), with_port(destination(packet), dport)
