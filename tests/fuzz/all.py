"""Four fuzzers at once beside a client that needs the service: ``python -m tests.fuzz.all --seconds 3600``.

A real system in a network namespace of its own: controller, agent, Docker, Open vSwitch, a service of two providers.
The fuzzers send to the REST API, the OpenFlow port, the agent's plugin socket, and frames out of a container beside the
client. Controller and agent have to stay the same processes, say no traceback, and keep the memory that they have in
the first fifth of the time, but for SLACK; and no connection of the client's may be lost. Else the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.e2e.machine import own_directory, run, wait_for
from tests.e2e.node import Node
from tests.e2e.test_walkthrough import Inside
from tests.fuzz import frames
from tests.fuzz.command import resident
from tests.kit.controller import DIES_WITH_US, ROOT
from tests.kit.loop import Loop, asking

SLACK = 24 << 20  # bytes that a process may have more than at most in the first fifth: caches that were not full yet
WARM = 0.2  # of the time
LOOK = 60.0  # s between two looks at the memory
PATIENCE = 10.0  # s for an answer: TCP sends its first packet again after 1, 3 and 7 s, and that is no loss
GRACE = 120.0  # s that a fuzzer may take longer than it was told: for what it has begun
VIP, VIP6, PORT = "100.1.1.1", "fd00:100::1", 80
SPARED = "spared"
PROCESSES = ("controller", "agent")
FUZZERS = ("rest", "openflow", "plugin", "frames")


@dataclass
class Outcome:
    """What is told at the end."""

    pids: dict[str, int]
    memory: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in PROCESSES})
    wrong: list[str] = field(default_factory=list)

    def look(self, at: float) -> None:
        """Note how much memory each has."""
        for name, pid in self.pids.items():
            with contextlib.suppress(OSError):  # it has ended, which is told at the end
                self.memory[name].append(resident(pid))
        shown = ", ".join(f"{name} {sizes[-1] >> 20} MB" for name, sizes in self.memory.items() if sizes)
        print(f"  after {at:5.0f} s: {shown}", flush=True)

    def judge(self, node: Node) -> None:
        """What is wrong."""
        for name, pid in self.pids.items():
            if node.processes[name].poll() is not None:
                self.wrong.append(f"{name} {pid} has ended with status {node.processes[name].returncode}")
            said = node.log(name)
            tracebacks, lines = said.count("Traceback"), said.count("\n")
            print(f"{name}: process {pid} at the start, {node.processes[name].pid} at the end; "
                  f"{tracebacks} tracebacks in {lines} lines of its log")  # fmt: skip
            if tracebacks:
                self.wrong.append(f"{name}: {tracebacks} tracebacks")
            self._judge_memory(name)

    def _judge_memory(self, name: str) -> None:
        sizes = self.memory[name]
        first = max(1, int(len(sizes) * WARM))
        warm, most = max(sizes[: first + 1]), max(sizes)
        print(f"{name}: {sizes[0] >> 20} MB at the start, at most {warm >> 20} in the first fifth, {most >> 20} later")
        if most > warm + SLACK:
            self.wrong.append(f"{name}: its memory grew from {warm >> 20} to {most >> 20} MB")


@contextlib.contextmanager
def system() -> Iterator[tuple[Node, Inside, Inside]]:
    """The node, the client and the hostile container, while the service runs."""
    node = Node(own_directory("fuzz"))
    node.host = f"{SPARED}-host"
    with contextlib.ExitStack() as held:
        held.callback(node.stop)
        node.start()
        node.netctl("net", "create", f"{SPARED}-srv", "-s", "100.1.1.0/24", "-s6", "fd00:100::/64")
        for name, net, net6 in (("web", "10.1.1", "fd00:1"), ("cli", "20.1.1", "fd00:2")):
            both = ("-s", f"{net}.0/24", "-g", f"{net}.254", "-s6", f"{net6}::/64", "-g6", f"{net6}::fe")
            node.netctl("net", "create", f"{SPARED}-{name}", *both)
        service = ("--selector=spared=yes", f"--port={PORT}:80:TCP", "--port=53:53:UDP", f"-ip={VIP}", f"-ip6={VIP6}")
        node.netctl("service", "create", f"{SPARED}-app", f"--network={SPARED}-srv", *service)
        for name in ("p1", "p2"):
            container = f"{SPARED}-{name}"
            address = node.container(container, f"{SPARED}-web", "--label=spared=yes")
            held.enter_context(Inside(node, container, address)).serve("tcp:80", "udp:53")
        client, hostile = [
            held.enter_context(Inside(node, name, node.container(name, f"{SPARED}-cli")))
            for name in (f"{SPARED}-client", f"{SPARED}-hostile")
        ]
        wait_for(lambda: client.reaches("tcp", VIP, PORT), "the service")
        yield node, client, hostile


def commands(node: Node, hostile: Inside, seconds: float, seed: int) -> Mapping[str, Sequence[str]]:
    """Of the fuzzers, each with a seed of its own."""
    seeds = {name: str(seed + number) for number, name in enumerate(FUZZERS)}

    def command(name: str, *options: str) -> Sequence[str]:
        python = (sys.executable, "-m", f"tests.fuzz.{name}", f"--seconds={seconds}", f"--seed={seeds[name]}", *options)
        return ("nsenter", f"--net=/run/netns/{hostile.netns if name == 'frames' else node.name}", *python)

    me, others = node.endpoint(hostile.name), [doc for name, doc in node.endpoints().items() if "@" not in name]
    stage = frames.Stage(
        mac=me["macAddress"], ip=me["ipAddress"][0], ip6=me["ipAddress"][1],
        others=("20.1.1.254", VIP, "100.1.1.77", "20.1.1.99", *(doc["ipAddress"][0] for doc in others)),
        others6=("fd00:2::fe", VIP6, "fd00:2::99", *(doc["ipAddress"][1] for doc in others)),
        macs=tuple(doc["macAddress"] for doc in others if doc is not me),
    )  # fmt: skip
    return {
        "rest": command("rest", "--connect=127.0.0.1:9999", f"--spare={SPARED}"),
        "openflow": command("openflow", "--connect=127.0.0.1:6653"),
        "plugin": command("plugin", f"--connect={node.plugins}/netctl.sock"),
        "frames": command("frames", f"--stage={json.dumps(dataclasses.asdict(stage))}"),
    }


@contextlib.contextmanager
def running(node: Node, each: Mapping[str, Sequence[str]]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """All of them; what they say is in files of the node's directory."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in each.items():
            with (node.directory / f"fuzz-{name}.log").open("ab") as log:
                processes[name] = subprocess.Popen([*DIES_WITH_US, *command], stdout=log, stderr=log, cwd=ROOT)
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait(20)


