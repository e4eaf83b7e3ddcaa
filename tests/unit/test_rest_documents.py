"""Contiv's documents, field by field, and the ones beside them."""

from __future__ import annotations

import calendar
import configparser
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from ryu_apps.rest import contiv
from tests.unit.rest_kit import Rest
from topology import __version__


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest()
    yield rest
    rest.close()


TENANT_LINK = {"type": "tenant", "key": "default"}
NETWORK = {
    "key": "default:net",
    "encap": "vxlan",
    "networkName": "net",
    "nwType": "data",
    "subnet": "10.1.1.0/24",
    "tenantName": "default",
    "links": {"Tenant": TENANT_LINK},
}
SERVICE = {
    "key": "default:app",
    "networkName": "net",
    "ports": ["80:8080:TCP"],
    "selectors": ["tier=web"],
    "serviceName": "app",
    "tenantName": "default",
    "links": {"Network": {"type": "network", "key": "default:net"}, "Tenant": TENANT_LINK},
}
ENDPOINT = {
    "key": "e1",
    "endpointID": "e1",
    "tenantName": "default",
    "networkName": "net",
    "ipAddress": ["10.1.1.7"],
    "macAddress": "02:00:00:00:00:07",
    "switch": "000000000000000a",
    "portName": "p1",
    "labels": {"release": "stable", "tier": "web"},
    "containerID": "c0ffee",
    "containerName": "/web-1",
    "health": "healthy",
    "state": "running",
    "origin": "rest",
}


