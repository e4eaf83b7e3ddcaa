"""A new connection meets what Open vSwitch has cached of a service whose groups have just become others.

The datapath is kept from looking anew at what it has cached, so that what lasts milliseconds lasts as long as a test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.running import VIP, join, plug_in, put, running
from tests.kit.wide import of_family

CACHED, AFTER = range(40000, 40032, 2), range(41000, 41032, 2)  # source ports: a bit of them chooses the group

Step = Callable[[Lab, Mapping[str, Host]], None]


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    made = plug_in(bare)
    inside = bare.host("i1", "srv", "100.1.1.9", serve=["tcp:80"], register=False)
    return made | {"i1": inside, "c2": bare.host("c2", "srv", "100.1.1.10")}


@pytest.fixture
def client(bare: Lab, hosts: Mapping[str, Host]) -> Iterator[Host]:
    with running(bare, {name: host for name, host in hosts.items() if name != "c2"}) as made:
        yield made
    hosts["c2"].register(bare.rest, "srv")  # `running` takes away all but its own client


@contextlib.contextmanager
def stale(lab: Lab) -> Iterator[None]:
    """The datapath goes by what it has cached."""
    lab.instance.appctl("revalidator/pause")
    try:
        yield
    finally:
        lab.instance.appctl("revalidator/resume")


def wide_apart(lab: Lab, hosts: Mapping[str, Host]) -> None:
    join(lab, hosts["w1"], weight=100)


def alike(lab: Lab, hosts: Mapping[str, Host]) -> None:
    join(lab, hosts["w1"], weight=1)


def wide_apart_with_affinity(lab: Lab, hosts: Mapping[str, Host]) -> None:
    put(lab, sessionAffinity=600)
    wide_apart(lab, hosts)


def one_for_its_neighbours_alone(lab: Lab, hosts: Mapping[str, Host]) -> None:
    hosts["i1"].register(lab.rest, "srv", {"tier": "web"})


def that_one_drains(lab: Lab, hosts: Mapping[str, Host]) -> None:
    hosts["i1"].register(lab.rest, "srv", {"tier": "web"}, state="draining")


class Case(NamedTuple):
    """What the service is like at first, what changes, and who connects to it."""

    before: Step
    change: Step
    who: str = "c1"


CASES = {
    "fewer groups": Case(wide_apart, alike),
    "fewer groups with session affinity": Case(wide_apart_with_affinity, alike),
    "no group of its own for the VIP's network": Case(one_for_its_neighbours_alone, that_one_drains, "c2"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.usefixtures("client")
def test_a_group_goes_that_is_still_asked(bare: Lab, hosts: Mapping[str, Host], case: Case, version: int) -> None:
    """Of the users that come while containers come and go, some would wait for a second."""
    asks, vip = hosts[case.who], of_family(version, VIP)
    case.before(bare, hosts)
    with stale(bare):
        for port in CACHED:
            asks.ask("tcp", vip, 8080, source_port=port)
        case.change(bare, hosts)
        for port in AFTER:
            asks.ask("tcp", vip, 8080, source_port=port)
