"""Measures how fast a service and the controller are, as ratios within this run. Bounded; removes what it made."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench import load, report, scale
from tests.bench.stage import Stage, stage
from tests.kit import ovs, private_ovs
from tests.kit.controller import DIES_WITH_US, ROOT, free_port
from tests.kit.private_ovs import Private, private

LIMIT = 290  # seconds for all of it
FEW, MANY = 100, 10_000  # services


class Plan(NamedTuple):
    """How much of each."""

    rounds: int = 16
    seconds: int = 1  # of each; wrk takes whole ones
    bulk_rounds: int = 8
    changes: int = 20
    wire_rounds: int = 3


QUICK = Plan(rounds=3, bulk_rounds=2, changes=5, wire_rounds=1)


def data_path(out: report.Report, plan: Plan, directory: Path, options: Sequence[str]) -> None:
    """Connections and throughput through a VIP and straight to its provider, in turns."""
    with stage(directory) as on:
        for option in options:
            on.lab.instance.vsctl("set", "Open_vSwitch", ".", f"other_config:{option}")
        load.connections(on, on.vip, plan.seconds)  # the first time has upcalls that the others have not
        names = [way.name for way in on.ways]
        for title, unit, measure, rounds in (
            ("New connections, each closed at once", "connection", load.connections, plan.rounds),
            ("Throughput, one connection, from the provider", "Mbit", load.download, plan.bulk_rounds),
            ("Throughput, one connection, to the provider", "Mbit", load.upload, plan.bulk_rounds),
        ):
            out.ratios(title, unit, names, in_turns(on, measure, rounds, plan.seconds))
        _spread(out, on, plan)


def in_turns(on: Stage, measure: load.Measure, rounds: int, seconds: int) -> list[list[load.Result]]:
    """The results of each way, by round; every other round goes the other way round, so that a drift cancels out."""
    got: list[list[load.Result]] = [[] for _ in on.ways]
    order = list(enumerate(on.ways))
    for number in range(rounds):
        for position, way in order if number % 2 == 0 else reversed(order):
            got[position].append(measure(on, way, seconds))
    return got


def _spread(out: report.Report, on: Stage, plan: Plan) -> None:
    on.lab.instance.appctl("revalidator/purge")
    out.one_service(load.connections(on, on.spread, 2 * plan.seconds))


def wire(out: report.Report, plan: Plan, instance: Private) -> None:
    """10,000 flows and groups, ours and ovs-ofctl's."""
    with instance.bridge("wire") as bridge:
        port = free_port(instance.controller_host)
        where = (instance.controller_host, str(port), bridge, str(plan.wire_rounds))
        command = [*DIES_WITH_US, sys.executable, "-m", "tests.bench.wire", *where]
        environment = {**os.environ, "OVS_RUNDIR": str(instance.directory), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as child:
            instance.vsctl("set-controller", bridge, f"tcp:{instance.controller_host}:{port}")
            instance.vsctl("set", "controller", bridge, "max_backoff=1000", "inactivity_probe=60000")
            try:
                text, _ = child.communicate(timeout=90)
            finally:
                child.kill()
        assert child.returncode == 0, "tests.bench.wire failed"
    out.wire(json.loads(text))


def controller(out: report.Report, plan: Plan, directory: Path, instance: Private) -> None:
    """A change, and a restart, with few and with many services."""
    with (
        # each on its own: an Open vSwitch has one tunnel port
        private("f") as other,
        scale.scaled(directory / "few", other, other.controller_host, FEW) as few,
        scale.scaled(directory / "many", instance, instance.controller_host, MANY) as many,
    ):
        one_flow = median(many.ofctl_change(directory) for _ in "123")
        out.change(FEW, MANY, *scale.changes(few, many, plan.changes), one_flow)
        document = many.document
        answering, settled, mods = many.restart()
        dump = median(many.ofctl_dump() for _ in "123")
        out.restart(scale.Restart(MANY, int(str(document["flows"])), many.fill_seconds, answering, settled, mods, dump))


def main() -> None:
    """Measure everything that was asked for."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
    options.add_argument("--only", choices=("path", "controller"), help="one half of it")
    options.add_argument(
        "--switch-option", action="append", default=[], metavar="KEY=VALUE", help="tried in the switch's other_config"
    )
    asked = options.parse_args()
    plan = QUICK if asked.quick else Plan()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _end)
    signal.alarm(LIMIT)
    private_ovs.sweep()  # what a run left that was killed outright
    ovs.sweep()
    start = time.monotonic()
    out = report.Report()
    with working_directory() as directory, contextlib.suppress(KeyboardInterrupt):
        if asked.only != "controller":
            data_path(out, plan, directory, asked.switch_option)
        if asked.only != "path":
            with private("b") as instance:
                wire(out, plan, instance)
                controller(out, plan, directory, instance)
        out.end(time.monotonic() - start)


@contextlib.contextmanager
def working_directory() -> Iterator[Path]:
    """For stores and logs. Its lock says to the next run's sweep whether it is still in use."""
    with tempfile.TemporaryDirectory(prefix="tst-bench-") as name, (Path(name) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def _end(number: int, _frame: object) -> None:
    signal.alarm(0)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # once is enough: what was made is removed now
    if number == signal.SIGALRM:
        raise SystemExit(f"bench: not done within {LIMIT} s")
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
