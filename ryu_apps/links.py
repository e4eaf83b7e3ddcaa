"""Links between switches without a host: found by LLDP frames (IEEE 802.1AB) that the controller sends out of each of
their ports, and that come to it from the port at the other end.

A frame carries a proof that it is ours: a host can't make up a link. It can carry a frame from one of its ports to
another, as a cable does.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import struct
import time
from collections.abc import Callable, Iterable

from ryu_apps.framework import hub
from ryu_apps.openflow import messages
from ryu_apps.pipeline.fields import ETH_LLDP
from ryu_apps.pipeline.values import CONTROLLER, Output
from topology.observed import Observed, Port
from topology.paths import End, Link

LOG = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two frames out of a port
HOLD_DOWN = 2.0  # seconds that a link which went is not used again: one that comes and goes costs all switches work
EDGE_AFTER = 2  # frames out of a port that nobody has heard: no switch is at its other end
PENDING = 16  # packets that wait for a port to be known for an edge
MOST_OUTPUTS = 1024  # of one packet-out, which is at most 64 KB
OFPP_MAX = 0xFFFFFF00  # ports from here on are the switch's own

_NEAREST = bytes.fromhex("0180c200000e")  # no bridge passes it on
_OURS = bytes.fromhex("0e4e43000002")
_HEAD = _NEAREST + _OURS + ETH_LLDP.to_bytes(2, "big")
_CHASSIS, _PORT, _TTL, _ORGANISATION = 1, 2, 3, 127
_LOCAL = b"\x07"  # subtype of both ids: locally assigned
_PROOF = _OURS[:3] + b"\x01"  # organisation and its subtype
_PROOF_SIZE = 16
_SHORTEST = 60


def frame(end: End, key: bytes) -> bytes:
    """What goes out of a port."""
    switch, port = struct.pack("!Q", end.switch), struct.pack("!I", end.port)
    body = _tlv(_CHASSIS, _LOCAL + switch) + _tlv(_PORT, _LOCAL + port) + _tlv(_TTL, struct.pack("!H", 4))
    proof = hmac.digest(key, switch + port, hashlib.sha256)[:_PROOF_SIZE]
    return (_HEAD + body + _tlv(_ORGANISATION, _PROOF + proof) + bytes(2)).ljust(_SHORTEST, b"\0")


def sender_of(received: bytes, key: bytes) -> End | None:
    """The port that a frame was sent out of; None: it is not one of ours."""
    start = len(_HEAD) + 3
    if len(received) < _SHORTEST:
        return None
    end = End(*struct.unpack_from("!Q", received, start), *struct.unpack_from("!I", received, start + 11))
    return end if hmac.compare_digest(frame(end, key), received[:_LENGTH]) else None


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!H", kind << 9 | len(value)) + value


_LENGTH = len(frame(End(0, 0), b""))


class Links:
    """Sends, hears, and tells which links there are. `run` is for a greenthread of its own.

    ``send`` puts a message on a switch's connection; ``wanted`` says whether a switch is of the fabric.
    """

    def __init__(
        self,
        observed: Observed,
        send: Callable[[int, bytes], None],
        wanted: Callable[[int], bool],
        changed: Callable[[frozenset[Link]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observed = observed
        self._send = send
        self._wanted = wanted
        self._changed = changed
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._frames: dict[End, bytes] = {}
        self._sent: dict[End, int] = {}  # since the port came up
        self._heard: frozenset[Link] = frozenset()
        self._told: frozenset[Link] = frozenset()
        self._went: dict[Link, float] = {}
        self._looked = -1  # at so many changes of what is heard
        self._pending: list[tuple[End, bytes]] = []

    def run(self) -> None:
        """Until it is killed."""
        while True:
            self.tick()
            hub.sleep(INTERVAL)

    def tick(self) -> None:
        """One more frame out of each port; what has not been heard for too long is gone."""
        for dpid in list(self._observed.switches):
            for end in self._ends(dpid):
                self._observed.heard.sent(end)
            self.probe(dpid)
        for end in [end for end in self._sent if end.switch not in self._observed.switches]:
            del self._sent[end]
        self._frames = {end: sent for end, sent in self._frames.items() if end in self._sent}
        self.look()
        waiting, self._pending = self._pending, []
        for end, packet in waiting:
            self.send_to_edges((end,), packet)

    def probe(self, dpid: int) -> None:
        """A frame out of each port of a switch."""
        for end in self._ends(dpid):
            self._probe(end)

    def port_changed(self, dpid: int, port: Port, *, gone: bool) -> None:
        """A port came, changed or went; the observed ports know."""
        end = End(dpid, port.number)
        if gone or not port.up:
            self._sent.pop(end, None)
        elif self._wanted(dpid) and not self._observed.heard.joined(end):
            self._probe(end)
        self._look_at_news()

    def heard(self, dpid: int, in_port: int, received: bytes) -> None:
        """A frame came in by a port; one that is not ours says nothing."""
        sender, receiver = sender_of(received, self._key), End(dpid, in_port)
        if sender is None or sender == receiver or not self._has(receiver):
            return
        if self._observed.heard.heard(sender, receiver):
            if receiver.switch in self._observed.switches and self._wanted(dpid):
                self._probe(receiver)  # the other way round, at once
            self._look_at_news()

    def _look_at_news(self) -> None:
        if self._observed.heard.changes != self._looked:
            self.look()

    def look(self) -> None:
        """Tell if the links are others now."""
        self._looked = self._observed.heard.changes
        now, links = self._clock(), self._observed.heard.links()
        self._went.update(dict.fromkeys(self._heard - links, now))
        self._went = {link: at for link, at in self._went.items() if now - at < HOLD_DOWN}
        self._heard = links
        usable = links - self._went.keys()
        if usable == self._told:
            return
        for what, ones in (("up", usable - self._told), ("down", self._told - usable)):
            for one in sorted(ones):
                LOG.info("link %s: %016x port %d to %016x port %d", what, *one.a, *one.b)
        self._told = usable
        self._changed(usable)

    def send_to_edges(self, ends: Iterable[End], packet: bytes) -> None:
        """Send a packet out of ports, of each as soon as it is known that there is no switch at its other end."""
        ready: dict[int, list[Output]] = {}
        for end in ends:
            if self._observed.heard.joined(end):
                continue
            if self._sent.get(end, 0) >= EDGE_AFTER or not self._wanted(end.switch):
                ready.setdefault(end.switch, []).append(Output(end.port))
            elif len(self._pending) < PENDING * len(self._sent):
                self._pending.append((end, packet))
        for switch, outputs in ready.items():
            for first in range(0, len(outputs), MOST_OUTPUTS):
                some = outputs[first : first + MOST_OUTPUTS]
                self._send(switch, messages.packet_out(CONTROLLER, some, packet))

    def _has(self, end: End) -> bool:
        """Whether a connected switch has this port: it could name any number, and each would be remembered."""
        switch = self._observed.switches.get(end.switch)
        return switch is not None and switch.port_name(end.port) is not None

    def _ends(self, dpid: int) -> list[End]:
        switch = self._observed.switches.get(dpid)
        if switch is None or not self._wanted(dpid):
            return []
        return [End(dpid, p.number) for p in switch.ports.values() if p.up and p.number < OFPP_MAX]

    def _probe(self, end: End) -> None:
        self._sent[end] = self._sent.get(end, 0) + 1
        if end not in self._frames:
            self._frames[end] = messages.packet_out(CONTROLLER, (Output(end.port),), frame(end, self._key))
        self._send(end.switch, self._frames[end])
