"""One tenant's flood of SYNs at its own VIP, beside another tenant's client: what each of them gets.

    python -m tests.bench.flood                 # 45,000 a second for 10 s, with the agent's default limit
    python -m tests.bench.flood --no-limit      # the same without the limit

As root, with an Open vSwitch of its own; removes what it made.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

from netctl.agent.bridge import Bridge
from netctl.agent.limits import Limits, zones_of
from netctl.agent.ovsdb import Ovsdb
from netctl.agent.state import State
from tests.bench.__main__ import working_directory
from tests.bench.stage import inside
from tests.kit import frames, ovs, private_ovs
from tests.kit.controller import ROOT
from tests.kit.hosts import Host
from tests.kit.lab import Lab, lab
from tests.kit.ovs import run, wait_for
from tests.kit.private_ovs import private

PORTS = range(80, 86)  # with a client's 64,000 ports, more connections than the limit
SOURCE_PORTS = range(1024, 65536)
STEP = 0.01  # s between two bursts
VIPS = {"blue": "100.1.1.1", "red": "100.2.1.1"}


def send(mac: str, sender: str, target: str, rate: int, seconds: float) -> None:
    """In the flooding container: as many SYNs a second, each of a connection of its own."""
    made = [frames.syn(mac, sender, target, source, port) for port in PORTS for source in SOURCE_PORTS]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind(("eth0", 0))
        print("ready", flush=True)
        sys.stdin.readline()
        began, sent = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            while sent < (now - began) * rate:
                with contextlib.suppress(BlockingIOError, OSError):
                    out.send(made[sent % len(made)])
                sent += 1
            time.sleep(max(0.0, STEP - (time.monotonic() - now)))
        print(sent / (time.monotonic() - began), flush=True)


def client(host: Host, address: str, seconds: float) -> tuple[int, int, float]:
    """New connections, one after the other: how many opened, how many not, and how long the slowest took, in s."""
    good = bad = 0
    slowest, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            host.ask("tcp", address, 80, timeout=5)
            good += 1
        except OSError:
            bad += 1
        slowest = max(slowest, time.monotonic() - began)
    return good, bad, slowest


def stage(made: Lab) -> dict[str, Host]:
    """Two tenants, each with a service, a provider and a client. What is sent to the first's provider is dropped."""
    hosts = {}
    for number, tenant in enumerate(VIPS, 1):
        made.rest.put_tenant(tenant)
        made.network("srv", f"100.{number}.1.0/24", tenant=tenant)
        made.network("web", f"10.{number}.1.0/24", f"10.{number}.1.254", tenant=tenant)
        made.service("app", "srv", [f"{p}:{p}:TCP" for p in PORTS], ["tier=web"], tenant=tenant, vip=VIPS[tenant])
        for name, address in ((f"w{number}", 1), (f"c{number}", 9)):
            labels = {"tier": "web"} if name[0] == "w" else {}
            hosts[name] = made.host(name, "web", f"10.{number}.1.{address}", labels, tenant)
    hosts["w2"].serve("tcp:80")
    run("ip", "-n", hosts["w1"].netns, "address", "flush", "dev", "eth0")
    made.settled()
    wait_for(lambda: hosts["c2"].reaches("tcp", VIPS["red"], 80), "the VIP to answer")
    return hosts


def limited(made: Lab) -> Limits:
    """The agent's part that keeps the limit, with its default."""
    state = State("h1")
    state.set_tenants({name: {"number": number} for number, name in enumerate(("default", *VIPS), 1)})
    bridge = Bridge(Ovsdb(made.instance.database), made.bridge, "h1", [made.controller.target], "netdev")
    bridge.ensure()
    made.settled()
    return Limits(bridge, made.instance.database, 0, state, lambda: None)


def flood(directory: Path, rate: int, seconds: float, *, with_limit: bool) -> None:
    """Measure, and print."""
    with private("b") as instance, lab(directory, instance) as made:
        hosts = stage(made)
        if with_limit:
            limited(made).ensure()
        calm = client(hosts["c2"], VIPS["red"], 3)
        flooder = hosts["c1"]
        options = [flooder.mac, flooder.ip, VIPS["blue"], str(rate), str(seconds)]
        command = inside(flooder, sys.executable, "-m", "tests.bench.flood", "--send", *options)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as sender:
            assert sender.stdin is not None and sender.stdout is not None
            assert sender.stdout.readline() == "ready\n"
            sender.stdin.write("go\n")
            sender.stdin.flush()
            during = client(hosts["c2"], VIPS["red"], seconds)
            sent = float(sender.stdout.readline())
        zones = zones_of(instance.appctl("dpctl/ct-get-limits"))
        total = instance.appctl("dpctl/ct-get-nconns").strip()
        refused = made.rest.switch(made.dpid).get("refusedByLimit", {})
        print(f"sent                       {sent:,.0f} SYNs/s for {seconds:g} s")
        for name, (good, bad, slowest) in (("before", calm), ("meanwhile", during)):
            shown = f"{good} connections, {bad} failed, the slowest took {slowest * 1000:.0f} ms"
            print(f"the other tenant, {name:9} {shown}")
        print(f"the switch remembers       {int(total):,} connections")
        for zone, found in sorted(zones.items()):
            if found.count:
                print(f"  zone {zone:<5}               {found.count:,} of at most {found.limit:,}")
        print(f"packets refused            {refused}")


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["--send"]:
        mac, sender, target, rate, seconds = sys.argv[2:]
        send(mac, sender, target, int(rate), float(seconds))
        return
    options = argparse.ArgumentParser(prog="flood", description=__doc__)
    options.add_argument("--rate", type=int, default=45_000, help="SYNs a second")
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--no-limit", action="store_true")
    asked = options.parse_args()
    private_ovs.sweep()
    ovs.sweep()
    with working_directory() as directory:
        flood(directory, asked.rate, asked.seconds, with_limit=not asked.no_limit)


if __name__ == "__main__":
    main()
