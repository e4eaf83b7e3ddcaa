"""Peers on the OpenFlow port that send wrong bytes, too many, or none: each loses its own connection, nobody else."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from ryu_apps.openflow.connection import PACKETS, PACKETS_PER_SECOND
from tests.fuzz import openflow as fuzz
from tests.kit.controller import Controller, controller, free_port
from tests.kit.lab import Lab
from tests.kit.ovs import wait_for
from tests.kit.rawswitch import (
    DESC,
    ECHO_REPLY,
    ECHO_REQUEST,
    ERROR,
    EXPERIMENTER,
    FEATURES_REPLY,
    FLOW,
    GROUP_DESC,
    HELLO,
    METER_CONFIG,
    MULTIPART_REPLY,
    PACKET_IN,
    PORT_DESC,
    PORT_STATUS,
    RawSwitch,
    address,
    flow_stat,
    message,
    multipart,
    packet_in,
    port,
    port_status,
    ports_reply,
    raw_switch,
)

IN_PORT = bytes.fromhex("80000004") + (1).to_bytes(4, "big")
FRAME = bytes(60)
MEGABYTE = 1 << 20

BROKEN = {
    "packet-in without in_port": packet_in(b"", FRAME),
    "packet-in with half an in_port": packet_in(bytes.fromhex("800000020001"), FRAME),
    "packet-in with in_port twice": packet_in(IN_PORT * 2, FRAME),
    "packet-in with a field beyond its match": packet_in(IN_PORT + bytes.fromhex("800009ff"), FRAME),
    "packet-in that is cut short": message(PACKET_IN, 0, bytes(20)),
    "packet-in whose match is longer than it": message(PACKET_IN, 0, bytes(16) + bytes.fromhex("0001ffff") + bytes(8)),
    "packet-in with a match of OpenFlow 1.0": message(PACKET_IN, 0, bytes(16) + bytes.fromhex("00000008") + bytes(10)),
    "a multipart entry of length 0": multipart(FLOW, bytes(64)),
    "a multipart entry longer than its message": multipart(GROUP_DESC, b"\xff\xff" + bytes(62)),
    "a meter that is cut short": multipart(METER_CONFIG, b"\0\x50" + bytes(30)),
    "a flow whose match is longer than it": multipart(FLOW, b"\0\x38" + bytes(46) + b"\0\1\xff\xff" + bytes(4)),
    "a bucket of length 0": multipart(GROUP_DESC, b"\0\x18" + bytes(22)),
    "half a port": multipart(PORT_DESC, port(1)[:40]),
    "half a description": multipart(DESC, bytes(100)),
    "a multipart reply of an unknown type": multipart(4711, b""),
    "a multipart reply without its head": message(MULTIPART_REPLY, 0, bytes(4)),
    "port status that is cut short": port_status(1)[:2] + b"\0\x10" + port_status(1)[4:16],
    "port status with an unknown reason": port_status(1, 99),
    "port status that is too long": message(PORT_STATUS, 0, bytes(200)),
    "an error without a code": message(ERROR, 0, b"\0\1"),
    "an experimenter's error without its name": message(ERROR, 0, b"\xff\xff\0\1"),
    "an experimenter's message without its name": message(EXPERIMENTER, 0, bytes(4)),
    "a bundle's reply that is cut short": message(EXPERIMENTER, 0, bytes.fromhex("4f4e4600000008fc0000")),
    "features that are cut short": message(FEATURES_REPLY, 0, bytes(8)),
    "a length of less than a header": struct.pack("!BBHI", 4, 2, 7, 0),
    "a length of 0": bytes.fromhex("0402000000000000"),
    "another version": struct.pack("!BBHI", 1, 2, 8, 0),
    "a request that only a controller makes": message(14, 0, bytes(48)),
    "a type that does not exist": message(77, 0),
    "a second hello": message(HELLO, 0),
    "a barrier's reply with a body": message(21, 0, bytes(8)),
    "a role's reply without a role": message(25, 0),
}


def memory(ctl: Controller) -> int:
    """Bytes that the controller has in memory."""
    (line,) = [text for text in Path(f"/proc/{ctl.pid}/status").read_text().splitlines() if text.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def unharmed(lab: Lab, more: int = 64 * MEGABYTE) -> Iterator[Callable[[], str]]:
    """The controller stays the same process, takes no more memory than that, and goes on serving the lab's switch.

    Gives what the controller has said in the block.
    """
    ctl = lab.controller
    lab.settled()
    pid, before, flow_mods = ctl.pid, memory(ctl), lab.settled()["flowMods"]
    said = ctl.log()

    def new() -> str:
        return ctl.log()[len(said) :]

    peak = [before]
    yield new
    peak.append(memory(ctl))
    wait_for(lambda: ctl.switch(lab.dpid).get("settled"), "the other switch to be served")
    assert ctl.pid == pid
    assert Path(f"/proc/{pid}").exists()
    lab.network("probe", "10.250.0.0/24", "10.250.0.254")
    lab.rest.delete_network("default:probe")
    wait_for(lambda: lab.settled()["flowMods"] > flow_mods, "the other switch to be written to")
    assert max(peak) - before < more
    assert "Traceback" not in new()
    assert f"switch {lab.dpid} disconnected" not in new()


@contextlib.contextmanager
def served(ctl: Controller, dpid: int = 0x5EED) -> Iterator[RawSwitch]:
    """A switch of ours that the controller has taken in."""
    with raw_switch(ctl, dpid) as switch:
        switch.run_until(lambda: ctl.switch(switch.dpid).get("settled"))
        yield switch


@pytest.mark.parametrize("what", BROKEN)
def test_wrong_bytes_end_their_own_connection(bare: Lab, what: str) -> None:
    """One broken switch would end the controller, or keep it busy for ever, and all other switches would suffer."""
    with unharmed(bare) as said, served(bare.controller) as switch:
        switch.send(BROKEN[what])
        switch.run_until(lambda: switch.closed)
        lines = [line for line in said().splitlines() if "ERROR" in line or "WARNING" in line]
        assert len(lines) == 1, said()
        assert switch.source in lines[0]


@pytest.mark.parametrize(
    "what", ["packet-in without in_port", "a multipart entry of length 0", "features that are cut short"]
)
def test_wrong_bytes_before_it_has_said_who_it_is(bare: Lab, what: str) -> None:
    """Whoever reaches the port, without being a switch at all, would end the controller."""
    for greeting in (b"", message(HELLO, 1)):
        with unharmed(bare), stranger(bare.controller) as peer:
            peer.sendall(greeting + BROKEN[what])
            assert drained(peer), "the connection is ended"


def stranger(ctl: Controller) -> socket.socket:
    """A connection that has said nothing yet."""
    return socket.create_connection((ctl.host, ctl.ofp_port), 20, (address(), 0))


def drained(peer: socket.socket) -> bool:
    """Read to the end of the connection; whether it came to an end in time."""
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def trickle(peer: socket.socket) -> None:
    """One byte more of a message that is never finished."""
    with contextlib.suppress(OSError):
        peer.send(b"\4")


def test_who_never_says_which_switch_it_is(bare: Lab) -> None:
    """Whoever connects and waits would take a place, and a descriptor, for ever."""
    hello = message(HELLO, 1)
    features_begun = message(FEATURES_REPLY, 1, bytes(24))[:20]
    greetings = [b"", b"\4", hello, hello + features_begun, hello + message(ECHO_REQUEST, 7)]
    with unharmed(bare) as said, contextlib.ExitStack() as all_of_them:
        peers = [all_of_them.enter_context(stranger(bare.controller)) for _ in greetings]
        for peer, greeting in zip(peers, greetings, strict=True):
            peer.sendall(greeting)
        slow = all_of_them.enter_context(stranger(bare.controller))
        ended = ended_within(25, [*peers, slow], lambda: trickle(slow))
        assert all(ended)
        assert said().count("has not said which switch it is within 10 s") == len(peers) + 1


def test_a_message_that_is_never_finished(bare: Lab) -> None:
    """A switch that is let in could hold as many half messages as it has connections, for ever."""
    with unharmed(bare) as said, served(bare.controller) as switch:
        switch.send(message(PORT_STATUS, 0, bytes(72))[:8])
        began, sent = time.monotonic(), 0
        while not switch.closed:
            assert time.monotonic() < began + 25, "it is not ended"
            if time.monotonic() > began + sent:  # a byte a second: 72 would be the whole message
                switch.send(b"\0")
                sent += 1
            switch.run_once()
        assert "has begun a message, and not finished it within 10 s" in said()


@pytest.mark.parametrize("size", [0, 60_000])
def test_answers_without_an_end(bare: Lab, size: int) -> None:
    """One broken switch would take all of the machine's memory."""
    entries = {FLOW: flow_stat(), GROUP_DESC: bytes.fromhex("0008010000000100")}
    with unharmed(bare, 400 * MEGABYTE) as said, contextlib.ExitStack() as stack:

        def go_on(part: int, switch: RawSwitch) -> None:
            body = entries[part] * (size // len(entries[part]))

            def endless(xid: int) -> Iterator[bytes]:
                while not switch.closed:
                    yield multipart(part, body, xid, more=True)

            switch.answers[part] = endless
            switch.run_until(lambda: switch.closed, 60)

        switches = {part: stack.enter_context(raw_switch(bare.controller, 0x5EED + part)) for part in entries}
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(go_on, switches, switches.values())) == [None, None]
        assert said().count("has no end") + said().count("did not answer a dump in time") == 2


