"""Docker's plugin protocol, over a real socket: what is malformed gets one line, and the plugin lives on."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netctl.agent.bridge import Bridge
from netctl.agent.docker_api import Docker
from netctl.agent.driver import Driver
from netctl.agent.errors import StartError
from netctl.agent.ipam import Ipam
from netctl.agent.ovsdb import Ovsdb
from netctl.agent.plugin import MAX_BODY, PluginServer
from netctl.agent.ports import Ports
from netctl.agent.state import LocalEndpoint, LocalNetwork, Pending, State, Subnets
from netctl.agent.sync import Synchroniser
from netctl.agent.ways import Ways

NOBODY = "http://127.0.0.1:9"
NETWORK = "1" * 64
ENDPOINT = "e" * 64
SANDBOX = "/var/run/docker/netns/0123456789ab"


def post(path: Path, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and document of an answer."""
    connection = http.client.HTTPConnection("plugin", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(str(path))
    with contextlib.closing(connection):
        connection.request("POST", f"/{method}", body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


class Plugin:
    """A plugin whose Docker has one network, whose switch and controller are away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State("host")
        self.state.update(listed=True)
        subnet, gateway = IPv4Network("10.1.1.0/24"), IPv4Address("10.1.1.254")
        self.state.set_network(LocalNetwork(NETWORK, "net", "default", "net", subnet, gateway))
        sync = Synchroniser(NOBODY, self.state, lambda: None)
        bridge = Bridge(Ovsdb(f"unix:{path}.ovsdb"), "br", "host", ["tcp:127.0.0.1:6653"], "netdev")
        ipam = Ipam(self.state, sync)
        self.ways = Ways(self.state, Docker("unix:///nowhere", "netctl"), lambda _: None, lambda: None)
        driver = Driver(self.state, sync, Ports(bridge, self.state), ipam, self.ways)
        self.calls = {**driver.calls(), **ipam.calls()}
        self.server = PluginServer(path, self.calls)
        self.server.start()

    def raw(self, request: bytes) -> bytes:
        """What comes back until the plugin closes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    def post(self, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and document of an answer."""
        return post(self.path, method, body)

    def call(self, method: str, **body: Any) -> dict[str, Any]:
        """The document of an answer."""
        return self.post(method, json.dumps(body).encode())[1]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    """It serves while the test runs."""
    served = Plugin(tmp_path / "netctl.sock")
    yield served
    served.server.stop()


def refused(answer: dict[str, Any]) -> str:
    """The line of a refusal, in the fields that Docker reads of either driver."""
    assert set(answer) == {"Err", "Error"}
    assert answer["Err"] == answer["Error"]
    assert answer["Err"] and "\n" not in answer["Err"]
    return str(answer["Err"])


def test_what_docker_asks_first(plugin: Plugin) -> None:
    """Else Docker does not take the plugin for a driver at all."""
    assert plugin.post("Plugin.Activate", b"")[1] == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert plugin.call("NetworkDriver.GetCapabilities")["Scope"] == "local"
    assert plugin.call("IpamDriver.GetCapabilities")["RequiresRequestReplay"] is False
    assert plugin.call("IpamDriver.GetDefaultAddressSpaces")["LocalDefaultAddressSpace"] == "netctl-local"
    for method in ("DiscoverNew", "DiscoverDelete", "ProgramExternalConnectivity", "FreeNetwork"):
        assert plugin.call(f"NetworkDriver.{method}") == {}
    assert plugin.call("NetworkDriver.Leave", EndpointID="a" * 64) == {}, "also of one that it does not know"


@pytest.mark.parametrize(
    ("method", "body", "line"),
    [
        ("NetworkDriver.CreateEndpoint", b"{", "not JSON"),
        ("NetworkDriver.CreateEndpoint", b"\xff\xfe", "not JSON"),
        ("NetworkDriver.CreateEndpoint", b"[" * 100_000, "levels deep"),
        ("NetworkDriver.CreateEndpoint", b"[]", "not a JSON object"),
        ("NetworkDriver.CreateEndpoint", b"", "restarted in the middle"),
        ("NetworkDriver.CreateEndpoint", b'{"x":1}', "EndpointID is missing"),
        ("NetworkDriver.CreateEndpoint", b'{"EndpointID":7}', "EndpointID: a string, not 7"),
        ("NetworkDriver.CreateEndpoint", b'{"EndpointID":"../../etc"}', "not an id of Docker's"),
        ("NetworkDriver.DeleteEndpoint", b'{"EndpointID":null, "a":1}', "EndpointID is missing"),
        ("NetworkDriver.CreateNetwork", b'{"NetworkID":"' + b"a" * 64 + b'"}', "one IPv4 subnet, not 0"),
        ("NetworkDriver.CreateNetwork", b'{"NetworkID":"' + b"a" * 64 + b'","IPv4Data":[1]}', "a list of objects"),
        ("NetworkDriver.CreateNetwork", b'{"NetworkID":"' + b"a" * 64 + b'","Options":[]}', "Options: an object"),
        ("NetworkDriver.Join", b'{"EndpointID":"' + b"a" * 64 + b'"}', "NetworkID is missing"),
        ("IpamDriver.RequestPool", b'{"Pool":"10.1.1.0/33"}', "not an IPv4 subnet"),
        ("IpamDriver.RequestPool", b'{"Pool":"10.1.1.1/24"}', "has host bits set; 10.1.1.0/24?"),
        ("IpamDriver.RequestPool", b'{"Pool":"fd00::/64"}', "not an IPv4 subnet"),
        ("IpamDriver.RequestPool", b'{"V6":true,"Pool":"10.1.1.0/24"}', "not an IPv6 subnet x:x::/len"),
        ("IpamDriver.RequestPool", b'{"V6":true,"Pool":"fd00::1/64"}', "has host bits set; fd00::/64?"),
        ("IpamDriver.RequestPool", b'{"V6":true,"Pool":"fe80::%eth0/64"}', "not an IPv6 subnet"),
        ("IpamDriver.RequestPool", b'{"V6":true,"SubPool":"fd00::/80"}', "a range needs a subnet"),
        (
            "IpamDriver.RequestPool",
            b'{"V6":true,"Pool":"fd00::/64","SubPool":"fd00::/80"}',
            "the range fd00::/80: IPv6",
        ),
        ("IpamDriver.RequestPool", b'{"V6":"perhaps"}', "V6: true or false"),
        ("IpamDriver.RequestPool", b'{"Pool":"10.1.1.0/24","SubPool":"10.1.2.0/25"}', "not within the subnet"),
        ("IpamDriver.RequestPool", b'{"SubPool":"10.1.2.0/25"}', "a range needs a subnet"),
        ("IpamDriver.RequestPool", b'{"Options":{"tennant":"x"}}', "unknown IPAM option tennant"),
        ("IpamDriver.RequestPool", b"{}", "no connection to http://127.0.0.1:9"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"nonsense"}', "not one of this driver's"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"default/10.9.0.0/24"}', "no network of tenant default has"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"default/10.1.1.0/24","Address":"10.1.2.3"}', "is not in the subnet"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"default/10.1.1.0/24","Address":"x"}', "not an IPv4 address"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"default/fd00::/64","Address":"fd01::1"}', "is not in the subnet"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"default/fd00::/64","Address":"10.1.1.1"}', "not an IPv6 address"),
        ("IpamDriver.RequestAddress", b'{"PoolID":"default/fd00::/64"}', "no network of tenant default has"),
        ("IpamDriver.ReleaseAddress", b'{"PoolID":"default/10.1.1.0/24"}', "Address is missing"),
        ("IpamDriver.ReleasePool", b'{"a":1}', "PoolID is missing"),
        ("NetworkDriver.Nothing", b"{}", "unknown method NetworkDriver.Nothing"),
        ("", b"{}", "unknown method"),
    ],
)
def test_a_malformed_request(plugin: Plugin, method: str, body: bytes, line: str) -> None:
    """Else one bad request ends the plugin, or the user sees a trace instead of a reason."""
    assert line in refused(plugin.post(method, body)[1])
    assert "Implements" in plugin.call("Plugin.Activate")


def endpoint(**interface: str) -> dict[str, Any]:
    return {"NetworkID": NETWORK, "EndpointID": ENDPOINT, "Interface": interface}


@pytest.mark.parametrize(
    ("interface", "line"),
    [
        ({}, "Address is missing"),
        ({"AddressIPv6": "fd00::1/64"}, "Address is missing"),
        ({"Address": "fd00::1/64"}, "not an IPv4 address"),
        ({"Address": "10.1.1.1/24", "AddressIPv6": "10.1.1.1/24"}, "AddressIPv6 '10.1.1.1/24': not an IPv6 address"),
        ({"Address": "10.1.1.1/24", "MacAddress": "02:11"}, "six pairs of hexadecimal digits"),
        ({"Address": "10.1.1.1/24", "MacAddress": "01:00:00:00:00:01"}, "not one that an interface can have"),
        ({"Address": "10.1.1.1/24", "MacAddress": "00:00:00:00:00:00"}, "not one that an interface can have"),
    ],
)
def test_an_endpoint_that_cannot_be(plugin: Plugin, interface: dict[str, str], line: str) -> None:
    """Else a container gets an interface that does not work."""
    assert line in refused(plugin.call("NetworkDriver.CreateEndpoint", **endpoint(**interface)))


def test_an_endpoint_while_the_switch_is_away(plugin: Plugin) -> None:
    """Else a container starts without its network, or half of its endpoint stays behind."""
    line = refused(plugin.call("NetworkDriver.CreateEndpoint", **endpoint(Address="10.1.1.1/24")))
    assert line.startswith("Open vSwitch does not answer at unix:")
    assert not plugin.state.endpoints
    assert plugin.call("NetworkDriver.DeleteEndpoint", NetworkID=NETWORK, EndpointID=ENDPOINT) == {}


def test_a_network_that_was_refused_says_why_at_every_start(plugin: Plugin) -> None:
    """Else a container in a network that the model does not have seems to hang for no reason."""
    plugin.state.pending[NETWORK] = Pending("network x conflicts with subnet y")
    line = refused(plugin.call("NetworkDriver.CreateEndpoint", **endpoint(Address="10.1.1.1/24")))
    assert line == "this network is not in the model: network x conflicts with subnet y"


def test_join(plugin: Plugin) -> None:
    """Else the container has no way out of its network, or one around it."""
    answer = plugin.call("NetworkDriver.Join", **endpoint(), SandboxKey=SANDBOX)
    assert answer == {
        "InterfaceName": {"SrcName": "nceeeeeeeeeeee", "DstPrefix": "eth"},
        "DisableGatewayService": True,
        "Gateway": "10.1.1.254",
    }
    both = replace(plugin.state.networks[NETWORK], subnet6=IPv6Network("fd00::/64"), gateway6=IPv6Address("fd00::fe"))
    plugin.state.set_network(both)
    answer = plugin.call("NetworkDriver.Join", **endpoint(), SandboxKey=SANDBOX)
    assert (answer["Gateway"], answer["GatewayIPv6"]) == ("10.1.1.254", "fd00::fe")
    plugin.state.set_network(replace(both, internal=True))
    assert not {"Gateway", "GatewayIPv6"} & set(plugin.call("NetworkDriver.Join", **endpoint(), SandboxKey=SANDBOX))


def test_a_container_in_two_tenants_that_overlap(plugin: Plugin) -> None:
    """Else a container reaches one of two tenants at random, and nobody is told."""
    other = LocalNetwork("2" * 64, "n/blue", "blue", "n", IPv4Network("10.2.0.0/24"), IPv4Address("10.2.0.254"))
    plugin.state.set_network(other)
    for number, network in (("a", NETWORK), ("b", other.id)):
        plugin.state.put_endpoint(LocalEndpoint(number * 64, network, IPv4Address("10.2.0.1"), "02:00:00:00:00:01"))
    asked = [{"NetworkID": network, "EndpointID": number * 64} for number, network in (("a", NETWORK), ("b", other.id))]
    for body in asked:
        assert "Err" not in plugin.call("NetworkDriver.Join", **body, SandboxKey=SANDBOX)
    plugin.state.model["blue:vips"] = {
        "tenantName": "blue", "networkName": "vips", "number": 9, "subnet": "10.0.0.0/8",
    }  # fmt: skip
    assert refused(plugin.call("NetworkDriver.Join", **asked[1], SandboxKey=SANDBOX)) == (
        "network blue:vips (10.0.0.0/8) overlaps network default:net (10.1.1.0/24):"
        " a container can't be in both tenants"
    )
    assert "Err" not in plugin.call("NetworkDriver.Join", **asked[1], SandboxKey="/var/run/docker/netns/another")
    for path in ("", "netns/x", "/var/run/../../etc/passwd", "/" + "x" * 5000, "/a\0b"):
        assert "SandboxKey" in refused(plugin.call("NetworkDriver.Join", **asked[0], SandboxKey=path))


def pool(subnet: str, gateway: str = "") -> dict[str, str]:
    return {"AddressSpace": "netctl-local", "Pool": subnet, "Gateway": gateway}


def test_a_network_of_both_versions(plugin: Plugin) -> None:
    """Else Docker and the model disagree about a network's IPv6, or it is left out in silence."""
    asked = {
        "NetworkID": "2" * 64,
        "Options": {"com.docker.network.enable_ipv6": True, "com.docker.network.generic": {"network": "n6"}},
        "IPv4Data": [pool("10.6.0.0/24", "10.6.0.254/24")],
        "IPv6Data": [pool("fd06::/64", "fd06::fe/64")],
    }
    for version, subnet in ((False, "10.6.0.0/24"), (True, "fd06::/64")):
        answer = plugin.call("IpamDriver.RequestPool", Pool=subnet, V6=version)
        assert answer == {"PoolID": f"-/{subnet}", "Pool": subnet, "Data": {}}
    kept = {"PoolID": "-/fd06::/64", "Address": "fd06::77"}
    assert plugin.call("IpamDriver.RequestAddress", **kept)["Address"] == "fd06::77/64"
    assert "no network can be made now" in refused(plugin.call("NetworkDriver.CreateNetwork", **asked))
    other = {**asked, "IPv6Data": [pool("fd08::/64")]}
    assert "restarted while this network was" in refused(plugin.call("NetworkDriver.CreateNetwork", **other))
    plugin.state.model["default:n6"] = {
        "tenantName": "default",
        "networkName": "n6",
        "subnet": "10.6.0.0/24",
        "gateway": "10.6.0.254",
        "ipv6Subnet": "fd06::/64",
        "ipv6Gateway": "fd06::fe",
    }
    assert plugin.call("NetworkDriver.CreateNetwork", **asked) == {}
    made = plugin.state.networks["2" * 64]
    assert made.subnets == Subnets(
        IPv4Network("10.6.0.0/24"), IPv4Address("10.6.0.254"), IPv6Network("fd06::/64"), IPv6Address("fd06::fe")
    )
    assert made.reserved == (IPv6Address("fd06::77"),)
    for more, line in (
        ({"IPv6Data": [pool("fd06::/64"), pool("fd07::/64")]}, "one IPv6 subnet, not 2"),
        ({"IPv6Data": [pool("")]}, "IPv6Data: Pool is missing"),
        ({"IPv6Data": [pool("10.6.0.0/24")]}, "not an IPv6 subnet"),
        ({"IPv6Data": [pool("fd06::/64", "10.6.0.1/24")]}, "not an IPv6 address"),
    ):
        assert line in refused(plugin.call("NetworkDriver.CreateNetwork", **{**asked, **more}))


def test_an_ipv6_subnet_that_docker_leaves_to_us(plugin: Plugin) -> None:
    """Else `docker network create --ipv6` without a subnet fails, or two sites get the same one."""
    found = [plugin.call("IpamDriver.RequestPool", V6=True)["Pool"] for _ in range(2)]
    assert len(set(found)) == 2
    for subnet in found:
        assert IPv6Network(subnet).subnet_of(IPv6Network("fd00::/8"))
        assert IPv6Network(subnet).prefixlen == 64
        assert (f"-/{subnet}") in {f"-/{known}" for _, known in plugin.state.pools}


def test_gateways_that_docker_asks_for(plugin: Plugin) -> None:
    """Else a network's gateway is another one in Docker than in the model."""
    options = {"RequestAddressType": "com.docker.network.gateway"}
    plugin.state.model["default:srv"] = {"tenantName": "default", "networkName": "srv", "subnet": "100.1.1.0/24"}
    plugin.state.model["default:web"] = {
        "tenantName": "default",
        "networkName": "web",
        "subnet": "10.3.0.5-10.3.0.9/16",
        "gateway": "10.3.0.1",
        "ipv6Subnet": "fd03::/64",
        "ipv6Gateway": "fd03::fe",
    }
    plugin.state.model["default:half"] = {
        "tenantName": "default",
        "networkName": "half",
        "subnet": "10.5.0.0/24",
        "gateway": "10.5.0.1",
        "ipv6Subnet": "fd05::/64",
    }
    for pool, asked, answered in (
        ("default/100.1.1.0/24", "", "100.1.1.0/24"),  # none: the subnet's own address stands for it
        ("default/10.3.0.0/16", "", "10.3.0.1/16"),
        ("-/10.4.0.0/24", "", "10.4.0.1/24"),  # a user's new network
        ("-/10.4.0.0/24", "10.4.0.7", "10.4.0.7/24"),
        ("default/fd03::/64", "", "fd03::fe/64"),
        ("default/fd05::/64", "", "fd05::/64"),
        ("-/fd04::/64", "", "fd04::1/64"),
    ):
        answer = plugin.call("IpamDriver.RequestAddress", PoolID=pool, Address=asked, Options=options)
        assert answer == {"Address": answered, "Data": {}}


def test_a_body_over_its_limit(plugin: Plugin) -> None:
    """Else a client can fill the agent's memory."""
    head = f"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode()
    answer = plugin.raw(head)
    assert b" 413 " in answer.splitlines()[0]
    assert b"at most 1048576 bytes" in answer
    status, _ = plugin.post("Plugin.Activate", b"{" + b" " * (MAX_BODY - 2) + b"}")
    assert status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /Plugin.Activate HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /Plugin.Activate HTTP/9.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_call_at_all(plugin: Plugin, request_: bytes) -> None:
    """Else a stray client gets a page of HTML, or the plugin's thread hangs."""
    answer = plugin.raw(request_)
    body = answer.partition(b"\r\n\r\n")[2] or answer
    assert refused(json.loads(body[body.index(b"{") :]))


def test_half_a_request(plugin: Plugin) -> None:
    """Else a client that goes away in the middle leaves a traceback, or stops the plugin."""
    assert plugin.raw(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{") == b""
    assert plugin.raw(b"") == b""
    assert "Implements" in plugin.call("Plugin.Activate")


WORDS = st.sampled_from(["10.1.1.0/24", "fd00::/64", "default/fd00::/64", "a" * 64])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("NetworkID", "EndpointID", "Interface", "Options", "IPv4Data", "IPv6Data", "PoolID", "Pool", "Address", "V6")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_request(plugin: Plugin, data: st.DataObject) -> None:
    """Else some request that nobody thought of ends in an internal error."""
    method = data.draw(st.sampled_from([name for name in plugin.calls if "DeleteEndpoint" not in name]))
    body = data.draw(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
    status, answer = plugin.post(method, json.dumps(body).encode())
    assert status < 500, answer
    if "Err" in answer:
        refused(answer)


def test_the_socket(tmp_path: Path) -> None:
    """Else anybody on the machine can make ports, or a dead agent's socket keeps the next one from starting."""
    path = tmp_path / "plugins" / "netctl.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    first = PluginServer(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first.start()
    with pytest.raises(StartError, match="another agent is serving it already"):
        PluginServer(path, {})
    first.stop()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(StartError, match="is not a socket"):
        PluginServer(path, {})
    assert path.read_text() == "mine"


@pytest.mark.parametrize("taken", [False, True])
def test_a_socket_that_is_taken_away(tmp_path: Path, taken: bool) -> None:
    """Docker would find no plugin, for good, while the agent thinks that it serves."""
    path = tmp_path / "netctl.sock"
    lines: list[str] = []
    lost = threading.Event()
    server = PluginServer(path, {}, lambda line: (lines.append(line), lost.set())[1])
    server.start()
    other = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as program:
        program.bind(str(other))
        if taken:
            other.rename(path)
        else:
            path.unlink()
        assert lost.wait(10)
    server.stop()
    assert path.exists() is taken, "what is another program's stays"
    what = "is another program's by now" if taken else "is gone (No such file or directory)"
    assert lines == [f"{path} {what}: Docker can't reach this agent any more, it has to start again"]


def test_a_stop_in_the_middle_of_a_call(tmp_path: Path) -> None:
    """Else a restart of the agent fails the container that is just starting."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(body: object) -> dict[str, str]:
        begun.set()
        assert go_on.wait(10)
        return {"Slow": "done"}

    path = tmp_path / "netctl.sock"
    server = PluginServer(path, {"Slow": slow})
    server.start()
    idle = socket.socket(socket.AF_UNIX)
    idle.settimeout(10)
    idle.connect(str(path))
    answers: list[tuple[int, dict[str, Any]]] = []
    caller = threading.Thread(target=lambda: answers.append(post(path, "Slow", b"{}")))
    caller.start()
    assert begun.wait(10)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    assert idle.recv(1) == b""  # closed at once, so that Docker opens another: the next agent's
    idle.close()
    assert stopper.is_alive()
    go_on.set()
    caller.join(10)
    stopper.join(10)
    assert answers == [(200, {"Slow": "done"})]
