"""A controller with few or many services: what a change costs, and a restart with nothing to do."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from netctl.client import NoConnection
from tests.kit.controller import Controller
from tests.kit.docs import endpoint_doc, host_doc, network_doc, service_doc
from tests.kit.ovs import Instance, wait_for
from topology.commands import Commands
from topology.documents import ServiceDoc
from topology.model import Change
from topology.snapshot import Model
from topology.sqlite_store import SqliteStore

PER_TIER = 10  # services that select the same providers: so that a change is as big in a small model as in a big one
PROVIDERS = 4  # of each service
ELSEWHERE = 0xE15E  # the switch of the providers: not the one that is measured
DEADLINE = 90.0  # seconds to fill a switch


def populate(store: Path, services: int) -> None:
    """Write a store with so many services. Their providers are on another switch, so that they need no ports here."""
    memory = SqliteStore(":memory:")
    commands = Commands(Model(), memory)
    commands.put_host(host_doc("elsewhere", ELSEWHERE, "192.0.2.9"))
    commands.put_network(network_doc("default", "srv", "100.0.0.0/16"))
    commands.put_network(network_doc("default", "web", "10.1.0.0/16", "10.1.255.254"))
    for tier in range(services // PER_TIER):
        for number in range(PROVIDERS):
            position = tier * PROVIDERS + number + 1
            commands.put_endpoint(
                endpoint_doc(
                    id=f"w{position}",
                    tenant="default",
                    network="web",
                    addresses=[f"10.1.{position >> 8}.{position & 255}"],
                    switch=ELSEWHERE,
                    port_name=f"p{position}",
                    labels={"tier": str(tier)},
                )
            )
        for number in range(PER_TIER):
            position = tier * PER_TIER + number + 1
            vip = f"100.0.{position >> 8}.{position & 255}"
            commands.put_service(service_doc("default", f"s{position}", "srv", vip, [f"tier={tier}"], ["8080:80:TCP"]))
    _, objects, meta = memory.load()
    memory.close()
    file = SqliteStore(store)
    file.commit(0, [Change(None, value) for value in objects], meta)
    file.close()


class Restart(NamedTuple):
    """What a restart with an unchanged model came to; seconds."""

    services: int
    flows: int
    filled: float  # before: from nothing
    answering: float
    settled: float
    mods: int
    dump: float  # by ovs-ofctl


class Scaled:
    """A bridge whose controller has so many services."""

    def __init__(self, ctl: Controller, instance: Instance, bridge: str, services: int) -> None:
        self.controller = ctl
        self.instance = instance
        self.bridge = bridge
        self.services = services
        self.dpid = instance.vsctl("get", "bridge", bridge, "datapath_id").strip('"')
        self.fill_seconds = 0.0
        self._target = 80

    def fill(self) -> None:
        """Connect the empty switch, and wait until all is in it."""
        start = time.monotonic()
        self.instance.vsctl("set-controller", self.bridge, self.controller.target)
        self.instance.vsctl("set", "controller", self.bridge, "max_backoff=1000", "inactivity_probe=60000")
        self._settled()
        self.fill_seconds = time.monotonic() - start

    def _settled(self) -> None:
        wait_for(self._is_settled, f"{self.services} services in the switch", DEADLINE)

    def _is_settled(self) -> bool:
        try:
            return bool(self.document.get("settled"))
        except NoConnection:
            return False  # it compiles, and does nothing else meanwhile

    @property
    def document(self) -> dict[str, object]:
        """Of the switch, by REST."""
        return self.controller.switch(self.dpid)

    def change(self) -> float:
        """Another target port of one service: seconds until the switch has it."""
        self._target ^= 1
        doc = ServiceDoc(
            tenantName="default", serviceName="s7", networkName="srv", ipAddress="100.0.0.7",
            selectors=["tier=0"], ports=[f"8080:{self._target}:TCP"],
        )  # fmt: skip
        start = time.monotonic()
        self.controller.client.put_service(doc)  # answers when the switches have it
        return time.monotonic() - start

    def restart(self) -> tuple[float, float, int]:
        """Stop it and start it with the same model: seconds to REST, seconds to a settled switch, mods sent."""
        self.controller.stop()
        start = time.monotonic()
        self.controller.start()
        answering = time.monotonic() - start
        self._settled()
        settled = time.monotonic() - start
        document = self.document
        return answering, settled, int(str(document["flowMods"])) + int(str(document["groupMods"]))

    def ofctl_dump(self) -> float:
        """Seconds that ovs-ofctl takes to read all flows and groups."""
        start = time.monotonic()
        self.instance.ofctl("dump-flows", self.bridge)
        self.instance.ofctl("dump-groups", self.bridge)
        return time.monotonic() - start

    def ofctl_change(self, files: Path) -> float:
        """Seconds that ovs-ofctl takes to put one flow in, by a bundle."""
        file = files / "one.flows"
        file.write_text("table=250,priority=1,in_port=1,actions=drop\n")
        start = time.monotonic()
        self.instance.ofctl("--bundle", "add-flows", self.bridge, str(file))
        return time.monotonic() - start


@contextlib.contextmanager
def scaled(directory: Path, instance: Instance, host: str, services: int) -> Iterator[Scaled]:
    """A filled switch."""
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(instance.bridge(f"s{services}"))
        instance.add_tunnel_port(bridge)  # or the providers could not be reached, and would not be selected
        made = Controller(directory, host)
        populate(made.store, services)
        stack.callback(made.close)
        made.start()
        out = Scaled(made, instance, bridge, services)
        out.fill()
        yield out


def changes(few: Scaled, many: Scaled, rounds: int) -> tuple[float, float]:
    """Median seconds of one change with few and with many services, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for one, into in zip((few, many), times, strict=True):
            into.append(one.change())
    return statistics.median(times[0]), statistics.median(times[1])
