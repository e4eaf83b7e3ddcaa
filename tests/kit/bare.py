"""One switch that nobody speaks for, with cables to hosts that nobody registers, and two networks with gateways."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.kit import ovs
from tests.kit.controller import Controller
from tests.kit.station import Station
from topology.reports import EndpointDoc

DPID = "00000000006d6e01"
GATEWAY, BLUE_GATEWAY = "10.3.1.254", "10.3.2.254"
ROUTER = bytes.fromhex("0e4e43000001")


class World:
    """One switch with six cables; networks red (10.3.1.0/24) and blue (10.3.2.0/24)."""

    def __init__(self, control: Controller, bridge: str) -> None:
        self.control = control
        self.bridge = bridge
        self.stations = [Station(bridge, n) for n in range(6)]

    def endpoints(self, address: str) -> list[EndpointDoc]:
        """Who has an address, as REST says."""
        return [e for e in self.control.client.endpoints() if e["ipAddress"] == [address]]

    def learned(self, station: Station, address: str) -> EndpointDoc:
        """Wait until the station is known, at its port and by this address."""

        def known() -> bool:
            found = self.endpoints(address)
            return [(e["macAddress"], e["portName"]) for e in found] == [(station.mac.hex(":"), station.port)]

        ovs.wait_for(known, f"{address} to be learned at {station.port}")
        (found,) = self.endpoints(address)
        assert found["origin"] == "learned"
        return found

    def register(self, station: Station, address: str, network: str = "red") -> str:
        """Say over REST where a host is; its endpoint's id."""
        endpoint_id = f"host-{address}"
        self.control.client.put_endpoint(
            {
                "endpointID": endpoint_id,
                "tenantName": "default",
                "networkName": network,
                "ipAddress": [address],
                "macAddress": station.mac.hex(":"),
                "switch": DPID,
                "portName": station.port,
            }
        )
        return endpoint_id

    def replace(self, number: int) -> Station:
        """Another cable, into a port of the same name; nothing is sent meanwhile."""
        old = self.stations[number]
        ovs.MACHINE.vsctl("del-port", self.bridge, old.port)
        old.close()
        self.stations[number] = made = Station(self.bridge, number)
        return made

    def close(self) -> None:
        """Unplug all."""
        for station in self.stations:
            station.close()

    def count(self, what: str) -> int:
        """A counter of the switch's document."""
        return int(self.control.switch(DPID)[what])


@contextlib.contextmanager
def bare_world(control: Controller) -> Iterator[World]:
    """It is connected, with all its ports; endpoints and networks are gone at the end."""
    with ovs.bridge("m", f"other-config:datapath-id={DPID}") as bridge, contextlib.ExitStack() as at_the_end:
        ovs.MACHINE.vsctl("set-controller", bridge, control.target)
        made = World(control, bridge)
        at_the_end.callback(made.close)
        control.wait_for_switch(DPID)
        ports = {s.port for s in made.stations}
        ovs.wait_for(
            lambda: ports <= {p["name"] for p in control.switch(DPID)["ports"] if p["up"]}, "the ports to be up"
        )
        networks = {"red": ("10.3.1.0/24", GATEWAY), "blue": ("10.3.2.0/24", BLUE_GATEWAY)}
        for name, (subnet, gateway) in networks.items():
            control.client.put_network(
                {"tenantName": "default", "networkName": name, "subnet": subnet, "gateway": gateway}
            )
        yield made
        for endpoint in control.client.endpoints():
            control.client.delete_endpoint(endpoint["endpointID"])
        for name in networks:
            control.client.delete_network(f"default:{name}")
