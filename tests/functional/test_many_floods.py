"""Many tenants knock at closed ports at once: what all of them together may ask of the controller is bounded."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from ryu_apps.pipeline.tables import ANSWER_RATE, REFUSALS_METER, REFUSALS_RATE, REFUSE_METERS
from tests.kit import frames
from tests.kit.hosts import Host
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for

TENANTS = 6  # flood; one more does not
OTHER = TENANTS + 1


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> dict[int, Host]:
    """A client in each tenant, whose service has no provider."""
    made = {}
    for n in range(1, OTHER + 1):
        bare.rest.put_tenant(f"t{n}")
        bare.network("srv", f"100.{n}.1.0/24", tenant=f"t{n}")
        bare.network("web", f"10.{n}.1.0/24", f"10.{n}.1.254", tenant=f"t{n}")
        bare.service("app", "srv", ["80:80:TCP"], ["tier=none"], tenant=f"t{n}", vip=f"100.{n}.1.1")
        made[n] = bare.host(f"f{n}", "web", f"10.{n}.1.1", tenant=f"t{n}")
    bare.settled()
    return made


def passed(lab: Lab, meter: int) -> int:
    """Packets that a meter has let pass."""
    text = lab.instance.ofctl("meter-stats", lab.bridge, f"meter={meter}")
    came, _, dropped = text.partition("bands:")
    return _count(came, "packet_in_count:") - _count(dropped, "packet_count:")


def _count(text: str, word: str) -> int:
    return int(text.partition(word)[2].split(maxsplit=1)[0])


def number_of(lab: Lab, tenant: int) -> int:
    """A tenant's number, out of the flow that refuses what comes to its VIP."""
    (flow,) = [
        f for f in lab.flows() if f"nw_dst=100.{tenant}.1.1" in f.match and "tcp" in f.match and "meter:" in f.actions
    ]
    return int(flow.actions.partition("meter:")[2].partition(",")[0]) & (REFUSE_METERS - 1)


@contextlib.contextmanager
def flooding(hosts: dict[int, Host], *tenants: int) -> Iterator[None]:
    """These tenants' clients knock, a few thousand times a second together, for as long as the block lasts."""
    ended = threading.Event()

    def knock() -> None:
        with contextlib.ExitStack() as stack:
            outs = [(stack.enter_context(hosts[n].open("raw")), n) for n in tenants]
            sent = [(out, frames.syn(hosts[n].mac, hosts[n].ip, f"100.{n}.1.1", 4000, 80)) for out, n in outs]
            while not ended.is_set():
                for out, frame in sent:
                    out.send(frame)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


def rate(lab: Lab, meter: int) -> tuple[int, float]:
    """What a meter lets pass once its burst is over, in how many seconds: of three seconds about."""
    before, began = passed(lab, meter), time.monotonic()
    wait_for(lambda: time.monotonic() > began + 3, "three seconds")
    return passed(lab, meter) - before, time.monotonic() - began


def refusals(client: Host, tenant: int, times: int, patience: float) -> int:
    """How many of so many connections to a port that nobody serves are refused."""
    made = 0
    for _ in range(times):
        try:
            client.connect("tcp", f"100.{tenant}.1.1", 80, timeout=patience).close()
        except ConnectionRefusedError:
            made += 1
        except TimeoutError:
            continue
    return made


def test_all_tenants_together(bare: Lab, hosts: dict[int, Host]) -> None:
    """Many tenants would keep the controller from links, from hosts that are to be learned, and from each other."""
    each = [REFUSE_METERS | number_of(bare, n) for n in range(1, TENANTS + 1)]
    with flooding(hosts, *range(1, TENANTS + 1)):
        wait_for(lambda: all(passed(bare, meter) > 2 * ANSWER_RATE for meter in each), "all of them to be held back")
        count, seconds = rate(bare, REFUSALS_METER)
        # of the packets that come to the meter of all, it lets every second one pass; a SYN is sent again
        assert refusals(hosts[OTHER], OTHER, 10, 7.5) >= 5, "another tenant's get through as well"
    assert count <= REFUSALS_RATE * (seconds + 1.5)
    assert count > REFUSALS_RATE, "what may pass does"


def test_one_tenant_cannot_use_up_what_is_for_all(bare: Lab, hosts: dict[int, Host]) -> None:
    """One tenant's flood would leave no answers for the others."""
    own = REFUSE_METERS | number_of(bare, 1)
    with flooding(hosts, 1):
        wait_for(lambda: passed(bare, own) > 2 * ANSWER_RATE, "it to be held back")
        assert refusals(hosts[OTHER], OTHER, 20, 0.9) == 20, "each before the SYN is sent again"
        count, seconds = rate(bare, REFUSALS_METER)
        assert count <= ANSWER_RATE * (seconds + 1.5)
