"""What a switch has counted, made sense of; and questions that wait for the switch's own thread."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from ryu_apps import framework
from ryu_apps.counters import Kept, Raw, ServiceReader, read_forged
from ryu_apps.framework import hub
from ryu_apps.openflow import codec, messages
from ryu_apps.openflow.failures import NoAnswer, Refused
from ryu_apps.openflow.messages import FlowStat, GroupStat
from ryu_apps.openflow.session import Session
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.fields import ETH_IP
from ryu_apps.pipeline.tables import FlowKind, Table
from ryu_apps.pipeline.values import ANY, Ct, GroupAction, Match, match
from ryu_apps.questions import BUSY, GONE
from ryu_apps.switches import Switches
from ryu_apps.view import SwitchesView
from tests.kit import world
from tests.kit.fakesession import FakeSession
from topology.model import Change, Commit, Endpoint, Service
from topology.observed import Port
from topology.snapshot import Model

OFP, PARSER = framework.ofproto, framework.parser
DATAPATH = framework.load("ofproto.ofproto_protocol").ProtocolDesc(version=4)
XID = 77
APP = "default:app-svc"


def wire(message: Any) -> bytes:
    message.xid = XID
    message.serialize()
    return bytes(message.buf)


def test_requests_are_the_librarys() -> None:
    """The switch would answer another question, or none."""
    assert messages.group_stats_request(XID, 256) == wire(PARSER.OFPGroupStatsRequest(DATAPATH, 0, 256))
    assert messages.group_stats_request(XID, ANY) == wire(PARSER.OFPGroupStatsRequest(DATAPATH, 0, OFP.OFPG_ANY))
    theirs = PARSER.OFPFlowStatsRequest(
        DATAPATH, 0, OFP.OFPTT_ALL, OFP.OFPP_ANY, OFP.OFPG_ANY, 1, 2,
        PARSER.OFPMatch(eth_type=ETH_IP, ipv4_dst="100.1.1.1"),
    )  # fmt: skip
    ours = match(eth_type=ETH_IP, ipv4_dst=world.ip("100.1.1.1"))
    assert messages.flow_stats_request(XID, 1, 2, ours) == wire(theirs)


def test_group_statistics_are_read() -> None:
    """Counts would be another bucket's, or another group's."""
    body = b""
    for number, counts in ((256, (3, 4)), (512, ())):
        buckets = b"".join(struct.pack("!QQ", n, 100 * n) for n in counts)
        body += struct.pack("!H2xII4xQQII", 40 + len(buckets), number, 1, sum(counts), 0, 5, 6) + buckets
    assert messages.decode_group_stats(body) == [GroupStat(256, (3, 4)), GroupStat(512, ())]
    theirs = PARSER.OFPGroupStats.parser(body, 0)
    assert (theirs.group_id, [b.packet_count for b in theirs.bucket_stats]) == (256, [3, 4])


@pytest.fixture
def switches() -> Iterator[Switches]:
    """One switch with the world in it."""
    made = Switches(world.model())
    session = FakeSession()
    ports = [Port(name, number, "02:00:00:00:00:99", up=True) for name, number in world.PORTS.items()]
    reconciler = made.connect(cast(Session, session), world.DPID, ports)
    thread = hub.spawn(reconciler.run)
    wait_for(lambda: reconciler.settled_revision >= 1)
    yield made
    reconciler.close()
    thread.wait()


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        hub.sleep(0.005)


def view_of(switches: Switches) -> SwitchesView:
    return SwitchesView(switches.reconcilers[world.DPID].model if switches.reconcilers else Model(), switches)


def session_of(switches: Switches) -> FakeSession:
    return cast(FakeSession, switches.reconcilers[world.DPID].session)


def commit(switches: Switches, model: Model, before: Any, after: Any) -> None:
    change = Commit(model.revision + 1, (Change(before, after),))
    model.apply(change)
    switches.committed(change)
    switches.settle(model.revision)


def test_a_service_is_counted(switches: Switches) -> None:
    """Nobody would see how a service's connections are shared out."""
    session = session_of(switches)
    session.taken = {256: [3, 4, 1], 512: [0, 5, 0]}
    program = compiler.compile_owner(switches.reconcilers[world.DPID].context(), (Service.kind, APP))
    for flow in program.flows:
        cookie = codec.cookie_of(flow)
        if flow.kind == FlowKind.REFUSE:
            session.packets[cookie] = 1
        elif flow.table == Table.SERVICE and flow.kind == FlowKind.BALANCE:
            session.packets[cookie] = 100
        elif GroupAction(256) in flow.actions:
            session.packets[cookie] = 8
    found = view_of(switches).counters(APP)
    assert found == {
        "packets": 100,
        "refused": 4,  # TCP, UDP, SCTP, and all else
        "providers": {"w1": 3, "w2": 10},
        "ports": [
            {"port": "8080:80:TCP", "connections": 8, "providers": {"w1": 3, "w2": 5}, "other": 0},
            {"port": "5353:53:UDP", "connections": 5, "providers": {"w2": 5}, "other": 0},
        ],
    }, "one provider has two buckets"


