"""Packets over the links of a fabric, from switch to switch; and what of the switches changes when links do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from ryu_apps import fabric
from ryu_apps.fabric import Fabric
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context, Owner
from ryu_apps.pipeline.dependents import DEPENDENTS, owners
from ryu_apps.pipeline.family import V4
from ryu_apps.pipeline.features.scopes import scopes
from ryu_apps.pipeline.fields import ETH_LLDP, VLAN_PRESENT
from ryu_apps.pipeline.journey import Place
from ryu_apps.pipeline.trace import Question, trace
from ryu_apps.pipeline.values import CONTROLLER
from ryu_apps.pipeline.ways import group_of, is_way
from ryu_apps.reconciler import Reconciler
from tests.kit.packets import BROADCAST, C1, VIP, W1, arp, tcp, udp
from tests.kit.several import Several
from tests.kit.world import PORTS, WEB, endpoint, ip, mac, model_of, objects
from topology.graph import paths
from topology.model import Host, Network, Object
from topology.observed import Observed
from topology.paths import End, Link, Paths, common, link
from topology.snapshot import Model

S1, S2, S3, S4 = 1, 2, 3, 4
O3, W4 = ip("10.1.1.21"), ip("10.1.1.22")
# each switch's links are at its ports from 101 on
RING = tuple(
    link(End(a, 101), End(b, 102)) for a, b in ((S1, S2), (S2, S3), (S3, S4), (S4, S1))
)
PORTS_OF = {S1: PORTS, S2: {}, S3: {"p21": 21}, S4: {"p22": 22}}


def everything() -> list[Object]:
    """The world at the first switch; o3 at the third, and w4, a provider, at the fourth. The second has nobody."""
    out = [replace(o, vlan=o.number) if isinstance(o, Network) else o for o in objects()]
    o3 = endpoint("o3", "default", "web", 21, "10.1.1.21", switch=S3)
    w4 = endpoint("w4", "default", "web", 22, "10.1.1.22", switch=S4, labels=WEB)
    return [*out, o3, w4]


def woven(by: Paths, model: Model | None = None, moving: frozenset[str] = frozenset()) -> Several:
    """The four switches."""
    of = model or model_of(everything())
    return Several(of, (Context(of, dpid, ports, paths=by, moving=moving) for dpid, ports in PORTS_OF.items()))


@pytest.fixture
def ring() -> Several:
    return woven(paths(RING))


def test_over_two_links(ring: Several) -> None:
    """If it fails: hosts at different switches do not reach each other."""
    met = set()
    for sport in range(1000, 1040):
        journey = ring.send(S1, 1, tcp(1, C1, O3, sport, 22))
        met.add(tuple(journey.path))
        ((dpid, sent),) = journey.out
        assert (dpid, sent.port) == (S3, 21)
        assert (sent.packet["eth_dst"], sent.packet["ip_ttl"]) == (mac(21), 63), "one hop, however many switches"
        assert "vlan_vid" not in sent.packet
        assert all(not walk.cts for _, walk in journey.walks)
    assert met == {(S1, S2, S3), (S1, S4, S3)}, "both of the equal ways"


def test_a_network_is_told_by_its_tag(ring: Several) -> None:
    """If it fails: tenants' packets mix between switches."""
    journey = ring.send(S1, 4, tcp(4, ip("10.1.1.3"), O3, 999, 22, eth_dst=mac(21)))
    assert {walk.path[0].packet["vlan_vid"] for _, walk in journey.walks[1:]} == {VLAN_PRESENT | 2}
    assert journey.ends == [(S3, 21)]
    tagged = tcp(4, ip("10.1.1.3"), O3, 999, 22, eth_dst=mac(21), vlan_vid=VLAN_PRESENT | 12)
    assert {port for _, port in ring.send(S3, 101, tagged).ends} <= {CONTROLLER}, "another tenant's"
    assert ring.send(S3, 101, tagged | {"vlan_vid": VLAN_PRESENT | 2}).ends == [(S3, 21)]


def test_through_the_vip(ring: Several) -> None:
    """If it fails: a service has the providers of the client's switch only."""
    met = set()
    for sport in range(1000, 1060):
        ((dpid, sent),) = ring.send(S1, 1, tcp(1, C1, VIP, sport, 8080)).out
        met.add((dpid, sent.port))
        got = sent.packet
        answer = tcp(sent.port, got["ipv4_dst"], C1, 80, got["tcp_src"])
        ((where, back),) = ring.send(dpid, sent.port, answer).out
        assert (where, back.port) == (S1, 1)
        assert (back.packet["ipv4_src"], back.packet["tcp_src"], back.packet["tcp_dst"]) == (VIP, 8080, sport)
    assert met == {(S1, 2), (S1, 3), (S4, 22)}
    assert not ring.switches[S4].connections


