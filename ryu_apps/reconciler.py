"""Keeps one switch what the model says: dirty owners → compile → diff → one bundle → actual := sent.

One greenthread a connected switch does all the writing. It starts with reading back what is in the switch, so a
restart of either side costs only the difference. Any doubt (a timeout, a lost connection) ends it: the switch
connects again and the next one starts from what is really there.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ryu_apps import diff
from ryu_apps.counters import Kept
from ryu_apps.flush import Entries, Flusher
from ryu_apps.framework import Progress, hub
from ryu_apps.openflow import codec
from ryu_apps.openflow.codec import EncodedGroup
from ryu_apps.openflow.failures import Disconnected, SessionError
from ryu_apps.openflow.session import Mod, Session
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import Context, Outgoing, Owner, Program, Translation
from ryu_apps.pipeline.dependents import owners
from ryu_apps.pipeline.features import transit
from ryu_apps.pipeline.tables import GROUP_CHUNK_BITS, METERS, REFUSE_METERS, TENANT_NUMBER, tenant_meters
from ryu_apps.pipeline.values import FieldError, Meter
from ryu_apps.pipeline.ways import is_way
from ryu_apps.questions import Question, Questions
from ryu_apps.retired import Retired
from topology.observed import Observed, Switch
from topology.snapshot import Model

T = TypeVar("T")
LOG = logging.getLogger(__name__)

REPLY_TIMEOUT = 30.0  # seconds for a read-back or a bundle
OTHERS_PATIENCE = 2.0  # seconds that a new leader waits for the ports of all switches, before it changes one
AT_ONCE = 100  # owners compiled before others have their turn: a few dozen milliseconds
MOST_PACKETS = 1024  # that wait until the switch carries out the model
NEVER = math.inf
FIRST_RETRY, LAST_RETRY = 1.0, 60.0  # seconds before an owner that the switch refused is tried again


@dataclass(slots=True)
class Refused:
    """What this owner wants can't be; it is tried again at ``retry_at`` (s, monotonic; `NEVER`: when it changes)."""

    line: str
    delay: float
    retry_at: float


