"""One session with a real Open vSwitch: what we send is what we read back, and errors name their owner."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ryu_apps import config, framework
from ryu_apps.openflow import codec, messages, session
from ryu_apps.openflow.messages import Tuple5
from ryu_apps.openflow.session import Disconnected, Mod, Refused, Session
from ryu_apps.pipeline.tables import GROUP_FLOOD
from ryu_apps.pipeline.values import (
    ANY,
    CONTROLLER,
    IN_PORT,
    Action,
    Bucket,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Group,
    GroupAction,
    Learn,
    LearnLoad,
    LearnMatch,
    Meter,
    Move,
    Nat,
    Output,
    OutputReg,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    match,
)
from topology.allocate import LIMITS

BRIDGE = f"tst-s{os.getpid()}"
TIMEOUT = 20.0


class Listener(framework.App):
    """Holds the session of each connected switch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sessions: dict[Any, Session] = {}

    @framework.set_ev_cls(session.EVENTS, [framework.MAIN_DISPATCHER, framework.DEAD_DISPATCHER])
    def answered(self, ev: Any) -> None:
        datapath = session.datapath_of(ev)
        if getattr(ev, "state", None) == framework.MAIN_DISPATCHER:
            self.sessions[datapath] = Session(datapath)
        elif datapath in self.sessions:
            self.sessions[datapath].on_event(ev)
            if getattr(ev, "state", None) == framework.DEAD_DISPATCHER:
                del self.sessions[datapath]


def vsctl(*args: str) -> None:
    subprocess.run(["ovs-vsctl", "--timeout=20", *args], check=True, capture_output=True, text=True)


def ofctl(*args: str) -> str:
    done = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow13", *args], check=True, capture_output=True, text=True
    )
    return done.stdout


def wait_for(what: Callable[[], Any]) -> Any:
    """The first true answer, within a deadline; the hub runs meanwhile."""
    until = time.monotonic() + TIMEOUT
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        framework.hub.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.register(framework.CONF)
    framework.CONF(args=["--ofp-tcp-listen-port", str(port)], project="test", default_config_files=[])
    manager = framework.app_manager.AppManager.get_instance()
    manager.load_apps([f"{framework.NAME}.controller.ofp_handler"])
    app = manager.instantiate(Listener)
    manager.instantiate_apps()
    try:
        vsctl(
            "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev", "fail_mode=secure",
            "protocols=OpenFlow13", "other-config:disable-in-band=true", "--",
            "set-controller", BRIDGE, f"tcp:127.0.0.1:{port}", "--",
            "set", "controller", BRIDGE, "max_backoff=1000",
        )  # fmt: skip
        yield app
    finally:
        vsctl("--if-exists", "del-br", BRIDGE)
        manager.close()
        framework.CONF.reset()


@pytest.fixture
def switch(listener: Listener) -> Iterator[Session]:
    """A session with an empty switch."""
    found = wait_for(lambda: [s for s in listener.sessions.values() if s.connected])[0]
    ofctl("del-flows", BRIDGE)
    ofctl("del-groups", BRIDGE)
    ofctl("del-meters", BRIDGE)
    yield found


def add(flow: Flow, owner: str = "someone") -> Mod:
    return Mod(owner, codec.flow_add(codec.encode_flow(flow)))


def add_group(group: Group, owner: str = "someone") -> Mod:
    return Mod(owner, codec.group_add(codec.encode_group(group)))


IP_DST = 0x0A010102
IPV6 = 0xFD00 << 112 | 0x0A01

