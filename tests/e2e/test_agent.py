"""The agent on real Docker, Open vSwitch and controller: what a user of Docker gets, and what survives what."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.e2e.machine import run, wait_for
from tests.e2e.node import IMAGE, Node
from tests.kit.controller import ROOT


def reads(host: Node, field: str, value: str) -> bool:
    """Whether every endpoint has that value."""
    return {e.get(field) for e in host.endpoints().values()} == {value}


def test_a_container_of_a_created_network_works_at_once(host: Node, net: str) -> None:
    """Else `docker run --net` fails after `netctl net create`, or its container has no way to others."""
    first = host.container("c1", net, "--label=tier=web", "--label=a=")
    second = host.container("c2", net)
    assert (first, second) == ("10.1.1.1", "10.1.1.2")
    assert host.pings("c1", second)
    assert host.pings("c1", "10.1.1.254")
    wait_for(lambda: host.endpoint("c1").get("state") == "running", "c1 to be running in the model")
    found = host.endpoint("c1")
    assert found["labels"] == {"tier": "web", "a": ""}
    assert found["ipAddress"] == ["10.1.1.1"]
    assert found["macAddress"] == "02:42:0a:01:01:01"
    assert found["containerID"] == host.docker("inspect", "c1", "--format", "{{.Id}}")
    assert found["portName"] in host.ports()
    assert "default via 10.1.1.254 dev eth0" in host.docker("exec", "c1", "ip", "route")
    assert "mtu 1500" in host.docker("exec", "c1", "ip", "link", "show", "eth0")


def test_checksums_are_made_in_the_container_on_the_userspace_datapath(host: Node, net: str) -> None:
    """Else every TCP segment between containers has a wrong checksum, and nothing but ping works."""
    address = host.container("c1", net)
    host.container("c2", net)
    host.docker("exec", "-d", "c1", "nc", "-l", "-p", "8080", "-e", "cat")
    done = host.docker("exec", "c2", "sh", "-c", f"echo hello | nc -w 3 {address} 8080")
    assert done == "hello"


def test_an_address_and_a_mac_that_were_asked_for(host: Node, net: str) -> None:
    """Else `--ip` and `--mac-address` are taken and not honoured, or their refusal tells nothing."""
    assert host.container("c1", net, "--ip=10.1.1.77", "--mac-address=02:11:22:33:44:55") == "10.1.1.77"
    assert "02:11:22:33:44:55" in host.docker("exec", "c1", "ip", "link", "show", "eth0")
    assert host.endpoint("c1")["macAddress"] == "02:11:22:33:44:55"
    run = ("run", "-d", f"--net={net}")
    taken = host.docker_error(*run, "--ip=10.1.1.77", IMAGE, "sleep", "1")
    assert "10.1.1.77 is taken: it is endpoint c1" in taken
    gateway = host.docker_error(*run, "--ip=10.1.1.254", IMAGE, "sleep", "1")
    assert "10.1.1.254 is taken: it is the gateway" in gateway


def test_a_network_without_gateway(host: Node) -> None:
    """Else Docker plugs its containers into a bridge of its own, a way around our network."""
    host.netctl("net", "create", "srv", "-s", "100.1.1.0/24")
    assert host.container("c1", "srv") == "100.1.1.1"
    assert host.docker("exec", "c1", "ip", "route") == "100.1.1.0/24 dev eth0 scope link  src 100.1.1.1"
    assert "docker_gwbridge" not in host.docker("network", "ls")


def test_tenants_may_use_the_same_subnet(host: Node, net: str) -> None:
    """Else a second tenant's network is refused by Docker, or shares addresses with the first."""
    host.netctl("tenant", "create", "blue")
    host.netctl("net", "create", "net1", "-t", "blue", "-s", "10.1.1.0/24")
    assert host.container("c1", net) == "10.1.1.1"
    assert host.container("c2", "net1/blue") == "10.1.1.1"
    assert host.endpoint("c2")["tenantName"] == "blue"


