"""Docker's network driver: networks are checked, endpoints get a veth pair and a port in the switch.

A plugin call never asks Docker about containers: Docker may be holding the lock that the answer needs.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from netctl.agent.errors import Malformed, Refusal, SwitchError
from netctl.agent.ipam import ADDRESS_SPACE, KNOWN_OPTIONS, LISTING_TIMEOUT, Ipam
from netctl.agent.leaving import Leaving
from netctl.agent.plugin import Handler
from netctl.agent.ports import Ports
from netctl.agent.protocol import GENERIC, A, Body, S, address, check_room, flag, mapping, objects, subnet, text
from netctl.agent.registry import document
from netctl.agent.state import DEFAULT_TENANT, LocalEndpoint, LocalNetwork, Pending, Pool, State, Subnet, subnets_of
from netctl.agent.sync import Synchroniser
from netctl.agent.veth import container_end
from netctl.agent.ways import Ways
from netctl.client import Client, ClientError, NoConnection, Refused

LOG = logging.getLogger(__name__)

ACCEPT_TIMEOUT = 5.0  # s that a container's start waits for the controller to have taken its endpoint
DOCKER_OPTION = "com.docker."  # Docker's own options, which are not ours to judge
ID = re.compile(r"[0-9a-f]{12,64}\Z")


class Driver:
    """The calls of `NetworkDriver`."""

    def __init__(self, state: State, sync: Synchroniser, ports: Ports, ipam: Ipam, ways: Ways) -> None:
        self._state = state
        self._sync = sync
        self._ports = ports
        self._ipam = ipam
        self._ways = ways
        self._leaving = Leaving(state, sync, ways.files)

    def calls(self) -> dict[str, Handler]:
        """By the names of Docker's protocol."""
        return {
            "Plugin.Activate": lambda _: {"Implements": ["NetworkDriver", "IpamDriver"]},
            "NetworkDriver.GetCapabilities": lambda _: {"Scope": "local", "ConnectivityScope": "global"},
            "NetworkDriver.CreateNetwork": self.create_network,
            "NetworkDriver.DeleteNetwork": self.delete_network,
            "NetworkDriver.CreateEndpoint": self.create_endpoint,
            "NetworkDriver.DeleteEndpoint": self.delete_endpoint,
            "NetworkDriver.EndpointOperInfo": self.oper_info,
            "NetworkDriver.Join": self.join,
            "NetworkDriver.Leave": self.leave,
            **dict.fromkeys(
                (
                    "NetworkDriver.DiscoverNew",
                    "NetworkDriver.DiscoverDelete",
                    "NetworkDriver.ProgramExternalConnectivity",
                    "NetworkDriver.RevokeExternalConnectivity",
                    "NetworkDriver.FreeNetwork",
                ),
                lambda _: {},
            ),
            "NetworkDriver.AllocateNetwork": lambda body: {"Options": mapping(body, "Options")},
        }

    # Networks

    def create_network(self, body: Body) -> Mapping[str, Any]:
        """Docker is making a network: for the agent itself, or for a user, whose wish is checked here."""
        network = self._asked(body)
        modelled = self._state.modelled(network.tenant, network.subnet)
        if modelled is None and network.network and network.key == self._state.making:
            raise Refusal(f"network {network.key} has just been removed from the model")
        if (
            modelled is None
            or (modelled["networkName"], subnets_of(modelled)) != (network.network, network.subnets)
            or modelled.get("internal", False) != network.internal
        ):
            if modelled is not None and not network.network and not self._state.stands(modelled["key"]):
                # a user makes again what the model has kept; Docker tells no name, its event will
                self._check(network, modelled["networkName"])
            else:
                self._check(network)
            with self._state.changed:
                check_room(self._state.pending, "networks that are not in the model")
                self._state.pending[network.id] = Pending()
        self._state.set_network(network)
        return {}

    def _asked(self, body: Body) -> LocalNetwork:
        network_id = _id(body, "NetworkID")
        options = mapping(body, "Options")
        generic = mapping(options, GENERIC)
        for name in sorted(generic):
            if name not in KNOWN_OPTIONS and not name.startswith(DOCKER_OPTION):
                raise Refusal(f"unknown option {name}; known: {', '.join(sorted(KNOWN_OPTIONS))}")
        data, data6 = objects(body, "IPv4Data"), objects(body, "IPv6Data")
        if len(data) != 1:
            raise Refusal(f"a network has one IPv4 subnet, not {len(data)}")
        if len(data6) > 1:
            raise Refusal(f"a network has one IPv6 subnet, not {len(data6)}")
        pool, gateway = _pool(data[0], "IPv4Data", IPv4Network, IPv4Address)
        pool6, gateway6 = _pool(data6[0], "IPv6Data", IPv6Network, IPv6Address) if data6 else (None, None)
        tenant, name = text(generic, "tenant"), text(generic, "network")
        own = text(data[0], "AddressSpace") == ADDRESS_SPACE
        asked = self._pool(tenant, pool) if own else None
        asked6 = self._pool(tenant or asked[0], pool6) if asked and pool6 else None
        return LocalNetwork(
            id=network_id,
            name="",
            tenant=tenant or (asked[0] if asked else "") or DEFAULT_TENANT,
            network=name,
            subnet=pool,
            gateway=gateway,
            own_ipam=own,
            tenant_in_pool=bool(asked and asked[0]),
            ip_range=asked[1].ip_range if asked else None,
            reserved=tuple(one for found in (asked, asked6) if found for one in found[1].reserved),
            internal=flag(options, "com.docker.network.internal"),
            subnet6=pool6,
            gateway6=gateway6,
            picked=asked[1].picked if asked else True,
        )

    def _pool(self, tenant: str, pool: Subnet) -> tuple[str, Pool]:
        """The pool that Docker asked for just before. It does not say which, so its tenant must leave no doubt."""
        with self._state.changed:
            candidates = {t: p for (t, subnet), p in self._state.pools.items() if subnet == pool}
            unnamed_user = self._state.network_of_pool("", pool)
        named = tenant or (next(iter(candidates)) if len(candidates) == 1 else DEFAULT_TENANT)
        if named and named in candidates:
            return named, candidates[named]
        if not candidates:
            raise Refusal("netctl-agent was restarted while this network was being made; do it again")
        if "" not in candidates:
            others = ", ".join(sorted(candidates)) or "none"
            raise Refusal(
                f"the tenant is {tenant or DEFAULT_TENANT} for the network (-o tenant=) but {others} for its addresses"
                " (--ipam-opt tenant=): they have to be one"
            )
        if unnamed_user is not None:
            raise Refusal(
                f"subnet {pool} is in use by network {unnamed_user.key}; in another tenant also say"
                f" --ipam-opt tenant={tenant or DEFAULT_TENANT}"
            )
        return "", candidates[""]

    def _check(self, network: LocalNetwork, name: str = "") -> None:
        try:
            with Client(self._sync.url) as client:
                client.check_network(document(network, name or f"docker-{network.id[:12]}"))
        except NoConnection as error:
            raise Refusal(f"no network can be made now: {error}") from error
        except ClientError as error:
            raise Refusal(str(error)) from error

    def delete_network(self, body: Body) -> Mapping[str, Any]:
        """Docker is removing a network. Its event says so too; one that was never registered ends here."""
        network_id = _id(body, "NetworkID")
        with self._state.changed:
            if network_id in self._state.pending:
                self._state.drop_network(network_id)
            elif network_id in self._state.networks:
                self._state.leaving.add(network_id)
        return {}

    # Endpoints

    def create_endpoint(self, body: Body) -> Mapping[str, Any]:
        """Make the veth pair, plug it in, tell the controller."""
        endpoint_id = _id(body, "EndpointID")
        interface = mapping(body, "Interface")
        given, given6 = address(interface, "Address", IPv4Address), address(interface, "AddressIPv6", IPv6Address)
        if given is None:
            raise Malformed("Interface: Address is missing")
        asked = text(interface, "MacAddress")
        mac = _mac(asked) if asked else derived_mac(given)
        network = self._ipam.registered(self._network(body))
        endpoint = LocalEndpoint(endpoint_id, network.id, given, mac, created=math.inf, address6=given6)
        self._state.put_endpoint(endpoint)
        accepted = self._sync.endpoint(endpoint_id)
        try:
            self._ports.add(endpoint, network)
            accepted.result(ACCEPT_TIMEOUT)
        except (NoConnection, TimeoutError):
            pass  # the address is granted; the controller is told when it is back
        except SwitchError as error:
            self._forget(endpoint_id)
            raise Refusal(str(error)) from error
        except Refused as error:
            self._forget(endpoint_id)
            taken = not network.own_ipam and " is taken: " in error.line
            raise Refusal(_not_ours(error.line) if taken else error.line) from error
        finally:
            self._state.made(endpoint_id)
        LOG.info("endpoint %s: %s in %s", endpoint_id[:12], " ".join(map(str, endpoint.addresses)), network.key)
        return {"Interface": {} if asked else {"MacAddress": mac}}

    def delete_endpoint(self, body: Body) -> Mapping[str, Any]:
        """Undo it. What the switch can't do now is done when it is back."""
        endpoint_id = _id(body, "EndpointID")
        self._forget(endpoint_id)
        LOG.info("endpoint %s: removed", endpoint_id[:12])
        return {}

    def _forget(self, endpoint_id: str) -> None:
        self._state.drop_endpoint(endpoint_id)
        self._sync.endpoint(endpoint_id)
        try:
            self._ports.remove(endpoint_id)
        except SwitchError as error:
            LOG.warning("endpoint %s: its port is removed later: %s", endpoint_id[:12], error)

    def oper_info(self, body: Body) -> Mapping[str, Any]:
        """For `docker inspect`: nothing that it does not have already."""
        _id(body, "EndpointID")
        return {"Value": {}}

    def join(self, body: Body) -> Mapping[str, Any]:
        """What Docker moves into the container, and the way out of it."""
        endpoint_id = _id(body, "EndpointID")
        network = self._network(body)
        self._state.set_disconnecting(endpoint_id, False)
        self._ways.joined(endpoint_id, text(body, "SandboxKey", required=True))
        answer: dict[str, Any] = {
            "InterfaceName": {"SrcName": container_end(endpoint_id), "DstPrefix": "eth"},
            # Never docker_gwbridge: it would be a way around our network.
            "DisableGatewayService": True,
        }
        if network.gateway is not None and not network.internal:
            answer["Gateway"] = str(network.gateway)
        if network.gateway6 is not None and not network.internal:
            answer["GatewayIPv6"] = str(network.gateway6)
        return answer

    def leave(self, body: Body) -> Mapping[str, Any]:
        """Docker takes the interface out of the container as soon as it is answered."""
        self._leaving.leave(_id(body, "EndpointID"))
        return {}

    def _network(self, body: Body) -> LocalNetwork:
        network_id = _id(body, "NetworkID")
        state = self._state
        state.wait(lambda: state.listed or network_id in state.networks, LISTING_TIMEOUT)
        network = state.networks.get(network_id)
        if network is None:
            raise Refusal(f"network {network_id[:12]} is not known to this agent")
        return network


