"""What endpoints and leases may become."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from topology import contract, options, validate
from topology.allocate import mac_of
from topology.draft import Draft
from topology.errors import Conflict, Invalid, NetctlError, NotFound
from topology.model import Address, Endpoint, Host, Lease, Network, Service
from topology.reports import EndpointDoc
from topology.seen import Seen
from topology.write_service import describe, taken, without


def put_endpoint(draft: Draft, document: EndpointDoc) -> Endpoint:
    """An endpoint, made or changed to what is asked for."""
    wish = contract.check(EndpointDoc, document)
    wish.setdefault("origin", "rest")
    return _put(draft, wish, _endpoint(draft, wish.get("endpointID", "")))


def delete_endpoint(draft: Draft, key: str) -> Endpoint:
    """An endpoint goes; its addresses cool."""
    found = _known(draft, key)
    draft.delete(found)
    return found


def set_passed(draft: Draft, key: str, verdicts: Mapping[str, bool]) -> Endpoint:
    """What the active checks of services say of an endpoint.

    A verdict may come when its service has just gone, has no check any more, or does not select the endpoint
    any more, and when the endpoint has just stopped: it counts for nothing then.
    """
    endpoint = _known(draft, key)
    named = {*endpoint.passed, *(k for k, passes in verdicts.items() if passes)}
    passed = named - {k for k, passes in verdicts.items() if not passes}
    changed = replace(endpoint, passed=tuple(sorted(passed)))
    changed = replace(changed, passed=_still_passed(draft, changed))
    draft.put(changed)
    return changed


def drained(draft: Draft, key: str, service_key: str) -> Endpoint:
    """The drain time of a service is over for an endpoint; nothing, if neither that nor its host drains any more."""
    endpoint = _known(draft, key)
    if endpoint.state != "draining" and not _on_draining_host(draft, endpoint):
        return endpoint
    changed = replace(endpoint, drained=tuple(sorted({*without(endpoint.drained, service_key), service_key})))
    changed = replace(changed, drained=_still_drained(draft, changed))
    draft.put(changed)
    return changed


def sync_endpoints(
    draft: Draft, host: str, documents: Sequence[EndpointDoc], keep_leases: Collection[str]
) -> list[Endpoint]:
    """Exactly these endpoints are on the host, says its agent. Grants nobody waits for are freed."""
    validate.name("hostName", host)
    wanted: dict[str, EndpointDoc] = {}
    for number, document in enumerate(documents):
        wish = contract.check(EndpointDoc, document, f"endpoints[{number}]: ")
        key = validate.endpoint_id(wish.get("endpointID", ""))
        if key in wanted:
            raise Invalid(f"endpointID {key} is given twice: once is right")
        if wish["homingHost"] not in {"", host}:
            raise Invalid(
                f"endpoint {key}: homingHost {validate.show(wish['homingHost'])} is wrong: "
                f"right is {host}, which tells, or none"
            )
        wanted[key] = {**wish, "homingHost": host, "origin": "agent"}

    for endpoint in draft.model.endpoints_of_host(host):
        if endpoint.origin == "agent" and endpoint.id not in wanted:
            draft.delete(endpoint)
    before = {key: _endpoint(draft, key) for key in wanted}
    for key, old in before.items():
        # lifted out first, so that two may swap their addresses
        if old is not None and _moves(old, wanted[key]):
            draft.delete(old)
    result = []
    for key, wish in wanted.items():
        try:
            result.append(_put(draft, wish, before[key]))
        except NetctlError as error:
            raise type(error)(f"endpoint {key}: {error}") from error
    for lease in draft.model.leases_of_host(host):
        if lease.key not in keep_leases and draft.get("lease", lease.key) == lease:
            draft.release(lease)
    return result


def learn(draft: Draft, seen: Seen) -> Endpoint | None:
    """A host seen on the wire; None: it says what can't be, or claims what another has."""
    network, address = draft.model.networks.get(seen.network), seen.address
    switch, port_name, port_mac = seen.switch, seen.port_name, seen.port_mac
    if network is None:
        return None
    try:
        mac = validate.mac(seen.mac)
        validate.within("address", address, network)
    except Invalid:
        return None  # anybody can put anything on the wire: not an error of ours
    replaced = _endpoint(draft, seen.instead_of) if seen.instead_of else None
    if replaced is not None and replaced.origin == "learned":
        draft.delete(replaced)
    key = f"learned-{mac.replace(':', '')}-{network.number}"
    old = _endpoint(draft, key)
    holder = draft.holder(network.key, address)
    if holder is not None and holder != old:
        return None
    if draft.by_mac(network.key, mac) not in (None, old):
        return None
    neighbours = draft.model.endpoints_at(switch, port_name)
    if any(e.origin != "learned" for e in neighbours):
        return None  # the port is that of a registered host
    for other in neighbours:
        if other.mac == mac and other.id != key:
            draft.delete(other)  # the same host, with an address of another network now
    others = () if old is None else (a for a in old.addresses if a.version != address.version)
    addresses = tuple(sorted((address, *others), key=lambda a: a.version))
    endpoint = Endpoint(
        id=key,
        tenant=network.tenant,
        network=network.name,
        number=draft.number("endpoint") if old is None else old.number,
        addresses=addresses,
        mac=mac,
        switch=switch,
        port_name=port_name,
        origin="learned",
        port_mac=port_mac,
    )
    if old is not None:
        passed = old.passed if old.addresses == addresses else ()
        endpoint = replace(endpoint, labels=old.labels, weight=old.weight, passed=passed)
    draft.put(endpoint)
    return endpoint


