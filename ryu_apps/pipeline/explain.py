"""Names instead of numbers, and why things are as they are: what traces and flows are told with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.family import BY_VERSION, V4, Family, destination, of_packet, source
from ryu_apps.pipeline.fields import ICMP, ICMPV6, SCTP, TCP, UDP
from ryu_apps.pipeline.packet import PORTS, Packet, five_tuple
from ryu_apps.pipeline.tables import PORT, PROVIDER, Table
from ryu_apps.pipeline.values import LOCAL_IN_REGISTER, SetField
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


class Reader:
    """What the words for a packet's steps are made of: its sender, and names. ``ports``: `port_names` of the switch.
    ``is_reply``: it is one, to a port that does not matter.
    """

    def __init__(self, ctx: Context, sender: Endpoint, ports: Mapping[int, str], *, is_reply: bool = False) -> None:
        self.ctx = ctx
        self.sender = sender
        self.is_reply = is_reply
        self._ports = ports

    @property
    def me(self) -> str:
        """The sender's name."""
        return name(self.sender)

    @property
    def zone(self) -> str:
        """Where its connections are."""
        return f"conntrack zone of tenant {self.sender.tenant}"

    def port(self, number: int) -> str:
        """The name of a port of this switch."""
        if number == LOCAL_IN_REGISTER:
            return "to the host"
        return self._ports.get(number, str(number))

    def what(self, address: Address) -> str:
        """Whose an address is."""
        return whose(self.ctx, self.sender.tenant, address)

    def holder(self, address: Address) -> Service | Endpoint | Network | None:
        """Who has an address, as seen by the sender."""
        return next(iter(holders(self.ctx, self.sender.tenant, address)), None)

    def target(self, step: Step) -> Service | Endpoint | Network | None:
        """Who has the address that a packet is sent to."""
        return self.holder(destination(step.packet))

    def refusal(self, service: Service, packet: Packet) -> str:
        """Why a VIP has no answer for a packet."""
        ports = [f"port {p.port} {p.protocol}" for p in service.ports]
        if shown_port(packet) not in ports:
            return f"{service.key} has no {shown_port(packet)}, but {', '.join(ports)}"
        if not self.ctx.model.providers(service):
            return f"{service.key} has no provider: no container's labels match its selectors"
        if shut := closed(self.ctx, service, self.sender.network_key):
            return f"{service.key} is not for network {self.sender.network}: {shut}"
        return f"no provider of {service.key} serves: {self.absent(service, of_packet(packet))}"

    def absent(self, service: Service, family: Family, offered: Collection[int] = ()) -> str:
        """The providers that get no new connections, with the reason. ``offered``: numbers of those that do."""
        absent = [p for p in providers(self.ctx.model, service) if not any(e.number in offered for e in p.endpoints)]
        client = self.sender.network_key
        reasons = [why_no_endpoint(self.ctx, service, p, family, client) or "its port is down" for p in absent]
        return listed([f"{name(p.lead)} ({reason})" for p, reason in zip(absent, reasons, strict=True)])

    def no_way(self, to: Address) -> str:
        """Why no flow leads to an address."""
        holder = self.holder(to)
        if isinstance(holder, Network):
            return f"{to} is the gateway of {holder.key}, which only answers pings"
        if not isinstance(holder, Endpoint):
            return special(to) or f"no container or service in tenant {self.sender.tenant} has {to}"
        who, ctx = f"{to} is {name(holder)}'s", self.ctx
        if holder.state == "stopped":
            return f"{who}, which is stopped"
        gateway = BY_VERSION[to.version].gateway(ctx.network_of(holder))
        if gateway is None and holder.network_key != self.sender.network_key:
            if ctx.network_of(holder).internal:
                return f"{who}, whose network {holder.network_key} is internal: closed to other networks"
            return f"{who}, whose network {holder.network_key} has no gateway: it could not reply"
        reason = out_of_reach(ctx, holder)
        return f"{who}: {reason}" if reason != "not plugged in" else f"{who}, which is not plugged in"

    def way(self, to: Address) -> str:
        """Where a packet for another switch goes."""
        holder = self.holder(to)
        at = self.ctx.switch_of(holder) if isinstance(holder, Endpoint) else 0
        return f"the way to {place(self.ctx, at)}" if at else "the way to its host"


def special(to: Address) -> str:
    """What an address is that nobody routes; empty: it is like any other."""
    if to.is_link_local:
        return f"{to} is link-local: containers reach only their host there"
    return f"{to} is a reserved address" if to.is_reserved else ""


def set_to(step: Step, register: str) -> int:
    """What a flow sets a register to; 0: it does not."""
    return next((a.value for a in step.flow.actions if isinstance(a, SetField) and a.field == register), 0)


def port_set(step: Step) -> int | None:
    """The port that a flow has a packet leave by; None: it sets none."""
    return next((a.value for a in step.flow.actions if isinstance(a, SetField) and a.field == PORT), None)


def chosen_provider(reader: Reader, step: Step) -> str:
    """Whom a register names, once the flow is done."""
    number = set_to(step, PROVIDER) or step.packet.get(PROVIDER, 0)
    provider = reader.ctx.model.by_number("endpoint", number)
    return name(provider) if isinstance(provider, Endpoint) else f"one that is gone ({number})"


def may_be_a_reply(reader: Reader, _: Step) -> str:
    """In `reply`: it may belong to a service's connection."""
    return f"from a service port of {reader.me}: it may be a reply → {reader.zone}"


def shown_port(packet: Packet) -> str:
    """The port and protocol that a packet is sent to."""
    protocol = packet.get("ip_proto", 0)
    words = PROTOCOLS.get(protocol, f"protocol {protocol}")
    return f"port {packet.get(PORTS[protocol][1], 0)} {words}" if protocol in PORTS else words


def with_port(address: Address, port: int) -> str:
    """An address and a port as a URL has them; 0: without a port."""
    if not port:
        return f"{address}"
    return f"{address}:{port}" if address.version == V4.version else f"[{address}]:{port}"


def shown_end(packet: Packet, *, reply: bool = False) -> str:
    """Where a packet goes to; ``reply``: where it comes from."""
    _, _, sport, _, dport = five_tuple(packet)
    return with_port(source(packet), sport) if reply else with_port(destination(packet), dport)


def listed(words: Sequence[str]) -> str:
    """The first of them, and how many more."""
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")

