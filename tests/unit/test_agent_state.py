"""What the agent makes of Docker's words, and of a subnet's; what it remembers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netctl.agent.docker_api import container_of, network_of
from netctl.agent.driver import derived_mac
from netctl.agent.errors import Refusal
from netctl.agent.listing import endpoints_of, merged
from netctl.agent.memory import FILE, Memory
from netctl.agent.registry import ranged
from netctl.agent.state import Container, LocalEndpoint, LocalNetwork, Pending, State, model_name, subnet_of
from topology import validate
from topology.errors import Invalid


def network(number: int = 1, **fields: Any) -> LocalNetwork:
    values: dict[str, Any] = {
        "id": str(number) * 64,
        "name": "net",
        "tenant": "default",
        "network": "net",
        "subnet": IPv4Network("10.1.1.0/24"),
        "gateway": IPv4Address("10.1.1.254"),
    }
    return LocalNetwork(**{**values, **fields})


@pytest.mark.parametrize(
    ("docker", "tenant", "name"),
    [
        ("web", "default", "web"),
        ("web/blue", "blue", "web"),
        ("web/blue", "default", "web-blue"),
        ("my_prj_front", "default", "my_prj_front"),
        ("my_net/blue", "blue", "my_net"),
        ("_x_", "default", "x"),
        ("a.b-c", "default", "a.b-c"),
        ("a b\u00e9c", "default", "a-b-c"),
        ("\u00fc_", "default", ""),
    ],
)
def test_the_name_of_a_docker_network(docker: str, tenant: str, name: str) -> None:
    """Else a Compose project's network has another name in netctl than in Docker, or is refused by the model."""
    assert model_name(docker, tenant) == name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True))
def test_a_name_that_the_model_takes_stays(name: str) -> None:
    """Else Docker's name and netctl's differ for no reason."""
    try:
        validate.network_name(name)
    except Invalid:
        return
    assert model_name(name, "default") == name


@pytest.mark.parametrize(
    ("text", "subnet"),
    [
        ("10.1.1.0/24", "10.1.1.0/24"),
        ("10.1.1.10-10.1.1.20/24", "10.1.1.0/24"),
        ("10.1.2.0-10.1.2.9/16", "10.1.0.0/16"),
    ],
)
def test_the_subnet_of_a_network_with_a_range(text: str, subnet: str) -> None:
    """Else Docker gets the wrong subnet for a network whose addresses are bounded."""
    assert subnet_of(text) == IPv4Network(subnet)


@pytest.mark.parametrize(
    ("ip_range", "text"),
    [
        (None, "10.1.1.0/24"),
        ("10.1.1.128/25", "10.1.1.128-10.1.1.254/24"),
        ("10.1.1.0/25", "10.1.1.1-10.1.1.127/24"),
        ("10.1.1.0/24", "10.1.1.1-10.1.1.254/24"),
        ("10.1.1.7/32", "10.1.1.7-10.1.1.7/24"),
    ],
)
def test_a_range_of_docker(ip_range: str | None, text: str) -> None:
    """Else --ip-range hands out addresses outside it, or the broadcast address."""
    wanted = IPv4Network(ip_range) if ip_range else None
    assert ranged(IPv4Network("10.1.1.0/24"), wanted) == text
    with pytest.raises(Refusal, match="not within the subnet"):
        ranged(IPv4Network("10.1.1.0/24"), IPv4Network("10.1.2.0/25"))


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("running", "Up 3 minutes", ("running", "")),
        ("running", "Up 3 minutes (healthy)", ("running", "healthy")),
        ("running", "Up 3 minutes (unhealthy)", ("running", "unhealthy")),
        ("running", "Up Less than a second (health: starting)", ("running", "starting")),
        ("paused", "Up 3 minutes (Paused)", ("paused", "")),
        ("exited", "Exited (0) 2 seconds ago", ("stopped", "")),
        ("restarting", "Restarting (1) 2 seconds ago", ("stopped", "")),
        ("created", "Created", ("created", "")),
        ("dead", "Dead", ("stopped", "")),
    ],
)
def test_a_container_of_dockers_listing(state: str, status: str, expected: tuple[str, str]) -> None:
    """Else after a restart of the agent a sick or paused container receives connections."""
    item = {"Id": "c1", "Names": ["/web"], "Labels": {"a": "b"}, "State": state, "Status": status}
    found = container_of(item)
    assert (found.state, found.health) == expected
    assert (found.id, found.name, found.labels) == ("c1", "web", {"a": "b"})


