"""What a flow means, in words: names instead of numbers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import BY_VERSION, V4, Family, destination, of_packet, source
from ryu_apps.pipeline.fields import CT_RPL, ICMP, ICMPV6, SCTP, TCP, UDP
from ryu_apps.pipeline.packet import PORTS, Packet, five_tuple
from ryu_apps.pipeline.tables import NETWORK, PORT, PROVIDER, FlowKind, Table
from ryu_apps.pipeline.values import LOCAL_IN_REGISTER, Ct, GroupAction, SetField
from ryu_apps.pipeline.walk import Step, Walk
from topology.model import Address, Endpoint, Network, Service
from topology.providers import Provider, chosen, no_way_back, providers

PROTOCOLS = {ICMP: "ICMP", ICMPV6: "ICMPv6", TCP: "TCP", UDP: "UDP", SCTP: "SCTP"}
SHORT_ID = 12
MOST_NAMED = 8  # providers in a line


def name(endpoint: Endpoint) -> str:
    """As its users call it: the container's name, else its id."""
    return endpoint.container_name.removeprefix("/") or endpoint.id[: SHORT_ID if endpoint.container_id else None]


def where(ctx: Context, endpoint: Endpoint) -> str:
    """Its port and host."""
    home = f"host {endpoint.host}" if endpoint.host else place(ctx, ctx.switch_of(endpoint))
    return f"port {endpoint.port_name} on {home}"


def place(ctx: Context, dpid: int) -> str:
    """A switch, by its host where it has one."""
    host = ctx.model.by_switch(dpid)
    return f"switch {dpid:016x}" if host is None else f"host {host.name}"


def why_not(ctx: Context, service: Service, provider: Endpoint, family: Family, client: str = "") -> str:
    """Why a provider's endpoint gets no new connections to the VIP of this family; empty: it may. ``client``: key of
    the network that they come from, empty for the hosts and what is outside.
    """
    if family.of(provider.addresses) is None:
        return f"has no IPv{family.version} address"
    host = ctx.model.hosts.get(provider.host)
    if host is not None and host.draining:
        return f"host {host.name} is draining"
    if not provider.serves(service):
        if provider.state != "running":
            return provider.state
        return provider.health if provider.health not in ("", "healthy") else "its check fails"
    if not ctx.reachable(provider):
        return out_of_reach(ctx, provider)
    if not ctx.linked(provider):
        return "its port is down"
    if chosen(ctx.model, service, [provider], family.version, client) is not None:
        return ""
    reason = no_way_back(ctx.network_of(provider), provider, family.version)
    return f"no way back: {reason}" if reason else closed(ctx, service, client)


def closed(ctx: Context, service: Service, client: str) -> str:
    """Why clients in a network can't use a service, whoever provides for it; empty: they can."""
    network = ctx.model.networks[service.network_key]
    if network.internal and client != network.key:
        return f"network {network.name} is internal: its VIPs are for its own containers"
    return ""


def why_no_endpoint(ctx: Context, service: Service, provider: Provider, family: Family, client: str = "") -> str:
    """The same for a container: the reason of the address that it would be reached at."""
    reasons = [why_not(ctx, service, endpoint, family, client) for endpoint in provider.endpoints]
    return next((reason for reason in reasons if not reason.startswith("no way back")), reasons[0])


def out_of_reach(ctx: Context, endpoint: Endpoint) -> str:
    """Why no packet gets to an endpoint from this switch."""
    at = ctx.switch_of(endpoint)
    if endpoint.host in ctx.dead:
        return f"host {endpoint.host} is down"
    return "not plugged in" if at in (0, ctx.dpid) or ctx.unplugged(endpoint) else f"no way to {place(ctx, at)}"


def holders(ctx: Context, tenant: str, address: Address) -> list[Service | Endpoint | Network]:
    """Who has an address in a tenant: a service, an endpoint, or a network as its gateway."""
    found: list[Service | Endpoint | Network] = []
    for network in ctx.model.networks_of(tenant):
        holder = ctx.model.holder(network.key, address)
        if holder == "gateway":
            found.append(network)
        elif isinstance(holder, Service | Endpoint):
            found.append(holder)
    return found


def shown(walk: Walk) -> list[Step]:
    """The steps that have something to say: that a packet for the controller has a second meter is none."""
    return [step for step in walk.path if step.flow.table != Table.TELL]


def port_names(ctx: Context) -> dict[int, str]:
    """The names of a switch's ports, by number."""
    return {number: port for port, number in ctx.ports.items()}


