"""This host's way to its containers and VIPs, theirs to the world, and published ports: kept as the model says.

The switch has the other half (`ryu_apps.pipeline.features.outside`). What is in the kernel stays when the agent ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from netctl.agent import hostlink, kernel_rules
from netctl.agent.closed import closed
from netctl.agent.errors import SwitchError
from netctl.agent.hostport import HostPorts
from netctl.agent.kernel_rules import NOTHING, Closed, KernelRules, Published
from netctl.agent.state import State, Subnet, subnets_of
from topology import private
from topology.model import HOST_BASE
from topology.reach import HIDDEN, PUBLISHED, host_address6, reached

LOG = logging.getLogger(__name__)
INTERVAL = 3.0  # s between two looks at the device: it is made anew when Open vSwitch is
RULES_INTERVAL = 9.0  # s between two looks at the kernel's rules: somebody may have flushed them
FORWARDING = "forwarding"  # file in the state directory: which boot's forwarding was turned on here
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the model wants of this host's kernel."""

    address: IPv4Address
    subnets: tuple[Subnet, ...]  # of both families
    published: tuple[Published, ...]
    forward: bool  # whether packets are to pass through this host
    mtu: int = 1500  # of what may be sent on to another host's containers
    closed: Closed = NOTHING  # what containers never reach


def wish(state: State) -> Wish | None:
    """As things are now; None: the model, or this host's address in it, is not known yet."""
    with state.changed:
        if not state.followed or state.host_address is None:
            return None
        networks = list(state.model.values())
        published = tuple(_published(state))
        both = [(n["number"], subnets_of(n)) for n in networks]
        subnets: list[Subnet] = reached((number, s.subnet, s.subnet) for number, s in both)
        subnets += reached((number, s.subnet6, s.subnet6) for number, s in both if s.subnet6)
        forward = bool(published) or any(n.get("nat") for n in networks)
        return Wish(state.host_address, tuple(subnets), published, forward, state.mtu, closed(state))


def _published(state: State) -> Iterator[Published]:
    for key, service in state.published.items():
        address = IPv4Address(service["publishedAddress"])
        for text in service["publish"]:
            port, target, protocol = (*text.split(":"), "TCP")[:3]
            yield Published(int(port), protocol, address, int(target), key)


class Outside:
    """Carries it out, and looks after it. ``report``: called when the lines for the user are others."""

    def __init__(self, device: str, state: State, state_dir: Path, report: Callable[[], None]) -> None:
        self._device = device
        self._state = state
        self._state_dir = state_dir
        self._report = report
        self._rules = KernelRules()
        self._rules6 = KernelRules("ip6tables")
        self._any6 = True  # whether there may be anything of IPv6
        self._ports = HostPorts()
        self._looked: dict[KernelRules, tuple[dict[str, kernel_rules.Table], float]] = {}  # what was wished; monotonic
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
            self._state.pulse.within()
            wanted = wish(self._state)
            if wanted is not None and self._state.troubles.say("outside", self.carry_out(wanted)):
                self._report()
            self._state.wait(lambda: self._stop or wish(self._state) != wanted, INTERVAL)  # noqa: B023 - at once

    def carry_out(self, wanted: Wish) -> dict[str, str]:
        """Make the kernel be so. Returns what could not be: a line each, by what it is about."""
        control = {(port, protocol.upper()) for protocol, port in wanted.closed.ports}
        refused = self._ports.hold([(one.port, one.protocol) for one in wanted.published], control)
        troubles = {
            f"publish {one.name}": f"{one.service}: {refused[one.port, one.protocol]}"
            for one in wanted.published
            if (one.port, one.protocol) in refused
        }
        free = tuple(one for one in wanted.published if (one.port, one.protocol) not in refused)
        for name, work in (("outside", self._ipv4), ("outside IPv6", self._ipv6)):
            try:
                elsewhere = work(replace(wanted, published=free))
            except (SwitchError, OSError) as error:
                self._looked.clear()
                troubles[name] = str(error)
            else:
                troubles |= {f"route {subnet}": f"not taken over: {why}" for subnet, why in elsewhere.items()}
        return troubles

    # What may not pass comes first: without the rules the device has no address, and nothing passes.

    def _ipv4(self, wanted: Wish) -> dict[Subnet, str]:
        self._ensure(self._rules, kernel_rules.wanted(self._device, wanted.published, wanted.closed))
        subnets = [subnet for subnet in wanted.subnets if subnet.version == 4]
        elsewhere = hostlink.ensure(self._device, wanted.address, [HIDDEN, PUBLISHED, *subnets], wanted.mtu)
        if wanted.forward and not hostlink.forwards():
            private.make_directory(self._state_dir)
            # for `make down`, which turns it off again
            private.write(self._state_dir / FORWARDING, BOOT_ID.read_text())
            hostlink.forward()
            LOG.info("net.ipv4.ip_forward is on now: a network with nat, or a published port, needs it")
        return elsewhere

    def _ipv6(self, wanted: Wish) -> dict[Subnet, str]:
        subnets = [subnet for subnet in wanted.subnets if subnet.version == 6]
        elsewhere: dict[Subnet, str] = {}
        if subnets:
            self._ensure(self._rules6, kernel_rules.wanted6(self._device))
            address = host_address6(int(wanted.address) - int(HOST_BASE))
            elsewhere = hostlink.ensure(self._device, address, subnets, wanted.mtu)
        elif self._any6:
            hostlink.clear6(self._device)
        self._any6 = bool(subnets)
        return elsewhere

    def _ensure(self, rules: KernelRules, tables: dict[str, kernel_rules.Table]) -> None:
        wished, when = self._looked.get(rules, ({}, 0.0))
        if tables != wished or time.monotonic() >= when + RULES_INTERVAL:
            rules.ensure(tables)
            self._looked[rules] = tables, time.monotonic()
