"""Answers find their way back between two hosts, into networks that do not route, and nothing else gets in."""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Iterator, Mapping

import pytest

from tests.functional.test_isolation import seen
from tests.kit import frames
from tests.kit.hosts import Host, Namespace, ask_again
from tests.kit.nodes import nodes
from tests.kit.ovs import wait_for
from tests.kit.wide import of_family, wide
from topology.documents import NetworkDoc, ServiceDoc

NETWORKS = {  # name → subnet, gateway, whether it is internal
    "web": ("10.1.1.0/24", "10.1.1.254", False),
    "front": ("20.1.1.0/24", "20.1.1.254", False),
    "back": ("30.1.1.0/24", "", False),
    "inn": ("40.1.1.0/24", "40.1.1.254", True),
}
VIPS = {"front": "20.1.1.100", "back": "30.1.1.100", "inn": "40.1.1.100"}
SERVE = ("tcp:80", "udp:53", "tcp:22", "udp:99")
KINDS = [("tcp", 8080), ("udp", 53)]
WEB = {"tier": "web"}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Namespace]]:
    """On host a the clients, w1 (web), and the host itself; on host b one container as w2 (web) and b2 (back)."""
    with nodes(tmp_path_factory.mktemp("far"), "a", "b") as (control, (a, b)):
        rest = control.client
        for name, (subnet, gateway, internal) in NETWORKS.items():
            doc = NetworkDoc(tenantName="default", networkName=name, subnet=subnet, gateway=gateway, internal=internal)
            rest.put_network(doc | NetworkDoc(ipv6Subnet=wide(subnet), ipv6Gateway=wide(gateway)))
        for network, vip in VIPS.items():
            rest.put_service(
                ServiceDoc(
                    tenantName="default", serviceName=network, networkName=network, ipAddress=vip,
                    ipv6Address=wide(vip), selectors=["tier=web"], ports=["8080:80:TCP", "53:53:UDP"],
                )
            )  # fmt: skip
        routed = [of for subnet, _, _ in NETWORKS.values() for of in (subnet, wide(subnet))]
        made: dict[str, Namespace] = {"host": a.itself(control, routed)}
        for node, name, network, address, labels, more in (
            (a, "w1", "web", "10.1.1.1/24", WEB, {}),
            (b, "w2", "web", "10.1.1.2/24", WEB, {"containerID": "two", "primary": True}),
            (b, "b2", "back", "30.1.1.2/24", WEB, {"containerID": "two"}),
            (b, "w9", "web", "10.1.1.9/24", {}, {}),
            (a, "cf", "front", "20.1.1.5/24", {}, {}),
            (a, "cb", "back", "30.1.1.5/24", {}, {}),
            (a, "ci", "inn", "40.1.1.5/24", {}, {}),
        ):
            gateway = NETWORKS[network][1]
            made[name] = node.host(
                control, name, network, address, gateway=gateway, labels=labels, serve=SERVE, ipv6=True, **more
            )
        for version in (4, 6):
            to = made["w9"].address(version)
            wait_for(lambda to=to: made["cf"].reaches("tcp", to, 22), "the tunnel to be up")  # type: ignore[misc]
        yield made


@pytest.mark.parametrize(("kind", "port"), KINDS)
@pytest.mark.parametrize(
    ("client", "network", "names"),
    [
        ("cb", "back", {"w1", "b2"}),
        ("ci", "inn", {"w1", "w2"}),
        ("cf", "back", {"w1", "w2"}),
        ("cf", "front", {"w1", "w2"}),
        ("host", "back", {"w1", "w2"}),
        ("host", "front", {"w1", "w2"}),
    ],
)
def test_answers_come_back(  # noqa: PLR0917 - a table of cases
    hosts: Mapping[str, Namespace], version: int, client: str, network: str, names: set[str], kind: str, port: int
) -> None:
    """A network that does not route would be served by the providers of its client's host alone, or by none."""
    asking, vip = hosts[client], of_family(version, VIPS[network])
    answers = [asking.ask(kind, vip, port).split() for _ in range(40)]
    assert {name for name, _, _ in answers} == names
    assert {seen for _, seen, _ in answers} == {asking.address(version)}
    with asking.connect(kind, vip, port) as connection:
        assert len({ask_again(connection).split()[0] for _ in range(20)}) == 1


