"""The bridge: that it exists, is set up as the design wants it, and which ports in it are the agent's."""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pyroute2.netlink import genlmsg  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]
from pyroute2.netlink.generic import GenericNetlinkSocket  # type: ignore[import-untyped]

from netctl.agent.errors import SwitchError
from netctl.agent.ovsdb import Operation, Ovsdb, by_name, from_map, members, omap, oset
from topology.reach import HOST_MAC

LOG = logging.getLogger(__name__)

ENDPOINT = "netctl-endpoint"  # external_ids of an Interface: the endpoint it is of
PROTOCOLS = (
    "OpenFlow13",
    "OpenFlow14",
    "OpenFlow15",
)  # the controller speaks 1.3; the others are for people's tools
CONTROLLER = {
    "connection_mode": "out-of-band",
    "max_backoff": 1000,  # ms
    "inactivity_probe": 5000,  # ms
}
PORT_TIMEOUT = 4000  # ms until the switch has to have taken a port; less than a transaction's own time limit

NEXT: Operation = {
    "op": "mutate",
    "table": "Open_vSwitch",
    "where": [],
    "mutations": [["next_cfg", "+=", 1]],
}
"""Tells ovs-vswitchd, as ovs-vsctl does, that the configuration has changed."""


class Bridge:
    """One bridge of one Open vSwitch, as its database has it."""

    def __init__(self, db: Ovsdb, name: str, host: str, controllers: Sequence[str], datapath_type: str) -> None:
        self.db = db
        self.name = name
        self._host = host
        self._controllers = tuple(controllers)
        self._wanted_type = datapath_type
        self._dpid = ""
        self._datapath_type = ""

    @property
    def dpid(self) -> str:
        """The datapath id, 16 hexadecimal digits; "" before `ensure` succeeded."""
        return self._dpid

    @property
    def datapath_type(self) -> str:
        """``netdev`` or ``system``; "" before `ensure` succeeded."""
        return self._datapath_type

    @property
    def userspace(self) -> bool:
        """Whether packets are switched by ovs-vswitchd itself."""
        return self._datapath_type == "netdev"

    def ensure(self) -> bool:
        """Make the bridge be there and be set up right. Returns whether anything had to be changed."""
        columns = [
            "_uuid",
            "datapath_type",
            "fail_mode",
            "protocols",
            "other_config",
            "datapath_id",
            "controller",
        ]
        target_columns = ["_uuid", "target", *CONTROLLER]
        roots, rows, targets = (
            result["rows"]
            for result in self.db.transact(
                [
                    {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["_uuid"]},
                    by_name("Bridge", self.name, columns),
                    {"op": "select", "table": "Controller", "where": [], "columns": target_columns},
                ]
            )
        )
        if not roots:
            raise SwitchError(f"the database at {self.db.remote} is not set up yet: ovs-vsctl --no-wait init")
        operations = self._update(rows[0], targets) if rows else self._insert()
        if operations:
            self.db.transact([*operations, NEXT])
            LOG.info(
                "bridge %s: %s, datapath %s, id %s",
                self.name,
                "set up" if rows else "made",
                self._datapath_type,
                self._dpid,
            )
        return bool(operations)

    def _insert(self) -> list[Operation]:
        self._datapath_type = kernel_or_userspace() if self._wanted_type == "auto" else self._wanted_type
        self._dpid = derived_dpid(self._host, self.name)
        controllers = [
            {
                "op": "insert",
                "table": "Controller",
                "row": {"target": t, **CONTROLLER},
                "uuid-name": f"controller{n}",
            }
            for n, t in enumerate(self._controllers)
        ]
        return [
            {
                "op": "insert",
                "table": "Interface",
                "row": {"name": self.name, "type": "internal"},
                "uuid-name": "interface",
            },
            {
                "op": "insert",
                "table": "Port",
                "row": {"name": self.name, "interfaces": ["named-uuid", "interface"]},
                "uuid-name": "port",
            },
            *controllers,
            {
                "op": "insert",
                "table": "Bridge",
                "row": {
                    "name": self.name,
                    "datapath_type": self._datapath_type,
                    "fail_mode": "secure",
                    "protocols": oset(PROTOCOLS),
                    "other_config": omap(self._other_config({})),
                    "controller": oset([["named-uuid", c["uuid-name"]] for c in controllers]),
                    "ports": ["named-uuid", "port"],
                },
                "uuid-name": "bridge",
            },
            {
                "op": "mutate",
                "table": "Open_vSwitch",
                "where": [],
                "mutations": [["bridges", "insert", ["set", [["named-uuid", "bridge"]]]]],
            },
        ]

    def _other_config(self, present: Mapping[str, str]) -> dict[str, str]:
        return {**present, "disable-in-band": "true", "datapath-id": self._dpid, "hwaddr": HOST_MAC}

    def _update(self, row: dict[str, Any], controllers: list[dict[str, Any]]) -> list[Operation]:
        """What differs, and nothing else: a bridge that is right is not touched, so its flows stay."""
        other = from_map(row["other_config"])
        present = next(members(row["datapath_id"]), "")
        self._dpid = other.get("datapath-id") or present or derived_dpid(self._host, self.name)
        kept = row["datapath_type"] or "system"
        self._datapath_type = self._wanted_type
        if self._wanted_type == "auto":
            # A bridge keeps its kind, but not one that this kernel can't run.
            self._datapath_type = kept if kept == "netdev" else kernel_or_userspace()
        wanted: dict[str, Any] = {}
        if kept != self._datapath_type:
            wanted["datapath_type"] = self._datapath_type
        if row["fail_mode"] != "secure":
            wanted["fail_mode"] = "secure"
        if set(members(row["protocols"])) != set(PROTOCOLS):
            wanted["protocols"] = oset(PROTOCOLS)
        if other != self._other_config(other):
            wanted["other_config"] = omap(self._other_config(other))
        mine = {tuple(uuid) for uuid in members(row["controller"])}
        operations, uuids = self._targets([c for c in controllers if tuple(c["_uuid"]) in mine])
        if {tuple(uuid) for uuid in uuids} != mine:
            wanted["controller"] = oset(uuids)
        if wanted:
            where = [["_uuid", "==", row["_uuid"]]]
            operations.append({"op": "update", "table": "Bridge", "where": where, "row": wanted})
        return operations

    def _targets(self, present: list[dict[str, Any]]) -> tuple[list[Operation], list[Any]]:
        """Have a row for each target. A row is changed in place where one can be: with no controller in between,
        the switch would flush its flows."""
        by_target = {row["target"]: row for row in present}
        spare = [row for row in present if row["target"] not in self._controllers]
        operations: list[Operation] = []
        uuids: list[Any] = []
        for number, target in enumerate(self._controllers):
            wanted = {"target": target, **CONTROLLER}
            row = by_target.get(target) or (spare.pop() if spare else None)
            if row is None:
                name = f"controller{number}"
                operations.append({"op": "insert", "table": "Controller", "row": wanted, "uuid-name": name})
                uuids.append(["named-uuid", name])
                continue
            uuids.append(row["_uuid"])
            if any(row[column] != value for column, value in wanted.items()):
                where = [["_uuid", "==", row["_uuid"]]]
                operations.append({"op": "update", "table": "Controller", "where": where, "row": wanted})
        return operations, uuids

    # Ports

    def ports(self) -> dict[str, str]:
        """The endpoint of each of the agent's ports, by port name."""
        bridges, ports, interfaces = (
            result["rows"]
            for result in self.db.transact(
                [
                    by_name("Bridge", self.name, ["ports"]),
                    {"op": "select", "table": "Port", "where": [], "columns": ["_uuid", "name"]},
                    {"op": "select", "table": "Interface", "where": [], "columns": ["name", "external_ids"]},
                ]
            )
        )
        here = {uuid[1] for bridge in bridges for uuid in members(bridge["ports"])}
        names = {port["name"] for port in ports if port["_uuid"][1] in here}
        endpoints = {i["name"]: from_map(i["external_ids"]).get(ENDPOINT) for i in interfaces}
        return {name: endpoint for name in names if (endpoint := endpoints.get(name))}

    def plug(self, port: str, columns: Mapping[str, Any]) -> None:
        """Add the interface as a port, and wait until the switch has taken it. A port of that name is replaced.

        ``columns``: of its row in table Interface.
        """
        self.unplug(port)
        self.db.transact(
            [
                {
                    "op": "insert",
                    "table": "Interface",
                    "row": {"name": port, **columns},
                    "uuid-name": "interface",
                },
                {
                    "op": "insert",
                    "table": "Port",
                    "row": {"name": port, "interfaces": ["named-uuid", "interface"]},
                    "uuid-name": "port",
                },
                {
                    "op": "mutate",
                    "table": "Bridge",
                    "where": [["name", "==", self.name]],
                    "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]],
                },
                NEXT,
            ]
        )
        where = [["name", "==", port]]
        try:
            _, result = self.db.transact(
                [
                    {
                        "op": "wait",
                        "table": "Interface",
                        "timeout": PORT_TIMEOUT,
                        "where": where,
                        "columns": ["ofport"],
                        "until": "!=",
                        "rows": [{"ofport": oset([])}],
                    },
                    by_name("Interface", port, ["ofport", "error"]),
                ]
            )
        except SwitchError as error:
            if "timed out" not in str(error):
                raise
            raise SwitchError(
                f"ovs-vswitchd did not take port {port} into {self.name} within {PORT_TIMEOUT // 1000} s; does it run?"
            ) from error
        row = result["rows"][0] if result["rows"] else {"ofport": -1, "error": "it was removed"}
        if row["ofport"] == -1:
            reason = next(members(row["error"]), "no reason given")
            raise SwitchError(f"port {port} could not be added to {self.name}: {reason}")

    def unplug(self, port: str) -> bool:
        """Remove a port, where there is one. Returns whether there was."""
        rows = self.db.transact([by_name("Port", port, ["_uuid"])])[0]["rows"]
        if rows:
            mutations = [["ports", "delete", ["set", [row["_uuid"] for row in rows]]]]
            where = [["name", "==", self.name]]
            self.db.transact([{"op": "mutate", "table": "Bridge", "where": where, "mutations": mutations}, NEXT])
        return bool(rows)


def derived_dpid(host: str, bridge: str) -> str:
    """A datapath id that stays the same for a host when its Open vSwitch is made anew."""
    return "0000" + hashlib.sha256(f"{host}/{bridge}".encode()).hexdigest()[:12]


def kernel_or_userspace() -> str:
    """``system`` where the kernel has the datapath, else ``netdev``. Asking for it also loads the module."""
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind("ovs_datapath", genlmsg)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise SwitchError(f"the kernel's Open vSwitch datapath can't be asked for: {error}") from error
        return "netdev"
    return "system"
