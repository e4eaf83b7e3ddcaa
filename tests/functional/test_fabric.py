"""Switches that are joined by links, on real Open vSwitch: found, used, gone round; no packet is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.kit import ovs
from tests.kit.controller import ROOT, Controller, controller
from tests.kit.frames import arp_request
from tests.kit.hosts import ETH_P_ALL, Host, inside
from tests.kit.loop import asking
from tests.kit.ovs import run, wait_for
from tests.kit.private_ovs import Private
from tests.kit.weave import Weave, weave

SCRIPTS = {"linear": "", "tree": "", "ring": "s1-s2", "fattree": "c00-a00"}
RING = [("s1", "s2"), ("s2", "s3"), ("s3", "s4"), ("s4", "s1")]
SERVE = ["tcp:80", "udp:53", "tcp:22"]
WEB = {"tier": "web"}
VIP = "100.1.1.1"
ARP = b"\x08\x06"


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """For the Mininet scripts."""
    with controller(tmp_path_factory.mktemp("mininet")) as running:
        yield running


@pytest.mark.parametrize("name", SCRIPTS)
def test_mininet_script(control: Controller, name: str) -> None:
    """If it fails: hosts or services do not reach over several switches, or not round a link that is down."""
    own = f"{ovs.PREFIX}{name[0]}"
    where = ("--controller-port", str(control.ofp_port), "--netmaster", control.url, "--name", own)
    done = subprocess.run(
        [sys.executable, str(ROOT / "mininet" / f"{name}.py"), *where, "--test", "--connections", "24"],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" 0 failed\n"), done.stdout
    if SCRIPTS[name]:
        assert f"link {SCRIPTS[name]} is down" in done.stdout
    assert not [bridge for bridge in ovs.MACHINE.vsctl("list-br").split() if bridge.startswith(own)]
    assert not [link for link in os.listdir("/sys/class/net") if link.startswith(own)]
    assert not control.client.networks()


@pytest.fixture(scope="module")
def ring(instance: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weave]:
    """A ring of four switches with links. c1 at s1; w2 and w3, providers, at s2 and s3; o4 at s4."""
    with weave(tmp_path_factory.mktemp("ring"), instance, ["s1", "s2", "s3", "s4"], RING) as it:
        it.network("srv", "100.1.1.0/24")
        it.network("web", "10.1.1.0/24", "10.1.1.254")
        it.network("cli", "20.1.1.0/24", "20.1.1.254")
        assert it.service("app", "srv", ["8080:80:TCP", "53:53:UDP"], ["tier=web"]) == VIP
        yield it


@pytest.fixture(scope="module")
def hosts(ring: Weave) -> dict[str, Host]:
    made = {
        "c1": ring.host("c1", "s1", "cli", "20.1.1.1", serve=SERVE),
        "w2": ring.host("w2", "s2", "web", "10.1.1.2", WEB, serve=SERVE),
        "w3": ring.host("w3", "s3", "web", "10.1.1.3", WEB, serve=SERVE),
        "o4": ring.host("o4", "s4", "web", "10.1.1.4", serve=SERVE),
    }
    wait_for(lambda: made["c1"].reaches("tcp", "10.1.1.3", 22), "the way to w3")
    return made


def test_over_switches(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: a service over several switches does not work."""
    for one in hosts.values():
        for other in hosts.values():
            assert one is other or one.pings(other.ip), f"{one.name} → {other.name}"
    assert hosts["c1"].pings(hosts["w3"].ip, "-M", "do", "-s", "1472"), "a full frame, with a tag"
    for name in ("c1", "w2", "o4"):
        for kind, port in (("tcp", 8080), ("udp", 53)):
            answers = [hosts[name].ask(kind, VIP, port).split() for _ in range(20)]
            assert {who for who, _, _ in answers} == {"w2", "w3"}
            assert {seen for who, seen, _ in answers if who != name} == {hosts[name].ip}


def shout(host: Host, text: bytes) -> None:
    """To all of the host's network."""
    with host.open("udp") as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(text, (f"{host.ip.rpartition('.')[0]}.255", 7))


@contextlib.contextmanager
def counting(*listeners: Host) -> Iterator[dict[str, int]]:
    """How many copies of a numbered shout have come to each, at the end of the block."""
    found: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        ears = {one.name: stack.enter_context(one.open("raw")) for one in listeners}
        yield found
        for name, ear in ears.items():
            found[name] = 0
            while select.select([ear], [], [], 0.5)[0]:
                frame, address = ear.recvfrom(65535)
                found[name] += address[2] != socket.PACKET_OUTGOING and b"to all of web" in frame