def grant(draft: Draft, network: Network, wanted: Address | None, host: str, version: int) -> Lease:
    """An address set aside for an endpoint to come on this host: the one wanted, else one of IP version 4 or 6."""
    if wanted is None:
        if version not in {subnet.version for subnet in network.subnets}:
            raise Invalid(f"family {version}: network {network.key} has no IPv6; take 4, or leave it out")
        address = draft.free_address(network, version)
    else:
        address = validate.within("ipAddress", wanted, network)
        holder = draft.holder(network.key, address)
        if isinstance(holder, Lease) and holder.host == host:
            return holder  # asked again: the first answer may have been lost
        if holder is not None:
            raise taken("ipAddress", address, holder)
    lease = Lease(network.tenant, network.name, address, host=host)
    draft.put(lease)
    return lease


def release(draft: Draft, network: Network, address: Address) -> Lease | None:
    """A granted address is given back; None: it wasn't granted, or an endpoint has it by now."""
    lease = draft.lease(network.key, address)
    if lease is None or lease.released is not None:
        return None
    return draft.release(lease)


def _endpoint(draft: Draft, key: str) -> Endpoint | None:
    found = draft.get("endpoint", key)
    return found if isinstance(found, Endpoint) else None


def _known(draft: Draft, key: str) -> Endpoint:
    found = _endpoint(draft, key)
    if found is None:
        raise NotFound(f"Endpoint {validate.show(key)} not found")
    return found


def _still_passed(draft: Draft, endpoint: Endpoint) -> tuple[str, ...]:
    """Of the checks that it has passed, those that still count."""
    if endpoint.state == "stopped":
        return ()
    return tuple(s.key for s in _selecting(draft, endpoint, endpoint.passed) if s.check is not None)


def _on_draining_host(draft: Draft, endpoint: Endpoint) -> bool:
    host = draft.get("host", endpoint.host) if endpoint.host else None
    return isinstance(host, Host) and host.draining