EVERY_ACTION: tuple[Action, ...] = (
    Output(7),
    Output(7, max_len=0xFFFF),
    Output(IN_PORT),
    Output(CONTROLLER, max_len=0xFFFF),
    OutputReg("reg4"),
    OutputReg("reg4", max_len=128),
    SetField("reg0", 0x12345678),
    SetField("eth_dst", 0x020000000001),
    SetField("eth_src", 0x020000000002),
    SetField("ipv4_src", 0x0A000001),
    SetField("ipv4_dst", IP_DST),
    SetField("ip_ttl", 64),
    SetField("tcp_src", 80),
    SetField("tcp_dst", 80),
    SetField("udp_dst", 53),
    SetField("tunnel_id", 77),
    SetField("tun_ipv4_dst", 0x0A0A0A0A),
    SetField("arp_op", 2),
    SetField("arp_spa", IP_DST),
    SetField("arp_tha", 0x020000000003),
    SetField("icmpv4_type", 0),
    SetField("ipv6_src", IPV6),
    SetField("ipv6_dst", IPV6),
    SetField("icmpv6_type", 129),
    SetField("nd_target", IPV6),
    SetField("nd_tll", 0x020000000004),
    SetField("nd_reserved", 3 << 29),
    SetField("nd_options_type", 2),
    SetField("vlan_vid", 0x1005),
    Move("eth_src", "eth_dst"),
    Move("ipv4_src", "ipv4_dst"),
    Move("arp_sha", "arp_tha"),
    Move("arp_spa", "arp_tpa"),
    Move("tunnel_id", "reg3", bits=24),
    Move("reg0", "reg1", bits=16),
    Move("reg1", "tunnel_id"),
    Move("ipv6_src", "ipv6_dst"),
    Move("ipv6_dst", "reg3", bits=32),
    Move("udp_src", "ipv6_dst", bits=12),
    Move("nd_target", "ipv6_src"),
    Move("eth_src", "nd_tll"),
    DecTtl(),
    PushVlan(),
    PopVlan(),
    Resubmit(9),
    Ct(zone=3),
    Ct(zone=3, table=5),
    Ct(zone=3, commit=True),
    Ct(zone=3, table=5, commit=True, nat=Nat(dst=IPV6, port=8080, version=6)),
    Ct(zone=3, table=5, commit=True, nat=Nat(dst=IPV6, version=6)),
    Ct(zone=3, commit=True, nat=Nat(src=IPV6, version=6)),
    Ct(zone=3, table=5, nat=Nat()),
    Ct(zone=3, table=5, commit=True, nat=Nat(dst=IP_DST)),
    Ct(zone=3, table=5, commit=True, nat=Nat(dst=IP_DST, port=8080)),
    Ct(zone=65535, commit=True, nat=Nat(src=IP_DST, port=8080)),
    Ct(zone=3, commit=True, exec=(SetField("ct_mark", 7),)),
    Ct(zone=3, table=5, commit=True, nat=Nat(dst=IP_DST), exec=(Move("eth_src", "ct_mark", bits=16),)),
    Ct(zone=3, table=5, commit=True, nat=Nat(dst=IP_DST, port=80), exec=(Move("eth_src", "ct_mark", bits=16),)),
    CtClear(),
    Learn(
        9,
        100,
        (
            LearnMatch("eth_type", 0x0800),
            LearnMatch("ip_proto", 6),
            LearnMatch("ipv4_src", "ipv4_src"),
            LearnMatch("ipv4_dst", IP_DST),
            LearnMatch("tcp_dst", "tcp_dst"),
            LearnMatch("reg0", "reg0", bits=16),
            LearnLoad("reg2", 7),
            LearnLoad("reg3", "reg4"),
            LearnLoad("reg5", 1, bits=1),
        ),
        idle=10,
        hard=65535,
        number=0xFFFFFFFFFFFF,
    ),
    Learn(9, 1, (LearnMatch("reg0", "reg1"),)),
    Learn(9, 1, (LearnMatch("reg0", "reg1"), LearnLoad("reg2", 7)), idle=5, number=3, limit=10_000),
)


@pytest.mark.parametrize("kind", codec.GROUP_TYPES)
def test_buckets_read_back_byte_for_byte(switch: Session, kind: str) -> None:
    """A group would be sent again at every restart, its connections' balance disturbed, if this differed."""
    watch = 7 if kind in ("select", "ff") else ANY
    group = Group(
        1,
        kind,
        tuple(
            Bucket((action, Resubmit(9)), weight=number + 1, watch_port=watch)
            for number, action in enumerate(EVERY_ACTION)
        )[: 1 if kind == "indirect" else None],
    )
    empty = Group(2, "select", ())
    chained = Group(3, "select", (Bucket((GroupAction(2),), weight=7),))
    assert not switch.apply([add_group(g) for g in (group, empty, chained)], TIMEOUT)

    _, groups = switch.read_back(TIMEOUT)

    assert {g.id: g for g in groups} == {g.id: codec.encode_group(g) for g in (group, empty, chained)}


