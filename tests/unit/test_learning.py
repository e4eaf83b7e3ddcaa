"""What follows from an ARP packet of, or for, a host that nobody registered; and what the model makes of it."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from ryu_apps.edges import PORTS, PORTS_PER_SECOND, Edges
from ryu_apps.learning import (
    Ask,
    BrokenPacketError,
    Ignore,
    Learn,
    decide,
    misplaced,
    network_for,
    onward,
    parse,
    replaced,
)
from ryu_apps.pipeline.compile import compile_owner
from ryu_apps.pipeline.context import Context
from ryu_apps.pipeline.dependents import owners
from tests.kit.docs import host_doc, replace
from tests.kit.station import REPLY, REQUEST, arp
from tests.kit.world import DPID, endpoint, mac_text, model
from tests.unit.modelkit import WEB1, Door, furnished
from topology.errors import Invalid
from topology.model import Change, Commit, Endpoint, Host, Lease
from topology.observed import Observed, Port
from topology.paths import End
from topology.snapshot import Model

U1 = replace(endpoint("u1", "default", "web", 9, "10.1.1.9"), origin="learned")
WEB = "default:web"


def mac(number: int) -> bytes:
    """The MAC of the endpoint at a port."""
    return bytes.fromhex(mac_text(number).replace(":", ""))


def observed(down: tuple[int, ...] = ()) -> Observed:
    """Ports p1 to p12; nobody is registered at 5 and from 9 on."""
    out = Observed()
    out.connect(DPID, (Port(f"p{n}", n, "", n not in down) for n in range(1, 13)))
    return out


def fabric() -> Observed:
    """Another switch, 2, with two ports of its own; its first is joined with port 10."""
    out = observed()
    out.connect(2, (Port(f"q{n}", n, "", up=True) for n in (1, 2)))
    out.heard.heard(End(2, 1), End(DPID, 10))
    return out


def seen(
    who: int, address: str, target: str, port: int = 0, *, of: Model | None = None, down: tuple[int, ...] = ()
) -> Learn | Ask | Ignore:
    """What follows where ``who`` at a port (its own) claims an address and asks for a target."""
    known = model((U1,)) if of is None else of
    around = observed(down)
    return decide(known, around, around.switches[DPID], port or who, parse(arp(mac(who), address, target)))


def ends(*numbers: int) -> list[End]:
    """Ports of the switch to ask at."""
    return [End(DPID, number) for number in numbers]


def test_broken_frames_are_refused() -> None:
    """If it fails: an ARP packet that is none is believed."""
    good = arp(mac(9), "10.1.1.9", "10.1.1.254")
    assert parse(good + bytes(18)) == parse(good), "padding is no fault"
    for length in range(len(good)):
        with pytest.raises(BrokenPacketError):
            parse(good[:length])
    for at, value in ((12, 0), (14, 9), (16, 9), (18, 8), (19, 16), (27, 99)):
        with pytest.raises(BrokenPacketError):
            parse(good[:at] + bytes([value]) + good[at + 1 :])
    with pytest.raises(BrokenPacketError):
        parse(arp(b"\1" + mac(9)[1:], "10.1.1.9", "10.1.1.254"))
    with pytest.raises(BrokenPacketError, match="too many for ARP"):  # no packet-out to all ports could hold it
        parse(good + bytes(60_000))


def test_network_of_an_address() -> None:
    """If it fails: a bare host lands in another tenant's network."""
    both = model()
    found = network_for(both, IPv4Address("10.1.1.77"))
    assert found is not None
    assert found.key == WEB
    assert network_for(both, IPv4Address("10.2.0.1")) is None
    assert network_for(both, IPv4Address("0.0.0.0")) is None
    blue = Model()
    blue.load(1, [o for o in both.objects() if o.kind in {"tenant", "network"} and o.key != WEB])
    found = network_for(blue, IPv4Address("10.1.1.77"))
    assert found is not None
    assert found.key == "blue:web"


def test_unknown_sender_is_learned() -> None:
    """If it fails: a bare host stays unknown."""
    found = seen(10, "10.1.1.10", "10.1.1.254")
    assert isinstance(found, Learn)
    assert (found.network.key, found.port_name, found.instead_of) == (WEB, "p10", "")
    assert seen(10, "10.9.9.9", "10.1.1.254") == Ignore()
    assert seen(10, "10.1.1.10", "10.1.1.254", port=99) == Ignore()


