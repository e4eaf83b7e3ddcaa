"""IPv6 beside IPv4: what Docker's containers get, whom they reach at once, and what survives what."""

from __future__ import annotations

import signal
from ipaddress import IPv6Address, IPv6Network

import pytest

from tests.e2e.machine import run, wait_for
from tests.e2e.node import IMAGE, Node
from tests.e2e.test_walkthrough import Inside

OWN = ("network", "create", "-d", "netctl", "--ipam-driver", "netctl")
SERVER = ("nc", "-ll", "-p", "8080", "-e", "cat")
MTU = 1500


@pytest.fixture
def n6(host: Node) -> str:
    """A network of both versions, with gateways."""
    host.netctl(
        "net", "create", "n6", "-s", "10.6.1.0/24", "-g", "10.6.1.254", "-s6", "fd00:6::/64", "-g6", "fd00:6::fe"
    )
    return "n6"


def address6(host: Node, name: str, network: str) -> str:
    """A container's IPv6 address in a network, as Docker has it; "": none."""
    place = f'{{{{(index .NetworkSettings.Networks "{network}").GlobalIPv6Address}}}}'
    return host.docker("inspect", name, "--format", place)


def start(host: Node, name: str, network: str, *options: str) -> str:
    """Start a container that answers at a port; its IPv6 address, which the model has as well."""
    host.docker("run", "-d", "--name", name, f"--net={network}", *options, IMAGE, *SERVER)
    found = address6(host, name, network)
    assert host.endpoint(f"{name}@{network}")["ipAddress"] == [host.address(name, network), found]
    return found


def answered(host: Node, name: str, address: str) -> bool:
    """Whether a TCP connection from a container to the server's port is."""
    asked = f"echo hello | nc -w 2 {address} 8080"
    return host.docker("exec", name, "sh", "-c", asked, check=False) == "hello"


def test_containers_reach_each_other_at_once(host: Node, n6: str) -> None:
    """Else a container has no IPv6, has it only after a second (a check for duplicates), or is alone with it."""
    host.netctl("net", "create", "far", "-s", "10.7.1.0/24", "-g", "10.7.1.1", "-s6", "fd00:7::/80", "-g6", "fd00:7::1")
    near, far = start(host, "near", n6), start(host, "far", "far")
    assert (near, far) == ("fd00:6::1", "fd00:7::2")
    # the first thing that a new container does; not one packet may be lost
    first = " && ".join(f"ping -6 -c1 -W1 {one} && echo hello | nc -w 1 {one} 8080" for one in (near, far))
    said = host.docker("run", "--rm", f"--net={n6}", IMAGE, "sh", "-c", first)
    assert said.count("hello") == 2
    for one in (far, "fd00:6::fe", "fd00:6::1"):
        assert host.pings("near", one)
    assert answered(host, "far", near)
    routes = host.docker("exec", "near", "ip", "-6", "route")
    assert "default via fd00:6::fe dev eth0" in routes
    assert f"mtu {MTU}" in host.docker("exec", "near", "ip", "link", "show", "eth0")
    listed = host.netctl("endpoint", "ls")
    assert f"10.6.1.1,{near}" in listed


def test_a_network_without_ipv6_has_none(host: Node, n6: str) -> None:
    """Else containers of an IPv4 network talk IPv6 past every rule, or those of a network without gateway get one."""
    host.netctl("net", "create", "n4", "-s", "10.4.1.0/24", "-g", "10.4.1.254")
    host.netctl("net", "create", "srv", "-s", "10.5.1.0/24", "-s6", "fd00:5::/64")
    host.container("four", "n4")
    assert host.endpoint("four")["ipAddress"] == ["10.4.1.1"]
    assert "inet6" not in host.docker("exec", "four", "ip", "address", "show", "eth0")
    assert host.docker("exec", "four", "ip", "-6", "route") == ""
    assert start(host, "alone", "srv") == "fd00:5::1"
    # busybox also lists the routes of other tables, among them "unreachable default"
    assert "default via" not in host.docker("exec", "alone", "ip", "-6", "route")
    host.docker("network", "connect", "--ip6", "fd00:6::99", n6, "four")
    wait_for(lambda: "four@n6" in host.endpoints(), "the endpoint in n6")
    assert host.endpoint("four@n6")["ipAddress"][1] == "fd00:6::99"
    assert "fd00:6::99/64" in host.docker("exec", "four", "ip", "-6", "address", "show", "eth1")
    host.docker("network", "disconnect", n6, "four")
    wait_for(lambda: "four@n6" not in host.endpoints(), "the endpoint in n6 to be gone")


def test_addresses_that_were_asked_for(host: Node, n6: str) -> None:
    """Else `--ip6` is taken and not honoured, or its refusal tells nothing."""
    assert start(host, "c1", n6, "--ip=10.6.1.77", "--ip6=fd00:6::abcd") == "fd00:6::abcd"
    for address, line in (
        ("fd00:6::abcd", "fd00:6::abcd is taken: it is endpoint c1"),
        ("fd00:6::fe", "fd00:6::fe is taken: it is the gateway"),
        ("fd00:6::", "fd00:6:: is the routers' anycast address"),
    ):
        assert line in host.docker_error("run", f"--net={n6}", f"--ip6={address}", IMAGE, "true")


