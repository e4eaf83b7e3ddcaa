"""This host's way to its containers and VIPs, theirs to the world, and published ports: kept as the model says.

The switch has the other half (`ryu_apps.pipeline.features.outside`). What is in the kernel stays when the agent ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from netctl.agent import hostlink, kernel_rules
from netctl.agent.errors import SwitchError
from netctl.agent.hostport import HostPorts
from netctl.agent.kernel_rules import KernelRules, Published
from netctl.agent.state import State, subnets_of
from topology.reach import reached

LOG = logging.getLogger(__name__)
INTERVAL = 3.0  # s between two looks at the device: it is made anew when Open vSwitch is
RULES_INTERVAL = 9.0  # s between two looks at the kernel's rules: somebody may have flushed them
FORWARDING = "forwarding"  # file in the state directory: which boot's forwarding was turned on here
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the model wants of this host's kernel."""

    address: IPv4Address
    subnets: tuple[IPv4Network, ...]
    published: tuple[Published, ...]
    forward: bool  # whether packets are to pass through this host


def wish(state: State) -> Wish | None:
    """As things are now; None: the model, or this host's address in it, is not known yet."""
    with state.changed:
        if not state.followed or state.host_address is None:
            return None
        networks = list(state.model.values())
        published = tuple(_published(state))
        subnets = reached((n["number"], s, s) for n in networks for s in (subnets_of(n).subnet,))
        forward = bool(published) or any(n.get("nat") for n in networks)
        return Wish(state.host_address, tuple(subnets), published, forward)


def _published(state: State) -> Iterator[Published]:
    for key, service in state.published.items():
        address = IPv4Address(service["publishedAddress"])
        for text in service["publish"]:
            port, target, protocol = text.split(":")
            yield Published(int(port), protocol, address, int(target), key)


class Outside:
    """Carries it out, and looks after it. ``report``: called when the lines for the user are others."""

    def __init__(self, device: str, state: State, state_dir: Path, report: Callable[[], None]) -> None:
        self._device = device
        self._state = state
        self._state_dir = state_dir
        self._report = report
        self._rules = KernelRules()
        self._ports = HostPorts()
        self._done: Wish | None = None
        self._looked = 0.0  # at the rules, monotonic
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="outside", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. All stays as it is."""
        with self._state.changed:
            self._stop = True
            self._state.changed.notify_all()

    def _run(self) -> None:
        while not self._stop:
            wanted = wish(self._state)
            if wanted is not None and self._state.troubles.say("outside", self.carry_out(wanted)):
                self._report()
            self._state.wait(lambda: self._stop or wish(self._state) != wanted, INTERVAL)  # noqa: B023 - at once

    def carry_out(self, wanted: Wish) -> dict[str, str]:
        """Make the kernel be so. Returns what could not be: a line each, by what it is about."""
        refused = self._ports.hold([(one.port, one.protocol) for one in wanted.published])
        troubles = {
            f"publish {one.name}": f"{one.service}: {refused[one.port, one.protocol]} on this host, not taken over"
            for one in wanted.published
            if (one.port, one.protocol) in refused
        }
        free = [one for one in wanted.published if (one.port, one.protocol) not in refused]
        try:
            # what may not pass first: without the rules the device has no address, and nothing passes
            if wanted != self._done or time.monotonic() >= self._looked + RULES_INTERVAL:
                self._rules.ensure(kernel_rules.wanted(self._device, free))
                self._looked = time.monotonic()
            elsewhere = hostlink.ensure(self._device, wanted.address, wanted.subnets)
            if wanted.forward and hostlink.forward():
                LOG.info("net.ipv4.ip_forward is on now: a network with nat, or a published port, needs it")
                (self._state_dir / FORWARDING).write_text(BOOT_ID.read_text())
        except (SwitchError, OSError) as error:
            self._done = None
            return troubles | {"outside": str(error)}
        self._done = wanted
        return troubles | {f"route {subnet}": f"not taken over: {why}" for subnet, why in elsewhere.items()}