@pytest.mark.parametrize(("client", "network"), [("cb", "back"), ("ci", "inn")])
@pytest.mark.parametrize("size", [3000, 20000])
def test_large_datagrams(hosts: Mapping[str, Namespace], version: int, client: str, network: str, size: int) -> None:
    """Small answers would come from another host and large ones not."""
    for sizes in ((5, size, 5, size), (size, 5, size)):
        for _ in range(5):
            with hosts[client].connect("udp", of_family(version, VIPS[network]), 53) as asking:
                assert len({ask_again(asking, s).split()[0] for s in sizes}) == 1


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_a_closed_port_is_said(hosts: Mapping[str, Namespace], version: int, kind: str, port: int) -> None:
    """The client of a provider on another host would wait where it would be told at once."""
    serving = ("w1", "w2", "b2")
    for name in serving:
        hosts[name].stop_serving()
    try:
        for client, network in (("cb", "back"), ("ci", "inn")):
            for _ in range(4):
                with pytest.raises(ConnectionRefusedError):
                    hosts[client].ask(kind, of_family(version, VIPS[network]), port)
    finally:
        for name in serving:
            hosts[name].serve(*SERVE)


def is_told(client: Namespace, kind: str, address: str) -> bool:
    """Whether the client is told at once that it may not go there."""
    return client.error(kind, address) == (errno.EACCES if ":" in address else errno.EHOSTUNREACH)


def test_nothing_else_gets_in(hosts: Mapping[str, Namespace], version: int) -> None:
    """A network that is closed on one host would be open to the containers of another, or to the host."""
    for client, network in (("cb", "back"), ("ci", "inn")):
        inside, outsider = hosts[client], hosts["w9"]
        assert isinstance(inside, Host) and isinstance(outsider, Host)
        with contextlib.ExitStack() as stack:
            asked = stack.enter_context(inside.connect("udp", of_family(version, VIPS[network]), 53))
            hearing = stack.enter_context(inside.open("raw", timeout=10))
            wire = stack.enter_context(outsider.open("raw"))
            for port in (22, 53, 99):
                for sender in (outsider.ip, VIPS[network], inside.ip):
                    wire.send(frames.udp(outsider.mac, sender, inside.ip, port))
                wire.send(frames.udp6(outsider.mac, outsider.ip6, inside.ip6, port))
            for other in (outsider, hosts["host"]):
                assert not other.reaches("tcp", inside.address(version), 22, timeout=0.3)
                assert not other.reaches("udp", inside.address(version), 99, timeout=0.3)
            # the controller tells its sender on the other host
            for kind in ("tcp", "udp"):
                told = functools.partial(is_told, outsider, kind, inside.address(version))
                wait_for(told, f"an answer for {kind}")
            heard = seen(hearing, ask_again(asked).encode())
            assert not any(frames.marked(frame) for frame in heard)
            # and out
            hearing = stack.enter_context(outsider.open("raw", timeout=10))
            wire = stack.enter_context(inside.open("raw"))
            for port in (22, 53, 99):
                wire.send(frames.udp(inside.mac, inside.ip, outsider.ip, port))
                wire.send(frames.udp6(inside.mac, inside.ip6, outsider.ip6, port))
            stack.enter_context(hosts["cf"].connect("udp", outsider.ip, 99)).send(b"honest")
            assert not any(frames.marked(frame) for frame in seen(hearing, b"honest"))


@pytest.mark.parametrize(("kind", "port"), KINDS)
def test_the_host_and_an_internal_network(
    hosts: Mapping[str, Namespace], version: int, kind: str, port: int
) -> None:
    """What is to be closed would be open to the programs of its hosts."""
    assert not hosts["host"].reaches(kind, of_family(version, VIPS["inn"]), port)
    assert not hosts["host"].pings(of_family(version, VIPS["inn"]))
    assert not hosts["host"].pings(hosts["ci"].address(version))