def inspected(**fields: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "Id": "1" * 64,
        "Name": "web/blue",
        "Options": {"tenant": "blue", "network": "web"},
        "IPAM": {
            "Driver": "netctl",
            "Options": {"tenant": "blue", "network": "web"},
            "Config": [{"Subnet": "10.1.1.0/24", "Gateway": "10.1.1.254"}],
        },
        "Containers": {
            "c" * 64: {"EndpointID": "e1", "MacAddress": "02:42:0a:01:01:01", "IPv4Address": "10.1.1.1/24"},
            "ep-e2": {"EndpointID": "e2", "MacAddress": "02:42:0a:01:01:02", "IPv4Address": "10.1.1.2/24"},
            "broken": {"EndpointID": "e3", "MacAddress": "", "IPv4Address": ""},
        },
    }
    return {**base, **fields}


def test_a_network_of_dockers_inspection() -> None:
    """Else a restarted agent takes a network for another tenant's, or for none of its own."""
    found = network_of(inspected(), "netctl")
    assert found == LocalNetwork(
        "1" * 64, "web/blue", "blue", "web", IPv4Network("10.1.1.0/24"), IPv4Address("10.1.1.254"), by_agent=True
    )
    ipam = {"Driver": "default", "Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1/16"}]}
    found = network_of(inspected(Name="my_net", Options={}, IPAM=ipam), "netctl")
    assert found is not None
    assert (found.key, found.own_ipam, found.tenant_in_pool) == ("default:my_net", False, False)
    assert found.gateway == IPv4Address("172.18.0.1")
    both = [{"Subnet": "fd09::/64", "Gateway": "fd09::1/64", "AuxiliaryAddresses": {"a": "fd09::7"}}, *ipam["Config"]]
    options: dict[str, Any] = {"Name": "my_net", "Options": {}, "IPAM": {"Driver": "default", "Config": both}}
    assert network_of(inspected(**options), "netctl") == found  # Docker was not told --ipv6
    other = network_of(inspected(**options, EnableIPv6=True), "netctl")
    assert other == replace(
        found,
        subnet6=IPv6Network("fd09::/64"),
        gateway6=IPv6Address("fd09::1"),
        reserved=(IPv6Address("fd09::7"),),
    )
    assert network_of(inspected(IPAM={"Driver": "netctl", "Config": []}), "netctl") is None
    assert network_of(inspected(IPAM={"Config": [{"Subnet": "fd00::/64"}]}), "netctl") is None


def test_endpoints_of_dockers_inspection() -> None:
    """Else endpoints of containers that are just starting are swept away by a restarted agent."""
    found = {e.id: e.container_id for e in endpoints_of(inspected())}
    assert found == {"e1": "c" * 64, "e2": ""}
    both = {"EndpointID": "e1", "MacAddress": "m", "IPv4Address": "10.1.1.1/24", "IPv6Address": "fd09::2/64"}
    (endpoint,) = endpoints_of({"Id": "1" * 64, "Containers": {"c": both}})
    assert endpoint.addresses == (IPv4Address("10.1.1.1"), IPv6Address("fd09::2"))


def test_gateways_that_docker_does_not_list() -> None:
    """Else containers have no way out after a restart of Docker while the controller is away."""
    known = network(subnet6=IPv6Network("fd09::/64"), gateway6=IPv6Address("fd09::1"))
    listed = replace(known, gateway=None, gateway6=None)
    assert merged(listed, known) == known
    assert merged(listed, None) == listed
    assert merged(replace(listed, gateway6=IPv6Address("fd09::2")), known).gateway6 == IPv6Address("fd09::2")


