"""What a packet meets in a table, in words: those of the flow's feature, or else the table's own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ryu_apps.pipeline.catalog import FEATURES
from ryu_apps.pipeline.explain import Reader, chosen_provider, name, port_set, shown_end, shown_port
from ryu_apps.pipeline.family import destination, of_packet, source
from ryu_apps.pipeline.fields import CT_RPL
from ryu_apps.pipeline.packet import PORTS
from ryu_apps.pipeline.tables import PORT, FlowKind, Table
from ryu_apps.pipeline.values import Ct
from ryu_apps.pipeline.walk import Step
from topology.model import Endpoint

FEATURES_SAY = {where: words for feature in FEATURES for where, words in feature.words.items()}


def say(reader: Reader, step: Step) -> str:
    """One line for one flow; what it drops begins with ``dropped``."""
    table = Table(step.flow.table)
    feature_says = FEATURES_SAY.get((FlowKind(step.flow.kind), table))
    found = feature_says(reader, step) if feature_says is not None else ""
    if found:
        return found
    if table in TABLES_SAY:
        return TABLES_SAY[table](reader, step)
    return "dropped" if not step.flow.actions else "as its flow says"


def _classify(reader: Reader, step: Step) -> str:
    port = reader.port(step.packet["in_port"])
    if step.flow.goto is None:
        mac = step.packet["eth_src"].to_bytes(6, "big").hex(":")
        return f"dropped as forged: {mac} is not registered at port {port}"
    return f"port {port} is {reader.me}'s: tenant {reader.sender.tenant}, network {reader.sender.network}"


def _guard(reader: Reader, step: Step) -> str:
    sent_by = source(step.packet)
    if step.flow.goto is None:
        return f"dropped as forged: {sent_by} is not an address of {reader.me}"
    return f"{sent_by} is an address of {reader.me}"


def _service(reader: Reader, step: Step) -> str:
    to, holder = destination(step.packet), reader.target(step)
    if isinstance(holder, Endpoint) and step.packet["ip_proto"] in PORTS and not reader.is_reply:
        port = shown_port(step.packet)
        return f"{to} is not a VIP, and {port} of {name(holder)} not a service port"
    return f"{to} is not a VIP"


def _balance(_: Reader, step: Step) -> str:
    return shown_port(step.packet) if step.flow.actions else "not a new connection to a VIP"


def _sticky(reader: Reader, step: Step) -> str:
    client = source(step.packet)
    if not step.flow.actions:
        return f"{client} has no provider yet"
    return f"{client} went to {chosen_provider(reader, step)} last"


def _route(reader: Reader, step: Step) -> str:
    to, port = destination(step.packet), port_set(step)
    if port is None and step.flow.actions:
        return f"{to} is {reader.what(to)} → {reader.way(to)}"
    if port is None:
        return f"dropped: {reader.no_way(to)}"
    return f"{to} is {reader.what(to)} → port {reader.port(port)}"


def _reply(reader: Reader, step: Step) -> str:
    """What conntrack knows of the connection that it may be a reply of."""
    packet, me = step.packet, reader.me
    if not packet.get("ct_state", 0) & CT_RPL:
        return "not a reply: conntrack knows no such connection"
    family = of_packet(packet)
    if packet[family.src] == family.hidden_of(reader.sender):
        return f"a known connection, straight to {me}: its source is {me}'s own address again"
    return f"a known connection: translated back, from {shown_end(packet, reply=True)}"


def _leave(reader: Reader, step: Step) -> str:
    key = reader.sender.network_key
    if not step.flow.actions and step.flow.goto is None:
        return NOT_KNOWN
    no_nat = "has no nat, but this may be a reply to the host, or to a client that came in by another host"
    why = "has nat" if reader.ctx.network_of(reader.sender).nat else no_nat
    return f"network {key} {why} → second {reader.zone}"


def _depart(_: Reader, step: Step) -> str:
    if not step.flow.actions and step.flow.goto is None:
        return NOT_KNOWN
    hidden = next((a.nat.src for a in step.flow.actions if isinstance(a, Ct) and a.nat), None)
    if hidden is not None:
        return f"a new connection: the host sees {of_packet(step.packet).address(hidden)} as its source"
    return "a reply, or translated already: it may leave"


NOT_KNOWN = "dropped: no connection that it belongs to is known"
TABLES_SAY: Mapping[Table, Callable[[Reader, Step], str]] = {
    Table.CLASSIFY: _classify,
    Table.ARRIVE: _classify,
    Table.GUARD: _guard,
    Table.SERVICE: _service,
    Table.HAIRPIN: _service,
    Table.BALANCE: _balance,
    Table.STICKY: _sticky,
    Table.PICK: lambda *_: "dropped: no provider serves",
    Table.ROUTE: _route,
    Table.REPLY: lambda reader, step: f"not from a service port of {reader.me}",
    Table.MEND: _reply,
    Table.RESTORE: _reply,
    Table.LEAVE: _leave,
    Table.DEPART: _depart,
    Table.DELIVER: lambda reader, step: f"out of port {reader.port(step.packet.get(PORT, 0))}",
}
