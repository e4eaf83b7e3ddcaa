"""The command line that the topologies share: build, test or hand over to Mininet's prompt, take down.

Exit status: 0 all is well; 1 a test failed; 2 it could not be built, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import probe
from checks import Checks, Report
from deadline import TooLate
from fabric import CannotStart, Fabric, Plan, Subnets
from mininet.cli import CLI  # type: ignore[import-untyped]

from netctl.client import DEFAULT_URL, Client, ClientError

Tests = Callable[[Checks, Fabric, dict[str, str], int], None]
"""What to test: with the VIPs by service name, and a number of connections."""


def run(description: str, name: str, subnet: str, plan: Callable[[Subnets], Plan], tests: Tests) -> int:
    """All of a script; its exit status."""
    options = _options(description, name, subnet)
    signal.signal(signal.SIGTERM, _ended)
    try:
        if os.geteuid():
            raise CannotStart("must run as root")
        subnets = Subnets(options.subnet)
        with Client(options.netmaster) as client:
            client.version()
            return _run(Fabric(plan(subnets), options.name, client, options.controller_port), tests, options)
    except (CannotStart, ClientError, TooLate, ValueError) as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _options(description: str, name: str, subnet: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--name", default=name, help="what names of switches and in the controller begin with (%(default)s)")
    add("--subnet", default=subnet, metavar="CIDR", help="what its networks are cut from (%(default)s)")
    add("--controller-port", type=int, default=6653, metavar="PORT", help="OpenFlow port on 127.0.0.1 (%(default)s)")
    add(
        "--netmaster",
        default=os.environ.get("NETMASTER") or DEFAULT_URL,
        metavar="URL",
        help="REST of the controller (%(default)s)",
    )
    add("--test", action="store_true", help="test, then take it down; otherwise Mininet's prompt")
    add("--connections", type=int, default=60, metavar="N", help="connections to the VIP in a test (%(default)s)")
    return parser.parse_args()


def _ended(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends us as an exception does: taking down what there is."""
    raise SystemExit(128 + signal.SIGTERM)


def _run(fabric: Fabric, tests: Tests, options: argparse.Namespace) -> int:
    report = Report()
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(report.say, "Taken down")
        at_the_end.callback(fabric.clear)
        at_the_end.callback(fabric.stop)
        listeners = probe.Listeners()
        at_the_end.callback(listeners.stop)
        vips = _build(fabric, listeners, report)
        if options.test:
            report.say("Tests")
            tests(Checks(fabric, report), fabric, vips, options.connections)
        else:
            for plan in fabric.plan.services:
                report.say(f"Try: NAME nc -w 1 {vips[plan.name]} {plan.port}, NAME ping ADDRESS; `exit` takes all down")
            CLI(fabric.mininet)
    if options.test:
        report.say(f"{report.steps} steps, {report.failed} failed")
    return 1 if report.failed else 0


def _build(fabric: Fabric, listeners: probe.Listeners, report: Report) -> dict[str, str]:
    """Switch, hosts, networks, services, registrations, listeners; the VIPs by service name."""
    plan = fabric.plan
    report.say("Set-up")
    fabric.start()
    for switch in plan.switches:
        hosts = sum(host.switch == switch for host in plan.hosts)
        links = sum(switch in link for link in plan.links)
        joined = f" and {links} links" if links else ""
        name, dpid = fabric.bridge(switch), fabric.dpid(switch)
        report.step(f"switch {name} ({dpid}) is in the controller, with {hosts} hosts{joined}")
    for network in plan.networks:
        fabric.register_network(network)
        gateway = f", gateway {network.gateway}" if network.gateway else ""
        report.step(f"network {fabric.own(network.name)} {network.subnet}{gateway}")
    vips = {}
    for service in plan.services:
        vips[service.name] = vip = fabric.register_service(service)
        labels = " ".join(f"{k}={v}" for k, v in service.labels.items())
        report.step(f"service {fabric.own(service.name)} {vip}:{service.port}, of port {service.target} of {labels}")
    for host in plan.hosts:
        where = f"{host.name} {host.address} in {fabric.own(host.network.name)}"
        if host.labels is None:
            report.step(f"not registered: {where}")
            continue
        fabric.register_host(host)
        labels = "".join(f", {k}={v}" for k, v in host.labels.items())
        report.step(f"registered: {where}{labels}")
        for service in plan.services:
            if service.labels.items() <= host.labels.items():
                listeners.add(fabric.host(host.name), service.target)
    listeners.start()
    return vips