def test_a_group_that_broadcasts(switch: Session) -> None:
    """Each restart of the controller would write the groups of large networks again."""
    group = Group(GROUP_FLOOD | 2 << 6 | 1, "all", tuple(Bucket((Output(p),)) for p in range(1024, 2048)))
    highest = Group(GROUP_FLOOD | LIMITS["network"] << 6 | 63, "all", (Bucket((Output(1),)),))
    assert not switch.apply([add_group(group), add_group(highest)], TIMEOUT)

    _, groups = switch.read_back(TIMEOUT)

    assert {g.id: g for g in groups} == {g.id: codec.encode_group(g) for g in (group, highest)}


def test_a_thousand_flows_and_groups_by_one_bundle(switch: Session) -> None:
    """The model would not be in the switch, or a restart could not tell that it is."""
    groups = [
        Group(n, "select", (Bucket((Ct(zone=1, commit=True, table=8, nat=Nat(dst=n)),), weight=100),))
        for n in range(1, 1001)
    ]
    flows = [
        Flow(
            4, 100, match(eth_type=0x0800, ip_proto=6, ipv4_dst=n, tcp_dst=80, reg0=(n << 8, 0xFFFFFF00)),
            (SetField("reg1", n), GroupAction(n)), kind=3,
        )
        for n in range(1, 1001)
    ]  # fmt: skip
    flow_mods, group_mods = switch.flow_mods, switch.group_mods

    assert not switch.apply([*map(add_group, groups), *map(add, flows)], TIMEOUT)

    found_flows, found_groups = switch.read_back(TIMEOUT)
    assert (switch.flow_mods - flow_mods, switch.group_mods - group_mods) == (1000, 1000)
    assert {(f.table, f.priority, f.cookie) for f in found_flows} == {
        (4, 100, codec.cookie_of(flow)) for flow in flows
    }
    assert {(f.packet_count, f.byte_count) for f in found_flows} == {(0, 0)}
    assert {g.id: g for g in found_groups} == {g.id: codec.encode_group(g) for g in groups}


def test_every_action_is_what_open_vswitch_understands(switch: Session) -> None:
    """A wrong byte would be another action: here Open vSwitch says in its own words what it has read."""
    flow = Flow(
        4, 7, match(in_port=9, eth_type=0x0800, ip_proto=6, ct_state=(0x21, 0x23), ip_frag=(0, 1)),
        (SetField("reg0", 5), Move("reg0", "reg1", bits=16), DecTtl(), OutputReg("reg4"), Resubmit(9),
         Ct(zone=3, table=5, commit=True, nat=Nat(dst=IP_DST, port=8080)), CtClear(),
         Ct(zone=3, table=5, commit=True, nat=Nat(dst=IP_DST), exec=(Move("eth_src", "ct_mark", bits=16),))),
        goto=6,
    )  # fmt: skip
    assert not switch.apply([add(flow)], TIMEOUT)

    text = ofctl("dump-flows", BRIDGE, "--no-stats")

    assert (
        "table=4, priority=7,ct_state=+new-est+trk,tcp,in_port=9,nw_frag=no "
        "actions=set_field:0x5->reg0,move:NXM_NX_REG0[0..15]->NXM_NX_REG1[0..15],dec_ttl,output:NXM_NX_REG4[],"
        "resubmit(,9),ct(commit,table=5,zone=3,nat(dst=10.1.1.2:8080)),ct_clear,"
        "ct(commit,table=5,zone=3,nat(dst=10.1.1.2),exec(move:NXM_OF_ETH_SRC[0..15]->NXM_NX_CT_MARK[0..15])),"
        "goto_table:6"
    ) in text


