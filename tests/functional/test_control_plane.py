"""Containers and the control plane: what they never reach, and that they learn it at once."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.kit import frames, hostside
from tests.kit.hosts import Host
from tests.kit.hostside import CONTROL, FAR_IP, OUTSIDE_IP, Place
from tests.kit.ovs import wait_for
from tests.kit.private_ovs import Private
from topology.reports import HostDoc

HOST, HOST6 = "169.254.0.1", "100::1:0:1"  # the host, as its containers see it
DOCKER0 = "172.17.0.1"
TUNNEL = 4789


@pytest.fixture(scope="module")
def place(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A host that has another device with an address of its own, as Docker's bridge is."""
    with hostside.place(tmp_path_factory.mktemp("control"), instance) as made:
        for command in ("link add docker0 type bridge", f"address add {DOCKER0}/16 dev docker0", "link set docker0 up"):
            instance.ip(*command.split())
        try:
            yield made
        finally:
            instance.ip("link", "delete", "docker0")


def refused(client: Host, kind: str, address: str, port: int) -> bool:
    """Whether the client is told at once that it may not. Over UDP the kernel tells a client six times in a row."""
    try:
        client.ask(kind, address, port, timeout=3.0 if kind == "tcp" else 0.2)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return kind == "udp"
    return False


def addresses(place: Place) -> list[str]:
    """The host's, all of them."""
    return [HOST, place.side.ip, DOCKER0]


def test_a_host_is_closed_to_its_containers(place: Place) -> None:
    """Any container with a way out could log in to its host, or remove a service over REST."""
    for name in ("w1", "x1"):
        client = place.hosts[name]
        for address in addresses(place):
            for kind, port in (("tcp", 7), ("udp", 7), ("tcp", CONTROL), ("udp", TUNNEL), ("tcp", 22)):
                assert refused(client, kind, address, port), f"{name} → {kind} {address}:{port}"
            assert not client.pings(address)
        assert client.ask("tcp", place.out.ip, 7).startswith("out ")

        def told(client: Host = client) -> bool:
            try:
                client.ask("udp", HOST, 7, timeout=0.2)
            except TimeoutError:
                return False
            except ConnectionRefusedError:
                return True
            raise AssertionError("it was let in")

        wait_for(told, f"{name} to be told over UDP as well, instead of waiting for an answer")


@pytest.mark.parametrize("name", ["w1", "x1", "o1"])
def test_the_control_plane_is_closed_to_all(place: Place, name: str) -> None:
    """From a container one DELETE would remove a service, or a datagram would be in another tenant's network."""
    client, real = place.hosts[name], urlsplit(place.lab.controller.url)
    assert real.hostname
    assert real.port
    place.lab.rest.put_host(HostDoc(hostName="h2", switch="00000000000000aa", tunnelAddress=OUTSIDE_IP))
    place.lab.rest.put_host(HostDoc(hostName="h3", switch="00000000000000ab", tunnelAddress=FAR_IP))
    try:
        wait_for(lambda: f"-d {FAR_IP}/32 -p udp" in "\n".join(place.side.rules()), "the tunnels to be closed")
        for address in addresses(place):
            assert refused(client, "tcp", address, CONTROL), address
            assert refused(client, "udp", address, TUNNEL), address
        assert refused(client, "tcp", OUTSIDE_IP, CONTROL), "by way of the world: --rest-url"
        assert refused(client, "udp", OUTSIDE_IP, TUNNEL), "another host's tunnel"
        assert refused(client, "udp", FAR_IP, TUNNEL), "and one behind a router"
        for port in (real.port, place.lab.controller.ofp_port):
            assert not client.reaches("tcp", real.hostname, port), "the controller that runs, which is link-local"
        assert client.ask("tcp", FAR_IP, CONTROL).startswith("far "), "another machine's port of that number"
        assert client.ask("tcp", OUTSIDE_IP, 7).startswith("out ")
    finally:
        for host in ("h2", "h3"):
            place.lab.rest.drain_host(host)
            place.lab.rest.delete_host(host)
    wait_for(lambda: f"-d {FAR_IP}/32" not in "\n".join(place.side.rules()), "what is no tunnel any more to be open")