def test_a_broadcast_comes_once(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: a broadcast storms in a ring, or comes twice."""
    with counting(hosts["w3"], hosts["o4"], hosts["c1"]) as heard:
        for _ in range(10):
            shout(hosts["w2"], b"to all of web")
    assert heard == {"w3": 10, "o4": 10, "c1": 0}


def test_no_broadcast_comes_twice_while_links_come_and_go(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: while a link flaps, broadcasts run round in the ring."""
    sent = 0
    with counting(hosts["w3"], hosts["o4"]) as heard:
        for number in (0, 2):
            for state in ("down", "up"):
                ring.cable(number, state)
                for _ in range(20):
                    shout(hosts["w2"], b"to all of web")
                    sent += 1
            ring.wait_for_cables(0, 1, 2, 3)
        # while paths change, nobody is sent to: these are heard
        wait_for(lambda: all(hosts["w2"].pings(hosts[name].ip) for name in ("w3", "o4")), "all to be joined again")
        for _ in range(20):
            shout(hosts["w2"], b"to all of web")
            sent += 1
    assert all(0 < count <= sent for count in heard.values()), (heard, sent)


def test_a_cut_link_is_gone_round(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: one cut cable parts hosts that another way joins."""
    client = hosts["c1"]
    with asking(client, "udp", hosts["w3"].ip, 53, patience=0.3) as loop:
        loop.wait_for_more(10)
        for number in (0, 3):
            ring.cable(number, "down")
            ring.wait_for_cables(*({0, 1, 2, 3} - {number}))
            loop.wait_for_more(10)
            ring.cable(number, "up")
            ring.wait_for_cables(0, 1, 2, 3)
            loop.wait_for_more(10)
    assert len(loop.failures) <= 4, loop.failures


def test_a_part_that_is_cut_off_has_no_providers(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: connections are sent to providers that no link leads to."""
    ring.cable(1, "down")
    ring.cable(2, "down")
    ring.wait_for_cables(0, 3)
    wait_for(lambda: hosts["c1"].answered_by({"w2"}, VIP, 8080, 10), "w3 to be passed over")
    outcome = ring.control.client.trace({"from": "c1", "to": hosts["w3"].ip, "proto": "tcp", "port": "22"})["outcome"]
    assert f"no way to switch {ring.dpids['s3']}" in outcome
    ring.cable(1, "up")
    ring.cable(2, "up")
    ring.wait_for_cables(0, 1, 2, 3)
    wait_for(lambda: hosts["c1"].answered_by({"w2", "w3"}, VIP, 8080, 20), "w3 to be back")


def test_a_restarted_controller_loses_and_changes_nothing(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: with the controller, each restart takes down what reaches over links, until they are found again."""
    before = ring.contents()
    with asking(hosts["c1"], "tcp", VIP, 8080) as loop:
        loop.wait_for_more()
        ring.control.stop()
        loop.wait_for_more()
        ring.control.start()
        ring.wait_for_cables(0, 1, 2, 3)
        loop.wait_for_more()
    assert loop.failures == []
    for dpid in ring.dpids.values():
        document = ring.control.switch(dpid)
        assert (document["flowMods"], document["groupMods"]) == (0, 0)
    assert ring.contents() == before


def test_a_link_that_went_with_the_controller(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: a link that went while the controller was away is used until somebody notices."""
    ring.control.stop()
    ring.cable(0, "down")
    ring.control.start()
    ring.wait_for_cables(1, 2, 3)
    assert hosts["c1"].pings(hosts["w2"].ip)
    ring.cable(0, "up")
    ring.wait_for_cables(0, 1, 2, 3)


def test_a_bare_host_is_found_and_followed(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: a host that nobody registers is not found from other switches, or cut off when it moves to one."""
    bare = ring.host("u1", "s3", "web", "10.1.1.9", register=False)
    # it has not said anything: looked for at the edges of all switches
    assert hosts["o4"].pings(bare.ip)
    found = [e for e in ring.control.client.endpoints() if e["ipAddress"] == [bare.ip]]
    assert [e["switch"] for e in found] == [ring.dpids["s3"]]

    bare.unplug()
    bare.bridge = ring.bridges["s1"]
    bare.plug()
    with bare.open("raw") as wire:
        wire.send(arp_request(bare.mac, bare.ip, "10.1.1.254"))
    wait_for(lambda: hosts["o4"].pings(bare.ip), "it to be reached where it is now")
    assert hosts["c1"].pings(bare.ip)
    (found,) = [e for e in ring.control.client.endpoints() if e["ipAddress"] == [bare.ip]]
    assert found["switch"] == ring.dpids["s1"]
    ring.control.client.delete_endpoint(found["endpointID"])


def test_a_host_makes_no_link(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: a host that sends what it has heard makes a link, and gets other hosts' packets."""
    one, other = hosts["c1"], hosts["o4"]
    with one.open("raw") as ears, other.open("raw") as wire:
        while True:
            assert select.select([ears], [], [], 5)[0], "a frame a second comes to each port"
            frame, address = ears.recvfrom(2048)
            if frame[12:14] == b"\x88\xcc" and address[2] != socket.PACKET_OUTGOING:
                break
        wire.send(frame[:25] + b"\x77" + frame[26:])  # as if from another port
        wire.send(frame)
    assert hosts["w2"].pings(one.ip)
    ring.wait_for_cables(0, 1, 2, 3)


def test_links_carry_no_arp(ring: Weave, hosts: dict[str, Host]) -> None:
    """If it fails: each question for a neighbour goes to all switches."""
    asker, other = hosts["w2"], hosts["w3"]
    run("ip", "-n", asker.netns, "neighbour", "flush", "dev", "eth0")
    with inside(ring.instance.netns):
        ears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        ears.bind((ring.end(1), 0))
    with ears:
        with asker.open("raw") as wire:
            for target in (asker.ip, "10.1.1.254", other.ip):
                wire.send(arp_request(asker.mac, asker.ip, target))
        assert asker.pings(other.ip)
        heard = set()
        own = bytes.fromhex(other.mac.replace(":", ""))
        while own not in heard:
            assert select.select([ears], [], [], 5)[0], "an echo request"
            frame = ears.recv(2048)
            assert ARP not in (frame[12:14], frame[16:18])
            heard.add(frame[:6])