def test_fields_of_a_connection_are_what_open_vswitch_understands(switch: Session) -> None:
    """As above, for the fields that no library knows."""
    connection: dict[str, int | tuple[int, int]] = {"ct_state": (0x21, 0x21), "ct_nw_proto": 17, "ct_tp_dst": 53}
    assert not switch.apply([add(Flow(4, 7, match(eth_type=0x0800, ip_frag=(1, 3), **connection)))], TIMEOUT)

    text = ofctl("dump-flows", BRIDGE, "--no-stats")

    assert "priority=7,ct_state=+new+trk,ct_nw_proto=17,ct_tp_dst=53,ip,nw_frag=first actions=drop" in text


def test_ipv6_is_what_open_vswitch_understands(switch: Session) -> None:
    """As above, for IPv6's fields: some that no library knows, and addresses that are translated to."""
    address = 0xFD00 << 112 | 7
    tracked = match(eth_type=0x86DD, ct_state=(0x21, 0x21), ct_ipv6_dst=address, ip_frag=(3, 3))
    solicitation = match(eth_type=0x86DD, ip_proto=58, icmpv6_type=135, nd_target=address, nd_sll=2)
    turned = (SetField("nd_reserved", 3 << 29), SetField("nd_options_type", 2), SetField("icmpv6_type", 136))
    advertisement = match(eth_type=0x86DD, ip_proto=58, icmpv6_type=136, nd_tll=2)
    back = (Move("nd_target", "ipv6_src"), Move("eth_src", "nd_tll"), Move("ipv6_dst", "reg3", bits=32))
    translated = Ct(1, table=6, commit=True, nat=Nat(dst=address, port=80, version=6))
    seen = Ct(1, table=6, commit=True, nat=Nat(src=address, version=6))
    assert not switch.apply(
        [
            add(Flow(4, 7, tracked, (translated, seen))),
            add(Flow(4, 6, solicitation, turned)),
            add(Flow(4, 5, advertisement, back)),
        ],
        TIMEOUT,
    )

    text = ofctl("dump-flows", BRIDGE, "--no-stats")

    assert (
        "priority=7,ct_state=+new+trk,ct_ipv6_dst=fd00::7,ipv6,nw_frag=later actions="
        "ct(commit,table=6,zone=1,nat(dst=[fd00::7]:80)),ct(commit,table=6,zone=1,nat(src=fd00::7))" in text
    )
    assert (
        "priority=6,icmp6,icmp_type=135,nd_target=fd00::7,nd_sll=00:00:00:00:00:02 actions="
        "set_field:1610612736->nd_reserved,set_field:2->nd_options_type,set_field:136->icmpv6_type" in text
    )
    assert (
        "priority=5,icmp6,icmp_type=136,nd_tll=00:00:00:00:00:02 actions=move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],"
        "move:NXM_OF_ETH_SRC[]->NXM_NX_ND_TLL[],move:NXM_NX_IPV6_DST[0..31]->NXM_NX_REG3[]" in text
    )


def test_a_flow_refused_at_once_names_its_owner_and_undoes_all(switch: Session) -> None:
    """One service that the switch can't take would stop all others, or be half there."""
    good = Flow(4, 1, match(in_port=1))
    bad = codec.flow_add(codec.encode_flow(Flow(4, 2, match(in_port=2), (Resubmit(5),))))
    bad = bad.replace(b"\x00\x00\x23\x20\x00\x0e", b"\x00\x00\x23\x20\x7f\xff")  # no such action
    group = Group(1, "select", ())

    errors = switch.apply([add_group(group), add(good), Mod("culprit", bad), add(good)], TIMEOUT)

    assert [owner for owner, _ in errors] == ["culprit"]
    assert "OFPET_BAD_ACTION" in errors[0][1]
    assert switch.read_back(TIMEOUT) == ([], [])
    assert not switch.apply([add_group(group), add(good)], TIMEOUT)


def test_a_flow_refused_at_commit_names_its_owner_and_undoes_all(switch: Session) -> None:
    """As above, for what the switch notices only when it carries the bundle out."""
    good = Flow(4, 1, match(in_port=1))
    group = Group(1, "select", ())
    dangling = Flow(4, 2, match(in_port=2), (GroupAction(99),))
    twice = [add_group(group), add(good), add_group(group, owner="twice")]

    assert [owner for owner, _ in switch.apply([add(good), add(dangling, "culprit")], TIMEOUT)] == ["culprit"]
    errors = switch.apply(twice, TIMEOUT)

    assert errors == (("twice", "OFPET_GROUP_MOD_FAILED(6) OFPGMFC_GROUP_EXISTS(0)"),)
    assert switch.read_back(TIMEOUT) == ([], [])


