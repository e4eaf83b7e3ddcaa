"""How long the switch remembers idle connections: a timeout policy for the conntrack zones of the model's tenants.

Open vSwitch's database keeps it, so a switch that starts again has it. All zones share one row of CT_Zone that is
marked as this bridge's; a zone that has a row of somebody else's is left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netctl.agent.bridge import NEXT, Bridge
from netctl.agent.errors import SwitchError
from netctl.agent.ovsdb import Operation, from_map, members, omap, rows_of
from netctl.agent.state import State
from topology.reach import SECOND_ZONES

LOG = logging.getLogger(__name__)

BRIDGE = "netctl-bridge"  # external_ids of a Datapath and a CT_Zone: the bridge whose agent has made it
PART = "conntrack timeouts"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds, after the last packet."""

    established: int
    half_closed: int
    udp: int

    @property
    def policy(self) -> dict[str, int]:
        """As Open vSwitch names them. The kernel's conntrack is in close_wait once a FIN is acknowledged. UDP's single
        is what has been answered to a userspace datapath, and what has not been to the kernel's.
        """
        return {
            "tcp_established": self.established,
            "tcp_fin_wait": self.half_closed,
            "tcp_close_wait": self.half_closed,
            "udp_single": self.udp,
            "udp_multiple": self.udp,
        }


class Zones:
    """Keeps the policy where the tenants' zones are."""

    def __init__(self, bridge: Bridge, timeouts: Timeouts, state: State, report: Callable[[], None]) -> None:
        self._bridge = bridge
        self._timeouts = timeouts
        self._state = state
        self._report = report  # called when the lines for the user are others

    def ensure(self) -> None:
        """Make it be so. What can't be is told, and tried again with the next look."""
        with self._state.changed:
            tenants = self._state.tenants
            zones = None if tenants is None else {zone for n in tenants.values() for zone in (n, n | SECOND_ZONES)}
        if zones is None:
            return  # not known yet: the database has what there was
        try:
            lines = self._keep(zones)
        except SwitchError as error:
            lines = {PART: str(error)}
        if self._state.troubles.say("zones", lines):
            self._report()

    def _keep(self, zones: set[int]) -> dict[str, str]:
        kind = self._bridge.datapath_type
        columns = {
            "Open_vSwitch": ["datapaths"],
            "Datapath": ["_uuid", "ct_zones", "capabilities"],
            "CT_Zone": ["_uuid", "timeout_policy", "external_ids"],
            "CT_Timeout_Policy": ["_uuid", "timeouts"],
        }
        root, datapaths, rows, policies = (
            result["rows"]
            for result in self._bridge.db.transact(
                [{"op": "select", "table": table, "where": [], "columns": names} for table, names in columns.items()]
            )
        )
        if not root or not kind:
            return {}
        uuid = rows_of(root[0]["datapaths"]).get(kind)
        datapath = next((row for row in datapaths if row["_uuid"] == uuid), None)
        own = next((row for row in rows if from_map(row["external_ids"]).get(BRIDGE) == self._bridge.name), None)
        present = {} if datapath is None else {int(zone): row for zone, row in rows_of(datapath["ct_zones"]).items()}
        ours = {zone for zone, row in present.items() if own is not None and row == own["_uuid"]}
        if zones and datapath is not None and from_map(datapath["capabilities"]).get("ct_timeout") == "false":
            raise SwitchError(f"the {kind} datapath has none of its own: Open vSwitch's are in force")
        others = zones & present.keys() - ours
        wanted = zones - others
        operations = self._policy(own, policies) if wanted else []
        if wanted != ours:
            row = ["named-uuid", "zone"] if own is None else own["_uuid"]
            operations += self._place(kind, datapath, dict.fromkeys(wanted - ours, row), ours - wanted)
        if operations:
            self._bridge.db.transact([*operations, NEXT])
            LOG.info("conntrack timeouts of %d zones: %s", len(wanted), self._timeouts)
        return {f"conntrack zone {zone}": "it has timeouts of somebody else's, which stay" for zone in sorted(others)}

    def _policy(self, own: Mapping[str, Any] | None, policies: list[dict[str, Any]]) -> list[Operation]:
        """The rows that all our zones share."""
        timeouts = omap(self._timeouts.policy)
        new: Operation = {
            "op": "insert",
            "table": "CT_Timeout_Policy",
            "row": {"timeouts": timeouts},
            "uuid-name": "policy",
        }
        if own is None:
            zone = {"timeout_policy": ["named-uuid", "policy"], "external_ids": omap({BRIDGE: self._bridge.name})}
            return [new, {"op": "insert", "table": "CT_Zone", "row": zone, "uuid-name": "zone"}]
        used = next(members(own["timeout_policy"]), None)
        found = next((row for row in policies if row["_uuid"] == used), None)
        if found is None:
            change = {"timeout_policy": ["named-uuid", "policy"]}
            where = [["_uuid", "==", own["_uuid"]]]
            return [new, {"op": "update", "table": "CT_Zone", "where": where, "row": change}]
        if rows_of(found["timeouts"]) == self._timeouts.policy:
            return []
        where = [["_uuid", "==", found["_uuid"]]]
        return [{"op": "update", "table": "CT_Timeout_Policy", "where": where, "row": {"timeouts": timeouts}}]

    def _place(
        self, kind: str, datapath: Mapping[str, Any] | None, more: dict[int, Any], less: set[int]
    ) -> list[Operation]:
        """The zones that have it now, and have it no more."""
        if datapath is None:
            row = {"ct_zones": omap(more), "external_ids": omap({BRIDGE: self._bridge.name})}
            use = [["datapaths", "insert", omap({kind: ["named-uuid", "datapath"]})]]
            return [
                {"op": "insert", "table": "Datapath", "row": row, "uuid-name": "datapath"},
                {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": use},
            ]
        mutations: list[Any] = [["ct_zones", "delete", ["set", sorted(less)]]] if less else []
        mutations += [["ct_zones", "insert", omap(more)]] if more else []
        where = [["_uuid", "==", datapath["_uuid"]]]
        return [{"op": "mutate", "table": "Datapath", "where": where, "mutations": mutations}]
