"""What the agent remembers over its own restart: its Docker networks, and those that users removed from Docker.

Docker Engine starts its containers before it answers anybody, so an agent that has just started can't ask it which
network an endpoint is for.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from netctl.agent.state import LocalNetwork, State
from topology import private

LOG = logging.getLogger(__name__)
FILE = "agent-networks.json"


class Memory:
    """A file with the host's networks. Losing it costs nothing but the above."""

    def __init__(self, directory: Path, state: State) -> None:
        self._path = directory / FILE
        self._state = state
        self._written = ""

    def load(self) -> None:
        """Take over what was remembered; Docker's own listing, when it comes, replaces it."""
        try:
            private.close_to_others(self._path)
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(found, list):  # as an earlier version wrote it
                found = {"networks": found}
            for item in found["networks"]:
                self._state.set_network(_network(item))
            self._state.left = {str(key) for key in found.get("left") or ()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            LOG.warning("%s is not used: %s", self._path, error)

    def save(self) -> None:
        """Remember what there is now. A file that can't be written is in the log, and no more."""
        with self._state.changed:
            networks = sorted(self._state.networks.values(), key=lambda n: n.id)
            items = [asdict(n) for n in networks if n.network and n.id not in self._state.pending]
            text = json.dumps({"networks": items, "left": sorted(self._state.left)}, default=_plain, indent=1)
            if text == self._written:
                return
            write(self._path, text)
            self._written = text


def write(path: Path, text: str) -> None:
    """Replace a state file. One that can't be written is in the log, and no more."""
    try:
        private.make_directory(path.parent)
        private.write(path, text)
    except OSError as error:
        LOG.error("%s can't be written: %s", path, error.strerror or error)


def _plain(value: object) -> str:
    if isinstance(value, IPv4Address | IPv4Network | IPv6Address | IPv6Network):
        return str(value)
    raise TypeError(f"{value!r} can't be remembered")


def _network(item: dict[str, Any]) -> LocalNetwork:
    known = {f.name for f in fields(LocalNetwork)}
    values = {name: value for name, value in item.items() if name in known}
    values["subnet"] = IPv4Network(values["subnet"])
    values["gateway"] = IPv4Address(values["gateway"]) if values.get("gateway") else None
    values["ip_range"] = IPv4Network(values["ip_range"]) if values.get("ip_range") else None
    values["subnet6"] = IPv6Network(values["subnet6"]) if values.get("subnet6") else None
    values["gateway6"] = IPv6Address(values["gateway6"]) if values.get("gateway6") else None
    values["reserved"] = tuple(ip_address(address) for address in values.get("reserved") or ())
    return LocalNetwork(**values)
