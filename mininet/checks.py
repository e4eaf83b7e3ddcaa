"""What a topology is tested for, one printed line a step."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Collection

import probe
from deadline import TooLate, wait_for
from fabric import Fabric, HostPlan


class Report:
    """Prints each step as it is done, and counts those that failed."""

    def __init__(self) -> None:
        self.steps = 0
        self.failed = 0

    def step(self, text: str, passed: bool = True) -> None:
        """One step."""
        self.steps += 1
        self.failed += not passed
        print(f"  {'ok  ' if passed else 'FAIL'}  {text}", flush=True)

    @staticmethod
    def say(text: str) -> None:
        """A line that is no step."""
        print(text, flush=True)


class Checks:
    """The tests of one fabric."""

    def __init__(self, fabric: Fabric, report: Report) -> None:
        self._fabric = fabric
        self._report = report

    def vip(self, client: str, vip: str, port: int, providers: Collection[str], connections: int) -> None:
        """All connections are answered, and each provider has a part of them."""
        host = self._fabric.host(client)
        answers = Counter(probe.connect(host, vip, port) for _ in range(connections))
        good = [answers[name] for name in providers if answers[name]]
        self._report.step(
            f"{client} connects to {vip}:{port}: {sum(good)} of {connections} answered, "
            f"by {len(good)} of {len(providers)} providers",
            set(answers) == set(providers),
        )
        addresses = {h.name: h.address for h in self._fabric.plan.hosts}
        self._report.say(f"        {'provider':<10} {'address':<15} connections")
        for name in sorted({*answers, *providers}):
            self._report.say(f"        {name:<10} {addresses.get(name, ''):<15} {answers[name]:>11}")

    def straight(self, client: str, provider: HostPlan, port: int) -> None:
        """Beside the VIP, a provider answers at its own address."""
        answer = probe.connect(self._fabric.host(client), provider.address, port)
        text = f"{client} connects straight to {provider.address}:{port}: {answer}"
        self._report.step(text, answer == provider.name)

    def ping(self, source: str, address: str, what: str) -> None:
        """An echo request is answered."""
        time = probe.ping(self._fabric.host(source), address)
        took = "no answer" if time is None else f"{time:g} ms"
        self._report.step(f"{source} pings {what} {address}: {took}", time is not None)

    def all_pairs(self, when: str) -> None:
        """Every host reaches every other."""
        hosts = self._fabric.plan.hosts
        pairs = [(a, b) for a in hosts for b in hosts if a is not b]
        lost = [f"{a.name}→{b.name}" for a, b in pairs if probe.ping(self._fabric.host(a.name), b.address) is None]
        text = f"{when}: {len(pairs) - len(lost)} of {len(pairs)} pairs of hosts reach each other"
        self._report.step(text + (f", not {' '.join(lost[:8])}" if lost else ""), not lost)

    def vip_from_everywhere(self, when: str, vip: str, port: int, providers: Collection[str], connections: int) -> None:
        """From each host all connections are answered; all together meet each provider."""
        hosts = self._fabric.plan.hosts
        answers = Counter(
            probe.connect(self._fabric.host(host.name), vip, port) for host in hosts for _ in range(connections)
        )
        good = sum(answers[name] for name in providers)
        self._report.step(
            f"{when}: {good} of {connections * len(hosts)} connections to {vip}:{port} answered, "
            f"from {len(hosts)} hosts by {len(set(answers) & set(providers))} of {len(providers)} providers",
            set(answers) == set(providers),
        )

    def link(self, number: int, state: str) -> None:
        """A link goes down or comes up, and the controller knows."""
        fabric = self._fabric
        one, other = fabric.plan.links[number]
        fabric.set_link(number, state)
        ports = frozenset(fabric.ports_of(number))
        try:
            wait_for(
                lambda: (ports in fabric.links()) == (state == "up") and fabric.settled(),
                f"the link to be known to be {state}, by all switches",
            )
        except TooLate as late:
            self._report.step(str(late), passed=False)
            return
        self._report.step(f"link {one}-{other} is {state}")

    def learned(self, *hosts: HostPlan) -> None:
        """Hosts that nobody registered are known by now, where they are; REST and `netctl ep ls` say so."""
        for host in hosts:
            try:
                wait_for(lambda h=host: self._seen(h), f"host {host.name} to be learned", 5)  # type: ignore[misc]
            except TooLate as late:
                self._report.step(str(late), passed=False)
                continue
            network = self._fabric.own(host.network.name)
            self._report.step(f"{host.name} is learned: {host.address} in {network}, at {self._port(host)}")
        rows = self._listed()
        shown = [row for row in rows if row.startswith("learned-")]
        missing = [h.name for h in hosts if not any(h.address in row.split() for row in shown)]
        text = "netctl ep ls shows them" if not missing else f"netctl ep ls does not show {', '.join(missing)}"
        self._report.step(text, not missing)
        for row in rows[:1] + shown:
            self._report.say(f"        {row}")

    def unknown(self, *hosts: HostPlan) -> None:
        """Nobody knows these hosts."""
        known = [h.name for h in hosts if self._seen(h)]
        names = ", ".join(h.name for h in hosts)
        self._report.step(f"nobody has heard of {names} yet" if not known else f"known already: {known}", not known)

    def _port(self, host: HostPlan) -> str:
        return self._fabric.port_of(host.name)

    def _seen(self, host: HostPlan) -> bool:
        return any(
            e.get("origin") == "learned"
            and e.get("ipAddress") == [host.address]
            and e.get("networkName") == self._fabric.own(host.network.name)
            and e.get("portName") == self._port(host)
            and e.get("switch") == self._fabric.dpid(host.switch)
            for e in self._fabric.client.endpoints()
        )

    def _listed(self) -> list[str]:
        """What a user sees."""
        command = [sys.executable, "-m", "netctl.cli", "--netmaster", self._fabric.client.url, "endpoint", "ls"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            return [done.stderr.strip()]
        return done.stdout.splitlines()