def test_delete_by_cookie_takes_that_flow_only(switch: Session) -> None:
    """Deleting a service would take a neighbour's flows with it, or leave its own behind."""
    flows = [Flow(4, 1, match(in_port=n)) for n in (1, 2)]
    assert not switch.apply([add(flow) for flow in flows], TIMEOUT)

    assert not switch.apply([Mod(None, codec.flow_delete(codec.cookie_of(flows[0]), 4))], TIMEOUT)

    assert [f.cookie for f in switch.read_back(TIMEOUT)[0]] == [codec.cookie_of(flows[1])]


def test_replace_and_delete_a_group(switch: Session) -> None:
    """A provider that comes or goes would not reach the service's group."""
    before = codec.encode_group(Group(1, "select", (Bucket((Output(1),), weight=5),)))
    after = codec.encode_group(Group(1, "select", (Bucket((Output(2),), weight=6),)))
    assert not switch.apply([Mod(None, codec.group_add(before))], TIMEOUT)
    assert not switch.apply([Mod(None, codec.group_modify(after))], TIMEOUT)
    assert switch.read_back(TIMEOUT)[1] == [after]

    assert not switch.apply([Mod(None, codec.group_delete(1))], TIMEOUT)

    assert switch.read_back(TIMEOUT)[1] == []


def test_foreign_flows_are_not_ours(switch: Session) -> None:
    """A user's own flow, put in by hand, would be swept away."""
    ofctl("add-flow", BRIDGE, "cookie=0x5,table=7,actions=drop")

    assert switch.read_back(TIMEOUT)[0] == []


def test_learned_flows_live_as_long_as_who_learns_them(switch: Session) -> None:
    """A client's affinity would be swept away at a restart, or outlive its service."""
    learn = Learn(9, 100, (LearnMatch("eth_src", "eth_src"), LearnLoad("reg2", 7)), idle=60, number=5)
    flow = Flow(4, 1, (), (learn,), kind=1)
    again = Flow(4, 1, (), (learn, Output(7)), kind=1)

    def learned() -> list[str]:
        return [line for line in ofctl("dump-flows", BRIDGE, "--no-stats").splitlines() if " table=9," in line]

    assert not switch.apply([add(flow)], TIMEOUT)
    switch.send_plain(messages.packet_out(CONTROLLER, (Resubmit(4),), b"\0" * 60))
    wait_for(learned)
    assert [f.cookie for f in switch.read_back(TIMEOUT)[0]] == [codec.cookie_of(flow)]
    assert not switch.apply([add(again)], TIMEOUT)
    assert learned(), "the flow was replaced by one that learns the same"
    assert not switch.apply([Mod(None, codec.flow_delete(codec.cookie_of(again), 4))], TIMEOUT)
    assert not learned()

    # a bucket is an action set, where Open vSwitch passes over what learns: a bucket has to resubmit to a flow
    bucket = Bucket((learn, Resubmit(5)), weight=1)
    other = Learn(9, 100, (LearnMatch("eth_src", 3),), idle=60, number=6)
    flows = [Flow(4, 1, (), (GroupAction(1),)), Flow(5, 1, (), (other,))]
    assert not switch.apply([add_group(Group(1, "select", (bucket,))), *map(add, flows)], TIMEOUT)
    switch.send_plain(messages.packet_out(CONTROLLER, (Resubmit(4),), b"\0" * 60))
    wait_for(learned)
    assert [line.split(",")[0] for line in learned()] == [" cookie=0x4c00000000000006"]