def whose(ctx: Context, tenant: str, address: Address) -> str:
    """Whose an address of a tenant is."""
    match next(iter(holders(ctx, tenant, address)), None):
        case Service() as service:
            return f"the VIP of {service.key}"
        case Network() as network:
            return f"the gateway of {network.key}"
        case Endpoint() as endpoint:
            return f"{name(endpoint)}'s"
    return "nobody's"


class Words:
    """The words for what a packet of one sender meets. ``ports``: `port_names` of the switch. ``reply``: it is one, to
    a port that does not matter.
    """

    def __init__(self, ctx: Context, sender: Endpoint, ports: Mapping[int, str], *, reply: bool = False) -> None:
        self._ctx = ctx
        self._sender = sender
        self._is_reply = reply
        self._ports = ports

    def of(self, step: Step) -> str:
        """One line for one flow; what it drops begins with ``dropped:``."""
        match Table(step.flow.table):
            case Table.CLASSIFY | Table.ARRIVE:
                return self._classify(step)
            case Table.GUARD:
                return self._guard(step)
            case Table.SERVICE | Table.HAIRPIN:
                return self._service(step)
            case Table.BALANCE:
                return self._balance(step)
            case Table.STICKY | Table.PICK | Table.KEEP:
                return self._affinity(step)
            case Table.ROUTE:
                return self._route(step)
            case Table.REPLY | Table.MEND | Table.RESTORE:
                return self._reply(step)
            case Table.LEAVE | Table.DEPART:
                return self._leave(step)
            case Table.DELIVER if step.flow.kind == FlowKind.CLOSED and step.flow.goto is not None:
                return self.no_way(destination(step.packet))
            case Table.DELIVER:
                return f"out of port {self.port(step.packet.get(PORT, 0))}"
            case Table.UNFIT:
                return "dropped: no container may send this"
            case Table.FORGOTTEN:
                return "to the controller: it belongs to no connection, and its ends are reset"
        return "dropped" if not step.flow.actions else "as its flow says"

    def port(self, number: int) -> str:
        """The name of a port of this switch."""
        if number == LOCAL_IN_REGISTER:
            return "to the host"
        return self._ports.get(number, str(number))

    def _classify(self, step: Step) -> str:
        port = self.port(step.packet["in_port"])
        if step.flow.kind == FlowKind.TRANSIT:
            network = self._ctx.model.by_number("network", _set(step, NETWORK))
            if isinstance(network, Network):
                return f"from another switch: network {network.key}"
            return f"port {port} is a link" if step.flow.goto else f"dropped: port {port} is a link"
        if step.flow.goto is None:
            mac = step.packet["eth_src"].to_bytes(6, "big").hex(":")
            return f"dropped as forged: {mac} is not registered at port {port}"
        return f"port {port} is {name(self._sender)}'s: tenant {self._sender.tenant}, network {self._sender.network}"

    def _guard(self, step: Step) -> str:
        sent_by = source(step.packet)
        if step.flow.goto is None:
            return f"dropped as forged: {sent_by} is not an address of {name(self._sender)}"
        return f"{sent_by} is an address of {name(self._sender)}"

    def _service(self, step: Step) -> str:
        flow, packet = step.flow, step.packet
        to = destination(packet)
        zone = f"conntrack zone of tenant {self._sender.tenant}"
        holder = self.holder(to)
        who = holder.key if isinstance(holder, Service) else ""
        if flow.kind == FlowKind.ECHO:
            return f"an echo request to {self.what(to)}"
        if flow.kind == FlowKind.EXPIRE:
            return "its TTL ends here: time exceeded"
        if flow.kind == FlowKind.HAIRPIN and flow.table == Table.SERVICE:
            me = name(self._sender)
            return f"from a service port of {me} to the VIP of {who}: it may be a reply to {me} itself → second {zone}"
        if flow.kind == FlowKind.HAIRPIN:
            known = f"a known connection of {name(self._sender)} to itself: translated back, to {_end(packet)}"
            return f"no reply to itself → {zone}" if flow.goto is None else known
        if flow.kind == FlowKind.BALANCE:
            return f"{to} is the VIP of {who} → {zone}"
        if flow.kind == FlowKind.TRANSLATE and isinstance(holder, Endpoint):
            services = ", ".join(s.key for s in self._ctx.model.selected_by(holder))
            return f"{to} is {name(holder)}'s, and {_port(packet)} a service port ({services}) → {zone}"
        if isinstance(holder, Endpoint) and packet["ip_proto"] in PORTS and not self._is_reply:
            return f"{to} is not a VIP, and {_port(packet)} of {name(holder)} not a service port"
        return f"{to} is not a VIP"

    def _balance(self, step: Step) -> str:
        flow, packet, family = step.flow, step.packet, of_packet(step.packet)
        service = self.holder(destination(packet))
        if flow.kind == FlowKind.REFUSE and isinstance(service, Service):
            return ("" if flow.actions else "dropped: ") + self.refusal(service, packet)
        if flow.kind == FlowKind.TRANSLATE:
            provider = self._ctx.model.by_number("endpoint", packet[family.dst] - family.hidden)
            return f"a new connection straight to {name(provider) if isinstance(provider, Endpoint) else '?'}"
        if flow.kind == FlowKind.AFFINITY and isinstance(service, Service):
            return f"{_port(packet)}: {service.key} has session affinity of {service.affinity} s"
        return f"{_port(packet)}" if flow.actions else "not a new connection to a VIP"

    def refusal(self, service: Service, packet: Packet) -> str:
        """Why a VIP has no answer for a packet."""
        ports = [f"port {p.port} {p.protocol}" for p in service.ports]
        if _port(packet) not in ports:
            return f"{service.key} has no {_port(packet)}, but {', '.join(ports)}"
        if not self._ctx.model.providers(service):
            return f"{service.key} has no provider: no container's labels match its selectors"
        if shut := closed(self._ctx, service, self._sender.network_key):
            return f"{service.key} is not for network {self._sender.network}: {shut}"
        return f"no provider of {service.key} serves: {self.absent(service, of_packet(packet))}"

    def absent(self, service: Service, family: Family, offered: Collection[int] = ()) -> str:
        """The providers that get no new connections, with the reason. ``offered``: numbers of those that do."""
        absent = [
            p for p in providers(self._ctx.model, service) if not any(e.number in offered for e in p.endpoints)
        ]
        client = self._sender.network_key
        reasons = [why_no_endpoint(self._ctx, service, p, family, client) or "its port is down" for p in absent]
        return listed([f"{name(p.lead)} ({reason})" for p, reason in zip(absent, reasons, strict=True)])

    def _affinity(self, step: Step) -> str:
        client, flow = source(step.packet), step.flow
        chosen = step.packet.get(PROVIDER, 0)
        for action in flow.actions:
            if isinstance(action, SetField) and action.field == PROVIDER:
                chosen = action.value
        provider = self._ctx.model.by_number("endpoint", chosen)
        who = name(provider) if isinstance(provider, Endpoint) else f"one that is gone ({chosen})"
        if flow.table == Table.STICKY:
            return f"{client} went to {who} last" if flow.actions else f"{client} has no provider yet"
        if flow.table == Table.KEEP and flow.kind == FlowKind.BALANCE:
            to = next((a.nat.dst for a in flow.actions if isinstance(a, Ct) and a.nat), None)
            return f"{who} is in several networks: {client} reaches it at {of_packet(step.packet).address(to or 0)}"
        if flow.table == Table.KEEP:
            return f"{who} is remembered for {client}"
        if any(isinstance(a, GroupAction) for a in flow.actions):
            return _port(step.packet)
        return f"{who} still serves: {client} stays with it" if flow.actions else "dropped: no provider serves"

    def _route(self, step: Step) -> str:
        flow, packet = step.flow, step.packet
        to = destination(packet)
        if flow.kind == FlowKind.HAIRPIN:
            vip = next((a.nat.src for a in flow.actions if isinstance(a, Ct) and a.nat), None)
            seen = of_packet(packet).address(vip or 0)
            return f"{name(self._sender)} is its own provider: it sees the VIP {seen} as its client"
        if flow.kind == FlowKind.FLOOD:
            return f"to all ports of network {self._sender.network_key}"
        if flow.kind == FlowKind.SEEK and flow.actions:
            return f"nobody in tenant {self._sender.tenant} is known to have {to}: its gateway asks by ARP who has it"
        if flow.kind == FlowKind.UNREACHABLE:
            return self.no_way(to)
        if flow.kind == FlowKind.CLOSED:
            return _special(to) or f"{to} is outside, and IPv6 has no nat"
        port = next((a.value for a in flow.actions if isinstance(a, SetField) and a.field == PORT), None)
        if port is None and flow.actions:
            return f"{to} is {self.what(to)} → {self._way(to)}"
        if port is None:
            return f"dropped: {self.no_way(to)}"
        if flow.kind == FlowKind.OUTSIDE:
            whose = "is the host's" if to in self._ctx.host_addresses else "is outside"
            return f"{to} {whose} → {self.port(port)}"
        return f"{to} is {self.what(to)} → port {self.port(port)}"

    def no_way(self, to: Address) -> str:
        """Why no flow leads to an address."""
        holder = self.holder(to)
        if isinstance(holder, Network):
            return f"{to} is the gateway of {holder.key}, which only answers pings"
        if not isinstance(holder, Endpoint):
            return _special(to) or f"no container or service in tenant {self._sender.tenant} has {to}"
        who, ctx = f"{to} is {name(holder)}'s", self._ctx
        if holder.state == "stopped":
            return f"{who}, which is stopped"
        gateway = BY_VERSION[to.version].gateway(ctx.network_of(holder))
        if gateway is None and holder.network_key != self._sender.network_key:
            if ctx.network_of(holder).internal:
                return f"{who}, whose network {holder.network_key} is internal: closed to other networks"
            return f"{who}, whose network {holder.network_key} has no gateway: it could not reply"
        reason = out_of_reach(ctx, holder)
        return f"{who}: {reason}" if reason != "not plugged in" else f"{who}, which is not plugged in"

    def _way(self, to: Address) -> str:
        """Where a packet for another switch goes."""
        holder = self.holder(to)
        at = self._ctx.switch_of(holder) if isinstance(holder, Endpoint) else 0
        return f"the way to {place(self._ctx, at)}" if at else "the way to its host"

    def _reply(self, step: Step) -> str:
        """In `reply`: whether it may belong to a service's connection. After it: what conntrack knows of that."""
        flow, packet, me = step.flow, step.packet, name(self._sender)
        if flow.table == Table.REPLY:
            if flow.kind in (FlowKind.TRANSLATE, FlowKind.HAIRPIN):
                zone = f"conntrack zone of tenant {self._sender.tenant}"
                return f"from a service port of {me}: it may be a reply → {zone}"
            return f"not from a service port of {me}"
        if not packet.get("ct_state", 0) & CT_RPL:
            return "not a reply: conntrack knows no such connection"
        family = of_packet(packet)
        if packet[family.src] == family.hidden_of(self._sender):
            return f"a known connection, straight to {me}: its source is {me}'s own address again"
        return f"a known connection: translated back, from {_end(packet, reply=True)}"

    def _leave(self, step: Step) -> str:
        """Whether it may go to the host, or by it."""
        key, flow = self._sender.network_key, step.flow
        network = self._ctx.network_of(self._sender)
        if flow.kind == FlowKind.CLOSED:
            return f"network {key} has no nat: only replies to the host may leave it"
        if not flow.actions and flow.goto is None:
            return "dropped: no connection that it belongs to is known"
        if flow.table == Table.LEAVE:
            no_nat = "has no nat, but this may be a reply to the host, or to a client that came in by another host"
            why = "has nat" if network.nat else no_nat
            return f"network {key} {why} → second conntrack zone of tenant {self._sender.tenant}"
        hidden = next((a.nat.src for a in flow.actions if isinstance(a, Ct) and a.nat), None)
        if hidden is not None:
            return f"a new connection: the host sees {of_packet(step.packet).address(hidden)} as its source"
        return "a reply, or translated already: it may leave"

    def what(self, address: Address) -> str:
        """Whose an address is."""
        return whose(self._ctx, self._sender.tenant, address)

    def holder(self, address: Address) -> Service | Endpoint | Network | None:
        """Who has an address, as seen by the sender."""
        return next(iter(holders(self._ctx, self._sender.tenant, address)), None)


