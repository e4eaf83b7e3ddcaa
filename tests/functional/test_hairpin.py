"""A provider uses its own service, also when it is picked itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.kit.hosts import Host, ask_again
from tests.kit.lab import Lab
from tests.kit.wide import of_family

VIP = "100.1.1.1"


@pytest.fixture(scope="module")
def hosts(bare: Lab) -> Mapping[str, Host]:
    """Two providers and a client; a service whose only provider is alone in a network without a gateway."""
    bare.network("srv", "100.1.1.0/24", ipv6=True)
    bare.network("web", "10.1.1.0/24", "10.1.1.254", ipv6=True)
    assert bare.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"]) == VIP
    made = {
        name: bare.host(name, "web", f"10.1.1.{name[1]}", {"tier": "web"}, serve=["tcp:80", "udp:53"])
        for name in ("w1", "w2")
    }
    bare.network("alone", "30.1.1.0/24", ipv6=True)
    made["x1"] = bare.host("x1", "alone", "30.1.1.9", {"tier": "alone"}, serve=["tcp:80"])
    assert bare.service("own", "alone", ["80:80:TCP"], ["tier=alone"]) == "30.1.1.1"
    return made


@pytest.mark.parametrize(("kind", "port"), [("tcp", 8080), ("udp", 53)])
def test_a_provider_reaches_itself_through_the_vip(
    hosts: Mapping[str, Host], version: int, kind: str, port: int
) -> None:
    """A container that uses a service which it provides for would wait in vain every other time."""
    vip = of_family(version, VIP)
    answers = [hosts["w1"].ask(kind, vip, port).split() for _ in range(30)]

    assert {name for name, _, _ in answers} == {"w1", "w2"}
    assert {seen for name, seen, _ in answers if name == "w1"} == {vip}, "it must not see itself as its client"
    assert {seen for name, seen, _ in answers if name == "w2"} == {hosts["w1"].address(version)}


def test_an_open_connection_to_itself_goes_on(hosts: Mapping[str, Host], version: int) -> None:
    """Only the first packets of such a connection would pass."""
    with hosts["x1"].connect("tcp", of_family(version, "30.1.1.1"), 80) as connection:
        assert {ask_again(connection).split()[0] for _ in range(20)} == {"x1"}


@pytest.mark.parametrize("size", [1473, 4000])
def test_a_large_datagram_to_itself(hosts: Mapping[str, Host], version: int, size: int) -> None:
    """A provider that asks its own service would get small answers from itself, and no large ones."""
    found = set()
    for _ in range(20):
        with hosts["w1"].connect("udp", of_family(version, VIP), 53) as asking:
            name = ask_again(asking).split()[0]
            assert [ask_again(asking, size).split()[0] for _ in range(2)] == [name, name]
            found.add(name)
    assert found == {"w1", "w2"}


def test_a_first_datagram_that_is_large(hosts: Mapping[str, Host], version: int) -> None:
    """As above, where a connection begins with it."""
    for _ in range(10):
        with hosts["w1"].connect("udp", of_family(version, VIP), 53) as asking:
            assert len({ask_again(asking, size).split()[0] for size in (4000, 5, 4000)}) == 1


@pytest.mark.parametrize(("kind", "port"), [("tcp", 8080), ("udp", 53)])
def test_it_does_not_listen_itself(hosts: Mapping[str, Host], version: int, kind: str, port: int) -> None:
    """A provider whose server is down would wait for itself, where it would be told at once."""
    provider = hosts["w1"]
    provider.stop_serving()
    try:
        # until it is picked itself, no longer: of a kernel, one client gets six such errors, then one a second
        for _ in range(60):
            try:
                assert provider.ask(kind, of_family(version, VIP), port).split()[0] == "w2"
            except ConnectionRefusedError:
                break
        else:
            pytest.fail("it was never picked")
    finally:
        provider.serve("tcp:80", "udp:53")
