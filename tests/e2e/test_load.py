"""Under load, three kinds of connections at once, while providers are run, stopped, restarted, killed and started."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.machine import run, wait_for
from tests.e2e.node import IMAGE, Node
from tests.e2e.test_walkthrough import Inside
from tests.kit import finisher, rush
from tests.kit.controller import DIES_WITH_US

VIP, VIP6 = "100.1.1.1", "fd00:100::1"
COUNT = 15_000
RATE, AT_ONCE, PATIENCE = 300.0, 40, 8.0  # connections a second; open at a time: no queue overflows; s for an answer
AT_FIRST, LATER = 12, 8
REVALIDATED = 0.6  # s: so long Open vSwitch may go by what it has cached, once its groups are others (max-revalidator)
LATE = 0.9  # s: TCP has sent something again
SOON, QUICK = 0.1, 0.45  # s: a datagram sent so soon after, and answered so quickly: the switch is not just slow
SERVER, CLIENT = str(Path(finisher.__file__)), str(Path(rush.__file__))
CHECK = ("--check=tcp", "--check-interval=2", "--check-timeout=1", "--check-rise=1", "--check-fall=3")


@dataclass
class Change:
    """Something that a provider was told, when, and when the switch had its last trace out of its groups."""

    what: str  # "stop", "restart" (it finishes its work), "exit" (on the signal itself), "kill"
    name: str
    at: float
    known: float
    graceful: bool

    @property
    def until(self) -> float:
        """So long connections may meet a provider that has gone."""
        return self.known + REVALIDATED


@dataclass
class Stage:
    """The service, its providers, and what was done to them."""

    host: Node
    changes: list[Change] = field(default_factory=list)

    def provider(self, name: str, how: str) -> None:
        """Run a container whose own process is the server, with the Python of this machine."""
        python = Path(sys.executable).resolve()
        places = dict.fromkeys(("/usr", "/lib", "/lib64", sys.base_prefix, SERVER))
        volumes = [f"--volume={p}:{p}:ro" for p in places if Path(p).exists()]
        command = (str(python), "-I", SERVER, name, how)
        self.host.docker(
            "run", "-d", f"--name={name}", "--net=web", "--label=tier=web", *volumes, IMAGE, *command
        )

    def healthy(self) -> str:
        """The column of `netctl service ls`: healthy/all."""
        return self.host.netctl("service", "ls").splitlines()[-1].split()[5]

    def wait_for_healthy(self, count: int) -> None:
        """So many providers serve."""
        wait_for(lambda: self.healthy().startswith(f"{count}/"), f"{count} providers to serve, not {self.healthy()}")

    def in_groups(self, *addresses: str) -> bool:
        """Whether the switch sends new connections to any of these addresses."""
        said = run("ovs-ofctl", "-O", "OpenFlow13", "dump-groups", f"{self.host.directory}/br-netctl.mgmt")
        return bool({*re.findall(r"nat\(dst=\[?([0-9a-f.:]*[0-9a-f])", said)} & set(addresses))

    def addresses(self, name: str) -> list[str]:
        """Of a provider."""
        return list(self.host.endpoint(name)["ipAddress"])

    @contextlib.contextmanager
    def gone(self, what: str, name: str, *, graceful: bool) -> Iterator[None]:
        """While a provider is told to go: note when the switch knows."""
        addresses = self.addresses(name)
        with ThreadPoolExecutor(1) as aside:
            at = time.monotonic()
            known = aside.submit(self._until_gone, addresses)
            yield
            self.changes.append(Change(what, name, at, known.result(20), graceful))

    def _until_gone(self, addresses: list[str]) -> float:
        wait_for(lambda: not self.in_groups(*addresses), f"{addresses} to be out of the groups", 10)
        return time.monotonic()


@pytest.fixture
def stage(host: Node) -> Iterator[Stage]:
    """Networks of both families, the service, and the providers that are there at first."""
    host.netctl("net", "create", "srv", "-s", "100.1.1.0/24", "-s6", "fd00:100::/64")
    for name, net, net6 in (("web", "10.1.1", "fd00:1"), ("cli", "20.1.1", "fd00:2")):
        both = ("-s", f"{net}.0/24", "-g", f"{net}.254", "-s6", f"{net6}::/64", "-g6", f"{net6}::fe")
        host.netctl("net", "create", name, *both)
    vips, ports = (f"-ip={VIP}", f"-ip6={VIP6}"), ("--port=80:80:TCP", "--port=53:53:UDP")
    host.netctl("service", "create", "web", "--network=srv", "--selector=tier=web", *ports, *vips, *CHECK)
    made = Stage(host)
    with ThreadPoolExecutor(3) as some:
        list(some.map(lambda n: made.provider(f"p{n}", "exit" if n >= 9 else "finish"), range(1, AT_FIRST + 1)))
    made.wait_for_healthy(AT_FIRST)
    yield made
    host.netctl("service", "rm", "web", check=False)


def change(stage: Stage) -> None:
    """Everything that happens to providers: eight more are run while others are stopped, restarted and killed."""
    docker = stage.host.docker
    with ThreadPoolExecutor(1) as aside:
        more = [aside.submit(stage.provider, f"p{AT_FIRST + n}", "finish") for n in range(1, LATER + 1)]
        for n in range(1, 4):
            with stage.gone("restart", f"p{n}", graceful=True):
                docker("restart", "-t", "20", f"p{n}")
        for n in range(4, 9):
            with stage.gone("stop", f"p{n}", graceful=True):
                docker("stop", "-t", "20", f"p{n}")
        for started in more:
            started.result()
    for n in (9, 10):
        with stage.gone("exit", f"p{n}", graceful=False):
            docker("stop", "-t", "20", f"p{n}")
    for n in (11, 12, 13, 14):
        with stage.gone("kill", f"p{n}", graceful=False):
            docker("kill", f"p{n}")
        docker("start", f"p{n}")


def test_none_is_lost_but_to_who_has_gone(stage: Stage) -> None:
    """Else a deployment, or a machine's daily life, costs users their connections, or a second of waiting.

    Fifteen thousand connections meet twenty providers that come and go. A graceful stop or restart of a server that
    finishes its work fails none. Where a server exits on the signal, or is killed, only connections may fail that
    arrive before the switch knows; how long that takes, and how many those are, is printed. The same holds for the
    first packet of a TCP connection, which TCP sends again after a second.
    """
    host = stage.host
    plan = rush.Plan(VIP, VIP6, COUNT, RATE, AT_ONCE, PATIENCE)
    with Inside(host, "client", host.container("client", "cli")) as client:
        command = [
            *DIES_WITH_US, "nsenter", f"--net=/run/netns/{client.netns}", sys.executable, "-I", CLIENT,
            json.dumps(vars(plan)),
        ]  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                change(stage)
                stage.wait_for_healthy(13)
                said = json.loads(process.communicate("", timeout=90)[0])
            finally:
                process.kill()
    report(stage.changes, said)
    assert len(said) >= COUNT
    allowed = [(c.at, c.until) for c in stage.changes if not c.graceful]
    lost = [one for one in said if one[4] and not any(one[1] < end and one[2] > start for start, end in allowed)]
    assert not lost, f"{len(lost)} lost: {lost[:10]}"
    late = [one for one in dropped(said) if not any(one[1] < end and one[2] > start for start, end in allowed)]
    assert not late, f"{len(late)} sent again: {late[:10]}"
    assert {name for _, _, _, name, _ in said if name} == {f"p{n}" for n in range(1, AT_FIRST + LATER + 1)}


Said = tuple[str, float, float, str, str]


def dropped(said: list[Said]) -> list[Said]:
    """The TCP connections that lost a packet: late, while datagrams of the same moment were answered at once."""
    quick = [one[1] for one in said if one[0] == "udp" and not one[4] and one[2] - one[1] < QUICK]
    late = [one for one in said if one[0] != "udp" and not one[4] and one[2] - one[1] > LATE]
    return [one for one in late if any(one[1] <= at < one[1] + SOON for at in quick)]


def report(changes: list[Change], said: list[Said]) -> None:
    """What became of all, for who runs the test with ``-s`` or reads a failure."""
    print(f"\n{len(said)} connections, {Counter(kind for kind, *_ in said)}; failed {sum(bool(o[4]) for o in said)}, "
          f"late {sum(not o[4] and o[2] - o[1] > LATE for o in said)}, sent again {len(dropped(said))}")  # fmt: skip
    for c in changes:
        met = [one for one in said if one[1] < c.until and one[2] > c.at]
        last = max((one[1] for one in met if one[3] == c.name and one[1] < c.until), default=c.at)
        failed = Counter(f"{one[0]} {one[4]}" for one in met if one[4])
        knew, answered = (round(1000 * (at - c.at)) for at in (c.known, last))
        print(f"  {c.at:9.2f} {c.what:8} {c.name:4} out of the groups after {knew:5} ms, its last connection began "
              f"after {answered:5} ms; failed meanwhile: {dict(failed)}")  # fmt: skip
