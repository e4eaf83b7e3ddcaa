"""Every way to be refused. What isn't refused here would be carried out wrongly by every switch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.docs import endpoint_doc, host_doc, network_doc, replace, service_doc
from tests.unit.modelkit import APP, DUAL, SRV, WEB1, furnished
from topology.commands import Commands
from topology.errors import Conflict, Invalid, NetctlError, NotFound

Command = Callable[[Commands], object]

REFUSALS: dict[str, tuple[Command, type[NetctlError], str]] = {
    "tenant without a name": (lambda c: c.put_tenant(""), Invalid, "Tenant name required"),
    "tenant with a bad name": (lambda c: c.put_tenant("a b"), Invalid, "tenantName a b is invalid"),
    "default tenant goes": (lambda c: c.delete_tenant("default"), Conflict, "tenant default can't be deleted"),
    "unknown tenant goes": (lambda c: c.delete_tenant("red"), NotFound, "Tenant red not found"),
    "network without subnet": (
        lambda c: c.put_network(network_doc("default", "n", "")), Invalid, "subnet required"
    ),
    "network of nobody": (
        lambda c: c.put_network(network_doc("red", "n", "10.9.0.0/24")), NotFound, "Tenant red not found"
    ),
    "network inside another": (
        lambda c: c.put_network(network_doc("default", "n", "10.1.0.0/16")),
        Conflict,
        "network web conflicts with subnet 10.1.0.0/16",
    ),
    "network of an existing subnet": (
        lambda c: c.put_network(network_doc("default", "n", "10.1.1.0/24")), Conflict, "network web conflicts"
    ),
    "gateway elsewhere": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", gateway="10.9.1.1")),
        Invalid,
        "gateway 10.9.1.1 is outside subnet 10.9.0.0/24",
    ),
    "gateway is broadcast": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", gateway="10.9.0.255")),
        Invalid,
        "gateway 10.9.0.255 is the broadcast address",
    ),
    "gateway no address": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", gateway="x")),
        Invalid,
        "gateway x is not an IPv4 address",
    ),
    "network called bridge": (
        lambda c: c.put_network(network_doc("blue", "bridge", "10.9.0.0/24")), Invalid, "reserved by Docker"
    ),
    "unknown encapsulation": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", encap="gre")),
        Invalid,
        "encap gre is unknown",
    ),
    "unknown network type": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", nw_type="x")),
        Invalid,
        "nwType x is unknown: right is data or infra",
    ),
    "tag out of range": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", encap="vlan", pkt_tag=4095)),
        Invalid,
        "pktTag 4095 is out of range for vlan: 1 to 4094",
    ),
    "tag taken, across tenants": (
        lambda c: c.put_network(network_doc("blue", "n", "10.9.0.0/24", pkt_tag=1)),
        Conflict,
        "pktTag 1 is taken: vxlan network default:srv has it",
    ),
    "network gets a gateway": (
        lambda c: c.put_network(network_doc("default", "srv", "100.1.1.0/24", gateway="100.1.1.1")),
        Conflict,
        "Cant change network parameters after its created: gateway is 100.1.1.254, not 100.1.1.1",
    ),
    "network loses its gateway": (
        lambda c: c.put_network(network_doc("default", "srv", "100.1.1.0/24")),
        Conflict,
        "gateway is 100.1.1.254, not none",
    ),
    "network gets another tag": (
        lambda c: c.put_network(replace(SRV, pkt_tag=77)), Conflict, "pktTag is 1, not 77"
    ),
    "network gets a range": (
        lambda c: c.put_network(replace(SRV, subnet="100.1.1.1-100.1.1.9/24")),
        Conflict,
        "subnet is 100.1.1.0/24, not 100.1.1.1-100.1.1.9/24",
    ),
    "network with an IPv6 subnet that is none": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6="fd00::/200")),
        Invalid,
        "ipv6Subnet fd00::/200 is invalid",
    ),
    "network inside another, by IPv6": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6="fd00:6:1::/48")),
        Conflict,
        "network dual conflicts with subnet fd00:6:1::/48: it has fd00:6:1::/64",
    ),
    "IPv6 gateway elsewhere": (
        lambda c: c.put_network(
            network_doc("default", "n", "10.9.0.0/24", subnet6="fd00:9::/64", gateway6="fd00:8::1")
        ),
        Invalid,
        "ipv6Gateway fd00:8::1 is outside subnet fd00:9::/64",
    ),
    "IPv6 gateway is everybody's": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6="fd00:9::/64", gateway6="fd00:9::")),
        Invalid,
        "ipv6Gateway fd00:9:: is the routers' anycast address",
    ),
    "IPv6 gateway without a subnet": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", gateway6="fd00:9::1")),
        Invalid,
        "ipv6Gateway fd00:9::1 needs an ipv6Subnet",
    ),
    "IPv6 gateway is IPv4": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6="fd00:9::/64", gateway6="10.9.0.1")),
        Invalid,
        "ipv6Gateway 10.9.0.1 is not an IPv6 address",
    ),
    "gateway is IPv6": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", gateway="fd00::1")),
        Invalid,
        "gateway fd00::1 is not an IPv4 address",
    ),
    "nat without a way out": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", nat=True)), Invalid, "nat needs a gateway"
    ),
    "IPv6 gateway alone": (
        lambda c: c.put_network(network_doc("default", "n", "10.9.0.0/24", subnet6="fd0a::/64", gateway6="fd0a::1")),
        Invalid,
        "ipv6Gateway needs a gateway",
    ),
    "network gets IPv6": (
        lambda c: c.put_network(replace(SRV, subnet6="fd00:9::/64")),
        Conflict,
        "Cant change network parameters after its created: ipv6Subnet is none, not fd00:9::/64",
    ),
    "network loses IPv6": (
        lambda c: c.put_network(replace(DUAL, subnet6="", gateway6="")),
        Conflict,
        "ipv6Subnet is fd00:6:1::/64, not none",
    ),
    "network gets another IPv6 gateway": (
        lambda c: c.put_network(replace(DUAL, gateway6="fd00:6:1::1")),
        Conflict,
        "ipv6Gateway is fd00:6:1::fe, not fd00:6:1::1",
    ),
    "network gets a way out": (
        lambda c: c.put_network(replace(SRV, nat=True)), Conflict, "nat is off, not on"
    ),
    "network in use by a service goes": (
        lambda c: c.delete_network("default:srv"),
        Conflict,
        "cannot delete srv: it has 1 service (app): delete it first",
    ),
    "network in use by a container goes": (
        lambda c: c.delete_network("default:web"), Conflict, "Error: Network has active endpoints: 1 in web, c0"
    ),
    "unknown network goes": (lambda c: c.delete_network("default:x"), NotFound, "Network x not found"),
    "network key without a tenant": (lambda c: c.delete_network("web"), NotFound, "Tenant web not found"),
    "tenant in use goes": (
        lambda c: c.delete_tenant("green"),
        Conflict,
        "cannot delete green: it has 1 network (n): delete it first",
    ),
    "service without a name": (
        lambda c: c.put_service(service_doc("default", "", "srv")), Invalid, "Service name required"
    ),
    "service in an unknown network": (
        lambda c: c.put_service(service_doc("default", "s", "x")), NotFound, "Network x not found in tenant default"
    ),
    "service in another tenant's network": (
        lambda c: c.put_service(service_doc("blue", "s", "srv")), NotFound, "Network srv not found in tenant blue"
    ),
    "VIP elsewhere": (
        lambda c: c.put_service(replace(APP, ip_address="10.9.9.9")),
        Invalid,
        "ipAddress 10.9.9.9 is outside subnet 100.1.1.0/24 of network default:srv",
    ),
    "VIP is the gateway": (
        lambda c: c.put_service(replace(APP, ip_address="100.1.1.254")),
        Conflict,
        "ipAddress 100.1.1.254 is taken: it is the gateway of network default:srv",
    ),
    "VIP is the broadcast address": (
        lambda c: c.put_service(replace(APP, ip_address="100.1.1.255")), Invalid, "is the broadcast address"
    ),
    "VIP of another service": (
        lambda c: c.put_service(service_doc("default", "other", "srv", "100.1.1.1")),
        Conflict,
        "ipAddress 100.1.1.1 is taken: it is the VIP of service default:app",
    ),
    "VIP of another service, for one that exists": (
        lambda c: c.put_service(service_doc("green", "g2", "n", "10.9.0.1")),
        Conflict,
        "ipAddress 10.9.0.1 is taken: it is the VIP of service green:g1",
    ),
    "VIP of a container": (
        lambda c: c.put_service(service_doc("default", "other", "web", "10.1.1.1")),
        Conflict,
        "ipAddress 10.1.1.1 is taken: it is endpoint c0",
    ),
    "VIP granted to a host": (
        lambda c: c.put_service(service_doc("default", "other", "web", "10.1.1.2")),
        Conflict,
        "ipAddress 10.1.1.2 is taken: it is granted to host h1",
    ),
    "IPv6 VIP in an IPv4 network": (
        lambda c: c.put_service(replace(APP, ip_address6="fd00:6:1::5")),
        Invalid,
        "ipv6Address fd00:6:1::5: network default:srv has no IPv6",
    ),
    "IPv6 VIP is IPv4": (
        lambda c: c.put_service(replace(APP, network="dual", ip_address6="10.6.1.5")),
        Invalid,
        "ipv6Address 10.6.1.5 is not an IPv6 address",
    ),
    "VIP is IPv6": (
        lambda c: c.put_service(replace(APP, network="dual", ip_address="fd00:6:1::5")),
        Invalid,
        "ipAddress fd00:6:1::5 is not an IPv4 address",
    ),
    "IPv6 VIP elsewhere": (
        lambda c: c.put_service(replace(APP, network="dual", ip_address6="fd00:7::5")),
        Invalid,
        "ipv6Address fd00:7::5 is outside subnet fd00:6:1::/64 of network default:dual",
    ),
    "IPv6 VIP of another service": (
        lambda c: c.put_service(replace(APP, network="dual", ip_address6="FD00:6:1::1")),
        Conflict,
        "ipv6Address fd00:6:1::1 is taken: it is the VIP of service default:d1",
    ),
    "IPv6 VIP is the gateway": (
        lambda c: c.put_service(replace(APP, network="dual", ip_address6="fd00:6:1::fe")),
        Conflict,
        "ipv6Address fd00:6:1::fe is taken: it is the gateway of network default:dual",
    ),
    "publish without a port of the service": (
        lambda c: c.put_service(replace(APP, publish=["80"])), Invalid, "Invalid publish. Its format is"
    ),
    "publish of a port that is none": (
        lambda c: c.put_service(replace(APP, publish=["80:8080"])),
        Invalid,
        "publish 80:8080: the service has no port 8080; it has 80 TCP",
    ),
    "publish of a port that went": (
        lambda c: c.put_service(service_doc("default", "d1", "dual", ports=["81:80:TCP"], publish=["8000:80"])),
        Invalid,
        "publish 8000:80: the service has no port 80; it has 81 TCP",
    ),
    "published by another service": (
        lambda c: c.put_service(replace(APP, publish=["9999:80", "8000:80"])),
        Conflict,
        "publish 8000:80:TCP: port 8000 TCP of the hosts is that of service default:d1; take another",
    ),
    "published by another tenant's service": (
        lambda c: c.put_service(service_doc("green", "g2", "n", ports=["1:1:TCP"], publish=["8000:1"])),
        Conflict,
        "is that of service default:d1",
    ),
    "service port without protocol": (
        lambda c: c.put_service(replace(APP, ports=["80:8080"])),
        Invalid,
        "Invalid port mapping. Port format is - Port:TargetPort:Protocol",
    ),
    "unknown service goes": (lambda c: c.delete_service("default:x"), NotFound, "Service x not found"),
    "endpoint without an id": (
        lambda c: c.put_endpoint(endpoint_doc("", "default", "web")), Invalid, "endpointID required"
    ),
    "endpoint elsewhere": (
        lambda c: c.put_endpoint(replace(WEB1, addresses=["10.9.9.9"])), Invalid, "is outside subnet 10.1.1.0/24"
    ),
    "endpoint at a VIP": (
        lambda c: c.put_endpoint(endpoint_doc("e", "default", "srv", ["100.1.1.1"])),
        Conflict,
        "is taken: it is the VIP of service default:app",
    ),
    "endpoint at another's granted address": (
        lambda c: c.put_endpoint(replace(WEB1, addresses=["10.1.1.2"], host="h2")),
        Conflict,
        "is taken: it is granted to host h1",
    ),
    "endpoint with another's MAC": (
        lambda c: c.put_endpoint(replace(WEB1, mac="02:42:0a:01:01:01")),
        Conflict,
        "macAddress 02:42:0a:01:01:01 is that of endpoint c0 in network default:web",
    ),
    "endpoint with an address twice": (
        lambda c: c.put_endpoint(replace(WEB1, addresses=["10.1.1.9", "10.1.1.9"])), Invalid, "given twice"
    ),
    "endpoint with IPv6 in an IPv4 network": (
        lambda c: c.put_endpoint(replace(WEB1, addresses=["10.1.1.9", "fd00:6:1::9"])),
        Invalid,
        "ipAddress fd00:6:1::9: network default:web has no IPv6; leave it out, or take a network that has",
    ),
    "endpoint with an address twice, in two forms": (
        lambda c: c.put_endpoint(replace(WEB1, network="dual", addresses=["fd00:6:1::9", "FD00:6:1:0::9"])),
        Invalid,
        "given twice in fd00:6:1::9, fd00:6:1::9",
    ),
    "endpoint at an IPv6 VIP": (
        lambda c: c.put_endpoint(replace(WEB1, network="dual", addresses=["fd00:6:1::1"])),
        Conflict,
        "ipAddress fd00:6:1::1 is taken: it is the VIP of service default:d1",
    ),
    "endpoint in a strange state": (
        lambda c: c.put_endpoint(replace(WEB1, state="asleep")),
        Invalid,
        "state asleep is unknown: right is created, running, paused, draining or stopped",
    ),
    "endpoint of strange health": (
        lambda c: c.put_endpoint(replace(WEB1, health="fine")), Invalid, 'health fine is unknown: right is "", '
    ),
    "unknown endpoint goes": (lambda c: c.delete_endpoint("x"), NotFound, "Endpoint x not found"),
    "address granted twice": (
        lambda c: c.grant("default", "web", "10.1.1.2", "h2"), Conflict, "is taken: it is granted to host h1"
    ),
    "gateway granted": (lambda c: c.grant("default", "web", "10.1.1.254", "h2"), Conflict, "the gateway"),
    "IPv6 grant in an IPv4 network": (
        lambda c: c.grant("default", "web", None, "h1", 6), Invalid, "family 6: network default:web has no IPv6"
    ),
    "IPv6 address granted in an IPv4 network": (
        lambda c: c.grant("default", "web", "fd00::1", "h1"), Invalid, "ipAddress fd00::1: network default:web has no"
    ),
    "IPv6 gateway granted": (
        lambda c: c.grant("default", "dual", "fd00:6:1::fe", "h1"), Conflict, "is the gateway of network default:dual"
    ),
    "grant in an unknown family": (
        lambda c: c.grant("default", "web", None, "h1", 5), Invalid, "family 5 is unknown: right is 4 or 6"
    ),
    "grant in an unknown network": (lambda c: c.grant("default", "x", None, "h1"), NotFound, "Network x not found"),
    "host without a name": (lambda c: c.put_host(host_doc("", 1)), Invalid, "Host name required"),
    "two hosts with one switch": (
        lambda c: c.put_host(host_doc("h2", 1)), Conflict, "switch 0000000000000001 is that of host h1"
    ),
    "host under a new name": (
        lambda c: c.put_host(host_doc("h2", 1)),
        Conflict,
        "keep that name (--host h1) or first remove it (netctl host rm h1)",
    ),
    "two hosts with one tunnel address": (
        lambda c: c.put_host(host_doc("h2", 2, "192.0.2.1")),
        Conflict,
        "tunnelAddress 192.0.2.1 is that of host h1: give each",
    ),
    "tunnel address of everybody": (
        lambda c: c.put_host(host_doc("h2", 2, "127.0.0.1")), Invalid, "tunnelAddress 127.0.0.1 can't be one host's"
    ),
    "unknown host is drained": (lambda c: c.drain_host("h9", True), NotFound, "Host h9 not found"),
    "VNI that tunnels use for a VLAN": (
        lambda c: c.put_network(network_doc("default", "x", "10.2.0.0/24", pkt_tag=0xFFF000)),
        Invalid,
        "pktTag 16773120 is out of range for vxlan: 1 to 16773119",
    ),
    "tunnel address is none": (
        lambda c: c.put_host(host_doc("h2", 2, "x")), Invalid, "tunnelAddress x is not an IPv4 address"
    ),
    "unknown host goes": (lambda c: c.delete_host("h9"), NotFound, "Host h9 not found"),
    "sync with an endpoint twice": (
        lambda c: c.sync_endpoints("h1", [WEB1, WEB1]), Invalid, "endpointID web1 is given twice"
    ),
    "sync of another host's endpoint": (
        lambda c: c.sync_endpoints("h1", [replace(WEB1, host="h2")]), Invalid, "endpoint web1: homingHost h2"
    ),
    "sync with one bad endpoint": (
        lambda c: c.sync_endpoints("h1", [WEB1, endpoint_doc("e", "default", "x")]),
        NotFound,
        "endpoint e: Network x not found",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_line_and_changes_nothing(name: str) -> None:
    """Half a command carried out is worse than none; a user is told what would be right."""
    command, error, words = REFUSALS[name]
    door = furnished()
    door.commands.put_host(host_doc("h1", 1, "192.0.2.1"))
    door.commands.put_endpoint(endpoint_doc("c0", "default", "web", host="h1", origin="agent"))
    door.commands.grant("default", "web", None, "h1")
    door.commands.put_tenant("green")
    door.commands.put_network(network_doc("green", "n", "10.9.0.0/24", pkt_tag=500))
    for service in ("g1", "g2"):
        door.commands.put_service(service_doc("green", service, "n"))
    door.commands.put_network(DUAL)
    door.commands.put_service(service_doc("default", "d1", "dual", ports=["80:80:TCP"], publish=["8000:80"]))
    before = door.state()
    with pytest.raises(error) as caught:
        command(door.commands)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert type(caught.value) is error
    assert door.state() == before
