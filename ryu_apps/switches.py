"""The connected switches: each with its ports and the reconciler that writes to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from ryu_apps.counters import PortCount, Raw, ServiceCount, ServiceReader, read_forged
from ryu_apps.framework import hub
from ryu_apps.openflow.session import Session
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import SWITCH, Context, Owner
from ryu_apps.pipeline.trace import Question
from ryu_apps.reconciler import Reconciler
from ryu_apps.tracing import trace
from topology.errors import Unavailable
from topology.model import Commit, Endpoint, Service
from topology.observed import Observed, Port
from topology.snapshot import Model

LOG = logging.getLogger(__name__)

SETTLE_TIMEOUT = 3.0  # seconds that an answer waits for the switches; they go on after it
READ_TIMEOUT = 3.0  # seconds that a question waits for a switch


class Switches:
    """Turns what changes (commits, ports) into dirty owners of the switches that it concerns."""

    def __init__(self, model: Model) -> None:
        self.observed = Observed()
        self.reconcilers: dict[int, Reconciler] = {}
        self.generation = 0
        """That of us as the leader of several controllers; 0: there are no others."""
        self.awaited: set[int] = set()
        """Switches that are about to be ours: as good as connected, but not settled."""
        self._model = model

    def connect(
        self, session: Session, dpid: int, ports: Iterable[Port], version: tuple[int, ...] = ()
    ) -> Reconciler:
        """A switch is there with its ports; run what this returns in a thread of its own."""
        if (old := self.reconcilers.get(dpid)) is not None:
            old.close()
        self.awaited.discard(dpid)
        switch = self.observed.connect(dpid, ports, version)
        reconciler = Reconciler(session, switch, self._model, time.monotonic, self.generation)
        self.reconcilers[dpid] = reconciler
        return reconciler

    def disconnect(self, dpid: int, session: Session) -> None:
        """That connection of the switch ended; a newer one of the same switch goes on."""
        self.awaited.discard(dpid)
        reconciler = self.reconcilers.get(dpid)
        if reconciler is not None and reconciler.session is session:
            reconciler.close()
            del self.reconcilers[dpid]
            self.observed.disconnect(dpid)

    def committed(self, commit: Commit) -> None:
        """The model changed."""
        owners = compiler.affected(self._model, commit.changes)
        for reconciler in self.reconcilers.values():
            reconciler.mark(owners)

    def port_changed(self, dpid: int, port: Port, *, gone: bool) -> None:
        """A port of a connected switch came, changed or went."""
        if dpid not in self.reconcilers:
            return
        seen = self.observed
        names = seen.drop_port(dpid, port.name) if gone else seen.put_port(dpid, port)
        owners: set[Owner] = {SWITCH} if names else set()
        for endpoint in self._endpoints_on(dpid):
            if endpoint.port_name in names:
                owners |= compiler.of_endpoint(self._model, endpoint)
        self.reconcilers[dpid].mark(owners)

    def _endpoints_on(self, dpid: int) -> Iterable[Endpoint]:
        host = self._model.by_switch(dpid)
        if host is not None:
            yield from self._model.endpoints_of_host(host.name)
        yield from self._model.endpoints_of_switch(dpid)

    def settle(self, revision: int) -> bool:
        """Wait until every connected switch carries out the model as of ``revision``; at most SETTLE_TIMEOUT."""
        until = time.monotonic() + SETTLE_TIMEOUT
        while self.awaited or any(r.settled_revision < revision for r in self.reconcilers.values()):
            if time.monotonic() > until:
                LOG.warning("revision %d is stored, but not yet in every switch", revision)
                return False
            hub.sleep(0.002)
        return True

    def counters(self, service_key: str) -> dict[str, Any]:
        """What the switches have counted for a service, all together, and what they refused of it, by switch."""
        service = self._model.services.get(service_key)
        if service is None or not self.reconcilers:
            return {}
        until = time.monotonic() + READ_TIMEOUT
        asked = []
        for dpid, r in self.reconcilers.items():
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
        errors = {f"{dpid:016x}": r.refused[owner].line for dpid, r in self.reconcilers.items() if owner in r.refused}
        return total.document() | {k: v for k, v in (("unread", unread), ("errors", errors)) if v}

    def without_sctp(self) -> list[str]:
        """The connected switches whose conntrack does not know SCTP's ports, each in a few words."""
        return [_switch_words(r) for _, r in sorted(self.reconcilers.items()) if not r.context().sctp]

    def trace(self, question: Question) -> dict[str, Any]:
        """Why a connection goes where it goes, at the switch where it begins."""
        sender = question.sender
        dpid = Context(self._model, 0).switch_of(sender)
        r = self.reconcilers.get(dpid)
        if r is None:
            at = f"switch {dpid:016x}, where {sender.id} is," if dpid else f"the switch of host {sender.host}"
            raise Unavailable(f"{at} is not connected")
        return trace(r, question)

    def forged(self, dpid: int) -> dict[str, int]:
        """Packets of forged senders that a connected switch has dropped, by port; empty where it does not say."""
        reconciler = self.reconcilers.get(dpid)
        if reconciler is None:
            return {}
        found = reconciler.ask(partial(read_forged, reconciler.session)).wait(READ_TIMEOUT)
        return {} if found is None else {p.name: found[p.number] for p in reconciler.switch.ports.values()}

    def switches(self) -> list[dict[str, Any]]:
        """The connected switches for REST: ports, counts, and what a switch refused, by object."""
        return [
            {
                "dpid": f"{dpid:016x}",
                "connected": True,
                "settled": r.settled_revision >= self._model.revision,
                "ports": [
                    {"name": p.name, "number": p.number, "up": p.up}
                    for p in sorted(r.switch.ports.values(), key=lambda p: p.number)
                ],
                "flows": len(r.actual.flows),
                "groups": len(r.actual.groups),
                "flowMods": r.session.flow_mods,
                "groupMods": r.session.group_mods,
                "brokenPackets": r.switch.broken_packets,
                "forgedPackets": r.switch.forged_packets,
                "errors": {f"{kind} {key}".strip(): refused.line for (kind, key), refused in r.refused.items()},
            }
            for dpid, r in sorted(self.reconcilers.items())
        ]


def _switch_words(reconciler: Reconciler) -> str:
    switch = reconciler.switch
    host = reconciler.model.by_switch(switch.dpid)
    name = f"switch {switch.dpid:016x}" if host is None else f"host {host.name}"
    return f"{name} (Open vSwitch {'.'.join(map(str, switch.version)) or 'of an unknown version'})"


def _read_service(reader: ServiceReader, reconciler: Reconciler) -> Raw:
    return reader.read(reconciler.session, reconciler.actual.groups, reconciler.kept)
