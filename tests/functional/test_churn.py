"""Thousands of short connections a minute, with ports used again at once, while services and providers come and go."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import churn
from tests.kit.controller import DIES_WITH_US
from tests.kit.hosts import Host
from tests.kit.lab import Lab, lab
from tests.kit.ovs import run
from tests.kit.private_ovs import private

COUNT = int(os.environ.get("NETCTL_CHURN", "50000"))
"""Connections to the targets that stay, all together."""
CLIENTS = ("c1", "c1", "w1")  # a process each; w1 is a provider itself
AT_ONCE = 24  # connections open at a time, of a process
SOURCE_PORTS = 40  # of a process
PATIENCE = 10.0  # s
LIMIT = 300.0  # s; the test fails where it takes longer
STAY = {"one", "two", "straight"}  # targets that stay
SCRIPT = str(Path(churn.__file__))
WEB = {"tier": "web"}
ONE, TWO = "100.1.1.1", "100.1.1.2"
TRANSIENT = [f"100.1.1.{10 + n}" for n in range(3)]


def inside(host: Host, *args: str) -> list[str]:
    return [*DIES_WITH_US, "nsenter", f"--net=/run/netns/{host.netns}", sys.executable, "-I", SCRIPT, *args]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An Open vSwitch that nobody else uses: it may abort."""
    with private("c") as instance, lab(tmp_path_factory.mktemp("lab"), instance) as made:
        made.network("srv", "100.1.1.0/24")
        made.network("web", "10.1.1.0/24", "10.1.1.254")
        made.network("cli", "20.1.1.0/24", "20.1.1.254")
        yield made


@pytest.fixture(scope="module")
def hosts(there: Lab) -> Iterator[dict[str, Host]]:
    """Providers w1 and w2 that stay, w3 and w4 that come and go, a client; two services that stay."""
    made = {n: there.host(n, "web", f"10.1.1.{n[1]}", WEB) for n in ("w1", "w2", "w3", "w4")}
    made["c1"] = there.host("c1", "cli", "20.1.1.1")
    assert there.service("one", "srv", ["8080:80:TCP"], ["tier=web"], vip=ONE) == ONE
    assert there.service("two", "srv", ["9090:80:TCP"], ["tier=web"], vip=TWO) == TWO
    with contextlib.ExitStack() as stack:
        for host in made.values():
            # so that a port can be used again at once, at both ends
            run("nsenter", f"--net=/run/netns/{host.netns}", "sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0")
        for name, host in made.items():
            if name != "c1":
                process = stack.enter_context(
                    subprocess.Popen(inside(host, "serve", name, "80", "81"), stdout=subprocess.PIPE, text=True)
                )
                stack.callback(process.kill)
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
        yield made


class Commotion:
    """Something is changed through REST every second, until it is stopped; goes round."""

    def __init__(self, there: Lab, hosts: dict[str, Host]) -> None:
        self.there = there
        self.hosts = hosts
        self.rounds = 0
        self.error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Commotion:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            for step in itertools.cycle((self._leave, self._gone, self._back)):
                if self._ended.wait(1.0):
                    return
                step(self.rounds)
                self.rounds += 1
        except BaseException as error:
            self.error = error
            raise

    def _provider(self, name: str, **more: Any) -> None:
        self.hosts[name].register(self.there.rest, "web", WEB, **more)

    def _service(self, number: int, **options: Any) -> None:
        ports, vip = ["8080:80:TCP", "81:81:TCP"], TRANSIENT[number]
        self.there.service(f"t{number}", "srv", ports, ["tier=web"], vip=vip, options=options)

    def _leave(self, n: int) -> None:
        # it gets no new ones from now on, in a second it is gone: nobody is with it any more then
        self._provider("w3", state="draining")
        self._service(0)
        self._service(1, sessionAffinity=1 + n % 5)

    def _gone(self, n: int) -> None:
        self.there.rest.delete_endpoint("w3")
        self._provider("w2", weight=1 + n % 7)
        self.there.rest.delete_service("default:t0")
        self._service(2)

    def _back(self, n: int) -> None:
        self._provider("w3")
        self.there.rest.delete_service("default:t1")
        self.there.rest.delete_service("default:t2")
        self._provider("w4", state="draining" if n % 2 else "running")


def test_none_is_lost_and_the_switch_lives(there: Lab, hosts: dict[str, Host]) -> None:
    """Connections of busy clients would fail now and then, or Open vSwitch abort and take all of them with it.

    To two VIPs with the same providers, and straight to one of these, from a client and from a provider: these targets
    stay, and each connection to them has to be answered. What counts as lost: refused, reset before the answer (or
    before the server's orderly end, where that closes), no answer within ten seconds, any other error. An answer after
    more than 0.9 s counts as late: a packet was lost, and sent again by TCP. Connections to services that come and go
    are made besides, and not counted.
    """
    pid = there.instance.switch_pid
    targets = [("one", ONE, 8080), ("two", TWO, 9090)]
    straight = {"c1": hosts["w1"].ip, "w1": hosts["w2"].ip}
    others = [(f"t{n}", vip, 8080) for n, vip in enumerate(TRANSIENT)]
    clients = []
    with contextlib.ExitStack() as stack:
        commotion = stack.enter_context(Commotion(there, hosts))
        for n, name in enumerate(CLIENTS):
            plan = churn.Plan(
                source=hosts[name].ip,
                ports=(20000 + n * SOURCE_PORTS, SOURCE_PORTS),
                targets=[*targets, ("straight", straight[name], 80)],
                count=COUNT // len(CLIENTS) + 1,
                at_once=AT_ONCE,
                patience=PATIENCE,
                others=others,
            )
            command = inside(hosts[name], "ask", json.dumps(vars(plan)))
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(process.kill)
            clients.append(process)
        said = [json.loads(client.communicate(timeout=LIMIT)[0]) for client in clients]
    assert commotion.error is None
    assert commotion.rounds > 5
    print(json.dumps(said, indent=1))
    assert there.instance.switch_pid == pid, "the switch has died"
    log = (there.instance.directory / "ovs-vswitchd.log").read_text()
    assert not [line for line in log.splitlines() if "assertion" in line or "died" in line]
    outcomes = [(name, out) for one in said for name, out in one["outcomes"].items() if name in STAY]
    for name, out in outcomes:
        lost = {what: out[what] for what in ("refused", "reset", "silent", "other") if out[what]}
        assert not lost, f"{name}: {lost}: {out['errors']}"
        # a busy machine may stand still for a second, with all connections that are open then, and a queue of the
        # kernel be full once in a while; more would be the switch's
        assert out["late"] <= AT_ONCE + out["answered"] / 1000, f"{name}: {out['errors']}"
    assert sum(out["answered"] for _, out in outcomes) >= COUNT