def test_states_names_and_health_reach_the_model(host: Node, net: str) -> None:
    """Else a service keeps sending to a container that is paused, sick or dead."""
    health = ("--health-cmd", "test -f /tmp/ok", "--health-interval", "300ms", "--health-retries", "1")
    host.container("c1", net, *health)
    for command, field, value in (
        (("exec", "c1", "touch", "/tmp/ok"), "health", "healthy"),
        (("exec", "c1", "rm", "/tmp/ok"), "health", "unhealthy"),
        (("pause", "c1"), "state", "paused"),
        (("unpause", "c1"), "state", "running"),
        (("rename", "c1", "other"), "containerName", "other"),
    ):
        host.docker(*command)
        wait_for(partial(reads, host, field, value), f"{field} {value}")
    host.docker("kill", "other")
    wait_for(lambda: not host.endpoints(), "the endpoint of a dead container to be gone")
    host.docker("start", "other")
    wait_for(lambda: host.endpoints().get("other", {}).get("state") == "running", "it to be back")


def test_connect_and_disconnect(host: Node, net: str) -> None:
    """Else a running container can't join or leave a network, or its labels count in one network only."""
    host.netctl("net", "create", "net2", "-s", "10.2.0.0/16", "-g", "10.2.0.1")
    host.container("c1", net, "--label=a=b")
    host.docker("network", "connect", "--ip=10.2.3.4", "net2", "c1")
    wait_for(lambda: host.endpoints().get("c1@net2", {}).get("labels") == {"a": "b"}, "the labels in net2")
    wait_for(lambda: host.endpoint("c1@net2")["state"] == "running", "it to be running in the model")
    assert "10.2.3.4/16" in host.docker("exec", "c1", "ip", "address", "show", "eth1")
    host.docker("network", "disconnect", "net2", "c1")
    wait_for(lambda: "c1@net2" not in host.endpoints(), "the endpoint in net2 to be gone")
    assert len(host.ports()) == 1


def test_networks_that_docker_users_make(host: Node) -> None:
    """Else `docker network create -d netctl` makes a network that netctl does not know, or forgets to remove it."""
    own = ("network", "create", "-d", "netctl", "--ipam-driver", "netctl")
    host.docker(*own, "auto")
    host.docker(
        *own,
        "--subnet=10.9.0.0/16",
        "--gateway=10.9.0.1",
        "--ip-range=10.9.128.0/24",
        "--aux-address=x=10.9.128.0",
        "r",
    )
    host.docker("network", "create", "-d", "netctl", "docker_ipam")
    assert host.container("c1", "auto") == "10.224.0.2"
    assert host.container("c2", "r") == "10.9.128.1"
    host.container("c3", "docker_ipam")
    assert "default via 10.9.0.1" in host.docker("exec", "c2", "ip", "route")
    assert "default via 10.224.0.1" in host.docker("exec", "c1", "ip", "route")
    networks = host.networks()
    assert set(networks) == {"default:auto", "default:r", "default:docker_ipam"}
    assert networks["default:r"]["subnet"] == "10.9.128.0-10.9.128.255/16"
    assert "network r conflicts with subnet 10.9.7.0/24" in host.docker_error(*own, "--subnet=10.9.7.0/24", "x")
    # who refuses this, Docker from version 26 on or the driver, depends on Docker's version
    refused = host.docker_error(*own, "--subnet=10.9.7.1/24", "x")
    assert "host bits" in refused or "invalid subnet 10.9.7.1/24: it should be 10.9.7.0/24" in refused
    assert "Tenant nix not found" in host.docker_error(*own, "-o", "tenant=nix", "x")
    assert "unknown option tennant" in host.docker_error(*own, "-o", "tennant=nix", "x")
    host.docker("rm", "-f", "c1", "c2", "c3")
    host.docker("network", "rm", "auto", "r", "docker_ipam")
    wait_for(lambda: not host.networks(), "the networks to leave the model")


