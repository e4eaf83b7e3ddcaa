"""What one switch is written: with a session that behaves, refuses, or does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from ryu_apps import diff, reconciler, retired
from ryu_apps.framework import hub
from ryu_apps.openflow import codec, messages
from ryu_apps.openflow.session import Disconnected, NoAnswer, Session
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import SWITCH, Program
from ryu_apps.pipeline.dependents import DEPENDENTS, owners
from ryu_apps.pipeline.tables import METERS
from ryu_apps.pipeline.values import Bucket, Ct, Flow, Group, Learn, Nat, Output, match
from ryu_apps.pipeline.ways import is_way
from ryu_apps.reconciler import Reconciler
from tests.kit import world
from tests.kit.fakesession import FakeSession
from topology.graph import paths
from topology.model import Change, Commit, Endpoint, Object, Service
from topology.observed import Observed, Port
from topology.paths import End, link
from topology.snapshot import Model

DEADLINE = 10.0
APP, BLUE = ("service", "default:app-svc"), ("service", "blue:app-svc")


class Running:
    """A reconciler in its greenthread, on the world of the packet tables."""

    def __init__(self, model: Model, session: FakeSession, patience: float = 0.0) -> None:
        self.model = model
        self.session = session
        self.observed = Observed()
        ports = (Port(n, i, "02:00:00:00:00:99", up=True) for n, i in world.PORTS.items())
        self.switch = self.observed.connect(world.DPID, ports)
        self.reconciler = Reconciler(
            cast(Session, session),
            self.switch,
            model,
            time.monotonic,
            observed=self.observed,
            patient_until=time.monotonic() + patience,
        )
        self.failure: BaseException | None = None
        self.thread = hub.spawn(self._run)

    def _run(self) -> None:
        try:
            self.reconciler.run()
        except Exception as error:  # noqa: BLE001 - shown by the test that wants it
            self.failure = error

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        until = time.monotonic() + DEADLINE
        while not condition():
            assert self.failure is None, self.failure
            assert time.monotonic() < until, f"waited in vain for {what}"
            hub.sleep(0.005)

    def settled(self) -> None:
        """Wait until the switch carries out the model of now."""
        self.wait_for(lambda: self.reconciler.settled_revision >= self.model.revision, "the switch to settle")

    def ended(self) -> None:
        """Wait until the thread has ended and has closed its session."""
        self.wait_for(lambda: self.session.closed, "the session to be closed")
        self.thread.wait()

    def commit(self, *changes: tuple[Object | None, Object | None]) -> None:
        """Change the model and mark what that affects."""
        commit = Commit(self.model.revision + 1, tuple(Change(before, after) for before, after in changes))
        self.model.apply(commit)
        self.reconciler.mark(DEPENDENTS.of_changes(self.model, commit.changes), commit.revision)

    def as_wanted(self) -> None:
        """The switch has what the model wants, no more and no less."""
        program = world.program(self.model)
        assert self.session.flows == {codec.cookie_of(f): f.table for f in program.flows}
        ours = {n: g for n, g in self.session.groups.items() if n >> 8}
        assert ours == {g.id: codec.encode_group(g) for g in program.groups}


Starter = Callable[..., Running]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """Starts reconcilers; retries come soon."""
    monkeypatch.setattr(reconciler, "FIRST_RETRY", 0.04)
    monkeypatch.setattr(reconciler, "LAST_RETRY", 0.1)
    made: list[Running] = []

    def starter(session: FakeSession | None = None, model: Model | None = None, patience: float = 0.0) -> Running:
        made.append(Running(model or world.model(), session or FakeSession(), patience))
        return made[-1]

    yield starter
    for running in made:
        running.reconciler.close()
        hub.kill(running.thread)


def test_a_full_switch_leaves_time_for_others(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of services REST and other switches would stand still for seconds when a switch connects."""
    monkeypatch.setattr(reconciler, "AT_ONCE", 1)
    compiled: list[str] = []
    compile_owner = compiler.compile_owner

    def noted(*args: Any) -> Program:
        compiled.append("owner")
        return compile_owner(*args)

    monkeypatch.setattr(compiler, "compile_owner", noted)
    running = start()

    def somebody_else() -> None:
        while running.reconciler.settled_revision < 0:
            compiled.append("turn")
            hub.sleep(0)

    other = hub.spawn(somebody_else)
    running.settled()
    other.wait()

    between = compiled[compiled.index("owner") : len(compiled) - compiled[::-1].index("owner")]
    assert between.count("turn") >= between.count("owner") - 1
    running.as_wanted()


