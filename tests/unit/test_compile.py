"""Compile by owner: recompiling what a change affects is the same as compiling everything, and costs as little."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ryu_apps.openflow.session import Session
from ryu_apps.pipeline import compile as compiler
from ryu_apps.pipeline.context import SWITCH, Context, Owner, Program, Translation
from ryu_apps.pipeline.dependents import owners
from ryu_apps.pipeline.tables import FlowKind, Priority, Table, UndeclaredError, check
from ryu_apps.pipeline.values import ANY, Flow, Group, SetField, match
from ryu_apps.reconciler import Reconciler, seen_from
from ryu_apps.switches import Switches
from tests.kit import world
from tests.kit.docs import endpoint_doc, host_doc, network_doc, replace, service_doc
from tests.kit.fakeswitch import FakeSwitch
from tests.unit.modelkit import Door
from topology.errors import NetctlError
from topology.model import Endpoint
from topology.observed import Observed, Port, Switch
from topology.reach import TUNNEL_PORT
from topology.reports import EndpointDoc
from topology.snapshot import Model

DPID, OTHER = 7, 8
PORT_OF = {key: f"p{number}" for number, key in enumerate("stuvwxyz")}
"""Each endpoint that is registered has a port of its own."""
PORTS = ["p0", "p3", "p4", "p5"]


@dataclass
class Marked:
    """Stands where a switch's reconciler does, and compiles at once what is marked."""

    model: Model
    switch: Switch
    observed: Observed
    programs: dict[Owner, Program] = field(default_factory=dict)
    compiled: list[Owner] = field(default_factory=list)

    def mark(self, owners: Iterable[Owner], revision: int | None = None) -> None:
        """These may be different now."""
        context = seen_from(self.switch, self.model, self.observed)
        for owner in owners:
            self.compiled.append(owner)
            self.programs[owner] = compiler.compile_owner(context, owner)


def from_scratch(marked: Marked) -> dict[Owner, Program]:
    """Everything, by a model that has no history."""
    fresh = Model()
    fresh.load(marked.model.revision, list(marked.model.objects()))
    context = seen_from(marked.switch, fresh, marked.observed)
    return {owner: compiler.compile_owner(context, owner) for owner in owners(fresh)}


def attach(door: Door) -> tuple[Switches, Marked]:
    """A connected switch without ports but for the tunnel's, whose owners are compiled as they are marked."""
    switches = Switches(door.model)
    door.commands.subscribe(switches.committed)
    tunnel = Port(TUNNEL_PORT, 99, "02:00:00:00:00:99", up=True)
    marked = Marked(door.model, switches.observed.connect(DPID, [tunnel]), switches.observed)
    switches.reconcilers[DPID] = cast(Reconciler, marked)
    marked.mark(owners(door.model))
    marked.compiled.clear()
    return switches, marked


TENANTS = st.sampled_from(["default", "default", "blue"])
NETWORKS = st.sampled_from(["srv", "web", "cli", "sec"])
LABELS = st.dictionaries(st.sampled_from("kl"), st.sampled_from("12"), max_size=2)
SELECTORS = st.lists(st.sampled_from(["k=1", "k=2", "l=1"]), max_size=2, unique_by=lambda s: s[0])
SERVICE_PORTS = st.lists(
    st.sampled_from(["80:8080:TCP", "81:8080:TCP", "53:53:UDP", "80:53:UDP", "80:80:SCTP"]),
    min_size=1,
    max_size=3,
    unique=True,
)
DATAPATH_TYPES = st.sampled_from(["netdev", "system"])
CONTAINERS = st.sampled_from(["", "c", "c", "d"])
WAYS_BACK = st.sampled_from(["", "", "no rule"])
MACS = st.sampled_from(["", "", "", "02:00:00:00:00:01", "02:00:00:00:00:02"])
SEEN_MACS = st.sampled_from(["02:00:00:00:00:11", "02:00:00:00:00:12"])