def test_a_docker_network_of_another_tenant(host: Node) -> None:
    """Else -o tenant= is ignored, and the network ends up in the wrong address space."""
    host.netctl("tenant", "create", "green")
    own = ("network", "create", "-d", "netctl", "--ipam-driver", "netctl", "--subnet=10.9.0.0/24")
    host.docker(*own, "-o", "tenant=green", "-o", "network=named", "g1")
    wait_for(lambda: set(host.networks()) == {"green:named"}, "it in the model")
    host.container("c1", "g1")
    assert host.endpoint("c1")["tenantName"] == "green"
    assert "also say --ipam-opt tenant=default" in host.docker_error(*own, "d1")
    host.docker(*own, "--ipam-opt", "tenant=default", "d1")
    wait_for(lambda: set(host.networks()) == {"green:named", "default:d1"}, "d1 in the model")
    assert host.container("c2", "d1") == host.address("c1", "g1")


def test_a_start_that_fails_leaves_nothing(host: Node, net: str) -> None:
    """Else each failed start costs an address, a port and a veth pair for good."""
    host.docker_error("run", "-d", f"--net={net}", IMAGE, "nosuch")
    wait_for(lambda: not host.ports() and not host.links() and not host.endpoints(), "nothing to be left")


def test_many_at_once(host: Node, net: str) -> None:
    """Else containers started together get one address twice, or one of them is never listed."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: host.container(f"c{number}", net), range(8)))
    assert len(set(found)) == 8
    wait_for(lambda: [e.get("state") for e in host.endpoints().values()] == ["running"] * 16, "all to run in the model")
    names = [f"c{number}" for number in range(8)]
    host.docker("kill", *names)
    wait_for(lambda: not host.endpoints() and not host.ports(), "none to be listed")


def test_the_agent_stops_cleanly_and_traffic_goes_on(host: Node, net: str) -> None:
    """Else an upgrade of the agent is an outage, or a container that starts meanwhile fails."""
    host.container("c1", net, "--label=a=b")
    second = host.container("c2", net)
    assert host.kill("agent", signal.SIGTERM) == 0
    assert not (host.plugins / "netctl.sock").exists()
    assert host.pings("c1", second)
    late = threading.Thread(target=host.container, args=("late", net))
    late.start()
    host.start_agent()
    late.join(60)
    wait_for(lambda: host.endpoints().get("late", {}).get("state") == "running", "the late one")
    assert host.endpoint("c1")["labels"] == {"a": "b"}
    assert "removed" not in host.log("agent")[host._agent_from :]


def test_it_says_where_its_threads_are(host: Node) -> None:
    """Else nobody can tell why an agent that hangs does."""
    agent, before = host.processes["agent"], len(host.log("agent"))
    agent.send_signal(signal.SIGUSR2)
    wait_for(lambda: "Current thread" in host.log("agent")[before:], "the threads")
    wait_for(lambda: "netctl/agent/events.py" in host.log("agent")[before:], "the one that reads Docker's events")
    assert agent.poll() is None


def test_a_second_agent_is_refused(host: Node) -> None:
    """Else two agents fight over one switch."""
    done = subprocess.run(
        host.inside(*host.agent_command()), capture_output=True, text=True, timeout=30, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"netctl-agent: {host.plugins}/netctl.sock: another agent is serving it already"


def test_what_changed_while_the_agent_was_dead(host: Node, net: str) -> None:
    """Else networks made or removed meanwhile stay wrong, and stale ports and veths pile up."""
    host.netctl("net", "create", "old", "-s", "10.3.0.0/24")
    host.container("c1", net)
    host.kill("agent")
    host.netctl("net", "rm", "old")
    host.netctl("net", "create", "new", "-s", "10.4.0.0/24")
    stale = "a" * 64
    host.vsctl("--no-wait", "add-port", "br-netctl", "nvaaaaaaaaaaaa", "--", "set", "interface", "nvaaaaaaaaaaaa",
               f"external_ids:netctl-endpoint={stale}", "type=dummy")  # fmt: skip
    run(*host.inside("ip", "link", "add", "nvaaaaaaaaaaaa", "type", "veth", "peer", "name", "ncaaaaaaaaaaaa"))
    run(*host.inside("ip", "link", "set", "nvaaaaaaaaaaaa", "alias", f"netctl br-netctl {stale}"))
    host.start_agent()
    wait_for(lambda: host.docker_networks() == {net, "new"}, "Docker's networks to be the model's")
    wait_for(lambda: len(host.ports()) == 1 and len(host.links()) == 1, "stale ports and veths to be gone")
    wait_for(lambda: host.endpoint("c1")["state"] == "running", "c1 to be running in the model")


def test_without_the_controller(host: Node, net: str) -> None:
    """Else no container can even be restarted while the controller is upgraded."""
    first = host.container("c1", net)
    host.container("c2", net)
    host.kill("controller")
    host.docker("restart", "-t", "0", "c1")
    assert host.address("c1", net) == first
    second = host.address("c2", net)
    host.docker("rm", "-f", "c2")
    assert host.container("c3", net, "--label=new=yes") == second
    refused = host.docker_error("run", "-d", f"--net={net}", IMAGE, "sleep", "1")
    assert "the controller at http://127.0.0.1:9999 does not answer" in refused
    refused = host.docker_error("network", "create", "-d", "netctl", "--subnet=10.7.0.0/24", "x")
    assert "no connection to http://127.0.0.1:9999" in refused
    host.start_controller()
    wait_for(lambda: host.endpoints().get("c3", {}).get("labels") == {"new": "yes"}, "c3 in the model")
    assert host.endpoint("c1")["ipAddress"] == [first]
    assert "c2" not in host.endpoints()


def test_a_start_waits_for_a_controller_that_is_restarting(host: Node, net: str) -> None:
    """Else a restart of the controller fails whatever starts in that second."""
    host.kill("controller")
    started = threading.Thread(target=host.container, args=("c1", net))
    started.start()
    host.start_controller()
    started.join(60)
    wait_for(lambda: host.endpoints().get("c1", {}).get("state") == "running", "c1 in the model")


@pytest.mark.parametrize("live", [True, False])
def test_docker_is_killed(host: Node, net: str, live: bool) -> None:
    """Else containers that outlive dockerd are cut off, or those that do not stay providers for ever."""
    if not live:
        host.kill("dockerd", signal.SIGTERM, 60)
        host.start_docker(live=False)
    first = host.container("c1", net, "--restart=always", "--label=a=b")
    host.container("c2", net)
    wait_for(lambda: set(host.endpoints()) >= {"c1", "c2"}, "both in the model")
    host.kill("dockerd")
    assert set(host.endpoints()) >= {"c1", "c2"}
    line = "host agt-host: Docker does not answer"
    with pytest.raises(AssertionError, match=line):
        host.netctl("net", "create", "late", "-s", "10.5.0.0/24")
    assert "default:late" not in host.networks()
    host.start_docker(live=live)
    wait_for(lambda: host.endpoints().get("c1", {}).get("state") == "running", "c1 to be running", 60)
    if live:
        assert host.address("c1", net) == first
        assert host.pings("c1", host.address("c2", net))
    else:
        wait_for(lambda: "c2" not in host.endpoints(), "c2, which Docker does not start again, to be gone")
    assert host.endpoint("c1")["labels"] == {"a": "b"}
    wait_for(lambda: not docker_trouble(host), "the agent to reach Docker again")
    host.netctl("net", "create", "late", "-s", "10.5.0.0/24")
    host.container("c3", "late")
    if not live:
        host.docker("rm", "-f", "c1", "c2", "c3")
        host.kill("dockerd", signal.SIGTERM, 60)
        host.start_docker()


def docker_trouble(host: Node) -> str:
    """What `netctl host inspect` says about Docker."""
    return str(json.loads(host.netctl("host", "inspect", host.host))["Oper"].get("errors", {}).get("docker", ""))


def refused_for(host: Node, reason: str) -> None:
    """Whoever makes a network hears within seconds what is wrong with Docker."""
    began = time.monotonic()
    said = host.complaint("net", "create", "late", "-s", "10.5.0.0/24")
    assert "host agt-host: Docker does not answer" in said and reason in said, said
    assert time.monotonic() - began < 10
    assert "default:late" not in host.networks()


@pytest.mark.parametrize("how", ["killed", "hangs", "was never there"])
def test_no_docker_is_said_within_seconds(host: Node, how: str) -> None:
    """Else a user looks for the fault in the network, while Docker is dead or hangs; and waits long to be told less."""
    if how == "hangs":
        host.freeze("dockerd")
        reason = "no answer in time"
        refused_for(host, reason)  # asked at once, before anybody knows
    else:
        if how == "was never there":
            host.kill("agent", signal.SIGTERM)
        host.kill("dockerd")
        reason = "Connection refused"  # the socket that it leaves
        if how == "was never there":
            (host.directory / "docker.sock").unlink()
            host.start_agent(wait=False)
            wait_for(lambda: "Docker does not answer" in host.log("agent")[host._agent_from :], "the line in its log")
            wait_for(lambda: json.loads(host.rest("/api/v1/hosts/"))[0]["connected"], "the agent to be connected")
            reason = "No such file or directory"
    wait_for(lambda: reason in docker_trouble(host), "the host to say what is wrong", 10)
    refused_for(host, reason)

    if how == "hangs":
        host.thaw("dockerd")
    else:
        host.start_docker()
    wait_for(lambda: not docker_trouble(host), "the host to be well again", 10)
    host.netctl("net", "create", "late", "-s", "10.5.0.0/24")
    host.container("c1", "late")


def test_the_plugins_socket_is_removed(host: Node, net: str) -> None:
    """Else no container starts in our networks until somebody restarts the agent, which looks well."""
    (host.plugins / "netctl.sock").unlink()
    assert host.processes.pop("agent").wait(10) == 1, "its supervisor starts it again"
    assert "Docker can't reach this agent any more" in host.log("agent")
    host.start_agent()
    host.container("c1", net)


def test_the_switch_is_killed(host: Node, net: str) -> None:
    """Else a crash of Open vSwitch cuts every container off until it is restarted."""
    host.container("c1", net)
    second = host.container("c2", net)
    host.kill("ovs-vswitchd")
    refused = host.docker_error("run", "-d", f"--net={net}", IMAGE, "sleep", "1")
    assert "does it run?" in refused
    host.start_vswitchd()
    wait_for(lambda: host.pings("c1", second), "the ping to be answered again")
    host.container("c3", net)


def test_the_switch_has_lost_its_database(host: Node, net: str) -> None:
    """Else a database made anew leaves running containers without a bridge."""
    host.container("c1", net)
    second = host.container("c2", net)
    dpid = host.vsctl("get", "bridge", "br-netctl", "datapath_id")
    host.kill("ovs-vswitchd")
    host.kill("ovsdb-server")
    refused = host.docker_error("run", "-d", f"--net={net}", IMAGE, "sleep", "1")
    assert "Open vSwitch does not answer" in refused
    host.new_database()
    host.start_ovsdb()
    host.start_vswitchd()
    wait_for(lambda: host.pings("c1", second), "the ping to be answered again")
    assert host.vsctl("get", "bridge", "br-netctl", "datapath_id") == dpid


def test_everything_starts_again(host: Node, net: str) -> None:
    """Else after a reboot containers that Docker starts by itself, before it answers anybody, have no network."""
    host.container("c1", net, "--restart=always", "--label=a=b")
    for name in ("agent", "controller", "dockerd", "ovs-vswitchd", "ovsdb-server"):
        host.kill(name)
    host.start_ovsdb()
    host.start_vswitchd()
    host.start_agent(wait=False)
    wait_for((host.plugins / "netctl.sock").is_socket, "the socket")
    host.start_controller()
    host.start_docker()
    wait_for(lambda: host.endpoints().get("c1", {}).get("labels") == {"a": "b"}, "c1 in the model", 60)
    wait_for(lambda: host.pings("c1", "10.1.1.254"), "the gateway to answer")
    wait_for(lambda: len(host.ports()) == 1 and len(host.links()) == 1, "stale ports and veths to be gone")


def test_the_bridge_is_set_up_once(host: Node) -> None:
    """Else the switch asks itself for the way, forgets its flows, or is set up anew at each start."""
    columns = ("fail_mode", "datapath_type", "protocols", "other_config", "controller")
    got = dict(zip(columns, host.vsctl("get", "bridge", "br-netctl", *columns).splitlines(), strict=True))
    assert got["fail_mode"] == "secure"
    assert got["datapath_type"] == "netdev"
    assert 'disable-in-band="true"' in got["other_config"]
    assert "datapath-id=" in got["other_config"]
    target = host.vsctl("get", "controller", got["controller"].strip("[]"), "target", "max_backoff", "inactivity_probe")
    assert target.split() == ['"tcp:127.0.0.1:6653"', "1000", "5000"]
    before = host.vsctl("list", "bridge", "br-netctl")
    host.kill("agent", signal.SIGTERM)
    host.start_agent()
    assert "bridge br-netctl" not in host.log("agent")[host._agent_from :]
    assert host.vsctl("list", "bridge", "br-netctl") == before


def test_compose(host: Node) -> None:
    """Else a Compose project can't use the driver."""
    project = host.directory / "project"
    project.mkdir(exist_ok=True)
    (project / "docker-compose.yml").write_text(
        f"""
version: "3"
services:
  web: {{image: {IMAGE}, command: httpd -f, labels: {{tier: web}}, networks: [front, back], stop_grace_period: 0s}}
  cli: {{image: {IMAGE}, command: httpd -f, networks: [front], stop_grace_period: 0s}}
networks:
  front: {{driver: netctl}}
  back: {{driver: netctl, ipam: {{driver: netctl, config: [{{subnet: 10.44.0.0/24}}]}}}}
"""
    )
    host.compose("up", "-d")
    place = f"{host.composed('web')}@my_prj_back"
    wait_for(lambda: host.endpoints().get(place, {}).get("labels", {}).get("tier") == "web", "web")
    assert set(host.networks()) == {"default:my_prj_front", "default:my_prj_back"}
    assert host.pings(host.composed("cli"), "web")
    host.compose("down")
    wait_for(lambda: not host.networks(), "the project's networks to leave the model")