def test_more_than_a_bundle_holds_goes_as_several(switch: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first start with very many services would fail."""
    monkeypatch.setattr(session, "BUNDLE_LIMIT", 10)
    flows = [Flow(4, 1, match(in_port=n)) for n in range(1, 26)]

    assert not switch.apply([add(flow) for flow in flows], TIMEOUT)
    with pytest.raises(session.PartlyDone, match="10 of 12 mods done, then: OFPET_BAD_ACTION"):
        switch.apply([add(f) for f in flows[:11]] + [add(Flow(4, 2, (), (GroupAction(99),)))], TIMEOUT)

    assert len(switch.read_back(TIMEOUT)[0]) == 25


def test_nothing_to_apply(switch: Session) -> None:
    """An unchanged model would cost messages."""
    sent = switch.datapath.xid

    assert switch.apply([], TIMEOUT) == ()

    assert switch.datapath.xid == sent


def test_a_meter_is_made_once(switch: Session) -> None:
    """Packet-ins would flood the controller, or a restart reset the meter that holds them back."""
    meter = codec.meter_add(Meter(1, rate=100, burst=50))
    before = switch.meter_mods
    switch.ensure_meters([meter], TIMEOUT)
    switch.ensure_meters([meter], TIMEOUT)
    assert switch.meter_mods == before + 1

    switch.ensure_meters([codec.meter_add(Meter(1, rate=200, burst=50))], TIMEOUT)

    assert switch.read_meters(TIMEOUT) == [codec.encode_meter(Meter(1, rate=200, burst=50))]
    assert not switch.apply([add(Flow(4, 1, (), (Output(CONTROLLER, 0xFFFF),), meter=1))], TIMEOUT)
    errors = switch.apply_plain([Mod("twice", meter), Mod("fine", codec.meter_delete(1))], TIMEOUT)
    assert errors == (("twice", "OFPET_METER_MOD_FAILED(12) OFPMMFC_METER_EXISTS(1)"),)


def test_a_packet_goes_out_and_connections_are_flushed(switch: Session) -> None:
    """A packet held back would be lost; clients of a dead provider would wait for ever."""
    zone = 40000 + os.getpid() % 20000
    udp = bytes.fromhex(
        "020000000002020000000001 0800 4500001c00000000401166cf 0a0000010a000002 1388 0035 0008 0000"
    )
    recirculated = Flow(5, 1, ())
    assert not switch.apply([add(recirculated)], TIMEOUT)

    def entries() -> list[str]:
        dump = subprocess.run(
            ["ovs-appctl", "dpctl/dump-conntrack", "netdev@ovs-netdev", f"zone={zone}"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return dump.stdout.splitlines()

    def connect() -> None:
        switch.send_plain(messages.packet_out(CONTROLLER, (Ct(zone=zone, table=5, commit=True),), udp))
        wait_for(entries)

    connect()
    switch.flush_ct(zone, ip_proto=17, reply=Tuple5(src=0x0A000009))
    assert not switch.apply([add(recirculated)], TIMEOUT)  # its answer says that the flush is done
    assert entries()
    switch.flush_ct(zone, ip_proto=17, reply=Tuple5(src=0x0A000002, src_port=53))
    wait_for(lambda: not entries())
    connect()
    switch.flush_ct(zone, ip_proto=17, orig=Tuple5(dst=0x0A000002, dst_port=53))
    wait_for(lambda: not entries())
    connect()
    switch.flush_ct(zone)
    wait_for(lambda: not entries())


def test_an_error_about_a_plain_message_is_heard(switch: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet-out that the switch refuses would vanish without a trace."""
    heard: list[str] = []
    monkeypatch.setattr(switch, "_on_error", heard.append)

    switch.send_plain(messages.packet_out(CONTROLLER, (GroupAction(99),), b"\0" * 14))

    assert "OFPET_BAD_ACTION" in wait_for(lambda: heard)[0]


def test_a_lost_connection_is_told_at_once(switch: Session, listener: Listener) -> None:
    """The thread that writes to a switch would wait out its timeout, half a minute, before it starts anew."""
    flows = [add(Flow(4, 1, match(eth_type=0x0800, ipv4_dst=n))) for n in range(20_000)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            switch.apply(flows, 60)
        except Disconnected as lost:
            failures.append(lost)

    worker = framework.hub.spawn(work)
    framework.hub.sleep(0)
    switch.datapath.socket.shutdown(socket.SHUT_RDWR)
    started = time.monotonic()
    worker.wait()

    assert len(failures) == 1
    assert time.monotonic() - started < 5
    with pytest.raises(Disconnected):
        switch.read_back(TIMEOUT)
    again = wait_for(lambda: [s for s in listener.sessions.values() if s.connected])[0]
    assert again is not switch
    assert again.read_back(TIMEOUT) == ([], [])


def test_a_silent_switch_runs_into_the_timeout(switch: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that hangs would hold its thread for ever."""
    monkeypatch.setattr(switch.datapath, "send", lambda _: True)

    with pytest.raises(session.NoAnswer, match="did not answer a dump"):
        switch.read_back(0.05)


@contextlib.contextmanager
def another_master(generation: int) -> Iterator[None]:
    """Another controller's connection, which is the master as long as the block lasts."""
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(TIMEOUT)
        other.connect(f"/var/run/openvswitch/{BRIDGE}.mgmt")
        hello = bytes((4, 0, 0, 8, 0, 0, 0, 1))
        other.sendall(hello + messages.role_request(2, messages.ROLE_MASTER, generation))
        answers = b""
        while answers[-24:-20] != bytes((4, 25, 0, 24)):  # the role's reply is the last
            part = other.recv(4096)
            assert part, "the switch has closed the connection"
            answers += part
        yield


def test_an_old_leader_can_not_write(switch: Session) -> None:
    """One that was frozen, and does not know yet that another leads, would undo what that one wrote."""
    switch.be_master(5, TIMEOUT)
    assert switch.apply([add(Flow(0, 1, (), (Output(7),)))], TIMEOUT) == ()
    with another_master(6):
        before = ofctl("dump-flows", "--no-stats", BRIDGE)
        for message in ([add(Flow(0, 2, (), ()))], [add(Flow(0, 1, (), ()))]):
            with pytest.raises(Refused, match="the switch has another master now"):
                switch.apply(message, TIMEOUT)
        assert "OFPBRC_IS_SLAVE" in str(switch.apply_plain([add(Flow(0, 3, (), ()))], TIMEOUT))
        for generation in (5, 4):
            with pytest.raises(Refused, match=r"does not take us as its master: .*STALE"):
                switch.be_master(generation, TIMEOUT)
        assert ofctl("dump-flows", "--no-stats", BRIDGE) == before
        assert len(switch.read_flows(TIMEOUT)) == 1, "it may read"
    with pytest.raises(Refused, match="STALE"):
        switch.be_master(5, TIMEOUT)
    switch.be_master(7, TIMEOUT)
    assert switch.apply([add(Flow(0, 2, (), ()))], TIMEOUT) == ()


def test_a_bundle_that_was_begun_before_another_leads(switch: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen in the middle of a change, it would complete it when it wakes."""
    switch.be_master(8, TIMEOUT)
    send, other = Session._send, contextlib.ExitStack()

    def late(self: Session, data: bytes) -> None:
        if len(data) == 24 and int.from_bytes(data[20:22], "big") == messages.COMMIT_REQUEST:
            other.enter_context(another_master(9))
        send(self, data)

    with other, monkeypatch.context() as patch:
        patch.setattr(Session, "_send", late)
        with pytest.raises(Refused):
            switch.apply([add(Flow(0, 4, (), ()))], TIMEOUT)
        assert "priority=4" not in ofctl("dump-flows", BRIDGE)
    switch.be_master(10, TIMEOUT)


def test_who_may_not_write_sends_nothing(switch: Session) -> None:
    """A leader whose lease is over would depend on another having told the switch."""
    may = [True]
    guarded = Session(switch.datapath, allowed=lambda: may[0])
    may[0] = False
    for write in (
        lambda: guarded.apply([add(Flow(0, 5, (), ()))], TIMEOUT),
        lambda: guarded.send_plain(messages.packet_out(1, (), b"x" * 60)),
        lambda: guarded.flush_ct(1),
        lambda: guarded.be_master(100, TIMEOUT),
    ):
        with pytest.raises(Disconnected, match="we do not lead any more"):
            write()
    assert "priority=5" not in ofctl("dump-flows", BRIDGE)
