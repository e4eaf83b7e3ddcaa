"""Bad input to the REST API: each its status and one line, and nothing changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.rest_kit import Rest


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    """One for all cases: none of them changes anything."""
    rest = Rest()
    rest.network(gateway="10.1.1.254")
    rest.service()
    rest.endpoint("e1", labels={"tier": "web"})
    rest.host()
    yield rest
    rest.close()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"", "body: empty, must be a JSON object"),
        (b" \n", "body: empty, must be a JSON object"),
        (b"{", "body: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"subnet=10.1.1.0/24", "body: not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{} {}", "body: not JSON: Extra data: line 1 column 4 (char 3)"),
        (b"[]", "body: must be a JSON object, is a list"),
        (b"null", "body: must be a JSON object, is null"),
        (b'"x"', 'body: must be a JSON object, is "x"'),
        (b'"\\ud800x"', 'body: must be a JSON object, is "\\ud800x"'),
        (b'{"subnet": "\xff"}', "body: not UTF-8 (byte 12)"),
        (b'{"subnet": "a", "subnet": "b"}', 'body: field "subnet" is there twice'),
        (b'{"pktTag": NaN}', "body: not JSON: NaN"),
        (b'{"cfgdTag": "\\ud800"}', "body: a \\u escape stands alone that is half of a character"),
        (b'{"\\udfff": "x"}', "body: a \\u escape stands alone that is half of a character"),
        (b"[" * 100_000, "body: not JSON that can be read: nested too deeply"),
        (b'{"a":' * 100_000, "body: not JSON that can be read: nested too deeply"),
    ],
)
def test_what_is_no_json_object(rest: Rest, body: bytes, line: str) -> None:
    """Without it, rubbish crashes a handler or is stored."""
    before = rest.model.revision
    assert rest.raw("POST", "/api/v1/networks/default:new/", body) == (400, "text/plain", line + "\n")
    assert rest.model.revision == before


def test_a_number_of_too_many_digits(rest: Rest) -> None:
    """Without it, one number stops the controller for seconds."""
    status, _, text = rest.raw("POST", "/api/v1/networks/default:new/", b'{"pktTag": ' + b"9" * 5000 + b"}")
    assert status == 400
    assert text.startswith("body: not JSON: Exceeds the limit")


NETWORK_FIELDS = (
    "key, tenantName, networkName, subnet, gateway, ipv6Subnet, ipv6Gateway, nat, natHost, internal, encap, pktTag, "
    "nwType, cfgdTag, dockerIPAM"
)


@pytest.mark.parametrize(
    ("path", "document", "line"),
    [
        ("networks", {"colour": "red"}, f'unknown field "colour": a network has {NETWORK_FIELDS}'),
        ("networks", {"Subnet": "x"}, f'unknown field "Subnet": a network has {NETWORK_FIELDS}'),
        ("networks", {"subnet": 5}, "subnet: 5 is not a string"),
        ("networks", {"subnet": None}, "subnet: null is not a string"),
        ("networks", {"subnet": ["10.1.1.0/24"]}, "subnet: a list is not a string"),
        ("networks", {"subnet": {}}, "subnet: an object is not a string"),
        ("networks", {"pktTag": "5"}, 'pktTag: "5" is not a whole number'),
        ("networks", {"pktTag": True}, "pktTag: true is not a whole number"),
        ("networks", {"pktTag": 5.0}, "pktTag: 5.0 is not a whole number"),
        ("networks", {"ipv6Subnet": ["fd00::/64"]}, "ipv6Subnet: a list is not a string"),
        ("networks", {"nat": "yes"}, 'nat: "yes" is not true or false'),
        ("networks", {"nat": 1}, "nat: 1 is not true or false"),
        ("networks", {"natHost": "yes"}, 'natHost: "yes" is not true or false'),
        ("networks", {"internal": "yes"}, 'internal: "yes" is not true or false'),
        ("networks", {"tenantName": "blue"}, "tenantName: blue in the body, but default in the path"),
        ("networks", {"networkName": "x"}, "networkName: x in the body, but new in the path"),
        ("networks", {"key": "default:x"}, "key: default:x in the body, but default:new in the path"),
        ("serviceLBs", {"ports": "80:8080:TCP"}, 'ports: "80:8080:TCP" is not a list of strings'),
        ("serviceLBs", {"ports": [80]}, "ports[0]: 80 is not a string"),
        ("serviceLBs", {"publish": "80:80"}, 'publish: "80:80" is not a list of strings'),
        ("serviceLBs", {"publish": [80]}, "publish[0]: 80 is not a string"),
        ("serviceLBs", {"ipv6Address": None}, "ipv6Address: null is not a string"),
        ("serviceLBs", {"selectors": {"a": "b"}}, "selectors: an object is not a list of strings"),
        ("serviceLBs", {"serviceName": "x"}, "serviceName: x in the body, but new in the path"),
        ("endpoints", {"labels": {"a": 1}}, "labels.a: 1 is not a string"),
        ("endpoints", {"noWayBack": True}, "noWayBack: true is not a string"),
        ("endpoints", {"primary": 1}, "primary: 1 is not true or false"),
        ("endpoints", {"labels": ["a=b"]}, "labels: a list is not an object of strings"),
        ("endpoints", {"ipAddress": "10.1.1.1"}, 'ipAddress: "10.1.1.1" is not a list of strings'),
        ("tenants", {"tenantName": "x"}, "tenantName: x in the body, but default:new in the path"),
    ],
)
def test_unknown_and_wrongly_typed_fields(rest: Rest, path: str, document: Any, line: str) -> None:
    """Without it, a mistyped field is silently without effect."""
    assert rest.refused("POST", f"/{path}/default:new/", document) == (400, line)


@pytest.mark.parametrize("key", ["new", "a:b:c", ":new", "default:"])
def test_malformed_keys(rest: Rest, key: str) -> None:
    """Without it, an object is made that no path reaches."""
    line = f"key {key}: must be tenantName:networkName"
    assert rest.refused("PUT", f"/networks/{key}/", {"subnet": "10.9.0.0/24"}) == (400, line)
    assert rest.refused("GET", f"/networks/{key}/") == (404, f"Network {key} not found")


SERVICE = {"networkName": "net", "selectors": ["a=b"], "ports": ["80:8080:TCP"]}
NETWORK = {"subnet": "10.9.0.0/24"}


@pytest.mark.parametrize(
    ("path", "document", "status", "part"),
    [
        ("networks/default:new", {}, 422, "subnet required"),
        ("networks/default:new", {"subnet": "10.9.0.1/24"}, 422, "host bits"),
        ("networks/default:new", {"subnet": "10.9.0.0/31"}, 422, "too small"),
        ("networks/default:new", {"subnet": "10.1.1.128/25"}, 409, "conflicts"),
        ("networks/default:new", NETWORK | {"gateway": "10.8.0.1"}, 422, "gateway 10.8.0.1 is outside"),
        ("networks/default:new", NETWORK | {"pktTag": -1}, 422, "pktTag"),
        ("networks/default:net", NETWORK, 409, "Cant change network parameters after its created"),
        ("networks/red:new", NETWORK, 404, "Tenant red not found"),
        ("networks/default:-x", NETWORK, 422, "networkName"),
        ("networks/default:new", NETWORK | {"ipv6Subnet": "2001:db8::"}, 422, "ipv6Subnet 2001:db8:: is invalid"),
        ("networks/default:new", NETWORK | {"ipv6Gateway": "fd00::1"}, 422, "ipv6Gateway fd00::1 needs an ipv6Subnet"),
        (
            "networks/default:new",
            NETWORK | {"ipv6Subnet": "fd00::/64", "ipv6Gateway": "fd01::1"},
            422,
            "ipv6Gateway fd01::1 is outside subnet fd00::/64",
        ),
        ("networks/default:new", NETWORK | {"nat": True}, 422, "nat needs a gateway"),
        ("networks/default:new", NETWORK | {"natHost": True}, 422, "natHost needs nat"),
        ("networks/default:net", {"subnet": "10.1.1.0/24", "gateway": "10.1.1.254", "nat": True}, 409, "nat is off"),
        (
            "networks/default:new",
            NETWORK | {"gateway": "10.9.0.1", "nat": True, "internal": True},
            422,
            "nat has no effect on an internal network",
        ),
        ("endpoints/e9", {"tenantName": "default", "networkName": "net", "noWayBack": "x" * 201}, 422, "at most 200"),
        ("endpoints/e9", {"tenantName": "default", "networkName": "net", "noWayBack": "a\nb"}, 422, "noWayBack a"),
        ("serviceLBs/default:new", SERVICE | {"ipv6Address": "fd00::1"}, 422, "network default:net has no IPv6"),
        ("serviceLBs/default:new", SERVICE | {"publish": ["80"]}, 422, "Invalid publish. Its format is HostPort:"),
        ("serviceLBs/default:new", SERVICE | {"publish": ["80:8080"]}, 422, "the service has no port 8080; it has 80"),
        (
            "endpoints/e9",
            {"tenantName": "default", "networkName": "net", "ipAddress": ["fd00::1"]},
            422,
            "ipAddress fd00::1: network default:net has no IPv6",
        ),
        ("serviceLBs/default:new", SERVICE | {"networkName": "x"}, 404, "Network x not found"),
        ("serviceLBs/red:new", SERVICE, 404, "Tenant red not found"),
        ("serviceLBs/default:new", SERVICE | {"ports": ["80:8080"]}, 422, "Port:TargetPort:Protocol"),
        ("serviceLBs/default:new", SERVICE | {"ports": ["80:8080:TCP:x"]}, 422, "Port:TargetPort:Protocol"),
        ("serviceLBs/default:new", SERVICE | {"ports": ["99999:8080:TCP"]}, 422, "99999"),
        ("serviceLBs/default:new", SERVICE | {"ports": ["80:8080:SCTP"]}, 422, "SCTP's ports"),
        ("serviceLBs/default:new", SERVICE | {"sessionAffinity": 65536}, 422, "0 to 65535 seconds"),
        ("serviceLBs/default:new", SERVICE | {"sessionAffinity": True}, 400, "true is not a whole number"),
        ("serviceLBs/default:new", SERVICE | {"affinityMode": "idle"}, 422, "without sessionAffinity"),
        ("serviceLBs/default:new", SERVICE | {"drainTimeout": "5"}, 400, 'drainTimeout: "5" is not a whole number'),
        ("serviceLBs/default:new", SERVICE | {"drainTimeout": -1}, 422, "drainTimeout -1"),
        ("serviceLBs/default:new", SERVICE | {"healthCheck": "tcp"}, 400, 'healthCheck: "tcp" is not an object'),
        ("serviceLBs/default:new", SERVICE | {"healthCheck": {}}, 422, "healthCheck protocol required"),
        (
            "serviceLBs/default:new",
            SERVICE | {"healthCheck": {"port": 1}},
            400,
            'healthCheck unknown field "port": a health check has protocol, path, interval, timeout, rise, fall',
        ),
        (
            "serviceLBs/default:new",
            SERVICE | {"healthCheck": {"protocol": "tcp", "rise": "2"}},
            400,
            'healthCheck rise: "2" is not a whole number',
        ),
        ("endpoints/e9", {"tenantName": "default", "networkName": "net", "weight": 0}, 422, "weight 0"),
        ("endpoints/e9", {"tenantName": "default", "networkName": "net", "weight": "3"}, 400, "weight"),
        ("endpoints/e1/checks", {"default:app": 1}, 400, "default:app: 1 is not true or false"),
        ("endpoints/none/checks", {"default:app": True}, 404, "Endpoint none not found"),
        ("serviceLBs/default:new", SERVICE | {"ports": ["80:80:TCP", "80:81:TCP"]}, 422, "80"),
        ("serviceLBs/default:new", SERVICE | {"selectors": ["ab"]}, 422, "Invalid selector ab"),
        ("serviceLBs/default:new", SERVICE | {"selectors": ["=b"]}, 422, "Invalid selector =b"),
        ("serviceLBs/default:new", SERVICE | {"ipAddress": "10.1.1.254"}, 409, "gateway"),
        ("serviceLBs/default:new", SERVICE | {"ipAddress": "10.1.1.1"}, 409, "10.1.1.1"),
        ("serviceLBs/default:new", SERVICE | {"ipAddress": "10.2.0.1"}, 422, "outside"),
        ("endpoints/e9", {"tenantName": "default", "networkName": "x"}, 404, "Network x not found"),
        ("endpoints/e9", {"networkName": "net"}, 422, "Tenant name required"),
        (
            "endpoints/e9",
            {"tenantName": "default", "networkName": "net", "switch": "0xzz"},
            422,
            "switch 0xzz: must be a datapath id",
        ),
        ("hosts/h9", {"switch": "b9", "tunnelAddress": "x"}, 422, "tunnelAddress x"),
    ],
)
def test_values_that_cannot_be(rest: Rest, path: str, document: Any, status: int, part: str) -> None:
    """Without it, the API passes on what the write door says as something else."""
    answer, line = rest.refused("PUT", f"/{path}/", document)
    assert (answer, part in line) == (status, True), line


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("networks/default:net", 409, ""),
        ("networks/default:none", 404, "none"),
        ("tenants/default", 409, "default"),
        ("serviceLBs/default:none", 404, "none"),
        ("endpoints/none", 404, "none"),
        ("hosts/none", 404, "none"),
        ("leases/default:net:x", 422, "x"),
        ("leases/default:net:fd00::g", 422, "ipAddress fd00::g is not an IPv6 address"),
        ("leases/x", 400, "key x: must be tenantName:networkName:ipAddress"),
    ],
)
def test_deletes_that_cannot_be(rest: Rest, path: str, status: int, part: str) -> None:
    """Without it, what is in use is taken away."""
    answer, line = rest.refused("DELETE", f"/{path}/")
    assert (answer, part in line) == (status, True), line


@pytest.mark.parametrize(
    ("method", "path", "status", "line"),
    [
        ("POST", "/networks/", 405, "POST is not possible here, only GET"),
        ("PATCH", "/networks/default:net/", 405, "PATCH is not possible here, only DELETE, GET, POST, PUT"),
        ("GET", "/leases/", 405, "GET is not possible here, only POST"),
        ("GET", "/nothing/", 404, "no such path: /api/v1/nothing/"),
        ("GET", "/networks//", 404, "no such path: /api/v1/networks//"),
        ("GET", "/changes/?since=x", 400, "since: x is not a revision"),
        ("GET", "/changes/?since=-1", 400, "since: -1 is not a revision"),
        ("GET", "/changes/?since=1&since=2", 400, "since: given 2 times"),
        ("GET", "/changes/?host=%ff", 400, "query: not UTF-8"),
        ("PUT", "/hosts/none/applied/", 404, "host none not found: its agent registers it"),
        ("PUT", "/hosts/none/endpoints/", 404, "host none not found: its agent registers it"),
    ],
)
def test_paths_and_queries(rest: Rest, method: str, path: str, status: int, line: str) -> None:
    """Without it, a mistyped URL answers as if it had worked."""
    document: Any = {"revision": 1} if "applied" in path else {"endpoints": []}
    assert rest.refused(method, path, document) == (status, line)


@pytest.mark.parametrize(
    ("document", "status", "line"),
    [
        ({"family": "6"}, 400, 'family: "6" is not a whole number'),
        ({"family": True}, 400, "family: true is not a whole number"),
        ({"family": 5}, 422, "family 5 is unknown: right is 4 or 6"),
        ({"family": 0}, 422, "family 0 is unknown: right is 4 or 6"),
        ({"family": 6}, 422, "family 6: network default:net has no IPv6; take 4, or leave it out"),
        ({"family": 4, "ipAddress": "fd::9"}, 422, "family 4 is not that of ipAddress fd::9: right is 6, or none"),
    ],
)
def test_leases_that_cannot_be(rest: Rest, document: Any, status: int, line: str) -> None:
    """Without it, a container gets an address of the other family."""
    wish = {"tenantName": "default", "networkName": "net", "hostName": "h1"} | document
    assert rest.refused("POST", "/leases/", wish) == (status, line)


@pytest.mark.parametrize("document", [{}, {"revision": -1}, {"revision": 10**15}, {"revision": "1"}])
def test_malformed_progress(rest: Rest, document: Any) -> None:
    """Without it, a host counts as ready for networks that it never made."""
    assert rest.refused("PUT", "/hosts/h1/applied/", document)[0] in {400, 422}


def test_control_characters_stay_on_the_line(rest: Rest) -> None:
    """Without it, a client writes lines of its own into somebody's terminal."""
    status, line = rest.refused("POST", "/networks/default:new/", {"a\nb\x1b[31m": 1})
    assert status == 400
    assert line.startswith('unknown field "a\\nb\\u001b[31m": a network has')


def test_long_values_are_shortened(rest: Rest) -> None:
    """Without it, one wrong field prints a megabyte."""
    _, line = rest.refused("POST", "/networks/default:new/", {"pktTag": "x" * 100_000})
    assert len(line) < 120
    document = json.loads(rest.raw("GET", "/api/v1/networks/default:net/")[2])
    assert document["networkName"] == "net"