def test_a_service_has_a_vip_of_both_versions(host: Node, n6: str) -> None:
    """Else IPv6 clients can't use a service, or reach a provider that has no IPv6."""
    host.netctl("net", "create", "srv", "-s", "100.1.1.0/24", "-s6", "fd00:100::/64")
    host.netctl("net", "create", "n4", "-s", "10.4.1.0/24", "-g", "10.4.1.254")
    start(host, "client", n6)
    for name, network in (("p1", n6), ("p2", n6), ("four", "n4")):
        options = ("--name", name, f"--net={network}", "--label=tier=web")
        host.docker("run", "-d", *options, IMAGE, *SERVER[:-1], "sh", "-c", f"echo {name}")
    host.netctl("service", "create", "web", "--network=srv", "--selector=tier=web", "--port=80:8080:TCP")
    try:
        (service,) = host.netctl("service", "ls").splitlines()[-1:]
        assert "100.1.1.1,fd00:100::1" in service
        wait_for(lambda: " 3/3 " in host.netctl("service", "ls"), "three providers")
        asked = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do nc -w 2 {} 80; done"
        for name in ("client", "p1"):
            said = host.docker("exec", name, "sh", "-c", asked.format("fd00:100::1"))
            assert set(said.split()) == {"p1", "p2"}, f"asked by {name}"
        assert "four" in host.docker("exec", "client", "sh", "-c", asked.format("100.1.1.1"))
        assert host.pings("client", "fd00:100::1")
        host.docker("rm", "-f", "p1")
        said = host.docker("exec", "client", "sh", "-c", asked.format("fd00:100::1"))
        assert said.split() == ["p2"] * 12
    finally:
        host.netctl("service", "rm", "web")


def test_networks_that_docker_users_make(host: Node) -> None:
    """Else `docker network create --ipv6` is refused, or netctl knows half of what it makes."""
    named = ("--subnet=10.66.0.0/24", "--subnet=fd66::/64", "--gateway=fd66::99", "--aux-address=x=fd66::1")
    host.docker(*OWN, "--ipv6", *named, "named")
    host.docker(*OWN, "--ipv6", "auto")
    host.docker("network", "create", "-d", "netctl", "--ipv6", "--subnet=10.71.0.0/24", "--subnet=fd71::/64", "dockers")
    host.docker(*OWN, "--subnet=10.69.0.0/24", "--subnet=fd69::/64", "four")  # Docker makes no use of it
    wait_for(lambda: len(host.networks()) == 4, "four networks in the model")
    assert "subnet fd69::/64 is not used: Docker was not told --ipv6" in host.log("agent")
    found = {key: (doc.get("ipv6Subnet"), doc.get("ipv6Gateway")) for key, doc in host.networks().items()}
    assert found["default:named"] == ("fd66::/64", "fd66::99")
    assert found["default:dockers"] == ("fd71::/64", "fd71::1")
    assert found["default:four"] == (None, None)
    chosen = IPv6Network(found["default:auto"][0] or "")
    assert chosen.subnet_of(IPv6Network("fd00::/8"))
    assert start(host, "c1", "named") == "fd66::2"
    assert start(host, "c2", "dockers") == "fd71::2"
    assert IPv6Address(start(host, "c3", "auto")) == chosen.network_address + 2
    assert host.pings("c1", "fd71::2")
    for options, line in (
        (("--subnet=10.67.0.0/24", "--subnet=fd66::/80"), "network named conflicts with subnet fd66::/80"),
        (("--subnet=10.67.0.0/24", "--subnet=fe80::/64"), "fe80::/64 overlaps fe80::/10, which is link-local"),
        (("--subnet=10.67.0.0/24", "--subnet=fd67::/64", "--subnet=fd68::/64"), "one IPv6 subnet, not 2"),
        (("--subnet=10.67.0.0/24", "--subnet=fd67::/64", "--ip-range=fd67::/80"), "the range fd67::/80"),
    ):
        assert line in host.docker_error(*OWN, "--ipv6", *options, "x")
    host.kill("agent")  # what Docker lists has to be enough for the next one
    (host.directory / "agent" / "agent-networks.json").unlink()
    host.start_agent()
    assert "made Docker network" not in host.log("agent")[host._agent_from :]
    assert "default via fd66::99" in host.docker("exec", "c1", "ip", "-6", "route")
    host.docker("restart", "-t", "0", "c1")
    assert "default via fd66::99" in host.docker("exec", "c1", "ip", "-6", "route")
    host.docker("rm", "-f", "c1", "c2", "c3")
    host.docker("network", "rm", "named", "auto", "dockers", "four")
    wait_for(lambda: not host.networks(), "the networks to leave the model")