def test_broadcast_goes_where_the_network_is_and_no_further(ring: Several) -> None:
    """If it fails: a broadcast storms in a ring, comes twice, or is heard where nobody is of its network."""
    journey = ring.send(S1, 2, udp(2, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST))
    assert sorted(journey.ends) == [(S1, 3), (S1, 4), (S3, 21), (S4, 22)]
    assert len(journey.path) == len(set(journey.path))
    assert ring.send(S1, 7, udp(7, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST)).path == [S1], "the other tenant's"
    back = ring.send(S3, 21, udp(21, O3, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST))
    assert sorted(back.ends) == [(S1, 2), (S1, 3), (S1, 4), (S4, 22)]


def test_a_link_that_is_down_is_passed_over_by_the_switch(ring: Several) -> None:
    """If it fails: until the controller has noticed, half of the packets are lost."""
    ring.switches[S1].down.add(101)
    for sport in range(1000, 1020):
        assert ring.send(S1, 1, tcp(1, C1, O3, sport, 22)).path == [S1, S4, S3]


def test_without_a_link_the_other_way_round() -> None:
    """If it fails: one cut cable parts a ring."""
    cut = woven(paths(RING[1:]))
    assert cut.send(S1, 1, tcp(1, C1, O3, 999, 22)).path == [S1, S4, S3]
    broadcast = cut.send(S1, 2, udp(2, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST))
    assert sorted(broadcast.ends) == [(S1, 3), (S1, 4), (S3, 21), (S4, 22)]


def test_a_provider_that_no_link_leads_to_is_not_selected() -> None:
    """If it fails: connections are sent to a part of the fabric that is cut off."""
    model = model_of(everything())
    service = model.services["default:app-svc"]
    parted = paths([RING[0], RING[1]])
    for by, names in ((paths(RING), {"w1", "w2", "w4"}), (parted, {"w1", "w2"}), (Paths(), {"w1", "w2"})):
        assert {c.at.id for c in scopes(Context(model, S1, PORTS, paths=by), service, V4)[0].choices} == names
    between = common(paths(RING), paths(RING[1:]))
    (scope,) = scopes(Context(model, S1, PORTS, paths=between), service, V4)
    assert {c.at.id for c in scope.choices} == {"w1", "w2", "w4"}


def test_a_network_without_a_tag_stays_at_its_switches() -> None:
    """If it fails: a network for which no tag was left gets another's packets."""
    model = model_of([replace(o, vlan=0) if isinstance(o, Network) else o for o in everything()])
    none = woven(paths(RING), model)
    assert none.send(S1, 1, tcp(1, C1, O3, 999, 22)).ends == []
    assert none.send(S1, 2, udp(2, W1, ip("10.1.1.255"), 5, 5, eth_dst=BROADCAST)).ends == [(S1, 3), (S1, 4)]


def test_arp_at_a_link_is_no_hosts(ring: Several) -> None:
    """If it fails: hosts are learned at links; or the frames by which links are found end at a switch."""
    assert ring.send(S1, 101, arp(9, ip("10.1.1.9"), ip("10.1.1.254"))).ends == []
    assert ring.send(S3, 5, arp(9, ip("10.1.1.9"), ip("10.1.1.254"))).ends == [(S3, CONTROLLER)]
    lldp = {"eth_src": 1, "eth_dst": 0x0180C200000E, "eth_type": ETH_LLDP}
    for port in (5, 101):
        assert ring.send(S3, port, lldp).ends == [(S3, CONTROLLER)]
    model = model_of([*everything(), Host("h", S3)])
    alone = Several(model, [Context(model, S3, PORTS_OF[S3])])
    assert alone.send(S3, 5, lldp).ends == [], "on a host with an agent nobody asks"


def test_a_host_that_has_moved(ring: Several) -> None:
    """If it fails: what is on its way to a host that has just moved runs round in the fabric."""
    moved = model_of(
        [replace(o, switch=S3, port_name="p21") if o.key == "c1" else o for o in everything() if o.key != "o3"]  # type: ignore[arg-type]
    )
    between = woven(paths(RING), moved, frozenset(["c1"])).contexts
    new = woven(paths(RING), moved).contexts
    packet = tcp(22, W4, C1, 80, 999)
    assert ring.send(S4, 22, packet).ends == [(S1, 1)]
    for changed in itertools.permutations(PORTS_OF):
        half = woven(paths(RING))
        for step in (between, new):
            for dpid in changed:
                half.load(step[dpid])
                half.send(S4, 22, packet)  # a loop fails there
        assert half.send(S4, 22, packet).ends == [(S3, 21)]


def test_a_trace_follows_the_links(ring: Several) -> None:
    """If it fails: a trace ends at the first switch."""
    who = ring.model.endpoints["c1"]
    o3 = ring.model.endpoints["o3"]
    others = {dpid: Place(context) for dpid, context in ring.contexts.items() if dpid != S1}
    found = trace(ring.contexts[S1], Question(who, who.addresses[0], o3.addresses[0], 6, 22), others=others)
    assert found.text == f"delivered to o3 10.1.1.21:22 at port p21 on switch {S3:016x}"
    steps = {f"{table}: {text}" for table, text in found.steps}
    assert f"classify: on switch {S3:016x}: port 102 is a link" in steps
    assert f"arrive: on switch {S2:016x}: from another switch: network default:web" in steps
    assert f"route: on switch {S2:016x}: 10.1.1.21 is o3's → the way to switch {S3:016x}" in steps
    vip = ring.model.services["default:app-svc"].vips[0]
    found = trace(ring.contexts[S1], Question(who, who.addresses[0], vip, 6, 8080), others=others)
    assert {end.provider.id for end in found.ends if end.provider} == {"w1", "w2", "w4"}