def test_a_tunnel_address(host: Node, net: str) -> None:
    """Else a wrong one is noticed only when two hosts don't reach each other; or a port stays that leads nowhere."""

    def trouble() -> str:
        doc = json.loads(host.netctl("host", "inspect", "agt-host"))
        return str(doc["Oper"].get("errors", {}).get("tunnel", ""))

    def ports() -> list[str]:
        return host.vsctl("list-ports", "br-netctl").split()

    host.kill("agent", signal.SIGTERM)
    host.start_agent("--tunnel-address=192.0.2.1")
    try:
        wait_for(lambda: "192.0.2.1 is not an address of this host" in trouble(), "the line about the address")
        assert "netctl-vxlan" not in ports()
        run(*host.inside("ip", "link", "add", "under", "type", "veth", "peer", "name", "over"))
        run(*host.inside("ip", "address", "add", "192.0.2.1/24", "dev", "under"))
        wait_for(lambda: "on under, which the userspace switch can't send by" in trouble(), "the line about the device")
        assert "netctl-vxlan" in ports()
        host.container("c1", net)
        assert "mtu 1450" in host.docker("exec", "c1", "ip", "link", "show", "eth0")
    finally:
        run(*host.inside("ip", "link", "del", "under"), check=False)
        host.kill("agent", signal.SIGTERM)
        host.start_agent()
    wait_for(lambda: "netctl-vxlan" not in ports(), "the port to be gone")
    wait_for(lambda: not trouble(), "the line to be gone")
    host.container("c2", net)
    assert "mtu 1500" in host.docker("exec", "c2", "ip", "link", "show", "eth0")
    assert host.pings("c1", host.address("c2", net))
