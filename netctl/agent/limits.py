"""How many connections the switch remembers of one tenant, so that its flood is not another tenant's outage.

A tenant has two zones: its connections to services, and all others of it (to itself by a service, to and from the host
and the outside). Each has the limit. What goes to the outside takes a place in the host kernel's own table as well,
which is mostly smaller: where the user says nothing, that counts for the second zone. The switch forgets limits when
it ends, so they are compared at every look.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from netctl.agent import unixctl
from netctl.agent.bridge import Bridge
from netctl.agent.daemons import control_socket
from netctl.agent.errors import SwitchError
from netctl.agent.state import State
from topology.reach import SECOND_ZONES
from topology.text import one_line

LOG = logging.getLogger(__name__)

PART = "limits of connections"
SHARE = 20  # a zone's part of the table, where the user says nothing: two zones are a tenth of it
KERNELS_TABLE = Path("/proc/sys/net/netfilter/nf_conntrack_max")
AT_ONCE = 500  # zones a command
WELL_AGAIN = 0.9  # of the limit
WORDS = ("to services", "other than to services")

_ZONE = re.compile(r"zone=(\d{1,5}),limit=(\d{1,10}),count=(\d{1,10})")


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone that has a limit."""

    limit: int
    count: int


class Limits:
    """Keeps the limit where the tenants' zones are. ``limit`` 0: a part of the switch's table."""

    def __init__(self, bridge: Bridge, remote: str, limit: int, state: State, report: Callable[[], None]) -> None:
        """``remote``: of Open vSwitch's database, beside which the switch has its control socket."""
        kind, _, path = remote.partition(":")
        self._folder = Path(path).parent if kind == "unix" and path else None
        self._bridge = bridge
        self._limit = limit
        self._state = state
        self._report = report  # called when the lines for the user are others
        self._full: set[int] = set()  # zones at their limits

    def ensure(self) -> None:
        """Make it be so. What can't be is told, and tried again with the next look."""
        with self._state.changed:
            tenants = None if self._state.tenants is None else dict(self._state.tenants)
        if tenants is None or not self._bridge.datapath_type:
            return  # not known yet: the switch has what there was
        try:
            lines = self._keep(tenants)
        except SwitchError as error:
            lines = {PART: str(error)}
        if self._state.troubles.say("limits", lines):
            self._report()

    def _keep(self, tenants: Mapping[str, int]) -> dict[str, str]:
        control = None if self._folder is None else control_socket(self._folder)
        if control is None:
            raise SwitchError("the control socket of ovs-vswitchd is not found here: no tenant has one")
        datapath = f"{self._bridge.datapath_type}@ovs-{self._bridge.datapath_type}"
        limits = self._limits(control, datapath)
        present = zones_of(unixctl.call(control, "dpctl/ct-get-limits", datapath))
        wanted = {number | second: limit for number in tenants.values() for second, limit in limits.items()}
        more = sorted(zone for zone, limit in wanted.items() if zone not in present or present[zone].limit != limit)
        for some in (more[at : at + AT_ONCE] for at in range(0, len(more), AT_ONCE)):
            words = (f"zone={zone},limit={wanted[zone]}" for zone in some)
            unixctl.call(control, "dpctl/ct-set-limits", datapath, *words)
        # one of our limit that is no tenant's is a former tenant's
        others = present.keys() - wanted.keys()
        less = sorted(zone for zone in others if zone and present[zone].limit == limits[zone & SECOND_ZONES])
        if less:
            unixctl.call(control, "dpctl/ct-del-limits", datapath, "zone=" + ",".join(map(str, less)))
        if more or less:
            both = tuple(limits.values())
            LOG.info("at most %d and %d connections: set for %d zones, taken from %d", *both, len(more), len(less))
        return self._lines(tenants, present)

    def _limits(self, control: Path, datapath: str) -> dict[int, int]:
        """That of each of a tenant's two zones, by what makes its number of the tenant's."""
        if self._limit:
            return dict.fromkeys((0, SECOND_ZONES), self._limit)
        if not self._bridge.userspace:
            return dict.fromkeys((0, SECOND_ZONES), _share(_kernels_table()))
        first = _share(unixctl.call(control, "dpctl/ct-get-maxconns", datapath))
        # without connection tracking in the kernel, nothing leaves by it
        second = min(first, _share(_kernels_table())) if KERNELS_TABLE.exists() else first
        return {0: first, SECOND_ZONES: second}

    def _lines(self, tenants: Mapping[str, int], present: Mapping[int, Zone]) -> dict[str, str]:
        """The tenants that are at their limits; one is until it has some room again."""
        self._full = {
            number
            for number, zone in present.items()
            if zone.limit and zone.count >= zone.limit * (WELL_AGAIN if number in self._full else 1)
        }
        return {
            f"connections of tenant {one_line(name, 80)} {words}": (
                f"the limit of {present[zone].limit} is reached, new ones are refused:"
                " see netctl-agent --tenant-connections"
            )
            for name, number in sorted(tenants.items())
            for zone, words in zip((number, number | SECOND_ZONES), WORDS, strict=True)
            if zone in self._full
        }


def _kernels_table() -> str:
    try:
        return KERNELS_TABLE.read_text()
    except OSError as error:
        raise SwitchError(f"{KERNELS_TABLE}: {error.strerror or error}") from error


def _share(size: str) -> int:
    """A zone's part of a table of that size."""
    text = size.strip()
    if not (text.isdecimal() and len(text) < 12):
        raise SwitchError(f"the size of a table of connections is not a number: {text}")
    return max(1, int(text) // SHARE)


def zones_of(text: str) -> dict[int, Zone]:
    """What `ct-get-limits` says."""
    return {int(zone): Zone(int(limit), int(count)) for zone, limit, count in _ZONE.findall(text)}