def test_each_switch_has_a_group_of_its_own() -> None:
    """If it fails: packets for one switch go to another with a similar id."""
    alike = [5, 5 | 1 << 40, 6, 6 | 1 << 40]
    groups = [group_of(dpid, alike) for dpid in alike]
    assert len(set(groups)) == 4
    assert all(map(is_way, groups))
    assert not is_way(((1 << 22) - 1) << 8 | 255), "the highest of a service port"
    assert not is_way(1 << 31 | 256)


# going over to other paths


@dataclass(eq=False)
class Marked:
    """Stands where a switch's reconciler does, and compiles when it is told to."""

    dpid: int
    model: Model
    observed: Observed
    programs: dict[Owner, Any] = field(default_factory=dict)
    used: list[Paths] = field(default_factory=list)
    marks: int = 0
    carried_out: int = 0
    waits: bool = False
    slow: bool = False

    def mark(self, which: Iterable[Owner]) -> None:
        self.marks += 1
        context = Context(self.model, self.dpid, PORTS_OF[self.dpid], paths=self.observed.paths)
        self.used.append(self.observed.paths)
        for owner in which:
            self.programs[owner] = compile_owner(context, owner)
        if not self.slow:
            self.carried_out = self.marks


def over(*links: Link, model: Model | None = None) -> tuple[Fabric, dict[int, Marked], Observed]:
    """A fabric that has gone over to these links."""
    observed, of = Observed(), model or model_of(everything())
    marked = {dpid: Marked(dpid, of, observed) for dpid in PORTS_OF}
    for one in marked.values():
        one.mark(owners(of))
    made = Fabric(of, observed, cast(dict[int, Reconciler], marked))
    made.adopt(paths(links))
    for one in marked.values():
        one.used.clear()
    return made, marked, observed


SETS = [RING, RING[1:], RING[:2], (), (RING[0], RING[2]), tuple(reversed(RING))]


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(SETS, 2)))
def test_all_that_differs_is_compiled(before: tuple[Link, ...], after: tuple[Link, ...]) -> None:
    """If it fails: after a link has come or gone, a part of the ways is that of before."""
    made, marked, observed = over(*before)
    made.adopt(paths(after))
    for one in marked.values():
        context = Context(one.model, one.dpid, PORTS_OF[one.dpid], paths=observed.paths)
        assert one.programs == {owner: compile_owner(context, owner) for owner in owners(one.model)}
    assert observed.paths == paths(after)


def test_the_old_is_given_up_before_the_new_is_taken() -> None:
    """If it fails: while switches change one by one, a broadcast runs round in a ring."""
    made, marked, _ = over(*RING)
    made.adopt(paths(RING[1:]))
    for one in marked.values():
        assert one.used == [common(paths(RING), paths(RING[1:])), paths(RING[1:])]


def test_links_that_only_come_are_taken_at_once() -> None:
    """If it fails: a fabric that comes up takes a step for each link."""
    made, marked, _ = over(RING[0])
    made.adopt(paths(RING[:2]))
    assert marked[S2].used == [paths(RING[:2])]


def test_one_switch_that_does_not_answer_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails: one hung switch keeps all others from going round a cut link."""
    made, marked, observed = over(*RING)
    monkeypatch.setattr(fabric, "PATIENCE", 0.05)
    marked[S3].slow = True
    made.adopt(paths(RING[1:]))
    assert observed.paths == paths(RING[1:])


def test_a_host_that_moves_is_sent_to_when_all_know() -> None:
    """If it fails: what is sent to a host that has just moved runs round; or never gets there any more."""
    made, marked, observed = over(*RING)
    observed.moving = frozenset(["o3"])
    made.moved(["o3"])
    made.settle_moves()
    assert observed.moving == frozenset()
    assert all(one.used for one in marked.values())
    made.settle_moves()


def test_a_link_far_away_is_no_matter() -> None:
    """If it fails: each link that comes or goes costs each switch everything."""
    model = model_of(everything())
    line = [link(End(a, 101), End(a + 1, 102)) for a in (1, 2, 3)]
    more = [*line, link(End(3, 103), End(4, 104))]
    assert DEPENDENTS.of_paths(model, S1, paths(line), paths(more)) == set()
    assert DEPENDENTS.of_paths(model, S3, paths(line), paths(more)) != set()
    found = DEPENDENTS.of_paths(model, S1, paths(RING), paths(RING[1:]))
    assert not {o for o in found if o[0] in ("endpoint", "service")}, "the groups' business"
