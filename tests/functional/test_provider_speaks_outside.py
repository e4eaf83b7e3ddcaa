"""A forgotten connection of the host, or of a client beyond it, and the provider speaks first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.test_provider_speaks import connected, is_reset, listening
from tests.kit import hostside
from tests.kit.hosts import Host
from tests.kit.hostside import Place
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private

TARGET = 8443
VIPS = {"w1": "100.1.1.11", "s1": "100.1.1.12"}
PUBLISHED = {"w1": 8111, "s1": 8112}


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A service over one provider in a network with nat, and one over one in a network without."""
    with hostside.place(tmp_path_factory.mktemp("outside"), instance) as made:
        for name, network in (("w1", "web"), ("s1", "shut")):
            made.hosts[name].register(made.lab.rest, network, {"only": name})
            options = {"publish": [f"{PUBLISHED[name]}:443:TCP"]}
            made.lab.service(f"only-{name}", "srv", [f"443:{TARGET}:TCP"], [f"only={name}"], vip=VIPS[name],
                             options=options)  # fmt: skip
        made.lab.settled()
        wait_for(lambda: all(made.side.publishes(port) for port in PUBLISHED.values()), "the ports to be published")
        yield made


@pytest.fixture(params=["w1", "s1"], ids=["nat", "shut"])
def provider(request: pytest.FixtureRequest, place: Place) -> Host:
    place.lab.instance.flush_conntrack()
    return place.hosts[request.param]


@pytest.mark.parametrize("who", ["the host", "a client beyond it", "the host, straight"])
def test_both_ends_are_reset(place: Place, provider: Host, who: str) -> None:
    """A browser outside would wait for ever for an answer, or the packet leave for it from an address that it does not
    know.
    """
    client, to, port = {
        "the host": (place.side, VIPS[provider.name], 443),
        "a client beyond it": (place.out, place.side.ip, PUBLISHED[provider.name]),
        "the host, straight": (place.side, provider.ip, TARGET),
    }[who]
    with listening(provider, TARGET, 4) as server, connected(client, server, to, port) as (ours, theirs):
        place.lab.instance.flush_conntrack()
        theirs.sendall(b"news")
        is_reset(theirs)
        is_reset(ours)


def test_what_a_provider_has_begun_itself_goes_on(place: Place) -> None:
    """A provider that calls others from its service port would be cut off from the world."""
    w1 = place.hosts["w1"]
    with listening(place.out, 7000, 4) as server, connected(w1, server, place.out.ip, 7000, TARGET) as (ours, theirs):
        for one, other in ((ours, theirs), (theirs, ours)) * 3:
            one.sendall(b"hello")
            assert other.recv(5) == b"hello"