def _still_drained(draft: Draft, endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(s.key for s in _selecting(draft, endpoint, endpoint.drained))


def _selecting(draft: Draft, endpoint: Endpoint, keys: Sequence[str]) -> list[Service]:
    services = [draft.get("service", key) for key in keys]
    return [s for s in services if isinstance(s, Service) and s.selects(endpoint)]


def _moves(old: Endpoint, wish: EndpointDoc) -> bool:
    asked = set(wish["ipAddress"])
    families = {":" in address for address in asked}
    had = {address for address in map(str, old.addresses) if (":" in address) in families}
    return (
        old.network_key != f"{wish.get('tenantName', '')}:{wish['networkName']}"
        or asked != had
        or wish["macAddress"] not in {"", old.mac}
    )


def _put(draft: Draft, wish: EndpointDoc, old: Endpoint | None) -> Endpoint:
    validate.endpoint_id(wish.get("endpointID", ""))
    tenant = validate.name("tenantName", wish.get("tenantName", ""))
    name = validate.name("networkName", wish["networkName"])
    asked = [validate.any_address("ipAddress", a) for a in wish["ipAddress"]]
    if len(set(asked)) != len(asked):
        raise Invalid(f"ipAddress: an address is given twice in {', '.join(map(str, asked))}")
    asked_mac = validate.mac(wish["macAddress"]) if wish["macAddress"] else ""
    if wish["homingHost"]:
        validate.name("hostName", wish["homingHost"])
    labels = validate.labels(wish["labels"])
    validate.text("portName", wish["portName"])
    validate.text("containerID", wish["containerID"])
    validate.text("containerName", wish["containerName"])
    validate.text("noWayBack", wish["noWayBack"], validate.REASON_LIMIT)
    switch = validate.datapath(wish["switch"])
    weight = wish["weight"] if "weight" in wish else options.labelled_weight(labels)

    network = draft.network(tenant, name)
    _clear_port(draft, wish, switch)
    stays = old if old is not None and old.network_key == network.key else None
    for address in asked:
        validate.within("ipAddress", address, network)
    addresses = _addresses(draft, network, asked, () if stays is None else stays.addresses)
    for address in addresses:
        _claim(draft, network, address, wish)
    mac = asked_mac or (stays.mac if stays is not None else mac_of(addresses[0]))
    _claim_mac(draft, network, mac, wish)
    _claim_port(draft, mac, wish, switch)
    endpoint = Endpoint(
        id=wish["endpointID"],
        tenant=tenant,
        network=name,
        number=draft.number("endpoint") if old is None else old.number,
        addresses=addresses,
        mac=mac,
        host=wish["homingHost"],
        switch=switch,
        port_name=wish["portName"],
        labels=labels,
        container_id=wish["containerID"],
        container_name=wish["containerName"],
        health=wish["health"],
        state=wish["state"],
        origin=wish["origin"],
        weight=weight,
        no_way_back=wish["noWayBack"],
        primary=wish["primary"],
    )
    endpoint = _carried_on(draft, endpoint, old)
    draft.put(endpoint)
    return endpoint


def _addresses(
    draft: Draft, network: Network, asked: Sequence[Address], had: Sequence[Address]
) -> tuple[Address, ...]:
    """Of each family those asked for; if none is, those it had, else the lowest free one."""
    found: list[Address] = []
    for subnet in network.subnets:
        of_family = [a for a in asked if a.version == subnet.version] or [a for a in had if a.version == subnet.version]
        found += of_family or [draft.free_address(network, subnet.version)]
    return tuple(found)


def _carried_on(draft: Draft, endpoint: Endpoint, old: Endpoint | None) -> Endpoint:
    """The endpoint with what is known of it already, as far as it still holds."""
    if old is not None and (old.network_key, old.addresses) == (endpoint.network_key, endpoint.addresses):
        endpoint = replace(endpoint, passed=old.passed)
        endpoint = replace(endpoint, passed=_still_passed(draft, endpoint))
    if endpoint.state != "draining":
        if old is None or (old.host, old.state == "draining") != (endpoint.host, False):
            return endpoint
        if not _on_draining_host(draft, endpoint):
            return endpoint
        endpoint = replace(endpoint, drained=old.drained)
        return replace(endpoint, drained=_still_drained(draft, endpoint))
    if old is None or old.state != "draining":
        return replace(endpoint, draining_since=draft.now)
    endpoint = replace(endpoint, draining_since=old.draining_since, drained=old.drained)
    return replace(endpoint, drained=_still_drained(draft, endpoint))


def _clear_port(draft: Draft, wish: EndpointDoc, switch: int) -> None:
    """A port is the registered host's alone: who was seen there before goes."""
    host = draft.get("host", wish["homingHost"]) if wish["homingHost"] else None
    switch = host.switch if isinstance(host, Host) else switch
    if not switch or not wish["portName"]:
        return
    for seen in draft.model.endpoints_at(switch, wish["portName"]):
        if seen.id != wish["endpointID"] and _yields(seen, wish):
            draft.delete(seen)


def _claim(draft: Draft, network: Network, address: Address, wish: EndpointDoc) -> None:
    holder = draft.holder(network.key, address)
    if holder is None or (isinstance(holder, Endpoint) and holder.id == wish["endpointID"]):
        return
    if isinstance(holder, Lease) and holder.host == wish["homingHost"]:
        return
    if isinstance(holder, Endpoint) and _yields(holder, wish):
        draft.delete(holder)
        return
    raise taken("ipAddress", address, holder)


def _claim_mac(draft: Draft, network: Network, mac: str, wish: EndpointDoc) -> None:
    other = draft.by_mac(network.key, mac)
    if other is None or other.id == wish["endpointID"]:
        return
    if _yields(other, wish):
        draft.delete(other)
        return
    raise Conflict(f"macAddress {mac} is that of {describe(other)} in network {network.key}: take another")


def _claim_port(draft: Draft, mac: str, wish: EndpointDoc, switch: int) -> None:
    # port and MAC say which endpoint a packet comes from: two of one kind could not be told apart
    for other in draft.model.endpoints_at(switch, wish["portName"]) if switch and wish["portName"] else ():
        if other.id != wish["endpointID"] and other.mac == mac and draft.get("endpoint", other.id) == other:
            raise Conflict(
                f"macAddress {mac} is that of {describe(other)} at the same port {wish['portName']}: take another"
            )


def _yields(holder: Endpoint, wish: EndpointDoc) -> bool:
    """Who is registered goes before who was only seen on the wire."""
    return holder.origin == "learned" and wish["origin"] != "learned"
