"""Pools and addresses that Docker leaves to us, with a controller that is there, away, or has no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from netctl.agent import driver, ipam
from netctl.agent.errors import Malformed, Refusal, SwitchError
from netctl.agent.ports import Ports
from netctl.agent.state import LocalNetwork, Pending
from netctl.client import NoConnection, Refused
from tests.fuzz.plugin import NETWORK, OTHER, Parts

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}


class Controller:
    """Its answers; an exception is raised."""

    picked: Any = "10.3.0.0/24"
    checked: Any = None

    def __init__(self, url: str) -> None:
        """Any."""

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def pick_subnet(self, tenant: str) -> Any:
        return _given(type(self).picked)

    def check_network(self, document: Mapping[str, Any]) -> Any:
        return _given(type(self).checked)


def _given(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """An agent's, with that controller."""
    for module in (ipam, driver):
        monkeypatch.setattr(module, "Client", Controller)
    monkeypatch.setattr(Controller, "picked", "10.3.0.0/24")
    monkeypatch.setattr(Controller, "checked", None)
    monkeypatch.setattr(ipam, "routes", lambda version: [])
    return Parts(tmp_path)


def pool(parts: Parts, **body: Any) -> Mapping[str, Any]:
    return parts.calls["IpamDriver.RequestPool"](body)


def address(parts: Parts, **body: Any) -> Mapping[str, Any]:
    return parts.calls["IpamDriver.RequestAddress"](body)