class Reconciler:
    """Writes to one connected switch, and is the one that asks it."""

    def __init__(
        self,
        session: Session,
        switch: Switch,
        model: Model,
        clock: Callable[[], float],
        *,
        generation: int = 0,
        observed: Observed | None = None,
        patient_until: float = 0.0,
        awaited: Collection[int] = (),
        missed: Callable[[Context], Iterable[Entries]] = lambda _: (),
        progress: Progress | None = None,
    ) -> None:
        """``generation``: that of us as the leader of several controllers; 0: there are no others.

        ``patient_until`` (s, monotonic): no longer is waited for the links that the switch's ways are made of.
        ``awaited``: the switches that are about to tell of their ports. ``missed``: the connections that ended in the
        model before this one of the switch. ``progress``: made with each step.
        """
        self.session = session
        self.switch = switch
        self.model = model
        self.observed = observed or Observed()
        self.refused: dict[Owner, Refused] = {}
        self.settled_revision = -1  # the switch carries out the model of this revision, but for what is refused
        self._told = -1  # the last revision whose owners have been marked
        self.actual = diff.Actual()
        self.wanted = diff.Wanted()
        self.kept = Kept(model)
        self._flusher = Flusher(session, clock)
        self._retired = Retired(clock)
        self._meters: set[int] = set()  # ids of those that are there
        self._tenants = sys.maxsize  # how many there were in the last step
        self.marks = 0
        self.carried_out = 0  # of the marks, what the switch has been given
        self.waits = False  # for its links to be found again
        self._clock = clock
        self._generation = generation
        self._patient_until = patient_until
        self._awaited = awaited
        self._missed = missed
        self._progress = progress or Progress()
        self._dirty: set[Owner] = set()
        self._packets: list[bytes] = []
        self._questions = Questions()
        self._wake = hub.Event()
        self._closed = False

    def mark(self, owners: Iterable[Owner], revision: int | None = None) -> None:
        """These owners' programs may be different now; ``revision``: of the commit that changed them."""
        self.marks += 1
        if revision is not None:
            self._told = revision
        self._dirty.update(owners)
        self._wake.set()

    def send_after(self, packet_out: bytes) -> None:
        """Send this packet once the switch carries out the model as it is now; lost where too many wait for that."""
        if len(self._packets) < MOST_PACKETS:
            self._packets.append(packet_out)
        self._wake.set()

    def ask(self, read: Callable[[], T]) -> Question[T]:
        """Have ``read`` called by the switch's own thread, which alone may ask it, once it carries out the model."""
        question = Question(read)
        self._questions.put(question)
        self._wake.set()
        return question

    def context(self) -> Context:
        """The model as seen from this switch."""
        return seen_from(self.switch, self.model, self.observed)

    def close(self) -> None:
        """The connection is gone: the thread ends."""
        self._closed = True
        self._wake.set()
        self._progress.made()

    def run(self) -> None:
        """Until the connection ends."""
        try:
            if self._generation:  # before anything is read: who led before us can't change it any more
                self.session.be_master(self._generation, REPLY_TIMEOUT)
            self._read_back()
            self._await_others()
            self._await_links()
            self._dirty.update(owners(self.model))
            self._told = self.model.revision
            self._flusher.ended(self._missed(self.context()))
            self._step(full=True)
            while not self._closed:
                if not self._questions:  # one at a time, with what has to be written between them
                    self._wake.wait(timeout=self._until_due())
                self._wake.clear()
                self._retry()
                self._retire()
                self._flusher.run()
                if not self._closed:
                    self._step()
                    self._questions.ask_next()
        except Disconnected:
            pass  # whoever has ended the connection has said why
        except SessionError as doubt:
            self.session.end(str(doubt))
        finally:
            self.session.close()
            self._questions.close()

    def _read_back(self) -> None:
        self._ensure_meters(METERS)
        flows, groups = self.session.read_back(REPLY_TIMEOUT)
        self.actual.flows = {f.cookie: f.table for f in flows}
        # a group has no cookie: ours have an id with a service port's number in it, or lead to another switch
        self.actual.groups = {g.id: g for g in groups if g.id >> GROUP_CHUNK_BITS}

    def _ensure_meters(self, meters: Iterable[Meter]) -> None:
        """Have these meters, which flows are about to use."""
        missing = [meter for meter in meters if meter.id not in self._meters]
        if missing:
            self._meters |= self.session.ensure_meters(map(codec.meter_add, missing), REPLY_TIMEOUT)
            self._meters |= {meter.id for meter in missing}

    def _drop_meters(self) -> None:
        """Delete the meters of former tenants, which no flow uses any more; looked for only where there are fewer."""
        before, self._tenants = self._tenants, len(self.model.tenants)
        if self._tenants >= before:
            return
        wanted = {meter.id for tenant in self.model.tenants.values() for meter in tenant_meters(tenant.number)}
        gone = sorted(number for number in self._meters - wanted if number >= REFUSE_METERS)
        if gone:
            self.session.apply_plain([Mod(None, codec.meter_delete(number)) for number in gone], REPLY_TIMEOUT)
            self._meters.difference_update(gone)

    def _await_others(self) -> None:
        """A switch that has something keeps it until the others have told of their ports: which containers are plugged
        in there decides what it is to hold. One that does not answer is not waited for any longer than a moment.
        """
        until = self._clock() + OTHERS_PATIENCE
        while self._awaited and self.actual.flows and not self._closed and (left := until - self._clock()) > 0:
            self._wake.wait(timeout=left)
            self._wake.clear()
        self._wake.set()

    def _await_links(self) -> None:
        """A switch that has ways to others keeps them until the links that they are made of have been found again.

        They are not stored, so a controller that has just started knows of none; and what it takes to find them is
        soon there. What is gone for good is waited for in vain, for a while.
        """
        there = {number: group for number, group in self.actual.groups.items() if is_way(number)}
        while there and not self._closed:
            left = self._patient_until - self._clock()
            if left <= 0 or _ways(self.context()) == there:
                break
            self.waits = True
            self._progress.made()  # who waits for this switch does so no more
            self._wake.wait(timeout=left)
            self._wake.clear()
        self.waits = False
        self._wake.set()

    def _step(self, full: bool = False) -> None:
        """Bring the switch to the model as it is now."""
        dirty, self._dirty, marks = self._dirty, set(), self.marks
        packets, self._packets = self._packets, []  # those that come meanwhile wait for flows that come meanwhile
        revision = self._told  # the model may be a revision ahead whose owners nobody has marked yet
        context = self.context()
        touched = diff.Touched()
        meters: set[int] = set()  # that are still to be made
        for number, owner in enumerate(dirty, 1):
            if not number % AT_ONCE:
                hub.sleep(0)  # others have their turn; what they change meanwhile is compiled again in the next step
            encoded, translations, unable = wish(context, owner)
            meters |= encoded.meters - self._meters
            changed = self.wanted.put(owner, encoded)
            self._flusher.put(owner, translations)
            touched.flows.update(changed.flows)
            touched.groups.update(changed.groups)
            if before := self.refused.pop(owner, None):  # it is another wish now, and all of it is still to come
                whole = self.wanted.of_owner(owner)
                touched.flows.update(whole.flows)
                touched.groups.update(whole.groups)
            if unable:
                self._leave_out(owner, unable, said=before is not None and before.line == unable)
        if full:
            touched = diff.everything(self.wanted, self.actual)
        tenants = {number & TENANT_NUMBER for number in meters}
        self._ensure_meters([meter for number in tenants for meter in tenant_meters(number)])
        self._send(touched)
        self._drop_meters()
        self._flusher.changed()
        self.settled_revision = revision
        self.carried_out = marks
        self._progress.made()
        for packet in packets:
            self.session.send_plain(packet)

    def _send(self, touched: diff.Touched) -> None:
        """Send what differs. An owner whose wish the switch refuses is left out, and the others sent again."""
        touched.groups.update(self._retired.concerned(touched.groups))
        while True:
            without: frozenset[Hashable] = frozenset(self.refused)
            found = diff.diff(touched, self.wanted, self.actual, without)
            changes = self._retired.keep(found, self.wanted, self.actual.groups, without)
            if not changes:
                break
            counted = self.kept.read(self.session, self.actual.groups, changes)
            errors = self.session.apply(mods(changes, self.wanted), REPLY_TIMEOUT)
            if not errors:
                diff.done(changes, self.actual)
                self.kept.add(counted)
                break
            known = len(self.refused)
            for owner, line in errors:
                self._refuse(owner, line)
            if len(self.refused) == known:
                # not one owner to leave out: the switch is not what we read, so read again
                raise SessionError(f"the switch refuses a change of nobody's: {errors}")
        self._retired.done(touched.groups, found, changes)

    def _retire(self) -> None:
        """Delete the groups whose time is over."""
        if due := self._retired.take():
            self._send(diff.Touched(groups=due))

    def _refuse(self, owner: Owner | None, line: str) -> None:
        if owner is None or owner in self.refused:
            return
        LOG.error("switch %016x refuses %s %s: %s", self.switch.dpid, *owner, line)
        self.refused[owner] = Refused(line, FIRST_RETRY, self._clock() + FIRST_RETRY)

    def _leave_out(self, owner: Owner, line: str, *, said: bool) -> None:
        """No message can hold what this owner wants: the switch gets nothing of it, and all of the others."""
        if not said:
            LOG.error("switch %016x: %s %s is left out: %s", self.switch.dpid, *owner, line)
        self.refused[owner] = Refused(line, 0.0, NEVER)

    def _until_due(self) -> float | None:
        """Seconds until an owner is to be tried again, a group to be deleted, or a flush is due; None: nothing is."""
        due = [r.retry_at for r in self.refused.values() if r.retry_at != NEVER]
        due += [at for at in (self._flusher.next_due(), self._retired.next_due()) if at is not None]
        return max(0.0, min(due) - self._clock()) if due else None

    def _retry(self) -> None:
        """Let in again those whose time has come; refused once more, they wait twice as long."""
        now = self._clock()
        for owner, refused in [(o, r) for o, r in self.refused.items() if r.retry_at <= now]:
            del self.refused[owner]
            touched = self.wanted.of_owner(owner)
            self._send(touched)
            if again := self.refused.get(owner):
                again.delay = min(2 * refused.delay, LAST_RETRY)
                again.retry_at = now + again.delay


