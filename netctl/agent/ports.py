"""Endpoints' ports: a veth pair in the kernel and a port in the bridge each; kept as the state says."""

from __future__ import annotations

import logging
import threading

from netctl.agent import veth
from netctl.agent.bridge import ENDPOINT, Bridge
from netctl.agent.errors import SwitchError
from netctl.agent.limits import Limits
from netctl.agent.ovsdb import omap
from netctl.agent.state import LocalEndpoint, LocalNetwork, State
from netctl.agent.tunnel import Tunnel
from netctl.agent.zones import Zones

LOG = logging.getLogger(__name__)
INTERVAL = 3.0  # s between two looks at the switch


class Ports:
    """Makes and removes ports, and looks after them: the switch may be restarted, or its database emptied."""

    def __init__(
        self,
        bridge: Bridge,
        state: State,
        tunnel: Tunnel | None = None,
        zones: Zones | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._bridge = bridge
        self._tunnel = tunnel
        self._zones = zones
        self._limits = limits
        self._state = state
        self._lock = threading.Lock()  # one at work in kernel and switch
        self._wake = threading.Event()
        self._stopping = False
        self._leaving: set[str] = set()  # endpoints that `remove` is about to remove
        self._well: bool | None = None
        self._gone: set[str] = set()  # endpoints whose pair is known to be missing
        self._thread = threading.Thread(target=self._run, name="ports", daemon=True)

    def start(self) -> None:
        """Begin to look after the bridge and its ports."""
        self._thread.start()

    def stop(self) -> None:
        """End soon. Ports stay."""
        self._stopping = True
        self._wake.set()

    def look(self) -> None:
        """Look now."""
        self._wake.set()

    def add(self, endpoint: LocalEndpoint, network: LocalNetwork) -> None:
        """Make an endpoint's pair and port. Raises `SwitchError`; then nothing of it is left."""
        with self._lock:
            if not self._bridge.dpid:
                self._bridge.ensure()
            checksums = not self._bridge.userspace
            veth.make(endpoint.id, endpoint.mac, self._state.mtu, self._bridge.name, checksums=checksums)
            try:
                self._plug(endpoint, network)
            except SwitchError:
                veth.delete(endpoint.id)
                raise

    def _plug(self, endpoint: LocalEndpoint, network: LocalNetwork | None) -> None:
        ids = {ENDPOINT: endpoint.id, "attached-mac": endpoint.mac, "netctl-address": _listed(endpoint)}
        if network is not None:
            ids["netctl-network"] = network.key
        self._bridge.plug(veth.host_end(endpoint.id), {"external_ids": omap(ids)})

    def remove(self, endpoint_id: str) -> None:
        """Remove what there is of an endpoint."""
        self._leaving.add(endpoint_id)
        try:
            with self._lock:
                try:
                    self._bridge.unplug(veth.host_end(endpoint_id))
                finally:
                    veth.delete(endpoint_id)
        finally:
            self._leaving.discard(endpoint_id)

    # Looking after

    def _run(self) -> None:
        while not self._stopping:
            self._state.pulse.within()
            try:
                self._tend()
            except SwitchError as error:
                if self._well is not False:
                    LOG.warning("%s", error)
                self._well = False
            else:
                if self._well is False:
                    LOG.info("Open vSwitch answers")
                self._well = True
            self._wake.wait(INTERVAL)
            self._wake.clear()

    def _tend(self) -> None:
        with self._lock:
            self._bridge.ensure()
        if self._tunnel is not None:
            self._tunnel.ensure()  # may tell the controller: nobody is to wait for that
        if self._zones is not None:
            self._zones.ensure()  # likewise
        if self._limits is not None:
            self._limits.ensure()  # likewise
        with self._lock:
            self._state.pulse.within()
            plugged = self._bridge.ports()
            pairs = veth.existing(self._bridge.name)
            with self._state.changed:
                wanted = dict(self._state.endpoints)
                networks = dict(self._state.networks)
                listed = self._state.listed
            kept = wanted.keys() | self._leaving
            if listed:
                for name, endpoint_id in plugged.items():
                    if endpoint_id not in kept:
                        self._bridge.unplug(name)
                        LOG.info("endpoint %s: removed its port, Docker has it no more", endpoint_id[:12])
                for endpoint_id in pairs - kept:
                    veth.delete(endpoint_id)
                    LOG.info("endpoint %s: removed its veth pair, Docker has it no more", endpoint_id[:12])
            for endpoint_id in pairs & wanted.keys():
                if veth.host_end(endpoint_id) not in plugged:
                    endpoint = wanted[endpoint_id]
                    self._plug(endpoint, networks.get(endpoint.network_id))
                    LOG.info("endpoint %s: put its port back", endpoint_id[:12])
            missing = {e.id for e in wanted.values() if e.container_id and e.id not in pairs}
            for endpoint_id in missing - self._gone:
                LOG.warning("endpoint %s: its veth pair is gone; restart its container", endpoint_id[:12])
            self._gone = missing


def _listed(endpoint: LocalEndpoint) -> str:
    return " ".join(map(str, endpoint.addresses))