def test_a_subnet_that_is_free(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker network create` without a subnet would take one that this machine uses already."""
    assert pool(parts)["Pool"] == "10.3.0.0/24"
    assert pool(parts)["Pool"] == "10.3.1.0/24", "the first is taken a moment ago"
    monkeypatch.setattr(ipam, "routes", lambda version: [IPv4Network("10.0.0.0/8")])
    with pytest.raises(Refusal, match="no free subnet was found"):
        pool(parts)


@pytest.mark.parametrize(
    ("error", "line"),
    [(NoConnection("http://c", "refused"), "no network can be made now"), (Refused(409, "none is left"),
    "none is left")],
)
def test_nobody_picks(parts: Parts, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str) -> None:
    """A failure of the controller would be an internal error."""
    monkeypatch.setattr(Controller, "picked", error)
    with pytest.raises(Refusal, match=line):
        pool(parts)
    monkeypatch.setattr(Controller, "checked", error)
    pool(parts, Pool="10.8.0.0/24")
    with pytest.raises(Refusal, match=line):
        create(parts, "10.8.0.0/24")


def test_no_ipv6_subnet_is_free(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be looked for without an end."""
    assert pool(parts, V6=True)["Pool"].endswith("::/64")
    monkeypatch.setattr(ipam.Ipam, "_taken", lambda *_: True)
    with pytest.raises(Refusal, match="no free IPv6 subnet"):
        pool(parts, V6=True)


def create(parts: Parts, subnet: str, **more: Any) -> Mapping[str, Any]:
    data = [{"AddressSpace": "netctl-local", "Pool": subnet}]
    return parts.calls["NetworkDriver.CreateNetwork"]({"NetworkID": OTHER, "IPv4Data": data, **more})


def test_a_network_that_is_going(parts: Parts) -> None:
    """The agent would make again in Docker what has just been removed from the model."""
    pool(parts, Pool="10.8.0.0/24", Options={"tenant": "t"})
    parts.state.making = "t:n"
    with pytest.raises(Refusal, match="t:n has just been removed"):
        create(parts, "10.8.0.0/24", Options={"com.docker.network.generic": {"tenant": "t", "network": "n"}})


def test_a_network_that_is_not_there(parts: Parts) -> None:
    """A container would start in a network that the model does not have."""
    state = parts.state
    state.pending[NETWORK] = Pending("its name is taken")
    with pytest.raises(Refusal, match="not in the model: its name is taken"):
        address(parts, PoolID="default/10.241.0.0/24")
    state.pending.clear()
    network = state.networks.pop(NETWORK)
    with pytest.raises(Refusal, match="has just been removed"):
        ipam.Ipam.registered(parts.ipam, network)


def test_one_that_does_not_get_there(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docker run` would wait for ever."""
    monkeypatch.setattr(ipam, "REGISTRATION_TIMEOUT", 0.01)
    parts.state.pending[NETWORK] = Pending()
    with pytest.raises(Refusal, match="not registered with the controller"):
        address(parts, PoolID="default/10.241.0.0/24")


def test_gateways(parts: Parts) -> None:
    """Docker would tell containers of a gateway that nobody has."""
    modelled = {"tenantName": "default", "networkName": "n", "subnet": "10.9.0.0/24", "number": 1,
    "dockerName": "n"}
    parts.state.model["default:n"] = modelled | {"gateway": "10.9.0.254"}  # type: ignore[assignment]
    assert address(parts, PoolID="default/10.9.0.0/24", Options=GATEWAY)["Address"] == "10.9.0.254/24"
    parts.state.model["default:n"] = modelled  # type: ignore[assignment]
    assert address(parts, PoolID="default/10.9.0.0/24", Options=GATEWAY)["Address"] == "10.9.0.0/24", "it has none"
    assert address(parts, PoolID="default/10.7.0.0/24", Options=GATEWAY)["Address"] == "10.7.0.1/24"


def test_an_address_that_is_released(parts: Parts) -> None:
    """A container that went would keep its address, or a gateway's would be given to another."""
    release, released = parts.calls["IpamDriver.ReleaseAddress"], []
    parts.sync.release = lambda *what: released.append(what)  # type: ignore[method-assign]
    with pytest.raises(Malformed, match="Address is missing"):
        release({"PoolID": "default/10.241.0.0/24"})
    for one in ("10.241.0.254", "10.241.0.0", "10.241.0.9"):
        release({"PoolID": "default/10.241.0.0/24", "Address": one})
    assert released == [("default", "net", IPv4Address("10.241.0.9"))]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_network_is_removed(parts: Parts, leaves: bool) -> None:
    """The agent would go on with a network that Docker has not,
    or take one for gone that was not registered yet."""
    delete: Callable[..., object] = parts.calls["NetworkDriver.DeleteNetwork"]
    if not leaves:
        parts.state.pending[NETWORK] = Pending()
    delete({"NetworkID": NETWORK})
    delete({"NetworkID": "9" * 64})
    assert (NETWORK in parts.state.networks, NETWORK in parts.state.leaving) == (leaves, leaves)


def test_what_a_container_is_told(parts: Parts) -> None:
    """A container would have no way out, or one where its network is closed."""
    network = parts.state.networks[NETWORK]
    body = {"NetworkID": NETWORK, "EndpointID": "ab" * 32, "SandboxKey": "/x/y"}
    join, six = parts.calls["NetworkDriver.Join"], ipam.ip_network("fd00::/64")
    parts.state.set_network(replace(network, subnet6=six, gateway6=six[1]))
    assert (join(body)["Gateway"], join(body)["GatewayIPv6"]) == ("10.241.0.254", "fd00::1")
    parts.state.set_network(replace(network, internal=True))
    assert "Gateway" not in join(body)
    assert isinstance(network, LocalNetwork)


def test_the_routes_of_this_machine() -> None:
    """A subnet would be picked that this machine reaches elsewhere."""
    assert all(route.version == version for version in (4, 6) for route in ipam.routes(version))


class Told:
    """What the controller says to an endpoint."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def result(self, timeout: float) -> None:
        """It, or an exception."""
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("plugging", "answer", "line"),
    [
        (None, None, ""),
        (None, NoConnection("http://c", "refused"), ""),
        (None, TimeoutError(), ""),
        (None, Refused(409, "ipAddress 10.241.0.7 is taken: it is x; right is another"), "taken: it is x; right"),
        (SwitchError("Open vSwitch does not answer"), None, "Open vSwitch does not answer"),
    ],
)
def test_an_endpoint(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, plugging: Exception | None, answer: Exception | None, line: str
) -> None:
    """A container would start that nobody reaches, or would not start while the controller is away."""
    monkeypatch.setattr(Ports, "add", lambda *_: _given(plugging))
    monkeypatch.setattr(Ports, "remove", lambda *_: None)
    parts.sync.endpoint = lambda _: Told(answer)  # type: ignore[method-assign,assignment,return-value]
    made, body = "ab" * 32, {"NetworkID": NETWORK, "EndpointID": "ab" * 32, "Interface": {"Address": "10.241.0.7/24"}}
    create_endpoint = parts.calls["NetworkDriver.CreateEndpoint"]
    if line:
        with pytest.raises(Refusal, match=line):
            create_endpoint(body)
        assert made not in parts.state.endpoints
    else:
        assert create_endpoint(body) == {"Interface": {"MacAddress": "02:42:0a:f1:00:07"}}
        assert parts.state.endpoints[made].created < float("inf")


def test_an_address_that_docker_chose(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user would not learn what to do about it."""
    monkeypatch.setattr(Ports, "add", lambda *_: None)
    monkeypatch.setattr(Ports, "remove", lambda *_: None)
    parts.state.set_network(replace(parts.state.networks[NETWORK], own_ipam=False))
    taken = Refused(409, "ipAddress 10.241.0.7 is taken: it is x; right is another")
    parts.sync.endpoint = lambda _: Told(taken)  # type: ignore[method-assign,assignment,return-value]
    body = {"NetworkID": NETWORK, "EndpointID": "ab" * 32, "Interface": {"Address": "10.241.0.7/24"}}
    with pytest.raises(Refusal, match="it is x; Docker's own IPAM driver chose it"):
        parts.calls["NetworkDriver.CreateEndpoint"](body)
    with pytest.raises(Malformed, match="Address is missing"):
        parts.calls["NetworkDriver.CreateEndpoint"](body | {"Interface": {}})