def seen_from(switch: Switch, model: Model, observed: Observed) -> Context:
    """The model as seen from a switch."""
    host = model.by_switch(switch.dpid)
    return Context(
        model,
        switch.dpid,
        switch.numbers,
        sctp=switch.knows_sctp("" if host is None else host.datapath_type),
        dead=observed.dead,
        paths=observed.paths,
        moving=observed.moving,
        switches=observed.switches,
    )


def _ways(context: Context) -> dict[int, EncodedGroup]:
    """The groups that lead to other switches; none where a message can't hold one."""
    try:
        return {group.id: codec.encode_group(group) for group in transit.groups(context)}
    except codec.EncodingError:
        return {}


def wish(context: Context, owner: Owner) -> tuple[diff.Encoded, tuple[Translation | Outgoing, ...], str]:
    """What an owner wants, ready for the wire, the connections that go with it, and why it can't be had, if so."""
    try:
        program = compiler.compile_owner(context, owner)
        return encode(program), program.translations, ""
    except (FieldError, codec.EncodingError) as unable:
        return diff.Encoded(), (), str(unable)


def encode(program: Program) -> diff.Encoded:
    """A compiled program, ready for the wire."""
    flows = [codec.encode_flow(f) for f in program.flows]
    groups = [codec.encode_group(g) for g in program.groups]
    meters = frozenset(f.meter for f in program.flows if f.meter >= REFUSE_METERS)
    encoded = diff.Encoded({f.cookie: f for f in flows}, {g.id: g for g in groups}, meters)
    if len(encoded.flows) != len(set(flows)) or len(encoded.groups) != len(groups):
        raise diff.CollisionError(f"two of these flows have one cookie, or two groups one id: {program}")
    return encoded


def mods(changes: diff.Changes, wanted: diff.Wanted) -> list[Mod]:
    """The messages for ``changes``, in their order, each with an owner to blame."""

    def any_of(owners: set[Hashable]) -> Hashable:
        return min(owners, key=str, default=None)

    out = [Mod(any_of(wanted.owners_of_group(g.id)), codec.group_add(g)) for g in changes.add_groups]
    out += [Mod(any_of(wanted.owners_of_group(g.id)), codec.group_modify(g)) for g in changes.modify_groups]
    out += [Mod(any_of(wanted.owners_of_flow(f.cookie)), codec.flow_add(f)) for f in changes.add_flows]
    out += [Mod(None, codec.flow_delete(cookie, table)) for cookie, table in changes.delete_flows]
    out += [Mod(None, codec.group_delete(number)) for number in changes.delete_groups]
    return out
