"""Random commands, good and bad, one after the other: what must hold after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.kit.docs import check_doc, endpoint_doc, host_doc, network_doc, replace, service_doc
from tests.unit.modelkit import Door, contents
from topology.allocate import COOLING_SECONDS, LIMITS
from topology.documents import HealthCheckDoc
from topology.errors import NetctlError
from topology.indexes import PUBLISHED, held_by, network_of, numbers_of
from topology.model import Address, Lease, Object, Prefix
from topology.reports import EndpointDoc

# most values are good ones: a sequence of refusals finds nothing
TENANTS = st.sampled_from(["default"] * 5 + ["blue"] * 3 + ["red"])
NETWORKS = st.sampled_from(["n1"] * 3 + ["n2"] * 3 + ["n3"])
SUBNETS = st.sampled_from(["10.1.2.0/29", "10.1.2.3-10.1.2.5/28", "10.1.0.0/29", "10.1.0.0/24", "10.1.1.5/24", "x"])
LAST = st.integers(0, 9)
ADDRESSES = st.sampled_from(
    [""] * 10 + [f"10.1.0.{n}" for n in range(8)] + [f"10.1.1.{n}" for n in range(2, 7)] + ["10.1.2.1"]
)
SUBNETS6 = st.sampled_from([""] * 4 + ["fd00:2::/126", "fd00:2::/125", "fd00:1::/64", "fd00:3::1/64"])
ADDRESSES6 = st.sampled_from([""] * 10 + [f"fd00:1::{n}" for n in range(5)] + ["FD00:1:0::2", "fd00:2::1", "fe80::1"])
PUBLISH = st.lists(st.sampled_from(["8000:80", "8000:81:TCP", "8001:80:TCP", "8000:80:UDP", "80"]), max_size=1)
NAMES = st.sampled_from([*"abcd" * 3, ""])
PAIRS = st.lists(st.sampled_from(["k=1", "k=2", "l=1", "m="] * 3 + ["bad"]), max_size=2, unique_by=lambda p: p[0])
PORTS = st.lists(st.sampled_from(["80:80:TCP", "80:81:UDP", "81:80:tcp", "82:82:TCP"] * 3 + ["80:80"]), max_size=2)
LABELS = st.dictionaries(st.sampled_from("klm"), st.sampled_from(["1", "2", ""]), max_size=3)
HOSTS = st.sampled_from(["h1", "h2"])
MACS = st.sampled_from([""] * 6 + ["02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff"])
ENDPOINTS = st.builds(
    endpoint_doc,
    id=NAMES,
    tenant=TENANTS,
    network=NETWORKS,
    addresses=st.tuples(ADDRESSES, ADDRESSES6).map(lambda both: [a for a in both if a]),
    mac=MACS,
    host=HOSTS,
    labels=LABELS,
    state=st.sampled_from(["running", "running", "draining", "stopped"]),
    origin=st.sampled_from(["agent", "rest"]),
)
CHECKS = st.sampled_from([None, check_doc("tcp"), check_doc("http", "/up", interval=9), check_doc("icmp")])
GOOD_ENDPOINTS = st.builds(
    endpoint_doc,
    id=st.sampled_from("abcdefgh"),
    tenant=st.just("default"),
    network=st.sampled_from(["n1", "n2"]),
    labels=LABELS,
)


def versions(found: Iterable[Address | Prefix]) -> set[int]:
    """The families that are there."""
    return {one.version for one in found}


class Sequences(RuleBasedStateMachine):
    """A door, and what hypothesis does to it."""

    def __init__(self) -> None:
        super().__init__()
        self.door = Door()
        for tenant in ("default", "blue"):
            self.door.commands.put_tenant(tenant)
            self.door.commands.put_network(network_doc(tenant, "n1", "10.1.0.0/29", "10.1.0.6"))
            # the IPv6 subnet runs out of addresses sooner than the IPv4 one
            self.door.commands.put_network(
                network_doc(
                    tenant, "n2", "10.1.1.3-10.1.1.9/28", "10.1.1.1", subnet6="fd00:1::/125", gateway6="fd00:1::4"
                )
            )

    def run(self, command: Callable[[], object], asked: frozenset[str] = frozenset()) -> None:
        """Do it; a refusal must leave everything as it was, and an address that cools is not given unasked."""
        before = self.door.state()
        wanted = {ip_address(text) for text in asked if text}
        had = contents(self.door.model)
        cooling = {
            lease.key: lease
            for lease in self.door.model.leases.values()
            if lease.released is not None and self.door.clock.now - lease.released < COOLING_SECONDS
        }
        try:
            command()
        except NetctlError as error:
            assert self.door.state() == before
            assert str(error).isprintable()
            assert error.status in {404, 409, 422}
            return
        for value in self.door.model.objects():
            had_it = had.get((value.kind, value.key))
            for address in held_by(value):
                key = f"{network_of(value)}:{address}"
                if key in cooling and address not in wanted and had_it != value:
                    self.check_nothing_else_was_free(str(network_of(value)), address.version, cooling)

    def check_nothing_else_was_free(self, network_key: str, version: int, cooling: dict[str, Lease]) -> None:
        first, last = self.door.model.networks[network_key].handed_out(version)
        for number in range(first, last + 1):
            address = ip_address(number)
            key = f"{network_key}:{address}"
            assert self.door.model.holder(network_key, address) or key in cooling or key in self.door.model.leases

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait(self, seconds: int) -> None:
        self.door.clock.now += seconds

    @rule(kind=st.sampled_from(["service"] * 4 + ["endpoint"] * 4 + ["network", "tenant", "host"]), which=LAST)
    def delete(self, kind: str, which: int) -> None:
        keys = [o.key for o in self.door.model.objects() if o.kind == kind]
        key = keys[which % len(keys)] if keys else "none"
        delete: dict[str, Callable[[str], object]] = {
            "tenant": self.door.commands.delete_tenant,
            "network": self.door.commands.delete_network,
            "service": self.door.commands.delete_service,
            "endpoint": self.door.commands.delete_endpoint,
            "host": self.door.commands.delete_host,
        }
        self.run(lambda: delete[kind](key))

    @rule(name=TENANTS)
    def put_tenant(self, name: str) -> None:
        self.run(lambda: self.door.commands.put_tenant(name))

    @rule(
        tenant=TENANTS,
        name=st.sampled_from(["n1", "n2", "n3"]),
        subnet=SUBNETS,
        gateway=st.sampled_from(["", "", "10.1.2.1", "10.1.2.7"]),
        tag=st.sampled_from([0, 0, 2, 9]),
        subnet6=SUBNETS6,
        nat=st.booleans(),
    )
    def put_network(  # noqa: PLR0917 - hypothesis gives each
        self, tenant: str, name: str, subnet: str, gateway: str, tag: int, subnet6: str, nat: bool
    ) -> None:
        spec = network_doc(tenant, name, subnet, gateway, pkt_tag=tag, subnet6=subnet6, nat=nat and bool(gateway))
        self.run(lambda: self.door.commands.put_network(spec))

    @rule(
        tenant=TENANTS,
        name=NAMES,
        network=NETWORKS,
        vip=ADDRESSES,
        vip6=ADDRESSES6,
        selectors=PAIRS,
        ports=PORTS,
        check=CHECKS,
        publish=PUBLISH,
    )
    def put_service(  # noqa: PLR0917 - hypothesis gives each
        self,
        tenant: str,
        name: str,
        network: str,
        vip: str,
        vip6: str,
        selectors: list[str],
        ports: list[str],
        check: HealthCheckDoc | None,
        publish: list[str],
    ) -> None:
        spec = service_doc(
            tenant, name, network, vip, selectors, ports, check=check, ip_address6=vip6, publish=publish
        )
        self.run(lambda: self.door.commands.put_service(spec), frozenset({vip, vip6}))

    @rule(which=LAST, verdicts=st.lists(st.booleans(), min_size=1, max_size=4))
    def set_checks(self, which: int, verdicts: list[bool]) -> None:
        ids = [*self.door.model.endpoints, "none"]
        services = [*self.door.model.services, "default:none"]
        said = dict(zip(services, verdicts, strict=False))
        self.run(lambda: self.door.commands.set_checks(ids[which % len(ids)], said))

    @rule(which=LAST, service=LAST)
    def drained(self, which: int, service: int) -> None:
        ids = [e.id for e in self.door.model.endpoints.values() if e.state == "draining"] or ["none"]
        keys = [*self.door.model.services, "default:none"]
        self.run(lambda: self.door.commands.drained(ids[which % len(ids)], keys[service % len(keys)]))

    @rule(spec=ENDPOINTS)
    def put_endpoint(self, spec: EndpointDoc) -> None:
        self.run(lambda: self.door.commands.put_endpoint(spec), frozenset(spec.get("ipAddress", ())))

    @rule(
        host=HOSTS,
        specs=st.lists(
            st.one_of(GOOD_ENDPOINTS, GOOD_ENDPOINTS, ENDPOINTS), max_size=4, unique_by=lambda e: e["endpointID"]
        ),
        keep=st.booleans(),
    )
    def sync_endpoints(self, host: str, specs: list[EndpointDoc], keep: bool) -> None:
        specs = [replace(spec, host="") for spec in specs]
        asked = frozenset(a for spec in specs for a in spec.get("ipAddress", ()))
        kept = set(self.door.model.leases) if keep else set()
        self.run(lambda: self.door.commands.sync_endpoints(host, specs, kept), asked)

    @rule(
        tenant=TENANTS,
        network=NETWORKS,
        address=ADDRESSES | ADDRESSES6,
        host=HOSTS,
        family=st.sampled_from([None, None, 6]),
    )
    def grant(self, tenant: str, network: str, address: str, host: str, family: int | None) -> None:
        self.run(lambda: self.door.commands.grant(tenant, network, address, host, family), frozenset({address}))

    @rule(which=LAST)
    def release(self, which: int) -> None:
        leases = list(self.door.model.leases.values())
        if leases:
            lease = leases[which % len(leases)]
            self.run(lambda: self.door.commands.release(lease.tenant, lease.network, lease.address))

    @rule(tenant=TENANTS, network=NETWORKS, mac=MACS.filter(bool), address=(ADDRESSES | ADDRESSES6).filter(bool))
    def learn(self, tenant: str, network: str, mac: str, address: str) -> None:
        self.run(lambda: self.door.commands.learn(tenant, network, mac, address, 7, "p"), frozenset({address}))

    @rule(name=HOSTS, switch=st.integers(0, 2))
    def put_host(self, name: str, switch: int) -> None:
        self.run(lambda: self.door.commands.put_host(host_doc(name, switch)))

    @invariant()
    def one_holder_an_address(self) -> None:
        seen: dict[tuple[str | None, Address], Object] = {}
        for value in self.door.model.objects():
            for address in held_by(value):
                place = (network_of(value), address)
                assert place not in seen, (seen[place], value)
                seen[place] = value
                subnets = {s.version: s for s in self.door.model.networks[str(place[0])].subnets}
                subnet = subnets[address.version]
                assert address in subnet
                assert address != subnet.network_address
                assert address != subnet.broadcast_address or address.version == 6
        for lease in self.door.model.leases.values():
            assert lease.released is None or (lease.network_key, lease.address) not in seen

    @invariant()
    def names_lead_somewhere(self) -> None:
        model = self.door.model
        for network in model.networks.values():
            assert network.tenant in model.tenants
        for value in model.objects():
            assert network_of(value) in {None, *model.networks}
        for service in model.services.values():
            assert versions(service.vips) == versions(model.networks[service.network_key].subnets)
            targets = {(p.port, p.protocol) for p in service.ports}
            assert all((p.target, p.protocol) in targets for p in service.published)
        for endpoint in model.endpoints.values():
            subnets = model.networks[endpoint.network_key].subnets
            assert endpoint.addresses == tuple(sorted(endpoint.addresses, key=lambda a: a.version))
            assert endpoint.origin == "learned" or versions(endpoint.addresses) == versions(subnets)
        assert all(1 <= host.number <= LIMITS["host"] for host in model.hosts.values())

    @invariant()
    def a_port_of_the_hosts_is_one_services(self) -> None:
        services = self.door.model.services.values()
        pairs = [((p.port, p.protocol), s) for s in services for p in s.published]
        assert len(dict(pairs)) == len(pairs)
        for (port, protocol), service in pairs:
            assert self.door.model.published(port, protocol) is service
        assert len(list(self.door.model._indexes.each(PUBLISHED))) == len(pairs)

    @invariant()
    def numbers_tags_macs_and_switches_are_unique(self) -> None:
        for unique in (self.numbers(), self.tags(), self.macs(), self.switches()):
            found = list(unique)
            assert len(set(found)) == len(found)

    def numbers(self) -> Iterator[object]:
        return (n for value in self.door.model.objects() for n in numbers_of(value))

    def tags(self) -> Iterator[object]:
        return ((n.encap, n.tag) for n in self.door.model.networks.values())

    def macs(self) -> Iterator[object]:
        return ((e.network_key, e.mac) for e in self.door.model.endpoints.values())

    def switches(self) -> Iterator[object]:
        return (h.switch for h in self.door.model.hosts.values() if h.switch)

    @invariant()
    def subnets_of_a_tenant_do_not_overlap(self) -> None:
        networks = list(self.door.model.networks.values())
        for a in networks:
            for b in networks:
                if a is not b and a.tenant == b.tenant:
                    assert not a.subnet.overlaps(b.subnet)
                    assert a.subnet6 is None or b.subnet6 is None or not a.subnet6.overlaps(b.subnet6)

    @invariant()
    def providers_are_who_they_should_be(self) -> None:
        model = self.door.model
        pairs = set()
        for s in model.services.values():
            providers = model.providers(s)
            assert {e.id for e in providers} == {
                e.id
                for e in model.endpoints.values()
                if e.tenant == s.tenant and s.selectors and set(s.selectors) <= set(e.labels)
            }
            pairs |= {(s.key, e.id) for e in providers}
        assert {(s.key, e.id) for e in model.endpoints.values() for s in model.selected_by(e)} == pairs

    @invariant()
    def nothing_is_known_for_a_service_that_does_not_ask(self) -> None:
        model = self.door.model
        for endpoint in model.endpoints.values():
            selecting = {s.key: s for s in model.selected_by(endpoint)}
            assert {*endpoint.passed, *endpoint.drained} <= selecting.keys()
            assert all(selecting[key].check is not None for key in endpoint.passed)
            assert list(endpoint.passed) == sorted(set(endpoint.passed))
            assert list(endpoint.drained) == sorted(set(endpoint.drained))
            assert (endpoint.state == "draining") == (endpoint.draining_since > 0)
            assert endpoint.state == "draining" or not endpoint.drained
            assert endpoint.state != "stopped" or not endpoint.passed
        for key in model.services:
            named = {e.id for e in model.endpoints.values() if key in {*e.passed, *e.drained}}
            assert {e.id for e in model.judged(key)} == named

    @invariant()
    def a_restart_changes_nothing(self) -> None:
        again = self.door.reopened()
        assert contents(again.model) == contents(self.door.model)
        assert again.model.revision == self.door.model.revision
        for network in self.door.model.networks:
            assert again.model.held(network) == self.door.model.held(network)
            now, then = again.model.space(network), self.door.model.space(network)
            assert (now.cooling if now else {}) == (then.cooling if then else {})

    def teardown(self) -> None:
        self.door.store.close()


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