def test_what_the_switch_counts_twice(switches: Switches) -> None:
    """With session affinity providers would have had more connections than there were."""
    session, reconciler = session_of(switches), switches.reconcilers[world.DPID]
    app = reconciler.model.services[APP]
    commit(switches, reconciler.model, app, replace(app, affinity=60))
    w2 = world.ip("10.1.1.2")
    for flow in compiler.compile_owner(reconciler.context(), (Service.kind, APP)).flows:
        to_w2 = any(isinstance(a, Ct) and a.nat is not None and a.nat.dst == w2 for a in flow.actions)
        if ("tcp_dst", 8080, None) in flow.match:
            here = {Table.BALANCE: 40, Table.KEEP: 5 * to_w2, Table.PICK: 39 * to_w2}
            session.packets[codec.cookie_of(flow)] = here.get(Table(flow.table), 0)
    (port, _) = view_of(switches).counters(APP)["ports"]
    assert (port["connections"], port["providers"]["w2"], port["other"]) == (40, 40, 0)


def test_counts_survive_a_provider(switches: Switches) -> None:
    """With every provider that comes or goes, all counts of its service would begin anew."""
    session, reconciler = session_of(switches), switches.reconcilers[world.DPID]
    model = reconciler.model
    session.taken = {256: [3, 4, 1]}
    w1 = model.endpoints["w1"]
    commit(switches, model, w1, sick := replace(w1, health="unhealthy"))
    assert view_of(switches).counters(APP)["ports"][0]["providers"] == {"w1": 3, "w2": 5}, "it is a provider still"

    session.taken = {256: [2]}
    commit(switches, model, sick, replace(sick, labels=()))
    port = view_of(switches).counters(APP)["ports"][0]
    assert (port["connections"], port["providers"], port["other"]) == (10, {"w2": 7}, 3)

    app = model.services[APP]
    commit(switches, model, app, None)
    assert view_of(switches).counters(APP) == {}
    commit(switches, model, None, replace(app, ports=tuple(replace(p, number=p.number + 50) for p in app.ports)))
    assert view_of(switches).counters(APP)["providers"] == {}, "nothing old comes back"


def test_what_is_kept_is_forgotten_with_its_service() -> None:
    """The memory of a controller would grow with every service that was ever deleted."""
    model = world.model()
    kept = Kept(model)
    for number in range(100, 200):
        kept.add({number: Counter({b"": 1})})
    kept.add({1: Counter({b"": 1})})
    assert kept.of_port(1) == {b"": 1}
    assert sum(bool(kept.of_port(number)) for number in range(100, 200)) <= len(model.used_numbers("port"))


def test_affinity_is_counted_by_flows() -> None:
    """Of a client that stays with its provider only the first connection would be counted."""
    model = world.model()
    service = replace(model.services[APP], affinity=60)
    model.apply(Commit(2, (Change(model.services[APP], service),)))
    context = Context(model, world.DPID, world.PORTS)
    flows = {}
    for flow in compiler.compile_owner(context, (Service.kind, APP)).flows:
        packets = {Table.BALANCE: 7, Table.PICK: 2, Table.KEEP: 1}.get(Table(flow.table), 0)
        flows[codec.cookie_of(flow)] = 0 if flow.kind == FlowKind.REFUSE else packets
    reader = ServiceReader(context, service)
    count = reader.count(Raw(flows, {}))
    tcp = count.ports[service.ports[0]]
    assert tcp.connections == 7
    assert tcp.providers == {"w1": 3, "w2": 3}, "those that came back, and those that came first"
    assert tcp.other == 1