class Incremental(RuleBasedStateMachine):
    """Random commands through the write door, ports of the switch, and another switch that comes and goes with its own;
    one compiled as they come, one from scratch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.other: Session | None = None
        self.door = Door()
        self.switches, self.marked = attach(self.door)

    @initialize()
    def furnish(self) -> None:
        commands = self.door.commands
        for tenant in ("default", "blue"):
            commands.put_tenant(tenant)
            commands.put_network(network_doc(tenant, "srv", "100.1.1.0/24", subnet6="fd00:100::/64"))
            web6 = {"subnet6": "fd00:10::/64", "gateway6": "fd00:10::f"}
            commands.put_network(network_doc(tenant, "web", "10.1.1.0/28", "10.1.1.14", nat=True, **web6))
            commands.put_network(network_doc(tenant, "sec", "40.1.1.0/29", "40.1.1.6"))
        for host, switch in (("h1", DPID), ("h2", OTHER)):
            self.put_host(host, switch, "netdev")
        commands.put_service(service_doc("default", "a", "srv", selectors=["k=1"], ports=["80:8080:TCP"]))
        commands.put_endpoint(
            endpoint_doc("v", "default", "web", labels={"k": "1"}, host="h2", port_name=PORT_OF["v"])
        )
        self.other_connects(set(PORTS), "")

    def run(self, command: Callable[[], object]) -> None:
        try:
            command()
        except NetctlError:
            return  # refused: nothing has changed, which the invariants see

    @rule(
        tenant=TENANTS, name=NETWORKS, gateway=st.booleans(), nat=st.booleans(), ipv6=st.booleans(),
        internal=st.booleans(),
    )  # fmt: skip
    def put_network(self, tenant: str, name: str, *, gateway: bool, ipv6: bool, **more: bool) -> None:
        subnet = {"srv": "100.1.1.0/24", "web": "10.1.1.0/28", "cli": "20.1.1.0/29", "sec": "40.1.1.0/29"}[name]
        way = {"srv": "100.1.1.254", "web": "10.1.1.14", "cli": "20.1.1.6", "sec": "40.1.1.6"}[name] if gateway else ""
        spec = network_doc(tenant, name, subnet, way, subnet6="fd00:20::/64" if ipv6 else "", **more)
        self.run(lambda: self.door.commands.put_network(spec))

    @rule(which=st.integers(0, 9))
    def close_network(self, which: int) -> None:
        networks = list(self.door.model.networks.values())
        if networks:
            n = networks[which % len(networks)]
            ways = (str(n.gateway or ""), str(n.gateway6 or ""))
            spec = network_doc(
                n.tenant, n.name, str(n.subnet), ways[0], subnet6=str(n.subnet6 or ""), gateway6=ways[1], nat=n.nat,
                internal=True,
            )  # fmt: skip
            self.run(lambda: self.door.commands.put_network(spec))

    @rule(
        tenant=TENANTS, name=st.sampled_from("ab"), network=NETWORKS, selectors=SELECTORS, ports=SERVICE_PORTS,
        publish=st.lists(st.sampled_from(["8080:80:TCP", "8080:80:UDP", "8081:80:TCP"]), max_size=2, unique=True),
        affinity=st.sampled_from([0, 0, 60]),
    )  # fmt: skip
    def put_service(self, tenant: str, name: str, network: str, **fields: Any) -> None:
        spec = service_doc(tenant, name, network, **fields)
        self.run(lambda: self.door.commands.put_service(spec))

    @rule(
        key=st.sampled_from("vwxyz"), tenant=TENANTS, network=NETWORKS, labels=LABELS, mac=MACS,
        host=st.sampled_from(["", "", "h1", "h2"]), switch=st.sampled_from([DPID, DPID, OTHER, 0]),
        state=st.sampled_from(["running", "running", "stopped", "paused"]),
        health=st.sampled_from(["", "", "healthy", "unhealthy"]),
        container_id=CONTAINERS, no_way_back=WAYS_BACK, primary=st.booleans(),
    )  # fmt: skip
    def put_endpoint(self, key: str, **fields: Any) -> None:
        self.run(lambda: self.door.commands.put_endpoint(endpoint_doc(key, port_name=PORT_OF[key], **fields)))

    @rule(
        host=st.sampled_from(["h1", "h2"]),
        specs=st.lists(
            st.builds(
                endpoint_doc, id=st.sampled_from("stu"), tenant=TENANTS, network=NETWORKS, labels=LABELS,
                container_id=CONTAINERS, no_way_back=WAYS_BACK, primary=st.booleans(),
            ),
            max_size=3,
            unique_by=lambda s: s["endpointID"],
        ),
    )
    def sync(self, host: str, specs: list[EndpointDoc]) -> None:
        placed = [replace(spec, port_name=PORT_OF[spec["endpointID"]]) for spec in specs]
        self.run(lambda: self.door.commands.sync_endpoints(host, placed))

    @rule(name=st.sampled_from(["h1", "h2"]), switch=st.sampled_from([0, DPID, OTHER]), kind=DATAPATH_TYPES)
    def put_host(self, name: str, switch: int, kind: str) -> None:
        address = {"h1": "192.0.2.1", "h2": "192.0.2.2"}[name]
        self.run(lambda: self.door.commands.put_host(host_doc(name, switch, address, kind=kind)))

    @rule(mac=SEEN_MACS, network=NETWORKS, last=st.integers(1, 4), port=st.sampled_from(PORTS))
    def learn(self, mac: str, network: str, last: int, port: str) -> None:
        first = {"srv": "100.1.1.", "web": "10.1.1.", "cli": "20.1.1.", "sec": "40.1.1."}[network]
        self.run(lambda: self.door.commands.learn("default", network, mac, f"{first}{last}", DPID, port))

    @rule(
        kind=st.sampled_from(["service", "service", "endpoint", "endpoint", "network", "tenant", "host"]),
        which=st.integers(0, 9),
    )
    def delete(self, kind: str, which: int) -> None:
        keys = [o.key for o in self.door.model.objects() if o.kind == kind]
        delete: Callable[[str], object] = getattr(self.door.commands, f"delete_{kind}")
        if keys:
            self.run(lambda: delete(keys[which % len(keys)]))

    @rule(name=st.sampled_from(PORTS), number=st.integers(1, 5), gone=st.booleans(), up=st.booleans())
    def port(self, name: str, number: int, gone: bool, up: bool) -> None:
        self.switches.port_changed(DPID, Port(name, number, "02:00:00:00:00:99", up), gone=gone)

    @rule()
    def reconnect(self) -> None:
        """The switch comes again with the ports it has: everything is compiled."""
        switch = self.switches.observed.connect(DPID, list(self.marked.switch.ports.values()))
        again = Marked(self.door.model, switch, self.switches.observed)
        again.mark(owners(self.door.model))
        assert wanted(again.programs) == wanted(self.marked.programs)
        self.marked = again
        self.switches.reconcilers[DPID] = cast(Reconciler, again)

    @rule(names=st.sets(st.sampled_from(PORTS)), down=st.sampled_from(["", *PORTS]))
    def other_connects(self, names: set[str], down: str) -> None:
        self.other = cast(Session, object())
        ports = [Port(n, int(n[1:]) + 1, "02:00:00:00:00:98", n != down) for n in sorted(names)]
        self.switches.connect(self.other, OTHER, ports)

    @rule()
    def other_disconnects(self) -> None:
        if self.other is not None:
            self.switches.disconnect(OTHER, self.other)

    @rule(name=st.sampled_from(PORTS), number=st.integers(1, 5), gone=st.booleans(), up=st.booleans())
    def other_port(self, name: str, number: int, gone: bool, up: bool) -> None:
        self.switches.port_changed(OTHER, Port(name, number, "02:00:00:00:00:98", up), gone=gone)

    @invariant()
    def as_from_scratch(self) -> None:
        assert wanted(self.marked.programs) == wanted(from_scratch(self.marked))

    @invariant()
    def a_switch_would_take_it(self) -> None:
        programs = self.marked.programs.values()
        FakeSwitch().load([f for p in programs for f in p.flows], [g for p in programs for g in p.groups])

    def teardown(self) -> None:
        self.door.store.close()


def wanted(programs: dict[Owner, Program]) -> dict[Owner, Program]:
    """Those that want anything."""
    return {owner: program for owner, program in programs.items() if program != Program()}


TestIncremental = Incremental.TestCase
TestIncremental.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def furnished(services: int) -> tuple[Door, Marked, Switches]:
    """As many services as asked for, each with a provider of its own, and one switch."""
    door = Door()
    commands = door.commands
    commands.put_network(network_doc("default", "srv", "100.1.0.0/16"))
    commands.put_network(network_doc("default", "web", "10.1.0.0/16", "10.1.255.254"))
    commands.put_network(network_doc("default", "one", "20.1.1.0/24", "20.1.1.254"))
    for n in range(services):
        # two labels that all share: an index on one of them would find them all
        pairs = ["env=prod", "release=stable", f"app=a{n}"]
        commands.put_service(service_doc("default", f"s{n}", "srv", selectors=pairs, ports=["80:8080:TCP"]))
        labels = {"env": "prod", "release": "stable", "app": f"a{n}"}
        where = {"switch": DPID, "port_name": f"q{n}", "container_id": f"c{n}"}
        commands.put_endpoint(endpoint_doc(f"e{n}", "default", "web", labels=labels, **where))
    switches, marked = attach(door)
    return door, marked, switches


CHANGES: dict[str, Callable[[Door, Switches], object]] = {
    "a provider comes": lambda d, _: d.commands.put_endpoint(
        endpoint_doc(
            "new", "default", "one", labels={"env": "prod", "release": "stable", "app": "a3"}, switch=DPID
        )
    ),
    "a provider is connected to another network": lambda d, _: d.commands.put_endpoint(
        endpoint_doc(
            "new", "default", "one", labels={"env": "prod", "release": "stable", "app": "a3"}, switch=DPID,
            container_id="c3", primary=True,
        )
    ),
    "a provider has no way back": lambda d, _: d.commands.put_endpoint(
        endpoint_doc(
            "e3", "default", "web", labels={"env": "prod", "release": "stable", "app": "a3"}, switch=DPID,
            port_name="q3", container_id="c3", no_way_back="no rule",
        )
    ),
    "a provider goes": lambda d, _: d.commands.delete_endpoint("e3"),
    "a provider is relabelled": lambda d, _: d.commands.put_endpoint(
        endpoint_doc("e3", "default", "web", labels={"app": "other"}, switch=DPID, port_name="q3")
    ),
    "a service comes": lambda d, _: d.commands.put_service(
        service_doc("default", "new", "srv", selectors=["app=a3"], ports=["81:81:UDP"])
    ),
    "a service goes": lambda d, _: d.commands.delete_service("default:s3"),
    "a service changes": lambda d, _: d.commands.put_service(
        service_doc("default", "s3", "srv", selectors=["app=a3"], ports=["81:81:UDP"])
    ),
    "a network comes": lambda d, _: d.commands.put_network(network_doc("default", "new", "30.1.1.0/24")),
    "a port comes": lambda _, s: s.port_changed(DPID, Port("q3", 3, "02:00:00:00:00:99", up=True), gone=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cost_of_a_change_does_not_depend_on_how_many_services_there_are(change: str) -> None:
    """With thousands of services every container start would take seconds."""
    costs = []
    for services in (5, 200):
        door, marked, switches = furnished(services)
        CHANGES[change](door, switches)
        costs.append(sorted(set(marked.compiled)))
        assert wanted(marked.programs) == wanted(from_scratch(marked))
        door.store.close()

    assert costs[0] == costs[1]
    assert len(costs[0]) <= 4, costs[0]


def test_a_host_comes_to_a_switch_with_providers() -> None:
    """Services would refuse the connections to providers registered by hand, until anything else changed."""
    door, marked, _ = furnished(1)
    door.commands.put_host(host_doc("h1", DPID, "192.0.2.1"))
    labels = {"env": "prod", "release": "stable", "app": "a0"}
    door.commands.put_endpoint(endpoint_doc("far", "default", "one", labels=labels, switch=OTHER, port_name="p1"))
    door.commands.put_host(host_doc("h2", OTHER, "192.0.2.2"))
    assert wanted(marked.programs) == wanted(from_scratch(marked))
    door.commands.delete_host("h2")
    assert wanted(marked.programs) == wanted(from_scratch(marked))
    door.store.close()


def test_one_owner_compiles_without_looking_at_the_others() -> None:
    """Compiling one service would read all of them."""
    flows = []
    for services in (5, 100):
        door, marked, _ = furnished(services)
        context = seen_from(marked.switch, door.model, marked.observed)
        flows.append([compiler.compile_owner(context, o) for o in (SWITCH, ("service", "default:s3"))])
        door.store.close()

    assert flows[0] == flows[1]


def test_what_is_gone_wants_nothing() -> None:
    """A deleted service's flows would stay in the switch."""
    context = Context(world.model(), world.DPID, world.PORTS)
    for kind in ("service", "endpoint", "network", "nothing"):
        assert compiler.compile_owner(context, (kind, "gone")) == Program()