def told(loops: Mapping[str, Loop], outcome: Outcome) -> None:
    """What became of the client's connections."""
    for kind, loop in loops.items():
        lost, made = loop.failures, len(loop.answers)
        print(f"client: {made + len(lost)} connections over {kind}, {len(lost)} lost")
        if lost:
            outcome.wrong.append(f"{len(lost)} connections over {kind} were lost: {lost[:5]}")
        if not made:
            outcome.wrong.append(f"no connection over {kind} was made")


def everything(seconds: float, seed: int) -> Outcome:
    """The whole run."""
    with system() as (node, client, hostile), contextlib.ExitStack() as held:
        outcome = Outcome({name: node.processes[name].pid for name in PROCESSES})
        begin = time.monotonic()
        outcome.look(0)
        loops = {
            kind: held.enter_context(asking(client, kind.split()[0], address, port, PATIENCE))
            for kind, address, port in (("tcp", VIP, PORT), ("udp", VIP, 53), ("tcp over IPv6", VIP6, PORT))
        }
        with running(node, commands(node, hostile, seconds, seed)) as processes:
            while any(process.poll() is None for process in processes.values()):
                at = time.monotonic() - begin
                if at > seconds + GRACE:
                    outcome.wrong.append("a fuzzer does not end")
                    break
                due = min(LOOK, seconds / 20)
                if at >= due * len(outcome.memory["agent"]):
                    outcome.look(at)
                time.sleep(0.2)  # between two looks at the processes
            for name, process in processes.items():
                print(f"{name}: {' '.join(node.log(f'fuzz-{name}').split()) or 'says nothing'}"[:4000])
                if process.poll():
                    outcome.wrong.append(f"the {name} fuzzer has found a fault")
        held.close()
        outcome.look(time.monotonic() - begin)
        told(loops, outcome)
        outcome.judge(node)
        if f"{SPARED}-app" not in node.netctl("service", "ls", check=False):
            outcome.wrong.append("the service is gone")
        if outcome.wrong and (keep := os.environ.get("NETCTL_FUZZ_LOGS")):
            run("cp", *map(str, node.directory.glob("*.log")), keep)
    return outcome


def main() -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz.all", description=__doc__)
    options.add_argument("--seconds", type=float, default=3600)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    wanted = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # what was started is ended
    seeds = ", ".join(f"{name} {wanted.seed + number}" for number, name in enumerate(FUZZERS))
    print(f"seed {wanted.seed}: {seeds}", flush=True)
    outcome = everything(wanted.seconds, wanted.seed)
    for line in outcome.wrong:
        print(f"WRONG: {line}")
    print("failed" if outcome.wrong else "all is well", flush=True)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