@pytest.mark.parametrize(
    ("address", "why"),
    [("10.1.1.254", "the gateway"), ("100.1.1.1", "a VIP"), ("10.1.1.1", "registered"), ("10.1.1.50", "granted")],
)
def test_what_another_has_is_a_forgery(address: str, why: str) -> None:
    """If it fails: a bare host takes an address that is not its own, or makes others hear its questions."""
    of = model((U1, Lease("default", "web", IPv4Address("10.1.1.50"), host="h")))
    assert seen(10, address, "10.1.1.99", of=of) == Ignore(forged=True), why
    # with the owner's MAC too
    assert seen(2, "10.1.1.1", "10.1.1.99", port=10, of=of) == Ignore(forged=True)


def test_known_host_looks_for_an_unknown_one() -> None:
    """If it fails: a silent host is not found, or every container hears who looks for it."""
    assert seen(2, "10.1.1.1", "10.1.1.99") == Ask(End(DPID, 2))
    assert seen(9, "10.1.1.9", "10.1.1.99") == Ask(End(DPID, 9))
    assert Edges(model((U1,)), observed()).all() == ends(5, 9, 10, 11, 12)
    assert seen(2, "10.1.1.1", "10.1.1.2") == Ignore(), "the switch answers"
    assert seen(2, "10.1.1.1", "10.9.9.9") == Ignore()
    answer = parse(arp(mac(9), "10.1.1.9", "10.1.1.99", REPLY, mac(2)))
    around = observed()
    assert decide(model((U1,)), around, around.switches[DPID], 9, answer) == Ignore()


def test_an_unknown_one_is_looked_for_at_all_edges() -> None:
    """If it fails: a silent host at another switch is not found; or a question goes over a link, and its asker is
    learned at the other end.
    """
    around, of = fabric(), model((U1,))
    assert Edges(of, around).all() == [*ends(5, 9, 11, 12), End(2, 2)]
    of.apply(Commit(2, (Change(None, Host("h", 2)),)))
    assert Edges(of, around).all() == ends(5, 9, 11, 12), "on a host with an agent nobody is unknown"


def test_many_questions_at_many_edges() -> None:
    """One switch that claims thousands of ports would have each question for an unknown host sent to all of them."""
    around, now = Observed(), 0.0
    around.connect(DPID, [Port(f"p{n}", n, "", up=True) for n in range(1, 4001)])
    edges = Edges(model(), around, lambda: now)
    asked = [len(edges.all()) for _ in range(100)]
    assert 0 < sum(asked) <= PORTS
    assert asked[-1] == 0
    now += 1.0
    assert 0 < sum(len(edges.all()) for _ in range(100)) <= PORTS_PER_SECOND


def test_nobody_is_learned_at_a_link() -> None:
    """If it fails: all of a switch's hosts seem to be at another switch's port."""
    around = fabric()
    for dpid, port in ((DPID, 10), (2, 1)):
        packet = parse(arp(mac(10), "10.1.1.10", "10.1.1.254"))
        assert decide(model((U1,)), around, around.switches[dpid], port, packet) == Ignore()
    there = replace(U1, port_name="p10")
    assert misplaced(model((there,)), around) == ["u1"]
    assert misplaced(model((U1,)), around) == []


def test_a_host_moves_to_another_switch() -> None:
    """If it fails: a virtual machine that is moved is cut off."""
    around = fabric()
    found = decide(model((U1,)), around, around.switches[2], 2, parse(arp(mac(9), "10.1.1.9", "10.1.1.254")))
    assert isinstance(found, Learn)
    assert (found.port_name, found.instead_of) == ("q2", "")
    answer = parse(arp(mac(9), "10.1.1.9", "10.1.1.1", REPLY, mac(2)))
    assert onward(model((U1,)), around, replace(U1, switch=2), answer) == End(DPID, 2), "to the asker's switch"


def test_learned_host_moves_or_has_an_heir() -> None:
    """If it fails: a host on another port or with a new network card is cut off, or any other can be it."""
    moved = seen(9, "10.1.1.9", "10.1.1.254", port=10)
    assert isinstance(moved, Learn)
    assert (moved.port_name, moved.instead_of) == ("p10", "")
    assert seen(10, "10.1.1.9", "10.1.1.254") == Ignore(forged=True)
    for heir in (seen(10, "10.1.1.9", "10.1.1.254", port=9), seen(10, "10.1.1.9", "10.1.1.254", down=(9,))):
        assert isinstance(heir, Learn)
        assert heir.instead_of == "u1"