def test_a_stopped_endpoint_wants_nothing() -> None:
    """A stopped container would keep its address in the switch, and connections to it would hang."""
    stopped = world.endpoint("w1", "default", "web", 2, "10.1.1.1", labels=world.WEB, state="stopped")
    context = with_instead(stopped)

    assert compiler.compile_owner(context, ("endpoint", "w1")) == Program()
    assert buckets(context) == ["w2"]


@pytest.mark.parametrize(
    ("more", "selected"),
    [
        ({}, ["w1", "w2"]),
        ({"health": "healthy"}, ["w1", "w2"]),
        ({"health": "starting"}, ["w2"]),
        ({"health": "unhealthy"}, ["w2"]),
        ({"state": "paused"}, ["w2"]),
        ({"port_name": "not-plugged-in"}, ["w2"]),
        ({"switch": 0}, ["w2"]),
        ({"switch": 0, "host": "unknown"}, ["w2"]),
        ({"labels": (("tier", "db"),)}, ["w2"]),
    ],
)
def test_who_is_selected(more: dict[str, object], selected: list[str]) -> None:
    """Connections would go to a container that can't answer, or can't be reached."""
    values: dict[str, object] = {"labels": world.WEB, **more}
    one = world.endpoint("w1", "default", "web", 2, "10.1.1.1", **values)

    assert buckets(with_instead(one)) == selected


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({}, {6, 17}),
        ({"health": "starting"}, {6}),
        ({"health": "unhealthy"}, {6}),
        ({"state": "paused"}, {6}),
        ({"state": "draining"}, {6, 17}),
        ({"state": "draining", "health": "unhealthy"}, {6, 17}),
        ({"state": "draining", "drained": ("default:app-svc",)}, set()),
        ({"state": "stopped"}, set()),
        ({"port_name": "not-plugged-in"}, set()),
        ({"port_name": "p5"}, {6}),
    ],
)
def test_who_keeps_connections(more: dict[str, object], kept: set[int]) -> None:
    """A UDP client would stay with a provider that can't answer, or a TCP connection that is open be cut."""
    one = world.endpoint("w1", "default", "web", 2, "10.1.1.1", **{"labels": world.WEB, **more})
    ports = [Port(name, number, "02:00:00:00:00:99", up=name != "p5") for name, number in world.PORTS.items()]
    here = with_instead(one).model
    switch = Switch(world.DPID, {p.name: p for p in ports})
    context = Context(here, world.DPID, world.PORTS, switches={world.DPID: switch})
    program = compiler.compile_owner(context, ("service", "default:app-svc"))

    of_w1 = [t for t in program.translations if isinstance(t, Translation) and t.to == world.ip("10.1.1.1")]
    assert {t.ip_proto for t in of_w1} == kept
    assert {t.zone for t in of_w1} == ({1, 0x8001} if kept else set()), "also with itself"