def test_a_mac_of_an_address() -> None:
    """Else two containers of a network get the same MAC."""
    assert derived_mac(IPv4Address("10.1.1.254")) == "02:42:0a:01:01:fe"


def test_the_document_of_an_endpoint() -> None:
    """Else the controller is told of an endpoint without what its services select by."""
    state = State("host")
    state.put_endpoint(LocalEndpoint("e" * 64, "1" * 64, IPv4Address("10.1.1.1"), "02:42:0a:01:01:01"))
    assert state.document("e" * 64) is None  # its network is not known
    state.set_network(network())
    document = state.document("e" * 64)
    assert document is not None
    assert (document["state"], document["labels"], document["portName"]) == ("created", {}, "nveeeeeeeeeeee")
    assert state.link("e" * 64, "c1")
    assert not state.link("e" * 64, "c1")
    assert state.set_container(Container("c1", "web", {"a": "b"}, "running", "healthy")) == ["e" * 64]
    assert state.set_container(Container("c1", "web", {"a": "b"}, "running", "healthy")) == []
    document = state.document("e" * 64)
    assert document is not None
    assert (document["containerName"], document["labels"], document["health"]) == ("web", {"a": "b"}, "healthy")
    assert len(state.documents()) == 1
    state.update(followed=True)
    assert state.documents() == []  # the model does not have the network: telling would be refused


def test_addresses_released_while_the_controller_is_away() -> None:
    """Else such an address is handed out in another network, or twice."""
    state = State("host")
    state.spare = {"default:net:10.1.1.9", "default:net:10.1.1.10", "default:net2:10.1.1.1", "blue:net:10.1.1.2"}
    assert state.take_spare("default", "net", IPv4Address("10.1.1.2"), 4) is None
    assert state.take_spare("default", "net", None, 4) == IPv4Address("10.1.1.9")
    assert state.take_spare("default", "net", IPv4Address("10.1.1.10"), 4) == IPv4Address("10.1.1.10")
    assert state.take_spare("default", "net", None, 4) is None
    state.spare = {"default:net:fd01::10", "default:net:fd01::9"}
    assert state.take_spare("default", "net", None, 4) is None
    assert state.take_spare("default", "net", IPv6Address("fd01::11"), 6) is None
    assert state.take_spare("default", "net", None, 6) == IPv6Address("fd01::9")
    state.granted.pop("default:net:fd01::9")
    assert state.leases() == {"default:net:10.1.1.9", "default:net:10.1.1.10"}


def test_auxiliary_addresses_are_kept() -> None:
    """Else an address that Docker was told never to use is handed out."""
    state = State("host")
    state.set_network(network(reserved=(IPv4Address("10.1.1.7"),)))
    assert state.leases() == {"default:net:10.1.1.7"}


def test_networks_are_remembered(tmp_path: Path) -> None:
    """Else containers that Docker starts before it answers the agent start without a network."""
    state = State("host")
    known = network(
        ip_range=IPv4Network("10.1.1.128/25"),
        reserved=(IPv4Address("10.1.1.7"), IPv6Address("fd09::7")),
        subnet6=IPv6Network("fd09::/64"),
        gateway6=IPv6Address("fd09::1"),
    )
    state.set_network(known)
    state.set_network(network(2, name="pending"))
    state.pending["2" * 64] = Pending()
    Memory(tmp_path / "made", state).save()
    after = State("host")
    Memory(tmp_path / "made", after).load()
    assert after.networks == {known.id: known}


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"id": "x"}]', '[{"id": "x", "subnet": "nonsense"}]', "\x00"])
def test_a_memory_that_is_broken(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Else a file cut off by a crash keeps the agent from starting."""
    (tmp_path / FILE).write_text(text)
    state = State("host")
    Memory(tmp_path, state).load()
    assert state.networks == {}
    assert "is not used" in caplog.text


def test_a_memory_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Else a full or read-only disk stops the agent."""
    (tmp_path / "file").write_text("")
    state = State("host")
    state.set_network(network())
    Memory(tmp_path / "file", state).save()
    assert "can't be written" in caplog.text
