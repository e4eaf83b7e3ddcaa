"""What services may become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from topology import contract, options, validate
from topology.addresses import Holder
from topology.allocate import LIMITS
from topology.control import ports_of
from topology.documents import ServiceDoc
from topology.draft import Draft
from topology.errors import Conflict, Invalid, NotFound
from topology.model import Address, Endpoint, Network, Published, Service, ServicePort
from topology.observed import SCTP_NEEDS


def put_service(draft: Draft, document: ServiceDoc) -> Service:
    """A service, made or changed to what is asked for."""
    wish = contract.check(ServiceDoc, document)
    tenant = validate.name("tenantName", wish.get("tenantName", ""))
    name = validate.name("serviceName", wish.get("serviceName", ""))
    validate.name("networkName", wish["networkName"])
    requested = validate.address("ipAddress", wish["ipAddress"]) if wish["ipAddress"] else None
    requested6 = validate.address6("ipv6Address", wish["ipv6Address"]) if wish["ipv6Address"] else None
    selectors = validate.selectors(wish["selectors"])
    ports = validate.ports(wish["ports"])
    published = validate.published(wish["publish"], ports)
    affinity, affinity_mode = options.affinity(wish["sessionAffinity"], wish.get("affinityMode", ""))
    drain = wish["drainTimeout"]
    check = options.check(wish["healthCheck"]) if "healthCheck" in wish else None
    if check is not None and all(protocol != "TCP" for _, _, protocol in ports):
        raise Invalid("healthCheck needs a TCP port to try: none of the ports is TCP")

    _refuse_sctp(draft, ports)
    key = f"{tenant}:{name}"
    network = draft.network(tenant, wish["networkName"])
    if published and network.internal:
        raise Invalid(
            f"publish {published[0]}: network {network.key} is internal, its VIPs are for its own containers; "
            "leave publish out, or take another network"
        )
    found = draft.get("service", key)
    old = found if isinstance(found, Service) else None
    vips = [_vip(draft, network, old, "ipAddress", requested, 4)]
    if network.subnet6 is not None or requested6 is not None:
        vips.append(_vip(draft, network, old, "ipv6Address", requested6, 6))
    _claim_published(draft, key, published, () if old is None else old.published)
    kept = {} if old is None else {(p.port, p.target, p.protocol): p.number for p in old.ports}
    service = Service(
        tenant=tenant,
        name=name,
        number=draft.number("service") if old is None else old.number,
        network=wish["networkName"],
        vips=tuple(vips),
        ports=tuple(
            # no `kept.get(…, draft.number())`: that would use up a number each time
            ServicePort(*port, number=kept[port] if port in kept else draft.number("port"))
            for port in ports
        ),
        selectors=selectors,
        requested_vip=requested,
        affinity=affinity,
        affinity_mode=affinity_mode,
        drain=drain,
        check=check,
        requested_vip6=requested6,
        published=published,
    )
    draft.put(service)
    _forget(draft, service.key, service)
    if old is not None and old.check is None and service.check is not None:
        _presume(draft, old, service)
    return service


def delete_service(draft: Draft, key: str) -> Service:
    """A service goes; its VIP cools."""
    found = draft.get("service", key)
    if not isinstance(found, Service):
        tenant, _, name = key.partition(":")
        draft.tenant(tenant)
        raise NotFound(f"Service {validate.show(name)} not found in tenant {tenant}")
    draft.delete(found)
    _forget(draft, key, None)
    return found


def give_port_numbers(draft: Draft) -> None:
    """Ports with numbers that an earlier version gave out, and that groups' ids have no room for now, get others."""
    for service in draft.model.services.values():
        if any(port.number > LIMITS["port"] for port in service.ports):
            ports = [
                port if port.number <= LIMITS["port"] else replace(port, number=draft.number("port"))
                for port in service.ports
            ]
            draft.put(replace(service, ports=tuple(ports)))


def describe(holder: Holder) -> str:
    """Who holds an address, in words."""
    if isinstance(holder, Network):
        return f"the gateway of network {holder.key}"
    if isinstance(holder, Service):
        return f"the VIP of service {holder.key}"
    if isinstance(holder, Endpoint):
        name = holder.container_name.lstrip("/")
        return f"endpoint {validate.show(name or holder.id)}"
    return f"granted to host {holder.host}"


def taken(field: str, address: Address, holder: Holder) -> Conflict:
    """The refusal of an address that somebody has."""
    return Conflict(
        f"{field} {address} is taken: it is {describe(holder)}; take another, or none for an automatic one"
    )


def _forget(draft: Draft, key: str, service: Service | None) -> None:
    """Endpoints lose what was found out about them for a service that no longer asks for it."""
    for endpoint in draft.model.judged(key):
        selected = service is not None and service.selects(endpoint)
        checked = selected and service is not None and service.check is not None
        draft.put(
            replace(
                endpoint,
                passed=endpoint.passed if checked else without(endpoint.passed, key),
                drained=endpoint.drained if selected else without(endpoint.drained, key),
            )
        )


def _presume(draft: Draft, old: Service, service: Service) -> None:
    """The check is new: who has served without one goes on until it fails; who was paused is no worse."""
    for provider in draft.model.providers(service):
        endpoint = draft.get("endpoint", provider.id)
        if isinstance(endpoint, Endpoint) and old.selects(endpoint) and endpoint.well:
            draft.put(replace(endpoint, passed=tuple(sorted({*endpoint.passed, service.key}))))


def without(keys: tuple[str, ...], key: str) -> tuple[str, ...]:
    """The keys but one."""
    return tuple(k for k in keys if k != key)


def _vip(  # noqa: PLR0917 - the same for either family
    draft: Draft, network: Network, old: Service | None, field: str, requested: Address | None, version: int
) -> Address:
    if requested is None:
        # an automatic VIP stays: clients have it in their configuration
        kept = old.vips if old is not None and old.network == network.name else ()
        return next((vip for vip in kept if vip.version == version), None) or draft.free_address(network, version)
    validate.within(field, requested, network)
    holder = draft.holder(network.key, requested)
    if holder is not None and not (isinstance(holder, Service) and old is not None and holder.key == old.key):
        raise taken(field, requested, holder)
    return requested


def _refuse_sctp(draft: Draft, ports: Sequence[tuple[int, int, str]]) -> None:
    """Where a switch could not carry it out. One that connects later leaves the port out, and says so."""
    asked = [port for port in ports if port[2] == "SCTP"]
    if asked and (unable := draft.capabilities.without_sctp()):
        raise Invalid(
            f"protocol SCTP in {':'.join(map(str, asked[0]))} is refused: the conntrack of {unable[0]} "
            f"does not know SCTP's ports, {SCTP_NEEDS}; right is TCP or UDP"
        )


def _claim_published(
    draft: Draft, key: str, published: tuple[Published, ...], before: tuple[Published, ...]
) -> None:
    control = ports_of(draft.capabilities.control()) if published else {}
    for wanted in published:
        user = control.get((wanted.port, wanted.protocol))
        if user is not None and wanted not in before:
            raise Conflict(f"publish {wanted}: port {wanted.port} {wanted.protocol} is that of {user}; take another")
        other = draft.model.published(wanted.port, wanted.protocol)
        if other is not None and other.key != key:
            raise Conflict(
                f"publish {wanted}: port {wanted.port} {wanted.protocol} of the hosts is that of service {other.key}; "
                "take another"
            )