def _special(to: Address) -> str:
    """What an address is that nobody routes; empty: it is like any other."""
    if to.is_link_local:
        return f"{to} is link-local: containers reach only their host there"
    return f"{to} is a reserved address" if to.is_reserved else ""


def _set(step: Step, register: str) -> int:
    return next((a.value for a in step.flow.actions if isinstance(a, SetField) and a.field == register), 0)


def _port(packet: Packet) -> str:
    protocol = packet.get("ip_proto", 0)
    words = PROTOCOLS.get(protocol, f"protocol {protocol}")
    return f"port {packet.get(PORTS[protocol][1], 0)} {words}" if protocol in PORTS else words


def with_port(address: Address, port: int) -> str:
    """An address and a port as a URL has them; 0: without a port."""
    if not port:
        return f"{address}"
    return f"{address}:{port}" if address.version == V4.version else f"[{address}]:{port}"


def _end(packet: Packet, *, reply: bool = False) -> str:
    """Where a packet goes to; ``reply``: where it comes from."""
    _, _, sport, _, dport = five_tuple(packet)
    return with_port(source(packet), sport) if reply else with_port(destination(packet), dport)


def listed(words: Sequence[str]) -> str:
    """The first of them, and how many more."""
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


__all__ = [
    "Words", "closed", "holders", "listed", "name", "place", "port_names", "where", "whose", "why_no_endpoint",
    "why_not", "with_port",
]  # fmt: skip
