"""IPv6 and what leads in and out of the hosts, in the documents of the REST API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.rest_kit import Json, Rest
from tests.unit.test_rest_options import lines

NET, APP = "/networks/default:net/", "/serviceLBs/default:app/"
DUAL: Json = {"gateway": "10.1.1.254", "ipv6Subnet": "fd00:1::/64", "ipv6Gateway": "fd00:1::fe", "nat": True}
FIELDS = {*DUAL, "ipv6Address", "publish", "publishedAddress", "serviceVip", "serviceVip6"}


@pytest.fixture
def rest() -> Iterator[Rest]:
    """With a network `net` of both families."""
    rest = Rest()
    rest.network(**DUAL)
    yield rest
    rest.close()


def fields(document: Json) -> Json:
    """Of a document, what is new beside IPv4."""
    return {k: v for k, v in document.items() if k in FIELDS}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({}, {}),
        ({"ipv6Subnet": "", "ipv6Gateway": "", "nat": False}, {}),
        ({"ipv6Subnet": "FD00:2:0:0::/64"}, {"ipv6Subnet": "fd00:2::/64"}),
        ({"gateway": "10.2.1.1", "nat": True}, {"gateway": "10.2.1.1", "nat": True}),
        (
            {"gateway": "10.2.1.1", "ipv6Subnet": "fd00:2::/64", "ipv6Gateway": "FD00:2::FE"},
            {"gateway": "10.2.1.1", "ipv6Subnet": "fd00:2::/64", "ipv6Gateway": "fd00:2::fe"},
        ),
    ],
)
def test_networks(rest: Rest, asked: Json, shown: Json) -> None:
    """Without it, `net ls` doesn't show the IPv6 subnet, or a network of IPv4 has fields that it had not."""
    document = rest.network("other", "10.2.1.0/24", **asked)
    assert fields(document) == shown
    path = "/networks/default:other/"
    assert rest.call("GET", path) == document
    assert rest.call("GET", "/inspect" + path)["Config"] == document
    revision = rest.model.revision
    assert rest.call("PUT", path, document) == document, "its own answer is taken back"
    assert rest.model.revision == revision


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({}, {"serviceVip6": "fd00:1::1"}),
        ({"ipv6Address": "", "publish": []}, {"serviceVip6": "fd00:1::1"}),
        ({"ipv6Address": "FD00:1::0:9"}, {"ipv6Address": "fd00:1::9", "serviceVip6": "fd00:1::9"}),
        (
            {"publish": ["80:80", "8000:80:tcp"]},
            {"serviceVip6": "fd00:1::1", "publish": ["80:80:TCP", "8000:80:TCP"]},
        ),
    ],
)
def test_services(rest: Rest, asked: Json, shown: Json) -> None:
    """Without it, a user doesn't see where IPv6 clients and those outside reach a service."""
    document = rest.service(**asked)
    assert fields(document) == shown | {"serviceVip": "10.1.1.1"}
    assert rest.call("GET", "/serviceLBs/") == [document]
    oper = rest.call("GET", "/inspect" + APP)["Oper"]
    assert (oper["serviceVip"], oper["serviceVip6"]) == ("10.1.1.1", shown["serviceVip6"])
    assert oper.get("published") == shown.get("publish")
    assert oper.get("publishedAddress") == ("249.0.0.1" if "publish" in shown else None)
    revision = rest.model.revision
    assert rest.call("PUT", APP, document) == document, "its own answer is taken back"
    assert rest.model.revision == revision
    assert fields(rest.service()) == {"serviceVip": "10.1.1.1", "serviceVip6": shown["serviceVip6"]}


def test_a_port_of_the_hosts_is_one_services(rest: Rest) -> None:
    """Without it, two services wait behind one port, and one of them in vain."""
    rest.service(publish=["80:80"])
    other = {"networkName": "net", "selectors": ["a=b"], "ports": ["1:1:TCP"], "publish": ["80:1:TCP"]}
    assert rest.refused("PUT", "/serviceLBs/default:other/", other) == (
        409, "publish 80:1:TCP: port 80 TCP of the hosts is that of service default:app; take another"
    )  # fmt: skip


