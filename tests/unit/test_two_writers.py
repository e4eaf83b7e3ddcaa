"""Several controllers on one store: what one writes the others have, and no two of them break a rule together."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.docs import endpoint_doc, host_doc, network_doc, replace, service_doc
from tests.unit.modelkit import APP, SRV, WEB, WEB1, Clock, Door, contents
from tests.unit.places import Place
from tests.unit.test_command_sequences import Sequences
from topology.errors import Conflict, NetctlError, NotFound
from topology.model import Change, Commit, Tenant
from topology.store import Store, StoreUnavailable, StoreUnusable

INVARIANTS = [
    Sequences.one_holder_an_address,
    Sequences.names_lead_somewhere,
    Sequences.subnets_of_a_tenant_do_not_overlap,
    Sequences.providers_are_who_they_should_be,
    Sequences.nothing_is_known_for_a_service_that_does_not_ask,
]


def check(doors: list[Door], fresh: Door) -> None:
    """All of them have the same, in the same steps, and it is a model that may be."""
    view = SimpleNamespace(door=fresh)
    view.numbers, view.tags = (lambda: Sequences.numbers(view)), (lambda: Sequences.tags(view))
    view.macs, view.switches = (lambda: Sequences.macs(view)), (lambda: Sequences.switches(view))
    for invariant in [*INVARIANTS, Sequences.numbers_tags_macs_and_switches_are_unique]:
        invariant(view)
    told: dict[int, Commit] = {}
    for door in doors:
        door.commands.catch_up()
        assert contents(door.model) == contents(fresh.model)
        assert door.model.revision == fresh.model.revision
        assert pools(door) == pools(fresh)
        revisions = [c.revision for c in door.commits]
        assert revisions == list(range(revisions[0], revisions[0] + len(revisions))) if revisions else True
        assert all(told.setdefault(c.revision, c) == c for c in door.commits)
    for network in fresh.model.networks:
        for door in doors:
            assert door.model.held(network) == fresh.model.held(network)


def pools(door: Door) -> dict[str, object]:
    """What is known about numbers."""
    return {name: (p.last, p.releases, list(p.freed)) for name, p in door.commands._pools.items()}


def two(shared: Place) -> tuple[Door, Door]:
    clock = Clock()
    return Door(shared.open(), clock), Door(shared.open(), clock)


def test_a_command_sees_what_others_wrote(shared: Place) -> None:
    """A user would be told that there is no such network, which he has just made through another controller."""
    one, other = two(shared)
    one.commands.put_network(SRV)
    one.commands.put_network(WEB)
    assert other.commands.put_service(APP).vips
    assert one.commands.put_endpoint(WEB1) == one.model.endpoints["web1"]
    assert [c.revision for c in other.commits] == [2, 3, 4]
    with pytest.raises(Conflict, match="service"):
        one.commands.delete_network("default:srv")
    other.commands.delete_service("default:app")
    assert one.commands.delete_network("default:srv")
    check([one, other], Door(shared.open()))


def test_a_question_sees_what_others_wrote(shared: Place) -> None:
    """Docker's plugin would be refused a network in a tenant that there is."""
    one, other = two(shared)
    one.commands.put_tenant("red")
    other.commands.check_network(replace(WEB, tenant="red"))
    one.commands.put_tenant("blue")
    assert other.commands.pick_subnet("blue")
    assert other.model.revision == one.model.revision, "and writes nothing"


def test_what_one_has_taken_the_other_does_not_give(shared: Place) -> None:
    """Two services would have one VIP, or two containers one address, a number would be given twice."""
    one, other = two(shared)
    for door in (one, other):
        door.commands.put_network(SRV)
    first = one.commands.put_service(service_doc("default", "a", "srv", "100.1.1.9", ["k=1"], ["80:80:TCP"]))
    with pytest.raises(Conflict, match=r"100\.1\.1\.9"):
        other.commands.put_service(service_doc("default", "b", "srv", "100.1.1.9", ["k=2"], ["80:80:TCP"]))
    second = other.commands.put_service(service_doc("default", "b", "srv", "", ["k=2"], ["80:80:TCP"]))
    assert second.vips != first.vips
    assert second.ports[0].number != first.ports[0].number
    leases = [d.commands.grant("default", "srv", None, "h") for d in (one, other) * 5]
    assert len({lease.address for lease in leases}) == 10
    check([one, other], Door(shared.open()))