@pytest.mark.parametrize(
    ("asked", "extra"),
    [
        ({"subnet": "10.1.1.0/24"}, {}),
        ({"subnet": "10.1.1.0/24", "gateway": ""}, {}),
        ({"subnet": "10.1.1.0/24", "gateway": "10.1.1.254"}, {"gateway": "10.1.1.254"}),
        ({"subnet": "10.1.1.5-10.1.1.9/24"}, {"subnet": "10.1.1.5-10.1.1.9/24"}),
        (
            {"subnet": "10.1.1.0/24", "encap": "vlan", "pktTag": 12, "nwType": "infra", "cfgdTag": "t"},
            {"encap": "vlan", "pktTag": 12, "nwType": "infra", "cfgdTag": "t"},
        ),
        ({**NETWORK, "link-sets": {}, "ipv6Subnet": "", "ipv6Gateway": ""}, {}),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_network(rest: Rest, method: str, asked: dict[str, Any], extra: dict[str, Any]) -> None:
    """Without it, Contiv's client and scripts don't understand the network they made."""
    expected = NETWORK | extra
    assert rest.call(method, "/networks/default:net/", asked) == expected
    assert rest.call("GET", "/networks/default:net") == expected
    assert rest.call("GET", "/networks/") == [expected]
    assert rest.call(method, "/networks/default:net/", expected) == expected, "its own answer is taken back"


def test_network_names_its_services(rest: Rest) -> None:
    """Without it, `inspect` does not show why a network can't be deleted."""
    rest.network()
    rest.service()
    links = {"Servicelbs": {"default:app": {"type": "serviceLB", "key": "default:app"}}}
    assert rest.call("GET", "/networks/default:net/") == NETWORK | {"link-sets": links}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_service(rest: Rest, method: str) -> None:
    """Without it, `service create` and `service ls` don't work, or the VIP is not shown."""
    rest.network()
    asked = {"networkName": "net", "selectors": ["tier=web"], "ports": ["80:8080:TCP"]}
    listed = SERVICE | {"serviceVip": "10.1.1.1", "numProviders": 0, "healthyProviders": 0}
    assert rest.call(method, "/serviceLBs/default:app/", asked) == listed
    assert rest.call("GET", "/serviceLBs/default:app/") == listed
    assert rest.call(method, "/serviceLBs/default:app/", listed) == listed
    rest.endpoint("e1", labels={"tier": "web", "version": "1"})
    rest.endpoint("e2", labels={"tier": "web"}, portName="p2", health="unhealthy")
    rest.endpoint("e3", labels={"tier": "db"}, portName="p3")
    assert rest.call("GET", "/serviceLBs/") == [listed | {"numProviders": 2, "healthyProviders": 1}]


def test_service_with_an_address(rest: Rest) -> None:
    """Without it, `--preferred-ip` is lost from the configuration."""
    rest.network()
    document = rest.service(ipAddress="10.1.1.9")
    assert (document["ipAddress"], document["serviceVip"]) == ("10.1.1.9", "10.1.1.9")


def test_tenant(rest: Rest) -> None:
    """Without it, `tenant create` and `tenant ls` don't work."""
    blue = {"key": "blue", "tenantName": "blue"}
    assert rest.call("POST", "/tenants/blue/", {"tenantName": "blue", "defaultNetwork": ""}) == blue
    assert rest.call("GET", "/tenants/") == [{"key": "default", "tenantName": "default"}, blue]
    rest.network("n", tenant="blue")
    sets = {"Networks": {"blue:n": {"type": "network", "key": "blue:n"}}}
    assert rest.call("GET", "/tenants/blue") == blue | {"link-sets": sets}
    assert rest.call("GET", "/inspect/tenants/blue/")["Oper"] == {"totalNetworks": 1}


def test_endpoint(rest: Rest) -> None:
    """Without it, hosts without an agent can't be registered."""
    rest.network()
    assert rest.call("PUT", "/endpoints/e1/", ENDPOINT) == ENDPOINT
    assert rest.call("GET", "/endpoints/e1/") == ENDPOINT
    assert rest.call("GET", "/endpoints") == [ENDPOINT]
    assert rest.call("DELETE", "/endpoints/e1/") == "e1"
    assert rest.refused("GET", "/endpoints/e1/") == (404, "endpoint e1 not found")


@pytest.mark.parametrize(
    ("collection", "key"),
    [("serviceLBs", "default:app"), ("networks", "default:net"), ("tenants", "blue"), ("hosts", "h1")],
)
def test_delete_answers_with_the_key(rest: Rest, collection: str, key: str) -> None:
    """Without it, Contiv's client takes a delete for failed."""
    rest.network("other", "10.2.0.0/24")
    rest.service(network="other")
    rest.network()
    rest.call("POST", "/tenants/blue/", {})
    rest.host()
    rest.now += 6  # it is down
    assert rest.call("DELETE", f"/{collection}/{key}/") == key
    assert rest.refused("GET", f"/{collection}/{key}/")[0] == 404
    assert rest.refused("DELETE", f"/{collection}/{key}/")[0] == 404


def test_inspect_service(rest: Rest) -> None:
    """Without it, a user can't see who is behind a VIP."""
    rest.network()
    rest.service()
    assert rest.call("GET", "/inspect/serviceLBs/default:app/") == {
        "Config": SERVICE,
        "Oper": {"serviceVip": "10.1.1.1"},
    }
    rest.host()
    rest.endpoint("e1", **ENDPOINT | {"homingHost": "h1", "switch": ""})
    assert rest.call("GET", "/inspect/serviceLBs/default:app/")["Oper"] == {
        "numProviders": 1,
        "serviceVip": "10.1.1.1",
        "providers": [
            {
                "containerID": "c0ffee",
                "containerName": "/web-1",
                "endpointID": "e1",
                "homingHost": "h1",
                "intfName": "p1",
                "ipAddress": ["10.1.1.7", ""],
                "labels": "map[release:stable tier:web]",
                "macAddress": "02:00:00:00:00:07",
                "network": "net.default",
                "serviceName": "app",
                "weight": 1,
                "vtepIP": "192.0.2.1",
                "state": "running",
                "health": "healthy",
                "noWayBack": "network net has no gateway",
            }
        ],
    }


def test_inspect_network(rest: Rest) -> None:
    """Without it, a user can't see which addresses are taken and by whom."""
    rest.network(gateway="10.1.1.254")
    oper = rest.call("GET", "/inspect/networks/default:net/")["Oper"]
    assert oper == {
        "allocatedIPAddresses": "10.1.1.254",
        "availableIPAddresses": "10.1.1.1-10.1.1.253",
        "externalPktTag": 1,
        "networkTag": "net.default",
        "pktTag": 1,
        "linkTag": 1,
    }
    rest.service()
    rest.endpoint("e1")
    rest.endpoint("e2", ipAddress=["10.1.1.9"], portName="p2")
    document = rest.call("GET", "/inspect/networks/default:net/")
    oper = document["Oper"]
    assert document["Config"]["link-sets"]["Servicelbs"]
    assert oper["allocatedAddressesCount"] == 3
    assert oper["allocatedIPAddresses"] == "10.1.1.1-10.1.1.2, 10.1.1.9, 10.1.1.254"
    assert oper["availableIPAddresses"] == "10.1.1.3-10.1.1.8, 10.1.1.10-10.1.1.253"
    assert oper["numEndpoints"] == 2
    assert [e["endpointID"] for e in oper["endpoints"]] == ["e1", "e2"]


def test_inspect_of_a_full_range(rest: Rest) -> None:
    """Without it, addresses are shown as free that nobody is given."""
    rest.network(subnet="10.1.1.5-10.1.1.6/24")
    rest.endpoint("e1")
    rest.endpoint("e2", portName="p2")
    oper = rest.call("GET", "/inspect/networks/default:net/")["Oper"]
    assert oper["allocatedIPAddresses"] == "10.1.1.5-10.1.1.6"
    assert "availableIPAddresses" not in oper


@pytest.mark.parametrize("part", ["abcd1", "abcd1e", "c0ffee1", "c0ffee12", "web-1", "web-1a"])
def test_inspect_endpoint_by_its_beginning(rest: Rest, part: str) -> None:
    """Without it, `endpoint inspect` needs an id of 64 characters."""
    rest.network()
    rest.endpoint("abcd1ef", containerID="c0ffee123", containerName="web-1ab")
    rest.endpoint("abcd2ef", containerID="c0ffee223", containerName="web-2", portName="p2")
    rest.endpoint("c0ffee9", containerID="999", containerName="abc", portName="p3")
    assert rest.call("GET", f"/inspect/endpoints/{part}/")["Oper"]["endpointID"] == "abcd1ef"


@pytest.mark.parametrize("part", ["bcd1", "ffee1", "eb-1", "c0f", "1"])
def test_inspect_endpoint_by_no_beginning(rest: Rest, part: str) -> None:
    """A name that is not there would mean another container, whose id has the same letters somewhere."""
    rest.network()
    rest.endpoint("abcd1", containerID="c0ffee1", containerName="web-1")
    assert rest.refused("GET", f"/inspect/endpoints/{part}/") == (404, f"endpoint {part} not found")


def test_a_name_goes_before_an_id(rest: Rest) -> None:
    """A container that is called "dead" could not be looked at while there is an id that begins so."""
    rest.network()
    rest.endpoint("dead1", containerName="web")
    rest.endpoint("abcd1", containerName="deadline", portName="p2")
    assert rest.call("GET", "/inspect/endpoints/dead/")["Oper"]["endpointID"] == "abcd1"


def test_inspect_endpoint_that_is_not_one(rest: Rest) -> None:
    """Without it, a user reads about another container than the one meant."""
    rest.network()
    rest.endpoint("abcd1", containerID="c0ffee1", containerName="web")
    rest.endpoint("abcd2", containerID="c0ffee2", containerName="web-2", portName="p2")
    assert rest.refused("GET", "/inspect/endpoints/abcd/") == (
        409,
        "endpoint abcd is ambiguous: web (abcd1, network default:net), web-2 (abcd2, network default:net)",
    )
    assert rest.call("GET", "/inspect/endpoints/web/")["Oper"]["endpointID"] == "abcd1", "the whole name wins"
    assert rest.refused("GET", "/inspect/endpoints/nobody/") == (404, "endpoint nobody not found")


def test_hosts(rest: Rest) -> None:
    """Without it, nobody sees that an agent is dead."""
    assert rest.host() == {
        "key": "h1",
        "hostName": "h1",
        "switch": "00000000000000b1",
        "tunnelAddress": "192.0.2.1",
        "version": "0.1.0",
        "hostAddress": "169.254.0.1",
        "connected": False,
        "lastHeartbeat": 0.0,
        "appliedRevision": 0,
        "state": "up",
        "since": ANY,
        "reason": "heartbeat 0 s ago, its switch does not answer",
    }
    rest.now += 4.26
    rest.tracker.connect("h1")
    document = rest.call("GET", "/hosts/h1/")
    assert (document["connected"], document["lastHeartbeat"]) == (True, 4.3)
    answer = rest.call("PUT", "/hosts/h1/", document | {"mtu": 1450})
    now = {"lastHeartbeat": 0.0, "mtu": 1450, "reason": "heartbeat 0 s ago, its switch does not answer"}
    assert answer == document | now | {"since": ANY}, "its own answer is taken back"
    revision = rest.model.revision
    rest.host()
    assert rest.model.revision == revision, "a heartbeat is no change"
    assert rest.call("GET", "/hosts/")[0]["lastHeartbeat"] == 0.0


def condition(rest: Rest, name: str = "h1") -> tuple[str, str]:
    """State of a host, and why."""
    document = rest.call("GET", f"/hosts/{name}/")
    return document["state"], document["reason"]


@pytest.mark.parametrize("silent", ["agent", "switch"])
def test_a_host_of_which_a_part_is_silent(rest: Rest, silent: str) -> None:
    """Without it, a host whose agent or switch is dead or frozen is called up for as long as the other part lives."""
    rest.host()
    rest.connected = {0xB1}
    for _ in range(7):
        rest.now += 1.0
        rest.host() if silent == "switch" else rest.liveness.heard(0xB1)
    began = time.time()
    document = rest.call("GET", "/hosts/h1/")
    reason = "heartbeat 0 s ago, its switch does not answer"
    if silent == "agent":
        reason = "heartbeat 7 s ago, its switch answers"
    assert (document["state"], document["reason"]) == ("degraded", reason)
    since = calendar.timegm(time.strptime(document["since"], "%Y-%m-%dT%H:%M:%SZ"))
    assert -1.5 < since - (began - 7) < 1.5, "since the last sign of that part"
    rest.call("PUT", "/hosts/h1/drain/")
    assert condition(rest)[0] == "degraded", "what is wrong goes before draining"


def test_a_host_whose_open_vswitch_is_broken(rest: Rest) -> None:
    """Without it, a host that forwards nothing is called up, as its agent lives."""
    rest.host()
    rest.connected = {0xB1}
    rest.liveness.heard(0xB1)
    line = "does not work: ovsdb-server is gone since 2026-01-01T10:00:00Z"
    rest.call("PUT", "/hosts/h1/applied/", {"revision": 0, "errors": {"Open vSwitch": line}})
    assert condition(rest) == ("degraded", f"Open vSwitch {line}, heartbeat 0 s ago, its switch answers")
    rest.call("PUT", "/hosts/h1/applied/", {"revision": 0, "errors": {"Open vSwitch restarted": "..."}})
    assert condition(rest)[0] == "up"


def test_a_host_is_up_or_down(rest: Rest) -> None:
    """Without it, a user is not told why a host's providers get nothing, or who it is that is gone."""
    rest.host()
    rest.now += 3.0
    rest.connected = {0xB1}
    rest.liveness.heard(0xB1)
    assert condition(rest) == ("up", "heartbeat 3 s ago, its switch answers")
    rest.now += 10.0
    began = time.time()
    document = rest.call("GET", "/hosts/h1/")
    assert (document["state"], document["reason"]) == ("down", "heartbeat 13 s ago, its switch does not answer")
    since = calendar.timegm(time.strptime(document["since"], "%Y-%m-%dT%H:%M:%SZ"))
    assert -1.5 < since - (began - 10) < 1.5, "since its last sign of life"
    rest.call("PUT", "/hosts/h1/drain/")
    assert condition(rest)[0] == "down", "which goes before draining"
    rest.host()
    rest.liveness.heard(0xB1)
    state, reason = condition(rest)
    assert (state, reason) == ("draining", "its providers get no new connections; netctl host undrain ends that")


def test_draining(rest: Rest) -> None:
    """Without it, a host can't be emptied: new connections go to it until the last container has gone."""
    rest.network()
    rest.service()
    rest.host()
    rest.endpoint("e1", **ENDPOINT | {"homingHost": "h1", "switch": ""})

    def provider() -> tuple[object, object]:
        oper = rest.call("GET", "/inspect/serviceLBs/default:app/")["Oper"]
        return rest.call("GET", "/serviceLBs/default:app/")["healthyProviders"], oper["providers"][0].get("hostState")

    assert provider() == (1, None)
    assert rest.call("PUT", "/hosts/h1/drain/")["draining"]
    assert provider() == (0, "draining")
    rest.host()
    assert provider() == (0, "draining"), "its agent's next registration does not end it"
    revision = rest.model.revision
    rest.call("PUT", "/hosts/h1/drain/")
    assert rest.model.revision == revision
    assert "draining" not in rest.call("DELETE", "/hosts/h1/drain/")
    assert provider() == (1, None)
    rest.now += 6
    assert provider() == (0, "down")
    assert rest.refused("PUT", "/hosts/h9/drain/") == (404, "Host h9 not found")


def test_a_host_that_lives_is_not_removed(rest: Rest) -> None:
    """Without it, a typing error takes the containers of a whole host out of the network."""
    rest.network()
    rest.host()
    rest.endpoint("e1", **ENDPOINT | {"homingHost": "h1", "switch": ""})
    assert rest.refused("DELETE", "/hosts/h1/") == (
        409,
        "host h1 is up: its agent would register it again; first end its netctl-agent, or netctl host drain h1 and "
        "remove its containers",
    )
    rest.call("PUT", "/hosts/h1/drain/")
    assert rest.refused("DELETE", "/hosts/h1/") == (
        409,
        "host h1 is up and a container is on it: first remove it, or end its netctl-agent",
    )
    rest.call("DELETE", "/endpoints/e1/")
    rest.call("DELETE", "/hosts/h1/")
    rest.host()
    rest.endpoint("e1", **ENDPOINT | {"homingHost": "h1", "switch": ""})
    rest.now += 6
    rest.connected = {0xB1}
    rest.liveness.heard(0xB1)  # as when its agent was started again under another name
    assert "is that of host h1" in rest.refused("PUT", "/hosts/h2/", {"switch": "b1"})[1]
    rest.call("DELETE", "/hosts/h1/")
    assert not rest.model.endpoints
    rest.host("h2", "b1")


def test_endpoints_of_a_host(rest: Rest) -> None:
    """Without it, containers that started while the agent was down never become providers."""
    rest.network()
    rest.host()
    granted = rest.call(
        "POST",
        "/leases/",
        {"tenantName": "default", "networkName": "net", "ipAddress": "", "hostName": "h1"},
    )
    assert granted == {"ipAddress": "10.1.1.1/24", "key": "default:net:10.1.1.1"}
    one = {"endpointID": "e1", "tenantName": "default", "networkName": "net", "portName": "nv1"}
    whole = {"endpoints": [one], "keepLeases": [granted["key"]]}
    answer = rest.call("PUT", "/hosts/h1/endpoints/", whole)
    assert answer == {"revision": rest.model.revision}
    document = rest.call("GET", "/endpoints/e1/")
    assert (document["homingHost"], document["origin"], document["ipAddress"]) == (
        "h1",
        "agent",
        ["10.1.1.2"],
    )
    assert rest.call("DELETE", f"/leases/{granted['key']}/") == granted["key"]
    rest.call("PUT", "/hosts/h1/endpoints/", {"endpoints": []})
    assert rest.call("GET", "/endpoints/") == []


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({}, "endpoints: missing, must be the list of all endpoints on the host"),
        ({"endpoints": [{}]}, "endpoints[0]: endpointID: missing"),
        ({"endpoints": [{"endpointID": 1}]}, "endpoints[0]: endpointID: 1 is not a string"),
        (
            {"endpoints": [{"endpointID": "e1", "homingHost": "h2"}]},
            "homingHost: h2 in the body, but h1 in the path",
        ),
        ({"endpoints": [1]}, "endpoints: a list is not a list of objects"),
    ],
)
def test_malformed_endpoints_of_a_host(rest: Rest, document: Any, line: str) -> None:
    """Without it, an agent's mistake removes a host's endpoints."""
    rest.host()
    assert rest.refused("PUT", "/hosts/h1/endpoints/", document) == (400, line)


