"""A session in process, for tests of what is written through it: takes, refuses, or fails."""

from __future__ import annotations

import struct
import time
from collections.abc import Hashable, Iterable, Sequence

from ryu_apps.openflow import codec
from ryu_apps.openflow.codec import EncodedGroup
from ryu_apps.openflow.messages import FlowStat, GroupStat, Tuple5
from ryu_apps.openflow.session import Errors, Mod
from ryu_apps.pipeline.values import Match


class FakeSession:
    """A switch behind a session: it holds what it is sent, and refuses what it is told to."""

    def __init__(self) -> None:
        self.flows: dict[int, int] = {}  # cookie → table
        self.groups: dict[int, EncodedGroup] = {}
        self.packets: dict[int, int] = {}  # by cookie
        self.taken: dict[int, list[int]] = {}  # group id → packets of its buckets
        self.refuses: set[Hashable] = set()
        self.fails: BaseException | None = None
        self.bundles: list[list[Mod]] = []
        self.plain: list[tuple[int, bytes]] = []  # how many flows there were, and what was sent then
        self.meters: list[bytes] = []
        self.flushed: list[tuple[int, int, Tuple5 | None, Tuple5 | None]] = []
        self.closed = False
        self.ended = ""  # why, where something was wrong
        self.refused_at: list[float] = []

    def ensure_meters(self, messages: Iterable[bytes], _timeout: float) -> set[int]:
        there = {_meter_id(message) for message in self.meters}
        self.meters += [message for message in messages if _meter_id(message) not in there]
        return there

    def apply_plain(self, mods: Sequence[Mod], _timeout: float) -> Errors:
        """Meters that are deleted."""
        gone = {_meter_id(mod.message) for mod in mods}
        self.meters = [message for message in self.meters if _meter_id(message) not in gone]
        return ()

    def read_back(self, _timeout: float) -> tuple[list[FlowStat], list[EncodedGroup]]:
        ours = [c for c in self.flows if c & codec.COOKIE_MASK == codec.COOKIE_MAGIC]
        return [FlowStat(self.flows[c], 0, c, 0, 0, b"") for c in ours], list(self.groups.values())

    def read_flows(self, _timeout: float, match: Match = (), cookie: int = 0, mask: int = 0) -> list[FlowStat]:
        return [FlowStat(t, 0, c, self.packets.get(c, 0), 0, b"") for c, t in self.flows.items()]

    def read_groups(self, _timeout: float, numbers: Iterable[int]) -> list[GroupStat]:
        return [GroupStat(n, tuple(self.taken.get(n, ()))) for n in numbers if n in self.groups]

    def apply(self, mods: Sequence[Mod], _timeout: float) -> Errors:
        """All or nothing, in order."""
        if self.fails is not None:
            raise self.fails
        self.bundles.append(list(mods))
        bad = tuple((mod.owner, "OFPET_BAD_ACTION(2)") for mod in mods if mod.owner in self.refuses)
        if bad:
            self.refused_at.append(time.monotonic())
            return bad
        for mod in mods:
            self._carry_out(mod.message)
        return ()

    def _carry_out(self, message: bytes) -> None:
        if message[1] == codec.OFPT_FLOW_MOD:
            cookie, _, table, command = struct.unpack_from("!QQBB", message, 8)
            if command == 0:
                self.flows[cookie] = table
            else:
                assert self.flows.pop(cookie, table) == table
            return
        command, kind, number = struct.unpack_from("!HBxI", message, 8)
        assert (number in self.groups) == (command != 0), "GROUP_EXISTS or UNKNOWN_GROUP"
        if command == 2:
            del self.groups[number]
        else:
            self.groups[number] = EncodedGroup(number, kind, message[16:])
        self.taken.pop(number, None)  # a group that is changed counts anew

    def flush_ct(
        self, zone: int, ip_proto: int = 0, orig: Tuple5 | None = None, reply: Tuple5 | None = None
    ) -> None:
        self.flushed.append((zone, ip_proto, orig, reply))

    def barrier(self, _timeout: float) -> None:
        pass

    def send_plain(self, message: bytes) -> None:
        self.plain.append((len(self.flows), message))

    def end(self, reason: str) -> None:
        self.ended = reason
        self.close()

    def close(self) -> None:
        self.closed = True


def _meter_id(message: bytes) -> int:
    return int.from_bytes(message[12:16], "big")