def test_who_was_away_for_too_long_starts_anew(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that was cut off would stay at what it knew; or others' readers would miss something."""
    one, other = two(shared)
    one.commands.put_network(SRV)
    other.commands.catch_up()
    for number in range(5):
        one.commands.put_tenant(f"t{number}")
    one.commands.delete_tenant("t0")
    one.commands.put_service(APP)
    monkeypatch.setattr(other.store, "changes_since", lambda revision: None)
    before = len(other.commits)
    assert other.commands.catch_up()
    assert [c.revision for c in other.commits[before:]] == [one.model.revision]
    monkeypatch.undo()
    assert contents(other.model) == contents(one.model)
    assert other.commands.changes_since(3) == one.commands.changes_since(3)
    assert other.commands.put_tenant("t0").number == 7, "numbers too: none freed comes back"
    one.commands.catch_up()
    assert pools(one) == pools(other) == pools(Door(shared.open()))


def test_another_history_is_noticed(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup put in the store's place would be mixed with what was there before."""
    door = Door(shared.open())
    door.commands.put_tenant("red")
    writer = shared.open()
    writer.commit(2, [Change(Tenant("blue", 9), None), Change(None, Tenant("green", 3))], {})
    assert door.commands.catch_up()
    revision, objects, _ = writer.load()
    assert (door.model.revision, set(contents(door.model).values())) == (revision, set(objects))
    monkeypatch.setattr(door.store, "changes_since", lambda revision: None)
    with pytest.raises(StoreUnusable, match="is at revision 3 and was at 3 before: something else was put in"):
        door.commands.catch_up()


CONTRADICTIONS: dict[str, Callable[[Door], list[Change]]] = {
    "an endpoint of a network that is not there": lambda d: [
        Change(None, replace(d.model.endpoints["web1"], id="e9", network="gone", number=9))
    ],
    "a network that goes while it is needed": lambda d: [Change(d.model.networks["default:web"], None)],
    "a tenant that goes while it is needed": lambda d: [Change(d.model.tenants["default"], None)],
    "one address twice": lambda d: [
        Change(None, replace(d.model.endpoints["web1"], id="e9", mac="02:00:00:00:00:09", number=9))
    ],
    "one number twice": lambda d: [Change(None, replace(d.model.tenants["default"], name="red"))],
    "a number that is too large": lambda d: [Change(None, Tenant("red", 1 << 20))],
    "one VNI twice": lambda d: [
        Change(None, replace(d.model.networks["default:web"], name="x", number=9, gateway=None, vlan=0))
    ],
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_others_write_what_can_not_be(shared: Place, what: str) -> None:
    """One wrong entry in the store would end every controller; now they go on with what they know."""
    one, other = two(shared)
    for door in (one, other):
        door.commands.put_network(WEB)
    one.commands.put_endpoint(WEB1)
    other.commands.catch_up()
    before = contents(other.model)
    writer = shared.open()
    wrong = CONTRADICTIONS[what](one)
    writer.commit(one.model.revision, wrong, {})
    for door in (one, other):
        with pytest.raises(StoreUnusable, match="the store holds what can't be: "):
            door.commands.catch_up()
        assert contents(door.model) == before
    writer.commit(one.model.revision + 1, [Change(c.after, c.before) for c in wrong], {})
    for door in (one, other):
        assert door.commands.catch_up()
        assert contents(door.model) == before
    one.commands.put_tenant("blue")


def test_a_store_that_does_not_answer(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known would not be told, or a refusal be taken for the store's."""
    door = Door(shared.open())
    door.commands.put_network(SRV)

    def unavailable(*_: object) -> None:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(door.store, "changes_since", unavailable)
    monkeypatch.setattr(door.store, "commit", unavailable)
    before = contents(door.model)
    with pytest.raises(StoreUnavailable, match="the store is away"):
        door.commands.put_network(WEB)
    with pytest.raises(NotFound):
        door.commands.delete_network("default:web")
    assert door.commands.put_network(SRV)
    assert [c.revision for c in door.commands.changes_since(1) or []] == [2], "from memory"
    assert contents(door.model) == before
    monkeypatch.undo()
    door.commands.put_network(WEB)


NAMES, ADDRESSES = "abc", ["", "", "10.1.0.1", "10.1.0.2", "10.1.0.3"]


def command(door: Door, rng: random.Random) -> Callable[[], object]:
    """Something that another may do at the same moment."""
    do, name, address, network = door.commands, rng.choice(NAMES), rng.choice(ADDRESSES), rng.choice(["n1", "n2"])
    labels = {rng.choice("kl"): rng.choice("12")}
    spec = endpoint_doc(name, "default", network, [address] if address and network == "n1" else [], labels=labels)
    subnet = rng.choice(["10.1.0.0/28", "10.1.0.8/29", "10.2.0.0/28"])
    ports = [rng.choice(["80:80:TCP", "81:80:UDP"])]
    vip = address if network == "n1" else ""
    return rng.choice(
        [
            lambda: do.put_service(service_doc("default", name, network, vip, ["k=1"], ports)),
            lambda: do.put_service(service_doc("default", name, network, vip, ["k=1"], ports)),
            lambda: do.put_endpoint(spec),
            lambda: do.put_endpoint(spec),
            lambda: do.sync_endpoints(f"h{name}", [spec]),
            lambda: do.grant("default", network, address if network == "n1" else None, "h"),
            lambda: do.release("default", "n1", address or "10.1.0.4"),
            lambda: do.delete_service(f"default:{name}"),
            lambda: do.delete_endpoint(name),
            lambda: do.put_network(network_doc("default", rng.choice(["n1", "n2", "n3"]), subnet)),
            lambda: do.delete_network(f"default:{rng.choice(['n2', 'n3'])}"),
            lambda: do.put_tenant(name),
            lambda: do.delete_tenant(name),
            lambda: do.put_host(host_doc(f"h{name}", rng.choice([1, 2]))),
        ]
    )


def work(door: Door, seed: int, count: int, unexpected: list[BaseException]) -> None:
    rng = random.Random(seed)
    try:
        for _ in range(count):
            try:
                command(door, rng)()
            except NetctlError as error:
                assert error.status in {404, 409, 422}, error
    except BaseException as error:
        unexpected.append(error)
        raise


@pytest.mark.parametrize("writers", [2, 3])
def test_writers_at_the_same_moment(etcd_url: str, writers: int) -> None:
    """Two controllers would give one VIP to two services, or one address to two containers."""
    # imported here: those who have no etcd run all the other tests
    from topology.etcd_store import EtcdStore

    numbers = iter(range(1000))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(seeds=st.lists(st.integers(0, 2**32), min_size=writers, max_size=writers, unique=True))
    def run(seeds: list[int]) -> None:
        url = f"{etcd_url}-{next(numbers)}"
        stores: list[Store] = [EtcdStore(url) for _ in range(writers + 1)]
        first = Door(stores[0])
        first.commands.put_network(network_doc("default", "n1", "10.1.0.0/29"))
        doors = [first, *(Door(store) for store in stores[1:writers])]
        unexpected: list[BaseException] = []
        threads = [
            threading.Thread(target=work, args=(door, seed, 12, unexpected))
            for door, seed in zip(doors, seeds, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not unexpected
        check(doors, Door(stores[-1]))
        for store in stores:
            store.close()

    run()
