"""What is handed out, and when it comes back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.docs import endpoint_doc, network_doc, replace, service_doc
from tests.unit.modelkit import Door, furnished
from topology.addresses import PAGE, AddressMap
from topology.allocate import COOLING_SECONDS, LIMITS, REMEMBERED, NumberPool, free_subnet, mac_of
from topology.commands import Commands
from topology.errors import Conflict
from topology.model import Change, Service
from topology.sqlite_store import SqliteStore


class Numbers:
    """A pool as a command uses it, kept in a store."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.meta: dict[str, Any] = {}
        self.used: set[int] = set()
        self.reopen()

    def reopen(self) -> None:
        self.pool = NumberPool("tenant", self.limit, self.meta, self.used)

    def take(self) -> int:
        number = self.pool.next(self.pool.last, self.used)
        self.meta.update(self.pool.meta(number, ()))
        self.pool.committed(number, [number], ())
        self.used.add(number)
        return number

    def free(self, number: int) -> None:
        self.meta.update(self.pool.meta(self.pool.last, [number]))
        self.pool.committed(self.pool.last, (), [number])
        self.used.remove(number)


def test_each_number_is_used_once_before_any_twice() -> None:
    """A new tenant would see the connections of a deleted one in its conntrack zone."""
    numbers = Numbers(5)
    seen = []
    for _ in range(5):
        seen.append(numbers.take())
        numbers.free(seen[-1])
        numbers.reopen()
    assert seen == [1, 2, 3, 4, 5]


def test_then_the_one_unused_longest() -> None:
    """The number that comes back is the one whose traces are oldest."""
    numbers = Numbers(5)
    for _ in range(5):
        numbers.take()
    for number in (3, 1, 4):
        numbers.free(number)
    numbers.reopen()
    assert [numbers.take(), numbers.take(), numbers.take()] == [3, 1, 4]
    with pytest.raises(Conflict, match="all 5 tenant numbers are in use"):
        numbers.take()


def test_what_a_store_keeps_of_numbers_is_bounded() -> None:
    """A controller that runs for years does not fill its disk with freed numbers."""
    numbers = Numbers(10 * REMEMBERED)
    for _ in range(3 * REMEMBERED):
        numbers.free(numbers.take())
    assert len(numbers.meta) <= REMEMBERED + 1
    assert len(numbers.pool.freed) == REMEMBERED
    freed = list(numbers.pool.freed)
    numbers.reopen()
    assert list(numbers.pool.freed) == freed


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=120))
def test_two_living_never_share_a_number(steps: list[tuple[bool, int]]) -> None:
    """Two services with one group number would answer for each other."""
    numbers = Numbers(12)
    last_freed = None
    for take, which in steps:
        if take and len(numbers.used) < 12:
            free = 12 - len(numbers.used)
            number = numbers.take()
            assert 1 <= number <= 12
            assert free == 1 or number != last_freed
        elif numbers.used:
            last_freed = sorted(numbers.used)[which % len(numbers.used)]
            numbers.free(last_freed)
            if which % 3 == 0:
                numbers.reopen()


@given(st.sets(st.integers(0, 3 * PAGE)), st.integers(0, 3 * PAGE), st.integers(0, 3 * PAGE))
def test_lowest_free_agrees_with_a_scan(marked: set[int], first: int, last: int) -> None:
    """An address in use is never handed out, and none is skipped."""
    addresses = AddressMap()
    for number in marked | {7}:
        addresses.mark(number)
    if 7 not in marked:
        addresses.clear(7)
    expected = next((a for a in range(first, last + 1) if a not in marked), None)
    assert addresses.lowest_free(first, last) == expected
    assert all((a in addresses) == (a in marked) for a in (first, last))