def with_instead(endpoint: Endpoint) -> Context:
    """The world with another endpoint of the same id."""
    model = Model()
    model.load(1, [endpoint, *(o for o in world.objects() if o.key != endpoint.key)])
    return Context(model, world.DPID, world.PORTS)


def buckets(context: Context) -> list[str]:
    """The endpoints behind the world's first service, by the ports that its buckets watch."""
    program = compiler.compile_owner(context, ("service", "default:app-svc"))
    groups: list[Group] = [g for g in program.groups if g.id == 1 << 8]
    ports = {b.watch_port for g in groups for b in g.buckets}
    assert ANY not in ports
    by_port = {number: name for name, number in world.PORTS.items()}
    return sorted({"p2": "w1", "p3": "w2"}[by_port[p]] for p in ports)


def test_a_provider_without_ipv6() -> None:
    """A client of a service's IPv6 VIP would be sent to a provider that has no IPv6 address."""
    old = world.endpoint("w1", "default", "web", 2, "10.1.1.1", labels=world.WEB)
    model = world.model_of([old, *(o for o in world.dual() if o.key != "w1")])
    program = compiler.compile_owner(Context(model, world.DPID, world.PORTS), ("service", "default:app-svc"))

    ports = {g.id: {b.watch_port for b in g.buckets} for g in program.groups}
    assert ports == {1 << 8: {2, 3}, 2 << 8: {2, 3}, 1 << 31 | 1 << 8: {3}, 1 << 31 | 2 << 8: {3}}
    wide = {t.to for t in program.translations if isinstance(t, Translation) and t.version == 6}
    assert wide == {world.ip("fd00:10:1:1::2")}


def test_no_provider_no_group() -> None:
    """A group without buckets would swallow connections where a plain drop is counted."""
    context = Context(world.model(without=("w1", "w2")), world.DPID, world.PORTS)

    program = compiler.compile_owner(context, ("service", "default:app-svc"))

    assert program.groups == ()
    assert {f.table for f in program.flows} >= {Table.SERVICE, Table.NEIGHBOUR}, "it still answers ping and ARP"


def test_a_flow_that_its_table_does_not_declare_is_a_mistake() -> None:
    """A feature could set what another table relies on, unseen."""
    for flow in (
        Flow(Table.DELIVER, Priority.NORMAL, match(in_port=1), kind=FlowKind.ROUTE),
        Flow(Table.GUARD, Priority.NORMAL, match(in_port=1), (SetField("reg0", 1),), kind=FlowKind.ACCESS),
    ):
        with pytest.raises(UndeclaredError):
            check(flow)
