"""Plugin calls that are nearly right, by the thousand; ``python -m tests.fuzz.plugin`` makes more of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netctl.agent import protocol
from netctl.agent.errors import Refusal
from tests.fuzz import plugin as fuzz
from tests.fuzz.command import Fault, Target
from tests.unit.test_agent_plugin import NETWORK, Plugin, plugin, refused

__all__ = ["plugin"]

KEPT = {
    "the last address of all has no next one": (
        "IpamDriver.RequestAddress",
        b'{"PoolID": "-/255.255.255.255/32", "Options": {"RequestAddressType": "com.docker.network.gateway"}}',
    ),
    "nor has that of IPv6": (
        "IpamDriver.RequestAddress",
        b'{"PoolID": "-/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",'
        b' "Options": {"RequestAddressType": "com.docker.network.gateway"}}',
    ),
    "and none is in a subnet of one address": (
        "IpamDriver.RequestAddress",
        b'{"PoolID": "-/10.9.0.1/32", "Options": {"RequestAddressType": "com.docker.network.gateway"}}',
    ),
}
"""What the fuzzer has found."""


@pytest.mark.parametrize("seed", [1, 74, 2611])
def test_nearly_right_calls(seed: int) -> None:
    """One of them would be an internal error of the agent, and a container would not start."""
    became = fuzz.run(3000, seed)
    assert became["done"] > 500
    assert became["refused"] > 300


@pytest.mark.parametrize("name", KEPT)
def test_what_was_found(plugin: Plugin, name: str) -> None:
    """It would be found again."""
    status, answer = plugin.post(*KEPT[name])
    assert status < 500, answer
    assert "none for a gateway" in refused(answer)


def test_nearly_right_bytes(plugin: Plugin) -> None:
    """The same for what is no call at all, half of one or several: Docker would not be answered any more."""
    became = fuzz.connect(Target(str(plugin.path)), 4, 74)
    assert became["done"] > 20, became
    assert "Implements" in plugin.call("Plugin.Activate")


def _pool(plugin: Plugin, number: int) -> dict[str, object]:
    return plugin.call("IpamDriver.RequestPool", Pool=f"10.9.{number}.0/24", Options={"tenant": "t"})


def _reserved(plugin: Plugin, number: int) -> dict[str, object]:
    if not number:
        plugin.call("IpamDriver.RequestPool", Pool="10.9.0.0/24")
    return plugin.call("IpamDriver.RequestAddress", PoolID="-/10.9.0.0/24", Address=f"10.9.0.{number}")


def _sandbox(plugin: Plugin, number: int) -> dict[str, object]:
    return plugin.call("NetworkDriver.Join", NetworkID=NETWORK, EndpointID=f"{number:064x}", SandboxKey=f"/x/{number}")


@pytest.mark.parametrize("remembered", [_pool, _reserved, _sandbox])
def test_what_calls_make_it_remember(plugin: Plugin, remembered: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can call would fill the agent's memory."""
    monkeypatch.setattr(protocol, "MOST", 20)
    said = [remembered(plugin, number) for number in range(25)]  # type: ignore[operator]
    assert [("Err" in answer) for answer in said] == [False] * 20 + [True] * 5
    assert "remembers 20 " in refused(said[-1])
    assert "Err" not in remembered(plugin, 7), "what it knows already is no more than before"  # type: ignore[operator]


def test_networks_that_docker_never_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same: of a network that Docker has only begun to make, nothing tells that it was given up."""
    monkeypatch.setattr(protocol, "MOST", 5)
    parts = fuzz.Parts(tmp_path)
    create = parts.calls["NetworkDriver.CreateNetwork"]
    monkeypatch.setattr("netctl.agent.driver.Client.check_network", lambda *_: None)
    for number in range(5):
        create({"NetworkID": f"{number:064x}", "IPv4Data": [{"Pool": f"10.9.{number}.0/24"}]})
    with pytest.raises(Refusal, match="remembers 5 networks that are not in the model"):
        create({"NetworkID": "9" * 64, "IPv4Data": [{"Pool": "10.9.9.0/24"}]})


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, {"Err": "x", "Error": "x"}), (200, ["x"]), (200, {"Err": "a\nb"}), (404, {}), (200, {"Err": "x" * 5000})],
)
def test_what_is_a_fault(status: int, body: object) -> None:
    """The fuzzer would find nothing."""
    with pytest.raises(Fault):
        fuzz.judge("x", status, json.dumps(body).encode())