def test_what_changes_while_a_switch_is_filled_counts(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service deleted in those seconds would stay in the switch."""
    monkeypatch.setattr(reconciler, "AT_ONCE", 1)
    model = world.model()
    left = len(list(owners(model)))
    gone = without(model, APP[1])
    compile_owner = compiler.compile_owner

    def last_one_next(*args: Any) -> Program:
        nonlocal left
        program = compile_owner(*args)
        left -= 1
        if left == 1:
            running.commit(gone)
        return program

    monkeypatch.setattr(compiler, "compile_owner", last_one_next)
    running = start(model=model)
    running.settled()

    running.as_wanted()
    assert model.get(*APP) is None


def without(model: Model, key: str) -> tuple[Object, None]:
    """A change: an object goes."""
    return next(o for o in model.objects() if o.key == key), None


def test_an_empty_switch_is_filled_in_one_bundle(start: Starter) -> None:
    """A switch that comes back would be half filled for a while."""
    running = start()
    running.settled()

    running.as_wanted()
    assert len(running.session.bundles) == 1
    assert len(running.session.meters) == len(METERS) + 2 * len(running.model.tenants)


def test_meters_of_a_tenant(start: Starter) -> None:
    """A tenant's flows would be refused for want of their meters, and those of former tenants stay for ever."""
    running = start()
    running.settled()
    before = len(running.session.meters)
    changes = [(o, None) for o in running.model.objects() if "blue" in (o.key, getattr(o, "tenant", ""))]
    running.commit(*changes)
    running.settled()
    running.wait_for(lambda: len(running.session.meters) == before - 2, "the meters to be gone")
    running.commit(*[(None, o) for o, _ in reversed(changes)])
    running.settled()
    assert len(running.session.meters) == before
    running.as_wanted()


def test_a_switch_that_has_all_is_sent_nothing(start: Starter) -> None:
    """Each restart of the controller would disturb what works."""
    first = start()
    first.settled()
    first.reconciler.close()
    first.ended()
    again = FakeSession()
    again.flows, again.groups = dict(first.session.flows), dict(first.session.groups)

    running = start(again, first.model)
    running.settled()

    assert again.bundles == []
    running.as_wanted()


def test_a_switch_that_has_something_else(start: Starter) -> None:
    """What an earlier version or a crash has left would stay in the switch; or what is not ours would go."""
    session = FakeSession()
    stale = codec.encode_flow(Flow(3, 1, match(in_port=9)))
    session.flows = {stale.cookie: 3, 0x5: 7}
    left = Group(999 << 8, "select", ())
    theirs = Group(7, "select", ())
    session.groups = {g.id: codec.encode_group(g) for g in (left, theirs)}

    running = start(session)
    running.settled()

    assert session.flows.pop(0x5) == 7
    assert 7 in session.groups
    running.as_wanted()


def test_a_change_sends_the_difference(start: Starter) -> None:
    """Every container start would write the whole switch."""
    running = start()
    running.settled()
    before = set(running.session.flows)

    running.commit(without(running.model, "w2"))
    running.settled()

    running.as_wanted()
    sent = running.session.bundles[1:]
    assert len(sent) == 1
    flow_mods = [m for m in sent[0] if m.message[1] == codec.OFPT_FLOW_MOD]
    assert len(flow_mods) == len(before ^ set(running.session.flows))
    groups = [m for m in sent[0] if m.message[1] == codec.OFPT_GROUP_MOD]
    assert len(groups) == 2, "one for each port of its service"


def test_many_changes_at_once_are_one_bundle(start: Starter) -> None:
    """A hundred containers that start together would be a hundred round trips."""
    running = start()
    running.settled()
    service = cast(Service, running.model.get("service", "default:app-svc"))
    for key in ("w2", "o1", "x1"):
        running.commit(without(running.model, key))
    running.commit((service, None))
    running.settled()

    running.as_wanted()
    assert len(running.session.bundles) == 2


def test_a_group_stays_while_it_may_be_asked(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a switch has cached goes to a group that the service needs no more: its new connections would be lost."""
    monkeypatch.setattr(retired, "KEPT_FOR", 3.0)
    running = start()
    session, model = running.session, running.model
    before = cast(Endpoint, model.get("endpoint", "w1"))
    uneven, even = replace(before, weight=100), replace(before, weight=2)
    running.commit((before, uneven))
    running.settled()
    wanted = {g.id for g in world.program(model).groups}

    running.commit((uneven, before))
    running.settled()
    more = wanted - {g.id for g in world.program(model).groups}
    assert more <= session.groups.keys()
    assert more, "fewer groups will do"
    running.commit((before, even))
    running.settled()

    for number in more:
        assert number in session.groups, "kept"
        head = session.groups[number & ~0xFF]
        assert session.groups[number] == head._replace(id=number), "it is as the others are, to the last change"
    running.wait_for(lambda: not more & session.groups.keys(), "their time to be over")
    running.as_wanted()


def test_a_port_number_changes(start: Starter) -> None:
    """Packets would go to the port that the container had before."""
    running = start()
    running.settled()
    running.switch.put(Port("p2", 22, "02:00:00:00:00:99", up=True))
    endpoint = cast(Endpoint, running.model.get("endpoint", "w1"))
    running.reconciler.settled_revision = -1
    running.reconciler.mark(DEPENDENTS.of_places(running.model, [endpoint]))
    running.settled()

    program = world.program(running.model, {**world.PORTS, "p2": 22})
    assert set(running.session.flows) == {codec.cookie_of(f) for f in program.flows}


def test_one_owner_is_refused_and_the_others_go_in(start: Starter) -> None:
    """One service that the switch can't take would stop all others; nobody would see why it does not work."""
    session = FakeSession()
    session.refuses = {APP}
    running = start(session)
    running.settled()

    lines = {owner: refused.line for owner, refused in running.reconciler.refused.items()}
    assert lines == {APP: "OFPET_BAD_ACTION(2)"}
    program = world.program(running.model)
    theirs = {c for c in (codec.cookie_of(f) for f in program.flows) if c not in session.flows}
    assert theirs, "its flows are missing"
    blue = next(s for s in running.model.services.values() if s.tenant == "blue")
    assert {p.number << 8 for p in blue.ports} <= set(session.groups)
    own = running.model.services["default:app-svc"]
    assert not {p.number << 8 for p in own.ports} & set(session.groups)


def test_two_owners_are_refused(start: Starter) -> None:
    """As above, where the switch names one after the other."""
    session = FakeSession()
    session.refuses = {APP, BLUE, ("endpoint", "c1")}
    running = start(session)
    running.settled()

    assert set(running.reconciler.refused) == session.refuses
    assert session.flows


def test_the_refused_is_tried_again_ever_less_often(start: Starter) -> None:
    """A service refused once would stay away for ever, or the switch be flooded with what it can't take."""
    session = FakeSession()
    session.refuses = {APP}
    running = start(session)
    running.wait_for(lambda: len(session.refused_at) >= 6, "some retries")
    gaps = [b - a for a, b in zip(session.refused_at, session.refused_at[1:], strict=False)]
    # the clock can be late, never early: 40, 80, then 100 ms
    assert all(gap >= wanted - 0.005 for gap, wanted in zip(gaps, (0.04, 0.08, 0.1, 0.1, 0.1), strict=False)), gaps
    assert running.reconciler.refused[APP].delay == reconciler.LAST_RETRY

    session.refuses.clear()

    running.wait_for(lambda: not running.reconciler.refused, "the retry that succeeds")
    running.as_wanted()


def test_the_refused_that_changes_is_tried_at_once(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who corrects a service would wait for the next retry, up to a minute."""
    monkeypatch.setattr(reconciler, "FIRST_RETRY", 3600.0)
    session = FakeSession()
    session.refuses = {APP}
    running = start(session)
    running.settled()
    session.refuses.clear()

    running.commit(without(running.model, "w2"))
    running.settled()

    assert not running.reconciler.refused
    running.as_wanted()


def test_the_refused_that_goes_is_forgotten(start: Starter) -> None:
    """The error of a deleted service would be shown for ever."""
    session = FakeSession()
    session.refuses = {APP}
    running = start(session)
    running.settled()

    running.commit(without(running.model, "default:app-svc"))
    running.settled()

    assert not running.reconciler.refused
    running.as_wanted()


MANY = tuple(Bucket((Ct(1, 2, commit=True, nat=Nat(dst=1, port=2)),), weight=1) for _ in range(1100))
TOO_MUCH = {
    "actions": lambda: Program((Flow(11, 200, match(reg1=9), (Output(1),) * 5000),)),
    "buckets": lambda: Program((), (Group(999 << 8, "select", MANY),)),
    "struct.error": lambda: Program((), (Group(999 << 8, "select", (Bucket((), weight=70000),)),)),
    "OverflowError": lambda: Program((Flow(11, 200, (("reg1", -1, None),)),)),
    "a learned flow": lambda: Program((Flow(11, 200, match(reg1=9), (Learn(8, 1, (), number=1 << 48),)),)),
    "a match": lambda: Program((Flow(11, 200, match(tcp_dst=65536, ip_proto=6, eth_type=0x800)),)),
}


@pytest.mark.parametrize("make", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_no_message_holds_is_left_out(
    start: Starter, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Program], caplog: pytest.LogCaptureFixture
) -> None:
    """One object would end the controller, again and again, and with it all changes for all others."""
    bad, compile_owner = True, compiler.compile_owner

    def too_much(context: Any, owner: Any) -> Program:
        return make() if bad and owner == APP else compile_owner(context, owner)

    monkeypatch.setattr(compiler, "compile_owner", too_much)
    running = start()
    running.settled()
    assert set(running.reconciler.refused) == {APP}
    (line,) = [r.line for r in running.reconciler.refused.values()]
    assert line.isprintable(), line
    others = {owner: compile_owner(running.reconciler.context(), owner) for owner in owners(running.model)}
    del others[APP]
    assert set(running.session.flows) == {codec.cookie_of(f) for p in others.values() for f in p.flows}

    # it is not tried in vain, and stays to be seen; the others go on
    bundles = len(running.session.bundles)
    running.commit(without(running.model, "o1"))
    running.settled()
    assert len(running.session.bundles) == bundles + 1
    running.commit(without(running.model, "w2"))  # one of its providers: it is compiled again
    running.settled()
    assert set(running.reconciler.refused) == {APP}
    assert sum("is left out" in message for message in caplog.messages) == 1

    bad = False
    running.reconciler.mark([APP])
    running.wait_for(lambda: not running.reconciler.refused, "it to be let in")
    running.as_wanted()


@pytest.mark.parametrize("failure", [NoAnswer("no answer"), Disconnected("gone")])
def test_a_doubt_ends_the_connection(start: Starter, failure: Exception) -> None:
    """What the switch has would not be what we think it has, and nobody would look again."""
    running = start()
    running.settled()
    running.session.fails = failure

    running.commit(without(running.model, "w2"))
    running.ended()

    assert running.failure is None
    assert running.reconciler.settled_revision < running.model.revision


def test_no_answer_to_the_first_question(start: Starter) -> None:
    """A switch that is stuck while it connects would never be tried again."""
    session = FakeSession()
    session.fails = NoAnswer("no answer")

    running = start(session)

    running.ended()
    assert running.reconciler.settled_revision == -1


def test_a_refusal_of_what_nobody_asked_for_ends_the_connection(start: Starter) -> None:
    """The same deletion would be sent for ever, with all that waits behind it."""
    running = start()
    running.settled()
    running.session.refuses = {None}

    running.commit(without(running.model, "o1"))

    running.ended()
    assert running.failure is None


def test_a_mistake_of_ours_is_loud(start: Starter) -> None:
    """A switch would be written no more, with a line in a log that nobody reads."""
    running = start()
    running.settled()
    running.session.fails = ZeroDivisionError("a mistake")

    running.commit(without(running.model, "o1"))
    until = time.monotonic() + DEADLINE
    while running.failure is None:
        assert time.monotonic() < until
        hub.sleep(0.005)

    assert isinstance(running.failure, ZeroDivisionError)
    assert running.session.closed


def test_a_packet_goes_out_after_what_it_needs(start: Starter) -> None:
    """The first packet of a host just learned would be lost: the switch does not know it yet."""
    running = start()
    running.settled()
    count = len(running.session.flows)
    packet = messages.packet_out(1, (Output(0xFFFFFFF9),), b"\0" * 60)
    running.commit(without(running.model, "o1"))
    running.reconciler.send_after(packet)
    running.settled()

    running.wait_for(lambda: running.session.plain, "the packet")
    assert running.session.plain == [(len(running.session.flows), packet)]
    assert len(running.session.flows) < count


def test_close_ends_it(start: Starter) -> None:
    """Threads of switches that have gone would pile up."""
    running = start()
    running.settled()

    running.reconciler.close()

    running.ended()


def test_a_program_that_contradicts_itself_is_refused() -> None:
    """Of two groups with one number, one would be lost without a word."""
    program: Any = Program((), (Group(256, "select", ()), Group(256, "all", ())))

    with pytest.raises(diff.CollisionError, match="one id"):
        reconciler.encode(program)


LINKS = [link(End(world.DPID, 101), End(world.DPID + 1, 101)), link(End(world.DPID, 102), End(world.DPID + 2, 101))]


def of_a_fabric(start: Starter) -> FakeSession:
    """What is in a switch with two neighbours, after the controller has gone."""
    before = start()
    before.settled()
    before.observed.paths = paths(LINKS)
    before.reconciler.mark(owners(before.model))
    before.wait_for(lambda: before.reconciler.carried_out == before.reconciler.marks, "the ways")
    assert sum(is_way(number) for number in before.session.groups) == 2
    before.session.bundles.clear()
    return before.session


def test_ways_are_kept_until_their_links_are_found_again(start: Starter) -> None:
    """A restarted controller would cut all switches off from each other, until it has found the links."""
    session = of_a_fabric(start)
    after = start(session, patience=60)
    after.wait_for(lambda: after.reconciler.waits, "the switch to be left as it is")
    after.observed.paths = paths(LINKS[:1])
    after.reconciler.mark([SWITCH])
    hub.sleep(0.02)
    assert after.reconciler.waits, "one of two"
    after.observed.paths = paths(LINKS)
    after.reconciler.mark([SWITCH])
    after.settled()
    assert session.bundles == []


def test_a_link_that_is_gone_is_not_waited_for_for_ever(start: Starter) -> None:
    """A switch whose neighbour went with the controller would never be written to again."""
    session = of_a_fabric(start)
    after = start(session, patience=0.2)
    after.observed.paths = paths(LINKS[:1])
    after.settled()
    assert sum(is_way(number) for number in session.groups) == 1


def test_a_switch_without_ways_is_not_waited_for(start: Starter) -> None:
    """Each start of the controller would take seconds more."""
    began = time.monotonic()
    start(patience=60).settled()
    assert time.monotonic() - began < DEADLINE