def test_restarts_of_agent_controller_and_docker(host: Node, n6: str) -> None:
    """Else an endpoint loses its IPv6 address in the model at a restart, and traffic with it."""
    first, second = start(host, "c1", n6), start(host, "c2", n6)
    both = {name: host.endpoint(name)["ipAddress"] for name in ("c1", "c2")}
    for part, again in (
        ("agent", host.start_agent),
        ("controller", host.start_controller),
        ("dockerd", host.start_docker),
    ):
        host.kill(part)
        if part != "dockerd":
            assert answered(host, "c1", second)
        again()
        wait_for(lambda: host.endpoints().get("c1", {}).get("state") == "running", "c1 to be running", 60)
        assert {name: host.endpoint(name)["ipAddress"] for name in both} == both
        assert answered(host, "c2", first)
    host.kill("controller")
    host.docker("restart", "-t", "0", "c1")
    assert address6(host, "c1", n6) == first
    host.start_controller()
    wait_for(lambda: host.endpoints().get("c1", {}).get("state") == "running", "c1 in the model")
    assert host.endpoint("c1")["ipAddress"] == both["c1"]


def test_everything_starts_again(host: Node, n6: str) -> None:
    """Else after a reboot containers that Docker starts by itself, before it answers anybody, have no IPv6."""
    host.kill("dockerd", signal.SIGTERM, 60)
    host.start_docker(live=False)
    try:
        start(host, "c1", n6, "--restart=always", "--stop-signal=KILL")
        for name in ("agent", "controller", "dockerd"):
            host.kill(name)
        host.start_agent(wait=False)
        wait_for((host.plugins / "netctl.sock").is_socket, "the socket")
        host.start_controller()
        host.start_docker(live=False)
        wait_for(lambda: host.endpoints().get("c1", {}).get("state") == "running", "c1 in the model", 60)
        assert host.endpoint("c1")["ipAddress"][1] == address6(host, "c1", n6)
        assert "default via fd00:6::fe" in host.docker("exec", "c1", "ip", "-6", "route")
        wait_for(lambda: host.pings("c1", "fd00:6::fe"), "the gateway to answer")
        host.docker("rm", "-f", "c1")
    finally:
        host.kill("dockerd", signal.SIGTERM, 60)
        host.start_docker()


def test_the_host_keeps_out_of_the_switchs_ports(host: Node, n6: str) -> None:
    """Else a container reaches the host's own addresses, or changes its routes, past the switch and its rules."""
    address = host.container("c1", n6)
    (port,) = host.links()
    assert "inet6" not in run(*host.inside("ip", "address", "show", port))
    run(*host.inside("ip", "address", "add", "192.0.2.1/32", "dev", "lo"))
    try:
        with Inside(host, "c1", address) as inside:
            enter = ("nsenter", f"--net=/run/netns/{inside.netns}")
            run(*enter, "ip", "route", "add", "192.0.2.1", "dev", "eth0")
            mac = run(*host.inside("ip", "-o", "link", "show", port)).partition("link/ether ")[2].split()[0]
            before = echoes(host)
            assert not inside.pings("192.0.2.1", "-c1", "-W1")
            run(*enter, "ip", "neighbour", "replace", "192.0.2.1", "lladdr", mac, "dev", "eth0")
            assert not inside.pings("192.0.2.1", "-c1", "-W1")
            assert echoes(host) == before
            alone = host.docker("exec", "c1", "ping", "-6", "-c2", "-W1", "ff02::1%eth0")
            assert "DUP!" not in alone  # itself, and nobody else
    finally:
        run(*host.inside("ip", "address", "delete", "192.0.2.1/32", "dev", "lo"))


def echoes(host: Node) -> int:
    """How many echo requests the host's own stack has taken in."""
    names, values = (line.split() for line in run(*host.inside("grep", "^Icmp:", "/proc/net/snmp")).splitlines())
    return int(dict(zip(names, values, strict=True))["InEchos"])


def test_compose(host: Node) -> None:
    """Else a Compose project can't have IPv6."""
    project = host.directory / "project"
    project.mkdir(exist_ok=True)
    (project / "docker-compose.yml").write_text(
        f"""
version: "2.4"
services:
  web:
    image: {IMAGE}
    command: httpd -f
    networks: {{front: {{ipv6_address: "fd44::77"}}}}
    stop_grace_period: 0s
networks:
  front:
    driver: netctl
    enable_ipv6: true
    ipam: {{driver: netctl, config: [{{subnet: 10.44.0.0/24}}, {{subnet: "fd44::/64"}}]}}
"""
    )
    host.compose("up", "-d")
    web = host.composed("web")
    wait_for(lambda: host.endpoints().get(web, {}).get("state") == "running", "web")
    assert host.endpoint(web)["ipAddress"][1] == "fd44::77"
    assert host.networks()["default:my_prj_front"]["ipv6Subnet"] == "fd44::/64"
    host.compose("down")
    wait_for(lambda: not host.networks(), "the project's network to leave the model")