def test_subnets(rest: Rest) -> None:
    """Without it, `docker network create` without a subnet fails."""
    assert rest.call("POST", "/subnets/", {"tenantName": "default"}) == {"subnet": "10.224.0.0/24"}
    assert rest.refused("POST", "/subnets/", {"tenantName": "red"})[0] == 404


def test_dry_run(rest: Rest) -> None:
    """Without it, Docker has made a network that the controller then refuses."""
    revision = rest.model.revision
    answer = rest.call("POST", "/networks/default:net/?dryRun=1", {"subnet": "10.1.1.0/24"})
    assert answer == {"key": "default:net", "tenantName": "default", "networkName": "net"}
    assert rest.model.revision == revision
    assert rest.refused("POST", "/networks/default:net/?dryRun=1", {"subnet": "10.1.1.1/24"})[0] == 422


def test_switches(rest: Rest) -> None:
    """Without it, nobody sees whether the switch is connected."""
    switch = {"dpid": "000000000000000a", "connected": True, "ports": []}
    assert rest.call("GET", "/switches/") == [switch]
    assert rest.call("GET", "/switches/000000000000000a/") == switch | {"refusedByLimit": {"blue": 7}}
    assert rest.refused("GET", "/switches/b/") == (404, "Switch b not found")
    assert rest.refused("GET", "/switches/x/")[0] == 422