def test_what_another_program_translates(place: Place) -> None:
    """A member of etcd in a container of Docker's (`-p`) would be open by the host's other addresses."""
    client = place.hosts["o1"]
    translate = ("PREROUTING", "-p", "tcp", "--dport")
    rules = [
        (*translate, str(CONTROL), "-d", DOCKER0, "-j", "DNAT", "--to-destination", f"{FAR_IP}:7"),
        (*translate, "1234", "-d", DOCKER0, "-j", "DNAT", "--to-destination", f"{OUTSIDE_IP}:{CONTROL}"),
        (*translate, "1235", "-d", DOCKER0, "-j", "DNAT", "--to-destination", f"{FAR_IP}:7"),
    ]
    for rule in rules:
        place.side.run("iptables", "-t", "nat", "-A", *rule)
    try:
        assert refused(client, "tcp", DOCKER0, CONTROL), "to a port of the control plane's"
        assert refused(client, "tcp", DOCKER0, 1234), "to where it is"
        assert client.ask("tcp", DOCKER0, 1235).startswith("far "), "anything else is Docker's to open"
    finally:
        for rule in rules:
            place.side.run("iptables", "-t", "nat", "-D", *rule)


def test_no_way_by_ipv6(place: Place) -> None:
    """What is closed by IPv4 would be open by IPv6."""
    link_local = place.side.run("ip", "-6", "-o", "address", "show", "dev", place.lab.bridge, "scope", "link")
    there = link_local.split()[3].partition("/")[0] if link_local else "fe80::1"
    for name in ("w1", "x1", "o1"):
        client = place.hosts[name]
        for address in (HOST6, f"{there}%eth0", "fe80::1%eth0", "100::1:0:2", client.ip6.rpartition(":")[0] + ":fe"):
            for kind in ("tcp", "udp"):
                assert not client.reaches(kind, address, CONTROL, timeout=0.2), address


@pytest.mark.parametrize("name", ["w1", "o1"])
def test_forged_frames_do_not_reach_the_host(place: Place, name: str) -> None:
    """A container with all rights would be let in under another sender, or straight to the host's MAC."""
    client = place.hosts[name]
    heard = place.side.run("cat", "/proc/net/snmp")
    host_mac = "0e:4e:43:00:00:02"
    gateway = client.gateway
    with client.open("raw") as raw:
        for sender in ("250.0.0.1", "251.0.0.1", HOST, place.side.ip, "10.1.1.2"):
            for target in (HOST, place.side.ip):
                raw.send(frames.udp(client.mac, sender, target, 7))
                raw.send(frames.udp(client.mac, sender, target, 7, to=host_mac))
        for target in (HOST, place.side.ip, gateway, "255.255.255.255", "192.0.2.255"):
            raw.send(frames.udp(client.mac, client.ip, target, CONTROL, to=host_mac))
            raw.send(frames.udp("0e:4e:43:00:00:02", client.ip, target, CONTROL))
        raw.send(frames.arp_request(client.mac, HOST, client.ip))
    assert client.ask("tcp", place.out.ip, 7).startswith("out "), "the way out is as it was"
    assert datagrams(place.side.run("cat", "/proc/net/snmp")) == datagrams(heard)


@pytest.mark.parametrize("name", ["w1", "o1"])
def test_a_source_route_by_the_host_leads_nowhere(place: Place, name: str) -> None:
    """On a host that takes source routes, a container would reach what never leaves the switch: a cloud's metadata."""
    metadata = "169.254.169.254"
    place.out.ip_command(f"address add {metadata}/32 dev lo")
    place.side.run("ip", "route", "add", metadata, "via", OUTSIDE_IP)
    setting = "net.ipv4.conf.all.accept_source_route"
    before = place.side.run("sysctl", "-n", setting).strip()
    place.side.run("sysctl", "-qw", f"{setting}=1")
    client = place.hosts[name]
    heard = place.out.ears(frames.MARK)
    try:
        with client.open("raw") as raw:
            for target in (HOST, place.side.ip):
                raw.send(frames.source_routed(frames.udp(client.mac, client.ip, target, 7), metadata))
        assert client.ask("tcp", OUTSIDE_IP, 7).startswith("out "), "what it sent before has left"
        assert not heard(0.2)
    finally:
        place.side.run("sysctl", "-qw", f"{setting}={before}")
        place.side.run("ip", "route", "delete", metadata)
        place.out.ip_command(f"address delete {metadata}/32 dev lo")


def datagrams(snmp: str) -> int:
    """UDP datagrams that the host's programs were given."""
    names, values = (line.split() for line in snmp.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("InDatagrams")]) + int(values[names.index("NoPorts")])
