"""What tenants and networks may become."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from topology import contract, validate
from topology.allocate import PICK_FROM, PICK_LENGTH, free_subnet
from topology.documents import DEFAULT_TENANT, NetworkDoc
from topology.draft import Draft
from topology.errors import Conflict, Invalid
from topology.indexes import NETWORKS_OF_TENANT
from topology.model import Network, Prefix, Tenant


def put_tenant(draft: Draft, name: str) -> Tenant:
    """The tenant of this name, made if there is none."""
    validate.name("tenantName", name)
    old = draft.get("tenant", name)
    if isinstance(old, Tenant):
        return old
    tenant = Tenant(name, draft.number("tenant"))
    draft.put(tenant)
    return tenant


def delete_tenant(draft: Draft, name: str) -> Tenant:
    """An empty tenant goes."""
    tenant = draft.tenant(name)
    if name == DEFAULT_TENANT:
        raise Conflict(f"tenant {DEFAULT_TENANT} can't be deleted")
    if draft.model.count(NETWORKS_OF_TENANT, name):
        raise Conflict(_still_has(name, "network", [n.name for n in draft.model.networks_of(name)]))
    draft.delete(tenant)
    return tenant


def put_network(draft: Draft, document: NetworkDoc) -> Network:
    """A new network, or the one there is if nothing about it would change."""
    wish = contract.check(NetworkDoc, document)
    tenant = validate.name("tenantName", wish.get("tenantName", ""))
    name = validate.network_name(wish.get("networkName", ""))
    subnet = validate.subnet(wish["subnet"])
    gateway = None
    if wish["gateway"]:
        gateway = validate.inside("gateway", validate.address("gateway", wish["gateway"]), subnet.subnet)
    subnet6 = validate.subnet6(wish["ipv6Subnet"]) if wish["ipv6Subnet"] else None
    gateway6 = None
    if wish["ipv6Gateway"]:
        gateway6 = validate.address6("ipv6Gateway", wish["ipv6Gateway"])
        if subnet6 is None:
            raise Invalid(f"ipv6Gateway {gateway6} needs an ipv6Subnet: give both, or leave it out")
        validate.inside("ipv6Gateway", gateway6, subnet6)
    if gateway6 is not None and gateway is None:
        # Docker gives a container its default routes by the network's IPv4 gateway alone
        raise Invalid("ipv6Gateway needs a gateway: containers have no default route without; give both, or neither")
    if wish["nat"] and gateway is None:
        raise Invalid("nat needs a gateway: that is the way out; give one, or leave nat out")
    if wish["nat"] and wish["internal"]:
        raise Invalid("nat has no effect on an internal network: leave out nat, or internal")
    if wish["natHost"] and not wish["nat"]:
        raise Invalid("natHost needs nat: without it containers have no way to their host; give both, or neither")
    encap, nw_type = wish["encap"], wish["nwType"]
    tag = validate.tag(encap, wish["pktTag"])
    cfgd_tag = validate.text("cfgdTag", wish["cfgdTag"])

    draft.tenant(tenant)
    old = draft.get("network", f"{tenant}:{name}")
    if isinstance(old, Network):
        _unchanged("subnet", validate.subnet_text(old), subnet)
        _unchanged("gateway", old.gateway, gateway)
        _unchanged("ipv6Subnet", old.subnet6, subnet6)
        _unchanged("ipv6Gateway", old.gateway6, gateway6)
        _unchanged("nat", _on(old.nat), _on(wish["nat"]))
        _unchanged("natHost", _on(old.nat_host), _on(wish["natHost"]))
        if not wish["internal"]:
            _unchanged("internal", _on(old.internal), _on(wish["internal"]))
        _unchanged("encap", old.encap, encap)
        _unchanged("nwType", old.nw_type, nw_type)
        _unchanged("cfgdTag", old.cfgd_tag, cfgd_tag)
        if tag != old.requested_tag:  # the tag it got is as good as the one asked for
            _unchanged("pktTag", old.tag, tag)
        return _marked(draft, _closed(draft, old) if wish["internal"] else old, wish)

    _apart(draft, tenant, subnet.subnet)
    if subnet6 is not None:
        _apart(draft, tenant, subnet6)
    network = Network(
        tenant=tenant,
        name=name,
        number=draft.number("network"),
        subnet=subnet.subnet,
        first=subnet.first,
        last=subnet.last,
        gateway=gateway,
        nw_type=nw_type,
        encap=encap,
        tag=_tag(draft, encap, tag),
        requested_tag=tag,
        cfgd_tag=cfgd_tag,
        subnet6=subnet6,
        gateway6=gateway6,
        nat=wish["nat"],
        vlan=_vlan(draft),
        internal=wish["internal"],
        docker_ipam=wish["dockerIPAM"],
        nat_host=wish["natHost"],
    )
    draft.put(network)
    return network


def _closed(draft: Draft, network: Network) -> Network:
    """The network, internal: Docker's were so before the model knew of it, and their agents say so now."""
    if network.internal:
        return network
    published = [s.name for s in draft.model.services_of(network.key) if s.published]
    if published:
        raise Conflict(
            f"internal: network {network.name} has services with published ports ({_some(published)}), "
            "which an internal network can't have: remove --publish from them first"
        )
    closed = replace(network, internal=True)
    draft.put(closed)
    return closed