def test_who_does_not_read(bare: Lab) -> None:
    """What it is sent would pile up in the controller, and what others are sent would wait for it."""
    with unharmed(bare, 80 * MEGABYTE) as said, served(bare.controller) as switch:
        asked, sent = message(ECHO_REQUEST, 1, bytes(60_000)), 0
        until = time.monotonic() + 60
        while not switch.closed and sent < 1000 * MEGABYTE:
            assert time.monotonic() < until
            switch.send(asked)
            sent += len(asked)
        assert switch.closed
        assert "it does not read" in said()


def test_a_flood_of_what_nobody_asked_for(bare: Lab) -> None:
    """Packets, ports and errors that a broken switch makes up would take memory, or fill the log."""
    ports = [port_status(n) for n in range(1, 3000)]
    kinds = [message(ERROR, n, bytes(4)) for n in range(2000)]
    kinds += [packet_in(bytes.fromhex("80000004") + struct.pack("!I", n), bytes(1400)) for n in range(1, 2000)]
    kinds += [multipart(FLOW, flow_stat() * 500, n) for n in range(1, 500)]
    with unharmed(bare, 100 * MEGABYTE) as said, served(bare.controller) as switch:
        for one in [*ports, *kinds]:
            switch.send(one)
        switch.send(message(ECHO_REQUEST, 99))
        switch.run_until(lambda: (ECHO_REPLY, 0) in switch.requests or switch.closed, 60)
        assert len(said().splitlines()) < 40
    wait_for(lambda: not bare.controller.switch(f"{0x5EED:016x}"), "it to be gone")


