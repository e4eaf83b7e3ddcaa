"""Why a connection goes where it goes: its first packet and the reply walked through what is compiled, in words. Pure.

Only the owners on its way are compiled, so the cost does not grow with the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import SWITCH, Context, Owner, mac_int
from ryu_apps.pipeline.explain import Reader, holders, listed, name, place, shown, where, with_port
from ryu_apps.pipeline.family import BY_VERSION, destination
from ryu_apps.pipeline.features import select
from ryu_apps.pipeline.fields import TCP, TCP_SYN, UDP
from ryu_apps.pipeline.journey import Journeys, Leg, Place, Places
from ryu_apps.pipeline.nexthop import next_hop
from ryu_apps.pipeline.packet import PORTS, Packet
from ryu_apps.pipeline.reply import TTL, Replies, Reply, Steps, unknown
from ryu_apps.pipeline.steps import say
from ryu_apps.pipeline.tables import PROVIDER, TENANT, FlowKind, Priority, Table, table_name
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
from ryu_apps.pipeline.walk import Walker
from ryu_apps.pipeline.ways import is_way
from topology.model import Address, Endpoint, Network, Service

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
    """One way that it may end. ``provider``: the one that was chosen, with its share of the new connections.

    ``reply``: what becomes of the answer to what is delivered. Where it is lost, so is the connection.
    """

    verdict: str  # delivered | lost | answered | refused | dropped | asked | sent (to a switch that is not connected)
    text: str
    receiver: Endpoint | None = None
    provider: Endpoint | None = None
    share: float = 1.0
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """``steps``: (table, what happened there)."""

    steps: Steps
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


def trace(
    ctx: Context, question: Question, down: Collection[int] = (), last: int = 0, others: Places | None = None
) -> Trace:
    """The way of the connection. ``last``: number of the provider that session affinity has for its client; 0: none."""
    return _Tracer(ctx, question, down, last, others or {}).run()


def on_the_way(ctx: Context, question: Question, *, routed: bool = False) -> set[Owner]:
    """The owners whose flows the connection may meet. ``routed``: at a switch that it is only on its way to."""
    sender = question.sender
    out: set[Owner] = {SWITCH, (sender.kind, sender.key), ("network", sender.network_key)}
    out |= {(n.kind, n.key) for n in ctx.model.networks_around(question.to) if n.tenant == sender.tenant}
    for holder in holders(ctx, sender.tenant, question.to):
        out.add((holder.kind, holder.key))
        receivers = ctx.model.providers(holder) if isinstance(holder, Service) else [holder]
        for receiver in receivers:
            if isinstance(receiver, Endpoint) and (not routed or _passes(ctx, receiver)):
                out |= {(receiver.kind, receiver.key), ("network", receiver.network_key)}
    return out


def _passes(ctx: Context, receiver: Endpoint) -> bool:
    """Whether what is routed to a receiver comes by here: a tunnel leads straight to its switch, links lead on."""
    return bool(ctx.hops) or ctx.switch_of(receiver) == ctx.dpid


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


class _Tracer:
    def __init__(
        self, ctx: Context, question: Question, down: Collection[int], last: int, others: Places
    ) -> None:
        self._ctx = ctx
        self._down = down
        self._question = question
        self._sender = question.sender
        self._family = BY_VERSION[question.to.version]
        programs = [compile_owner(ctx, owner) for owner in on_the_way(ctx, question)]
        flows = [flow for program in programs for flow in program.flows]
        if last:
            what, then = remembered(ctx, question), (SetField(PROVIDER, last),)
            flows.append(Flow(Table.STICKY, Priority.NORMAL, what, then, kind=FlowKind.AFFINITY))
        self._groups = {group.id: group for program in programs for group in program.groups}
        self._walker = _Pick(flows, self._groups, down)
        places = {**others, ctx.dpid: Place(ctx, down)}
        self._journeys = Journeys(places, lambda at: on_the_way(at, question, routed=True), {ctx.dpid: self._walker})
        self._replies = Replies(self._journeys, question.sender)
        self._words = self._journeys.words(ctx, question.sender)
        self._port = ctx.port_of(question.sender)

    def run(self) -> Trace:
        if self._port is None:
            why = f"{name(self._sender)} is not plugged in: the switch has no port {self._sender.port_name}"
            return Trace((), (End("dropped", f"dropped: {why}"),))
        if self._port in self._down:
            at = f"port {self._sender.port_name}"
            why = f"the link of {name(self._sender)} is down ({at}): its interface is down, or it has just ended"
            return Trace((), (End("dropped", f"dropped: {why}"),))
        hop = next_hop(self._ctx, self._walker, self._sender, self._question.to)
        if hop.mac is None:
            return Trace((), (End("dropped", f"dropped: {hop.text}"),))
        steps = [("neighbour", hop.text)] if hop.text else []
        packet = self._packet(hop.mac)
        first = self._journeys.send(self._ctx.dpid, self._port, packet)
        group = self._walker.group
        options = [] if group is None else self._options(group)
        if group is None or not options:
            return Trace((*steps, *self._steps(first)), (self._with_reply(self._end(first), packet, first),))
        total = sum(weight for _, _, weight in options)
        ends = []
        for provider, bucket, weight in options:
            self._walker.wanted = bucket
            self._journeys.forget()
            legs = self._journeys.send(self._ctx.dpid, self._port, packet)
            ends.append(self._with_reply(self._end(legs, provider, weight / total), packet, legs))
        steps += self._steps(first, self._offer(ends), self._provider(group.buckets[0]) if options[1:] else None)
        return Trace(tuple(steps), tuple(ends))

    def _with_reply(self, end: End, packet: Packet, legs: list[Leg]) -> End:
        """With what becomes of the reply; the connections of the way there are still tracked."""
        if end.verdict == "sent":
            return replace(end, reply=unknown("nothing is known beyond a switch that is not connected"))
        if end.verdict != "delivered":
            return end
        if end.receiver is None:
            return replace(end, reply=unknown(self._beyond(legs[-1])))
        reply = self._replies.follow(packet, end.receiver, legs[-1])
        if reply.verdict != "lost":
            return replace(end, reply=reply)
        text = f"{end.text.replace('delivered to', 'reaches', 1)}, but the reply is {reply.text}"
        return replace(end, verdict="lost", text=text, reply=reply)

    def _beyond(self, leg: Leg) -> str:
        """Why nothing is known of who replies."""
        sent = leg.walk.sent
        if len(sent) > 1 or leg.walk.path[-1].flow.kind == FlowKind.FLOOD:
            return "it goes to several ports"
        if sent[0].port == LOCAL_IN_REGISTER:
            return "it is the host's, or comes from outside"
        return "it is not known who is at that port"

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
        if ask.protocol == TCP:
            packet["tcp_flags"] = TCP_SYN
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

    def _offer(self, ends: list[End]) -> str:
        """What may be chosen: each container with its address for this client."""
        found = [(end.provider, end.receiver or end.provider, end.share) for end in ends if end.provider]
        names = [f"{name(p)} {self._own(at)} (weight {p.weight}, {100 * share:.0f} %)" for p, at, share in found]
        text = f"one of {len(names)} providers: " if len(names) > 1 else "the one provider: "
        text += listed(names)
        service = self._words.holder(self._question.to)
        if not isinstance(service, Service):
            return text
        absent = self._words.absent(service, self._family, {p.number for p, _, _ in found})
        return text + (f"; not {absent}" if absent else "")

    def _own(self, provider: Endpoint) -> Address:
        return self._family.address(self._family.of(provider.addresses) or 0)

    # in words

    def _steps(self, legs: list[Leg], offer: str = "", example: Endpoint | None = None) -> list[tuple[str, str]]:
        """``offer``: what the group may choose from; ``example``: whom it has chosen on this walk, out of several."""
        out = []
        prefix = ""
        for leg in legs:
            at = f"on {place(leg.context, leg.context.dpid)}: " if leg.context is not self._ctx else ""
            words = self._journeys.words(leg.context, self._sender)
            for step in shown(leg.walk):
                text = prefix + at + say(words, step)
                if offer and not at and _chooses(step.flow):
                    text += f" → {offer}"
                    prefix = f"if {name(example)}: " if example else ""
                out.append((table_name(step.flow.table), text))
        return out

    def _end(self, legs: list[Leg], provider: Endpoint | None = None, share: float = 1.0) -> End:
        def end(verdict: str, text: str, receiver: Endpoint | None = None) -> End:
            return End(verdict, text, receiver, provider, share)

        ctx, walk = legs[-1]
        words, last = self._journeys.words(ctx, self._sender), shown(walk)[-1]
        text = say(words, last)
        if ctx is not self._ctx:
            text += f", on {place(ctx, ctx.dpid)}"
        if not walk.sent:
            if _chooses(last.flow):
                text += ": the port of every provider is down"
            if last.flow.table == Table.DELIVER and last.flow.actions:
                text = f"{text}, which is down or where it came from"
            if not text.startswith("dropped"):
                text = f"dropped: {text}"
            return end("dropped", f"{text} ({name(provider)})" if provider else text)
        if any(sent.port == CONTROLLER for sent in walk.sent):
            if last.flow.kind == FlowKind.REFUSE:
                return end("refused", f"refused {self._refused()}: {text}")
            if last.flow.kind == FlowKind.UNREACHABLE:
                return end(*self._nobody(words, text))
            if last.flow.kind == FlowKind.CLOSED:
                return end("refused", f"refused as prohibited: {text}")
            return end("asked", f"to the controller: {text}")
        if last.flow.kind == FlowKind.ECHO:
            return end("answered", f"answered by the switch: {text}")
        if len(walk.sent) > 1 or last.flow.kind == FlowKind.FLOOD:
            ports = dict.fromkeys(words.port(s.port) for s in walk.sent)
            return end("delivered", "delivered to ports " + ", ".join(ports))
        sent = walk.sent[0]
        address = destination(sent.packet)
        port = sent.packet.get(PORTS.get(self._question.protocol, ("", ""))[1])
        if sent.port == LOCAL_IN_REGISTER:
            return end("delivered", f"delivered to the host, which {self._at_host(address)}")
        at = with_port(address, port or 0)
        for holder in holders(self._ctx, self._sender.tenant, address):
            if isinstance(holder, Endpoint) and ctx.port_of(holder) != sent.port:
                home = place(ctx, ctx.switch_of(holder))
                return end("sent", f"sent to {home}, which is not connected, for {name(holder)} {at}", holder)
            if isinstance(holder, Endpoint):
                return end("delivered", f"delivered to {name(holder)} {at} at {where(ctx, holder)}", holder)
        return end("delivered", f"delivered to {at} out of port {words.port(sent.port)}")

    def _refused(self) -> str:
        return {TCP: "with a reset", UDP: "with port unreachable"}.get(self._question.protocol, "")

    def _nobody(self, words: Reader, text: str) -> tuple[str, str]:
        """Verdict and words for an address that no packet can be sent to: see `ryu_apps.nobody`."""
        match words.holder(self._question.to):
            case Endpoint():
                return "dropped", f"dropped: {text}"
            case Network():
                return "refused", f"refused {self._refused()}: {text}"
        return "refused", f"refused with host unreachable: {text}"

    def _at_host(self, address: Address) -> str:
        """What the host does with a packet of the sender's for an address."""
        network = self._ctx.network_of(self._sender)
        if address not in self._ctx.host_addresses:
            return f"sends it on to {address}"
        if network.nat_host:
            return "lets it in if its own rules do"
        return f"refuses it unless the port is published: network {network.key} has no natHost"


def _chooses(flow: Flow) -> bool:
    return any(isinstance(action, GroupAction) for action in flow.actions)