def _marked(draft: Draft, network: Network, wish: NetworkDoc) -> Network:
    """The network, with what an agent finds out about its addresses; others say nothing about it."""
    if network.docker_ipam or not wish["dockerIPAM"]:
        return network
    marked = replace(network, docker_ipam=True)
    draft.put(marked)
    return marked


def delete_network(draft: Draft, key: str) -> Network:
    """A network that nothing is in goes, with the hosts learned in it and the addresses granted.

    Where another waits for a tag on links, it has this one's.
    """
    tenant, _, name = key.partition(":")
    network = draft.network(tenant, name)
    services = draft.model.services_of(network.key)
    if services:
        raise Conflict(_still_has(name, "service", [s.name for s in services]))
    endpoints = draft.model.endpoints_of(network.key)
    active = [e.container_name.lstrip("/") or e.id for e in endpoints if e.origin != "learned"]
    if active:
        raise Conflict(f"Error: Network has active endpoints: {len(active)} in {name}, {_some(active)}")
    for endpoint in endpoints:
        draft.delete(endpoint)
    draft.drop_leases(network)
    draft.delete(network)
    waiting = without_vlan(draft) if network.vlan else []
    if waiting:
        draft.put(replace(waiting[0], vlan=network.vlan))
    return network


def give_vlans(draft: Draft) -> None:
    """Networks without a tag on links get one, as far as there are any: those of an earlier version have none."""
    for network in without_vlan(draft):
        draft.put(replace(network, vlan=_vlan(draft)))


def without_vlan(draft: Draft) -> list[Network]:
    """Networks that have no tag on links, oldest first."""
    networks = draft.model.networks
    if len(networks) == len(draft.model.used_numbers("vlan")):
        return []
    return sorted((n for n in networks.values() if not n.vlan), key=lambda n: n.number)


def pick_subnet(draft: Draft, tenant: str, avoid: list[IPv4Network]) -> IPv4Network:
    """A subnet that the tenant doesn't use; those to avoid only if nothing else is left."""
    validate.name("tenantName", tenant)
    draft.tenant(tenant)
    used = [n.subnet for n in draft.model.networks_of(tenant)]
    found = free_subnet([*used, *avoid]) or free_subnet(used)
    if found is None:
        raise Conflict(f"tenant {tenant} has no free /{PICK_LENGTH} left in {PICK_FROM}: give a subnet")
    return found


def _apart(draft: Draft, tenant: str, asked: Prefix) -> None:
    for other in draft.model.networks_of(tenant):
        for subnet in other.subnets:
            if subnet.version == asked.version and subnet.overlaps(asked):
                raise Conflict(
                    f"network {other.name} conflicts with subnet {asked}: it has {subnet}; "
                    "networks of one tenant must not overlap"
                )


def _on(value: bool) -> str:
    return "on" if value else "off"


def _unchanged(field: str, old: object, new: object) -> None:
    if str(old) != str(new):
        is_, asked = (validate.show(v) if v or isinstance(v, IPv4Address) else "none" for v in (old, new))
        raise Conflict(
            f"Cant change network parameters after its created: {field} is {is_}, not {asked}; "
            "delete and create it, or give the same value"
        )


def _tag(draft: Draft, encap: str, wanted: int) -> int:
    if wanted:
        other = draft.model.by_tag(encap, wanted)
        if other is not None:
            raise Conflict(
                f"pktTag {wanted} is taken: {encap} network {other.key} has it; "
                "take another, or 0 for automatic"
            )
        return wanted
    limit = validate.AUTO_TAGS[encap]
    for tag in range(1, limit + 1):
        if draft.model.by_tag(encap, tag) is None:
            return tag
    highest = validate.ENCAPS[encap]
    more = f": give one up to {highest}" if highest > limit else ": delete a network first"
    raise Conflict(f"no pktTag is free for {encap} in 1 to {limit}{more}")


def _vlan(draft: Draft) -> int:
    try:
        return draft.number("vlan")
    except Conflict:
        return 0  # only links between switches need one: all else of the network works


def _still_has(name: str, kind: str, names: list[str]) -> str:
    """Why something is not deleted: what is in it."""
    which = "it" if len(names) == 1 else "them"
    return f"cannot delete {name}: it has {validate.counted(len(names), kind)} ({_some(names)}): delete {which} first"


def _some(names: list[str]) -> str:
    shown = ", ".join(validate.show(n) for n in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
