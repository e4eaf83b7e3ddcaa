"""Who provides for a service, and where: one container is one provider, at an address that can answer."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from tests.kit.wide import wide
from tests.kit.world import WEB, endpoint, model_of, network, service
from topology.model import Endpoint, Network, Object, ServicePort, Tenant
from topology.providers import chosen, no_way_back, providers
from topology.snapshot import Model

NETWORKS = (
    network("default", "services", 1, "100.1.1.0/24", None),
    network("default", "web", 2, "10.1.1.0/24", "10.1.1.254"),
    network("default", "front", 3, "20.1.1.0/24", "20.1.1.254"),
    network("default", "back", 4, "30.1.1.0/24", None),
    replace(network("default", "inn", 5, "40.1.1.0/24", "40.1.1.254"), internal=True),
)
SUBNETS = {n.name: str(n.subnet) for n in NETWORKS}


def at(name: str, net: str, number: int, container: str = "c", **more: object) -> Endpoint:
    """An endpoint of a container in a network."""
    address = f"{SUBNETS[net].rpartition('.')[0]}.{number}"
    return endpoint(name, "default", net, number, address, labels=WEB, container_id=container, **more)


def model(*endpoints: Object, vip: str = "services", ipv6: bool = False) -> Model:
    """The networks with these endpoints, and a service in one of the networks."""
    app = replace(service("default", 1, (ServicePort(80, 80, "TCP", 1),)), network=vip)
    objects: list[Object] = [Tenant("default", 1), app, *endpoints]
    return model_of([*objects, *(map(six, NETWORKS) if ipv6 else NETWORKS)])


def six(net: Network) -> Network:
    """With IPv6, and a gateway of it where there is one but in `front`."""
    gateway = net.gateway if net.name != "front" else None
    return replace(
        net,
        subnet6=IPv6Network(wide(str(net.subnet))),
        gateway6=None if gateway is None else IPv6Address(wide(str(gateway))),
    )


def names(of: Model, client: str = "", version: int = 4) -> list[str]:
    """The endpoints that new connections go to."""
    app = of.services["default:app-svc"]
    found = (chosen(of, app, p.endpoints, version, client and f"default:{client}") for p in providers(of, app))
    return [e.id for e in found if e is not None]


def test_one_container_is_one_provider() -> None:
    """A container in two networks would be counted twice, and get twice its share of the connections."""
    alone = [at("e8", "web", 8, container=""), at("e9", "front", 9, container="")]
    of = model(at("a", "web", 3), at("b", "front", 2), at("o", "web", 4, container="other"), *alone)
    found = providers(of, of.services["default:app-svc"])
    assert [[e.id for e in p.endpoints] for p in found] == [["b", "a"], ["o"], ["e8"], ["e9"]]
    assert [p.lead.id for p in found] == ["b", "o", "e8", "e9"], "oldest first, as without containers"


@pytest.mark.parametrize(
    ("endpoints", "client", "expected"),
    [
        # elsewhere: the primary one, else the oldest, of those with a way back
        ((at("a", "web", 1), at("b", "front", 2)), "", "a"),
        ((at("a", "web", 1), at("b", "front", 2, primary=True)), "", "b"),
        ((at("a", "web", 1, no_way_back="no rule"), at("b", "front", 2)), "", "b"),
        ((at("a", "back", 1, primary=True), at("b", "front", 2)), "", "b"),
        ((at("a", "inn", 1, primary=True), at("b", "front", 2)), "", "b"),
        ((at("a", "back", 1), at("b", "inn", 2)), "", ""),
        # the client's own network goes before
        ((at("a", "web", 1, primary=True), at("b", "front", 2)), "front", "b"),
        ((at("a", "web", 1), at("b", "front", 2, primary=True)), "web", "a"),
        ((at("a", "web", 1), at("b", "front", 2, no_way_back="no rule")), "front", "a"),
        # another network of the container's than the VIP's, from which nobody comes
        ((at("a", "web", 1), at("b", "back", 2)), "back", "a"),
    ],
)
def test_where_a_container_is_reached(endpoints: tuple[Endpoint, ...], client: str, expected: str) -> None:
    """Connections would go to an address from which no answer comes."""
    assert names(model(*endpoints), client) == [expected] * bool(expected)


@pytest.mark.parametrize(
    ("vip", "endpoints", "inside", "outside"),
    [
        # in the VIP's own network answers need no router
        ("back", (at("a", "back", 1),), "a", ""),
        ("back", (at("a", "back", 1), at("b", "web", 2, primary=True)), "a", "b"),
        ("back", (at("a", "web", 1),), "a", "a"),
        ("back", (at("a", "inn", 1),), "", ""),
        ("web", (at("a", "web", 1, no_way_back="no rule"),), "a", ""),
        # an internal network's VIPs are for its own containers, wherever the providers are
        ("inn", (at("a", "inn", 1),), "a", ""),
        ("inn", (at("a", "web", 1),), "a", ""),
        ("inn", (at("a", "web", 1), at("b", "inn", 2)), "b", ""),
    ],
)
def test_inside_the_vips_network(vip: str, endpoints: tuple[Endpoint, ...], inside: str, outside: str) -> None:
    """A VIP in a network without a gateway would have no providers, or have some that can't answer."""
    of = model(*endpoints, vip=vip)
    assert names(of, vip) == [inside] * bool(inside)
    assert names(of) == names(of, "front") == [outside] * bool(outside)


def test_each_family_has_its_own() -> None:
    """A network that routes IPv4 alone would be taken to route IPv6, or a container without IPv6 to have it."""
    both = {key: (e.addresses[0], IPv6Address(wide(str(e.addresses[0])))) for key, e in
            {"a": at("a", "front", 1), "b": at("b", "web", 2)}.items()}  # fmt: skip
    of = model(
        at("a", "front", 1, primary=True), replace(at("b", "web", 2), addresses=both["b"]), ipv6=True
    )
    assert (names(of), names(of, version=6)) == (["a"], ["b"])
    of = model(replace(at("a", "front", 1), addresses=both["a"]), ipv6=True)
    assert (names(of), names(of, version=6)) == (["a"], []), "front has no IPv6 gateway"


def test_the_reason() -> None:
    """Whoever looks why a provider gets nothing would not be told."""
    of = model(ipv6=True)
    nets = of.networks

    def reason(net: str, version: int = 4, **more: object) -> str:
        return no_way_back(nets[f"default:{net}"], at("a", net, 1, **more), version)

    assert reason("web") == reason("web", 6) == reason("front") == ""
    assert reason("back") == "network back has no gateway"
    assert reason("front", 6) == "network front has no IPv6 gateway"
    assert reason("inn") == "network inn is internal"
    assert reason("web", no_way_back="its rules can't be set") == "its rules can't be set"
