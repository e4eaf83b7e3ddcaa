"""Why a connection goes where it goes: its first packet walked through what is compiled, and told in words. Pure.

Only the owners on its way are compiled, so the cost does not grow with the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ryu_apps.pipeline.across import arrival
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import SWITCH, Context, Owner, mac_int
from ryu_apps.pipeline.explain import Words, holders, listed, name, place, where
from ryu_apps.pipeline.family import BY_VERSION, V4, V6, destination
from ryu_apps.pipeline.features import select
from ryu_apps.pipeline.features.neighbour import REPLY, REQUEST
from ryu_apps.pipeline.fields import ETH_ARP, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, TCP, UDP
from ryu_apps.pipeline.tables import PROVIDER, TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import (
    CONTROLLER,
    LOCAL_IN_REGISTER,
    Bucket,
    Ct,
    Flow,
    Group,
    GroupAction,
    Match,
    SetField,
    match,
)
from ryu_apps.pipeline.walk import PORTS, Packet, Walk, Walker
from ryu_apps.pipeline.ways import is_way
from topology.model import Address, Endpoint, Service

TTL = 64
LINK_TTL = 255  # of what must not have been routed
BROADCAST = 0xFFFFFFFFFFFF
IPV6_MULTICAST = 0x3333 << 32  # a MAC, with an address's low bits (RFC 2464)
SOLICITED_NODE = 0xFF02 << 112 | 0x01FF << 24  # an address, with another's low bits (RFC 4291)
EPHEMERAL = 49152  # a client's port, where it does not matter


@dataclass(frozen=True, slots=True)
class Question:
    """The first packet of a connection. ``source_port`` 0: any."""

    sender: Endpoint
    source: Address
    to: Address  # of the same family
    protocol: int
    port: int = 0
    source_port: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """One way that it may end. ``provider``: the one that was chosen, with its share of the new connections."""

    verdict: str  # delivered | answered | refused | dropped | asked | sent (to a switch that is not looked into)
    text: str
    receiver: Endpoint | None = None
    provider: Endpoint | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Trace:
    """``steps``: (table, what happened there)."""

    steps: tuple[tuple[str, str], ...]
    ends: tuple[End, ...]

    @property
    def verdict(self) -> str:
        """What happens to all of its kind; "mixed": it depends on the provider."""
        found = {end.verdict for end in self.ends}
        return found.pop() if len(found) == 1 else "mixed"

    @property
    def text(self) -> str:
        """The outcome on one line."""
        if len(self.ends) == 1:
            return self.ends[0].text
        good = [end.text for end in self.ends if end.verdict == "delivered"]
        bad = [end.text for end in self.ends if end.verdict != "delivered"]
        one_of = f"delivered to one of {len(good)}: " if len(good) > 1 else "delivered to "
        words = [one_of + listed([text.removeprefix("delivered to ") for text in good])] if good else []
        return "; or ".join([*words, *([listed(bad)] if bad else [])])


class Place(NamedTuple):
    """Another switch that the connection may come to."""

    context: Context
    down: Collection[int] = ()


Places = Mapping[int, Place]
"""By datapath id."""


def trace(
    ctx: Context, question: Question, down: Collection[int] = (), last: int = 0, others: Places | None = None
) -> Trace:
    """The way of the connection. ``last``: number of the provider that session affinity has for its client; 0: none."""
    return _Tracer(ctx, question, down, last, others or {}).run()


def on_the_way(ctx: Context, question: Question) -> set[Owner]:
    """The owners whose flows the connection may meet."""
    sender = question.sender
    out: set[Owner] = {SWITCH, (sender.kind, sender.key), ("network", sender.network_key)}
    out |= {(n.kind, n.key) for n in ctx.model.networks_around(question.to) if n.tenant == sender.tenant}
    for holder in holders(ctx, sender.tenant, question.to):
        out.add((holder.kind, holder.key))
        receivers = ctx.model.providers(holder) if isinstance(holder, Service) else [holder]
        for receiver in receivers:
            if isinstance(receiver, Endpoint):
                out |= {(receiver.kind, receiver.key), ("network", receiver.network_key)}
    return out


def remembered(ctx: Context, question: Question) -> Match:
    """What a flow matches that session affinity has learned of the client."""
    family = BY_VERSION[question.to.version]
    terms = {TENANT: ctx.zone(question.sender.tenant), "eth_type": family.eth_type}
    return match(**terms | {family.src: int(question.source), family.dst: int(question.to)})


class _Pick(Walker):
    """Takes the bucket that it is told to, and notes the group that it was asked to choose from."""

    wanted: Bucket | None = None
    group: Group | None = None

    def choose(self, group: Group, packet: Packet) -> Bucket:
        if is_way(group.id):
            return group.buckets[0]
        self.group = group
        return self.wanted or group.buckets[0]


class _Leg(NamedTuple):
    """What became of the packet at one switch."""

    words: Words
    context: Context
    walk: Walk


class _Tracer:
    def __init__(
        self, ctx: Context, question: Question, down: Collection[int], last: int, others: Places
    ) -> None:
        self._ctx = ctx
        self._others = others
        self._contexts = {dpid: place.context for dpid, place in others.items()}
        self._question = question
        self._sender = question.sender
        self._family = BY_VERSION[question.to.version]
        self._words = Words(ctx, question.sender)
        programs = [compile_owner(ctx, owner) for owner in on_the_way(ctx, question)]
        flows = [flow for program in programs for flow in program.flows]
        if last:
            what, then = remembered(ctx, question), (SetField(PROVIDER, last),)
            flows.append(Flow(Table.STICKY, Priority.NORMAL, what, then, feature=Feature.AFFINITY))
        self._groups = {group.id: group for program in programs for group in program.groups}
        self._walker = _Pick(flows, self._groups, down)
        self._port = ctx.port_of(question.sender)

    def run(self) -> Trace:
        if self._port is None:
            why = f"{name(self._sender)} is not plugged in: the switch has no port {self._sender.port_name}"
            return _dropped([], why)
        steps, mac = self._next_hop()
        if mac is None:
            return _dropped(steps, steps.pop()[1])
        packet = self._packet(mac)
        first = self._travel(packet)
        group = self._walker.group
        options = [] if group is None else self._options(group)
        if group is None or not options:
            return Trace((*steps, *self._steps(first)), (self._end(first),))
        steps += self._steps(first, self._offer(options), self._provider(group.buckets[0]) if options[1:] else None)
        total = sum(weight for _, _, weight in options)
        ends = []
        for provider, bucket, weight in options:
            self._walker.wanted = bucket
            ends.append(self._end(self._travel(packet), provider, weight / total))
        return Trace(tuple(steps), tuple(ends))

    def _travel(self, packet: Packet) -> list[_Leg]:
        """From the sender's switch on, as far as there is one packet, and a switch to look into."""
        assert self._port is not None, "run() sees to it"
        legs = [_Leg(self._words, self._ctx, self._walker.send(self._port, packet))]
        while len(legs) <= len(self._others) and len(sent := legs[-1].walk.sent) == 1:
            there = arrival(legs[-1].context, sent[0], self._contexts)
            if there is None:
                break
            ctx, down = self._others[there.dpid]
            programs = [compile_owner(ctx, owner) for owner in on_the_way(ctx, self._question)]
            groups = {group.id: group for program in programs for group in program.groups}
            walker = Walker((flow for program in programs for flow in program.flows), groups, down)
            legs.append(_Leg(Words(ctx, self._sender), ctx, walker.send(there.in_port, there.packet)))
        return legs

    # before the packet: its next hop, by ARP or neighbour discovery

    def _next_hop(self) -> tuple[list[tuple[str, str]], int | None]:
        """The MAC that the sender sends to; None: it can't, for the reason in the last line."""
        ctx, to = self._ctx, self._question.to
        network = ctx.network_of(self._sender)
        family = self._family
        subnet = network.subnet if family is V4 else network.subnet6
        near = subnet is not None and to in subnet
        if family is V6 and to.is_multicast:
            return [], IPV6_MULTICAST | int(to) & 0xFFFFFFFF
        if to.is_multicast or to == V4.address(0xFFFFFFFF) or (near and to == network.subnet.broadcast_address):
            return [], BROADCAST
        gateway = family.gateway(network)
        if not near and gateway is None:
            kind = "" if family is V4 else "IPv6 "
            return [("", f"network {network.key} has no {kind}gateway: {name(self._sender)} has no way to {to}")], None
        hop = to if near or gateway is None else family.address(gateway)
        mac = self._ask(hop)
        if mac is not None:
            text = f"{hop}, {self._words.what(hop)}, is at {mac.to_bytes(6, 'big').hex(':')}"
            return [("neighbour", text if near else f"next hop {text}")], mac
        request = "ARP" if family is V4 else "neighbour solicitation"
        why = f"nobody in network {network.key} has {hop}: {name(self._sender)} gets no answer to its {request}"
        return [("", why)], None

    def _ask(self, hop: Address) -> int | None:
        """The MAC that the switch answers for an address."""
        assert self._port is not None, "run() sees to it"
        mac, own = mac_int(self._sender.mac), self._family.of(self._sender.addresses) or 0
        if self._family is V4:
            request, kind, reply, told = _arp(mac, own, int(hop)), "arp_op", REPLY, "arp_sha"
        else:
            request, kind, reply = _solicitation(mac, own, int(hop)), V6.icmp_type, NEIGHBOUR_ADVERTISEMENT
            told = "nd_tll"
        for sent in self._walker.send(self._port, request).sent:
            if sent.port == self._port and sent.packet[kind] == reply:
                return sent.packet[told]
        return None

    def _packet(self, mac: int) -> Packet:
        ask = self._question
        family = self._family
        packet: Packet = {
            "eth_src": mac_int(self._sender.mac), "eth_dst": mac, "eth_type": family.eth_type,
            "ip_proto": ask.protocol, family.src: int(ask.source), family.dst: int(ask.to), "ip_ttl": TTL,
        }  # fmt: skip
        if ask.protocol == family.icmp:
            packet |= {family.icmp_type: family.echo_request, family.icmp_code: 0}
        elif ask.protocol in PORTS:
            src, dst = PORTS[ask.protocol]
            packet |= {src: ask.source_port or EPHEMERAL, dst: ask.port}
        return packet

    # the choice

    def _options(self, group: Group) -> list[tuple[Endpoint, Bucket, int]]:
        """The providers that may be chosen, each with a bucket of its own and its slots."""
        groups = [group]
        if not self._question.source_port and self._question.protocol in PORTS:
            # the client's port says which of a service port's groups is asked: any of them
            of = select.of(group.id)
            groups = [g for g in self._groups.values() if select.of(g.id) == of]
        buckets: dict[int, Bucket] = {}
        slots: Counter[int] = Counter()
        for bucket in (b for g in groups for b in self._walker.live(g)):
            provider = self._provider(bucket)
            if provider is not None:
                buckets[provider.number] = bucket
                slots[provider.number] += bucket.weight
        found = ((self._ctx.model.by_number("endpoint", n), n) for n in sorted(buckets))
        return [(p, buckets[n], slots[n]) for p, n in found if isinstance(p, Endpoint)]

    def _provider(self, bucket: Bucket) -> Endpoint | None:
        for action in bucket.actions:
            if isinstance(action, SetField) and action.field == PROVIDER:
                found = self._ctx.model.by_number("endpoint", action.value)
                return found if isinstance(found, Endpoint) else None
            if isinstance(action, Ct) and action.nat and action.nat.dst:
                for holder in holders(self._ctx, self._sender.tenant, self._family.address(action.nat.dst)):
                    if isinstance(holder, Endpoint):
                        return holder
        return None

    def _offer(self, options: list[tuple[Endpoint, Bucket, int]]) -> str:
        total = sum(weight for _, _, weight in options)
        names = [
            f"{name(p)} {self._own(p)} (weight {p.weight}, {100 * slots / total:.0f} %)" for p, _, slots in options
        ]
        text = f"one of {len(names)} providers: " if len(names) > 1 else "the one provider: "
        text += listed(names)
        service = self._words.holder(self._question.to)
        if not isinstance(service, Service):
            return text
        absent = self._words.absent(service, self._family, {p.number for p, _, _ in options})
        return text + (f"; not {absent}" if absent else "")

    def _own(self, provider: Endpoint) -> Address:
        return self._family.address(self._family.of(provider.addresses) or 0)

    # in words

    def _steps(self, legs: list[_Leg], offer: str = "", example: Endpoint | None = None) -> list[tuple[str, str]]:
        """``offer``: what the group may choose from; ``example``: whom it has chosen on this walk, out of several."""
        out = []
        prefix = ""
        for leg in legs:
            at = f"on {place(leg.context, leg.context.dpid)}: " if leg.context is not self._ctx else ""
            for step in leg.walk.path:
                text = prefix + at + leg.words.of(step)
                if offer and not at and _chooses(step.flow):
                    text += f" → {offer}"
                    prefix = f"if {name(example)}: " if example else ""
                out.append((Table(step.flow.table).name.lower(), text))
        return out

    def _end(self, legs: list[_Leg], provider: Endpoint | None = None, share: float = 1.0) -> End:
        def end(verdict: str, text: str, receiver: Endpoint | None = None) -> End:
            return End(verdict, text, receiver, provider, share)

        words, ctx, walk = legs[-1]
        last = walk.path[-1]
        text = words.of(last)
        if ctx is not self._ctx:
            text += f", on {place(ctx, ctx.dpid)}"
        if not walk.sent:
            if _chooses(last.flow):
                text += ": the port of every provider is down"
            if last.flow.table == Table.DELIVER:
                text = f"{text}, which is down or where it came from"
            text = f"dropped: {text.removeprefix('dropped: ')}"
            return end("dropped", f"{text} ({name(provider)})" if provider else text)
        if any(sent.port == CONTROLLER for sent in walk.sent):
            if last.flow.feature == Feature.REFUSE:
                how = {TCP: "with a reset", UDP: "with port unreachable"}.get(self._question.protocol, "")
                return end("refused", f"refused {how}: {text}")
            return end("asked", f"to the controller: {text}")
        if last.flow.feature == Feature.ECHO:
            return end("answered", f"answered by the switch: {text}")
        if len(walk.sent) > 1 or last.flow.feature == Feature.FLOOD:
            ports = dict.fromkeys(words.port(s.port) for s in walk.sent)
            return end("delivered", "delivered to ports " + ", ".join(ports))
        sent = walk.sent[0]
        address = destination(sent.packet)
        port = sent.packet.get(PORTS.get(self._question.protocol, ("", ""))[1])
        if sent.port == LOCAL_IN_REGISTER:
            on = "" if address in self._ctx.host_addresses else f", which sends it on to {address}"
            return end("delivered", f"delivered to the host{on}")
        at = (f"{address}:{port}" if self._family is V4 else f"[{address}]:{port}") if port else f"{address}"
        for holder in holders(self._ctx, self._sender.tenant, address):
            if isinstance(holder, Endpoint) and ctx.port_of(holder) != sent.port:
                home = place(ctx, ctx.switch_of(holder))
                return end("sent", f"sent to {home}, which is not connected, for {name(holder)} {at}", holder)
            if isinstance(holder, Endpoint):
                return end("delivered", f"delivered to {name(holder)} {at} at {where(ctx, holder)}", holder)
        return end("delivered", f"delivered to {at} out of port {words.port(sent.port)}")


def _arp(mac: int, own: int, hop: int) -> Packet:
    return {
        "eth_src": mac, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": REQUEST,
        "arp_sha": mac, "arp_spa": own, "arp_tha": 0, "arp_tpa": hop,
    }  # fmt: skip


def _solicitation(mac: int, own: int, hop: int) -> Packet:
    group = SOLICITED_NODE | hop & 0xFFFFFF
    return {
        "eth_src": mac, "eth_dst": IPV6_MULTICAST | group & 0xFFFFFFFF, "eth_type": V6.eth_type,
        V6.src: own, V6.dst: group, "ip_ttl": LINK_TTL, "ip_proto": V6.icmp,
        V6.icmp_type: NEIGHBOUR_SOLICITATION, V6.icmp_code: 0, "nd_target": hop, "nd_sll": mac,
    }  # fmt: skip


def _chooses(flow: Flow) -> bool:
    return any(isinstance(action, GroupAction) for action in flow.actions)


def _dropped(steps: list[tuple[str, str]], why: str) -> Trace:
    return Trace(tuple(steps), (End("dropped", f"dropped: {why}"),))