def test_endpoints(rest: Rest) -> None:
    """Without it, a container's IPv6 address is not shown, or stands where Contiv's clients look for IPv4."""
    document = rest.endpoint("e1", labels={"tier": "web"})
    assert document["ipAddress"] == ["10.1.1.1", "fd00:1::1"]
    assert rest.call("PUT", "/endpoints/e1/", document) == document, "its own answer is taken back"
    assert rest.endpoint("e2", portName="p2", ipAddress=["FD00:1::9"])["ipAddress"] == ["10.1.1.2", "fd00:1::9"]
    assert rest.call("GET", "/inspect/endpoints/e1/")["Oper"]["ipAddress"] == ["10.1.1.1", "fd00:1::1"]
    rest.service()
    providers = rest.call("GET", "/inspect" + APP)["Oper"]["providers"]
    assert [p["ipAddress"] for p in providers] == [["10.1.1.1", "fd00:1::1"]]
    rest.commands.learn("default", "net", "02:00:00:00:00:05", "fd00:1::5", 10, "p5")
    learned = "learned-020000000005-1"
    assert rest.call("GET", f"/inspect/endpoints/{learned}/")["Oper"]["ipAddress"] == ["", "fd00:1::5"]


def test_inspect_network(rest: Rest) -> None:
    """Without it, a user can't see which IPv6 addresses are taken; those of IPv4 are shown as ever."""
    rest.service()
    rest.endpoint("e1", ipAddress=["10.1.1.9", "fd00:1::ff"])
    oper = rest.call("GET", "/inspect" + NET)["Oper"]
    assert oper["allocatedAddressesCount"] == oper["allocatedIPv6AddressesCount"] == 2
    assert oper["allocatedIPAddresses"] == "10.1.1.1, 10.1.1.9, 10.1.1.254"
    assert oper["availableIPAddresses"] == "10.1.1.2-10.1.1.8, 10.1.1.10-10.1.1.253"
    assert oper["allocatedIPv6Addresses"] == "fd00:1::1, fd00:1::fe-fd00:1::ff"
    assert oper["availableIPv6Addresses"] == "fd00:1::2-fd00:1::fd, fd00:1::100-fd00:1::ffff:ffff:ffff:ffff"


@pytest.mark.parametrize(
    ("wish", "granted", "key"),
    [
        ({}, "10.1.1.1/24", "10.1.1.1"),
        ({"family": 4}, "10.1.1.1/24", "10.1.1.1"),
        ({"family": 6}, "fd00:1::1/64", "fd00:1::1"),
        ({"family": 6, "ipAddress": ""}, "fd00:1::1/64", "fd00:1::1"),
        ({"ipAddress": "FD00:1:0::A"}, "fd00:1::a/64", "fd00:1::a"),
        ({"family": 6, "ipAddress": "fd00:1::a"}, "fd00:1::a/64", "fd00:1::a"),
    ],
)
def test_leases(rest: Rest, wish: Json, granted: str, key: str) -> None:
    """Without it, Docker can't give a container an IPv6 address, or never gives it back."""
    rest.host()
    answer = rest.call("POST", "/leases/", {"tenantName": "default", "networkName": "net", "hostName": "h1"} | wish)
    assert answer == {"ipAddress": granted, "key": f"default:net:{key}"}
    assert rest.call("DELETE", f"/leases/{answer['key']}/") == answer["key"]
    assert [lease.released for lease in rest.model.leases.values()] == [rest.now]


def test_agents_learn_what_they_need(rest: Rest) -> None:
    """Without it, no host translates what comes to a published port, or lets a network out."""
    rest.service("plain")
    rest.service(publish=["80:80"], ipv6Address="fd00:1::9")
    opening = {(kind, key): document for kind, key, document in lines(rest)}
    network = opening["network", "default:net"]
    assert fields(network) == DUAL
    assert network["number"] == 1
    assert ("service", "default:plain") not in opening, "those that agents have something to do for"
    assert fields(opening["service", "default:app"]) == {
        "serviceVip": "10.1.1.2",
        "serviceVip6": "fd00:1::9",
        "ipv6Address": "fd00:1::9",
        "publish": ["80:80:TCP"],
        "publishedAddress": "249.0.0.2",
    }
    revision = rest.model.revision
    rest.service("plain", publish=["81:80"])
    rest.service()
    rest.host()
    changes = {key: document for _, key, document in lines(rest, str(revision)) if key}
    assert changes["default:plain"]["publishedAddress"] == "249.0.0.1"
    assert not {"publish", "publishedAddress"} & changes["default:app"].keys()
    assert changes["h1"]["hostAddress"] == "169.254.0.1"