def test_globals(rest: Rest) -> None:
    """Without it, `netctl global info` ends in an error."""
    defaults = {
        "key": "global",
        "arpMode": "proxy",
        "fwdMode": "routing",
        "name": "global",
        "networkInfraType": "default",
        "vlans": "1-4094",
        "vxlans": "1-10000",
    }
    assert rest.call("GET", "/globals/") == [defaults]
    assert rest.call("GET", "/globals/global/") == defaults
    assert rest.call("GET", "/inspect/globals/global/") == {"Config": defaults, "Oper": {}}


@pytest.mark.parametrize("name", [*contiv.NOT_YET, "globals"])
def test_what_is_not_there_yet(rest: Rest, name: str) -> None:
    """Without it, `ls` of Contiv's client fails, or a policy is accepted that has no effect."""
    if name != "globals":
        assert rest.call("GET", f"/{name}/") == []
        assert rest.refused("GET", f"/{name}/default:x/") == (404, f"{name} default:x not found")
    for method in ("POST", "PUT", "DELETE"):
        status, line = rest.refused(method, f"/{name}/default:x/", {})
        assert (status, line) == (501, f"{name} can't be written: not supported yet")


def test_version_and_info(rest: Rest) -> None:
    """Without it, `netctl version` shows no server."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    status, _, text = rest.raw("GET", "/version")
    assert status == 200
    assert setup["metadata"]["version"] == "attr: topology.__version__", "it stands in one place"
    assert json.loads(text) == {"GitCommit": "", "Version": __version__, "BuildTime": ""}
    assert rest.raw("GET", "/info")[0] == 200