def test_a_flood_of_packets(bare: Lab) -> None:
    """A switch that does not carry out its meters would keep the controller busy, and all other switches waiting."""
    one = packet_in(IN_PORT, bytes(60))
    with unharmed(bare) as said, served(bare.controller) as switch:
        for _ in range(30):
            switch.send(one * 1000)
        switch.send(message(ECHO_REQUEST, 99))
        switch.run_until(lambda: (ECHO_REPLY, 0) in switch.requests or switch.closed, 60)
        assert not switch.closed, "it says nothing that is wrong"
        taken = bare.controller.switch(switch.dpid)["brokenPackets"]
        assert PACKETS <= taken < 25_000
        assert f"sends more than {PACKETS_PER_SECOND} packets a second" in said()


def test_a_frame_too_large_to_be_passed_on(bare: Lab) -> None:
    """A packet-in may hold what no packet-out can: the controller would end while it passes it on."""
    bare.network("asked", "10.77.1.0/24", "10.77.1.254")
    head = bytes.fromhex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001")
    arp = head + bytes((10, 77, 1, 5)) + bytes(6) + bytes((10, 77, 1, 9))
    with unharmed(bare) as said, raw_switch(bare.controller) as switch:
        switch.answer_ports = lambda xid: [ports_reply(xid, range(1, 900))]
        switch.run_until(lambda: bare.controller.switch(switch.dpid).get("settled"))
        for frame in (arp, arp + bytes(65_400 - len(arp)), arp):
            switch.send(packet_in(IN_PORT, frame))
        switch.send(message(ECHO_REQUEST, 99))
        switch.run_until(lambda: (ECHO_REPLY, 0) in switch.requests)
        assert not switch.closed, said()
    bare.rest.delete_network("default:asked")


