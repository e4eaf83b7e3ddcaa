"""What others write to a shared store is checked at the cost of the change. If this fails, a contradiction gets into
the model, or a change that is right is refused for good."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.kit.docs import check_doc, host_doc, replace
from tests.unit.modelkit import APP, SRV, WEB, WEB1, Door
from topology import consistent
from topology.errors import Conflict
from topology.model import KINDS, Change, Object, Published

FIELDS: dict[str, Any] = {
    "name": ("default", "srv", "red"),
    "network": ("web", "srv", "lone", "gone"),
    "tenant": ("default", "red", "gone"),
    "number": (1, 2, 3, 9, 1 << 30),
    "vlan": (0, 1, 2),
    "tag": (1, 2, 9),
    "mac": ("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"),
    "address": tuple(map(IPv4Address, ("10.1.1.1", "10.1.1.3", "10.1.1.9"))),
    "addresses": tuple((IPv4Address(f"10.1.1.{n}"),) for n in (1, 2, 3, 9)),
    "vips": ((IPv4Address("100.1.1.1"),), (IPv4Address("100.1.1.9"),)),
    "published": ((), (Published(80, 80, "TCP"),)),
    "ports": ((),),
    "gateway": (None, IPv4Address("10.1.1.1"), IPv4Address("10.1.1.200")),
    "switch": (1, 2),
    "passed": ((), ("default:app",), ("default:gone",)),
    "id": ("web1", "web2"),
    "host": ("h1", "h2"),
}


FREE: dict[str, Any] = {
    "name": "free",
    "id": "free",
    "number": 77,
    "vlan": 77,
    "tag": 77,
    "mac": "02:00:00:00:00:77",
    "addresses": (IPv4Address("10.1.1.77"),),
    "vips": (IPv4Address("100.1.1.77"),),
    "ports": (),
    "gateway": None,
    "switch": 77,
}
"""What nobody has."""


def varied(rng: random.Random, value: Object) -> Object:
    """The same with some fields of other values, or with nearly all claims given up."""
    fields = [name for name in FIELDS if name in type(value).__dataclass_fields__]
    if rng.random() < 0.5:
        given_up = [name for name in FREE if name in fields and rng.random() < 0.8]
        return replace(value, **{name: FREE[name] for name in given_up})
    return replace(value, **{name: rng.choice(FIELDS[name]) for name in rng.choices(fields, k=rng.randint(1, 5))})


def refused(check: Callable[[], object]) -> bool:
    """Whether it is a contradiction."""
    try:
        check()
    except Conflict:
        return True
    return False


def changed(rng: random.Random, before: Iterable[Object]) -> dict[tuple[str, str], Object]:
    """Some objects deleted, changed, or there once more with other values."""
    after = {(o.kind, o.key): o for o in before}
    for _ in range(rng.randint(1, 3)):
        one = rng.choice(list(after.values()))
        if rng.random() < 0.6:
            after.pop((one.kind, one.key), None)
        if rng.random() < 0.7:
            other = varied(rng, one)
            after[other.kind, other.key] = other
    return after


@pytest.fixture
def door() -> Door:
    """A model of all kinds."""
    door = Door()
    door.commands.put_network(SRV)
    door.commands.put_network(WEB)
    door.commands.put_network(replace(WEB, name="lone", subnet="10.9.1.0/24", gateway="10.9.1.254"))
    door.commands.put_service(replace(APP, publish=["80:80:TCP"], check=check_doc("tcp")))
    door.commands.put_endpoint(replace(WEB1, mac="02:00:00:00:00:01"))
    door.commands.put_endpoint(replace(WEB1, id="web2", mac="02:00:00:00:00:02"))
    door.commands.set_passed("web1", "default:app", passed=True)
    for network in ("web", "lone"):
        door.commands.grant("default", network, None, "h1")
    door.commands.put_tenant("red")
    door.commands.put_host(host_doc("h1", 1))
    door.commands.put_host(host_doc("h2", 2))
    return door


def test_a_change_is_judged_as_the_whole_is(door: Door) -> None:
    """``check_changes`` looks at little; it has to come to what a look at everything comes to."""
    rng, found = random.Random(5), [0, 0]
    before = {(o.kind, o.key): o for o in door.model.objects()}
    assert not refused(lambda: consistent.check(before.values()))
    for _ in range(4000):
        after = changed(rng, before.values())
        keys = sorted(before.keys() | after.keys(), key=lambda key: (list(KINDS).index(key[0]), key[1]))
        changes = [Change(before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]
        whole = refused(lambda after=after: consistent.check(after.values()))  # type: ignore[misc]
        assert refused(lambda c=changes: consistent.check_changes(door.model, c)) == whole, changes  # type: ignore[misc]
        found[whole] += 1
    assert min(found) > 300, found
