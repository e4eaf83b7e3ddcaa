"""Docker's IPAM driver: a pool is a network's subnet, an address is a lease of the controller's."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]

from netctl.agent.errors import Malformed, Refusal
from netctl.agent.plugin import Handler
from netctl.agent.protocol import Body, address, check_room, flag, mapping, subnet, text
from netctl.agent.registry import ranged
from netctl.agent.state import DEFAULT_TENANT, Address, LocalNetwork, Pool, State, Subnet, subnets_of
from netctl.agent.sync import Synchroniser
from netctl.client import Client, ClientError, NoConnection

LOG = logging.getLogger(__name__)

ADDRESS_SPACE = "netctl-local"
GLOBAL_SPACE = "netctl-global"
REQUEST_TYPE = "RequestAddressType"
GATEWAY = "com.docker.network.gateway"
KNOWN_OPTIONS = {"tenant", "network"}
UNNAMED = "-"  # in a pool's id: the tenant is named to the network driver alone
REGISTRATION_TIMEOUT = 20.0  # s: a network that a user just made is being registered with every host
LISTING_TIMEOUT = 10.0  # s: the agent has just started and is asking Docker for its networks
PICKS = 256  # subnets that are tried when Docker leaves the choice to us
UNIQUE_LOCAL = 0xFD << 120  # RFC 4193: 40 random bits follow, so that no two sites' subnets meet


class Ipam:
    """The calls of `IpamDriver`."""

    def __init__(self, state: State, sync: Synchroniser) -> None:
        self._state = state
        self._sync = sync

    def calls(self) -> dict[str, Handler]:
        """By the names of Docker's protocol."""
        return {
            "IpamDriver.GetCapabilities": lambda _: {
                "RequiresMACAddress": False,
                "RequiresRequestReplay": False,
            },
            "IpamDriver.GetDefaultAddressSpaces": lambda _: {
                "LocalDefaultAddressSpace": ADDRESS_SPACE,
                "GlobalDefaultAddressSpace": GLOBAL_SPACE,
            },
            "IpamDriver.RequestPool": self.request_pool,
            "IpamDriver.ReleasePool": self.release_pool,
            "IpamDriver.RequestAddress": self.request_address,
            "IpamDriver.ReleaseAddress": self.release_address,
        }

    # Pools

    def request_pool(self, body: Body) -> Mapping[str, Any]:
        """Docker is making a network. What it will be is checked when all of it is known, in CreateNetwork."""
        family = IPv6Network if flag(body, "V6") else IPv4Network
        options = mapping(body, "Options")
        unknown = sorted(set(options) - KNOWN_OPTIONS)
        if unknown:
            raise Refusal(f"unknown IPAM option {unknown[0]}; known: {', '.join(sorted(KNOWN_OPTIONS))}")
        tenant = text(options, "tenant")
        pool, ip_range = subnet(body, "Pool", family), subnet(body, "SubPool", family)
        if pool is None and ip_range is not None:
            raise Refusal("a range needs a subnet: --subnet")
        if isinstance(ip_range, IPv6Network):
            raise Refusal(f"the range {ip_range}: IPv6 addresses are given out of the whole subnet; leave it out")
        picked = pool is None
        if pool is None:
            pool = self._pick6() if family is IPv6Network else self._pick(tenant)
        if isinstance(pool, IPv4Network):
            ranged(pool, ip_range)
        with self._state.changed:
            if (tenant, pool) not in self._state.pools:
                check_room(self._state.pools, "pools")
            self._state.pools[tenant, pool] = Pool(ip_range, picked=picked)
        return {"PoolID": f"{tenant or UNNAMED}/{pool}", "Pool": str(pool), "Data": {}}

    def release_pool(self, body: Body) -> Mapping[str, Any]:
        """The network is gone, or was not made."""
        with self._state.changed:
            self._state.pools.pop(parse_pool(text(body, "PoolID", required=True)), None)
        return {}

    def _pick(self, tenant: str) -> IPv4Network:
        """A free subnet: free in the model, not asked for a moment ago, and not one of this machine's own."""
        try:
            with Client(self._sync.url) as client:
                picked = IPv4Network(client.pick_subnet(tenant or DEFAULT_TENANT))
                for _ in range(PICKS):
                    if not self._taken(picked):
                        return picked
                    following = IPv4Network((int(picked.broadcast_address) + 1, picked.prefixlen))
                    picked = following
        except NoConnection as error:
            raise Refusal(f"no network can be made now: {error}") from error
        except ClientError as error:
            raise Refusal(str(error)) from error
        raise Refusal("no free subnet was found; name one with --subnet")

    def _pick6(self) -> IPv6Network:
        """A free subnet; the controller is asked about it in CreateNetwork, as about one that the user names."""
        for _ in range(PICKS):
            picked = IPv6Network((UNIQUE_LOCAL | secrets.randbits(40) << 80, 64))
            if not self._taken(picked):
                return picked
        raise Refusal("no free IPv6 subnet was found; name one with --subnet")

    def _taken(self, wanted: Subnet) -> bool:
        with self._state.changed:
            here = [pool for _, pool in self._state.pools]
        return any(
            wanted.version == other.version and wanted.overlaps(other) for other in [*here, *routes(wanted.version)]
        )

    # Addresses

    def request_address(self, body: Body) -> Mapping[str, Any]:
        """An address for an endpoint, for Docker's idea of a gateway, or one to be kept from use."""
        tenant, pool = parse_pool(text(body, "PoolID", required=True))
        wanted = address(body, "Address", type(pool.network_address))
        if wanted is not None and wanted not in pool:
            raise Refusal(f"address {wanted} is not in the subnet {pool}")
        if text(mapping(body, "Options"), REQUEST_TYPE) == GATEWAY:
            return _address(wanted or self._gateway(tenant, pool), pool)
        network = self._network(tenant, pool)
        if network is None:
            with self._state.changed:
                coming = self._state.pools.get((tenant, pool))
                if coming is None or wanted is None:
                    raise Refusal(f"no network of tenant {tenant or DEFAULT_TENANT} has the subnet {pool}")
                if wanted not in coming.reserved:
                    check_room(coming.reserved, f"reserved addresses of {pool}")
                    coming.reserved.append(wanted)
                return _address(wanted, pool)
        return _address(self._sync.grant(network.tenant, network.network, wanted, pool.version), pool)

    def release_address(self, body: Body) -> Mapping[str, Any]:
        """An address is not needed any more. A gateway was never granted."""
        tenant, pool = parse_pool(text(body, "PoolID", required=True))
        given = address(body, "Address", type(pool.network_address))
        if given is None:
            raise Malformed("Address is missing")
        network = self._state.network_of_pool(tenant, pool)
        if network is not None and given not in (network.gateway, network.gateway6, pool.network_address):
            self._sync.release(network.tenant, network.network, given)
        return {}

    def _gateway(self, tenant: str, pool: Subnet) -> Address:
        """Docker always wants one. A network of the model says which; where it has none, Docker is given the
        subnet's own address, which nobody can hold. A user's new network gets the first, as Docker's drivers do."""
        modelled = self._state.modelled(tenant or DEFAULT_TENANT, pool)
        if modelled is not None:
            subnets = subnets_of(modelled)
            return (subnets.gateway if pool.version == 4 else subnets.gateway6) or pool.network_address
        if pool.num_addresses == 1:
            raise Refusal(f"the subnet {pool} has one address, and none for a gateway; take a larger one")
        return pool.network_address + 1

    def _network(self, tenant: str, pool: Subnet) -> LocalNetwork | None:
        """The network of a pool, once it is in the model."""

        def known() -> bool:
            return bool(self._state.network_of_pool(tenant, pool) or (tenant, pool) in self._state.pools)

        self._state.wait(lambda: self._state.listed or known(), LISTING_TIMEOUT)
        network = self._state.network_of_pool(tenant, pool)
        return self.registered(network) if network is not None else None

    def registered(self, network: LocalNetwork) -> LocalNetwork:
        """The same network, when the model has it. Raises `Refusal` where it does not get there."""
        state = self._state

        def settled() -> bool:
            pending = state.pending.get(network.id)
            return pending is None or bool(pending.refusal)

        done = state.wait(settled, REGISTRATION_TIMEOUT)
        with state.changed:
            pending, found = state.pending.get(network.id), state.networks.get(network.id)
        if not done:
            raise Refusal(
                f"this network is not registered with the controller at {self._sync.url} yet; try again in a moment"
            )
        if pending is not None:
            raise Refusal(f"this network is not in the model: {pending.refusal}")
        if found is None:
            raise Refusal("this network has just been removed")
        return found


def parse_pool(pool_id: str) -> tuple[str, Subnet]:
    """Tenant ("": named to the network driver alone) and subnet of a pool's id."""
    tenant, _, pool = pool_id.partition("/")
    try:
        return ("" if tenant == UNNAMED else tenant), ip_network(pool)
    except ValueError:
        raise Malformed(f"PoolID {pool_id[:80]!r} is not one of this driver's") from None


def routes(version: int) -> list[Subnet]:
    """The subnets that this machine itself reaches."""
    found = []
    with IPRoute() as ip:
        for route in ip.get_routes(family=AF_INET if version == 4 else AF_INET6, table=254):
            destination = route.get_attr("RTA_DST")
            if destination:
                found.append(ip_network(f"{destination}/{route['dst_len']}"))
    return found


def _address(value: Address, pool: Subnet) -> Mapping[str, Any]:
    return {"Address": f"{value}/{pool.prefixlen}", "Data": {}}