def test_an_error_about_a_barrier(bare: Lab) -> None:
    """A refusal that is about no change of ours would end the controller."""
    with unharmed(bare) as said, raw_switch(bare.controller) as switch:
        switch.refuses.add(20)  # the barrier's request, which follows a meter
        switch.run_until(lambda: switch.closed)
        assert "the switch refused a barrier" in said()


def test_an_answer_of_another_kind_than_was_asked_for(bare: Lab) -> None:
    """Bytes checked as one thing and read as another would keep the controller busy for ever."""
    with unharmed(bare) as said, raw_switch(bare.controller) as switch:
        switch.answers[FLOW] = lambda xid: [multipart(METER_CONFIG, bytes.fromhex("0008000000000001"), xid)]
        switch.run_until(lambda: switch.closed)
        assert "a multipart reply of type 10" in said()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Controller]:
    """A controller of its own, with few descriptors."""
    with controller(tmp_path, "127.0.0.1") as made:
        yield made


def test_more_connections_than_descriptors(small: Controller) -> None:
    """The listener would end, and no switch could connect until somebody restarts the controller."""
    open_now = len(list(Path(f"/proc/{small.pid}/fd").iterdir()))
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (open_now + 20, open_now + 20))
    with contextlib.ExitStack() as all_of_them:
        for _ in range(100):
            all_of_them.enter_context(stranger(small))
        wait_for(lambda: "can't take a connection: Too many open files" in small.log(), "it to have no more")
        with raw_switch(small) as switch:
            switch.run_until(lambda: switch.identified or switch.closed)
            assert switch.identified, "a switch is let in beside them"
    assert small.log().count("can't take a connection") <= 12
    assert "Traceback" not in small.log()


def test_more_connections_than_there_may_be(tmp_path: Path) -> None:
    """Each costs memory and a descriptor, which REST and the store need as well."""
    with controller(tmp_path, "127.0.0.1", "--ofp-max-connections", "5") as ctl, contextlib.ExitStack() as all_of_them:
        for _ in range(4):
            all_of_them.enter_context(stranger(ctl))
        switches = [all_of_them.enter_context(raw_switch(ctl, 100 + n)) for n in range(5)]

        def go_on() -> int:
            for switch in switches:
                switch.run_once()
            return sum(switch.identified and not switch.closed for switch in switches)

        wait_for(lambda: go_on() == 5, "strangers to make room for switches")
        one_too_many = all_of_them.enter_context(raw_switch(ctl, 200))
        one_too_many.run_until(lambda: one_too_many.closed)
        assert f"5 switches are connected: {one_too_many.source} is not let in" in ctl.log()
        switches.pop().close()
        wait_for(lambda: go_on() == 4 and len(ctl.client.switches()) == 4, "a place to be free")
        late = all_of_them.enter_context(raw_switch(ctl, 201))
        late.run_until(lambda: late.identified)


def ended_within(seconds: float, peers: Sequence[socket.socket], meanwhile: Callable[[], object]) -> list[bool]:
    """Which of these connections the controller has ended, when all are or the time is over."""
    ended, until = [False] * len(peers), time.monotonic() + seconds
    for peer in peers:
        peer.settimeout(0.05)
    while not all(ended) and time.monotonic() < until:
        meanwhile()
        for number, peer in enumerate(peers):
            with contextlib.suppress(TimeoutError):
                try:
                    ended[number] = ended[number] or not peer.recv(65536)
                except ConnectionError:
                    ended[number] = True
    return ended


