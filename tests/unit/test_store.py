"""What every store does, SQLite and etcd alike. If these fail, a restart forgets, or a reader sees half."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.kit.docs import endpoint_doc, host_doc, network_doc, replace, service_doc
from tests.unit.modelkit import Door, contents
from tests.unit.places import Place
from topology.model import Change, Commit, Endpoint, Host, Network, Service, Tenant
from topology.snapshot import Model
from topology.store import StaleRevision
from topology.stored import from_json

RED, BLUE = Tenant("red", 1), Tenant("blue", 2)


def test_everything_comes_back(place: Place) -> None:
    """A controller that was killed knows all it knew."""
    door = Door(place.open())
    door.commands.put_network(network_doc("default", "n", "10.1.1.10-10.1.1.20/24", "10.1.1.254", pkt_tag=9))
    door.commands.put_service(service_doc("default", "s", "n", "10.1.1.11", ["a=", "b=\u00e9"], ["80:80:TCP"]))
    door.commands.put_endpoint(
        endpoint_doc("e", "default", "n", labels={"a": "", "\U0001f600": "x\n"}, switch=(1 << 64) - 1)
    )
    door.commands.put_network(
        network_doc("default", "six", "10.2.1.0/24", "10.2.1.1", subnet6="FD00::/64", gateway6="FD00::1", nat=True)
    )
    door.commands.put_network(network_doc("default", "inn", "10.3.1.0/24", "10.3.1.1", internal=True))
    door.commands.put_service(
        service_doc("default", "t", "six", ports=["80:80:TCP"], ip_address6="fd00::9", publish=["80:80"])
    )
    door.commands.put_endpoint(endpoint_doc("f", "default", "six", no_way_back="no rule", primary=True))
    door.commands.grant("default", "six", None, "h", 6)
    door.commands.put_host(host_doc("h", (1 << 64) - 1, "192.0.2.1", "0.1.0"))
    door.commands.grant("default", "n", None, "h")
    door.commands.release("default", "n", door.commands.grant("default", "n", None, "h").address)
    door.store.close()
    again = Door(place.open(), door.clock)
    assert contents(again.model) == contents(door.model)
    assert again.model.revision == door.model.revision
    again.store.close()


EARLIER = {
    "network": {
        "tenant": "default", "name": "n", "number": 1, "subnet": "10.1.1.0/24", "first": "10.1.1.1",
        "last": "10.1.1.254", "gateway": None, "nw_type": "data", "encap": "vxlan", "tag": 1, "requested_tag": 0,
        "cfgd_tag": "",
    },
    "service": {
        "tenant": "default", "name": "s", "number": 1, "network": "n", "vips": ["10.1.1.1"],
        "ports": [{"port": 80, "target": 80, "protocol": "TCP", "number": 1}], "selectors": [["a", "b"]],
        "requested_vip": None, "affinity": 0, "affinity_mode": "idle", "drain": 30, "check": None,
    },
    "endpoint": {
        "id": "e", "tenant": "default", "network": "n", "number": 1, "addresses": ["10.1.1.2"],
        "mac": "02:42:0a:01:01:02", "host": "h", "switch": 0, "port_name": "p", "labels": [["a", "b"]],
        "container_id": "", "container_name": "", "health": "", "state": "running", "origin": "agent", "weight": 1,
        "passed": [], "drained": [], "draining_since": 0.0,
    },
    "host": {"name": "h", "switch": 1, "tunnel_address": "192.0.2.1", "version": "0.1.0"},
}  # fmt: skip


def test_a_store_of_an_earlier_version(place: Place) -> None:
    """After an upgrade, networks, services and containers are what they were: without IPv6, without a way out."""
    objects = {kind: from_json(kind, data) for kind, data in EARLIER.items()}
    store = place.open()
    store.commit(0, [Change(None, Tenant("default", 1)), *(Change(None, o) for o in objects.values())], {})
    door = Door(store)
    network, service, endpoint, host = (objects[kind] for kind in EARLIER)
    assert isinstance(network, Network) and door.model.networks[network.key] == replace(network, vlan=1)
    assert (network.subnets, network.nat, network.internal) == ((network.subnet,), False, False)
    assert isinstance(service, Service) and (service.published, service.requested_vip6) == ((), None)
    assert isinstance(endpoint, Endpoint) and isinstance(host, Host) and host.number == 0
    assert (endpoint.no_way_back, endpoint.primary) == ("", False)
    spec = service_doc("default", "s", "n", "", ["a=b"], ["80:80:TCP"])
    assert door.commands.put_service(spec) == service, "a change to what it is, is none"
    assert door.commands.put_network(network_doc("default", "n", "10.1.1.0/24")) == replace(network, vlan=1)
    (again,) = door.commands.sync_endpoints("h", [endpoint_doc("e", "default", "n", port_name="p", labels={"a": "b"})])
    assert again == endpoint


def test_a_stale_writer_is_refused(place: Place) -> None:
    """Two controllers on one file don't write over each other."""
    store = place.open()
    store.commit(0, [Change(None, RED)], {"a": 1})
    with pytest.raises(StaleRevision, match="the store is at revision 1, not 0"):
        store.commit(0, [Change(None, BLUE)], {"a": 2})
    assert store.load() == (1, [RED], {"a": 1})