def test_a_learned_host_whose_switch_is_gone_has_an_heir() -> None:
    """If it fails: who starts Mininet again with fewer switches finds hosts cut off, for ever."""
    around, of = observed(), model((replace(U1, switch=77),))
    claim = parse(arp(mac(10), "10.1.1.9", "10.1.1.254"))
    found = decide(of, around, around.switches[DPID], 10, claim)
    assert isinstance(found, Learn)
    assert found.instead_of == "u1"
    early = decide(of, around, around.switches[DPID], 10, claim, early=True)
    assert early == Ignore(forged=True), "its switch may only not be connected yet"
    looking = parse(arp(mac(2), "10.1.1.1", "10.1.1.9"))
    assert decide(of, around, around.switches[DPID], 2, looking) == Ask(End(DPID, 2)), "it is looked for"


def test_a_host_behind_another_port_of_the_same_name_is_not_the_one_learned() -> None:
    """If it fails: who starts Mininet again reaches no host, as ARP is answered with the MACs of the last run."""
    of = model((replace(U1, port_mac="02:00:00:00:00:99"), endpoint("r", "default", "web", 10, "10.1.1.10")))
    before, after = (Port("p9", 9, mac, up=True) for mac in ("02:00:00:00:00:99", "02:00:00:00:00:98"))
    assert replaced(of, DPID, [before, Port("p10", 10, "", up=True)]) == []
    assert replaced(of, DPID, [after, Port("p10", 10, "", up=True)]) == ["u1"]
    assert replaced(of, DPID, []) == [], "it may be plugged in again"
    assert replaced(of, 2, [after]) == []
    assert replaced(model((U1,)), DPID, [after]) == [], "learned by a version that did not note it"


def test_answer_goes_to_who_asked() -> None:
    """If it fails: who looked for a silent host waits a second longer, for the answer to his next question."""
    of = model((U1,))
    assert onward(of, observed(), U1, parse(arp(mac(9), "10.1.1.9", "10.1.1.1", REPLY, mac(2)))) == End(DPID, 2)
    assert onward(of, observed(), U1, parse(arp(mac(9), "10.1.1.9", "10.1.1.99", REPLY, mac(2)))) is None
    assert onward(of, observed(), U1, parse(arp(mac(9), "10.1.1.9", "10.1.1.1", REQUEST))) is None


# the model's side


def learn(door: Door, address: str, port: str = "p1", network: str = "web") -> Endpoint | None:
    """A host of one MAC is seen."""
    return door.commands.learn("default", network, "02:00:00:00:00:01", address, 7, port)


def test_a_port_is_its_registered_hosts_alone() -> None:
    """If it fails: whoever was on a port before its owner goes on sending through it."""
    door = furnished()
    assert learn(door, "10.1.1.5") is not None
    owner = replace(WEB1, switch=7, port_name="p1", mac="02:00:00:00:00:02", host="")
    door.commands.put_endpoint(owner)
    assert list(door.model.endpoints) == [owner["endpointID"]]
    assert learn(door, "10.1.1.5") is None
    assert learn(door, "10.1.1.5", port="p2") is not None

    door.commands.put_host(host_doc("h9", 7))
    door.commands.put_endpoint(replace(WEB1, id="other", port_name="p2", mac="02:00:00:00:00:03", host="h9"))
    assert set(door.model.endpoints) == {owner["endpointID"], "other"}


def test_a_host_is_in_one_network_of_a_port() -> None:
    """If it fails: two flows of one match fight for the port of a host that got an address of another network."""
    door = furnished()
    assert learn(door, "10.1.1.5") is not None
    there = learn(door, "100.1.1.5", network="srv")
    assert list(door.model.endpoints.values()) == [there]
    context = Context(door.model, 7, {"p1": 1})
    flows = {f for owner in owners(door.model) for f in compile_owner(context, owner).flows}  # owners may share one
    assert len({(f.table, f.priority, f.match) for f in flows}) == len(flows)
    elsewhere = learn(door, "10.1.1.5", port="p2")
    assert set(door.model.endpoints.values()) == {there, elsewhere}, "another port: another host, for all we know"


@pytest.mark.parametrize("mac", ["0e:4e:43:00:00:01", "0e:4e:43:00:00:02", "0e:4e:43:01:80:01"])
def test_nobody_has_the_gateways_mac(mac: str) -> None:
    """If it fails: a host takes all traffic of its network to the gateway, or passes for what came in by another."""
    door = furnished()
    assert door.commands.learn("default", "web", mac, "10.1.1.5", 7, "p1") is None
    with pytest.raises(Invalid, match="gateways' own"):
        door.commands.put_endpoint(replace(WEB1, mac=mac.upper().replace(":", "-")))