def test_forged_packets() -> None:
    """Packets that were let through would be counted as forged, or those of another port."""
    context = Context(world.model(), world.DPID, world.PORTS)
    stats = []
    for name in ("c1", "w1"):
        for flow in compiler.compile_owner(context, (Endpoint.kind, name)).flows:
            encoded = codec.encode_flow(flow)
            size = int.from_bytes(encoded.body[2:4], "big")
            stats.append(FlowStat(flow.table, flow.priority, encoded.cookie, 5, 0, encoded.body[:size]))

    class Says(FakeSession):
        def read_flows(self, _timeout: float, match: Match = (), cookie: int = 0, mask: int = 0) -> list[FlowStat]:
            return [stat for stat in stats if stat.cookie & mask == cookie]

    assert read_forged(Says()) == {1: 20, 2: 20}, "four flows a port drop what is forged, or unfit"


def test_forged_ipv6_packets() -> None:
    """As above: what a host says before it has an address is no forgery."""
    context = Context(world.model_of(world.dual()), world.DPID, world.PORTS)
    flows = compiler.compile_owner(context, (Endpoint.kind, "w1")).flows
    stats = []
    for encoded in map(codec.encode_flow, flows):
        size = int.from_bytes(encoded.body[2:4], "big")
        stats.append(FlowStat(encoded.table, encoded.priority, encoded.cookie, 1, 0, encoded.body[:size]))

    class Says(FakeSession):
        def read_flows(
            self, _timeout: float, match: Match = (), cookie: int = 0, mask: int = 0
        ) -> list[FlowStat]:
            return [s for s in stats if s.cookie & mask == cookie]

    # another MAC, ARP, IPv4, IPv6; a router's advertisement, a solicitation, an advertisement, a redirect; unfit
    assert read_forged(Says()) == {2: 9}


def test_both_families_are_counted_together() -> None:
    """Half of a service's connections would be missing, or be nobody's."""
    context = Context(world.model_of(world.dual()), world.DPID, world.PORTS)
    reader = ServiceReader(context, context.model.services[APP])
    session = FakeSession()
    groups = {g.id: codec.encode_group(g) for g in compiler.compile_owner(context, (Service.kind, APP)).groups}
    session.groups = groups
    session.taken = {256: [3, 4, 1], 1 << 31 | 256: [10, 20, 30]}
    count = reader.count(reader.read(session, groups, Kept(context.model)))
    tcp = count.ports[context.model.services[APP].ports[0]]
    assert tcp.providers == {"w1": 3 + 10, "w2": 5 + 50}
    assert tcp.connections == 68


def test_a_switch_that_says_no(switches: Switches, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that the switch refuses would end its connection, or look like a count of zero."""

    def refuse(*_: Any) -> list[FlowStat]:
        raise Refused("the switch refused a dump: OFPBRC_BAD_STAT")

    monkeypatch.setattr(session_of(switches), "read_flows", refuse)
    unread = view_of(switches).counters(APP)["unread"]
    assert unread == {"0000000000000001": "the switch refused a dump: OFPBRC_BAD_STAT"}
    assert not session_of(switches).closed


def test_a_switch_in_doubt(switches: Switches) -> None:
    """Whoever asks would wait for ever for a switch that has gone, or it would go on half dead."""

    def silent(*_: Any) -> list[FlowStat]:
        raise NoAnswer("the switch did not answer a dump in time")

    reconciler = switches.reconcilers[world.DPID]
    first, second = reconciler.ask(silent), reconciler.ask(lambda: 0)
    assert (first.wait(5), first.failure) == (None, GONE)
    assert (second.wait(5), second.failure) == (None, GONE)
    late = reconciler.ask(lambda: 0)
    assert (late.wait(5), late.failure) == (None, GONE)
    assert session_of(switches).closed


def test_a_switch_that_is_busy(switches: Switches) -> None:
    """A request over REST would hang as long as a switch is slow; or what nobody waits for any more be asked."""
    reconciler = switches.reconcilers[world.DPID]
    asked = []

    def slow() -> str:
        hub.sleep(0.2)
        return "late"

    first, second = reconciler.ask(slow), reconciler.ask(lambda: asked.append(2))
    assert (second.wait(0.01), second.failure) == (None, BUSY)
    assert first.wait(5) == "late"
    assert reconciler.ask(lambda: "third").wait(5) == "third"
    assert not asked
