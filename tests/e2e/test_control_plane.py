"""Containers with all rights, and a controller on all addresses of their host: nothing of the control plane is open."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.e2e.machine import PREFIX, run, wait_for
from tests.e2e.node import Node
from tests.e2e.test_walkthrough import Inside
from tests.kit import frames
from tests.kit.hosts import Namespace, inside

LAN, OUTSIDE = "192.0.2.1", "192.0.2.9"
HOST, HOST6 = "169.254.0.1", "100::1:0:1"
DOCKER0 = "172.31.0.1"
REST, OPENFLOW = 9999, 6653
QUESTION = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\7example\0\0\1\0\1"  # the address of "example"
NO_SUCH_NAME = b"\x81\x83"  # the flags of an answer
RIGHTS = ("--cap-add=NET_ADMIN", "--cap-add=NET_RAW")  # all that there are in a network namespace of one's own


class Stage(NamedTuple):
    """Containers in a network with nat, and in one with natHost too; a service that is published; a machine outside."""

    host: Node
    shut: Inside
    open: Inside
    out: Namespace

    @property
    def itself(self) -> Namespace:
        """The host."""
        return Namespace("host", self.host.name, LAN)

    def addresses(self, client: Inside) -> list[str]:
        """Of the host, by whatever way."""
        return [HOST, LAN, DOCKER0, "127.0.0.1", client.ip.rpartition(".")[0] + ".254"]


@pytest.fixture
def stage(host: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """As a user makes it who wants to reach his controller from elsewhere."""
    settings = host.controller_settings()
    monkeypatch.setattr(
        host, "controller_settings", lambda: f"{settings}rest_host = 0.0.0.0\nofp_listen_host = 0.0.0.0\n"
    )
    name = f"{PREFIX}{os.getpid()}-out"
    with contextlib.ExitStack() as held:
        run("ip", "netns", "add", name)
        held.callback(run, "ip", "netns", "delete", name)
        run(*f"ip link add wan netns {host.name} type veth peer name eth0 netns {name}".split())
        held.callback(run, "ip", "-n", host.name, "link", "delete", "wan")
        for there, command in (
            (host.name, f"address add {LAN}/24 dev wan"),
            (host.name, "link set wan up"),
            (host.name, "link add net0 type bridge"),
            (host.name, f"address add {DOCKER0}/24 dev net0"),
            (host.name, "link set net0 up"),
            (name, "link set lo up"),
            (name, f"address add {OUTSIDE}/24 dev eth0"),
            (name, "link set eth0 up"),
        ):
            run("ip", "-n", there, *command.split())
        held.callback(run, "ip", "-n", host.name, "link", "delete", "net0")
        restart_controller(host)
        wide = "-s6=fd00:20:{n}::/64", "-g6=fd00:20:{n}::fe"
        for n, network, more in ((1, "shut", ()), (2, "open", ("--nat-host",))):
            six = [option.format(n=n) for option in wide]
            at = ("-s", f"20.1.{n}.0/24", "-g", f"20.1.{n}.254")
            host.netctl("net", "create", network, *at, *six, "--nat", *more)
        host.netctl("net", "create", "srv", "-s", "100.1.1.0/24")
        publish = ("--port=8080:80:TCP", "--publish=80:8080")
        host.netctl("service", "create", "app", "--network=srv", "--selector=tier=shut", *publish)
        held.callback(host.netctl, "service", "rm", "app")
        inside = [
            held.enter_context(Inside(host, f"{n}1", host.container(f"{n}1", n, *RIGHTS, f"--label=tier={n}")))
            for n in ("shut", "open")
        ]
        out = Namespace("out", name, OUTSIDE)
        held.callback(out.stop_serving)
        out.serve("tcp:7")
        inside[0].serve("tcp:80")
        made = Stage(host, *inside, out)
        held.callback(made.itself.stop_serving)
        wait_for(lambda: made.itself.reaches("tcp", "127.0.0.1", 80), "the published port")
        yield made
    # the machine's own controller again, for the other tests
    monkeypatch.undo()
    restart_controller(host)


def restart_controller(host: Node) -> None:
    """With the settings that it has now; until the agent has found it."""
    host.kill("controller", signal.SIGTERM)
    host.start_controller()
    wait_for(lambda: all(doc["connected"] for doc in json.loads(host.rest("/api/v1/hosts/"))), "the agent to be back")


def refused(client: Inside, address: str, port: int) -> bool:
    """Whether a connection is refused at once."""
    try:
        client.connect("tcp", address, port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_no_container_removes_a_service(stage: Stage) -> None:
    """One DELETE out of any container with a way out, and a service of everybody's is gone."""
    assert stage.host.get(f"http://{LAN}:{REST}/version"), "it is open to who may"
    for client in (stage.shut, stage.open):
        for address in (HOST, LAN, DOCKER0):
            assert refused(client, address, REST), f"{client.name} → {address}"
            assert refused(client, address, OPENFLOW), f"{client.name} → {address}"
        for address in stage.addresses(client):
            for port in (REST, OPENFLOW):
                assert not client.reaches("tcp", address, port, timeout=0.3), address
        said = stage.host.docker("exec", client.name, "wget", "-T", "2", "-qO-", f"http://{LAN}:{REST}/", check=False)
        assert not said
        assert client.ask("tcp", OUTSIDE, 7).startswith("out "), "the world is open"
        for address in (HOST, LAN, DOCKER0):
            assert client.ask("tcp", address, 80).startswith("shut1 "), "so is what is published, at each address"
    assert "app" in stage.host.netctl("service", "ls")


