"""What REST shows of the connected switches: what they are, have counted and refused, and why packets go where they go.

The greenthreads of requests ask here. What only a switch knows is read by its own thread (`Reconciler.ask`).
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ryu_apps.counters import PortCount, Raw, ServiceCount, ServiceReader, read_forged, read_refused
from ryu_apps.flows import flows
from ryu_apps.learner import ignored_lines
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.show import Asked
from ryu_apps.pipeline.trace import Question
from ryu_apps.reconciler import Reconciler
from ryu_apps.switches import Switches
from ryu_apps.tracing import trace
from topology.errors import Unavailable
from topology.model import Endpoint, Service
from topology.observed import Switch
from topology.paths import End
from topology.snapshot import Model

READ_TIMEOUT = 3.0  # seconds that a question waits for a switch


class SwitchesView:
    """Reads the registry of the switches, and never writes."""

    def __init__(self, model: Model, switches: Switches) -> None:
        self._model = model
        self._switches = switches
        self._observed = switches.observed

    def settle(self, revision: int) -> bool:
        """See `Switches.settle`."""
        return self._switches.settle(revision)

    def unlinked(self, endpoint: Endpoint) -> bool:
        """Whether its switch is connected, and its port there is down or missing."""
        switch = self._observed.switches.get(Context(self._model, 0).switch_of(endpoint))
        return switch is not None and not switch.has_link(endpoint.port_name)

    def counters(self, service_key: str) -> dict[str, Any]:
        """What the switches have counted for a service, all together, and what they refused of it, by switch."""
        service = self._model.services.get(service_key)
        if service is None or not self._switches.reconcilers:
            return {}
        until = time.monotonic() + READ_TIMEOUT
        asked = []
        for dpid, r in self._switches.reconcilers.items():
            reader = ServiceReader(r.context(), service)
            asked.append((dpid, reader, r.ask(partial(_read_service, reader, r))))
        total = ServiceCount(ports={port: PortCount() for port in service.ports})
        unread = {}
        for dpid, reader, question in asked:
            raw = question.wait(until - time.monotonic())
            if raw is None:
                unread[f"{dpid:016x}"] = question.failure
            else:
                total.add(reader.count(raw))
        owner = (Service.kind, service_key)
        reconcilers = self._switches.reconcilers
        errors = {f"{dpid:016x}": r.refused[owner].line for dpid, r in reconcilers.items() if owner in r.refused}
        return total.document() | {k: v for k, v in (("unread", unread), ("errors", errors)) if v}

    def without_sctp(self) -> list[str]:
        """The connected switches whose conntrack does not know SCTP's ports, each in a few words."""
        return [_switch_words(r) for _, r in sorted(self._switches.reconcilers.items()) if not r.context().sctp]

    def trace(self, question: Question) -> dict[str, Any]:
        """Why a connection goes where it goes, at the switch where it begins."""
        sender = question.sender
        dpid = Context(self._model, 0).switch_of(sender)
        r = self._switches.reconcilers.get(dpid)
        if r is None:
            at = f"switch {dpid:016x}, where {sender.id} is," if dpid else f"the switch of host {sender.host}"
            raise Unavailable(f"{at} is not connected")
        return trace(r, question, [other for other in self._switches.reconcilers.values() if other is not r])

    def flows(self, dpid: int, asked: Asked) -> dict[str, Any]:
        """The flows of a connected switch, with names."""
        reconciler = self._switches.reconcilers.get(dpid)
        if reconciler is None:
            raise Unavailable(f"switch {dpid:016x} is not connected")
        return flows(reconciler, asked)

    def forged(self, dpid: int) -> dict[str, int]:
        """Packets of forged senders that a connected switch has dropped, by port; empty where it does not say."""
        reconciler = self._switches.reconcilers.get(dpid)
        if reconciler is None:
            return {}
        found = reconciler.ask(partial(read_forged, reconciler.session)).wait(READ_TIMEOUT)
        return {} if found is None else {p.name: found[p.number] for p in reconciler.switch.ports.values()}

    def refused(self, dpid: int) -> dict[str, int]:
        """Packets of connections that the limit of a tenant has refused at a connected switch, by tenant."""
        reconciler = self._switches.reconcilers.get(dpid)
        if reconciler is None:
            return {}
        found = reconciler.ask(partial(read_refused, reconciler.session)).wait(READ_TIMEOUT)
        by_number = {} if found is None else found
        return {name: count for name, t in self._model.tenants.items() if (count := by_number.get(t.number, 0))}

    def switches(self) -> list[dict[str, Any]]:
        """The connected switches for REST: ports, counts, and what a switch refused, by object."""
        return [
            {
                "dpid": f"{dpid:016x}",
                "connected": True,
                "settled": self._switches.settled(r),
                "ports": [
                    {"name": p.name, "number": p.number, "up": p.up}
                    for p in sorted(r.switch.ports.values(), key=lambda p: p.number)
                ],
                "links": self._links(r.switch),
                "flows": len(r.actual.flows),
                "groups": len(r.actual.groups),
                "flowMods": r.session.flow_mods,
                "groupMods": r.session.group_mods,
                "brokenPackets": r.switch.broken_packets,
                "forgedPackets": r.switch.forged_packets,
                "errors": {f"{kind} {key}".strip(): refused.line for (kind, key), refused in r.refused.items()}
                | self._double(dpid)
                | ignored_lines(r.switch.ignored_hosts, self._switches.learned_per_port),
            }
            for dpid, r in sorted(self._switches.reconcilers.items())
        ]

    def _double(self, dpid: int) -> dict[str, str]:
        address = self._switches.double(dpid)
        if not address:
            return {}
        return {"datapath id": f"a second switch, at {address}, has it too and is not let in: give it one of its own"}

    def _links(self, switch: Switch) -> list[dict[str, Any]]:
        """The links of a switch, for REST."""
        out = []
        for port in sorted(switch.ports.values(), key=lambda p: p.number):
            peer = self._observed.paths.peers.get(End(switch.dpid, port.number))
            if peer is not None:
                there = self._observed.switches.get(peer.switch)
                name = there.port_name(peer.port) if there is not None else None
                out.append({"port": port.name, "switch": f"{peer.switch:016x}", "peer": name or str(peer.port)})
        return out


def _switch_words(reconciler: Reconciler) -> str:
    switch = reconciler.switch
    host = reconciler.model.by_switch(switch.dpid)
    name = f"switch {switch.dpid:016x}" if host is None else f"host {host.name}"
    return f"{name} (Open vSwitch {'.'.join(map(str, switch.version)) or 'of an unknown version'})"


def _read_service(reader: ServiceReader, reconciler: Reconciler) -> Raw:
    return reader.read(reconciler.session, reconciler.actual.groups, reconciler.kept)