def _pool(data: Body, name: str, subnets: type[S], addresses: type[A]) -> tuple[S, A | None]:
    """A subnet that Docker's network is to have, and its gateway."""
    pool = subnet(data, "Pool", subnets)
    if pool is None:
        raise Malformed(f"{name}: Pool is missing")
    gateway = address(data, "Gateway", addresses)
    return pool, None if gateway == pool.network_address else gateway


def _not_ours(line: str) -> str:
    """What a user can do about an address that Docker's own IPAM driver chose."""
    what, _, _ = line.partition("; ")
    return (
        f"{what}; Docker's own IPAM driver chose it, which does not know who has which address in netctl: make the"
        " network with --ipam-driver netctl (Compose: ipam: {driver: netctl}), or give the container a free address"
        " (--ip, in Compose ipv4_address)"
    )


def _id(body: Body, name: str) -> str:
    value = text(body, name, required=True)
    if not ID.match(value):
        raise Malformed(f"{name} {value[:80]!r}: not an id of Docker's")
    return value


def _mac(value: str) -> str:
    octets = re.split("[:-]", value)
    if len(octets) != 6 or not all(re.fullmatch("[0-9a-fA-F]{2}", octet) for octet in octets):
        raise Refusal(f"MAC address {value[:80]!r}: six pairs of hexadecimal digits")
    if int(octets[0], 16) & 1 or not any(int(octet, 16) for octet in octets):
        raise Refusal(f"MAC address {value}: not one that an interface can have")
    return ":".join(octets).lower()


def derived_mac(given: IPv4Address) -> str:
    """Locally administered, and as unique within a network as the address."""
    return ":".join(f"{octet:02x}" for octet in (0x02, 0x42, *given.packed))
