"""What hosts may become: their agents register them, people drain and remove them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address

from topology import contract, validate
from topology.draft import Draft
from topology.errors import Conflict, Invalid, NotFound
from topology.model import Host
from topology.reports import HostDoc


def put_host(draft: Draft, document: HostDoc) -> Host:
    """A Docker host with an agent, and where its switch is. It keeps its number, and whether it is drained or dead."""
    wish = contract.check(HostDoc, document)
    name = validate.name("hostName", wish.get("hostName", ""))
    switch = validate.datapath(wish["switch"])
    told = wish["tunnelAddress"]
    tunnel_address = validate.address("tunnelAddress", told) if told else None
    version = validate.text("version", wish["version"])
    wanted = Host(name, switch, tunnel_address, version, wish["datapathType"])
    other = draft.model.by_switch(switch) if switch else None
    if other is not None and other.name != name:
        # the other one under a new name, or a copy of its bridge: from here they look alike
        raise Conflict(
            f"switch {switch:016x} is that of host {other.name}: if this is {other.name}, keep that name (--host "
            f"{other.name}) or first remove it (netctl host rm {other.name}); if not, give its bridge a datapath id "
            "of its own"
        )
    if tunnel_address is not None:
        _own(name, tunnel_address, draft.model.by_tunnel(tunnel_address))
    old = draft.get("host", name)
    known = old if isinstance(old, Host) else None
    number = (known.number if known else 0) or draft.number("host")
    host = replace(wanted, number=number)
    if known is not None:
        host = replace(host, draining_since=known.draining_since, dead=known.dead)
    draft.put(host)
    return host


def drain_host(draft: Draft, name: str, draining: bool) -> Host:
    """The providers on a host get no new connections from now on, or do again."""
    host = _known(draft, name)
    if host.draining != draining:
        host = replace(host, draining_since=draft.now if draining else 0.0)
        draft.put(host)
        for endpoint in draft.model.endpoints_of_host(name):
            if endpoint.state != "draining" and endpoint.drained:  # by the host's drain, which is no more
                draft.put(replace(endpoint, drained=()))
    return host


def set_dead(draft: Draft, names: Collection[str]) -> None:
    """These hosts are dead, and no others."""
    for host in list(draft.model.hosts.values()):
        if host.dead != (host.name in names):
            draft.put(replace(host, dead=not host.dead))


def delete_host(draft: Draft, name: str) -> Host:
    """A host goes, with what its agent reported: its containers can't be reached any more."""
    found = _known(draft, name)
    for endpoint in draft.model.endpoints_of_host(name):
        draft.delete(endpoint)
    for lease in draft.model.leases_of_host(name):
        draft.release(lease)
    draft.delete(found)
    return found


def _own(name: str, address: IPv4Address, other: Host | None) -> None:
    if address.is_unspecified or address.is_multicast or address.is_loopback or int(address) == 0xFFFFFFFF:
        raise Invalid(f"tunnelAddress {address} can't be one host's: right is the address that other hosts reach it by")
    if other is not None and other.name != name:
        raise Conflict(
            f"tunnelAddress {address} is that of host {other.name}: give each host its own (--tunnel-address), "
            f"or remove host {other.name} (netctl host rm {other.name})"
        )


def _known(draft: Draft, name: str) -> Host:
    found = draft.get("host", name)
    if not isinstance(found, Host):
        raise NotFound(f"Host {validate.show(name)} not found")
    return found
