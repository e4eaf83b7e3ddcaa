"""Why a connection goes where it goes: its first packet walked through what is compiled, and told in words. Pure.

Only the owners on its way are compiled, so the cost does not grow with the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address

from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import SWITCH, Context, Owner, mac_int
from ryu_apps.pipeline.explain import Words, holders, listed, name, where
from ryu_apps.pipeline.features.neighbour import REPLY, REQUEST
from ryu_apps.pipeline.fields import ETH_ARP, ETH_IP, ICMP, TCP, UDP
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS, PROVIDER, TENANT, Feature, Priority, Table
from ryu_apps.pipeline.values import CONTROLLER, Bucket, Ct, Flow, Group, GroupAction, Match, SetField, match
from ryu_apps.pipeline.walk import PORTS, Packet, Walk, Walker
from topology.model import Endpoint, Service

ECHO_REQUEST = 8
TTL = 64
BROADCAST = 0xFFFFFFFFFFFF
EPHEMERAL = 49152  # a client's port, where it does not matter


@dataclass(frozen=True, slots=True)
class Question:
    """The first packet of a connection. ``source_port`` 0: any."""

    sender: Endpoint
    source: IPv4Address
    to: IPv4Address
    protocol: int
    port: int = 0
    source_port: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """One way that it may end. ``provider``: the one that was chosen, with its share of the new connections."""

    verdict: str  # delivered | answered | refused | dropped | asked
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


def trace(ctx: Context, question: Question, down: Collection[int] = (), last: int = 0) -> Trace:
    """The way of the connection. ``last``: number of the provider that session affinity has for its client; 0: none."""
    return _Tracer(ctx, question, down, last).run()


def on_the_way(ctx: Context, question: Question) -> set[Owner]:
    """The owners whose flows the connection may meet."""
    sender = question.sender
    out: set[Owner] = {SWITCH, (sender.kind, sender.key), ("network", sender.network_key)}
    for holder in holders(ctx, sender.tenant, question.to):
        out.add((holder.kind, holder.key))
        if isinstance(holder, Service):
            out |= {(p.kind, p.key) for p in ctx.model.providers(holder)}
    return out


def remembered(ctx: Context, question: Question) -> Match:
    """What a flow matches that session affinity has learned of the client."""
    terms = {TENANT: ctx.zone(question.sender.tenant), "eth_type": ETH_IP}
    return match(**terms, ipv4_src=int(question.source), ipv4_dst=int(question.to))


class _Pick(Walker):
    """Takes the bucket that it is told to, and notes the group that it was asked to choose from."""

    wanted: Bucket | None = None
    group: Group | None = None

    def choose(self, group: Group, packet: Packet) -> Bucket:
        self.group = group
        return self.wanted or group.buckets[0]


class _Tracer:
    def __init__(self, ctx: Context, question: Question, down: Collection[int], last: int) -> None:
        self._ctx = ctx
        self._question = question
        self._sender = question.sender
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
        first = self._walker.send(self._port, packet)
        group = self._walker.group
        options = [] if group is None else self._options(group)
        if group is None or not options:
            return Trace((*steps, *self._steps(first)), (self._end(first),))
        steps += self._steps(first, self._offer(options), self._provider(group.buckets[0]) if options[1:] else None)
        total = sum(weight for _, _, weight in options)
        ends = []
        for provider, bucket, weight in options:
            self._walker.wanted = bucket
            ends.append(self._end(self._walker.send(self._port, packet), provider, weight / total))
        return Trace(tuple(steps), tuple(ends))

    # before the packet: its next hop, by ARP

    def _next_hop(self) -> tuple[list[tuple[str, str]], int | None]:
        """The MAC that the sender sends to; None: it can't, for the reason in the last line."""
        ctx, to = self._ctx, self._question.to
        network = ctx.network_of(self._sender)
        near = to in network.subnet
        if to.is_multicast or int(to) == 0xFFFFFFFF or (near and to == network.subnet.broadcast_address):
            return [], BROADCAST
        if not near and network.gateway is None:
            return [("", f"network {network.key} has no gateway: {name(self._sender)} has no way to {to}")], None
        hop = to if near or network.gateway is None else network.gateway
        own = mac_int(self._sender.mac)
        request: Packet = {
            "eth_src": own, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": REQUEST,
            "arp_sha": own, "arp_spa": int(self._sender.addresses[0]), "arp_tha": 0, "arp_tpa": int(hop),
        }  # fmt: skip
        assert self._port is not None, "run() sees to it"
        for sent in self._walker.send(self._port, request).sent:
            if sent.port == self._port and sent.packet["arp_op"] == REPLY:
                mac = sent.packet["arp_sha"]
                text = f"{hop}, {self._words.what(hop)}, is at {mac.to_bytes(6, 'big').hex(':')}"
                return [("neighbour", text if near else f"next hop {text}")], mac
        why = f"nobody in network {network.key} has {hop}: {name(self._sender)} gets no answer to its ARP"
        return [("", why)], None

    def _packet(self, mac: int) -> Packet:
        ask = self._question
        packet: Packet = {
            "eth_src": mac_int(self._sender.mac), "eth_dst": mac, "eth_type": ETH_IP, "ip_proto": ask.protocol,
            "ipv4_src": int(ask.source), "ipv4_dst": int(ask.to), "ip_ttl": TTL,
        }  # fmt: skip
        if ask.protocol == ICMP:
            packet |= {"icmpv4_type": ECHO_REQUEST, "icmpv4_code": 0}
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
            number = group.id >> GROUP_CHUNK_BITS
            groups = [g for g in self._groups.values() if g.id >> GROUP_CHUNK_BITS == number]
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
                for holder in holders(self._ctx, self._sender.tenant, IPv4Address(action.nat.dst)):
                    if isinstance(holder, Endpoint):
                        return holder
        return None

    def _offer(self, options: list[tuple[Endpoint, Bucket, int]]) -> str:
        total = sum(weight for _, _, weight in options)
        names = [
            f"{name(p)} {p.addresses[0]} (weight {p.weight}, {100 * slots / total:.0f} %)" for p, _, slots in options
        ]
        text = f"one of {len(names)} providers: " if len(names) > 1 else "the one provider: "
        text += listed(names)
        service = self._words.holder(self._question.to)
        absent = self._words.absent(service, {p.number for p, _, _ in options}) if isinstance(service, Service) else ""
        return text + (f"; not {absent}" if absent else "")

    # in words

    def _steps(self, walk: Walk, offer: str = "", example: Endpoint | None = None) -> list[tuple[str, str]]:
        """``offer``: what the group may choose from; ``example``: whom it has chosen on this walk, out of several."""
        out = []
        prefix = ""
        for step in walk.path:
            text = prefix + self._words.of(step)
            if offer and _chooses(step.flow):
                text += f" → {offer}"
                prefix = f"if {name(example)}: " if example else ""
            out.append((Table(step.flow.table).name.lower(), text))
        return out

    def _end(self, walk: Walk, provider: Endpoint | None = None, share: float = 1.0) -> End:
        def end(verdict: str, text: str, receiver: Endpoint | None = None) -> End:
            return End(verdict, text, receiver, provider, share)

        last = walk.path[-1]
        text = self._words.of(last)
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
            return end("delivered", "delivered to ports " + ", ".join(self._words.port(s.port) for s in walk.sent))
        sent = walk.sent[0]
        address = IPv4Address(sent.packet["ipv4_dst"])
        port = sent.packet.get(PORTS.get(self._question.protocol, ("", ""))[1])
        at = f"{address}:{port}" if port else f"{address}"
        for holder in holders(self._ctx, self._sender.tenant, address):
            if isinstance(holder, Endpoint):
                return end("delivered", f"delivered to {name(holder)} {at} at {where(self._ctx, holder)}", holder)
        return end("delivered", f"delivered to {at} out of port {self._words.port(sent.port)}")


def _chooses(flow: Flow) -> bool:
    return any(isinstance(action, GroupAction) for action in flow.actions)


def _dropped(steps: list[tuple[str, str]], why: str) -> Trace:
    return Trace(tuple(steps), (End("dropped", f"dropped: {why}"),))