def test_lowest_free_in_a_full_map() -> None:
    """A full /16 is known to be full, across pages."""
    addresses = AddressMap()
    for number in range(4 * PAGE):
        addresses.mark(number)
    assert addresses.lowest_free(1, 4 * PAGE - 1) is None
    addresses.clear(3 * PAGE + 5)
    assert addresses.lowest_free(1, 4 * PAGE - 1) == 3 * PAGE + 5


def test_mac_of_an_address() -> None:
    """A MAC made up is unicast and locally administered."""
    assert mac_of(IPv4Address("10.1.1.5")) == "02:42:0a:01:01:05"


def test_free_subnet() -> None:
    """`docker network create` without a subnet gets one that overlaps nothing, small or large."""
    def net(*texts: str) -> list[IPv4Network]:
        return [IPv4Network(t) for t in texts]

    assert free_subnet([]) == IPv4Network("10.224.0.0/24")
    assert free_subnet(net("10.224.0.0/24", "10.224.1.16/30", "10.1.0.0/16")) == IPv4Network("10.224.2.0/24")
    assert free_subnet(net("10.224.0.0/13")) == IPv4Network("10.232.0.0/24")
    assert free_subnet(net("10.0.0.0/8")) is None


def test_picked_subnets_differ_until_they_are_used() -> None:
    """Two `docker network create` at once get two subnets; a third tenant isn't concerned."""
    door = furnished()
    first, second = door.commands.pick_subnet("default"), door.commands.pick_subnet("default")
    assert (str(first), str(second)) == ("10.224.0.0/24", "10.224.1.0/24")
    assert door.commands.pick_subnet("blue") == first
    door.clock.now += 61
    assert door.commands.pick_subnet("default") == first
    door.commands.put_network(network_doc("blue", "all", "10.0.0.0/8"))
    with pytest.raises(Conflict, match="tenant blue has no free /24 left"):
        door.commands.pick_subnet("blue")


def _vip(commands: Commands, name: str, network: str = "small", address: str = "") -> str:
    service = commands.put_service(service_doc("default", name, network, address))
    return str(service.vips[0])


def test_the_lowest_but_never_the_gateway() -> None:
    """Contiv's users expect .1, or .2 where the gateway is .1."""
    door = Door()
    door.commands.put_network(network_doc("default", "a", "100.1.1.0/24"))
    door.commands.put_network(network_doc("default", "b", "100.1.2.0/24", gateway="100.1.2.1"))
    assert _vip(door.commands, "one", "a") == "100.1.1.1"
    assert _vip(door.commands, "two", "b") == "100.1.2.2"


def test_a_range_limits_what_is_automatic_only() -> None:
    """Addresses outside the range stay the administrator's to give."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.10-10.1.1.11/24"))
    assert _vip(door.commands, "own", address="10.1.1.5") == "10.1.1.5"
    assert [_vip(door.commands, n) for n in "ab"] == ["10.1.1.10", "10.1.1.11"]
    with pytest.raises(Conflict, match=r"address exhaustion in subnet 10\.1\.1\.10-10\.1\.1\.11/24"):
        _vip(door.commands, "c")


def test_a_freed_address_rests() -> None:
    """Clients of a container that has just gone don't talk to another that got its address."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.0/24"))
    assert [_vip(door.commands, n) for n in "abc"] == ["10.1.1.1", "10.1.1.2", "10.1.1.3"]
    door.commands.delete_service("default:a")
    assert _vip(door.commands, "d") == "10.1.1.4"
    assert _vip(door.reopened().commands, "e") == "10.1.1.5"


def test_a_freed_address_comes_back_after_its_rest() -> None:
    """Addresses don't run out, and the store forgets what has rested."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.0/24"))
    for name in "abc":
        _vip(door.commands, name)
    door.commands.delete_service("default:b")
    assert len(door.model.leases) == 1
    door.clock.now += COOLING_SECONDS
    assert _vip(door.commands, "d") == "10.1.1.2"
    assert not door.model.leases
    assert not door.reopened().model.leases


def test_a_resting_address_is_given_when_asked_for() -> None:
    """`--preferred-ip` and `docker run --ip` get what they ask for."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.0/24"))
    _vip(door.commands, "a")
    door.commands.delete_service("default:a")
    assert _vip(door.commands, "b", address="10.1.1.1") == "10.1.1.1"
    assert not door.model.leases