def test_the_rest_of_the_host_is_open_with_nat_host_only(stage: Stage) -> None:
    """A container could log in to its host; or one that is to use a server there could not."""
    itself = stage.itself
    itself.serve("tcp:22", "udp:53")
    try:
        for address in (HOST, LAN, DOCKER0):
            assert refused(stage.shut, address, 22)
            assert not stage.shut.pings(address)
            assert stage.open.ask("tcp", address, 22).startswith("host 251.")
        assert not stage.shut.reaches("udp", HOST, 53)
        assert stage.open.ask("udp", HOST, 53).startswith("host ")
    finally:
        itself.stop_serving()


@contextlib.contextmanager
def name_server(at: Namespace, address: str) -> Iterator[None]:
    """One that has heard of nothing, and says so."""
    with inside(at.netns):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def answer() -> None:
        while True:
            question, client = server.recvfrom(2048)
            if not client:
                return  # its end
            server.sendto(question[:2] + NO_SUCH_NAME + question[4:], client)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RD)  # which wakes it, though it says that there is no connection
        thread.join(5)
        server.close()


def resolves(client: Inside) -> bool:
    """Whether Docker's resolver in the container is answered by its server."""
    with client.connect("udp", "127.0.0.11", 53, timeout=2) as asking:
        asking.send(QUESTION)
        try:
            return asking.recv(2048)[2:4] == NO_SUCH_NAME
        except TimeoutError:
            return False


def test_names(stage: Stage) -> None:
    """A container with a way out could look up no name; or one whose name server is its host could, and reach it."""
    for network, server, expected in (("shut", OUTSIDE, True), ("shut", LAN, False), ("open", LAN, True)):
        name = f"dns-{network}"
        container = stage.host.container(name, network, f"--dns={server}")
        try:
            at = stage.out if server == OUTSIDE else stage.itself
            with name_server(at, server), Inside(stage.host, name, container) as client:
                assert resolves(client) is expected, f"{network} → {server}"
        finally:
            stage.host.docker("rm", "-f", name)


def test_by_ipv6(stage: Stage) -> None:
    """What is closed by IPv4 would be open by IPv6."""
    for client in (stage.shut, stage.open):
        run("ip", "-n", client.netns, "-6", "route", "replace", "fd00:beef::/64", "via", "fe80::1", "dev", "eth0")
        for address in (HOST6, "fe80::1%eth0", "::ffff:192.0.2.1", "fd00:beef::1", "fd00:20:1::fe", "100::1:0:2"):
            for port in (REST, OPENFLOW, 22):
                assert not client.reaches("tcp", address, port, timeout=0.2), address


def test_a_container_with_all_rights(stage: Stage) -> None:
    """Who sets routes, neighbours and addresses of his own would be let in by another name."""
    client = stage.open
    mine = ("ip", "-n", client.netns)
    run(*mine, "route", "replace", "10.99.0.0/16", "via", HOST, "dev", "eth0", "onlink")
    run(*mine, "neighbour", "replace", HOST, "lladdr", "0e:4e:43:00:00:02", "dev", "eth0", "nud", "permanent")
    run(*mine, "route", "replace", f"{HOST}/32", "dev", "eth0")
    for address in ("250.0.0.200", "251.0.0.200", "127.0.0.2", LAN):
        run(*mine, "address", "add", f"{address}/32", "dev", "eth0")
    try:
        for port in (REST, OPENFLOW, 22):
            assert not client.reaches("tcp", HOST, port, timeout=0.3), "straight to the host's MAC"
            assert not client.reaches("tcp", "10.99.0.1", port, timeout=0.3)
        for source in ("250.0.0.200", "251.0.0.200", LAN):
            with client.open("tcp", timeout=0.3) as forged:
                forged.bind((source, 0))
                with pytest.raises(OSError):
                    forged.connect((OUTSIDE, 7))
        with client.open("raw") as raw:
            raw.send(frames.udp("0e:4e:43:00:00:02", "251.0.0.200", LAN, 22))
    finally:
        for address in ("250.0.0.200", "251.0.0.200", "127.0.0.2", LAN):
            run(*mine, "address", "delete", f"{address}/32", "dev", "eth0")
        run(*mine, "route", "delete", f"{HOST}/32", "dev", "eth0")
    assert client.ask("tcp", OUTSIDE, 7).startswith("out ")


def test_the_agent_starts_again(stage: Stage) -> None:
    """The rules would be written anew at each start, or be open until the controller answers."""
    before = run(*stage.host.inside("iptables-save", "-t", "filter"))
    assert f"--dport {REST} " in before
    stage.host.kill("agent")
    stage.host.start_agent()
    after = run(*stage.host.inside("iptables-save", "-t", "filter"))
    assert [x for x in after.splitlines() if x[:1] == "-"] == [x for x in before.splitlines() if x[:1] == "-"]
    assert refused(stage.shut, LAN, REST)