def test_many_switches_that_are_nearly_right(bare: Lab) -> None:
    """Some combination that nobody has thought of would end the controller, or take its memory."""
    host, number = bare.controller.host, bare.controller.ofp_port
    ended, seeds, until = Counter[str](), count(2611), time.monotonic() + 120
    with unharmed(bare, 150 * MEGABYTE):
        while ended["closed by the controller"] <= 20:  # some take the 10 s that a message may take
            assert time.monotonic() < until, ended
            ended += fuzz.connect(host, number, 5, next(seeds))
    wait_for(lambda: len(bare.controller.client.switches()) == 1, "all of them to be gone")


def stubborn(switch: RawSwitch) -> Callable[[], bool]:
    """Let a switch live on in a step, and say whether it still has its connection."""

    def step() -> bool:
        switch.run_once()
        return not switch.closed

    return step


def test_a_second_switch_is_not_let_in_while_the_first_answers(bare: Lab) -> None:
    """A copied bridge, or anybody who knows the number, would throw a switch out that works."""
    with unharmed(bare), served(bare.controller) as first, raw_switch(bare.controller) as second:
        alive = stubborn(first)
        began = time.monotonic()
        while not second.closed:
            assert alive()
            assert time.monotonic() - began < 5
            second.run_once()
        assert not second.identified
        assert alive()
        first.run_until(lambda: "datapath id" in bare.controller.switch(first.dpid).get("errors", {}))


def test_a_second_connection_is_let_in_when_the_first_is_silent(bare: Lab) -> None:
    """A switch whose wire was cut could not come back before its old connection has timed out."""
    with unharmed(bare), served(bare.controller), raw_switch(bare.controller) as second:
        began = time.monotonic()
        second.run_until(lambda: second.identified)
        assert time.monotonic() - began < 6
        second.run_until(lambda: bare.controller.switch(second.dpid).get("settled"))


def test_a_second_connection_is_let_in_at_once_when_the_first_was_closed(bare: Lab) -> None:
    """A switch that restarts would wait for nothing."""
    with unharmed(bare), served(bare.controller) as first:
        for _ in range(10):
            first.close()
            began = time.monotonic()
            with raw_switch(bare.controller) as second:
                second.run_until(lambda: second.identified)
                assert time.monotonic() - began < 1.5, "not after the first has been asked in vain, which takes 2 s"


def test_one_that_is_frozen_while_a_bundle_is_under_way(bare: Lab) -> None:
    """The second would be let in as the first is busy, not gone: an echo is answered before a bundle is."""
    with unharmed(bare), raw_switch(bare.controller) as first:
        first.answers[FLOW] = lambda _: []  # it answers echo requests, and this never
        first.run_until(lambda: (18, FLOW) in first.requests)
        with raw_switch(bare.controller) as second:
            began = time.monotonic()
            while not second.closed:
                first.run_once()
                second.run_once()
                assert time.monotonic() - began < 5
            assert not first.closed


def test_over_tls(tmp_path: Path) -> None:
    """A peer that begins no handshake would take a place for ever; a switch with TLS could not connect."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=controller"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    port_number = free_port()
    options = ("--ctl-privkey", str(key), "--ctl-cert", str(certificate), "--ofp-ssl-listen-port", str(port_number))
    context = ssl.create_default_context(cafile=str(certificate))
    with controller(tmp_path, "127.0.0.1", *options) as ctl, contextlib.ExitStack() as all_of_them:
        silent, garbage, mute, good = [
            all_of_them.enter_context(socket.create_connection(("127.0.0.1", port_number), 20, (address(), 0)))
            for _ in range(4)
        ]
        garbage.sendall(b"GET / HTTP/1.0\r\n\r\n")
        mute = all_of_them.enter_context(context.wrap_socket(mute, server_hostname="controller"))
        with context.wrap_socket(good, server_hostname="controller") as switch:
            switch.sendall(message(HELLO, 1) + fuzz.VALID["features"])
            said = b""
            while said.count(bytes((4, 18))) < 2:
                said += switch.recv(1000)
            assert said.startswith(message(HELLO, 1))
            assert all(ended_within(20, [silent, garbage, mute], lambda: None))
        ctl.stop()  # not ended by any of them
        assert "Traceback" not in ctl.log()