def test_a_commit_is_whole_or_not_at_all(place: Place) -> None:
    """A commit that fails half way leaves nothing behind."""
    store = place.open()
    with pytest.raises(TypeError):
        store.commit(0, [Change(None, RED)], {"a": object()})
    assert store.load() == (0, [], {})
    assert store.changes_since(0) == []


def test_meta_values_are_set_and_removed(place: Place) -> None:
    """Counters survive; only what is named changes."""
    store = place.open()
    store.commit(0, [Change(None, RED)], {"a": [1, 2], "b": 1})
    store.commit(1, [Change(RED, None)], {"b": None, "c": {"d": "e"}})
    assert store.load() == (2, [], {"a": [1, 2], "c": {"d": "e"}})


def test_the_log_tells_what_changed(place: Place) -> None:
    """A follower that was away catches up without reading everything."""
    store = place.open()
    host = Host("h", 1, IPv4Address("192.0.2.1"))
    first = Commit(1, (Change(None, RED), Change(None, host)))
    second = Commit(2, (Change(host, None),))
    for commit in (first, second):
        store.commit(commit.revision - 1, commit.changes, {})
    assert store.changes_since(0) == [first, second]
    assert store.changes_since(1) == [second]
    assert store.changes_since(2) == []
    assert store.changes_since(3) is None


def test_the_log_is_compacted(place: Place) -> None:
    """The file doesn't grow for ever; who is too far behind is told so, never given half."""
    store = place.open(kept_revisions=3)
    for revision in range(6):
        change = Change(RED, None) if revision % 2 else Change(None, RED)
        store.commit(revision, [change], {})
    assert store.changes_since(2) is None
    commits = store.changes_since(3)
    assert commits is not None
    assert [c.revision for c in commits] == [4, 5, 6]


def test_following_the_log_gives_the_same_model(place: Place) -> None:
    """A second controller that follows the log has what the first has."""
    door = Door(place.open())
    follower = Model()
    door.commands.put_network(network_doc("default", "n", "10.1.1.0/24"))
    door.commands.put_service(service_doc("default", "s", "n", "", ["a=b"], ["80:80:TCP"]))
    door.commands.delete_service("default:s")
    for commit in door.store.changes_since(0) or []:
        follower.apply(commit)
    assert contents(follower) == contents(door.model)


def test_a_large_commit_comes_back_whole(place: Place) -> None:
    """A host with very many containers could not report them, or only a part of them."""
    store = place.open()
    hosts = [Host(f"h{number:04}", number, version="v" * 1000) for number in range(1, 2001)]
    assert store.commit(0, [Change(None, host) for host in hosts], {"a": 1}) == 1
    assert store.commit(1, [Change(hosts[0], None), Change(None, RED)], {}) == 2
    for reader in (store, place.read()):
        revision, objects, meta = reader.load()
        assert (revision, meta) == (2, {"a": 1})
        assert sorted((o for o in objects if isinstance(o, Host)), key=lambda h: h.name) == hosts[1:]
        commits = reader.changes_since(0)
        assert commits is not None
        assert [len(c.changes) for c in commits] == [2000, 2]
        assert [c.after for c in commits[0].changes] == hosts


def test_two_that_are_open_at_once(shared: Place) -> None:
    """A second controller would write over what the first wrote, or not see it."""
    one, other = shared.open(), shared.open()
    one.commit(0, [Change(None, RED)], {"a": 1})
    with pytest.raises(StaleRevision):
        other.commit(0, [Change(None, BLUE)], {"a": 2})
    assert other.changes_since(0) == [Commit(1, (Change(None, RED),))]
    assert other.commit(1, [Change(None, BLUE)], {}) == 2
    assert one.load() == (2, [RED, BLUE], {"a": 1}) or one.load() == (2, [BLUE, RED], {"a": 1})


def test_many_commits_come_back(place: Place) -> None:
    """A store that tidies up now and then would lose or bring back something."""
    store = place.open()
    living: dict[str, Tenant] = {}
    for revision in range(150):
        name = f"t{revision % 20}"
        before, after = living.pop(name, None), Tenant(name, revision + 1)
        if revision % 7:
            living[name] = after
        elif before is None:
            after = living[name] = Tenant(name, revision + 1)
        else:
            after = None  # type: ignore[assignment]
        store.commit(revision, [Change(before, after)], {f"m{revision % 3}": None if revision % 5 == 0 else revision})
    found = place.read().load()
    assert found == store.load()
    assert {o.key: o for o in found[1]} == living
    assert found[2] == {"m0": 147, "m1": 148, "m2": 149}
