"""One load at a time, and what the switch did meanwhile: passes, upcalls, the processor's time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.stage import Stage, Way, inside

CONNECTIONS = 64  # at a time
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Result:
    """What one load came to."""

    rate: float  # units of work a second: connections, or Mbit
    lost: int = 0  # connections that failed
    counters: dict[str, float] = field(default_factory=dict)


def connections(stage: Stage, way: Way, seconds: int) -> Result:
    """New connections a second, each closed after one small answer."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "5s", "-H", "Connection: close"]
    with counted(stage) as counters:
        text = _run(inside(stage.client, *command, f"http://{way.address}:{way.web}/"), seconds)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate, f"wrk says no rate:\n{text}"
    counters["work"] = float(rate[1]) * seconds
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Result(float(rate[1]), sum(map(int, errors.groups())) if errors else 0, counters)


def throughput(stage: Stage, way: Way, seconds: int, *, down: bool) -> Result:
    """Mbit/s of one TCP connection, from or to the provider."""
    command = ["iperf3", "--client", way.address, "--port", str(way.bulk), "--time", str(seconds), "--json"]
    with counted(stage) as counters:
        text = _run(inside(stage.client, *command, *(["--reverse"] if down else [])), seconds)
    received = json.loads(text)["end"]["sum_received"]
    counters["work"] = 8 * received["bytes"] / 1e6
    return Result(received["bits_per_second"] / 1e6, 0, counters)


def download(stage: Stage, way: Way, seconds: int) -> Result:
    """From the provider."""
    return throughput(stage, way, seconds, down=True)


def upload(stage: Stage, way: Way, seconds: int) -> Result:
    """To the provider."""
    return throughput(stage, way, seconds, down=False)


def _run(command: list[str], seconds: int) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def counted(stage: Stage) -> Iterator[dict[str, float]]:
    """Fills in, at the end, what the switch did meanwhile; conntrack and datapath are empty at the start."""
    ovs = stage.lab.instance
    ovs.flush_conntrack()
    ovs.appctl("revalidator/purge")
    ovs.appctl("dpif-netdev/pmd-stats-clear")
    out: dict[str, float] = {}
    start, before = time.monotonic(), _cpu(ovs.switch_pid)
    children, machine = os.times(), _machine()
    yield out
    took = time.monotonic() - start
    out["took"] = took
    out["switch_cpu"] = (_cpu(ovs.switch_pid) - before) / took
    after = os.times()
    out["client_cpu"] = (
        after.children_user + after.children_system - children.children_user - children.children_system
    ) / took
    idle, total = (b - a for a, b in zip(machine, _machine(), strict=True))
    out["idle"] = idle / total
    text = ovs.appctl("dpif-netdev/pmd-stats-show")
    for name, label in (
        ("packets", "packets received"),
        ("recirculations", "packet recirculations"),
        ("passes", "avg. datapath passes per packet"),
        ("emc", "emc hits"),
        ("megaflow", "megaflow hits"),
        ("subtables", "avg. subtable lookups per megaflow hit"),
        ("upcalls", "miss with success upcall"),
        ("lost_upcalls", "miss with failed upcall"),
    ):
        found = re.findall(re.escape(label) + r": ([\d.]+)", text)
        values = [float(value) for value in found]
        # averages are of one thread that forwards; counts of all
        out[name] = max(values, default=0) if label.startswith("avg") else sum(values)
    out["conntrack"] = float(len(ovs.conntrack()))
    out["megaflows"] = float(len(megaflows(stage)))


def megaflows(stage: Stage) -> list[str]:
    """The flows of the datapath, a line each."""
    lines = stage.lab.instance.appctl("dpctl/dump-flows").splitlines()
    return [line for line in lines if "actions:" in line]


def _cpu(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / _TICKS


def _machine() -> tuple[int, int]:
    """Ticks of all processors: idle, and all."""
    values = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return values[3] + values[4], sum(values)


Measure = Callable[[Stage, Way, int], Result]