def test_when_nothing_else_is_free_the_longest_rested_is_given() -> None:
    """A small subnet stays usable while containers come and go."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.0/29"))
    for name in "abcdef":
        _vip(door.commands, name)
    for name in "dbf":
        door.clock.now += 1
        door.commands.delete_service(f"default:{name}")
    door = door.reopened()
    assert [_vip(door.commands, n) for n in "xyz"] == ["10.1.1.4", "10.1.1.2", "10.1.1.6"]
    with pytest.raises(Conflict, match=r"^auto allocation failed - address exhaustion in subnet 10\.1\.1\.0/29$"):
        _vip(door.commands, "w")


def test_a_clock_set_back_does_not_keep_addresses_away() -> None:
    """After a correction of the clock by an hour, addresses are not lost for an hour."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.0/24"))
    _vip(door.commands, "a")
    door.commands.delete_service("default:a")
    door.clock.now -= 3600
    assert _vip(door.commands, "b") == "10.1.1.1"


def test_many_in_one_transaction() -> None:
    """An agent that reports a hundred containers at once gets a hundred addresses, rested ones among them."""
    door = Door()
    door.commands.put_network(network_doc("default", "small", "10.1.1.0/24"))
    _vip(door.commands, "a")
    _vip(door.commands, "b")
    door.commands.delete_service("default:a")
    door.clock.now += COOLING_SECONDS
    specs = [endpoint_doc(f"e{i}", "default", "small") for i in range(100)]
    found = door.commands.sync_endpoints("h", specs)
    expected = [f"10.1.1.{n}" for n in (1, *range(3, 102))]
    assert [str(e.addresses[0]) for e in found] == expected
    assert isinstance(door.model.holder("default:small", IPv4Address("10.1.1.2")), Service)


def test_ten_thousand_services() -> None:
    """Making the ten-thousandth service costs what making the first did."""
    door = Door()
    door.commands.put_network(network_doc("default", "big", "100.1.0.0/16"))
    costs = []
    real = door.model.selected_by
    for number in range(10_000):
        spec = service_doc("default", f"s{number}", "big", "", ["env=prod", f"app=s{number}"], ["80:80:TCP"])
        door.commands.put_service(spec)
        if number % 1000 == 0:
            endpoint = door.commands.put_endpoint(
                endpoint_doc(f"e{number}", "default", "big", labels={"env": "prod", "app": f"s{number}"})
            )
            costs.append(len(real(endpoint)))
    assert costs == [1] * 10
    longest = max(len(group) for group in door.model._indexes.selecting._services.values())
    assert longest <= 2, "services are indexed by what tells them apart"


def test_port_numbers_of_an_earlier_version() -> None:
    """Two groups would have one id, and a service another's providers, where a number has more bits than there are."""
    store = SqliteStore(":memory:")
    door = Door(store)
    door.commands.put_network(network_doc("default", "n", "10.1.1.0/24"))
    door.commands.put_service(service_doc("default", "s", "n", selectors=["a=b"], ports=["80:80:TCP", "81:81:TCP"]))
    service = door.model.services["default:s"]
    first, second = service.ports
    old = replace(service, ports=(first, replace(second, number=LIMITS["port"] + 1)))
    store.commit(door.model.revision, [Change(service, old)], {"pool.port": (LIMITS["port"] + 1, 0)})
    again = Door(store)
    ports = again.model.services["default:s"].ports
    assert ports[0] == first, "what fits stays: its group is not written anew"
    assert (ports[1].target, ports[1].number) == (81, 3 - first.number)
    assert Door(store).model.revision == again.model.revision
