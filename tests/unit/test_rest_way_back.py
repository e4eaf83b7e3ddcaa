"""What the REST API says of containers in several networks, and of addresses that can't answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.rest_kit import Json, Rest

APP, INSPECT = "/serviceLBs/default:app/", "/inspect/serviceLBs/default:app/"


@pytest.fixture
def rest() -> Iterator[Rest]:
    """A service in a network of its own, and networks that route, that do not, and that are internal."""
    rest = Rest()
    rest.network("srv", "100.1.1.0/24")
    rest.network("web", "10.1.1.0/24", gateway="10.1.1.254")
    rest.network("back", "30.1.1.0/24")
    rest.network("inn", "40.1.1.0/24", gateway="40.1.1.254", internal=True)
    rest.service(network="srv")
    yield rest
    rest.close()


def attach(rest: Rest, name: str, network: str, container: str, **more: object) -> Json:
    labels = {"tier": "web"}
    return rest.endpoint(name, networkName=network, containerID=container, portName=name, labels=labels, **more)


def counted(rest: Rest, key: str = "default:app") -> tuple[int, int, list[str]]:
    document = rest.call("GET", f"/serviceLBs/{key}/")
    return document["healthyProviders"], document["numProviders"], document.get("noWayBack", [])


def test_an_internal_network(rest: Rest) -> None:
    """Without it, nobody sees which networks are closed, or a client's own answer is refused."""
    document = rest.call("GET", "/networks/default:inn/")
    assert document["internal"] is True
    assert rest.call("PUT", "/networks/default:inn/", document) == document
    assert "internal" not in rest.call("GET", "/networks/default:web/")
    assert rest.call("GET", "/inspect/networks/default:inn/")["Config"]["internal"] is True


def test_an_endpoint(rest: Rest) -> None:
    """Without it, what an agent says of an address is lost."""
    document = attach(rest, "e", "web", "c", noWayBack="its rules can't be set", primary=True)
    assert (document["noWayBack"], document["primary"]) == ("its rules can't be set", True)
    assert rest.call("PUT", "/endpoints/e/", document) == document
    assert not {"noWayBack", "primary"} & attach(rest, "e", "web", "c").keys(), "it is over"


def test_a_container_counts_once(rest: Rest) -> None:
    """Without it, `service ls` shows 2/2 for one container, and stats show it twice."""
    attach(rest, "e1", "back", "c")
    attach(rest, "e2", "web", "c")
    attach(rest, "e3", "web", "d", state="paused")
    assert counted(rest) == (1, 2, [])
    one, two = rest.call("GET", INSPECT)["Oper"]["providers"]
    assert (one["endpointID"], one["network"], two["endpointID"]) == ("e2", "web.default", "e3")
    assert one["otherAddresses"] == [
        {
            "endpointID": "e1",
            "network": "back.default",
            "ipAddress": ["30.1.1.1", ""],
            "noWayBack": "network back has no gateway",
        }
    ]
    assert "noWayBack" not in one, "it can answer from the other"
    assert rest.call("GET", INSPECT)["Oper"]["numProviders"] == 2


@pytest.mark.parametrize(
    ("network", "more", "reason"),
    [
        ("back", {}, "network back has no gateway"),
        ("inn", {}, "network inn is internal"),
        ("web", {"noWayBack": "its rules can't be set"}, "its rules can't be set"),
    ],
)
def test_no_way_back(rest: Rest, network: str, more: Json, reason: str) -> None:
    """Without it, `service ls` says that all is well where nobody gets an answer."""
    attach(rest, "e1", "web", "good")
    assert counted(rest) == (1, 1, [])
    attach(rest, "e2", network, "c", **more)
    assert counted(rest) == (1, 2, [reason])
    assert [p.get("noWayBack") for p in rest.call("GET", INSPECT)["Oper"]["providers"]] == [None, reason]
    assert rest.call("GET", "/inspect/endpoints/e2/")["Oper"]["noWayBack"] == reason
    document = rest.call("GET", APP)
    assert rest.call("PUT", APP, document) == document, "its own answer is taken back"


def test_providers_for_one_network_alone(rest: Rest) -> None:
    """Without it, a service for the containers of its own network is shown as dead."""
    attach(rest, "e1", "back", "c")
    rest.service("own", network="back")
    assert counted(rest, "default:own") == (1, 1, [])
    assert counted(rest) == (0, 1, ["network back has no gateway"])


def test_an_internal_network_is_not_published(rest: Rest) -> None:
    """Without it, a port of the hosts leads nowhere, or into a network that is to be closed."""
    asked = {"networkName": "inn", "selectors": ["tier=web"], "ports": ["80:80:TCP"], "publish": ["80:80"]}
    assert rest.refused("POST", "/serviceLBs/default:new/", asked) == (
        422,
        "publish 80:80:TCP: network default:inn is internal, its VIPs are for its own containers; "
        "leave publish out, or take another network",
    )


def test_a_network_is_closed_afterwards(rest: Rest) -> None:
    """Without it, an internal network of Docker's that an earlier version registered stays open."""
    attach(rest, "e", "web", "c")
    assert counted(rest) == (1, 1, [])
    document = rest.call("GET", "/networks/default:web/")
    rest.call("PUT", "/networks/default:web/", {**document, "internal": True})
    assert counted(rest) == (0, 1, ["network web is internal"])
    status, line = rest.refused("PUT", "/networks/default:web/", document)
    assert (status, "internal is on, not off" in line) == (409, True), line
