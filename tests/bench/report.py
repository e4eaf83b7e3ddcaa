"""The tables that ``make bench`` prints: medians of ratios within a round, with the least and the greatest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import median

from tests.bench.load import Result
from tests.bench.scale import Restart
from tests.kit.ovs import run

WIDTH = 34  # of the first column


def ratio_text(values: Sequence[float]) -> str:
    """Median, least and greatest."""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


class Report:
    """Prints as it goes."""

    def __init__(self) -> None:
        version = run("ovs-vswitchd", "--version").splitlines()[0].split()[-1]
        print(f"Open vSwitch {version}, datapath netdev, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}.")
        print("Ratios are of neighbours in one round: median (least-greatest). The other numbers are this machine's.")

    def _row(self, name: str, *columns: str) -> None:
        print(f"  {name:<{WIDTH}}" + "".join(f"{column:>20}" for column in columns), flush=True)

    def ratios(self, title: str, unit: str, names: Sequence[str], got: Sequence[Sequence[Result]]) -> None:
        """One load by all ways: rates, ratios to both baselines, and where the rest goes."""
        print(f"\n{title}")
        rate = "connections/s" if unit == "connection" else f"{unit}/s"
        self._row("", rate, "÷ no service", "÷ service port", "switch", "client", "machine idle")
        for name, results in zip(names, got, strict=True):
            plain, beside = ([r.rate / b.rate for r, b in zip(results, got[base], strict=True)] for base in (0, 1))
            self._row(
                name,
                f"{median(r.rate for r in results):.0f}",
                ratio_text(plain) if results is not got[0] else "1",
                ratio_text(beside) if results not in (got[0], got[1]) else "",
                f"{_mid(results, 'switch_cpu'):.0%} of a CPU",
                f"{_mid(results, 'client_cpu'):.0%} of a CPU",
                f"{_mid(results, 'idle'):.0%}",
            )
        self._row("where the rest goes", "passes/packet", "subtables/lookup", "upcalls", "megaflows", "conntrack")
        for name, results in zip(names, got, strict=True):
            self._row(
                name,
                f"{_mid(results, 'passes'):.2f}",
                f"{_mid(results, 'subtables'):.1f}",
                *(f"{_mid(results, key):.0f}" for key in ("upcalls", "megaflows", "conntrack")),
            )
        self._row("switch's processor time", f"us/{unit}", "÷ no service", "÷ service port")
        for name, results in zip(names, got, strict=True):
            costs = [_cost(r) for r in results]
            plain, beside = ([c / _cost(b) for c, b in zip(costs, got[base], strict=True)] for base in (0, 1))
            self._row(
                name,
                f"{median(costs):.1f}",
                ratio_text(plain) if results is not got[0] else "1",
                ratio_text(beside) if results not in (got[0], got[1]) else "",
            )
        lost = sum(r.lost for results in got for r in results)
        if lost:
            self._row("connections lost", str(lost))

    def one_service(self, result: Result) -> None:
        """A service over all the providers, from an empty datapath on."""
        counters = result.counters
        print("\nOne service over four providers, from an empty datapath on")
        self._row("connections", f"{counters['work']:.0f}", f"lost {result.lost}")
        self._row("megaflows", f"{counters['megaflows']:.0f}")
        self._row("upcalls", f"{counters['upcalls']:.0f}", f"{counters['upcalls'] / counters['work']:.4f} each")
        self._row("passes/packet", f"{counters['passes']:.2f}")

    def wire(self, got: dict[str, list[float]]) -> None:
        """Ours against ovs-ofctl."""
        print("\n10,000 into the switch, one bundle")
        self._row("", "ours, s", "ovs-ofctl, s", "ours ÷ ovs-ofctl")
        for kind, label in (("groups", "groups of 10 buckets"), ("flows", "flows")):
            ours, theirs = got[f"our_{kind}"], got[f"their_{kind}"]
            ratios = [o / t for o, t in zip(ours, theirs, strict=True)]
            self._row(label, f"{median(ours):.2f}", f"{median(theirs):.2f}", ratio_text(ratios))

    def change(self, few: int, many: int, few_seconds: float, many_seconds: float, ofctl: float) -> None:
        """One change, by REST, until the switch has it."""
        print("\nAnother target port of one service, REST to switch")
        self._row("", f"{few} services", f"{many} services", "ratio", "ovs-ofctl, one flow")
        self._row(
            "ms",
            f"{1000 * few_seconds:.1f}",
            f"{1000 * many_seconds:.1f}",
            f"{many_seconds / few_seconds:.2f}",
            f"{1000 * ofctl:.1f}",
        )

    def restart(self, got: Restart) -> None:
        """The controller again, with the same model."""
        print(f"\nController, {got.services} services, {got.flows} flows")
        self._row("", "s", "÷ ovs-ofctl's dump")
        for name, seconds in (
            ("ovs-ofctl dumps flows and groups", got.dump),
            ("an empty switch filled", got.filled),
            ("restart, unchanged: REST answers", got.answering),
            ("restart, unchanged: settled", got.settled),
        ):
            self._row(name, f"{seconds:.1f}", f"{seconds / got.dump:.1f}")
        self._row("flow and group mods sent", str(got.mods))

    def end(self, seconds: float) -> None:
        """The last line."""
        print(f"\nTook {seconds:.0f} s.")


def _mid(results: Sequence[Result], key: str) -> float:
    return median(r.counters[key] for r in results)


def _cost(result: Result) -> float:
    """Microseconds of the switch's processor time for a unit of work."""
    return 1e6 * result.counters["switch_cpu"] * result.counters["took"] / result.counters["work"]
