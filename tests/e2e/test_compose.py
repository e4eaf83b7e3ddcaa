"""Compose projects whose networks hold a VIP: down and up again, by both of Docker's IPAM drivers."""

from __future__ import annotations

import json

import pytest

from tests.e2e.machine import wait_for
from tests.e2e.node import IMAGE, Node

OWN = "ipam: {driver: netctl, config: [{subnet: 10.44.0.0/24}]}"
PICKED = "ipam: {driver: netctl}"
DOCKERS = "labels: {some: label}"


def project(host: Node, network: str) -> None:
    """A project with one provider in one network."""
    folder = host.directory / "project"
    folder.mkdir(exist_ok=True)
    (folder / "docker-compose.yml").write_text(
        f"""
version: "3.5"
services:
  web: {{image: {IMAGE}, command: httpd -f, labels: {{app: web}}, networks: [back], stop_grace_period: 0s}}
networks:
  back: {{driver: netctl, {network}}}
"""
    )


def vip_of(host: Node) -> str:
    """The VIP of the only service."""
    (service,) = json.loads(host.rest("/api/v1/serviceLBs/"))
    return str(service["serviceVip"])


def serves(host: Node) -> bool:
    """Whether the project's container is a provider that serves."""
    return "1/1" in host.netctl("service", "ls")


@pytest.mark.parametrize("network", [OWN, PICKED, DOCKERS])
def test_down_and_up_with_a_vip_in_its_network(host: Node, network: str) -> None:
    """A project with a service in its network would never start again, or its clients lose the VIP."""
    project(host, network)
    host.compose("up", "-d")
    wait_for(lambda: "default:my_prj_back" in host.networks(), "the network in the model")
    host.netctl("service", "create", "shop", "-s", "my_prj_back", "-l", "app=web", "-p", "80:80:TCP")
    vip = vip_of(host)
    wait_for(lambda: serves(host), "the provider")
    for _ in range(2 if network == PICKED else 1):
        host.compose("down")
        host.compose("up", "-d")
        wait_for(lambda: serves(host), "the provider again")
        assert vip_of(host) == vip
    host.compose("down")
    host.netctl("service", "rm", "shop")
    if network == OWN:
        wait_for(lambda: not host.networks(), "the network to go, as nothing needs it and its user removed it")
    else:
        host.docker("network", "rm", "my_prj_back")
    wait_for(lambda: not host.networks() and not host.docker_networks(), "the network to be gone")


def test_a_new_agent_leaves_the_name_free(host: Node) -> None:
    """After a restart of the agent the project would find another network under its name."""
    project(host, OWN)
    host.compose("up", "-d")
    host.netctl("service", "create", "shop", "-s", "my_prj_back", "-l", "app=web", "-p", "80:80:TCP")
    host.compose("down")
    host.kill("agent")
    host.start_agent()
    assert not host.docker_networks()
    host.compose("up", "-d")
    wait_for(lambda: serves(host), "the provider again")
    host.compose("down")
    host.netctl("service", "rm", "shop")
    wait_for(lambda: not host.networks(), "the network to go")


def test_by_hand_and_in_another_form(host: Node) -> None:
    """A network made again with another gateway or subnet would have containers that nobody reaches."""
    own = ("network", "create", "-d", "netctl", "--ipam-driver", "netctl")
    host.docker(*own, "--subnet=10.45.0.0/24", "mine")
    wait_for(lambda: "default:mine" in host.networks(), "the network in the model")
    host.netctl("service", "create", "shop", "-s", "mine", "-l", "app=web", "-p", "80:80:TCP")
    host.docker("network", "rm", "mine")
    refused = host.docker_error(*own, "--subnet=10.45.0.0/24", "--gateway=10.45.0.9", "mine")
    assert "gateway is 10.45.0.1, not 10.45.0.9" in refused
    host.docker(*own, "--subnet=10.46.0.0/24", "mine")
    refused = host.docker_error("run", "-d", "--net=mine", IMAGE, "sleep", "1")
    assert "this network is not in the model" in refused and "subnet is 10.45.0.0/24, not 10.46.0.0/24" in refused
    host.docker("network", "rm", "mine")
    host.docker(*own, "--subnet=10.45.0.0/24", "mine")
    host.container("c1", "mine", "--label=app=web")
    wait_for(lambda: serves(host), "the provider")
    host.docker("rm", "-f", "c1")
    host.netctl("service", "rm", "shop")
    host.docker("network", "rm", "mine")
    wait_for(lambda: not host.networks(), "the network to go")
