"""Networks of ours with Docker's own IPAM driver: `driver: netctl` in Compose, and nothing about addresses."""

from __future__ import annotations

import json

from tests.e2e.machine import wait_for
from tests.e2e.node import IMAGE, Node


def made(host: Node, *options: str) -> None:
    """The network ``mine``, in Docker and in the model."""
    host.docker("network", "create", "-d", "netctl", "--subnet=10.47.0.0/24", *options, "mine")
    wait_for(lambda: "default:mine" in host.networks(), "the network in the model")


def service(host: Node, *options: str) -> str:
    """A service in it; its VIP."""
    host.netctl("service", "create", "shop", "-s", "mine", "-l", "app=web", "-p", "80:80:TCP", *options)
    (document,) = json.loads(host.rest("/api/v1/serviceLBs/"))
    return str(document["serviceVip"])


def ended(host: Node) -> None:
    """Nothing is left of it."""
    host.docker("rm", "-f", *host.docker("ps", "-aq").split())
    host.netctl("service", "rm", "shop")
    host.docker("network", "rm", "mine")
    wait_for(lambda: not host.networks(), "the network to be gone")


def test_a_service_before_its_containers(host: Node) -> None:
    """The VIP would have the address that Docker gives to the first container, whose start then fails."""
    made(host)
    assert service(host) == "10.47.0.254"
    assert [host.container(f"c{n}", "mine", "--label=app=web") for n in (1, 2)] == ["10.47.0.2", "10.47.0.3"]
    wait_for(lambda: "2/2" in host.netctl("service", "ls"), "both providers")
    ended(host)


def test_an_address_that_is_taken_all_the_same(host: Node) -> None:
    """The user would look for the container that has it, and find none; or not know how to go on."""
    made(host, "--ip-range=10.47.0.16/30")
    vip = service(host, "--preferred-ip", "10.47.0.17")
    refused = host.docker_error("run", "-d", "--net=mine", IMAGE, "sleep", "1")
    assert f"ipAddress {vip} is taken: it is the VIP of service default:shop" in refused
    assert "Docker's own IPAM driver chose it" in refused and "--ipam-driver netctl" in refused
    assert host.container("c1", "mine", "--ip=10.47.0.99") == "10.47.0.99"
    ended(host)
